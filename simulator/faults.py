"""Scripted trouble: refusals, throttling, slowness, lost answers. Deterministic: each fault says which call it hits and how often."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from simulator.core import Host, Request, Response


@dataclass
class Fault:
    """What happens to the next `count` calls that match, after `skip` of them went through unharmed."""

    host: Host | None = None
    method: str | None = None
    path: str = "*"  # shell pattern, without the query
    status: int = 0  # answer with this, without doing anything
    retry_after: int | None = None  # seconds
    html: bool = False  # the answer is a gateway's page instead of JSON
    cut: Literal["", "before", "after"] = ""  # the connection ends before the work is done, or after it was
    delay: float = 0.0  # seconds of real time before the call is looked at
    action: Callable[[Request], None] | None = None  # runs before the call is looked at: somebody was quicker
    afterwards: Callable[[Request], None] | None = None  # runs when the work is done and nothing is answered yet
    count: int = 1
    skip: int = 0

    def matches(self, request: Request) -> bool:
        return self.host in (None, request.host) and self.method in (None, request.method) and fnmatch.fnmatch(request.path, self.path)

    def response(self) -> Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.html:
            page = f"<html><head><title>{self.status}</title></head><body><h1>Service Unavailable</h1></body></html>"
            return Response(self.status, page.encode(), {"Content-Type": "text/html", **headers})
        if self.status == 429:  # the gateway's shape, in front of either host (2.9)
            message = f"Rate limit is exceeded. Try again in {self.retry_after or 1} seconds."
            return Response.of(429, {"statusCode": 429, "message": message}, headers)
        code = "serviceNotAvailable" if self.status in (503, 504) else "generalException"
        return Response.of(self.status, {"error": {"code": code, "message": "Something went wrong.", "target": "referral"}}, headers)


class Faults:
    """The faults still to come, in the order they were added, and the latency of each host in seconds."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.latency: dict[Host, float] = {}

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self.latency.clear()

    def take(self, request: Request) -> Fault | None:
        """The fault this call meets, used up by it. The control host meets none."""
        if request.host == "control":
            return None
        with self._lock:
            for fault in self._faults:
                if not fault.count or not fault.matches(request):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.count -= 1
                return fault
        return None
