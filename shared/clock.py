"""The time the connector lives by; tests bring their own."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Wall time for what is stored, monotonic time for how long something may still take."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
