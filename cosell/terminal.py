"""What the commands say, and where: results on the output, progress and errors beside it."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

FINE, FOUND, TROUBLE = 0, 1, 2  # as diff and grep do


class Terminal:
    """Results go to `out`, as text or (`--json`) as one JSON document; progress and warnings go to `err`."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, as_json: bool = False) -> None:
        self.out, self.err, self.as_json = out or sys.stdout, err or sys.stderr, as_json

    def say(self, text: str = "") -> None:
        """A line of the result, for people."""
        if not self.as_json:
            print(text, file=self.out)

    def tell(self, document: Any) -> None:
        """The result, for a machine."""
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False, indent=2, default=str), file=self.out)

    def progress(self, text: str) -> None:
        print(text, file=self.err, flush=True)


def listed(title: str, lines: list[str], most: int = 50) -> str:
    """A heading with its number, and the lines under it."""
    shown = [f"  {line}" for line in lines[:most]]
    rest = [f"  … and {len(lines) - most} more (--json lists all)"] if len(lines) > most else []
    return "\n".join([f"{title} ({len(lines)})", *shown, *rest])
