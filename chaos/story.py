"""What happens to one deal, as a value made from a seed: how it begins, who edits what when, and what goes wrong. Print it to read it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from simulator.core import Host

Side = Literal["salesforce", "partner_center"]

LONG = 10.0  # seconds of real time in which a story's edits happen
NAMES = {"salesforce": "Salesforce", "partner_center": "Partner Center"}

# How a deal begins -> how often it is drawn.
BEGINNINGS = {
    "agreed": 5,  # both records are there and agree before anything goes wrong
    "shared by a seller": 3,
    "shared by a seller, Microsoft asked for help": 3,
    "made in the portal": 3,
    "an invitation by Microsoft": 2,
    "closed": 1,  # both records are closed before anything goes wrong
}
# Where the other record is made.
CREATED_IN: dict[str, Host] = {
    "shared by a seller": "partner_center",
    "shared by a seller, Microsoft asked for help": "partner_center",
    "made in the portal": "salesforce",
    "an invitation by Microsoft": "salesforce",
}
# Field -> the side whose value stands after two concurrent edits. `notes` is turned around by the stage's mapping.
WINNERS: dict[str, Side] = {"deal_value": "salesforce", "close_date": "salesforce", "notes": "partner_center"}

REFUSALS = ("429", "429, Retry-After: 1", "500", "502, a page", "503", "503, a page")
LOST = ("cut before", "cut after", "no answer, not done", "no answer, done later")
PARTIES: dict[Side, tuple[str, ...]] = {
    "partner_center": ("somebody was quicker",),
    "salesforce": ("somebody was quicker", "row lock", "daily limit"),
}
PROCESS = ("killed before", "killed after", "frozen")
STORAGE = ("500", "503", "cut before", "cut after", "slow", "somebody was quicker", "killed before", "killed after")
QUEUE = ("lost", "doubled", "poisoned", "late")
EVENTS = ("dropped", "doubled", "late")

# Calls that trouble may hit -> how often each is drawn. Tables are those of `shared/tables.py`.
VENDOR_CALLS: dict[tuple[Host, str], int] = {
    ("partner_center", "GET"): 2,
    ("partner_center", "PATCH"): 7,
    ("partner_center", "POST"): 4,
    ("salesforce", "GET"): 2,
    ("salesforce", "PATCH"): 7,
    ("salesforce", "POST"): 3,
}
STORAGE_CALLS = {
    "get owed": 1,
    "merge owed": 3,
    "replace owed": 1,
    "delete owed": 2,
    "get links": 1,
    "insert links": 2,
    "replace links": 5,
    "insert history": 2,
}


@dataclass(frozen=True)
class Edit:
    """A person changes one field of one record. `late`: the transaction commits so many seconds after it was stamped (Salesforce)."""

    at: float
    side: Side
    field: str
    late: float = 0.0

    def __str__(self) -> str:
        late = f", visible {self.late:.1f} s later with the old stamp" if self.late else ""
        return f"{self.at:4.1f} s  somebody edits {self.field} in {NAMES[self.side]}{late}"


@dataclass(frozen=True)
class Trouble:
    """What a call about this deal meets: the call after `skip` others of its kind, `count` times in a row."""

    where: Literal["partner_center", "salesforce", "storage", "queue", "events"]
    call: str  # a method, or a storage operation and its table
    kind: str
    skip: int = 0
    count: int = 1

    def __str__(self) -> str:
        times = f", {self.count} times" if self.count > 1 else ""
        place = {"storage": "storage", "queue": "the queue", "events": "the webhook"}.get(self.where) or NAMES[self.where]
        return f"        {place}: {self.call} number {self.skip + 1} of this deal: {self.kind}{times}"


@dataclass(frozen=True)
class Story:
    """One deal's fate. `number` tells apart several copies of one story that happen at the same time."""

    seed: int
    beginning: str
    edits: tuple[Edit, ...]
    troubles: tuple[Trouble, ...]
    number: int = 0

    @classmethod
    def of(cls, seed: int) -> Story:
        """The same seed, the same story."""
        chance = random.Random(f"story {seed}")
        beginning = _drawn(chance, BEGINNINGS)
        times = sorted(round(chance.uniform(0, LONG), 1) for _ in range(chance.randint(1, 6)))
        troubles = tuple(_trouble(chance, beginning) for _ in range(0 if chance.random() < 0.1 else chance.randint(1, 8)))
        return cls(seed, beginning, tuple(_edit(chance, at) for at in times), troubles)

    def shorter(self) -> Iterator[Story]:
        """The same story without one of its edits or troubles."""
        for place in range(len(self.troubles)):
            yield replace(self, troubles=self.troubles[:place] + self.troubles[place + 1 :])
        for place in range(len(self.edits)):
            yield replace(self, edits=self.edits[:place] + self.edits[place + 1 :])

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: a deal, {self.beginning}", *map(str, self.edits)]
        return "\n".join(lines + (["        meanwhile"] if self.troubles else []) + [str(one) for one in self.troubles])


def _drawn(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


def _edit(chance: random.Random, at: float) -> Edit:
    side: Side = chance.choice(("salesforce", "partner_center"))
    late = round(chance.uniform(1, 3), 1) if side == "salesforce" and chance.random() < 0.2 else 0.0
    return Edit(at, side, chance.choice(list(WINNERS)), late)


def _trouble(chance: random.Random, beginning: str) -> Trouble:
    drawn = chance.random()
    skip = chance.choices((0, 1, 2, 3), (8, 3, 1, 0))[0]
    if drawn < 0.6:
        calls = {call: weight for call, weight in VENDOR_CALLS.items() if call[1] != "POST" or call[0] == CREATED_IN.get(beginning)}
        host, method = chance.choices(list(calls), list(calls.values()))[0]
        where: Side = "salesforce" if host == "salesforce" else "partner_center"
        kinds = [*REFUSALS, *LOST, *LOST, *PROCESS, *PARTIES[where]]
        if method != "PATCH":
            kinds.remove("somebody was quicker")
        return Trouble(where, method, chance.choice(kinds), skip, chance.choice((1, 1, 1, 2)))
    if drawn < 0.8:
        call = _drawn(chance, STORAGE_CALLS)
        kinds = [kind for kind in STORAGE if kind != "somebody was quicker" or call.startswith(("replace", "delete"))]
        kind = chance.choice(kinds)
        # The library tries four times by itself before the connector hears of it.
        return Trouble("storage", call, kind, skip, chance.choice((1, 4, 5)) if kind in ("500", "503", "cut before") else 1)
    if drawn < 0.9:
        return Trouble("queue", "message", chance.choice(QUEUE), skip, chance.choice((1, 1, 3)))
    return Trouble("events", "event", chance.choice(EVENTS), skip, chance.choice((1, 1, 3)))


@dataclass(frozen=True)
class Weather:
    """What befalls everybody at once, at a time of its own."""

    at: float
    kind: str

    def __str__(self) -> str:
        return f"{self.at:4.1f} s  {self.kind}"


WEATHER = {
    "an instance is killed": 3,
    "an instance is frozen for four seconds": 2,
    "access tokens of Partner Center expire": 2,
    "sessions of Salesforce end": 2,
    "the consent is revoked, and given again two seconds later": 1,
    "the certificate of the webhook is rotated": 1,
    "every timer of both instances at once": 3,
}


def weather_of(seed: int) -> tuple[Weather, ...]:
    chance = random.Random(f"weather {seed}")
    return tuple(
        sorted(
            (Weather(round(chance.uniform(0.5, LONG), 1), _drawn(chance, WEATHER)) for _ in range(chance.randint(1, 4))),
            key=lambda one: one.at,
        )
    )
