"""How many calls were made to each vendor today, by function, over all instances."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.world import World

EVERY_SECONDS = 60.0
VENDORS = ("partner_center", "salesforce")


class Spending:
    """This process' part of it. Each process keeps a row of its own a day, so that nothing has to be added up under contention."""

    def __init__(self) -> None:
        self._process = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._told_at: float | None = None
        self._day = ""
        self._before: dict[str, Counter[str]] = {}

    def tell(self, world: World, at_once: bool = False) -> None:
        """Stores the figures, at most once a minute. Raises `TryLater` when storage is out of reach."""
        with self._lock:
            now = world.clock.monotonic()
            if self._told_at is not None and now - self._told_at < EVERY_SECONDS and not at_once:
                return
            self._told_at = now
            day = world.clock.now().date().isoformat()
            counts = {"partner_center": Counter(world.partner_center.calls), "salesforce": Counter(world.salesforce.calls)}
            if day != self._day:
                # The counters run on: what was counted before today is not today's.
                self._before = counts if self._day else {}
                self._day = day
            figures = {f"{vendor}_{flow}": count for vendor, flow, count in self._since(counts)}
        if figures:
            world.state.keep_calls(day, self._process, figures)

    def _since(self, counts: dict[str, Counter[str]]) -> Iterator[tuple[str, str, int]]:
        for vendor, found in counts.items():
            for flow, count in (found - self._before.get(vendor, Counter())).items():
                yield vendor, flow.replace(" ", "_"), count


def spent_today(world: World) -> dict[str, dict[str, int]]:
    """{vendor: {function: calls}} of the day (UTC), as told so far."""
    found: dict[str, Counter[str]] = {vendor: Counter() for vendor in VENDORS}
    for row in world.state.calls_kept(world.clock.now().date().isoformat()):
        for name, count in row.items():
            vendor = next((one for one in VENDORS if name.startswith(f"{one}_")), None)
            if vendor:
                found[vendor][name.removeprefix(f"{vendor}_")] += _number(count)
    return {vendor: dict(sorted(counts.items())) for vendor, counts in found.items()}


def _number(raw: Any) -> int:
    return raw if isinstance(raw, int) else 0
