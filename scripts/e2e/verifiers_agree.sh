#!/usr/bin/env bash
# Proves: the verifier in Python and the one in the binary agree on a good journal, on one that is being written, on a
# receipt, and on every broken copy. Control: a verifier that calls everything valid is noticed.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${CHANCERY_BINARY:-target/debug/chancery}
python=${PYTHON:-python3}
home=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$home"' EXIT
TMPDIR=$home "$binary" quickstart </dev/null >"$home/told" 2>&1 || { cat "$home/told"; exit 1; }
root=$(echo "$home"/chancery-quickstart-*)
key=$("$binary" verify "$root/state" | sed -n 's/^pinned key: //p')
second="$python scripts/verify_journal.py"
codes() { # path, further arguments: sets `ours` and `theirs`
    ours=0; theirs=0
    "$binary" verify "$@" >"$home/ours" 2>&1 || ours=$?
    $second "$@" >"$home/theirs" 2>&1 || theirs=$?
}
agree() { # what, wanted, path, further arguments
    local what=$1 wanted=$2; shift 2
    codes "$@"
    if [ "$ours" != "$wanted" ] || [ "$theirs" != "$wanted" ]; then
        echo "DISAGREE on $what: wanted $wanted, binary $ours, python $theirs"; cat "$home/ours" "$home/theirs"; return 1
    fi
}
agree "the good state root" 0 "$root/state"
agree "the receipt" 0 "$root/receipt.json" --key "$key"
agree "the receipt without a key" 3 "$root/receipt.json"
sed 's/quickstart/kuickstart/; s/allow/alloy/' "$root/receipt.json" > "$home/forged.json"
agree "a forged receipt" 1 "$home/forged.json" --key "$key"

changed() { # a byte of the segment: a copy of the journal in which it is another
    rm -rf "$home/copy"; mkdir -p "$home/copy"
    cp -r "$root/state/journal" "$root/state/state-root.json" "$home/copy/"
    "$python" - "$home/copy/journal/00000000000000000000.jsonl" "$1" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); byte = f.read(1)[0]
    f.seek(int(sys.argv[2])); f.write(bytes([byte ^ 1]))
PY
}
size=$(stat -c %s "$root/state/journal/00000000000000000000.jsonl")
broken=0
for at in $(seq 3 $((size / 40)) $((size - 1))) $((size - 1)); do
    changed "$at"
    codes "$home/copy"
    if [ "$ours" = 0 ] || [ "$theirs" != "$ours" ]; then
        echo "DISAGREE on byte $at: binary $ours, python $theirs"; cat "$home/ours" "$home/theirs"; exit 1
    fi
    broken=$((broken + 1))
done
# What stands where a plain file belongs is not followed and not waited for.
for what in link pipe; do
    changed 3
    rm "$home/copy/journal/acked"
    if [ $what = link ]; then ln -s "$root/state/journal/acked" "$home/copy/journal/acked"; else mkfifo "$home/copy/journal/acked"; fi
    agree "acked as a $what" 3 "$home/copy"
done

"$binary" serve --state-root "$root/state" --workspace-root "$root/work" --bind "unix:$home/socket" >"$home/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do [ -S "$home/socket" ] && break; sleep 0.1; done
token=$(cat "$root/state/tokens/admin.token")
(for _ in $(seq 400); do
    curl -s -o "$home/answer" --unix-socket "$home/socket" -X POST -H "Authorization: Bearer $token" \
        -H 'Content-Type: application/json' -d '{}' http://localhost/v1/sessions || break
done) &
load=$!
before=$("$binary" verify "$root/state" | sed -n 's/^valid: \([0-9]*\) lines.*/\1/p')
for round in 1 2 3 4 5; do agree "a journal that is being written, round $round" 0 "$root/state"; done
after=$("$binary" verify "$root/state" | sed -n 's/^valid: \([0-9]*\) lines.*/\1/p')
wait $load
[ "$after" -gt "$before" ] || { echo "nothing was written meanwhile: $before, $after lines"; exit 1; }
kill "$daemon"; wait "$daemon" || true; daemon=
agree "the same journal afterwards" 0 "$root/state"

# Control: a second verifier that looks at nothing.
changed 3; second=true
if agree "a changed byte" 1 "$home/copy" >/dev/null; then echo "control failed: a verifier that looks at nothing went unnoticed"; exit 1; fi
echo "control: a verifier that calls everything valid is noticed"
echo "proved: both verifiers accept the good journal, the same while it is written, and its receipt, and say the same of" \
    "$broken changed bytes and a forged receipt"
