"""The org's daily Salesforce API calls: what stops so that the writes owed can still be made.

Salesforce tells with every answer how many of the rolling 24 hours' calls are used, by all its clients together. An org that does not tell
is not held back.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, Protocol

from shared.clock import Clock
from shared.codecs import parse_instant
from shared.errors import ConnectorError
from shared.state import State

log = logging.getLogger("cosell")

SAVING_PERCENT, OWED_ONLY_PERCENT = 80, 95
ASK_EVERY = timedelta(minutes=5)  # while calls are stopped, one is spent so often to learn whether they may go on
_DAY = timedelta(days=1)
FLOW = "salesforce_budget"


class Level(IntEnum):
    """What may still be called; each stops more than the one before."""

    FREE = 0
    SAVING = 1
    """Full sweeps, first looks back, looking at parked deals, self-tests and fresh descriptions of the org stop."""
    OWED_ONLY = 2
    """Polls stop as well: only deals that are owed go on, as events, pushes and retries find them."""


_WORDS = {
    Level.FREE: "nothing is stopped",
    Level.SAVING: "full sweeps, first looks and looks at parked deals are stopped",
    Level.OWED_ONLY: "polls of Salesforce are stopped too; only deals that are owed go on",
}


class TellsUsage(Protocol):
    """The part of the Salesforce client that knows."""

    @property
    def api_usage(self) -> tuple[int, int] | None: ...

    @property
    def api_usage_at(self) -> datetime | None: ...

    def ask_usage(self) -> None: ...


class SalesforceBudget:
    """What may be asked of Salesforce now. Methods raise `TryLater` while storage is out of reach."""

    def __init__(self, salesforce: TellsUsage, state: State, clock: Clock) -> None:
        self._salesforce = salesforce
        self._state = state
        self._clock = clock
        self._asked_at: datetime | None = None
        self._said: Level | None = None

    @property
    def saving(self) -> bool:
        """Whether what is not essential is put off."""
        return self._level() >= Level.SAVING

    @property
    def owed_only(self) -> bool:
        """Whether polls are put off, too."""
        return self._level() >= Level.OWED_ONLY

    def report(self) -> dict[str, Any] | None:
        """For `status`; None where Salesforce has not told. Asks nobody."""
        usage, at = self._known()
        if usage is None or at is None:
            return None
        level = _level(usage)
        return {
            "used": usage[0],
            "limit": usage[1],
            "percent": round(100 * usage[0] / usage[1], 1),
            "at": at.isoformat(),
            "level": level.name.lower().replace("_", " "),
            "stopped": _WORDS[level],
        }

    def _level(self) -> Level:
        usage, at = self._known()
        if usage is None or at is None:
            return Level.FREE
        now = self._clock.now()
        # Whoever has stopped calling hears nothing new: now and then a call is spent on the question.
        if _level(usage) and now - at > ASK_EVERY and (self._asked_at is None or now - self._asked_at > ASK_EVERY):
            self._asked_at = now
            with suppress(ConnectorError):
                self._salesforce.ask_usage()
                usage = self._salesforce.api_usage or usage
                self._keep(usage)
        level = _level(usage)
        self._say(level, usage)
        return level

    def _known(self) -> tuple[tuple[int, int] | None, datetime | None]:
        """The newest figure and when it was true: this process', else what any process stored within a day."""
        if self._salesforce.api_usage:
            return self._salesforce.api_usage, self._salesforce.api_usage_at
        stored = [one for one in self._state.flows().values() if one.get("salesforce_api_calls")]
        newest = max(stored, key=lambda one: str(one["at"]), default=None)
        if newest is None or self._clock.now() - parse_instant(str(newest["at"])) > _DAY:
            return None, None
        calls = newest["salesforce_api_calls"]
        return (int(calls["used"]), int(calls["limit"])), parse_instant(str(newest["at"]))

    def _say(self, level: Level, usage: tuple[int, int]) -> None:
        """Once per change, over all processes."""
        if level == self._said:
            return
        if level != int(self._state.flow(FLOW).get("level", Level.FREE)):
            tell = log.warning if level else log.info
            tell("%d of %d Salesforce API calls of the last 24 hours are used: %s", *usage, _WORDS[level])
            self._keep(usage)
        self._said = level

    def _keep(self, usage: tuple[int, int]) -> None:
        calls = {"used": usage[0], "limit": usage[1]}
        self._state.succeeded(FLOW, {"level": int(_level(usage)), "salesforce_api_calls": calls})


def _level(usage: tuple[int, int]) -> Level:
    used, limit = usage
    if limit <= 0:
        return Level.FREE
    percent = 100 * used / limit
    return Level.OWED_ONLY if percent >= OWED_ONLY_PERCENT else Level.SAVING if percent >= SAVING_PERCENT else Level.FREE
