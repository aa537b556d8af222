"""Salesforce's own field history, read for values that a write of ours replaced unread, and those values put back or told.

A save in the very moment of our write can be overwritten although the write is conditional (W2 of `docs/protocol.md`, section 9). Where the
org tracks a field, the entry of such a write names a value that no run had read. What the merge would have done is done then: where
Salesforce wins the field the value is wanted back, and the worker carries that out as it does an undo; else ours stands, and the seller is told.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.codecs import CHECK, Unreadable, Value, parse_instant
from shared.errors import ConnectorError, Gone, TryLater, without_words
from shared.flows import REPEATED
from shared.mapping import SALESFORCE, SIDE_NAMES, TERMINAL, FieldRow, Mapping
from shared.org import Reading
from shared.pairing import opportunity_name
from shared.planning import Change
from shared.run import Run, wake
from shared.soql import literal
from shared.state import Owed, Pair, stamp
from shared.tables import RowChanged
from shared.undoing import ERASED, Wish
from shared.world import World

log = logging.getLogger("cosell")

OBJECT = "OpportunityFieldHistory"
PLACE = "field-history"
KIND = "field history"  # of what is recorded in ours
FIRST_LOOK = timedelta(days=1)
OVERLAP = timedelta(minutes=15)  # longer than the longest transaction: an entry may appear that long after its stamp
SKEW = timedelta(minutes=2)  # between the clock of our history and Salesforce's
SECONDS = 30.0  # of one look, as a part of the full sweep; the next one goes on from there
TRIES = 3
BESIDE = "saved in the same second as a write of the connector"


@dataclass(frozen=True)
class _Entry:
    """One entry of a mapped field, in neutral values."""

    id: str
    at: datetime
    row: FieldRow
    old: Value
    new: Value


def look_for_overwritten(world: World) -> int:
    """How many values were found that a write of ours replaced unread since the last look.

    Nothing, and no error, where the org shows no field history. A failure is logged and ends this look alone: the next one repeats it.
    """
    try:
        return _look(world)
    except ConnectorError as error:
        log.warning("Salesforce's field history was not read to its end: %s", without_words(str(error)))
    except Exception as error:
        # Without its message, which may quote a record.
        log.error("an unexpected %s while reading Salesforce's field history", type(error).__name__)
    return 0


def _look(world: World) -> int:
    if world.budget.saving or world.settings.shadow:
        return 0
    mapping, clock = world.org.shape.mapping, world.clock
    # A field that travels one way takes its source's value whatever stands here: nothing in it is overridden by mistake.
    rows = {row.salesforce: row for row in mapping.fields if row.direction == "both" and row.salesforce and "." not in row.salesforce}
    us = world.salesforce.user_id
    if not us or not rows or not _is_shown(world):
        return 0
    begun, now = clock.monotonic(), world.salesforce.server_time or clock.now()
    place = world.state.cursor(PLACE)
    since = parse_instant(place) - OVERLAP if place else now - FIRST_LOOK
    ours = f"CreatedById = {literal(us)} AND Field IN {literal(sorted(rows))} AND CreatedDate >= {literal(since.replace(microsecond=0))}"
    found = 0
    for record_id, records in itertools.groupby(_records(world, ours), key=lambda one: str(one["OpportunityId"])):
        saved = list(records)
        if clock.monotonic() - begun > SECONDS:
            world.state.move_cursor(PLACE, stamp(parse_instant(str(saved[0]["CreatedDate"]))))
            return found
        found += _judge(world, record_id, list(_read(mapping, rows, saved)), us)
    world.state.move_cursor(PLACE, stamp(now))
    return found


def _is_shown(world: World) -> bool:
    try:
        world.salesforce.describe(OBJECT)
    except Gone:
        return False
    return True


def _records(world: World, where: str) -> Iterator[dict[str, Any]]:
    columns = "Id, OpportunityId, Field, OldValue, NewValue, CreatedDate"
    return world.salesforce.each(f"SELECT {columns} FROM OpportunityFieldHistory WHERE {where} ORDER BY CreatedDate, Id")


def _read(mapping: Mapping, rows: Dict[str, FieldRow], records: Sequence[Dict[str, Any]]) -> Iterator[_Entry]:
    """The entries that say something: of a long text Salesforce keeps no values, and a mark before the name is no other name."""
    for one in records:
        row, old, new = rows[str(one["Field"])], one.get("OldValue"), one.get("NewValue")
        try:
            entry = _Entry(
                str(one["Id"]), parse_instant(str(one["CreatedDate"])), row, _neutral(mapping, row, old), _neutral(mapping, row, new)
            )
        except Unreadable:
            continue
        if entry.old != entry.new:
            yield entry


def _neutral(mapping: Mapping, row: FieldRow, raw: Any) -> Value:
    return mapping.status_of_stage({"StageName": raw}) if row.type == "status" else row.codec.read_opportunity(raw)


def _judge(world: World, record_id: str, entries: Sequence[_Entry], us: str) -> int:
    pair = world.state.pair(opportunity_name(record_id)) if entries else None
    if pair is None:
        return 0
    history = list(world.state.history(pair.name))
    judged = {(one["details"] or {}).get("entry") for one in history if one["kind"] == KIND}
    unread = [one for one in entries if one.id not in judged and _unread(history, one) and _by_a_person(world, record_id, one, us)]
    for entry in unread:
        _settle(world, pair, record_id, entry)
    return len(unread)


def _unread(history: Sequence[Dict[str, Any]], entry: _Entry) -> bool:
    """Whether the entry is a write of ours that replaced a value which no plan had read.

    The plan is the last one for the field before the entry. As clocks differ, any about that time may be meant; what any of them knew was known.
    """
    if entry.old is None and not entry.row.clearing:
        return False  # emptied: an empty value would have lost by rule
    plans = list(_plans(history, entry))
    values = [change[which] for change in plans for which in ("old", "new")]
    if any(ERASED in str(value) for value in values):
        return False
    return any(change["new"] == entry.new for change in plans) and entry.old not in values


def _plans(history: Sequence[Dict[str, Any]], entry: _Entry) -> Iterator[dict[str, Any]]:
    """Newest first. A repetition is no plan: it sends what was planned before, whatever the record holds by then."""
    for one in history:
        at = parse_instant(str(one["at"]))
        if at > entry.at + SKEW:
            continue
        for change in (one["details"] or {}).get("changes") or ():
            if change["side"] == SALESFORCE and change["field"] == entry.row.name and change["why"] != REPEATED:
                yield change
                if at < entry.at - SKEW:
                    return


def _by_a_person(world: World, record_id: str, entry: _Entry, us: str) -> bool:
    """Whether somebody else put the value there: automation that follows our own save does so under our name."""
    scope = f"OpportunityId = {literal(record_id)} AND Field = {literal(entry.row.salesforce)}"
    theirs = f"{scope} AND CreatedById != {literal(us)} AND CreatedDate <= {literal(entry.at)}"
    mapping = world.org.shape.mapping
    return any(one.new == entry.old for one in _read(mapping, {entry.row.salesforce: entry.row}, list(_records(world, theirs))))


# -- what becomes of a value that was overwritten --------------------------------------------------------------------------------------


def _settle(world: World, pair: Pair, record_id: str, entry: _Entry) -> None:
    """Wanted back first, then written down, then woken: dying in between repeats the look, and loses nothing."""
    row, reading = entry.row, _opportunity(world, record_id)
    stands = reading is not None and _stands(world, reading, entry)
    # In statuses Partner Center stands, whatever the row declares.
    wins = row.winner == SALESFORCE and row.type != "status"
    if not stands:
        why = f"{BESIDE} and overwritten unread; left alone, the deal has moved on since"
    elif wins:
        _want(world, pair.name, row.name, Wish(entry.old, entry.new, SALESFORCE, f"{BESIDE}, overwritten unread and put back"))
        why = f"{BESIDE} and overwritten unread; {SIDE_NAMES[SALESFORCE]} wins, to be put back"
    else:
        why = f"{BESIDE} and overwritten unread; {SIDE_NAMES[row.winner]} wins"
    text = str(Change(SALESFORCE, row.name, row.label, entry.old, entry.new, why))
    world.state.record(pair.name, KIND, text, {"entry": entry.id, "overrides": {row.name: entry.old}})
    if stands and wins:
        world.state.mark(pair.name)
        wake(world, pair.name)
    elif stands and reading is not None:
        # No worker comes to say it, as there is nothing to write. A parked deal keeps its ✗ and what to do next.
        owed = world.state.owed(pair.name) or Owed(pair.name, "", "")
        if not owed.parked:
            Run(world, owed, "").tell_seller(reading, text, CHECK)


def _opportunity(world: World, record_id: str) -> Reading | None:
    try:
        return world.org.opportunity(record_id)
    except Gone:
        return None


def _stands(world: World, reading: Reading, entry: _Entry) -> bool:
    """Whether the deal is open, still synchronized, and holds what was written. The other side is looked at by the worker."""
    values = world.org.shape.mapping.read_opportunity(reading.record).values
    return bool(values.get("sync")) and values.get("status") not in TERMINAL and values.get(entry.row.name) == entry.new


def _want(world: World, name: str, field: str, wish: Wish) -> None:
    for _ in range(TRIES):
        pair = world.state.pair(name)
        if pair is None or field in pair.known.wishes:
            return  # an operator's wish for the field stands
        try:
            world.state.save(replace(pair, known=replace(pair.known, wishes={**pair.known.wishes, field: wish})))
        except RowChanged:
            world.clock.sleep(0.5)
        else:
            return
    raise TryLater(f"{name} is being worked on without a pause")
