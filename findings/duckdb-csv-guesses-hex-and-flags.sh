#!/usr/bin/env bash
# Versions: duckdb 2.0.1; Python 3.11
# Expected: quoted text that is no plain decimal number (0x1F, t, f, 12.05.24) stays text in a CSV.
# Seen: hexadecimal literals become integers, a column of t and f becomes BOOLEAN, and 12.05.24 is read as 24 May
#   2012, year first, though a JSON file with the same text keeps it as text.
# Why it matters: codes of colours, sizes or suppliers look like that. The guess is made for each file, from its
#   values: name the types, or all_varchar=true.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import duckdb

def read(*values):
    with open("p.csv", "w") as file:
        file.write("sku,name\n" + "".join(f'"{value}","x"\n' for value in values))
    return duckdb.sql("SELECT sku::VARCHAR, typeof(sku) FROM read_csv('p.csv')").fetchall()

seen = [read("0x1F", "0x2A"), read("t", "f"), read("12.05.24", "11.05.24")]
for rows in seen:
    print(rows)
sys.exit(seen != [
    [("31", "BIGINT"), ("42", "BIGINT")],
    [("true", "BOOLEAN"), ("false", "BOOLEAN")],
    [("2012-05-24", "DATE"), ("2011-05-24", "DATE")],
])
PYTHON
