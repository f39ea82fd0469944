#!/usr/bin/env bash
# Versions: pandas 3.1.1; Python 3.11
# Expected: dtype_backend="numpy_nullable" or dtype Int64 reads whole numbers beside nulls exactly; that is what they
#   are for.
# Seen: read_csv and read_sql with dtype_backend do. read_json with dtype_backend, and read_sql with dtype={...:
#   "Int64"}, make floats first and convert then: 9007199254740993 becomes ...992, in a column that says Int64.
# Why it matters: 64-bit ids with a null among them (a parent, a category) are off by one and look right. Ask read_sql
#   with dtype_backend; read JSON lines with another reader.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pandas==3.1.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import io, sqlite3, sys
import pandas

connection = sqlite3.connect(":memory:")
connection.executescript("CREATE TABLE p (id BIGINT); INSERT INTO p VALUES (9007199254740993), (NULL);")
lines = '{"id":9007199254740993}\n{"id":null}\n'
frames = {
    "read_csv, dtype_backend": pandas.read_csv(io.StringIO("id,x\n9007199254740993,\n,1\n"), dtype_backend="numpy_nullable"),
    "read_sql, dtype_backend": pandas.read_sql("SELECT id FROM p", connection, dtype_backend="numpy_nullable"),
    "read_sql, dtype Int64": pandas.read_sql("SELECT id FROM p", connection, dtype={"id": "Int64"}),
    "read_json, dtype_backend": pandas.read_json(io.StringIO(lines), lines=True, dtype_backend="numpy_nullable"),
}
for how, frame in frames.items():
    print(f"{how:25}", frame["id"].dtype, frame["id"][0])
sys.exit([int(frame["id"][0]) % 10 for frame in frames.values()] != [3, 3, 2, 2] or {str(it["id"].dtype) for it in frames.values()} != {"Int64"})
PYTHON
