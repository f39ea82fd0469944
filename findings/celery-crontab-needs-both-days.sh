#!/usr/bin/env bash
# Versions: celery 5.7.0, cronsim 2.8, croniter 7.0.0, apscheduler 3.11.3; Python 3.11
# Expected: celery.schedules.crontab, from_string above all, reads a crontab line as cron does: with both days given,
#   either will do.
# Seen: Celery asks for both, and so does APScheduler's from_crontab. cronsim and croniter take either, as cron does.
# Why it matters: a full load meant for the 1st and for Sundays runs two or three times a year when the line moves
#   from crontab to a Celery worker. Write two schedules.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    celery==5.7.0 cronsim==2.8 croniter==7.0.0 apscheduler==3.11.3 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import datetime, sys
from zoneinfo import ZoneInfo
from apscheduler.triggers.cron import CronTrigger
from celery import Celery
from celery.schedules import crontab
from croniter import croniter
from cronsim import CronSim

LINE, START = "0 0 13 * 5", datetime.datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))

def celery():
    app, now = Celery(), START
    app.conf.timezone = "UTC"
    while True:
        schedule = crontab.from_string(LINE)
        schedule.app, schedule.nowfun = app, lambda: now
        now += schedule.remaining_estimate(now)
        yield now

def apscheduler():
    trigger, at = CronTrigger.from_crontab(LINE.replace("5", "fri"), timezone="UTC"), None
    while True:
        at = trigger.get_next_fire_time(at, at or START)
        yield at

seen = {
    "celery": celery(), "apscheduler": apscheduler(), "cronsim": CronSim(LINE, START),
    "croniter": iter(lambda: dates.get_next(datetime.datetime), None),
}
dates = croniter(LINE, START)
for name, times in seen.items():
    seen[name] = [f"{next(times):%d %b}" for _ in range(3)]
    print(f"{name:12}", seen[name])
sys.exit(not (seen["celery"] == seen["apscheduler"] == ["13 Feb", "13 Mar", "13 Nov"]
              and seen["cronsim"] == seen["croniter"] == ["02 Jan", "09 Jan", "13 Jan"]))
PYTHON
