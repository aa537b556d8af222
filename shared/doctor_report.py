"""What the doctor says: one row for each thing it found, and the whole of it as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from shared.errors import ConnectorError

Verdict = Literal["green", "amber", "red", "not checked"]
Area = Literal["connector", "storage", "Partner Center", "Salesforce"]

OPERATOR = "whoever runs the connector"
ENTRA_ADMIN = "an Entra administrator"
AZURE_ADMIN = "whoever administers the Azure subscription"
REFERRALS_ADMIN = "a person with the Referrals admin role in Partner Center"
SALESFORCE_ADMIN = "a Salesforce administrator"
MAPPER = "whoever keeps the mapping"


@dataclass(frozen=True)
class Check:
    """One row. A check that found several things has a row for each, since each has its own remedy."""

    name: str
    state: Verdict
    finding: str
    """In plain words; for `not checked` the reason."""
    remedy: str = ""
    who: str = ""
    """Who can apply the remedy."""


@dataclass(frozen=True)
class Report:
    """All rows, in the order of the areas."""

    checks: tuple[tuple[Area, Check], ...]

    @property
    def state(self) -> Verdict:
        """The worst of all; `not checked` weighs nothing, because what prevented a check has a row of its own."""
        states = {check.state for _, check in self.checks}
        return "red" if "red" in states else "amber" if "amber" in states else "green"

    def count(self, state: Verdict) -> int:
        return sum(check.state == state for _, check in self.checks)

    def document(self) -> dict[str, Any]:
        """For machines; `read` is its inverse."""
        return {"state": self.state, "checks": [{"area": area, **asdict(check)} for area, check in self.checks]}

    @classmethod
    def read(cls, document: Any) -> Report:
        """Raises ValueError for what is not a report."""
        try:
            rows = [dict(row) for row in document["checks"]]
            return cls(tuple((row.pop("area"), Check(**row)) for row in rows))
        except (KeyError, TypeError) as error:
            raise ValueError("the answer is not a doctor's report") from error


def told(error: ConnectorError, remedies: Iterable[str], otherwise: str) -> tuple[str, str]:
    """What happened, and the remedy: the one the error ends with, where it is one of ours."""
    text = str(error)
    for remedy in remedies:
        if text.endswith(f": {remedy}"):
            return text.removesuffix(f": {remedy}"), remedy
    return text, otherwise


def shown(ids: Sequence[str], most: int = 10) -> str:
    """Ids as people typed them, on one line: what a terminal would act upon is escaped, and a long list is cut."""
    plain = [one if one.isascii() and one.isprintable() else ascii(one) for one in ids[:most]]
    return ", ".join(one[:80] for one in plain) + (f" and {len(ids) - most} more" if len(ids) > most else "")
