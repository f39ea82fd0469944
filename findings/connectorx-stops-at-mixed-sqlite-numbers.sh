#!/usr/bin/env bash
# Versions: connectorx 0.4.6, pyarrow 26.0.1; Python 3.11
# Expected: a column declared DECIMAL(20,6) is read as numbers, whatever SQLite stored inside.
# Seen: SQLite stores 10.0 as the integer 10 in such a column. connectorx takes the type from the first row, so that a
#   column which starts with a whole price cannot be read once a fraction follows. A column that starts with a
#   fraction reads.
# Why it matters: Polars' read_database_uri reads through connectorx. Whether a price list can be read depends on its
#   first row. CAST(price AS REAL) in the query helps.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    connectorx==0.4.6 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import os, sqlite3, sys
import connectorx

connection = sqlite3.connect("p.db")
connection.execute("CREATE TABLE p (id INTEGER PRIMARY KEY, price DECIMAL(20,6))")
connection.executemany("INSERT INTO p VALUES (?, ?)", [(1, 10.0), (2, 10.5)])
connection.commit()
stored = connection.execute("SELECT typeof(price) FROM p ORDER BY id").fetchall()

def read(query):
    try:
        return connectorx.read_sql("sqlite://" + os.path.abspath("p.db"), query, return_type="arrow").column("price").to_pylist()
    except RuntimeError as error:
        return str(error).splitlines()[0]

whole_first, fraction_first = read("SELECT price FROM p ORDER BY id"), read("SELECT price FROM p ORDER BY id DESC")
cast = read("SELECT CAST(price AS REAL) AS price FROM p ORDER BY id")
print("stored as: ", stored)
print("10, 10.5:  ", whole_first)
print("10.5, 10:  ", fraction_first)
print("with CAST: ", cast)
sys.exit(not (stored == [("integer",), ("real",)] and "Real" in whole_first and cast == [10.0, 10.5]))
PYTHON
