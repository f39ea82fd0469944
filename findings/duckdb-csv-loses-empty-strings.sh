#!/usr/bin/env bash
# Versions: duckdb 2.0.1, polars 2.1.0, pandas 3.1.1, pyarrow 26.0.1; Python 3.11
# Expected: CSV readers that know quotes tell "" (an empty text) from nothing (null), as PostgreSQL's COPY does.
# Seen: Polars keeps the difference. DuckDB makes both null, pandas too, pyarrow makes both an empty text.
# Why it matters: "the tenant says nothing" and "the tenant says an empty name" are different facts in a copy. They
#   survive a CSV only with the right reader; Parquet or JSON lines keep them for all four.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import duckdb, pandas, polars, pyarrow.csv

with open("p.csv", "w") as file:
    file.write('sku,name\nA,""\nB,\nC,x\n')
seen = {
    "DuckDB": [row[1] for row in duckdb.sql("FROM read_csv('p.csv')").fetchall()],
    "pandas": [None if name != name else name for name in pandas.read_csv("p.csv")["name"]],
    "Polars": polars.read_csv("p.csv")["name"].to_list(),
    "pyarrow": pyarrow.csv.read_csv("p.csv")["name"].to_pylist(),
}
for reader, names in seen.items():
    print(f"{reader:8}", names)
sys.exit(seen != {
    "DuckDB": [None, None, "x"], "pandas": [None, None, "x"], "Polars": ["", None, "x"], "pyarrow": ["", "", "x"],
})
PYTHON
