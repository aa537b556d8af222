"""One credential shared by all threads: fetched once, kept while it is good, never asked for in a storm."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from shared.clock import Clock
from shared.errors import SignInFailed, TryLater

T = TypeVar("T")

# How long a final refusal is remembered instead of asked for again.
REFUSAL_SECONDS = 60.0
# While the vendor cannot answer it is asked after this long, then after twice as long, at last once a minute.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 60.0
# A credential the API keeps refusing is not cured by another one: after this many within a minute the old one stays.
FETCHES_PER_MINUTE = 5


class SignIn(Generic[T]):
    """A credential and the rules of asking for it. `fetch` returns it with the seconds it may be used."""

    def __init__(self, fetch: Callable[[], tuple[T, float]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._value: T | None = None
        self._good_until = 0.0
        self._refusal: SignInFailed | TryLater | None = None
        self._refused_until = 0.0
        self._failures = 0
        self._fetched_at: deque[float] = deque(maxlen=FETCHES_PER_MINUTE)

    def current(self) -> T:
        """The credential, fetched if need be by one thread while the others wait for it.

        Raises `SignInFailed` when a person has to act, also for a minute after the vendor said so, and `TryLater`, also while a vendor
        that could not answer is left alone for a moment.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._value is not None and now < self._good_until:
                return self._value
            if self._refusal is not None and now < self._refused_until:
                if isinstance(self._refusal, SignInFailed):
                    raise type(self._refusal)(*self._refusal.args)
                # Where the vendor named no time, each deal keeps its own backoff: ours would bring all of them back at once.
                rest = self._refused_until - now if self._refusal.retry_after else None
                raise TryLater(str(self._refusal), rest, certain=True)
            try:
                value, seconds = self._fetch()
            except SignInFailed as error:
                self._refusal, self._refused_until = error, now + REFUSAL_SECONDS
                raise
            except TryLater as error:
                # The call this credential was for has not been sent.
                error.certain = True
                pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10))
                self._refusal, self._refused_until = error, now + (error.retry_after or pause)
                self._failures += 1
                raise
            self._value, self._good_until, self._refusal, self._failures = value, now + seconds, None, 0
            self._fetched_at.append(now)
            return value

    def forget(self, refused: T | None = None) -> None:
        """Drop the credential after a 401, unless another thread has already replaced the refused one."""
        with self._lock:
            now = self._clock.monotonic()
            storm = len(self._fetched_at) == FETCHES_PER_MINUTE and now - self._fetched_at[0] < 60
            if not storm and (refused is None or refused == self._value):
                self._value = None
