"""What a piece of work goes back to: the trace it began with, and the function that does it.

A trace id (W3C trace context) is given to an event, a push or a timer by the Functions host. A queue message is a record name and carries
no trace; the owed row does, so the id survives the queue and a lost message: it stands in the log lines of the run, in history, and goes
to Partner Center as the correlation id of every call. Where OpenTelemetry is installed, a run is a span of that trace.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

log = logging.getLogger("cosell")

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_parent: ContextVar[str] = ContextVar("trace_parent", default="")
_flow: ContextVar[str] = ContextVar("flow", default="by hand")


@contextlib.contextmanager
def work(flow: str, trace_parent: str | None = None) -> Iterator[None]:
    """Everything inside is done by this function and belongs to this trace; without one, to a new one."""
    given = trace_parent if trace_parent and _PARENT.fullmatch(trace_parent) else _fresh()
    flow_token, parent_token = _flow.set(flow), _parent.set(given)
    try:
        yield
    finally:
        _parent.reset(parent_token)
        _flow.reset(flow_token)


@contextlib.contextmanager
def resumed(trace_parent: str, name: str) -> Iterator[None]:
    """The trace in which a record was marked goes on here, as a span of its own where OpenTelemetry is installed."""
    token = _parent.set(trace_parent if _PARENT.fullmatch(trace_parent) else _parent.get() or _fresh())
    try:
        with _span(name, _parent.get()):
            yield
    finally:
        _parent.reset(token)


def flow() -> str:
    """The function at work, for counting calls."""
    return _flow.get()


def trace_parent() -> str:
    """For the owed row; empty outside any work."""
    return _parent.get()


def trace_id() -> str:
    """32 hexadecimal digits; empty outside any work."""
    found = _PARENT.fullmatch(_parent.get())
    return found[1] if found else ""


def correlation_id() -> str:
    """The trace id as the UUID that Partner Center asks for; a new one outside any work."""
    return str(uuid.UUID(trace_id())) if trace_id() else str(uuid.uuid4())


def tell(event: str, **fields: Any) -> None:
    """One structured line: the event's name, then its fields as JSON, for queries. No names and values of a deal."""
    log.info("%s %s", event, json.dumps({**fields, "trace": trace_id()}, ensure_ascii=False, default=str))


def _fresh() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


@contextlib.contextmanager
def _span(name: str, trace_parent: str) -> Iterator[None]:
    try:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        yield
        return
    # Given by hand: the worker library 1.3.0 does not attach the incoming trace to synchronous functions.
    parent = TraceContextTextMapPropagator().extract({"traceparent": trace_parent})
    with trace.get_tracer("cosell").start_as_current_span(name, context=parent):
        yield
