#!/usr/bin/env bash
# Versions: price-parser 0.5.1; Python 3.11
# Expected: with no other hint, 0.500 is half a unit of money, and 10.500 at least does not depend on the number of
#   zeros.
# Seen: a single dot followed by exactly three digits is taken for thousands: 0.500 is 500. Two or four digits are a
#   fraction. Minus signs are dropped.
# Why it matters: amounts of a catalogue per kilogram or litre have three places as text. A comparison with prices
#   read from pages is out by a factor of 1,000. Give decimal_separator.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    price-parser==0.5.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from price_parser import Price

texts = ["10.50", "10.500", "10.5000", "0.500", "-5.00"]
seen = [str(Price.fromstring(text).amount) for text in texts]
told = [str(Price.fromstring(text, decimal_separator=".").amount) for text in texts]
print("text:                  ", *texts)
print("amount:                ", *seen)
print("decimal_separator='.': ", *told)
sys.exit(not (seen == ["10.50", "10500", "10.5000", "500", "5.00"] and told[:4] == texts[:4]))
PYTHON
