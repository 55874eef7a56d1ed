#!/usr/bin/env bash
# Proves: the verifier in Python and the one in the binary agree on a good journal, on a receipt, and on every broken copy.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${CHANCERY_BINARY:-target/debug/chancery}
python=${PYTHON:-python3}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
TMPDIR=$home "$binary" quickstart </dev/null >"$home/told" 2>&1 || { cat "$home/told"; exit 1; }
root=$(echo "$home"/chancery-quickstart-*)
key=$("$binary" verify "$root/state" | sed -n 's/^pinned key: //p')
agree() { # what, wanted, path, further arguments
    local what=$1 wanted=$2 path=$3; shift 3
    local ours=0 theirs=0
    "$binary" verify "$path" "$@" >"$home/ours" 2>&1 || ours=$?
    "$python" scripts/verify_journal.py "$path" "$@" >"$home/theirs" 2>&1 || theirs=$?
    if [ "$ours" != "$wanted" ] || [ "$theirs" != "$wanted" ]; then
        echo "DISAGREE on $what: wanted $wanted, binary $ours, python $theirs"; cat "$home/ours" "$home/theirs"; exit 1
    fi
}
agree "the good state root" 0 "$root/state"
agree "the receipt" 0 "$root/receipt.json" --key "$key"
agree "the receipt without a key" 3 "$root/receipt.json"
sed 's/quickstart/kuickstart/; s/allow/alloy/' "$root/receipt.json" > "$home/forged.json"
agree "a forged receipt" 1 "$home/forged.json" --key "$key"
segment=journal/00000000000000000000.jsonl
size=$(stat -c %s "$root/state/$segment")
broken=0
for at in $(seq 3 $((size / 40)) $((size - 1))) $((size - 1)); do
    rm -rf "$home/copy"; mkdir -p "$home/copy"
    cp -r "$root/state/journal" "$root/state/state-root.json" "$home/copy/"
    "$python" - "$home/copy/$segment" "$at" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); byte = f.read(1)[0]
    f.seek(int(sys.argv[2])); f.write(bytes([byte ^ 1]))
PY
    ours=0; theirs=0
    "$binary" verify "$home/copy" >/dev/null 2>&1 || ours=$?
    "$python" scripts/verify_journal.py "$home/copy" >/dev/null 2>&1 || theirs=$?
    # Behind the newest seal the two may name it invalid or undecided; neither may call it valid.
    if [ "$ours" = 0 ] || [ "$theirs" = 0 ]; then echo "MISSED: byte $at, binary $ours, python $theirs"; exit 1; fi
    broken=$((broken + 1))
done
echo "proved: both verifiers accept the good journal and its receipt, and refuse $broken changed bytes and a forged receipt"
