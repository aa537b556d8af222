"""Plain text for a reader in a hurry: headings, numbered steps, aligned facts."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from demo.stage import Seen
from simulator.core import Call

WIDTH = 100


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
        print(f"   {seconds:4.1f} s  {text}", flush=True)

    def facts(self, rows: Iterable[tuple[str, Any]]) -> None:
        known = list(rows)
        width = max(len(label) for label, _ in known)
        for label, value in known:
            first, *more = textwrap.wrap(str(value), WIDTH - width - 13) or [""]
            print(f"           {label:{width}}  {first}", flush=True)
            for line in more:
                print(f"           {'':{width}}  {line}", flush=True)

    def patch(self, seen: Seen, call: Call) -> None:
        """One write as it went over the wire, with the condition it was sent under."""
        self.then(seen.seconds(call), f"one PATCH, with nothing in it but the change ({condition(call)})")
        body = json.loads(call.body)
        for line in body if isinstance(body, list) else [body]:
            print(textwrap.indent(_one_line(line), " " * 11), flush=True)


def condition(call: Call) -> str:
    """The header that makes a write depend on what was read."""
    for name in ("If-Match", "If-Unmodified-Since"):
        if value := call.headers.get(name.lower()):
            return f"{name}: {value}"
    return "unconditional"


def _one_line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "\n".join(textwrap.wrap(text, WIDTH - 11, break_on_hyphens=False, subsequent_indent=" "))
