#!/usr/bin/env bash
# Versions: csvkit 2.2.0, agate 1.14.2; Python 3.11
# Expected: csvjson and csvsql keep 0 and 1 as numbers and 1d, 2w, 3m as text.
# Seen: a column of 0 and 1 is BOOLEAN, SKUs 1d and 2w are "1 day, 0:00:00" and "14 days, 0:00:00", 5% is the number 5
#   and "1,5" the number 15. Each column is guessed by itself: the first 2 in a stock turns it to numbers again.
# Why it matters: a small shop, or a test extract, goes into SQL with other types than the full one. Say
#   --no-inference, or name the types.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    csvkit==2.2.0 agate==1.14.2 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import json, subprocess, sys

with open("p.csv", "w") as file:
    file.write('sku,qty,discount,size\n1d,0,5%,"1,5"\n2w,1,7%,"2,5"\n')
run = lambda *words: json.loads(subprocess.run(["venv/bin/csvjson", *words, "p.csv"], capture_output=True, text=True, check=True).stdout)
guessed, plain = run(), run("--no-inference")
print("csvjson:               ", guessed)
print("csvjson --no-inference:", plain)
sys.exit(not (guessed == [{"sku": "1 day, 0:00:00", "qty": False, "discount": 5.0, "size": 15.0},
                          {"sku": "14 days, 0:00:00", "qty": True, "discount": 7.0, "size": 25.0}]
              and plain[1] == {"sku": "2w", "qty": "1", "discount": "7%", "size": "2,5"}))
PYTHON
