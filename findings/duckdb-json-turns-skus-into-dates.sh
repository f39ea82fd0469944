#!/usr/bin/env bash
# Versions: duckdb 2.0.1; Python 3.11
# Expected: a value in quotes in a JSON lines file is text, and stays text.
# Seen: read_json guesses from strings too. SKUs 1-2-3 and 4-5-6 become the dates 2001-02-03 and 2004-05-06, 10:30
#   becomes a time, a UUID in capitals comes back in small letters. Another set of SKUs of the same shop stays text,
#   so the type changes from file to file.
# Why it matters: a SKU read this way joins with nothing, and what was written cannot be had back. Name the columns
#   and their types: read_json(…, columns={sku: 'VARCHAR', …}).

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import json, sys
import duckdb

def read(*skus):
    with open("p.jsonl", "w") as file:
        file.writelines(json.dumps({"sku": sku}) + "\n" for sku in skus)
    return duckdb.sql("SELECT sku::VARCHAR, typeof(sku) FROM read_json('p.jsonl')").fetchall()

dates, times, ids, mixed = read("1-2-3", "4-5-6"), read("10:30"), read("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"), read("1-2-3", "A-7")
for rows in (dates, times, ids, mixed):
    print(rows)
sys.exit(not (
    dates == [("2001-02-03", "DATE"), ("2004-05-06", "DATE")]
    and times == [("10:30:00", "TIME")]
    and ids == [("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "UUID")]
    and mixed == [("1-2-3", "VARCHAR"), ("A-7", "VARCHAR")]
))
PYTHON
