#!/usr/bin/env bash
# Versions: duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1; Python 3.11
# Expected: a reader which cannot hold decimal(40, 4) says so.
# Seen: DuckDB reads the column as DOUBLE and loses digits without a word. Polars refuses with an error that names the
#   limit of 38.
# Why it matters: pyarrow itself makes decimal256 as soon as one value needs it. A column that was exact yesterday is
#   a float today for everybody who queries the file with DuckDB.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from decimal import Decimal
import duckdb, polars, pyarrow as pa, pyarrow.parquet as parquet

value = Decimal("123456789012345678901234567890123456.7891")
parquet.write_table(pa.table({"price": pa.array([value, Decimal("10.5000")])}), "p.parquet")
print("written as", parquet.read_schema("p.parquet").field("price").type)
rows = duckdb.sql("SELECT price, typeof(price) FROM 'p.parquet'").fetchall()
print("DuckDB:", rows)
try:
    polars.read_parquet("p.parquet")
    refused = ""
except Exception as error:
    refused = str(error)
print("Polars:", refused)
sys.exit(not (rows[1] == (10.5, "DOUBLE") and isinstance(rows[0][0], float) and "38" in refused))
PYTHON
