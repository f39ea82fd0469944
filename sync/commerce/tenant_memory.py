"""What one process keeps of a tenant from pass to pass, while everything else is opened and closed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and when to get another one, by the clock of `RetryPolicy`."""

    text: str = field(repr=False)
    renew_at: float


@dataclass(slots=True)
class TenantMemory:
    """Filled in by who asks the tenant; one client at a time.

    token           the last one that IMS gave out: it throttles who asks for too many
    ims_answered    IMS was reached before: when it is not now, that will pass
    answered        the tenant likewise
    """

    token: Token | None = None
    ims_answered: bool = False
    answered: bool = False
