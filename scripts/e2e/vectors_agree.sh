#!/usr/bin/env bash
# Proves: the verifier in Python says of every vector under state-schema/vectors what its expected.json says, as tests/schema.rs
# proves of the binary; every sample line fits its schema; and a sample with a changed field does not.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" - <<'PY'
import glob, json, os, shutil, subprocess, sys, tempfile
sys.path.insert(0, "scripts")
import verify_journal as theirs

wrong, seen = [], 0
key = open("state-schema/vectors/verifier.key").read().strip()

def judged(what, wanted, *arguments):
    global seen
    ran = subprocess.run([sys.executable, "scripts/verify_journal.py", *arguments], capture_output=True, text=True)
    seen += 1
    if ran.returncode != wanted:
        wrong.append(f"{what}: wanted {wanted}, got {ran.returncode}: {ran.stdout.strip()}{ran.stderr.strip()[-200:]}")

for folder in sorted(glob.glob("state-schema/vectors/journal/*")):
    expected = json.load(open(f"{folder}/expected.json"))
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree("state-schema/vectors/journal/good/files", home, dirs_exist_ok=True)
        for path in expected.get("absent", []):
            os.remove(f"{home}/{path}")
        if os.path.isdir(f"{folder}/files"):
            shutil.copytree(f"{folder}/files", home, dirs_exist_ok=True)
        if fill := expected.get("fill"):
            path = f"{home}/{fill['file']}"
            text = open(path, encoding="utf-8").read().replace(fill["marker"], fill["byte"] * fill["count"])
            open(path, "w", encoding="utf-8").write(text)
        judged(folder, expected["exit"], home)
for folder in sorted(glob.glob("state-schema/vectors/receipts/*")):
    judged(folder, json.load(open(f"{folder}/expected.json"))["exit"], f"{folder}/receipt.json", "--key", key)
# Samples of records; those of other files are the binary's own.
samples = sorted(glob.glob("state-schema/samples/*.v[0-9]*.json"))
for path in samples:
    record = json.load(open(path, encoding="utf-8"))
    theirs.check_schema(record)
    try:
        theirs.check_schema({**record, "data": {**record["data"], "mood": 1}})
        wrong.append(f"{path}: an unknown field was taken")
    except theirs.Invalid:
        pass
if wrong or seen < 60 or len(samples) < 40:
    print("\n".join(wrong) or f"only {seen} vectors and {len(samples)} samples were found")
    sys.exit(1)
print(f"proved: {seen} vectors are judged as expected, and {len(samples)} samples fit their schemas")
PY
