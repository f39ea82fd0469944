#!/usr/bin/env bash
# Versions: duckdb 2.0.1; Python 3.11
# Expected: a file of JSON objects has one column for each key; an object inside is a STRUCT with a field for each
#   key.
# Seen: once the rows have few keys in common, the object becomes a MAP with one type for all values (here VARCHAR;
#   JSON where they differ); when that holds for the whole record, the file has a single column called json. Another
#   sample of the same data is a STRUCT.
# Why it matters: custom attributes differ from product to product. A query such as attributes.color works on one
#   export and fails on the next. Say map_inference_threshold=-1, or name the columns.

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

def write(name, records):
    with open(name, "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)

few = [{"attributes": {f"size_{i}": "x", f"color_{i}": "y"}} for i in range(3)]
many = [{"attributes": {f"a{i}_{j}": "x" for j in range(5)}} for i in range(60)]
flat = [row["attributes"] for row in many]
write("few.jsonl", few), write("many.jsonl", many), write("flat.jsonl", flat)
describe = lambda name, more="": [row[:2] for row in duckdb.sql(f"DESCRIBE FROM read_json('{name}'{more})").fetchall()]
small, wide, whole = map(describe, ("few.jsonl", "many.jsonl", "flat.jsonl"))
off = describe("many.jsonl", ", map_inference_threshold=-1")
print("3 products: ", small[0][1][:60], "…")
print("60 products:", wide)
print("records of attributes alone:", whole)
print("with map_inference_threshold=-1:", off[0][1][:40], "…")
sys.exit(not (small[0][1].startswith("STRUCT") and wide == [("attributes", "MAP(VARCHAR, VARCHAR)")]
              and whole == [("json", "MAP(VARCHAR, VARCHAR)")] and off[0][1].startswith("STRUCT")))
PYTHON
