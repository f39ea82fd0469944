#!/usr/bin/env bash
# Versions: peewee 4.5.3; Python 3.11
# Expected: max_digits=20, decimal_places=6 hold: six places come back, and 20 digits.
# Seen: the value is stored as a float. 12345678901234.123456 comes back as 12345678901234.123, 1.12345678 keeps its
#   eight places, 10.50 comes back as 10.5.
# Why it matters: the declaration reads like a promise, and on PostgreSQL it is one. auto_round=True rounds before
#   writing; text or whole cents keep the digits.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    peewee==4.5.3 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from decimal import Decimal
import peewee

database = peewee.SqliteDatabase(":memory:")

class Product(peewee.Model):
    price = peewee.DecimalField(max_digits=20, decimal_places=6)

    class Meta:
        database = database

database.create_tables([Product])
given = ["12345678901234.123456", "1.12345678", "10.50"]
for price in given:
    Product.create(price=Decimal(price))
seen = [str(row.price) for row in Product.select().order_by(Product.id)]
(kind,) = {row[0] for row in database.execute_sql("SELECT typeof(price) FROM product")}
print("given:    ", given)
print("read back:", seen, "stored as", kind)
sys.exit(not (seen == ["12345678901234.123", "1.12345678", "10.5"] and kind == "real"))
PYTHON
