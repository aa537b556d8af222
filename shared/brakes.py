"""The brakes: more writes in one direction within an hour than the operator allows hold that direction until `cosell resume`.

A write is admitted before it is announced. Every process counts what it admits and adds it to the direction's one row every few writes or
seconds, so that a write costs no storage of its own while much is written. What that may overshoot the limit by is the number of instances
times `FEW`. A repetition of a write that was announced before is not asked about: it may have landed already.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared.clock import Clock
from shared.codecs import parse_instant
from shared.errors import ConnectorError, TryLater
from shared.mapping_file import Side
from shared.settings import Settings
from shared.state import State, stamp
from shared.tables import RowChanged, RowExists

log = logging.getLogger("cosell")

DIRECTIONS: dict[Side, str] = {"partner_center": "to-partner-center", "salesforce": "to-salesforce"}
HOUR = timedelta(hours=1)
SLOT = timedelta(minutes=5)  # writes are kept by the twelfth of an hour, so one counts for up to 65 minutes
FEW = 10  # writes of one process before they are told
TOLD_SECONDS = 5.0
_TRIES = 5


class Held(ConnectorError):
    """A create or an answer is to wait, because the brake holds its direction."""

    def __init__(self, side: Side, what: str) -> None:
        super().__init__(f"{what}: {words(side)}")
        self.side = side


def words(side: Side) -> str:
    """What is said of anything that waits."""
    return f"held by the brake {DIRECTIONS[side]} until `cosell resume`"


@dataclass(frozen=True)
class Brake:
    """How one direction stands: since when it is held, the writes within an hour, and how many are allowed."""

    held_since: str = ""
    writes: int = 0
    """Of the last hour; while it holds, what made it hold."""
    limit: int = 0
    opened_at: str = ""


@dataclass
class _Meter:
    """What this process knows of a direction."""

    untold: int = 0
    known: Brake = field(default_factory=Brake)
    told_at: float | None = None


class Brakes:
    """Both directions' brakes, for all threads of a process. Methods raise `TryLater` while storage is out of reach."""

    def __init__(self, settings: Settings, state: State, clock: Clock) -> None:
        self._settings = settings
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()
        self._meters: dict[Side, _Meter] = {side: _Meter() for side in DIRECTIONS}
        self._pairs: tuple[float, int] | None = None

    @property
    def on(self) -> bool:
        """Shadow mode writes nothing, so there is nothing to count."""
        return self._settings.brake_writes_per_hour > 0 and not self._settings.shadow

    @property
    def limit(self) -> int:
        """Writes allowed within an hour: the number set, or the share of the pairs that the last full sweep knew, whichever is more."""
        now = self._clock.monotonic()
        if self._pairs is None or now - self._pairs[0] > SLOT.total_seconds():
            swept = self._state.flow("certificate")
            self._pairs = now, sum(int(swept.get(name) or 0) for name in ("in_agreement", "in_flight", "parked", "leads", "not_reached"))
        return max(self._settings.brake_writes_per_hour, int(self._pairs[1] * self._settings.brake_share_percent / 100))

    def admits(self, side: Side) -> bool:
        """Whether one more write may go to that side now; counts it if so. The write that is one too many makes the brake hold."""
        if not self.on:
            return True
        with self._lock:
            meter = self._meters[side]
            meter.untold += 1
            known, age = meter.known, self._clock.monotonic() - (meter.told_at or 0.0)
            few = min(FEW, max(1, known.limit // 50))
            fresh = meter.told_at is not None and age < TOLD_SECONDS and not known.held_since
            if not fresh or meter.untold >= few or known.writes + meter.untold > known.limit:
                self._tell(side, meter)
            if meter.known.held_since:
                meter.untold = 0
                return False
            return True

    def give_back(self, side: Side) -> None:
        """A write that was admitted certainly never left."""
        if self.on:
            with self._lock:
                self._meters[side].untold -= 1

    def foresee(self, side: Side, writes: int) -> bool:
        """Holds before the first of `writes` planned at once, where they are more than an hour allows. Whether the direction is held."""
        if not self.on:
            return False
        limit = self.limit

        def change(brake: Brake, slots: dict[str, int]) -> tuple[Brake, dict[str, int]]:
            if brake.held_since or writes <= limit:
                return brake, slots
            return replace(brake, held_since=self._now, writes=writes, limit=limit), slots

        before, after = self._change(side, change)
        self._say(side, before, after, "planned by one full sweep")
        return bool(after.held_since)

    def release(self, sides: Iterable[Side]) -> dict[Side, int]:
        """Opens these directions and makes their deals due; the hour's count begins anew. The number of deals by direction.

        What waited passes whatever is counted meanwhile, and so does what follows from it in a direction that is open: a create writes back.
        """
        opened = tuple(sides)
        for side in opened:
            self._change(side, lambda brake, slots: (Brake(opened_at=self._now), {}))
            log.warning("the brake %s was released", DIRECTIONS[side])
        return {side: self._let_go(side) for side in opened}

    def finish_release(self) -> None:
        """Lets go what a release of the last hour missed, because it was stopped half-way, or what a brake held that is now turned off."""
        for side in DIRECTIONS:
            brake = self._read(side)[0]
            if brake.held_since and not self._settings.brake_writes_per_hour:
                self.release([side])
            elif not brake.held_since and brake.opened_at and self._clock.now() - parse_instant(brake.opened_at) < HOUR:
                self._let_go(side)

    def _let_go(self, side: Side) -> int:
        follows = (one for one in DIRECTIONS if one != side and not self._read(one)[0].held_since)
        return self._state.release(side, (side, *follows))

    def look(self, side: Side) -> Brake:
        """How the direction stands, as all instances know it."""
        if not self.on:
            return Brake()
        brake, slots = self._read(side)[:2]
        return brake if brake.held_since else replace(brake, writes=sum(slots.values()), limit=self.limit)

    # -- the row -----------------------------------------------------------------------------------------------------------------------

    @property
    def _now(self) -> str:
        return stamp(self._clock.now())

    def _tell(self, side: Side, meter: _Meter) -> None:
        limit, untold = self.limit, meter.untold

        def add(brake: Brake, slots: dict[str, int]) -> tuple[Brake, dict[str, int]]:
            writes = sum(slots.values()) + untold
            if brake.held_since:
                return brake, slots
            if writes > limit:
                return replace(brake, held_since=self._now, writes=writes, limit=limit), slots
            slot = _slot(self._clock.now())
            return replace(brake, writes=writes, limit=limit), {**slots, slot: slots.get(slot, 0) + untold}

        before, meter.known = self._change(side, add)
        meter.untold, meter.told_at = 0, self._clock.monotonic()
        self._say(side, before, meter.known, "within an hour")

    def _say(self, side: Side, before: Brake, after: Brake, when: str) -> None:
        if after.held_since and not before.held_since:
            log.error(
                "the brake holds changes %s: %d writes %s, the limit is %d; see `cosell status`, and `cosell resume` to let them go",
                DIRECTIONS[side],
                after.writes,
                when,
                after.limit,
            )

    def _read(self, side: Side) -> tuple[Brake, dict[str, int], str | None]:
        stored = self._state.tables.get("cursors", "brakes", side)
        if stored is None:
            return Brake(), {}, None
        row = stored.row
        # A slot counts until its last write is an hour old.
        oldest = _slot(self._clock.now() - HOUR)
        slots = {at: count for at, count in json.loads(str(row.get("slots") or "{}")).items() if at >= oldest}
        brake = Brake(
            str(row.get("held_since") or ""), int(row.get("writes") or 0), int(row.get("limit") or 0), str(row.get("opened_at") or "")
        )
        return brake, slots, stored.etag

    def _change(self, side: Side, change: Callable[[Brake, dict[str, int]], tuple[Brake, dict[str, int]]]) -> tuple[Brake, Brake]:
        """The row before and after; nothing is stored where nothing changes."""
        for _ in range(_TRIES):
            brake, slots, etag = self._read(side)
            after, slots_after = change(brake, slots)
            if (after, slots_after) == (brake, slots):
                return brake, after
            row: dict[str, Any] = {**vars(after), "slots": json.dumps(slots_after)}
            try:
                if etag is None:
                    self._state.tables.insert("cursors", "brakes", side, row)
                else:
                    self._state.tables.replace("cursors", "brakes", side, row, etag)
            except (RowExists, RowChanged):
                continue
            return brake, after
        raise TryLater(f"the brake {DIRECTIONS[side]} is being counted by many at once", 1.0, certain=True)


def _slot(time: datetime) -> str:
    return stamp(time.replace(minute=time.minute - time.minute % 5, second=0, microsecond=0))
