#!/usr/bin/env bash
# Versions: pandas 3.1.1, openpyxl 3.1.5, polars 2.1.0, fastexcel 0.21.0; Python 3.11
# Expected: a cell stored as text in an .xlsx file is text; Excel's own type says so, so no guess is needed.
# Seen: pandas.read_excel guesses again, as with a CSV: text cells 007, 008 and 1e5 become 7.0, 8.0 and 100000.0; text
#   NA becomes missing. Polars keeps the text.
# Why it matters: people format the SKU column as text exactly to keep zeros, and lose them on the way back into SQL.
#   Say dtype=str, keep_default_na=False.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pandas==3.1.1 openpyxl==3.1.5 polars==2.1.0 fastexcel==0.21.0 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys, warnings
import openpyxl, pandas, polars

warnings.simplefilter("ignore")
book = openpyxl.Workbook()
for row in (("sku", "code"), ("007", "NA"), ("008", "DE"), ("1e5", "FR")):
    book.active.append(row)
book.save("p.xlsx")
kinds = {cell.data_type for row in openpyxl.load_workbook("p.xlsx").active for cell in row}
pandas_rows = pandas.read_excel("p.xlsx").astype(object).where(lambda it: it.notna(), None).values.tolist()
polars_rows = polars.read_excel("p.xlsx").rows()
print("cell types in the file:", kinds, "(s: text)")
print("pandas:", pandas_rows)
print("Polars:", polars_rows)
sys.exit(not (kinds == {"s"} and pandas_rows == [[7.0, None], [8.0, "DE"], [100000.0, "FR"]]
              and polars_rows == [("007", "NA"), ("008", "DE"), ("1e5", "FR")]))
PYTHON
