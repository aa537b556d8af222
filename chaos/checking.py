"""The promises, held against what is left of one deal once the faults have stopped and everybody rests.

Every edit carries which edits it saw, so that "the last word" is checked and not guessed: values are unique, so a value names its edit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.story import NAMES, WINNERS, Side


@dataclass
class Edits:
    """Of one field: who wrote what having seen what."""

    base: str
    seen: dict[str, set[str]] = field(default_factory=dict)  # value -> every value it replaced, directly or not
    by: dict[str, Side] = field(default_factory=dict)

    def add(self, side: Side, value: str, before: str) -> None:
        self.seen[value] = {before} | self.seen.get(before, set())
        self.by[value] = side

    def last_words(self) -> set[str]:
        """The values of edits that nobody saw and replaced."""
        replaced = set().union(*self.seen.values()) if self.seen else set()
        return {value for value in [self.base, *self.seen] if value not in replaced}


@dataclass(frozen=True)
class Rest:
    """What is left of a deal: both sides' values by field, what is remembered, what history tells, what reached the vendors."""

    values: Mapping[Side, Mapping[str, str]]
    memory: Mapping[str, str]
    announced: bool
    history: Iterable[Mapping[str, Any]]  # details of the plans, newest first
    written: Mapping[Side, Counter[tuple[str, str]]]  # (field, value) -> updates that landed
    creates: Mapping[Side, int]  # requests to create the deal's record, whatever became of them
    records: Mapping[str, int]  # what there is of it -> how many
    owed: Iterable[str]
    parked: Iterable[str]
    touched: int = 0  # writes to its records that reached the vendors


def faults(edits: Mapping[str, Edits], rest: Rest, closed: bool = False) -> list[str]:
    """What does not hold, in words; empty where every promise does."""
    found = [f"still owed: {one}" for one in rest.owed] + [f"put aside: {one}" for one in rest.parked]
    found += [f"there are {number} records: {what}" for what, number in rest.records.items() if number != 1]
    if rest.announced:
        found.append("an announced write was never settled")
    if closed:
        return found + ([f"{rest.touched} writes reached the records of a closed deal"] if rest.touched else [])
    history = [one for one in rest.history if one]
    for name, known in edits.items():
        found += _field(name, known, rest, history)
    return found


def _field(name: str, known: Edits, rest: Rest, history: list[Mapping[str, Any]]) -> Iterable[str]:
    here, there = rest.values["salesforce"].get(name), rest.values["partner_center"].get(name)
    if here != there:
        yield f"{name}: Salesforce holds {here}, Partner Center {there}"
        return
    last = known.last_words()
    winners = {value for value in last if known.by.get(value) == WINNERS[name]}
    expected = winners if len(last) > 1 and winners else last
    if here not in expected:
        # W1 of the protocol: after a crash or a lost answer the order of two edits cannot always be told. Then the declared
        # winner stands, and what it overrode was read and is in history.
        silently = expected - _overridden(name, history)
        if silently:
            yield f"{name}: rests at {here}; {', '.join(sorted(silently))} went without a word in history"
        elif not any(_w1(name, value, str(here), known, rest) for value in expected):
            yield f"{name}: rests at {here}, though it should at {', '.join(sorted(expected))}"
    if rest.memory.get(name) != here:
        yield f"{name}: memory holds {rest.memory.get(name)}, both sides {here}"
    for side, writes in rest.written.items():
        for (field_, value), times in writes.items():
            if field_ == name and times > 1 + _written_over(name, value, side, known, history):
                yield f"{name}: {value} was written {times} times to {NAMES[side]}"


def _w1(name: str, lost: str, stands: str, known: Edits, rest: Rest) -> bool:
    """Whether the window was really there: the winner's value landed, its answer was lost, the other edit saw it, it was written again."""
    side = known.by.get(lost)
    if side is None or stands not in known.seen[lost] or known.by.get(stands, WINNERS[name]) != WINNERS[name]:
        return False
    return rest.written[side][name, stands] + (rest.creates[side] > 1) > 1


def _overridden(name: str, history: list[Mapping[str, Any]]) -> set[str]:
    return {plain(name, one["overrides"][name]) for one in history if name in (one.get("overrides") or {})}


def _written_over(name: str, value: str, side: Side, known: Edits, history: list[Mapping[str, Any]]) -> int:
    """How often the connector knowingly wrote a value over an edit that had replaced it: W1, each time told in history."""
    return sum(
        change["side"] == side
        and change["field"] == name
        and change["conflict"]
        and plain(name, change["new"]) == value
        and value in known.seen.get(plain(name, change["old"]), set())
        for one in history
        for change in one.get("changes") or ()
    )


def plain(name: str, value: Any) -> str:
    """A value as text, whichever side or store it comes from."""
    if value is None:
        return ""
    if name == "deal_value":
        return str(int(float(value)))
    return str(value)[:10] if name == "close_date" else str(value)
