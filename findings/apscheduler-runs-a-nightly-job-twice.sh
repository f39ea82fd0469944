#!/usr/bin/env bash
# Versions: apscheduler 3.11.3, cronsim 2.8, croniter 7.0.0, tzdata 2026.6; Python 3.11
# Expected: a job of 02:30 runs once each night, as cron arranges it; when 02:30 does not exist, it is left out or
#   moved to 03:00.
# Seen: APScheduler runs it twice in the autumn, an hour apart (croniter as well); in spring it names a time which
#   does not exist, 02:30+01:00, and runs at 03:30. cronsim runs once, and at 03:00 in spring.
# Why it matters: a nightly pass that counts, mails or sets a mark for "last night" does so twice once a year.
#   Schedule in UTC, or outside 02:00 to 03:00.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    apscheduler==3.11.3 cronsim==2.8 croniter==7.0.0 tzdata==2026.6 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import datetime, sys
from zoneinfo import ZoneInfo
from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim

zone = ZoneInfo("Europe/Berlin")

def runs(year_month_day, library):
    start, at, found = datetime.datetime(*year_month_day, tzinfo=zone), None, []
    trigger = CronTrigger.from_crontab("30 2 * * *", timezone=zone)
    times = {"cronsim": CronSim("30 2 * * *", start), "croniter": croniter("30 2 * * *", start)}
    while len(found) < 4:
        if library == "apscheduler":
            at = trigger.get_next_fire_time(at, at or start)
        else:
            at = next(times["cronsim"]) if library == "cronsim" else times["croniter"].get_next(datetime.datetime)
        found.append(at)
    return [f"{it:%H:%M%z}" for it in found if it.day == start.day]

seen = {library: (runs((2026, 10, 25), library), runs((2026, 3, 29), library)) for library in ("apscheduler", "croniter", "cronsim")}
for library, (autumn, spring) in seen.items():
    print(f"{library:12} autumn {autumn} spring {spring}")
twice = ["02:30+0200", "02:30+0100"]
sys.exit(seen != {"apscheduler": (twice, ["02:30+0100"]), "croniter": (twice, ["03:00+0200"]), "cronsim": (["02:30+0200"], ["03:00+0200"])})
PYTHON
