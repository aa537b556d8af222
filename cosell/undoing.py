"""The command that takes the connector's writes back."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cosell import naming
from cosell.app import Context
from cosell.deals import document, show
from cosell.rehearsal import rehearse
from cosell.terminal import FINE, FOUND, Terminal, listed
from shared.codecs import parse_instant
from shared.errors import Misconfigured, TryLater
from shared.flows import synchronize
from shared.planning import Change
from shared.run import wake
from shared.state import Pair, State, stamp
from shared.tables import RowChanged
from shared.undoing import WHY, Undo, is_write, undo_of
from shared.world import World

EXAMPLES = """\
undo 006Ws0000000Q1UIAU
undo 006Ws0000000Q1UIAU --apply
undo 006Ws0000000Q1UIAU --entry 2026-11-02T09:14:07.512Z --apply
undo 006Ws0000000Q1UIAU --since 2026-11-02T09:00
undo --all --hour --field deal_value
undo --all --since 2026-11-02T09:00 --until 2026-11-02T10:00 --apply"""

TRIES = 10  # compare-and-sets of one deal against workers that are busy with it
NAMED = 50  # deals shown one by one


@dataclass(frozen=True)
class Period:
    """From when to when; both ends belong to it."""

    since: datetime
    until: datetime


def undo(context: Context) -> int:
    """Takes writes of the connector back: of one deal its last one, one that `history` names, or all of a period; or a period of every deal.

    An undo is an edit by the operator. It goes through the same planner as any other: a field gets the value from before on both sides,
    where both still hold what was written; who edited it since is left alone. What no undo can do is said: records that were made
    are not deleted, a closed deal stays closed, help and visibility are never withdrawn. A field that travels one way is put back on the
    side it was written, and rests until its source changes. Undoing an undo brings the written value back.

    Shows what it would do; does it with --apply. For --all the deals are marked and the functions do the work; --all says the exact
    period it looked at, so that no later write is taken back by the second command. Times are UTC.
    """
    world, arguments = context.world, context.arguments
    period = _period(world, arguments)
    unknown = [name for name in arguments.field or () if name not in world.org.shape.mapping.by_name]
    if unknown:
        raise Misconfigured(
            f"{unknown[0]!r} is no field of the mapping; its fields are {', '.join(sorted(world.org.shape.mapping.by_name))}"
        )
    if arguments.apply and world.settings.shadow:
        raise Misconfigured("SYNC_MODE is shadow: nothing is written to either vendor, so nothing can be taken back now")
    if arguments.all:
        if arguments.name or arguments.entry:
            raise Misconfigured("--all is about every deal: leave NAME and --entry away")
        if period is None:
            raise Misconfigured("--all needs a period: --hour, or --since TIME")
        return _undo_all(context, period)
    if not arguments.name:
        raise Misconfigured("give a NAME, or --all for every deal")
    return _undo_one(context, naming.record_name(arguments.name), period)


def _period(world: World, arguments: argparse.Namespace) -> Period | None:
    now = world.clock.now()
    if arguments.until and not (arguments.since or arguments.hour):
        raise Misconfigured("--until goes with --since TIME or --hour")
    if not (arguments.since or arguments.hour):
        return None
    until = _time(arguments.until) if arguments.until else now
    return Period(until - timedelta(hours=1) if arguments.hour else _time(arguments.since), until)


def _time(text: str) -> datetime:
    given = text.strip().replace(" ", "T")
    for form in (given, f"{given}:00", f"{given}T00:00:00"):
        try:
            return parse_instant(form).astimezone(UTC)
        except ValueError:
            continue
    raise Misconfigured(f"{text[:40]!r} is not a time: write 2026-11-02, 2026-11-02T09:00 or 2026-11-02T09:14:07.512Z (UTC)")


# -- one deal --------------------------------------------------------------------------------------------------------------------------


def _undo_one(context: Context, name: str, period: Period | None) -> int:
    world, terminal, arguments = context.world, context.terminal, context.arguments
    pair = world.state.pair(name)
    if pair is None:
        raise Misconfigured(f"{name} belongs to no deal that is known here")
    entries = _entries(world, pair, arguments.entry, period)
    wanted = _of_fields(undo_of(world.org.shape.mapping, entries, pair.referral_id, pair.opportunity_id), arguments.field)
    at = [str(one["at"]) for one in entries]
    rehearsal = rehearse(world, name, lambda state: _want(state, pair.name, wanted)) if wanted.wishes else None
    terminal.say(f"{pair.name}: writes of {', '.join(at)}" if at else f"{pair.name}: nothing was written" + (" then" if period else ""))
    _say(terminal, world, wanted)
    if rehearsal:
        show(terminal, rehearsal)
    told: dict[str, Any] = {"entries": at, **_document(wanted), **(document(rehearsal) if rehearsal else {})}
    if not rehearsal or not arguments.apply:
        terminal.tell(told)
        if rehearsal:
            terminal.say("nothing was written; --apply does it")
        return FOUND if rehearsal or wanted.refusals else FINE
    want(world, pair.name, wanted)
    terminal.progress(f"synchronizing {pair.name} …")
    outcome = synchronize(world, pair.name)
    terminal.say(f"done: {outcome.text}")
    terminal.tell({**told, "outcome": asdict(outcome)})
    return FOUND if outcome.kind in ("parked", "later") or wanted.refusals else FINE


def _entries(world: World, pair: Pair, entry: str | None, period: Period | None) -> list[dict[str, Any]]:
    """The history entries that are to be taken back, newest first. Raises `Misconfigured` for one that is no write."""
    if entry and period:
        raise Misconfigured("--entry names one write; leave --since and --hour away")
    if period:
        since, until = stamp(period.since), stamp(period.until)
        return [one for one in world.state.history(pair.name) if since <= one["at"] <= until and is_write(one)]
    if not entry:
        return [one for one in world.state.history(pair.name) if is_write(one)][:1]
    at = stamp(_time(entry))
    named = [one for one in world.state.history(pair.name) if one["at"] == at]
    if not any(is_write(one) for one in named):
        words = "is no write" if named else "is not in its history"
        raise Misconfigured(f"{entry}: {words}; `cosell history {pair.name}` lists the times")
    return [one for one in named if is_write(one)]


def _of_fields(undo: Undo, fields: list[str] | None) -> Undo:
    return replace(undo, wishes={name: one for name, one in undo.wishes.items() if name in fields}) if fields else undo


def _say(terminal: Terminal, world: World, undo: Undo) -> None:
    for text in _lines(world, undo):
        terminal.say(f"would take back: {text}")
    for text in undo.refusals:
        terminal.say(f"cannot be undone: {text}")


def _lines(world: World, undo: Undo) -> list[str]:
    """Each wish in the words of a plan."""
    rows = world.org.shape.mapping.by_name
    return [str(Change(one.side, name, rows[name].label, one.written, one.value, WHY)) for name, one in undo.wishes.items()]


def _document(undo: Undo) -> dict[str, Any]:
    return {
        "fields": {name: {"from": one.written, "to": one.value} for name, one in undo.wishes.items()},
        "cannot_be_undone": list(undo.refusals),
    }


# -- what an undo is: a wish in the pair's row, and a mark -----------------------------------------------------------------------------


def want(world: World, name: str, undo: Undo) -> None:
    """Stores what is wanted back and marks the deal. Raises `TryLater` where workers leave no moment for it.

    Dying in between loses nothing: the full sweep marks a deal in whose row a wish stands.
    """
    for _ in range(TRIES):
        try:
            _want(world.state, name, undo)
            break
        except RowChanged:
            world.clock.sleep(0.5)
    else:
        raise TryLater(f"{name} is being worked on without a pause; try again")
    world.state.mark(name)
    world.state.unpark(name)


def _want(state: State, name: str, undo: Undo) -> None:
    pair = state.pair(name)
    if pair is not None:
        state.save(replace(pair, known=replace(pair.known, wishes={**pair.known.wishes, **undo.wishes})))


# -- every deal ------------------------------------------------------------------------------------------------------------------------


def _undo_all(context: Context, period: Period) -> int:
    world, terminal, arguments = context.world, context.terminal, context.arguments
    deals = fields = 0
    lines: list[str] = []
    names: list[str] = []
    failed: list[str] = []
    refusals: dict[str, int] = {}
    for name, wanted in _found(world, terminal, period, arguments.field):
        for reason in wanted.refusals:
            kind = reason.partition(" (")[0] if "a record is never deleted" in reason else reason
            refusals[kind] = refusals.get(kind, 0) + 1
        if not wanted.wishes:
            continue
        if arguments.apply:
            try:
                want(world, name, wanted)
                wake(world, name)
            except TryLater as error:
                failed.append(str(error))
                continue
        deals, fields = deals + 1, fields + len(wanted.wishes)
        names.append(name)
        if len(lines) < NAMED:
            lines.append(f"{name}: {'; '.join(_lines(world, wanted))}")
    more = [f"… and {deals - NAMED} more (--json lists all)"] if deals > NAMED else []
    terminal.say(f"from {stamp(period.since)} to {stamp(period.until)}: {fields} fields of {deals} deals " + _done(arguments.apply))
    for line in lines + more:
        terminal.say(f"  {line}")
    if refusals:
        terminal.say(listed("cannot be undone", [f"{count} times: {reason}" for reason, count in refusals.items()]))
    for text in failed:
        terminal.say(f"not marked: {text}")
    if deals and not arguments.apply:
        options = [part for name in arguments.field or () for part in ("--field", name)]
        again = shlex.join(["undo", "--all", "--since", stamp(period.since), "--until", stamp(period.until), *options, "--apply"])
        terminal.say(f"nothing was written; this does it: python -m cosell {again}")
    terminal.tell(
        {
            "since": stamp(period.since),
            "until": stamp(period.until),
            "fields": fields,
            "deals": names,
            "cannot_be_undone": refusals,
            "failed": failed,
            "marked": bool(arguments.apply),
        }
    )
    return FOUND if refusals or failed or (deals and not arguments.apply) else FINE


def _done(applied: bool) -> str:
    return "are marked to be taken back, as far as both sides still hold what was written" if applied else "would be taken back"


def _found(world: World, terminal: Terminal, period: Period, fields: list[str] | None) -> Iterator[tuple[str, Undo]]:
    """Every deal with writes in the period and the undo of them, one at a time."""
    mapping = world.org.shape.mapping
    terminal.progress("reading the history of every deal …")
    for number, (name, entries) in enumerate(world.state.history_of_all(period.since, period.until), 1):
        if number % 1000 == 0:
            terminal.progress(f"{number} deals …")
        writes = [one for one in entries if is_write(one)]
        pair = world.state.pair(name) if writes else None
        if pair is not None:
            yield pair.name, _of_fields(undo_of(mapping, writes, pair.referral_id, pair.opportunity_id), fields)
