#!/usr/bin/env bash
# Versions: jq 1.13.0; Python 3.11
# Expected: jq keeps large whole numbers as they were written, or rounds them everywhere.
# Seen: from the Python package, inside a program 9007199254740993 and 9007199254740992 are different (== is false,
#   unique keeps both, tostring has all digits), but the result has …992 twice, and 10.50 as 10.5.
# Why it matters: a filter that only selects changes 64-bit ids, while tests inside the filter say all is well. Pass
#   ids through tostring.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    jq==1.13.0 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import jq

pair = "[9007199254740993,9007199254740992]"
run = lambda program, text: jq.compile(program).input_text(text).text()
seen = {program: run(program, pair) for program in (".", ".[0] == .[1]", "unique|length", "map(tostring)")}
seen["price"] = run(".", "10.50")
for program, result in seen.items():
    print(f"{program:15}", result)
sys.exit([*seen.values()] != [
    "[9007199254740992, 9007199254740992]", "false", "2", '["9007199254740993", "9007199254740992"]', "10.5",
])
PYTHON
