#!/usr/bin/env bash
# Versions: rich 15.0.0; Python 3.11
# Expected: print in a Table shows a cell's text; only Console.print(…) with markup asked for changes it.
# Seen: short names between colons (a, b, m, o, v, x, ok, tv) are taken for picture codes and [red] for a style, in
#   every cell, with markup on by default. [A1] stays.
# Why it matters: SKUs like a:b:c and names like Shirt [red] are shown as something that a search in the database does
#   not find. Wrap cells in rich.text.Text, or escape them.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    rich==15.0.0 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import io, sys
from rich.console import Console
from rich.table import Table
from rich.text import Text

def cell(value):
    console = Console(file=io.StringIO(), width=60)
    table = Table(box=None, show_header=False)
    table.add_row(value)
    console.print(table)
    return console.file.getvalue().strip()

values = ["size:m:blue", "Shirt [red]", "Shirt [A1]"]
seen, plain = [cell(value) for value in values], [cell(Text(value)) for value in values]
print("given:     ", values)
print("shown:     ", seen)
print("with Text: ", plain)
sys.exit(not (":m:" not in seen[0] and seen[1:] == ["Shirt", "Shirt [A1]"] and plain == values))
PYTHON
