#!/usr/bin/env bash
# Versions: polars 2.1.0, duckdb 2.0.1, pyarrow 26.0.1; Python 3.11
# Expected: a key that appears only in row 150 becomes a column with nulls above, or raises an error as a number among
#   whole numbers does.
# Seen: read_ndjson takes the columns from the first 100 rows and leaves out every later key, inside objects too.
#   DuckDB and pyarrow read it.
# Why it matters: rare attributes (a special price, a colour) appear late. Say infer_schema_length=None, or a schema.
#   The same first 100 rows also decide types, but there Polars at least stops.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import json, sys
import duckdb, polars, pyarrow.json

rows = [{"sku": f"A{i}", "more": {"size": "M"}} for i in range(150)]
rows.append({"sku": "B", "special_price": 9, "more": {"size": "L", "color": "red"}})
with open("p.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
last = polars.read_ndjson("p.jsonl").rows(named=True)[-1]
full = polars.read_ndjson("p.jsonl", infer_schema_length=None).rows(named=True)[-1]
arrow = pyarrow.json.read_json("p.jsonl").to_pylist()[-1]
duck = duckdb.sql("FROM read_json('p.jsonl')").to_arrow_table().to_pylist()[-1]
print("Polars: ", last)
print("Polars, infer_schema_length=None:", full)
print("pyarrow:", arrow)
print("DuckDB: ", duck)
sys.exit(not (last == {"sku": "B", "more": {"size": "L"}} and full == arrow == duck == rows[-1] | {"special_price": 9}))
PYTHON
