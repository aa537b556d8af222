"""Forgetting old history: what was done to a deal is kept for HISTORY_RETENTION_DAYS, links and memory for good."""

from __future__ import annotations

import itertools
from datetime import timedelta

from shared.world import World

SECONDS = 30.0  # of one run: the full sweep, which this is a part of, has five minutes
MOST = 20_000  # entries of one run
BATCH = 100

_CURSOR = "history-retention"


def forget_old_history(world: World) -> int:
    """Removes entries older than the period, name by name, and goes on next time where it had to stop. How many it removed."""
    state, clock = world.state, world.clock
    until = clock.now() - timedelta(days=world.settings.history_retention_days)
    begun, finished, removed = clock.monotonic(), state.cursor(_CURSOR), 0
    for name, entries in itertools.groupby(state.history_keys(until, finished), key=lambda entry: entry[0]):
        while batch := [key for _, key in itertools.islice(entries, BATCH)]:
            if removed + len(batch) > MOST or clock.monotonic() - begun > SECONDS:
                state.move_cursor(_CURSOR, finished)
                return removed
            state.forget_history(name, batch)
            removed += len(batch)
        finished = name
    state.move_cursor(_CURSOR, "")
    return removed
