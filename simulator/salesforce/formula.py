"""Formula fields, worked out for one row: the functions and operators that formulas of this size need, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from simulator.salesforce.schema import Row

Value = Any
Term = Callable[[Row], Value]

_TOKEN = re.compile(r'\s*(?:/\*.*?\*/\s*)*("(?:[^"\\]|\\.)*"|\d+(?:\.\d+)?|[A-Za-z_]\w*|<>|!=|==|<=|>=|&&|\|\||[-+*/&=<>!(),])', re.DOTALL)
_LEVELS: tuple[dict[str, Callable[[Value, Value], Value]], ...] = (
    {"||": lambda a, b: bool(a) or bool(b)},
    {"&&": lambda a, b: bool(a) and bool(b)},
    dict.fromkeys(("=", "=="), lambda a, b: _same(a, b)) | dict.fromkeys(("<>", "!="), lambda a, b: not _same(a, b)),
    {"&": lambda a, b: _text(a) + _text(b)},
)
"""Binary operators, the loosest first."""
_WORDS = {"TRUE": True, "FALSE": False, "NULL": None}


class Unplayed(NotImplementedError):
    """The formula uses something this simulator does not know."""


@cache
def compiled(formula: str) -> Term:
    """The formula as a function of a row. Raises `Unplayed`."""
    tokens = list(_tokens(formula))
    term, rest = _binary(tokens, 0)
    if rest:
        raise Unplayed(f"{rest[0]!r} in {formula!r}")
    return term


def _tokens(formula: str) -> Iterator[str]:
    at = 0
    while formula[at:].strip():
        found = _TOKEN.match(formula, at)
        if found is None:
            raise Unplayed(f"{formula[at : at + 20]!r} in a formula")
        yield found[1]
        at = found.end()


def _binary(tokens: list[str], level: int) -> tuple[Term, list[str]]:
    if level == len(_LEVELS):
        return _single(tokens)
    left, rest = _binary(tokens, level + 1)
    while rest and rest[0] in _LEVELS[level]:
        apply = _LEVELS[level][rest[0]]
        right, rest = _binary(rest[1:], level + 1)
        left = _applied(apply, left, right)
    return left, rest


def _applied(apply: Callable[[Value, Value], Value], left: Term, right: Term) -> Term:
    return lambda row: apply(left(row), right(row))


def _single(tokens: list[str]) -> tuple[Term, list[str]]:
    if not tokens:
        raise Unplayed("a formula that ends too early")
    head, *rest = tokens
    if head == "(":
        term, rest = _binary(rest, 0)
        return term, _past(")", rest)
    if head == "!":
        term, rest = _single(rest)
        return lambda row: not term(row), rest
    if head[0] == '"':
        text = re.sub(r"\\(.)", r"\1", head[1:-1])
        return lambda row: text, rest
    if head[0].isdigit():
        number = float(head)
        return lambda row: number, rest
    if head.upper() in _WORDS:
        word = _WORDS[head.upper()]
        return lambda row: word, rest
    if rest[:1] == ["("]:
        return _call(head.upper(), rest[1:])
    if not head[0].isalpha():
        raise Unplayed(f"{head!r} in a formula")
    return lambda row: row.get(head), rest


def _call(name: str, rest: list[str]) -> tuple[Term, list[str]]:
    function = _FUNCTIONS.get(name)
    if function is None:
        raise Unplayed(f"the function {name} in a formula")
    arguments: list[Term] = []
    while rest and rest[0] != ")":
        term, rest = _binary(rest, 0)
        arguments.append(term)
        rest = rest[1:] if rest[:1] == [","] else rest
    return lambda row: function(row, *arguments), _past(")", rest)


def _past(token: str, rest: list[str]) -> list[str]:
    if rest[:1] != [token]:
        raise Unplayed(f"a formula without its {token!r}")
    return rest[1:]


def _blank(value: Value) -> bool:
    return value is None or value == ""


def _same(left: Value, right: Value) -> bool:
    return (_blank(left) and _blank(right)) or left == right


def _text(value: Value) -> str:
    return "" if value is None else str(value)


def _if(row: Row, test: Term, then: Term, otherwise: Term) -> Value:
    return then(row) if test(row) else otherwise(row)


def _case(row: Row, subject: Term, *rest: Term) -> Value:
    *pairs, otherwise = rest
    for wanted, then in zip(pairs[::2], pairs[1::2], strict=True):
        if _same(subject(row), wanted(row)):
            return then(row)
    return otherwise(row)


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "AND": lambda row, *terms: all(term(row) for term in terms),
    "BLANKVALUE": lambda row, term, otherwise: otherwise(row) if _blank(term(row)) else term(row),
    "CASE": _case,
    "IF": _if,
    "ISBLANK": lambda row, term: _blank(term(row)),
    "ISPICKVAL": lambda row, field, wanted: _same(field(row), wanted(row)),
    "NOT": lambda row, term: not term(row),
    "OR": lambda row, *terms: any(term(row) for term in terms),
    "TEXT": lambda row, term: _text(term(row)),
}
