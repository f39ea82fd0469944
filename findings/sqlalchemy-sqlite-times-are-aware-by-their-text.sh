#!/usr/bin/env bash
# Versions: sqlalchemy 2.1.9; Python 3.11
# Expected: DateTime on SQLite reads its own format and refuses others, or reads them as naive times.
# Seen: any ISO text is read. With a Z or an offset the result is aware, without one naive, in one column and whatever
#   timezone= says; comparing two of them raises TypeError. Written through SQLAlchemy, the offset is dropped
#   unconverted.
# Why it matters: rows that another tool put into the file (with the usual …Z) sort and compare differently from ours.
#   Times need one form: UTC, written by one program, or a TypeDecorator.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    sqlalchemy==2.1.9 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import datetime, sys
import sqlalchemy as sa

table = sa.Table("p", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.DateTime(timezone=True)))
engine = sa.create_engine("sqlite://")
offset = datetime.timezone(datetime.timedelta(hours=2))
with engine.connect() as connection:
    table.create(connection)
    connection.execute(table.insert(), {"id": 1, "at": datetime.datetime(2024, 1, 2, 12, tzinfo=offset)})
    for row in ((2, "2024-01-02T12:00:00Z"), (3, "2024-01-02 12:00:00+02:00")):
        connection.exec_driver_sql("INSERT INTO p VALUES (?, ?)", row)
    times = list(connection.scalars(sa.select(table.c.at).order_by(table.c.id)))
for how, at in zip(("written as 12:00+02:00 by SQLAlchemy", "text …Z", "text …+02:00"), times):
    print(f"{how:38}", at.isoformat())
sys.exit([it.isoformat() for it in times] != ["2024-01-02T12:00:00", "2024-01-02T12:00:00+00:00", "2024-01-02T12:00:00+02:00"])
PYTHON
