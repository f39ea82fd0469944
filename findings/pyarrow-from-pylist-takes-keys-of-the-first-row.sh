#!/usr/bin/env bash
# Versions: pyarrow 26.0.1, polars 2.1.0; Python 3.11
# Expected: the columns of a list of dicts are all the keys in it, as with pyarrow.array of the same list.
# Seen: Table.from_pylist looks at the first dict alone: a key that only later rows have is left out, in silence.
#   pyarrow.array of the same list, and Polars, have every key.
# Why it matters: rows of products are made from what each product has. If the first lacks a special price, no product
#   has one. Give from_pylist a schema.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pyarrow==26.0.1 polars==2.1.0 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import polars, pyarrow as pa

rows = [{"sku": "A"}, {"sku": "B", "special_price": 9}]
table = pa.Table.from_pylist(rows).to_pylist()
array = pa.array(rows).to_pylist()
frame = polars.DataFrame(rows).rows(named=True)
print("Table.from_pylist:", table)
print("pyarrow.array:    ", array)
print("Polars:           ", frame)
full = [{"sku": "A", "special_price": None}, {"sku": "B", "special_price": 9}]
sys.exit(not (table == [{"sku": "A"}, {"sku": "B"}] and array == frame == full))
PYTHON
