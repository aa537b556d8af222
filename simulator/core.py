"""What every part of the simulator stands on: requests, answers, the clock and the journal of calls."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qsl

Host = Literal["entra", "partner_center", "webhooks", "certificates", "salesforce", "control"]

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Request:
    """One HTTP request. `path` is still percent-encoded; `query` is the raw text after `?`; header names are lower case."""

    host: Host
    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def parameters(self) -> dict[str, str]:
        """Query parameters, decoded; the last one wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def form(self) -> dict[str, str]:
        """The body read as a form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self) -> Any:
        """The body read as JSON; raises ValueError."""
        return json.loads(self.body.decode("utf-8"))


@dataclass(frozen=True)
class Response:
    """One HTTP answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
        """A JSON answer."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(status, body, {"Content-Type": "application/json;charset=UTF-8", **(headers or {})})

    def json(self) -> Any:
        return json.loads(self.body)


class ConnectionCut(Exception):
    """The connection ends without an answer. Whatever the handler did before raising it has happened."""


class Clock:
    """The time both vendors live in: real time plus an offset, or a frozen time that only `advance` moves."""

    def __init__(self, frozen_at: datetime | None = None) -> None:
        self._frozen = frozen_at
        self._offset = timedelta()

    def now(self) -> datetime:
        """Aware, in UTC."""
        return (self._frozen or datetime.now(UTC)) + self._offset

    def advance(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Call:
    """One line of the journal: what was asked and what it got."""

    host: Host
    method: str
    path: str
    query: str
    status: int
    at: datetime
    headers: Mapping[str, str]
    body: bytes

    @property
    def mutating(self) -> bool:
        """Whether it may have changed a vendor's record (token requests and reads through POST do not count)."""
        return self.host in ("partner_center", "webhooks", "salesforce") and self.method in MUTATING and "/oauth2/" not in self.path


class Journal:
    """Every call the vendors received, oldest first."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def calls(self, host: Host | None = None, since: int = 0) -> list[Call]:
        """Calls from position `since` on, of one host or of all."""
        with self._lock:
            return [call for call in self._calls[since:] if host is None or call.host == host]

    def position(self) -> int:
        """Where the next call will stand; give it to `calls` as `since`."""
        with self._lock:
            return len(self._calls)
