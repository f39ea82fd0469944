#!/usr/bin/env bash
# Versions: duckdb 2.0.1, pyarrow 26.0.1; Python 3.11
# Expected: sum() of a BIGINT column is an exact whole number, and a Parquet file written from it holds one (a decimal
#   of 38 digits, say).
# Seen: the sum is a HUGEINT, exact in SQL and in Arrow, but COPY … TO a Parquet file writes it as DOUBLE:
#   9007199254740993 is 9007199254740992 there. No warning.
# Why it matters: sums of ids (checksums) and of prices kept in cents are rolled up this way into Parquet. Cast the
#   sum to BIGINT or DECIMAL(38, 0) first.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import duckdb, pyarrow.parquet as parquet

duckdb.sql("CREATE TABLE ids AS SELECT 9007199254740993::BIGINT AS id")
exact = duckdb.sql("SELECT sum(id), typeof(sum(id)) FROM ids").fetchall()[0]
duckdb.sql("COPY (SELECT sum(id) AS total, sum(id)::BIGINT AS cast_total FROM ids) TO 's.parquet'")
schema, (row,) = parquet.read_schema("s.parquet"), parquet.read_table("s.parquet").to_pylist()
print("in SQL:    ", exact)
print("in Parquet:", schema.field("total").type, f"{row['total']:.0f};", "cast to BIGINT:", row["cast_total"])
sys.exit(not (exact == (9007199254740993, "HUGEINT") and str(schema.field("total").type) == "double"
              and row == {"total": 9007199254740992.0, "cast_total": 9007199254740993}))
PYTHON
