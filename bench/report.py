"""The tables, as markdown that also reads well in a terminal."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Budget:
    """A number of calls that was promised as the most, beside the number counted."""

    calls: str
    most: int
    counted: int

    @property
    def kept(self) -> bool:
        return self.counted <= self.most

    def __str__(self) -> str:
        return f"{self.calls} ≤ {self.most}" + ("" if self.kept else f", BROKEN: {self.counted}")


@dataclass(frozen=True)
class Situation:
    """Calls to the vendors in one situation: reads and writes of Partner Center, then of Salesforce."""

    name: str
    calls: tuple[int, int, int, int]
    budgets: tuple[Budget, ...] = ()

    def broken(self) -> list[str]:
        return [f"{self.name}: {budget}" for budget in self.budgets if not budget.kept]


@dataclass(frozen=True)
class Rate:
    """How long a number of things took, beside the time no program could undercut. `floor` is 0 where there is none."""

    what: str
    number: int
    seconds: float
    floor: float = 0.0
    floor_is: str = ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def situations(rows: Iterable[Situation]) -> str:
    head = ("situation", "PC reads", "PC writes", "SF reads", "SF writes", "budget")
    return table(head, ((row.name, *map(str, row.calls), "; ".join(map(str, row.budgets))) for row in rows))


def rates(rows: Iterable[Rate]) -> str:
    return table(
        ("what", "number", "took", "per second", "floor", "ratio", "the floor is"),
        (
            (
                row.what,
                str(row.number),
                f"{row.seconds:.2f} s",
                f"{row.number / row.seconds:.1f}",
                f"{row.floor:.2f} s" if row.floor else "",
                f"{row.seconds / row.floor:.1f}" if row.floor else "",
                row.floor_is,
            )
            for row in rows
        ),
    )


def machine() -> str:
    """The machine in one line, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
