"""Plain text for a reader in a hurry: headings, numbered steps, aligned facts."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from demo.stage import Seen
from simulator.core import Call

WIDTH = 100
DETAIL = 11  # spaces before what belongs to a line of `then`


class Teller:
    """Prints a story as it happens; counts its steps."""

    def __init__(self) -> None:
        self._step = 0

    def title(self, text: str) -> None:
        self._step = 0
        print(f"\n{text}\n{'-' * len(text)}", flush=True)

    def say(self, text: str) -> None:
        print(textwrap.fill(text, WIDTH), flush=True)

    def step(self, text: str) -> None:
        """What somebody does; what follows from it is told beneath."""
        self._step += 1
        print(flush=True)
        print(textwrap.fill(text, WIDTH, initial_indent=f"{self._step}. ", subsequent_indent="   "), flush=True)

    def then(self, seconds: float, text: str) -> None:
        """What the connector did about it, and how long after the act it stood there."""
        first, *more = _wrapped(text, WIDTH - DETAIL)
        print("\n".join([f"   {seconds:4.1f} s  {first}", *(f"{'':{DETAIL}}{line}" for line in more)]), flush=True)

    def facts(self, rows: Iterable[tuple[str, Any]], indent: int = DETAIL) -> None:
        known = list(rows)
        width = max(len(label) for label, _ in known)
        for label, value in known:
            first, *more = _wrapped(str(value), WIDTH - width - 2 - indent)
            print(f"{'':{indent}}{label:{width}}  {first}", flush=True)
            for line in more:
                print(f"{'':{indent}}{'':{width}}  {line}", flush=True)

    def patch(self, seen: Seen, call: Call) -> None:
        """One JSON Patch as it went over the wire, with the condition it was sent under; empty members of list entries are left out."""
        self.then(seen.seconds(call), "one PATCH, with nothing in it but the change")
        self.fine_print(condition(call))
        for operation in json.loads(call.body):
            self.fine_print(json.dumps(operation | {"value": _filled(operation["value"])}, ensure_ascii=False))

    def update(self, seen: Seen, call: Call, fields: Iterable[str]) -> None:
        """One update of a Salesforce record: the condition it was sent under, these fields, and the newest audit entry."""
        self.then(seen.seconds(call), "one write to Salesforce, with nothing in it but the change and its audit entry")
        self.fine_print(condition(call))
        body = json.loads(call.body)
        self.facts([(name, body[name]) for name in fields] + [("Audit", str(body.get("Audit__c") or "").splitlines()[0])])

    def fine_print(self, text: str) -> None:
        for line in _wrapped(text, WIDTH - DETAIL):
            print(f"{'':{DETAIL}}{line}", flush=True)


def condition(call: Call) -> str:
    """The header that makes a write depend on what was read."""
    for name in ("If-Match", "If-Unmodified-Since"):
        if value := call.headers.get(name.lower()):
            return f"{name}: {value}"
    return "unconditional"


def _filled(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{name: part for name, part in entry.items() if part is not None} if isinstance(entry, dict) else entry for entry in value]


def _wrapped(text: str, width: int) -> list[str]:
    # Addresses and ids stay whole, so that they can be copied.
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]
