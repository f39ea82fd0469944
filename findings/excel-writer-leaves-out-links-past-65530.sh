#!/usr/bin/env bash
# Versions: pandas 3.1.1, xlsxwriter 3.3.1, openpyxl 3.1.5; Python 3.11
# Expected: a text that looks like a link and is one too many for Excel is written as plain text.
# Seen: the cell is empty. There is a warning for each, the sheet is written and nothing fails.
# Why it matters: image addresses of a catalogue: the products after number 65,530 have none, and whoever opens the
#   sheet cannot tell. engine_kwargs={"options": {"strings_to_urls": False}} writes them all.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pandas==3.1.1 xlsxwriter==3.3.1 openpyxl==3.1.5 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys, warnings
import openpyxl, pandas

frame = pandas.DataFrame({"image": [f"https://shop.example/{number}.jpg" for number in range(65_533)]})

def empty_cells(**more):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        frame.to_excel("p.xlsx", engine="xlsxwriter", index=False, **more)
    sheet = openpyxl.load_workbook("p.xlsx", read_only=True).active
    values = [row[0] for row in sheet.iter_rows(min_row=2, values_only=True, max_col=1)]
    values += [None] * (len(frame) - len(values))
    return values.count(None), len(said)

usual = empty_cells()
plain = empty_cells(engine_kwargs={"options": {"strings_to_urls": False}})
print("as it comes:          empty cells, warnings:", usual)
print("strings_to_urls=False empty cells, warnings:", plain)
sys.exit(not (usual[0] == 3 and plain[0] == 0))
PYTHON
