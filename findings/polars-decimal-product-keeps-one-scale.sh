#!/usr/bin/env bash
# Versions: polars 2.1.0, duckdb 2.0.1, pyarrow 26.0.1; Python 3.11
# Expected: a product of two decimals with 4 places has 8, as in SQL; nothing is rounded unasked.
# Seen: Polars keeps the larger scale of the two: 10.5555 × 1.1999 is 12.6655, not 12.66554445. DuckDB and pyarrow
#   give all 8 places. 0.0049 × 0.0101 is 0.0000.
# Why it matters: prices times tax or exchange rates, then summed, differ by a cent from the same query in the
#   database. Cast one side to a larger scale first.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from decimal import Decimal
import duckdb, polars as pl, pyarrow as pa, pyarrow.compute as pc

pairs = [(Decimal("10.5555"), Decimal("1.1999")), (Decimal("0.0049"), Decimal("0.0101"))]
kind = pl.Decimal(12, 4)
frame = pl.DataFrame(pairs, schema={"price": kind, "rate": kind}, orient="row")
polars = frame.select(pl.col("price") * pl.col("rate"))["price"].to_list()
sql = [duckdb.sql(f"SELECT {a}::DECIMAL(12,4) * {b}::DECIMAL(12,4)").fetchall()[0][0] for a, b in pairs]
arrow = pc.multiply(*(pa.array(side, pa.decimal128(12, 4)) for side in zip(*pairs))).to_pylist()
print("Polars: ", *polars)
print("DuckDB: ", *sql)
print("pyarrow:", *arrow)
exact = [a * b for a, b in pairs]
sys.exit(not (sql == arrow == exact and polars == [Decimal("12.6655"), Decimal("0.0000")]))
PYTHON
