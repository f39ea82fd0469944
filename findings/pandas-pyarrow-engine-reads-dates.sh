#!/usr/bin/env bash
# Versions: pandas 3.1.1, pyarrow 26.0.1; Python 3.11
# Expected: engine= chooses how fast a CSV is read, not what comes out.
# Seen: with engine="pyarrow" ISO dates become date objects, times become time objects, date-times become timestamps,
#   though parse_dates was not given; with the usual engine all three are text.
# Why it matters: updated_at from a copy compares with a text on one machine and with a timestamp on the next, where
#   somebody made it faster. Name parse_dates and dtype in both.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pandas==3.1.1 pyarrow==26.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import io, sys
import pandas

text = "sku,day,at,opens\nA,2024-01-02,2024-01-02 03:04:05,12:30:00\n"
read = lambda **more: {name: type(value).__name__ for name, value in pandas.read_csv(io.StringIO(text), **more).iloc[0].items()}
usual, arrow = read(), read(engine="pyarrow")
print("usual engine:", usual)
print("pyarrow:     ", arrow)
sys.exit(not (usual == dict.fromkeys(("sku", "day", "at", "opens"), "str")
              and arrow == {"sku": "str", "day": "date", "at": "Timestamp", "opens": "time"}))
PYTHON
