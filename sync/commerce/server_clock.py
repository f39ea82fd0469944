"""How far the tenant's clock is ahead of ours, learned from the `Date` of its answers.

`Date` and a `Retry-After` date are whole seconds, rounded down: their difference is up to a second too long,
which costs a quota of 5 a second 5 requests. Every answer shows that the tenant's clock was between its
`Date` and a second later; many answers narrow that down to a few hundredths.

Source: RFC 9110, 5.6.7 (dates) and 6.6.1 (Date); F. Cristian, "Probabilistic clock synchronization", 1989.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

DRIFT: Final = 1e-4  # seconds a second; a quartz clock drifts by a tenth of it


@dataclass(frozen=True, slots=True)
class ServerClock:
    """Bounds on the tenant's time, in seconds since 1970, minus ours.

    as_of    when the last answer was received, by our clock
    """

    at_least: float = -math.inf
    at_most: float = math.inf
    as_of: float = -math.inf

    def heard(self, date: datetime, begun: float, now: float) -> Self:
        """The clock after an answer with this `date`: requested at `begun`, received by `now`."""
        lowest, highest = date.timestamp() - now, date.timestamp() + 1 - begun
        drifted = DRIFT * max(0.0, now - self.as_of) if self.as_of > -math.inf else 0.0
        at_least, at_most = max(lowest, self.at_least - drifted), min(highest, self.at_most + drifted)
        if at_least > at_most:  # one of the two clocks was set
            at_least, at_most = lowest, highest
        return type(self)(at_least, at_most, now)

    def wait_until(self, moment: datetime, now: float) -> float:
        """Seconds until the tenant's clock has certainly reached `moment`; needs an earlier answer."""
        return moment.timestamp() - (now + self.at_least)
