#!/usr/bin/env bash
# Versions: duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1; Python 3.11
# Expected: the value in a folder's name (store=01) comes out alike in every reader that knows the layout, as text or
#   as a number.
# Seen: DuckDB gives the text 01. pyarrow's read_table and Polars on the folder give the number 1, so that 01 and 1
#   fall together. pyarrow.dataset, and Polars with a pattern of files, give no such column.
# Why it matters: store views and regions are often called 01, 02. A join on the column matches in one tool, in
#   another not. Write the value as a column of the file too.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import pathlib, sys
import duckdb, polars, pyarrow as pa, pyarrow.dataset, pyarrow.parquet as parquet

for store in ("01", "1"):
    pathlib.Path(f"copy/store={store}").mkdir(parents=True)
    parquet.write_table(pa.table({"sku": ["A" + store]}), f"copy/store={store}/p.parquet")
seen = {
    "DuckDB": duckdb.sql("FROM 'copy/*/*.parquet' ORDER BY sku").to_arrow_table().to_pylist(),
    "pyarrow.parquet": parquet.read_table("copy").to_pylist(),
    "Polars, folder": polars.read_parquet("copy/").rows(named=True),
    "pyarrow.dataset": pyarrow.dataset.dataset("copy").to_table().to_pylist(),
    "Polars, pattern": polars.read_parquet("copy/**/*.parquet").rows(named=True),
}
stores = {}
for reader, rows in seen.items():
    stores[reader] = [row.get("store") for row in sorted(rows, key=lambda it: it["sku"])]
    print(f"{reader:16}", stores[reader])
sys.exit([*stores.values()] != [["01", "1"], [1, 1], [1, 1], [None, None], [None, None]])
PYTHON
