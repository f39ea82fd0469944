#!/usr/bin/env bash
# Versions: sqlalchemy 2.1.9; Python 3.11
# Expected: rows of a list with different keys are refused, or each is written with what it has.
# Seen: the first dict decides. A later row that lacks one of its keys raises an error; a later row with one more key
#   is written without it, in silence. insert().values([…]) is stricter about both.
# Why it matters: the same rows in another order fail, pass, or lose a special price. Fill every key, or check the
#   first row against the others.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    sqlalchemy==2.1.9 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import sqlalchemy as sa

table = sa.Table("p", sa.MetaData(), sa.Column("sku", sa.String), sa.Column("special_price", sa.Integer))

def insert(*rows, values=False):
    with sa.create_engine("sqlite://").connect() as connection:
        table.create(connection)
        try:
            if values:
                connection.execute(table.insert().values(list(rows)))
            else:
                connection.execute(table.insert(), list(rows))
            return [tuple(row) for row in connection.execute(sa.select(table))]
        except sa.exc.SQLAlchemyError as error:
            return type(error).__name__

short, long = {"sku": "A"}, {"sku": "B", "special_price": 9}
seen = [insert(short, long), insert(long, short), insert(short, long, values=True), insert(long, short, values=True)]
for how, result in zip(("short, long", "long, short", "values(short, long)", "values(long, short)"), seen):
    print(f"{how:20}", result)
sys.exit(not (seen[0] == [("A", None), ("B", None)] and isinstance(seen[1], str)))
PYTHON
