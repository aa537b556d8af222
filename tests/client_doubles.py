"""What the client tests share: settings without the environment, a clock that tests move, and a vendor played by a list of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import requests
from requests.adapters import BaseAdapter

from shared.clock import Clock
from shared.settings import Settings

NOW = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)

SETTINGS = Settings(
    partner_center_tenant_id="7d23e5ca-19dc-4eaa-aac8-5e6b559f0d1d",
    partner_center_client_id="b5a1c3de-0f5e-4c36-9e0b-6d2f3f0a1c11",
    partner_center_client_secret="simulated-client-secret",
    partner_center_refresh_token="simulated-refresh-token",
    salesforce_login_url="https://fabrikam.my.salesforce.com",
    salesforce_client_id="consumer-key",
    salesforce_client_secret="consumer-secret",
)


def settings(**changes: Any) -> Settings:
    return replace(SETTINGS, **changes)


class SteppedClock(Clock):
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds


class Answers:
    """Answers requests from a list, in order, and keeps what was asked. A surplus request fails the test."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        assert self._answers, f"nobody expected {request.method} {request.url}"
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)

    def adapter(self) -> BaseAdapter:
        return _Adapter(self)


class _Adapter(BaseAdapter):
    """The same list of answers, asked through requests."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        super().__init__()
        self._answer = answer
        self.timeouts: list[Any] = []

    def send(
        self, request: Any, stream: bool = False, timeout: Any = None, verify: Any = True, cert: Any = None, proxies: Any = None
    ) -> Any:
        self.timeouts.append(timeout)
        headers = {name: value if isinstance(value, str) else value.decode() for name, value in request.headers.items()}
        answer = self._answer(httpx.Request(request.method, request.url, headers=headers, content=request.body or b""))
        response = requests.Response()
        response.status_code = answer.status_code
        response._content = answer.content
        response.headers.update(answer.headers)
        response.url, response.request = request.url, request
        return response

    def close(self) -> None:
        pass


def answer(status: int, body: Any = None, **headers: str) -> httpx.Response:
    """An answer with a JSON body; underscores in header names stand for hyphens."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(status, content=content, headers={name.replace("_", "-"): value for name, value in headers.items()})
