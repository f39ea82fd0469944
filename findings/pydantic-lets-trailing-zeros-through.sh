#!/usr/bin/env bash
# Versions: pydantic 2.14.4; Python 3.11
# Expected: Decimal with decimal_places=2 refuses 10.5000, or makes 10.50 of it; max_digits counts what is handed on.
# Seen: it takes 10.5000 and hands on Decimal('10.5000'): zeros at the end do not count, for max_digits neither.
#   10.5050 is refused.
# Why it matters: a shop's prices have four places, nearly always zeros. A model that promises two writes four, so
#   texts and hashes differ, until the first real third place is refused.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pydantic==2.14.4 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from decimal import Decimal
from typing import Annotated
import pydantic

price = pydantic.TypeAdapter(Annotated[Decimal, pydantic.Field(max_digits=4, decimal_places=2)])

def read(text):
    try:
        return price.validate_python(text)
    except pydantic.ValidationError as error:
        return error.errors()[0]["type"]

seen = {text: read(text) for text in ("10.50", "10.5000", "10.5050", "10.505")}
for text, value in seen.items():
    print(f"{text:8}", value)
sys.exit(not ([str(it) for it in seen.values()][:2] == ["10.50", "10.5000"] and isinstance(seen["10.505"], str) and isinstance(seen["10.5050"], str)))
PYTHON
