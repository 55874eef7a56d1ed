#!/usr/bin/env bash
# Proves: quickstart tells the whole story from nothing, leaves a state root that verifies, and writes nowhere else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(readlink -f "${CHANCERY_BIN:-$here/../../target/debug/chancery}")
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
mkdir "$home/tmp" "$home/home" "$home/elsewhere"
fail() { echo "FAILED quickstart: $1"; cat "$home/told" 2>/dev/null; exit 1; }
scrubbed() { env -i PATH=/usr/bin:/bin HOME="$home/home" TMPDIR="$home/tmp" "$@"; }

cd "$home/elsewhere"
began=$(date +%s)
scrubbed timeout 60 "$binary" quickstart </dev/null >"$home/told" 2>&1 || fail "it ends with $?"
took=$(($(date +%s) - began))
for word in approved receipt verified copy; do
    grep -qi "$word" "$home/told" || fail "it does not say '$word'"
done
state=$(echo "$home"/tmp/chancery-quickstart-*/state)
[ -d "$state" ] || fail "there is not exactly one folder below TMPDIR"
scrubbed "$binary" verify "$state" >"$home/judged" || fail "its state root does not verify: $(cat "$home/judged")"
[ -z "$(find "$home/home" "$home/elsewhere" -mindepth 1)" ] || fail "it wrote outside its folder"
if find "$state" -type f -perm /077 | grep -q .; then fail "others may read its state root"; fi
if [ -e "$state/daemon.json" ]; then fail "a daemon.json is left behind"; fi
for place in /proc/[0-9]*; do
    if [[ "$(readlink "$place/exe" 2>/dev/null)" == "$binary" ]] && grep -qF "$state" "$place/cmdline" 2>/dev/null; then
        fail "process ${place#/proc/} is left behind"
    fi
done

# Control: a root with one changed byte must not verify.
cp -r "$state" "$home/changed"
sed -i '0,/"title":"quickstart"/s//"title":"quickstarT"/' "$home/changed/journal/00000000000000000000.jsonl"
cmp -s "$home/changed/journal/00000000000000000000.jsonl" "$state/journal/00000000000000000000.jsonl" && fail "the control changed nothing"
code=0; scrubbed "$binary" verify "$home/changed" >"$home/judged" || code=$?
[ "$code" = 1 ] || fail "a changed byte gives $code"
echo "  control: one changed byte: noticed ($(head -1 "$home/judged" | cut -c1-120))"
echo "  proved: quickstart exits 0 after $took s with a scrubbed environment, its state root verifies, nothing else is written or left running"
