"""One run of the worker for one owed name: what it carries, and the three ways it can end early."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal

from shared.brakes import words
from shared.codecs import CHECK, CROSS, mark_of, parse_instant
from shared.errors import ConnectorError, Gone, Refused, TryLater, VersionConflict
from shared.mapping import SALESFORCE, Mapping, Record
from shared.mapping_file import Side
from shared.org import Reading
from shared.planning import AGREED
from shared.state import Owed, Pair, stamp
from shared.world import World
from shared.writing import audit_text, name_with_mark, says_already, told_fields

log = logging.getLogger("cosell")

Kind = Literal["agreed", "wrote", "created", "again", "skipped", "parked", "held", "later", "idle"]

# Of many wake-ups: a queue is worked off in order, and an edit made after a mass update must not wait for all of it.
AT_ONCE = 100
PER_SECOND = 20
MOST_WAITING = 60 * PER_SECOND  # wake-ups on their way: what is worked off at their pace until `resume_owed_work` looks again

# Names of the original's flows, as history gives them.
CREATE_COSELL_REFERRAL = "Create Co-sell Referral"
TO_PARTNER_CENTER = "Salesforce to Partner Center"
TO_SALESFORCE = "Partner Center to Salesforce"
MENDED = "synchronized again"
UNDO = "undo"
MICROSOFTS_UPDATES = "Partner Center Microsoft Co-sell Referral Updates to Salesforce"


@dataclass(frozen=True)
class Outcome:
    """What a run came to, for the log, the CLI and the tests."""

    name: str
    kind: Kind
    text: str = ""


@dataclass
class Carried:
    """What an earlier round of the same invocation read, so that the next one need not read it again."""

    reading: Reading | None = None
    microsoft: dict[str, Any] | None = None
    claimed: float = 0.0  # monotonic, from before the claim's deadline was set: storing the claim may take its time


@dataclass(frozen=True)
class Run:
    """A run: the world, the owed row with the ETag read before anything else [N4], and who works."""

    world: World
    owed: Owed
    holder: str
    carried: Carried = field(default_factory=Carried)
    stays_parked: bool = False  # one step waits for a person; the rest of the deal goes on
    holds: tuple[Side, ...] = ()  # directions in which something waits for the brake; the rest of the deal goes on

    @property
    def now(self) -> datetime:
        return self.world.clock.now()

    @property
    def mapping(self) -> Mapping:
        return self.world.org.shape.mapping

    def admitted(self, side: Side) -> bool:
        """Whether the brake lets one more write go to that side; for a deal that an operator released it always does."""
        return side in self.owed.released or self.world.brakes.admits(side)

    def ended(self, pair: Pair, text: str, **changes: Any) -> Pair:
        """The compare-and-set that every run ends in, also one that found nothing to do [N5, N12]."""
        saved = replace(pair, outcome=text, checked_at=stamp(self.now), lease_until="", holder="", **changes)
        if text not in (pair.outcome, AGREED):
            self.world.state.record(pair.name, "outcome", text)
        return self.world.state.save(saved)

    def done(self, kind: Kind, text: str, edited: float | None = None) -> Outcome:
        """Clears the owed row with its ETag; when it was marked again meanwhile, the run repeats [N3].

        `edited` is how many seconds ago the change that was written was made, for `status`.
        """
        if self.holds:
            return self._held(text)
        if self.stays_parked:
            self.world.state.park(self.owed, self.owed.parked, self.owed.refused)
            return Outcome(self.owed.name, kind, text)
        if self.world.state.clear(self.owed):
            if kind == "wrote":
                self.world.state.took((self.now - parse_instant(self.owed.due)).total_seconds(), edited)
            return Outcome(self.owed.name, kind, text)
        return Outcome(self.owed.name, "again", f"{text}; marked again meanwhile")

    def held(self, side: Side, text: str) -> Outcome:
        """A step that waits for the brake, told once in history."""
        if side not in self.owed.held:
            self.world.state.record(self.owed.name, "held", text)
        return replace(self, holds=(*self.holds, side)).done("held", text)

    def _held(self, text: str) -> Outcome:
        """Puts the name aside until an operator resumes, or somebody marks it again. Nobody is asked meanwhile."""
        reason = "; ".join(f"changes are {words(side)}" for side in dict.fromkeys(self.holds))
        owed = self.owed if self.stays_parked else replace(self.owed, parked="", refused="")
        if not self.world.state.hold(owed, reason, self.holds):
            return Outcome(owed.name, "again", f"{text}; marked again meanwhile")
        if not all(self.world.brakes.look(side).held_since for side in self.holds):
            # Released while this run was under way: whoever looked for held deals may have looked before there was this one.
            self.world.state.mark(owed.name)
            wake(self.world, owed.name)
        return Outcome(owed.name, "held", text)

    def skipped(self, text: str) -> Outcome:
        """Nothing to do for a name that has no pair; history keeps the reason under the name itself."""
        self.world.state.record(self.owed.name, "skipped", text)
        return self.done("skipped", text)

    def later(self, text: str, delay: float | None = None, failed: bool = True) -> Outcome:
        """Due again after a delay: what the vendor asked for, or a backoff from seconds to 50 minutes.

        So whatever an outage put off is tried again within an hour of its end.
        """
        attempts = self.owed.attempts + failed
        if not delay:
            delay = min(2400.0, 2.0 ** min(attempts, 12)) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, guards nothing
        if self.world.state.postpone(self.owed, self.now + timedelta(seconds=delay), text, attempts):
            wake(self.world, self.owed.name, delay)
        return Outcome(self.owed.name, "later", f"{text}; again in {delay:.0f} s")

    def parked(self, text: str, refused: str, pair: Pair | None = None, reading: Reading | None = None) -> Outcome:
        """Puts the name aside until a person changes something, and tells the seller once."""
        if pair is not None:
            self.world.state.record(pair.name, "parked", text)
        if reading is not None and (pair is None or "salesforce" not in pair.known.announced):
            self.tell_seller(reading, text, CROSS)
        if not self.world.state.park(self.owed, text, refused, self.holds):
            return Outcome(self.owed.name, "again", f"{text}; marked again meanwhile")
        return Outcome(self.owed.name, "parked", text)

    def mended(self, reading: Reading) -> None:
        """Takes a ✗ back once nothing stands in the way any more."""
        name = reading.record.get(self.mapping.by_name["title"].salesforce)
        if self.stays_parked or self.holds:
            return
        crossed = mark_of(name) == CROSS and self.mapping.switches.check_mark_in_name
        if self.owed.parked or crossed or reading.record.get(self.mapping.opportunity.next_step_field):
            self.tell_seller(reading, MENDED, CHECK)

    def tell_seller(self, reading: Reading, text: str, mark: str) -> None:
        """Audit and mark, only when the text is new, so that the poll that sees our entry does not wake us in a circle.

        No announcement is needed: no mapped value changes. The reading may be older than our own writes of this run.
        """
        audit_field, told = self.mapping.opportunity.audit_field, False
        for _ in range(3):
            record = reading.record
            if says_already(self.mapping, record.get(audit_field), text) or self.world.settings.shadow:
                return
            if not told and not self.admitted(SALESFORCE):
                return  # a mass of reasons rewrites opportunities as well; each stands in status and history
            told = True
            audit = audit_text(self.mapping, self.now, text, record.get(audit_field))
            next_step = text if mark == CROSS else ""
            fields = {
                audit_field: audit,
                **name_with_mark(self.mapping, record, mark),
                **told_fields(self.mapping, record, self.now, next_step),
            }
            try:
                if reading.settled:
                    self.world.salesforce.update("Opportunity", str(record["Id"]), fields, unmodified_since=reading.modified)
                    return
                self.world.clock.sleep(1)
            except VersionConflict:
                pass
            except (Refused, Gone, TryLater) as error:
                # The reason stands in status and history; an org that refuses the entry itself cannot be told.
                log.warning("the reason could not be written to the opportunity: %s", type(error).__name__)
                return
            try:
                reading = self.world.org.opportunity(str(record["Id"]))
            except ConnectorError:
                return


def wake(world: World, name: str, delay: float = 0) -> None:
    """Sends a wake-up; its failure is only logged, because the owed row is found by `resume_owed_work`."""
    try:
        world.waker.wake(name, min(delay, 3600.0))
    except TryLater as error:
        log.warning("no wake-up was sent for %s: %s", name, error)


def wake_all(world: World, names: Iterable[str]) -> int:
    """Wakes many deals: the first at once, the rest at a pace that leaves room for whoever edits a single deal meanwhile.

    No more than a minute's worth, since a timer has five minutes: who is marked and not woken is found by `resume_owed_work`. The
    number of wake-ups sent.
    """
    sent = 0
    for sent, name in enumerate(islice(names, MOST_WAITING), 1):
        wake(world, name, max(0.0, (sent - AT_ONCE) / PER_SECOND))
    return sent


def content_hash(mapping: Mapping, *records: Record, also: Any = None) -> str:
    """Changes when a mapped value on either side does, or the mapping; not when our own audit entry is written."""
    content = [[[dict(record.values), dict(record.unread)] for record in records], also]
    return hashlib.sha256(json.dumps([mapping.fingerprint, content], sort_keys=True, default=str).encode()).hexdigest()
