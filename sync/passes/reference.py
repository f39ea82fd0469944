"""The reference pass: copy the data that product values refer to, with the labels of each store view.

Attributes with their options, attribute sets, categories, websites, store groups and store views. Each is
read completely and compared with the copy; differences are written, with an entry in `reference_changes`.

A row that is not listed is deleted only when the tenant does not list it on a second request either, and
never when nothing is listed or a large share would go: that looks like an outage. A part that the
credential may not read, or that cannot be read, stays unchanged and is reported once; the other parts
continue. So does a single item that the tenant cannot send: its key is stored, and it is requested again
after ASK_AGAIN.

Deleting an option, an attribute or a category removes its values from products without moving their stamps:
products of the copy with such values are read again, in this run or, if it ends early, in the next.

`fetch_on_sight` serves the passes over products: an option that a product has and the copy lacks was created
after the last reference pass, and is fetched at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import sqlalchemy as sa

from sync.commerce.reference import Reference
from sync.db import current_views, state
from sync.db import reference as db
from sync.db.dialects import capacity, utc_now
from sync.db.reference import Key, Row, Value, Where
from sync.errors import (
    AccessDenied,
    AnswerUnreadable,
    CommerceError,
    RequestRefused,
    SettingsError,
    SyncError,
)
from sync.mapping import Unmappable, decode
from sync.model import Tally, counted
from sync.passes import absence
from sync.passes import reference_rows as rows
from sync.passes.named import read_named
from sync.passes.reference_rows import Document, by_key, code_of, compare
from sync.passes.run import Run, Summary, Sync, start

# Errors that end one part only; an unreachable tenant ends the run.
PARTIAL: Final = (AccessDenied, AnswerUnreadable, RequestRefused, SettingsError)
ASK_AGAIN: Final = timedelta(days=1)
BROKEN: Final = "reference_broken"  # sync_state: noun -> key -> time of the last request
NOUNS: Final = {"attributes": "attributes", "attribute_sets": "attribute sets", "categories": "categories"}
Again = Callable[[list[Key]], set[Key]]  # unlisted keys -> those that a second request lists


def reference(sync: Sync, *, allow_mass_delete: bool = False) -> Summary:
    """Read all reference data and update the copy.

    allow_mass_delete    accept that a large share of a table is gone
    """
    with start(sync, "reference") as run:
        work = _Work(run, allow_mass_delete)
        parts = {
            "attributes and their options": work.attributes,
            "attribute sets": work.attribute_sets,
            "categories": work.categories,
            "websites, store groups and store views": work.stores,
        }
        failures = [error for noun, part in parts.items() if (error := _attempt(run, noun, part))]
        note_broken(run, work.source, is_complete=not failures)
        if len(failures) == len(parts):
            raise failures[0]
        _read_carriers(run)
    return run.summary()


def _attempt(run: Run, noun: str, part: Callable[[], None]) -> SyncError | None:
    """Read one part; report and return the error when it cannot be read."""
    try:
        part()
    except PARTIAL as error:
        if isinstance(error, RequestRefused | SettingsError) and run.leave_out_unknown():
            return _attempt(run, noun, part)
        run.do_without(f"The {noun} were not read and stay unchanged: {error.advice}")
        return error
    return None


def _read_carriers(run: Run) -> None:
    """Read products again that have values deleted by this run, or by an earlier one that ended early."""
    gone = run.read(db.taken)
    if not gone:
        return
    for view in run.sync.store_views:
        with run.apart(view):
            ids = sorted(run.read(partial(db.carriers, store_view=view, gone=gone)))
            for begin in range(0, len(ids), run.sync.page_size):
                read_named(run, view, ids[begin : begin + run.sync.page_size])
    run.transact(db.forget_taken)


class _Work:
    """The parts of one reference pass."""

    def __init__(self, run: Run, allow_mass_delete: bool) -> None:
        self._run = run
        self.source = open_reference(run)
        self._allow_mass_delete = allow_mass_delete
        self._room = run.read(capacity)

    # --- the parts ---------------------------------------------------------------------------

    def attributes(self) -> None:
        """A page at a time: a single attribute may have a hundred thousand options."""
        first, *others = self._run.sync.store_views
        codes: set[str] = set()
        for documents in _pages(self.source.attributes(first)):
            codes |= self._take_attributes(documents)
            self._take_options(first, documents)
        self._drop_attributes(first, codes)
        for view in others:
            for documents in _pages(self.source.attributes(view)):
                self._take_options(view, documents)
        self._run.transact(db.sight)

    def attribute_sets(self) -> None:
        def read() -> list[Row]:
            pages = _pages(self.source.attribute_sets())
            return [rows.set_row(document) for documents in pages for document in documents]

        self._settle_whole("attribute_sets", {}, read)

    def categories(self) -> None:
        for view in self._run.sync.store_views:
            documents = [it for page in _pages(self.source.categories(view)) for it in page]
            listed = by_key("categories", rows.category_rows(view, documents, self._room))
            again = partial(_categories_again, self.source, view, listed)
            self._settle("categories", {"store_view": view}, listed, again)

    def stores(self) -> None:
        before = self._run.read(current_views.listed)
        for table, read, row in (
            ("websites", self.source.websites, rows.website_row),
            ("store_groups", self.source.store_groups, rows.store_group_row),
            ("store_views", self.source.store_views, rows.store_view_row),
        ):
            self._settle_whole(table, {}, partial(_mapped, read, row))
        self._run.transact(lambda tx: current_views.note_list(tx, before))

    # --- attributes --------------------------------------------------------------------------

    def _take_attributes(self, documents: Sequence[Document]) -> set[str]:
        """Returns their codes."""
        listed = by_key("attributes", rows.attribute_rows(documents, self._room))
        codes = [code for (code,) in listed]
        _write(self._run, "attributes", {"attribute_code": codes}, listed)
        return set(codes)

    def _take_options(self, view: str, documents: Sequence[Document]) -> None:
        listed = by_key("attribute_options", rows.option_rows(view, documents))
        codes = [code for document in documents if (code := code_of(document))]
        again = partial(_options_again, self.source, view)
        self._settle("attribute_options", {"store_view": view, "attribute_code": codes}, listed, again)

    def _drop_attributes(self, view: str, codes: set[str]) -> None:
        """Attributes that are gone, with their options in every store view."""
        listed = [(code,) for code in codes]
        again = partial(_attributes_again, self.source, view, codes)
        gone = self._gone("attributes", {}, listed, again)
        if gone:
            where = {"attribute_code": [code for (code,) in gone]}
            options = self._run.read(lambda c: db.keys(c, "attribute_options", where))
            _write(self._run, "attribute_options", where, {}, options)
            _write(self._run, "attributes", where, {}, gone)

    # --- one table ---------------------------------------------------------------------------

    def _settle_whole(self, table: str, where: Where, read: Callable[[], list[Row]]) -> None:
        """Settle what one request or two tell all of: asking again is reading again."""
        self._settle(table, where, by_key(table, read()), lambda _: set(by_key(table, read())))

    def _settle(self, table: str, where: Where, listed: Mapping[Key, Row], again: Again) -> None:
        """Make the rows of a table, or of a part of it, agree with those listed."""
        _write(self._run, table, where, listed, self._gone(table, where, listed, again))

    def _gone(self, table: str, where: Where, listed: Collection[Key], again: Again) -> list[Key]:
        """Keys of rows here that the tenant does not list, nor when it is asked again."""
        here = self._run.read(lambda c: db.keys(c, table, where))
        listed, noun = set(listed), NOUNS.get(table, "")
        missing = [key for key in here if key not in listed and not self.source.cannot_show(noun, key[-1])]
        lost = {
            key
            for _, some in absence.gone(
                missing,
                lambda: self._too_many(table, where, len(missing), len(here), len(listed)),
                lambda keys: again(list(keys)),
            )
            for key in some
        }
        return [key for key in missing if key in lost]

    def _too_many(self, table: str, where: Where, missing: int, here: int, listed: int) -> bool:
        view = f" of store view {where['store_view']}" if "store_view" in where else ""
        noun = f"{counted(here, 'row')}{view} in {table}"
        return not self._allow_mass_delete and absence.is_too_many(
            self._run, missing, here, listed, noun, "reference", believes_nothing=False
        )


def _write(run: Run, table: str, where: Where, listed: Mapping[Key, Row], gone: Collection[Key] = ()) -> None:
    """Write what differs, in one transaction with the run's counters."""
    tally = run.commit(lambda tx: _written(tx, run, table, where, listed, gone))
    run.sync.watch.rows_written(len(listed), tally)


def _written(
    tx: sa.Connection, run: Run, table: str, where: Where, listed: Mapping[Key, Row], gone: Collection[Key]
) -> Tally:
    found = compare(db.stored(tx, table, where), listed, gone)
    db.write(tx, table, found.differences, found.stamped, utc_now(tx), run.run_id)
    db.remember_taken(tx, table, gone)
    return found.tally


def remove_rows(run: Run, table: str, where: Where) -> None:
    """Remove rows, with an entry in `reference_changes` each."""

    def work(tx: sa.Connection) -> None:
        found = compare(db.stored(tx, table, where), {}, db.keys(tx, table, where))
        db.write(tx, table, found.differences, found.stamped, utc_now(tx), run.run_id)

    run.transact(work)


# --- what the tenant cannot show ------------------------------------------------------------


def open_reference(run: Run) -> Reference:
    """The tenant's reference data without what could not be read of late."""
    likely = {
        noun: [key[-1] for key in run.read(partial(db.keys, table=table, where={}))]
        for table, noun in NOUNS.items()
    }
    return Reference(run.sync.client, _asked_of_late(run), likely)


def _asked_of_late(run: Run) -> dict[str, dict[str, str]]:
    """Keys by noun of what could not be read, with the time, as long as it is not asked for again."""
    remembered = run.read(lambda c: state.load(c, BROKEN)) or {}
    begin = (run.read(utc_now) - ASK_AGAIN).isoformat()
    return {noun: {key: at for key, at in keys.items() if at > begin} for noun, keys in remembered.items()}


def note_broken(run: Run, source: Reference, *, is_complete: bool) -> None:
    """Name what could not be read, and remember it by its key.

    is_complete    every list was read: what is missing for longer is named too, or forgotten once it is well
    """
    remembered = _asked_of_late(run)
    if is_complete:
        for noun, keys in remembered.items():
            for key, at in keys.items():
                run.do_without(
                    f"One of the {noun}, {key}, could not be read at {at[:16]} UTC: it is asked for again a "
                    "day after that, and what the copy has of it stays."
                )
    for item in source.broken:
        run.do_without(
            f"{item}: {item.reason} Its rows stay unchanged; everything else was read. To do: check the "
            "tenant's exception log; where an extension was removed, delete what it left."
        )
        if item.key is not None:
            remembered.setdefault(item.noun, {})[item.key] = run.read(utc_now).isoformat()
    if is_complete or source.broken:
        run.transact(lambda tx: state.save(tx, BROKEN, remembered))


# --- what was sent ---------------------------------------------------------------------------


def _pages(pages: Iterable[list[bytes]]) -> Iterator[list[Document]]:
    return (_documents(page) for page in pages)


def _documents(items: Iterable[bytes]) -> list[Document]:
    """Items, decoded. Raises AnswerUnreadable when one is no object that can be read."""
    try:
        return [decode(raw) for raw in items]
    except Unmappable as error:
        raise AnswerUnreadable(f"Commerce sent reference data that cannot be read: {error}.") from None


def _mapped(read: Callable[[], list[bytes]], row: Callable[[Document], Row]) -> list[Row]:
    return [row(document) for document in _documents(read())]


# --- the second request ----------------------------------------------------------------------


def _attributes_again(source: Reference, view: str, listed: Collection[str], missing: list[Key]) -> set[Key]:
    witness = [min(listed)] if listed else []
    pages = _pages(source.attributes(view, [*(code for (code,) in missing), *witness]))
    found = {code for documents in pages for it in documents if (code := code_of(it))}
    if not found.issuperset(witness):
        raise absence.outage("attributes")
    return {(code,) for code in found}


def _options_again(source: Reference, view: str, missing: list[Key]) -> set[Key]:
    """Listed options, and all options of unlisted attributes: the attribute decides about those."""
    codes = {str(code) for _, code, _ in missing}
    found: set[Key] = set()
    for documents in _pages(source.attributes(view, sorted(codes))):
        found |= set(by_key("attribute_options", rows.option_rows(view, documents)))
        codes -= {code for it in documents if (code := code_of(it))}
    return found | {key for key in missing if key[1] in codes}


def _categories_again(source: Reference, view: str, listed: Collection[Key], missing: list[Key]) -> set[Key]:
    witness = [number for _, number in sorted(listed)[:1]]
    pages = source.categories(view, [*(number for _, number in missing), *witness])
    found = {it.get("id") for documents in _pages(pages) for it in documents}
    if not found.issuperset(witness):
        raise absence.outage("categories")
    return {(view, number) for number in found}


# --- options on sight ------------------------------------------------------------------------


def fetch_on_sight(run: Run) -> None:
    """Fetch options that recently changed products have and the copy lacks.

    Scans the change feed from where the last scan ended, so nothing is lost when a run is killed. Does
    nothing before the first successful reference pass. Options that the tenant lacks are not requested again.
    """
    span = None if run.sync.dry else run.read(db.unsighted)
    if span is None:
        return
    after, end = span
    try:
        unknown = _unknown(run, after, end)
        if unknown:
            _fetch(run, unknown)
    except CommerceError as error:
        run.do_without(f"Options of products that are missing in attribute_options were not read: {error}")
        return
    run.transact(lambda tx: _sighted(tx, unknown, end))


def _unknown(run: Run, after: int, end: int) -> set[Value]:
    unknown: set[Value] = set()
    for first in range(after, end, db.CHANGES_AT_ONCE):
        last = min(end, first + db.CHANGES_AT_ONCE)
        unknown |= run.read(partial(db.unknown_values, after=first, up_to=last))
    if unknown:
        asked = set(run.read(db.asked))
        unknown = {it for it in unknown if (it.attribute_code, it.value) not in asked}
    return unknown


def _fetch(run: Run, unknown: Collection[Value]) -> None:
    """Read each attribute once per store view; delete nothing."""
    source = open_reference(run)
    codes = sorted({it.attribute_code for it in unknown})
    for view in run.sync.store_views:
        with run.apart(view):
            _fetch_in(run, source, view, codes)
    note_broken(run, source, is_complete=False)


def _fetch_in(run: Run, source: Reference, view: str, codes: Sequence[str]) -> None:
    where = {"store_view": view, "attribute_code": codes}
    for documents in _pages(source.attributes(view, codes)):
        listed = by_key("attribute_options", rows.option_rows(view, documents))
        work = partial(_written, run=run, table="attribute_options", where=where, listed=listed, gone=())
        run.transact(work)


def _sighted(tx: sa.Connection, unknown: Collection[Value], end: int) -> None:
    missing = db.without_option(tx, unknown) if unknown else set()
    if missing:
        db.remember_asked(tx, sorted((it.attribute_code, it.value) for it in missing))
    db.sight(tx, end)
