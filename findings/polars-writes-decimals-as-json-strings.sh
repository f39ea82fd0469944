#!/usr/bin/env bash
# Versions: polars 2.1.0, duckdb 2.0.1, pyarrow 26.0.1; Python 3.11
# Expected: a decimal column is written to JSON lines as a number, 10.50.
# Seen: Polars writes "10.50", a string; DuckDB writes a number (10.5). Read back with Polars, the column is text:
#   prices sort as 10.50 before 9.99, and > 9.995 cannot be asked.
# Why it matters: JSON lines are the usual way from one tool to the next. Give the reader a schema with Decimal, or
#   cast to Float64 before writing.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import io, sys
from decimal import Decimal
import duckdb, polars as pl

frame = pl.DataFrame({"price": [Decimal("9.99"), Decimal("10.50")]})
text = frame.write_ndjson()
duckdb.sql("COPY (SELECT unnest([9.99, 10.50]::DECIMAL(12,2)[]) AS price) TO 'd.jsonl' (FORMAT json)")
other = open("d.jsonl").read()
again = pl.read_ndjson(io.StringIO(text))
print("Polars:", text.split())
print("DuckDB:", other.split())
print("read back by Polars:", again.schema, again.sort("price")["price"].to_list())
sys.exit(not (text == '{"price":"9.99"}\n{"price":"10.50"}\n' and other == '{"price":9.99}\n{"price":10.5}\n'
              and again.sort("price")["price"].to_list() == ["10.50", "9.99"]))
PYTHON
