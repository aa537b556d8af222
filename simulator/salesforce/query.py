"""A parsed query, bound to the schema its caller sees and answered from the store."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from simulator.salesforce import soql
from simulator.salesforce.errors import Refusal, refusal
from simulator.salesforce.ids import canonical
from simulator.salesforce.schema import NUMBER_TYPES, TEXT_TYPES, Field, ObjectType, Row, Schema, child_name
from simulator.salesforce.soql import Aggregate, Comparison, Condition, Junction, Name, Negation, Order, Query, Value

MOST_OFFSET = 2000
DEEPEST_PARENT = 5
Test = Callable[[Row], bool]

_LITERAL_FOR = {"boolean": "boolean", "date": "date", "datetime": "datetime", "int": "number", **dict.fromkeys(NUMBER_TYPES, "number")}
_ENCLOSED = {True: "should be enclosed in quotes", False: "should not be enclosed in quotes"}


class Rows(Protocol):
    """What a query needs of the store."""

    def rows(self, name: str, deleted: bool = False) -> Iterable[Row]: ...

    def find(self, record_id: str) -> Row | None: ...

    def with_key(self, name: str, column: str, value: Any, deleted: bool = False) -> list[Row]: ...

    def now(self) -> datetime: ...


def stamp(moment: datetime) -> str:
    """As Salesforce writes an instant: UTC, milliseconds, an offset without a colon. Comparable as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


def moment(text: str) -> datetime:
    """The instant a stamp or a datetime literal names."""
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass(frozen=True)
class Column:
    """A field reached from a row through `path`, a chain of reference fields."""

    parents: tuple[Field, ...]
    field: Field

    def names(self) -> tuple[str, ...]:
        return (*(parent.relationship or "" for parent in self.parents), self.field.name)


@dataclass(frozen=True)
class Children:
    """A bound subquery and the field that ties its rows to their parent."""

    name: str
    bound: Bound
    reference: Field


@dataclass(frozen=True)
class Bound:
    """A query whose names all exist. `shape` lists what each record shows, parents as nested shapes."""

    kind: ObjectType
    query: Query
    shape: Mapping[str, Any] = field(default_factory=dict)
    aggregates: tuple[tuple[str, Aggregate, Column | None], ...] = ()
    test: Test | None = None
    orders: tuple[tuple[Order, Column], ...] = ()


@dataclass(frozen=True)
class Parent:
    """The part of a shape that shows a parent's fields."""

    reference: Field
    kind: ObjectType
    shape: dict[str, Any]


@dataclass(frozen=True)
class Cursor:
    """The rows of one query as they were found; pages are cut from it."""

    bound: Bound
    rows: list[Row] | None
    records: list[dict[str, Any]] | None = None

    @property
    def total(self) -> int:
        return len(self.rows if self.rows is not None else self.records or ())


class Reader:
    """Answers queries for one caller, who sees `schema`."""

    def __init__(self, store: Rows, schema: Schema, deleted: bool = False) -> None:
        self._store, self._schema, self._deleted = store, schema, deleted
        self._text = ""

    def run(self, text: str) -> Cursor:
        """Raises MALFORMED_QUERY, INVALID_FIELD, INVALID_TYPE and their kin."""
        self._text = text
        tree = soql.parse(text)
        kind = self._schema.object(".".join(tree.source.path))
        if kind is None:
            raise self._fault(tree.source.at, "INVALID_TYPE", _unsupported(".".join(tree.source.path)))
        bound = self._bind(tree, kind)
        rows = self._select(bound)
        if tree.counts:
            return Cursor(bound, rows)
        return Cursor(bound, None, [self._aggregate(bound, rows)]) if bound.aggregates else Cursor(bound, rows)

    def test(self, kind: ObjectType, text: str) -> Test:
        """A condition as a predicate, for validation rules."""
        self._text = text
        return self._condition(soql.parse_condition(text), kind, None)

    def _fault(self, at: int, code: str, message: str) -> Refusal:
        return soql.fault_at(self._text, at, code, message)

    # binding

    def _bind(self, tree: Query, kind: ObjectType, nested: bool = False) -> Bound:
        if tree.offset > MOST_OFFSET:
            raise refusal("NUMBER_OUTSIDE_VALID_RANGE", f"Maximum SOQL offset allowed is {MOST_OFFSET}", None)
        shape: dict[str, Any] = {}
        aggregates: list[tuple[str, Aggregate, Column | None]] = []
        test = self._condition(tree.where, kind, tree.alias) if tree.where else None
        orders = tuple((order, self._sortable(order.column, kind, tree.alias)) for order in tree.order)
        for item in tree.select:
            if isinstance(item, Name):
                self._show(shape, self._column(item, kind, tree.alias), kind, item)
            elif isinstance(item, Aggregate):
                column = self._column(item.column, kind, tree.alias) if item.column else None
                aggregates.append((item.alias or f"expr{len(aggregates)}", item, column))
            else:
                if nested:
                    raise self._fault(item.source.at, "MALFORMED_QUERY", "the simulator plays one level of subqueries")
                children = self._children(item, kind)
                if children.name in shape:
                    raise self._fault(item.source.at, "MALFORMED_QUERY", f"duplicate relationship selected: {children.name}")
                shape[children.name] = children
        if aggregates and shape:
            raise self._fault(tree.source.at, "MALFORMED_QUERY", "Field must be grouped or aggregated")
        return Bound(kind, tree, shape, () if tree.counts else tuple(aggregates), test, orders)

    def _children(self, tree: Query, parent: ObjectType) -> Children:
        relationship = ".".join(tree.source.path)
        found = self._schema.child(parent.name, relationship)
        if found is None:
            raise self._fault(tree.source.at, "INVALID_TYPE", _not_understood(relationship, "in FROM part of query call"))
        kind, reference = found
        return Children(child_name(reference), self._bind(tree, kind, nested=True), reference)

    def _show(self, shape: dict[str, Any], column: Column, kind: ObjectType, name: Name) -> None:
        for parent in column.parents:
            target = self._schema.objects[parent.refers_to or ""]
            shape = shape.setdefault(parent.relationship or "", Parent(parent, target, {})).shape
        if column.field.name in shape:
            raise self._fault(name.at, "MALFORMED_QUERY", f"duplicate field selected: {'.'.join(name.path)}")
        shape[column.field.name] = None

    def _column(self, name: Name, kind: ObjectType, alias: str | None) -> Column:
        path = list(name.path)
        if len(path) > 1 and path[0].lower() in (kind.name.lower(), (alias or kind.name).lower()) and kind.parent(path[0]) is None:
            path.pop(0)
        if len(path) > DEEPEST_PARENT + 1:
            raise self._fault(name.at, "INVALID_FIELD", f"More than {DEEPEST_PARENT} levels of parents in '{'.'.join(name.path)}'")
        parents = []
        for step in path[:-1]:
            reference = kind.parent(step)
            target = self._schema.objects.get(reference.refers_to or "") if reference else None
            if reference is None or target is None:
                raise self._fault(name.at, "INVALID_FIELD", _not_understood(step, "in field path"))
            parents.append(reference)
            kind = target
        found = kind.field(path[-1])
        if found is None:
            raise self._fault(name.at, "INVALID_FIELD", no_such_column(path[-1], f"entity '{kind.name}'"))
        return Column(tuple(parents), found)

    def _sortable(self, name: Name, kind: ObjectType, alias: str | None) -> Column:
        column = self._column(name, kind, alias)
        if not column.field.filterable:
            raise self._fault(name.at, "INVALID_FIELD", f"field '{column.field.name}' can not be sorted in a query call")
        return column

    # conditions

    def _condition(self, tree: Condition, kind: ObjectType, alias: str | None) -> Test:
        if isinstance(tree, Negation):
            inner = self._condition(tree.part, kind, alias)
            return lambda row: not inner(row)
        if isinstance(tree, Junction):
            parts = [self._condition(part, kind, alias) for part in tree.parts]
            every = all if tree.word == "AND" else any
            return lambda row: every(part(row) for part in parts)
        column = self._column(tree.column, kind, alias)
        if not column.field.filterable:
            raise self._fault(tree.column.at, "INVALID_FIELD", f"field '{column.field.name}' can not be filtered in a query call")
        matches = self._matcher(tree, column.field)
        return lambda row: matches(self._value(row, column))

    def _matcher(self, tree: Comparison, column: Field) -> Callable[[Any], bool]:
        """A predicate on the field's value. Null is unequal to everything else and neither below nor above it."""
        operator, values = tree.operator, tree.values
        if isinstance(values, Query):
            wanted = self._semi_join(values)
            return (lambda value: value in wanted) if operator == "IN" else (lambda value: value not in wanted)
        if operator == "LIKE":
            self._literal(values[0], column)
            if column.type not in TEXT_TYPES:
                raise self._fault(tree.column.at, "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {column.type} field")
            pattern = soql.like(values[0].text)
            return lambda value: value is not None and pattern.fullmatch(value) is not None
        ranges = [self._literal(value, column) for value in values]
        inside = _inside(ranges, column)
        if operator in ("=", "IN"):
            return inside
        if operator in ("!=", "NOT IN"):
            return lambda value: not inside(value)
        # Ids have an order: reading on by key stands on it (salesforce.md 9.3).
        if column.type in ("boolean", "reference") or values[0].kind == "null":
            raise self._fault(tree.column.at, "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {column.type} field")
        low, high = ranges[0]
        compare: dict[str, Test] = {
            "<": lambda value: column.normal(value) < low,
            "<=": lambda value: column.normal(value) <= high,
            ">": lambda value: column.normal(value) > high,
            ">=": lambda value: column.normal(value) >= low,
        }
        chosen = compare[operator]
        return lambda value: value is not None and chosen(value)

    def _semi_join(self, tree: Query) -> set[Any]:
        kind = self._schema.object(".".join(tree.source.path))
        if kind is None:
            raise self._fault(tree.source.at, "INVALID_TYPE", _unsupported(".".join(tree.source.path)))
        if len(tree.select) != 1 or not isinstance(tree.select[0], Name):
            raise self._fault(tree.source.at, "MALFORMED_QUERY", "A semi join sub-select must select one field")
        column = self._column(tree.select[0], kind, tree.alias)
        return {self._value(row, column) for row in self._select(self._bind(tree, kind))} - {None}

    def _literal(self, value: Value, column: Field) -> tuple[Any, Any]:
        """The lowest and highest value a literal stands for, in the field's own form. They differ for ranges of time only."""
        if value.kind == "null":
            return None, None
        wanted = _LITERAL_FOR.get(column.type, "string")
        spans = value.kind == "range" and column.type in ("date", "datetime")
        if value.kind != wanted and not spans:
            message = (
                f"value of filter criterion for field '{column.name}' must be of type {column.type} and {_ENCLOSED[wanted == 'string']}"
            )
            raise self._fault(value.at, "INVALID_FIELD", message)
        if column.type in ("id", "reference"):
            found = canonical(value.text)
            if found is None:
                raise self._fault(value.at, "INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value.text}")
            return found, found
        try:
            if spans:
                return self._range(value, column)
            exact = _exact(value, column)
        except (ValueError, OverflowError):
            raise self._fault(value.at, "MALFORMED_QUERY", f"Invalid {value.kind}: {value.text}") from None
        return exact, exact

    def _range(self, value: Value, column: Field) -> tuple[str, str]:
        today = self._store.now().date()
        first, last = {
            "TODAY": (0, 0),
            "YESTERDAY": (-1, -1),
            "TOMORROW": (1, 1),
            "LAST_N_DAYS": (-value.count, 0),
            "NEXT_N_DAYS": (1, value.count),
        }[value.text]
        low, high = today + timedelta(days=first), today + timedelta(days=last)
        return (low.isoformat(), high.isoformat()) if column.type == "date" else (f"{low}T00:00:00.000+0000", f"{high}T23:59:59.999+0000")

    # rows

    def _value(self, row: Row, column: Column) -> Any:
        current: Row | None = row
        for parent in column.parents:
            current = self._store.find(current[parent.name]) if current and current[parent.name] else None
        return current[column.field.name] if current else None

    def _select(self, bound: Bound, candidates: Iterable[Row] | None = None) -> list[Row]:
        tree, test = bound.query, bound.test
        rows = [row for row in (self._candidates(bound) if candidates is None else candidates) if test is None or test(row)]
        # Salesforce promises no order without ORDER BY, nor among equals
        rows.sort(key=lambda row: zlib.crc32(row["Id"].encode()))
        for order, column in reversed(bound.orders):
            known = [row for row in rows if self._value(row, column) is not None]
            unknown = [row for row in rows if self._value(row, column) is None]
            known.sort(key=lambda row, by=column: by.field.normal(self._value(row, by)), reverse=order.descending)  # type: ignore[misc]
            rows = known + unknown if order.nulls_last else unknown + known
        return rows[tree.offset :] if tree.limit is None else rows[tree.offset : tree.offset + tree.limit]

    def _candidates(self, bound: Bound) -> Iterable[Row]:
        """All rows, or the few that an equality on Id or on an indexed field leaves."""
        where, deleted = bound.query.where, self._sees_deleted(bound.kind)
        for part in where.parts if isinstance(where, Junction) and where.word == "AND" else (where,):
            if not isinstance(part, Comparison) or part.operator not in ("=", "IN") or isinstance(part.values, Query):
                continue
            column = bound.kind.field(part.column.path[-1]) if len(part.column.path) == 1 else None
            if column is None or not (column.name == "Id" or column.indexed) or any(value.kind == "null" for value in part.values):
                continue
            wanted = dict.fromkeys(self._literal(value, column)[0] for value in part.values)
            if column.name != "Id":
                return [row for key in wanted for row in self._store.with_key(bound.kind.name, column.name, key, deleted)]
            found = [self._store.find(key) for key in wanted if key[:3] == bound.kind.prefix]
            return [row for row in found if row and (deleted or not row.get("IsDeleted"))]
        return self._store.rows(bound.kind.name, deleted)

    def _sees_deleted(self, kind: ObjectType) -> bool:
        return self._deleted and kind.recycled

    def _aggregate(self, bound: Bound, rows: list[Row]) -> dict[str, Any]:
        answer: dict[str, Any] = {"attributes": {"type": "AggregateResult"}}
        for name, item, column in bound.aggregates:
            values = [self._value(row, column) if column else row["Id"] for row in rows]
            known = [value for value in values if value is not None]
            if item.function == "COUNT":
                answer[name] = len(known)
            else:
                answer[name] = (min if item.function == "MIN" else max)(known, default=None)
        return answer

    # answers

    def record(
        self, kind: ObjectType, row: Row, shape: Mapping[str, Any], page: Callable[[Bound, list[Row]], Any], version: str
    ) -> dict[str, Any]:
        """One record as JSON: `attributes`, then what was selected, in that order."""
        answer: dict[str, Any] = {"attributes": attributes(kind, row["Id"], version)}
        for name, part in shape.items():
            if isinstance(part, Parent):
                parent = self._store.find(row[part.reference.name]) if row[part.reference.name] else None
                answer[name] = self.record(part.kind, parent, part.shape, page, version) if parent else None
            elif isinstance(part, Children):
                found = self._store.with_key(part.bound.kind.name, part.reference.name, row["Id"], self._sees_deleted(part.bound.kind))
                rows = self._select(part.bound, found)
                answer[name] = page(part.bound, rows) if rows else None
            else:
                answer[name] = row[name]
        return answer


def _inside(ranges: list[tuple[Any, Any]], column: Field) -> Callable[[Any], bool]:
    points = {low for low, high in ranges if low == high}
    spans = [(low, high) for low, high in ranges if low != high]

    def inside(value: Any) -> bool:
        value = column.normal(value)
        return value in points or (value is not None and any(low <= value <= high for low, high in spans))

    return inside


def _exact(value: Value, column: Field) -> Any:
    if value.kind == "string":
        return column.normal(soql.decoded(value.text)) or None
    if value.kind == "boolean":
        return value.text == "true"
    if value.kind == "number":
        return float(value.text)
    if value.kind == "date":
        return date.fromisoformat(value.text).isoformat()
    return stamp(moment(value.text))


def attributes(kind: ObjectType, record_id: str, version: str) -> dict[str, str]:
    return {"type": kind.name, "url": f"/services/data/v{version}/sobjects/{kind.name}/{record_id}"}


def no_such_column(name: str, where: str) -> str:
    return (
        f"No such column '{name}' on {where}. If you are attempting to use a custom field, be sure to append the '__c' after the custom "
        "field name. Please reference your WSDL or the describe call for the appropriate names."
    )


def _unsupported(name: str) -> str:
    return (
        f"sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to append the '__c' after the "
        "entity name. Please reference your WSDL or the describe call for the appropriate names."
    )


def _not_understood(name: str, where: str) -> str:
    return (
        f"Didn't understand relationship '{name}' {where}. If you are attempting to use a custom relationship, be sure to append the "
        "'__r' after the custom relationship name. Please reference your WSDL or the describe call for the appropriate names."
    )
