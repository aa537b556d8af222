"""Salesforce's refusals: an HTTP status and one or more coded faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One entry of an error answer. `fields` is None where Salesforce leaves the key out, as it does for NOT_FOUND."""

    code: str
    message: str
    fields: Sequence[str] | None = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> dict[str, Any]:
        """As it stands in the array that answers a single request."""
        if self.fields is None:
            return {"errorCode": self.code, "message": self.message, **self.extra}
        return {**self.extra, "message": self.message, "errorCode": self.code, "fields": list(self.fields)}

    def row(self) -> dict[str, Any]:
        """As it stands in a row of a collection: `statusCode` instead of `errorCode`, and never the matches of a duplicate rule."""
        return {"statusCode": self.code, "message": self.message, "fields": list(self.fields or ())}


class Refusal(Exception):
    """Salesforce will not do this; nothing of the request was kept."""

    def __init__(self, status: int, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.code}: {fault.message}" for fault in faults) or str(status))
        self.status = status
        self.faults = tuple(faults)

    @property
    def codes(self) -> list[str]:
        return [fault.code for fault in self.faults]


def refusal(code: str, message: str, fields: Sequence[str] | None = (), status: int = 400) -> Refusal:
    """A refusal for one reason."""
    return Refusal(status, [Fault(code, message, fields)])


def not_found(message: str = "The requested resource does not exist") -> Refusal:
    return refusal("NOT_FOUND", message, None, 404)
