#!/usr/bin/env bash
# Versions: duckdb 2.0.1, pandas 3.1.1; Python 3.11
# Expected: DuckDB queries a data frame of Decimal objects without loss, or says that one does not fit.
# Seen: it takes the scale from a sample of 1,000 rows. A price with more places in another row is cut to that scale:
#   10.123456 becomes 10.1. A text among numbers raises an error; a longer decimal does not.
# Why it matters: tier prices and prices per unit have more places than most. SET pandas_analyze_sample to the number
#   of rows, or hand over an Arrow table with a decimal type.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 pandas==3.1.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from decimal import Decimal
import duckdb, pandas

prices = [Decimal("10.5")] * 5000
prices[4567] = Decimal("10.123456")
frame = pandas.DataFrame({"price": pandas.Series(prices, dtype=object)})
query = "SELECT min(price), any_value(typeof(price)) FROM frame"
sampled = duckdb.sql(query).fetchall()[0]
duckdb.sql("SET pandas_analyze_sample = 5000")
looked_at_all = duckdb.sql(query).fetchall()[0]
print("sample of 1,000:", sampled)
print("every row:      ", looked_at_all)
sys.exit(not (sampled == (Decimal("10.1"), "DECIMAL(3,1)") and looked_at_all[0] == Decimal("10.123456")))
PYTHON
