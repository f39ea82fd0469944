#!/usr/bin/env bash
# Versions: openpyxl 3.1.5, xlsxwriter 3.3.1; Python 3.11
# Expected: a text longer than a cell can hold is refused, or at least warned of.
# Seen: openpyxl cuts it in silence. xlsxwriter cuts it too and returns -2, which nobody looks at. The file is valid,
#   the end of the text is gone. (pandas, which writes through either, warns.)
# Why it matters: product descriptions with inline styles or pictures are longer than that. After a round trip through
#   a sheet they end in the middle of a tag, and a comparison calls them changed.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    openpyxl==3.1.5 xlsxwriter==3.3.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys, warnings
import openpyxl, xlsxwriter

warnings.simplefilter("error")
text = "x" * 40_000
length = lambda name, row: len(openpyxl.load_workbook(name).active.cell(row, 1).value)

book = openpyxl.Workbook()
book.active.append([text])
book.save("a.xlsx")
other = xlsxwriter.Workbook("b.xlsx")
code = other.add_worksheet().write(0, 0, text)
other.close()
lengths = [length("a.xlsx", 1), length("b.xlsx", 1)]
print("openpyxl, xlsxwriter:", lengths, "xlsxwriter returned", code)
sys.exit(not (lengths == [32_767] * 2 and code == -2))
PYTHON
