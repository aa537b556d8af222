"""JSON as both vendors see it: numbers keep every digit, in both directions."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

LARGEST_EXPONENT = 400


def loads(data: bytes | str) -> Any:
    """JSON with fractions as `Decimal`; whole numbers stay `int`. Raises ValueError, also for NaN, Infinity and endless nesting."""
    try:
        return json.loads(data, parse_float=_decimal, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON in which a `Decimal` is a number with its exact digits.

    Raises TypeError for what JSON cannot hold and ValueError for a number that is not finite.
    """
    text = _encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair is legal in JSON as an escape but has no UTF-8 form; vendors do return such text.
        return _encode(value, ascii_only=True).encode()


def _encode(value: Any, ascii_only: bool = False) -> str:
    # json.dumps cannot write a Decimal as a number: its hook for unknown types has to return something it knows.
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} has no JSON form")
        return str(value)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("JSON object keys are text")
        return (
            "{" + ",".join(f"{json.dumps(key, ensure_ascii=ascii_only)}:{_encode(item, ascii_only)}" for key, item in value.items()) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_encode(item, ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"a number out of any range: {text[:40]}") from error
    # Written out, 1e999999999 would fill the memory; no vendor's number comes near.
    if abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError(f"a number out of any range: {text[:40]}")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
