"""The one policy of absence, for products, stock and reference data.

suspect       rows here that the tenant did not list
guard         too many of them at once are held back, without a further request
ask again     by key, together with a witness: an item that the tenant must list. Without it, an outage
tombstone     what the tenant does not list then either
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from sync.errors import AnswerUnreadable
from sync.model import are
from sync.passes.run import Run

K = TypeVar("K")


def gone(
    suspects: Sequence[K],
    is_held_back: Callable[[], bool],
    still_listed: Callable[[Sequence[K]], Collection[K]],
    at_once: int | None = None,
) -> Iterator[tuple[Sequence[K], set[K]]]:
    """Ask for the suspects again, so many at once; yields those asked for, and those that are gone.

    still_listed    those that the tenant lists; raises `outage` when it does not list the witness
    """
    if not suspects or is_held_back():
        return
    size = at_once or len(suspects)
    for begin in range(0, len(suspects), size):
        asked = suspects[begin : begin + size]
        yield asked, set(asked) - set(still_listed(asked))


def is_too_many(
    run: Run,
    missing: int,
    here: int,
    listed: int,
    noun: str,
    command: str,
    *,
    believes_nothing: bool = True,
) -> bool:
    """Whether so many are missing that the answer is not believed; holds back if so.

    noun                the rows with their number, of which `missing` are missing
    command             which accepts it with --allow-mass-delete
    believes_nothing    an answer without anything is believed where the share allows it
    """
    if (listed or believes_nothing) and not run.is_mass_deletion(missing, here, listed):
        return False
    hold_back(
        run,
        f"{missing} of {noun} {are(missing)} missing on the tenant, more than "
        f"SYNC_MAX_DELETE_FRACTION={run.sync.max_delete_fraction:g} allows",
        command,
    )
    return True


def hold_back(run: Run, what: str, command: str) -> None:
    """Say that nothing is deleted although so much is missing, and how to accept it."""
    run.hold_back(
        f"{what}: nothing was deleted. If they are really gone, run `product-sync {command} "
        "--allow-mass-delete`."
    )


def outage(noun: str) -> AnswerUnreadable:
    return AnswerUnreadable(
        f"the tenant lists none of the {noun} that it must know: this looks like an outage, so nothing was "
        "deleted.",
        "check the tenant; the next run asks again.",
    )
