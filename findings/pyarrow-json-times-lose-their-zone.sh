#!/usr/bin/env bash
# Versions: pyarrow 26.0.1, duckdb 2.0.1; Python 3.11
# Expected: text such as 2024-01-02 stays text in JSON; if a time ending in Z is recognised, the zone is kept.
# Seen: a column of such text becomes timestamp[s] at midnight, SKU or not. A time with Z becomes a timestamp without
#   zone, the same as one without Z. DuckDB makes a date of the first and keeps UTC for the second.
# Why it matters: compared with local times the result is off by hours, and an article number like 2024-01-02 is no
#   text any more. Give ParseOptions an explicit_schema.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pyarrow==26.0.1 duckdb==2.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import duckdb, pyarrow.json

with open("p.jsonl", "w") as file:
    file.write('{"sku":"2024-01-02","zoned":"2024-01-02T03:04:05Z","plain":"2024-01-02T03:04:05"}\n')
arrow = {field.name: str(field.type) for field in pyarrow.json.read_json("p.jsonl").schema}
duck = dict(row[:2] for row in duckdb.sql("DESCRIBE FROM read_json('p.jsonl')").fetchall())
print("pyarrow:", arrow)
print("DuckDB: ", duck)
sys.exit(not (arrow == dict.fromkeys(("sku", "zoned", "plain"), "timestamp[s]")
              and duck == {"sku": "DATE", "zoned": "TIMESTAMP WITH TIME ZONE", "plain": "TIMESTAMP"}))
PYTHON
