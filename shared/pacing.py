"""How fast a vendor may be called: what it asked for itself, and what the operator allows."""

from __future__ import annotations

import threading

from shared.clock import Clock
from shared.errors import TryLater

PATIENCE_SECONDS = 5.0  # a call waits this long for its turn, then the deal does
LIST_PATIENCE_SECONDS = 30.0  # a sweep that lost its place would begin anew
LONGEST_PAUSE_SECONDS = 3600.0
CALLS_OF_A_DEAL = 3  # of those turned away, each comes back to make about so many


class Pause:
    """A vendor's wish to be left alone for a while (Retry-After), kept by every thread of the process."""

    def __init__(self, vendor: str, clock: Clock) -> None:
        self._vendor = vendor
        self._clock = clock
        self._until = 0.0

    def ask(self, seconds: float) -> None:
        """No call is to leave within so many seconds; an earlier wish that reaches further stays."""
        self._until = max(self._until, self._clock.monotonic() + min(seconds, LONGEST_PAUSE_SECONDS))

    def check(self, what: str) -> None:
        """Raises `TryLater` with the rest of the pause; the call was certainly not made."""
        rest = self._until - self._clock.monotonic()
        if rest > 0:
            # Of a short pause every deal makes its own backoff, so that they do not all come back together.
            raise TryLater(f"{what}: {self._vendor} asked for a pause", rest if rest > PATIENCE_SECONDS else None, certain=True)


class Pace:
    """A token bucket: never more than `per_minute` calls within any minute, of which a fifth may come at once.

    A quarter of what may come at once is for writes alone, so that reads never hold up a write that is owed.
    """

    def __init__(self, vendor: str, per_minute: int, clock: Clock) -> None:
        self._vendor = vendor
        self._clock = clock
        self._most = max(1.0, per_minute / 5)
        self._rate = max(per_minute - self._most, per_minute / 2) / 60.0
        self._reserve = self._most / 4 if self._most >= 4 else 0.0
        self._tokens, self._at = self._most, clock.monotonic()
        self._turn = 0.0
        self._lock = threading.Lock()

    def take(self, what: str, *, write: bool = False, patience: float = PATIENCE_SECONDS) -> None:
        """Waits for this call's turn. Raises `TryLater` where that is too far off: each caller is then given a time of its own."""
        with self._lock:
            now = self._clock.monotonic()
            self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self._rate)
            self._at = now
            wait = max(0.0, (1.0 + (0.0 if write else self._reserve) - self._tokens) / self._rate)
            if wait > patience:
                self._turn = max(self._turn, now + wait) + CALLS_OF_A_DEAL / self._rate
                later = min(self._turn - now, LONGEST_PAUSE_SECONDS)
                raise TryLater(f"{what}: as many calls as are allowed go to {self._vendor} now", later, certain=True)
            self._tokens -= 1.0
        if wait:
            self._clock.sleep(wait)
