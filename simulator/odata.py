"""The part of OData the referrals list understands: $filter and $orderby (partner-center.md 2.1 and 2.2)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from simulator.shape import instant, invalid

Record = Mapping[str, Any]
Predicate = Callable[[Record], bool]

# Names that documentation or its examples filter on, plus createdDateTime and externalReferenceId, which are likely but unproven.
FILTERABLE = {
    "engagementId": "guid",
    "status": "text",
    "substatus": "text",
    "qualification": "text",
    "type": "text",
    "direction": "text",
    "customerProfile/address/country": "text",
    "externalReferenceId": "text",
    "createdDateTime": "instant",
    "updatedDateTime": "instant",
}
MEMBERS = {"email": "text", "firstName": "text", "lastName": "text"}
SORTABLE = ("createdDateTime", "updatedDateTime")
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
TOKEN = re.compile(
    r"""\s*(?:(?P<instant>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))
          |(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})
          |(?P<text>'(?:[^']|'')*')
          |(?P<number>-?\d+(?:\.\d+)?)
          |(?P<word>[A-Za-z_][\w/]*)
          |(?P<mark>[():]))""",
    re.VERBOSE,
)


def predicate(text: str, refused: frozenset[str] = frozenset()) -> Predicate:
    """What a $filter selects. Raises `Refusal` for bad syntax, an unknown property, one in `refused`, or a literal of another type."""
    return _Parser(text, {name: kind for name, kind in FILTERABLE.items() if name not in refused}).parse()


def ordering(text: str) -> list[tuple[str, bool]]:
    """Sort keys of a $orderby, each with whether it descends."""
    keys = []
    for part in text.split(","):
        name, *direction = part.split()
        if name not in SORTABLE or direction not in ([], ["asc"], ["desc"]):
            raise invalid("$orderby", f"Can not order by '{part.strip()}'.")
        keys.append((name, direction == ["desc"]))
    return keys


class _Parser:
    """Recursive descent over `or`, `and`, `not`, comparison, `any`."""

    def __init__(self, text: str, names: Mapping[str, str]) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._names, self._variable = names, ""
        text = text.strip()
        position = 0
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match:
                raise invalid("$filter", f"Syntax error at position {position} of the filter.")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind]))
            position = match.end()
        self._tokens.append(("end", ""))

    def parse(self) -> Predicate:
        result = self._either()
        self._expect("end", "")
        return result

    def _next(self) -> tuple[str, str]:
        return self._tokens.pop(0) if self._tokens[0][0] != "end" else self._tokens[0]

    def _take(self, kind: str, value: str) -> bool:
        if self._tokens[0] == (kind, value):
            self._next()
            return True
        return False

    def _expect(self, kind: str, value: str) -> None:
        found = self._tokens[0]
        if not self._take(kind, value):
            raise invalid("$filter", f"Expected '{value or kind}' instead of '{found[1] or found[0]}'.")

    def _either(self) -> Predicate:
        left = self._both()
        while self._take("word", "or"):
            left = _or(left, self._both())
        return left

    def _both(self) -> Predicate:
        left = self._one()
        while self._take("word", "and"):
            left = _and(left, self._one())
        return left

    def _one(self) -> Predicate:
        if self._take("word", "not"):
            inner = self._one()
            return lambda record: not inner(record)
        if self._take("mark", "("):
            inner = self._either()
            self._expect("mark", ")")
            return inner
        kind, name = self._next()
        if (kind, name) == ("word", "team/any") and not self._variable:
            return self._any()
        if kind != "word":
            raise invalid("$filter", f"Expected a property instead of '{name or kind}'.")
        return self._comparison(name)

    def _any(self) -> Predicate:
        self._expect("mark", "(")
        _, self._variable = self._next()
        self._expect("mark", ":")
        outer, self._names = self._names, {f"{self._variable}/{name}": kind for name, kind in MEMBERS.items()}
        inner, variable = self._either(), self._variable
        self._names, self._variable = outer, ""
        self._expect("mark", ")")
        return lambda record: any(inner({variable: member}) for member in record["team"] or ())

    def _comparison(self, name: str) -> Predicate:
        if name not in self._names:
            raise invalid("$filter", f"Could not find a property named '{name}' that can be filtered.")
        (_, sign), (kind, literal) = self._next(), self._next()
        if sign not in OPERATORS:
            raise invalid("$filter", f"'{sign}' is not an operator.")
        compare, wanted = OPERATORS[sign], _literal(self._names[name], kind, literal, name)
        if sign not in ("eq", "ne") and self._names[name] != "instant":
            raise invalid("$filter", f"'{name}' has no order.")
        read = instant if self._names[name] == "instant" else (lambda text: text)

        def test(record: Record) -> bool:
            value: Any = record
            for part in name.split("/"):
                value = value.get(part) if value else None
            value = read(value) if value is not None else None
            if value is None or wanted is None:
                return sign in ("eq", "ne") and compare(value, wanted)
            return compare(value, wanted)

        return test


def _literal(wanted: str, kind: str, literal: str, name: str) -> Any:
    if (kind, literal) == ("word", "null"):
        return None
    if wanted == "instant" and kind == "instant":
        if instant(literal) is not None:
            return instant(literal)
    elif wanted == "guid" and kind in ("guid", "text"):  # quoted in documentation, bare in links of real objects (2.2)
        return literal.strip("'").lower()
    elif wanted == "text" and kind == "text":
        return literal[1:-1].replace("''", "'")
    raise invalid("$filter", f"{literal or 'nothing'} can not be compared with '{name}'.")


def _or(left: Predicate, right: Predicate) -> Predicate:
    return lambda record: left(record) or right(record)


def _and(left: Predicate, right: Predicate) -> Predicate:
    return lambda record: left(record) and right(record)
