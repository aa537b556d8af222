"""Record ids: 15 case-sensitive characters, and 3 more from which the case can be told (salesforce.md 10.3)."""

from __future__ import annotations

import re
import string

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHECK = string.ascii_uppercase + "012345"
_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")
_POD = "Ws00000"  # instance and reserved characters between the object's prefix and the number


def with_checksum(short: str) -> str:
    """The 18 characters of a 15-character id: one check character for each group of five, bit k set when character k is upper case."""
    groups = (short[0:5], short[5:10], short[10:15])
    return short + "".join(_CHECK[sum(1 << k for k, char in enumerate(group) if "A" <= char <= "Z")] for group in groups)


def make_id(prefix: str, number: int) -> str:
    digits = ""
    for _ in range(15 - len(prefix) - len(_POD)):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return with_checksum(prefix + _POD + digits)


def canonical(text: object) -> str | None:
    """The 18-character form of a 15- or 18-character id; None for what is not an id or has wrong check characters."""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        return None
    full = with_checksum(text[:15])
    return full if len(text) == 15 or text == full else None
