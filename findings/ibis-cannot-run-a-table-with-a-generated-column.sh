#!/usr/bin/env bash
# Versions: ibis-framework 12.0.0; Python 3.11
# Expected: a table with a generated column is read with it, as SELECT * gives it.
# Seen: the schema has not the column (PRAGMA table_info leaves it out), and table.execute() fails with a count of
#   columns that does not match. Choosing some of the columns works, choosing all that it knows does not.
# Why it matters: somebody adds a computed column to a copy, for search or for a margin, and every notebook that reads
#   the whole table stops. A view does the same without harm.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    ibis-framework[sqlite]==12.0.0 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sqlite3, sys
import ibis

connection = sqlite3.connect("p.db")
connection.executescript("""
    CREATE TABLE p (sku TEXT, name TEXT, low TEXT GENERATED ALWAYS AS (lower(sku)) VIRTUAL); INSERT INTO p VALUES ('AB', 'x');
    CREATE TABLE q (sku TEXT); INSERT INTO q VALUES ('AB'); CREATE VIEW r AS SELECT sku, lower(sku) AS low FROM q;
""")
backend = ibis.sqlite.connect("p.db")

def read(table):
    try:
        return table.execute().values.tolist()
    except Exception as error:
        return str(error)

columns, whole = backend.table("p").columns, read(backend.table("p"))
chosen, view = read(backend.table("p").select("sku")), read(backend.table("r"))
for how, result in (("columns", columns), ("table", whole), ("select sku", chosen), ("view", view)):
    print(f"{how:11}", result)
sys.exit(not (tuple(columns) == ("sku", "name") and "columns" in whole and chosen == [["AB"]] and view == [["AB", "ab"]]))
PYTHON
