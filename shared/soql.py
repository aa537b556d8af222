"""Values and names for SOQL text, so that no record's content can become query syntax."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

# SOQL and SOSL reference, "Quoted String Escape Sequences".
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"})
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Beyond this a plain decimal literal would be longer than any Salesforce number field.
_DIGITS = 40


def literal(value: Any) -> str:
    """The SOQL literal of a value; a list gives the bracketed form for IN.

    Raises ValueError for an empty list (`IN ()` is illegal: the caller has nothing to ask), a datetime without a zone and
    a number that is not finite, TypeError for anything SOQL has no literal for. Floats are refused: amounts are `Decimal`.
    """
    if isinstance(value, (list, tuple, set, frozenset)):
        if not value:
            raise ValueError("an empty list has no SOQL form")
        return "(" + ", ".join(_scalar(item) for item in value) + ")"
    return _scalar(value)


def identifier(name: str) -> str:
    """The name of an object, a field or a dotted relationship path, unchanged; ValueError when it is anything else."""
    if not all(_IDENTIFIER.fullmatch(part) for part in name.split(".")):
        raise ValueError(f"not a Salesforce object or field name: {name[:80]!r}")
    return name


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.translate(_ESCAPES) + "'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > _DIGITS:
            raise ValueError(f"not a number SOQL can hold: {value}")
        return format(value, "f")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a datetime needs a zone")
        # "Z" and never "+00:00": a plus sign in a URL means a space.
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds" if value.microsecond else "seconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no SOQL literal for {type(value).__name__}")
