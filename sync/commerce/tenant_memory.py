"""What a process remembers of a tenant from pass to pass; everything else is opened and closed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and when to renew it, by the clock of `RetryPolicy`."""

    text: str = field(repr=False)
    renew_at: float


@dataclass(slots=True)
class TenantMemory:
    """Filled in by one client at a time.

    token           the last one from IMS, which throttles frequent requests
    ims_answered    IMS has answered before: when it is out of reach now, that is temporary
    answered        the tenant likewise
    """

    token: Token | None = None
    ims_answered: bool = False
    answered: bool = False
