"""Timer triggers: NCRONTAB schedules, past-due runs, one run at a time."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from croniter import CroniterError, croniter

from devhost.worker import Function, FunctionFailed, TypedData

MONTHS = ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS = ((), (), (), (), MONTHS, DAYS)  # second, minute, hour, day of month, month, day of week

# With a shorter interval Azure keeps no status, so nothing can be past due (useMonitor).
SHORTEST_MONITORED_SECONDS = 60

log = logging.getLogger("devhost.timers")


class Schedule:
    """An NCRONTAB expression of six fields, in UTC.

    It is not cron: day of month AND day of week must match, weekdays are 0 to 6, and L, W, # and ? do not exist. croniter takes all of
    those, so they are refused here. So are ranges that run backwards, which the two read differently.
    """

    def __init__(self, expression: str) -> None:
        fields = expression.split()
        if len(fields) != len(FIELDS):
            raise ValueError(f"NCRONTAB {expression!r} must have six fields: second minute hour day month weekday")
        for text, names in zip(fields, FIELDS, strict=True):
            for part in text.split(","):
                _check(expression, part, names)
        try:
            self._cron = croniter(expression, second_at_beginning=True, day_or=False)
            self.next(datetime.now(UTC))  # 31 February has no next tick
        except CroniterError as error:
            raise ValueError(f"NCRONTAB {expression!r}: {error}") from None
        self.expression = expression

    def next(self, after: datetime) -> datetime:
        """The first tick strictly later than `after`."""
        self._cron.set_current(after, force=True)
        tick: datetime = self._cron.get_next(datetime)
        return tick

    def interval_seconds(self, now: datetime) -> float:
        """From the next tick to the one after it."""
        tick = self.next(now)
        return (self.next(tick) - tick).total_seconds()


def _check(expression: str, part: str, names: tuple[str, ...]) -> None:
    match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/\d+)?", part)
    try:
        if not match:
            raise ValueError
        numbers = [names.index(text.upper()) if text.upper() in names else int(text) for text in match.groups() if text]
    except ValueError:
        raise ValueError(f"NCRONTAB {expression!r} does not allow {part!r}") from None
    if numbers != sorted(numbers):
        raise ValueError(f"NCRONTAB {expression!r}: the range {part!r} runs backwards")
    if names is DAYS and max(numbers, default=0) > 6:
        raise ValueError(f"NCRONTAB {expression!r}: weekdays are 0 (Sunday) to 6")


class TimerStatus:
    """When each timer ran last and is due next. It survives the process where it is given a file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, dict[str, str]] = json.loads(path.read_text()) if path and path.exists() else {}

    def __getitem__(self, name: str) -> dict[str, str] | None:
        return self._known.get(name)

    def __setitem__(self, name: str, status: dict[str, str]) -> None:
        self._known[name] = status
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._known, indent=2))


class Timer:
    """One timer function: keeps its schedule, runs it once at a time, and does not repeat a failed run before the next tick."""

    def __init__(
        self, function: Function, schedule: Schedule, status: TimerStatus, invoke: Callable[[Function, TypedData], Awaitable[Any]]
    ) -> None:
        self.name = function.name
        self.schedule = schedule
        self._function = function
        self._invoke = invoke
        self._status = status
        self._one_at_a_time = asyncio.Lock()
        seconds = schedule.interval_seconds(datetime.now(UTC))
        self._monitored = function.trigger.get("useMonitor", True) and seconds >= SHORTEST_MONITORED_SECONDS

    async def run(self, past_due: bool = False) -> None:
        """Run the function now. Raises FunctionFailed."""
        async with self._one_at_a_time:
            status = self._status[self.name]
            info = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due}
            started = datetime.now(UTC)
            try:
                await self._invoke(self._function, TypedData(json=json.dumps(info)))
            finally:
                self._note(last=started)

    async def keep_going(self, stop: asyncio.Event) -> None:
        """Run at every tick until `stop`; first at once, if a tick was missed while nothing ran or the function asks for it."""
        status = self._status[self.name]
        past_due = bool(self._monitored and status and datetime.fromisoformat(status["Next"]) <= datetime.now(UTC))
        if past_due or self._function.trigger.get("runOnStartup"):
            await self._attempt(past_due)
        elif not status:
            self._note(last=None)
        tick = datetime.now(UTC)
        while not stop.is_set():
            now = datetime.now(UTC)
            tick = self.schedule.next(max(now, tick))  # a sleep may end a little early; a tick missed during a run is skipped
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), (tick - now).total_seconds())
                return
            await self._attempt(past_due=False)

    async def _attempt(self, past_due: bool) -> None:
        try:
            await self.run(past_due)
        except FunctionFailed as error:
            log.error("%s failed, next run at its next tick: %s", self.name, error)

    def _note(self, last: datetime | None) -> None:
        now = datetime.now(UTC)
        never = datetime.min.replace(tzinfo=UTC)
        stamps = {"Last": last or never, "Next": self.schedule.next(now), "LastUpdated": now}
        self._status[self.name] = {name: stamp.isoformat() for name, stamp in stamps.items()}
