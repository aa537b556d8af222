"""How one value is read from each vendor into a neutral form and written back. Pure.

A neutral value is plain JSON (text, true/false, a list of texts, or None for empty), so that it can be compared, remembered and
printed as it is. Every codec keeps `read(write(v)) == v` on both sides. Reading forgives, writing is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

Value = Any  # str | bool | list[str] | None

CHECK, CROSS = "✓", "✗"
_MARKS = re.compile(r"^[\s✓✔✗✘✕✖❌\ufe0f]+")

NAME_LENGTH = 120  # Opportunity.Name; a name that leaves no room for the mark goes without
LONG_TEXT_LENGTH = 32_000  # Opportunity.Description


class Unreadable(ValueError):
    """The vendor sent a value that has no neutral form; the message says which."""


@dataclass(frozen=True)
class Codec:
    """The two readers and the two writers of one type of value. Readers raise `Unreadable`."""

    read_referral: Callable[[Any], Value]
    write_referral: Callable[[Value], Any]
    read_opportunity: Callable[[Any], Value]
    write_opportunity: Callable[[Value], Any]


def clip(text: str, length: int) -> str:
    """The text cut to `length` UTF-16 units, the stricter of the two ways vendors count, never through a character."""
    if len(text) * 2 <= length:
        return text
    encoded = text.encode("utf-16-le")
    if len(encoded) <= length * 2:
        return text
    return encoded[: length * 2].decode("utf-16-le", "ignore").rstrip()


def strip_marks(name: str) -> str:
    """The name a person gave, without the check marks this or Microsoft's connector put before it."""
    return _MARKS.sub("", name)


def mark_of(name: Any) -> str:
    """The mark before a name: ✓, ✗ or nothing."""
    found = _MARKS.match(str(name or ""))
    marks = found.group() if found else ""
    if any(sign in marks for sign in "✗✘✕✖❌"):
        return CROSS
    return CHECK if any(sign in marks for sign in "✓✔") else ""


def _whole(text: str) -> str:
    """The text without halves of characters, which JSON can carry and no encoding can."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _text(raw: Any, length: int = 255) -> Value:
    if raw is None:
        return None
    if isinstance(raw, (dict, list)):
        raise Unreadable("expected text")
    return clip(_whole(str(raw)).strip(), length) or None


def _long_text(raw: Any) -> Value:
    if raw is None:
        return None
    if isinstance(raw, (dict, list)):
        raise Unreadable("expected text")
    text = _whole(str(raw)).replace("\r\n", "\n").replace("\r", "\n")
    return clip(text.strip(), LONG_TEXT_LENGTH) or None


def _title(raw: Any) -> Value:
    text = _text(raw, 4_000)
    return None if text is None else (clip(strip_marks(re.sub(r"\s+", " ", text)).strip(), NAME_LENGTH) or None)


def _money(raw: Any) -> Value:
    if raw is None or raw == "":
        return None
    if isinstance(raw, bool):
        raise Unreadable(f"not an amount: {raw!r}")
    try:
        amount = Decimal(str(raw).strip())
    except InvalidOperation:
        raise Unreadable(f"not an amount: {raw!r}") from None
    if not amount.is_finite() or abs(amount) >= Decimal("1e16"):  # Amount holds 16 digits before the point
        raise Unreadable(f"not an amount: {str(raw)[:40]!r}")
    # Both sides keep cents: a third decimal would come back rounded and look like an edit.
    return format(amount.quantize(Decimal("0.01")).normalize() + 0, "f")


def _amount(value: Value) -> Any:
    if value is None:
        return None
    amount = Decimal(value)
    return int(amount) if amount == amount.to_integral_value() else amount


def _currency(raw: Any) -> Value:
    if raw is None or str(raw).strip() == "":
        return None
    code = str(raw).strip().upper()
    if not re.fullmatch(r"[A-Z]{3}", code):
        raise Unreadable(f"not a currency code: {raw!r}")
    return code


def _day(raw: Any) -> Value:
    if raw is None or str(raw).strip() == "":
        return None
    try:
        return parse_instant(str(raw)).date().isoformat() if "T" in str(raw) else date.fromisoformat(str(raw).strip()).isoformat()
    except ValueError:
        raise Unreadable(f"not a date: {raw!r}") from None


def parse_instant(text: str) -> datetime:
    """A vendor's time stamp as an aware UTC time. Takes seven-digit fractions, `+0000`, and no zone at all (then UTC)."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:?\d\d)?", text.strip(), re.IGNORECASE)
    if not found:
        raise ValueError(f"not a time: {text!r}")
    base, fraction, zone = found.groups()
    zone = "+00:00" if not zone or zone in "zZ" else (zone if ":" in zone else f"{zone[:3]}:{zone[3:]}")
    try:
        return datetime.fromisoformat(f"{base}.{((fraction or '.')[1:] + '000000')[:6]}{zone}").astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"not a time: {text!r}") from error


def _flag(raw: Any) -> Value:
    if isinstance(raw, str):
        return raw.strip().lower() == "true"
    return bool(raw)


def _solutions_there(raw: Any) -> Value:
    if not isinstance(raw, list):
        return []
    return sorted({str(item["id"]).strip() for item in raw if isinstance(item, Mapping) and item.get("id")})


def _same(value: Value) -> Any:
    return value


def choice(values: Mapping[str, str]) -> Codec:
    """A value map, Salesforce value to Partner Center value; what stands in neither is said, never guessed."""
    back = {there: here for here, there in reversed(list(values.items()))}

    def known(table: Mapping[str, str]) -> Callable[[Any], Value]:
        def read(raw: Any) -> Value:
            text = _text(raw)
            if text is None:
                return None
            if text not in table:
                raise Unreadable(f"not mapped: {text!r}")
            return table[text]

        return read

    # The neutral value is Partner Center's; several values of ours may stand for one of theirs.
    return Codec(known({there: there for there in back}), _same, known(values), lambda value: None if value is None else back[value])


def _midnight(value: Value) -> Any:
    return None if value is None else f"{value}T00:00:00Z"


CODECS: dict[str, Codec] = {
    "text": Codec(_text, _same, _text, _same),
    "long_text": Codec(_long_text, lambda v: v or "", _long_text, _same),
    "title": Codec(_title, _same, _title, _same),
    "money": Codec(_money, _amount, _money, _amount),
    "currency": Codec(_currency, _same, _currency, _same),
    "date": Codec(_day, _midnight, _day, _same),
    "one_way_flag": Codec(_flag, _same, _flag, _same),
    "solutions": Codec(_solutions_there, _same, _same, _same),
    "link": Codec(_text, _same, _text, _same),
    # These are read and written by whoever knows the whole record; only their names are looked up here.
    **{name: Codec(_same, _same, _same, _same) for name in ("status", "members", "answer", "help")},
}
