#!/usr/bin/env bash
# Versions: sqlite-utils 4.2.1; Python 3.11
# Expected: renaming a column leaves the rest of the table as it was; SQLite's own ALTER TABLE does.
# Seen: transform() writes the table anew: CHECK and NOT NULL stay, a generated column is gone with its values,
#   COLLATE NOCASE is gone (a comparison then finds nothing), TIMESTAMP and DECIMAL(20,6) become REAL, VARCHAR(64)
#   becomes TEXT.
# Why it matters: a small clean-up of a copy changes what queries on it answer. Use ALTER TABLE … RENAME COLUMN, or
#   change a table of your own.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    sqlite-utils==4.2.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sqlite3, sys
import sqlite_utils

def table():
    db = sqlite_utils.Database(sqlite3.connect(":memory:"))
    db.execute("""CREATE TABLE p (id INTEGER PRIMARY KEY, sku VARCHAR(64) NOT NULL COLLATE NOCASE CHECK (length(sku) > 1),
                  price DECIMAL(20,6), seen TIMESTAMP, big TEXT GENERATED ALWAYS AS (upper(sku)) STORED)""")
    db.execute("INSERT INTO p (sku, price) VALUES ('ab', 10.5)")
    return db

def show(how, db):
    columns = [row[1:3] for row in db.execute("PRAGMA table_xinfo(p)").fetchall()]
    found = db.execute("SELECT count(*) FROM p WHERE sku = 'AB'").fetchone()[0]
    print(f"{how:12}", dict(columns), "rows with sku = 'AB':", found)
    return dict(columns), found

altered, transformed = table(), table()
altered.execute("ALTER TABLE p RENAME COLUMN price TO amount")
transformed["p"].transform(rename={"price": "amount"})
kept, lost = show("ALTER TABLE", altered), show("transform()", transformed)
sys.exit(not (kept[1] == 1 and "big" in kept[0] and kept[0]["seen"] == "TIMESTAMP" and "CHECK" in transformed.schema
              and lost == ({"id": "INTEGER", "sku": "TEXT", "amount": "REAL", "seen": "REAL"}, 0)))
PYTHON
