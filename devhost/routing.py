"""From an HTTP request to a function and back, with the habits of the Functions host."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from devhost.worker import Function, Message, Result, TypedData

CONSTRAINTS = {"int": r"-?\d+", "long": r"-?\d+", "alpha": r"[A-Za-z]+", "guid": r"[0-9A-Fa-f-]{36}", "bool": r"(?:true|false)"}


@dataclass(frozen=True)
class Route:
    """One HTTP function and where it is found. No methods means all of them."""

    function: Function
    template: str
    methods: frozenset[str]
    level: str
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, function: Function, template: str, prefix: str) -> "Route":
        """Raises ValueError for a template that devhost does not understand."""
        trigger = function.trigger
        full = "/".join(part for part in (prefix, template.strip("/")) if part)
        methods = frozenset(method.upper() for method in trigger.get("methods") or ())
        return cls(function, f"/{full}", methods, str(trigger.get("authLevel") or "function").lower(), _pattern(full))


def find(routes: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The most specific route and its values; None also for a path that exists with another method: Azure answers 404, not 405."""
    found = [
        (route, match) for route in routes if (match := route.pattern.fullmatch(path.strip("/"))) and method in (route.methods or {method})
    ]
    if not found:
        return None
    route, match = min(found, key=lambda one: one[0].template.count("{"))
    return route, {name: value for name, value in match.groupdict().items() if value is not None}


def request_data(scope: Mapping[str, Any], body: bytes, params: Mapping[str, str]) -> TypedData:
    """An ASGI request as the host hands it to the worker: lower-case header names, repeated values joined, empty query values dropped."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        _join(headers, name.decode("latin-1").lower(), value.decode("latin-1"))
    query: dict[str, str] = {}
    for key, value in parse_qsl(scope["query_string"].decode("latin-1")):
        _join(query, key, value)
    host = headers.get("host", "localhost")
    path = scope.get("raw_path") or scope["path"].encode()
    question = b"?" + scope["query_string"] if scope["query_string"] else b""
    url = f"{scope.get('scheme', 'http')}://{host}{(path + question).decode('latin-1')}"
    content = TypedData(bytes=body) if body else TypedData()
    return TypedData(http=Message(method=scope["method"], url=url, headers=headers, params=dict(params), query=query, body=content))


def response(result: Result) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of a function's answer. Nothing at all is 204."""
    kind = result.value.WhichOneof("data") if result.value is not None else None
    if kind is None:
        return 204, [], b""
    if kind != "http":
        content = getattr(result.value, kind)
        return 200, [(b"content-type", b"text/plain; charset=utf-8")], content if isinstance(content, bytes) else str(content).encode()
    http = result.value.http
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in http.headers.items()]
    headers += [(b"set-cookie", _cookie(cookie).encode("latin-1")) for cookie in http.cookies or ()]
    return int(http.status_code), headers, http.body.bytes or b""


def _join(into: dict[str, str], name: str, value: str) -> None:
    into[name] = f"{into[name]},{value}" if name in into else value


def _cookie(cookie: Message) -> str:
    parts = [f"{cookie.name}={cookie.value}"]
    for attribute, name in (("domain", "Domain"), ("path", "Path"), ("max_age", "Max-Age")):
        if (given := getattr(cookie, attribute)) and given.value not in (None, ""):
            parts.append(f"{name}={given.value}")
    parts += [
        name for attribute, name in (("secure", "Secure"), ("http_only", "HttpOnly")) if (on := getattr(cookie, attribute)) and on.value
    ]
    return "; ".join(parts + ([f"SameSite={cookie.same_site}"] if cookie.same_site else []))


def _pattern(template: str) -> re.Pattern[str]:
    pattern = ""
    for segment in template.split("/"):
        slash = "/" if pattern else ""
        parameter = re.fullmatch(r"\{(?P<rest>\*?)(?P<name>\w+)(?::(?P<kind>\w+))?(?P<optional>\??)\}", segment)
        if not parameter:
            if "{" in segment:
                raise ValueError(f"devhost does not understand {segment!r} in the route {template!r}")
            pattern += slash + re.escape(segment)
            continue
        kind = parameter["kind"]
        if kind and kind not in CONSTRAINTS:
            raise ValueError(f"devhost does not know the constraint {kind!r} in the route {template!r}")
        value = f"{slash}(?P<{parameter['name']}>{'.*' if parameter['rest'] else CONSTRAINTS.get(kind or '', '[^/]+')})"
        pattern += f"(?:{value})?" if parameter["optional"] or parameter["rest"] else value
    return re.compile(pattern, re.IGNORECASE)
