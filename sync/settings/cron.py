"""The times of a cron expression, as cron(8) on Debian has them, in the time zone of the settings.

Fields are minute, hour, day of month, month and day of week (0 and 7 are Sunday). A day matches when the day
of the month *or* the day of the week does, unless one of them begins with `*`. A job at a fixed hour runs
once on the night the clocks go forward and once on the night they go back.

Source: crontab(5) and cron(8) of Debian.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Final

from cronsim import CronSim, CronSimError

LONGEST_CRONTAB: Final = 200  # characters
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def parse_crontab(text: str) -> str:
    """Return a cron expression with its fields separated by one space. Raises ValueError if it is invalid.

    >>> parse_crontab("0  3 * * mon#1"), parse_crontab("@daily")
    ('0 3 * * mon#1', '0 0 * * *')
    """
    crontab = " ".join(NICKNAMES.get(text.lower(), text).split())
    if len(crontab) > LONGEST_CRONTAB or not crontab.isascii():
        raise ValueError("is no cron expression")
    if crontab.count(" ") != 4:
        raise ValueError("is no cron expression: it needs five fields, minute hour day month weekday")
    try:
        next(CronSim(crontab, datetime.now(UTC)))
    except CronSimError as error:
        raise ValueError(f"is no cron expression: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError("is a cron expression that never fires") from None
    return crontab


def next_time(crontab: str, zone: tzinfo, after: datetime) -> datetime:
    """The first time after `after` at which a validated expression fires, in UTC.

    >>> next_time("0 3 * * *", UTC, datetime(2026, 3, 1, 3, tzinfo=UTC))
    datetime.datetime(2026, 3, 2, 3, 0, tzinfo=datetime.timezone.utc)
    """
    fires = (moment.astimezone(UTC) for moment in CronSim(crontab, after.astimezone(zone)))
    return next(moment for moment in fires if moment > after)  # in a repeated hour, one may be earlier
