"""SOQL text to a tree, as strict as Salesforce's own grammar (salesforce.md 3.2).

Not played: GROUP BY, HAVING, TYPEOF, USING SCOPE, WITH, functions other than COUNT, MIN and MAX, currency literals, INCLUDES and EXCLUDES.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from simulator.salesforce.errors import Refusal, refusal

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
    |(?P<date>\d{4}-\d\d-\d\d)
    |(?P<number>[+-]?\d+(?:\.\d+)?)
    |(?P<string>'(?:[^'\\]|\\.)*')
    |(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    |(?P<operator><=|>=|!=|<>|=|<|>)
    |(?P<mark>[(),:])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPES = {"'": "'", '"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "%": "%", "_": "_"}
_RESERVED = frozenset({"SELECT", "FROM", "WHERE", "AND", "OR", "NOT", "LIKE", "IN", "NULL", "TRUE", "FALSE"})
_AFTER_FROM = frozenset({"WHERE", "ORDER", "LIMIT", "OFFSET", "FOR", "WITH", "GROUP", "HAVING", "USING"})
_AGGREGATES = frozenset({"COUNT", "MIN", "MAX"})
LONGEST_QUERY, LONGEST_WHERE = 100_000, 4_000


@dataclass(frozen=True)
class Name:
    """A dotted name as written; `at` is its position in the text."""

    path: tuple[str, ...]
    at: int


@dataclass(frozen=True)
class Aggregate:
    function: str
    column: Name | None
    alias: str | None


@dataclass(frozen=True)
class Value:
    """A literal. `kind` is string, number, boolean, null, date, datetime or range; `text` is what was written, without quotes."""

    kind: str
    text: str
    at: int
    count: int = 0


@dataclass(frozen=True)
class Comparison:
    column: Name
    operator: str
    values: tuple[Value, ...] | Query


@dataclass(frozen=True)
class Negation:
    part: Condition


@dataclass(frozen=True)
class Junction:
    word: str
    parts: tuple[Condition, ...]


Condition = Comparison | Negation | Junction


@dataclass(frozen=True)
class Order:
    column: Name
    descending: bool
    nulls_last: bool


@dataclass(frozen=True)
class Query:
    select: tuple[Name | Aggregate | Query, ...]
    source: Name
    alias: str | None
    where: Condition | None
    order: tuple[Order, ...]
    limit: int | None
    offset: int

    @property
    def counts(self) -> bool:
        """Whether it is `SELECT COUNT() FROM ...`."""
        return self.select == (Aggregate("COUNT", None, None),)


def parse(query: str) -> Query:
    """The tree of a whole query. Raises MALFORMED_QUERY."""
    if len(query) > LONGEST_QUERY:
        raise refusal("QUERY_TOO_COMPLICATED", "SOQL statement is too long", None)
    parser = _Parser(query)
    try:
        tree = parser.query()
    except RecursionError:
        raise refusal("QUERY_TOO_COMPLICATED", "Query is too deeply nested", None) from None
    parser.end()
    return tree


def parse_condition(text: str) -> Condition:
    """The tree of what may stand after WHERE."""
    parser = _Parser(text)
    tree = parser.condition()
    parser.end()
    return tree


def fault_at(query: str, at: int, code: str, message: str) -> Refusal:
    """Salesforce's layout: an empty line, the line, a caret, row and column, and only then what is wrong."""
    before = query[:at]
    row, column = before.count("\n") + 1, at - (before.rfind("\n") + 1)
    line = query.split("\n")[row - 1]
    return refusal(code, f"\n{line}\n{' ' * column}^\nERROR at Row:{row}:Column:{column + 1}\n{message}", None)


def decoded(raw: str) -> str:
    """A string literal's characters."""
    return re.sub(r"\\(.)", lambda match: _ESCAPES[match[1]], raw, flags=re.DOTALL)


def like(raw: str) -> re.Pattern[str]:
    """A LIKE literal: % and _ unless escaped, without case."""
    pieces = re.findall(r"\\.|.", raw, flags=re.DOTALL)
    wild = {"%": ".*", "_": "."}
    return re.compile("".join(wild.get(piece) or re.escape(decoded(piece)) for piece in pieces), re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class _Token:
    kind: str
    """datetime, date, number, string, name, operator, mark or end"""
    text: str
    at: int

    def word(self) -> str:
        return self.text.upper() if self.kind == "name" else self.text


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._next = 0

    def _scan(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                message = f"line 1:{at} no viable alternative at character '{self._text[at]}'"
                raise refusal("MALFORMED_QUERY", message, None)
            if match.lastgroup == "string":
                self._check_escapes(match[0], at)
            if match.lastgroup != "space":
                yield _Token(match.lastgroup or "", match[0], at)
            at = match.end()
        yield _Token("end", "<EOF>", len(self._text))

    def _check_escapes(self, literal: str, at: int) -> None:
        for match in re.finditer(r"\\(.)", literal, flags=re.DOTALL):
            if match[1] not in _ESCAPES:
                message = f"Invalid string literal {literal}. Illegal character sequence '{match[0]}' in string literal."
                raise fault_at(self._text, at + match.start(), "MALFORMED_QUERY", message)

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token

    def _unexpected(self, token: _Token | None = None) -> Refusal:
        token = token or self._peek()
        return fault_at(self._text, token.at, "MALFORMED_QUERY", f"unexpected token: {token.text}")

    def _accept(self, *words: str) -> bool:
        """Take these words if they come next."""
        if all(self._peek(k).word() == word for k, word in enumerate(words)):
            self._next += len(words)
            return True
        return False

    def _expect(self, *words: str) -> None:
        for word in words:
            if not self._accept(word):
                raise self._unexpected()

    def end(self) -> None:
        if self._peek().kind != "end":
            raise self._unexpected()

    def _name(self) -> Name:
        token = self._peek()
        if token.kind != "name" or token.word() in _RESERVED:
            raise self._unexpected()
        self._next += 1
        return Name(tuple(token.text.split(".")), token.at)

    def _whole(self) -> int:
        token = self._take()
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 9:
            raise self._unexpected(token)
        return int(token.text)

    def query(self) -> Query:
        self._expect("SELECT")
        select = [self._item()]
        if select != [Aggregate("COUNT", None, None)]:
            while self._accept(","):
                select.append(self._item())
        self._expect("FROM")
        source, alias = self._name(), None
        self._accept("AS")
        if self._peek().kind == "name" and self._peek().word() not in _AFTER_FROM:
            alias = self._name().path[0]
        where = self._where() if self._accept("WHERE") else None
        order = self._orders() if self._accept("ORDER", "BY") else ()
        limit = self._whole() if self._accept("LIMIT") else None
        offset = self._whole() if self._accept("OFFSET") else 0
        if self._accept("FOR") and not (self._accept("VIEW") or self._accept("REFERENCE")):
            raise self._unexpected()
        return Query(tuple(select), source, alias, where, order, limit, offset)

    def _item(self) -> Name | Aggregate | Query:
        if self._accept("("):
            inner = self.query()
            self._expect(")")
            return inner
        name = self._name()
        if not self._accept("("):
            return name
        function = name.path[0].upper()
        if len(name.path) > 1 or function not in _AGGREGATES:
            raise fault_at(self._text, name.at, "MALFORMED_QUERY", f"the simulator does not play {'.'.join(name.path)}()")
        if function == "COUNT" and self._accept(")"):
            return Aggregate(function, None, None)
        column = self._name()
        self._expect(")")
        alias = self._name().path[0] if self._peek().kind == "name" and self._peek().word() != "FROM" else None
        return Aggregate(function, column, alias)

    def _where(self) -> Condition:
        start = self._peek().at
        condition = self.condition()
        if self._peek().at - start > LONGEST_WHERE:
            raise refusal("QUERY_TOO_COMPLICATED", f"WHERE clause is longer than {LONGEST_WHERE} characters", None)
        return condition

    def condition(self) -> Condition:
        """One level: a single NOT, or parts all joined by AND, or parts all joined by OR. Mixtures need parentheses."""
        if self._accept("NOT"):
            return Negation(self._part())
        parts, word = [self._part()], self._peek().word()
        if word not in ("AND", "OR"):
            return parts[0]
        while self._accept(word):
            parts.append(self._part())
        if self._peek().word() in ("AND", "OR"):
            raise self._unexpected()
        return Junction(word, tuple(parts))

    def _part(self) -> Condition:
        if self._accept("("):
            inner = self.condition()
            self._expect(")")
            return inner
        column = self._name()
        token = self._take()
        if token.kind == "operator":
            return Comparison(column, "!=" if token.text == "<>" else token.text, (self._value(),))
        if token.word() == "LIKE":
            return Comparison(column, "LIKE", (self._value(),))
        if token.word() == "IN" or (token.word() == "NOT" and self._accept("IN")):
            return Comparison(column, "IN" if token.word() == "IN" else "NOT IN", self._values())
        raise self._unexpected(token)

    def _values(self) -> tuple[Value, ...] | Query:
        self._expect("(")
        if self._peek().word() == "SELECT":
            inner = self.query()
            self._expect(")")
            return inner
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _value(self) -> Value:
        token = self._take()
        if token.kind == "string":
            return Value("string", token.text[1:-1], token.at)
        if token.kind in ("number", "date", "datetime"):
            return Value(token.kind, token.text, token.at)
        word = token.word()
        if word in ("TRUE", "FALSE"):
            return Value("boolean", word.lower(), token.at)
        if word == "NULL":
            return Value("null", "", token.at)
        if word in ("TODAY", "YESTERDAY", "TOMORROW"):
            return Value("range", word, token.at)
        if word in ("LAST_N_DAYS", "NEXT_N_DAYS"):
            self._expect(":")
            return Value("range", word, token.at, self._whole())
        raise self._unexpected(token)

    def _orders(self) -> tuple[Order, ...]:
        orders = []
        while True:
            column = self._name()
            descending = self._accept("DESC")
            if not descending:
                self._accept("ASC")
            nulls_last = False
            if self._accept("NULLS"):
                nulls_last = self._accept("LAST")
                if not nulls_last:
                    self._expect("FIRST")
            orders.append(Order(column, descending, nulls_last))
            if not self._accept(","):
                return tuple(orders)
