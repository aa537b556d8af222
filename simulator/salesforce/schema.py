"""What an org's data model is made of: fields, objects, and how they hang together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

TEXT_TYPES = frozenset({"string", "textarea", "picklist", "email", "phone", "url"})
NUMBER_TYPES = frozenset({"currency", "double", "percent"})

Row = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """One field, in the words of describe. `label` is derived from the name unless given."""

    name: str
    type: str
    label: str = ""
    length: int = 0
    precision: int = 0
    scale: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    default: Any = None
    defaulted: bool = False
    """The platform fills it on create when nothing is sent."""
    unique: bool = False
    external_id: bool = False
    case_sensitive: bool = False
    picklist: tuple[str, ...] = ()
    restricted: bool = False
    refers_to: str | None = None
    relationship: str | None = None
    """How SOQL names the parent: `Account`, `Solution__r`."""
    children: str | None = None
    """How SOQL names these rows, seen from the parent: `OpportunityContactRoles`."""
    parent_deleted: Literal["clear", "cascade", "restrict"] = "clear"
    lookup_filter: Callable[[Row, Row], bool] | None = None
    """(referenced row, this row) -> whether the reference is allowed."""
    name_field: bool = False
    auto_number: bool = False
    components: tuple[str, ...] = ()
    """Of a compound address: the fields it is made of."""
    filterable: bool = True
    formula: str = ""
    """What its value is worked out from; nobody writes such a field."""

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", _label(self.name))
        if (self.type == "textarea" and self.length > 255) or self.type == "address":
            object.__setattr__(self, "filterable", False)

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    @property
    def required(self) -> bool:
        return self.createable and not self.nillable and not self.defaulted and self.type != "boolean"

    @property
    def indexed(self) -> bool:
        """Whether rows can be found by it without looking at all of them."""
        return self.external_id or self.unique or self.children is not None

    def normal(self, value: Any) -> Any:
        """The form in which two values of this field are equal: text without case, unless the field minds it."""
        return value.casefold() if isinstance(value, str) and self.type in TEXT_TYPES and not self.case_sensitive else value


def _label(name: str) -> str:
    if name.endswith("__c"):
        return name[:-3].replace("_", " ")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"\bId$", "ID", words)


def text(name: str, length: int = 255, **options: Any) -> Field:
    return Field(name, "string", length=length, **options)


def area(name: str, length: int, **options: Any) -> Field:
    """A text area; above 255 characters it can be neither filtered nor sorted."""
    return Field(name, "textarea", length=length, **options)


def url(name: str, **options: Any) -> Field:
    return Field(name, "url", length=255, **options)


def phone(name: str) -> Field:
    return Field(name, "phone", length=40)


def email(name: str, **options: Any) -> Field:
    return Field(name, "email", length=80, **options)


def picklist(name: str, *values: str, length: int = 255, **options: Any) -> Field:
    return Field(name, "picklist", length=length, picklist=values, **options)


def checkbox(name: str, default: bool = False, **options: Any) -> Field:
    return Field(name, "boolean", nillable=False, default=default, defaulted=True, **options)


def currency(name: str, precision: int = 18, scale: int = 2, **options: Any) -> Field:
    return Field(name, "currency", precision=precision, scale=scale, **options)


def number(name: str, precision: int = 18, scale: int = 0, **options: Any) -> Field:
    return Field(name, "double", precision=precision, scale=scale, **options)


def lookup(name: str, target: str, children: str | None = None, **options: Any) -> Field:
    parent = f"{name[:-1]}r" if name.endswith("__c") else name.removesuffix("Id")
    return Field(name, "reference", length=18, refers_to=target, **{"relationship": parent, "children": children, **options})


def shown(field: Field) -> Field:
    """The same field, for reading only."""
    return replace(field, createable=False, updateable=False)


@dataclass(frozen=True)
class ObjectType:
    """One object: its fields in order and what may be done with its rows."""

    name: str
    prefix: str
    fields: Mapping[str, Field]
    label: str
    plural: str
    createable: bool = True
    updateable: bool = True
    deletable: bool = True
    recycled: bool = True
    """Deleted rows wait in the recycle bin, where queryAll sees them."""
    record_types: bool = False

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    def field(self, name: str) -> Field | None:
        """The field of that name, in any case."""
        found = self.fields.get(name)
        return found or next((field for key, field in self.fields.items() if key.lower() == name.lower()), None)

    def parent(self, relationship: str) -> Field | None:
        """The reference field behind a parent relationship, in any case."""
        wanted = relationship.lower()
        return next((field for field in self.fields.values() if (field.relationship or "").lower() == wanted), None)


def object_type(name: str, prefix: str, fields: Iterable[Field], label: str = "", plural: str = "", **options: Any) -> ObjectType:
    label = label or _label(name)
    return ObjectType(name, prefix, {field.name: field for field in fields}, label, plural or f"{label}s", **options)


class Schema:
    """The objects one user can see. A feature that is off leaves no trace here."""

    def __init__(self, objects: Iterable[ObjectType]) -> None:
        self.objects = {kind.name: kind for kind in objects}
        self._by_name = {name.lower(): kind for name, kind in self.objects.items()}
        self._by_prefix = {kind.prefix: kind for kind in self.objects.values()}

    def object(self, name: str) -> ObjectType | None:
        """The object of that name, in any case."""
        return self._by_name.get(name.lower())

    def of_id(self, record_id: str) -> ObjectType | None:
        return self._by_prefix.get(record_id[:3])

    def children(self, parent: str) -> list[tuple[ObjectType, Field]]:
        """Every object that refers to `parent`, with the field that does."""
        return [(kind, field) for kind in self.objects.values() for field in kind.fields.values() if field.refers_to == parent]

    def child(self, parent: str, relationship: str) -> tuple[ObjectType, Field] | None:
        wanted = relationship.lower()
        return next(((kind, field) for kind, field in self.children(parent) if child_name(field).lower() == wanted), None)

    def seen_with(self, hidden: Iterable[str], read_only: Iterable[str]) -> Schema:
        """What is left under field-level security. Names are `Object` or `Object.Field`; a hidden field is absent, not empty."""
        hidden, read_only = frozenset(hidden), frozenset(read_only)
        objects = []
        for kind in self.objects.values():
            if kind.name in hidden:
                continue
            kept = {name: field for name, field in kind.fields.items() if f"{kind.name}.{name}" not in hidden}
            fields = {name: shown(field) if f"{kind.name}.{name}" in read_only else field for name, field in kept.items()}
            objects.append(replace(kind, fields=fields))
        return Schema(objects)


def child_name(field: Field) -> str:
    """The child relationship as SOQL and describe spell it; custom ones end in `__r`."""
    return "" if field.children is None else f"{field.children}__r" if field.custom else field.children
