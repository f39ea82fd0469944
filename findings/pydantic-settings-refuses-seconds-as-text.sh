#!/usr/bin/env bash
# Versions: pydantic 2.14.4, pydantic-settings 2.16.3; Python 3.11
# Expected: a timedelta takes 30 as seconds from the environment as it does in Python (its documentation lists
#   [HH:MM]SS), and 90:00 is 90 minutes.
# Seen: the text 30 is refused with a message on a "day" identifier, and so is 1:30; 90:00 is 3 days and 18 hours,
#   24:00 one day, P1M thirty days.
# Why it matters: intervals and time-outs come from the environment as text. A value that worked as a default fails
#   there, or means sixty times as much. Declare seconds as int.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    pydantic==2.14.4 pydantic-settings==2.16.3 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import datetime, os, sys
import pydantic, pydantic_settings

class Settings(pydantic_settings.BaseSettings):
    every: datetime.timedelta = datetime.timedelta(seconds=30)

def from_environment(text):
    os.environ["EVERY"] = text
    try:
        return Settings().every
    except pydantic.ValidationError as error:
        return "refused: " + error.errors()[0]["msg"]

seen = {text: from_environment(text) for text in ("30", "1:30", "90:00", "01:30:00", "P1M")}
for text, value in seen.items():
    print(f"EVERY={text:9}", value)
print("Settings(every=30)", Settings(every=30).every)
hours, days = (lambda n: datetime.timedelta(hours=n)), (lambda n: datetime.timedelta(days=n))
sys.exit(not (all(str(seen[text]).startswith("refused") for text in ("30", "1:30")) and Settings(every=30).every.seconds == 30
              and [seen[it] for it in ("90:00", "01:30:00", "P1M")] == [hours(90), hours(1.5), days(30)]))
PYTHON
