"""The custom objects and fields of the Salesforce package, read from its own files: what is deployed is what is played."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from simulator.salesforce.schema import Field, Row, lookup, shown

FILES = Path(__file__).resolve().parents[2] / "salesforce"
_NAMESPACE = {"m": "http://soap.sforce.com/2006/04/metadata"}

# metadata type -> describe type
_TYPES = {
    "AutoNumber": "string",
    "Checkbox": "boolean",
    "Currency": "currency",
    "Date": "date",
    "DateTime": "datetime",
    "Email": "email",
    "Html": "textarea",
    "LongTextArea": "textarea",
    "Lookup": "reference",
    "MasterDetail": "reference",
    "Number": "double",
    "Percent": "percent",
    "Phone": "phone",
    "Picklist": "picklist",
    "Text": "string",
    "TextArea": "textarea",
    "Url": "url",
}
_LENGTHS = {"boolean": 0, "picklist": 255, "url": 255, "phone": 40, "email": 80, "reference": 18}
_FORMULA_LENGTH = 1300
_RESTRICT = {"Restrict": "restrict", "Cascade": "cascade"}


@dataclass(frozen=True)
class CustomObject:
    """An object of the package: what its own file says."""

    name: str
    label: str
    plural: str
    name_label: str
    auto_number: bool
    controlled_by_parent: bool


@cache
def custom_objects(files: Path = FILES) -> tuple[CustomObject, ...]:
    """The package's own objects, by name."""
    found = []
    for path in sorted(_objects(files).glob("*__c/*.object-meta.xml")):
        told = _Told(path)
        numbered, controlled = told["nameField/type"] == "AutoNumber", told["sharingModel"] == "ControlledByParent"
        found.append(CustomObject(path.parent.name, told["label"], told["pluralLabel"], told["nameField/label"], numbered, controlled))
    return tuple(found)


@cache
def custom_fields(files: Path = FILES) -> Mapping[str, tuple[Field, ...]]:
    """The package's fields by object."""
    found: dict[str, list[Field]] = {}
    for path in sorted(_objects(files).glob("*/fields/*.field-meta.xml")):
        found.setdefault(path.parent.parent.name, []).append(_field(_Told(path)))
    return {name: tuple(fields) for name, fields in found.items()}


def _objects(files: Path) -> Path:
    """The default package directory's; the others are optional, and not installed here."""
    listed = json.loads((files / "sfdx-project.json").read_text(encoding="utf-8"))["packageDirectories"]
    return files / next(str(one["path"]) for one in listed if one.get("default")) / "main" / "default" / "objects"


class _Told:
    """An element's words by path, empty where there are none."""

    def __init__(self, element: Path | ElementTree.Element) -> None:
        self._element = ElementTree.parse(element).getroot() if isinstance(element, Path) else element  # noqa: S314 - our own files

    def __getitem__(self, path: str) -> str:
        return self._element.findtext(_qualified(path), "", _NAMESPACE)

    def is_true(self, path: str) -> bool:
        return self[path] == "true"

    def all(self, path: str) -> list[_Told]:
        return [_Told(element) for element in self._element.iterfind(_qualified(path), _NAMESPACE)]


def _qualified(path: str) -> str:
    return "/".join(f"m:{part}" for part in path.split("/"))


def _field(told: _Told) -> Field:
    name, kind = told["fullName"], _TYPES[told["type"]]
    digits: dict[str, Any] = {"precision": int(told["precision"] or 0), "scale": int(told["scale"] or 0)}
    if told["formula"]:
        length = _FORMULA_LENGTH if kind == "string" else _LENGTHS.get(kind, 0)
        return shown(Field(name, kind, told["label"], length, **digits, formula=told["formula"]))
    options: dict[str, Any] = {
        "label": told["label"],
        "nillable": not told.is_true("required"),
        "unique": told.is_true("unique"),
        "external_id": told.is_true("externalId"),
        "case_sensitive": told.is_true("caseSensitive"),
    }
    if kind == "reference":
        master = told["type"] == "MasterDetail"
        deleted = "cascade" if master else _RESTRICT.get(told["deleteConstraint"], "clear")
        owned: dict[str, Any] = {"nillable": False, "updateable": told.is_true("reparentableMasterDetail")} if master else {}
        rule = _lookup_filter(told)
        return lookup(
            name, told["referenceTo"], told["relationshipName"] or None, **{**options, **owned}, parent_deleted=deleted, lookup_filter=rule
        )
    values = told.all("valueSet/valueSetDefinition/value")
    default = _default(kind, told["defaultValue"], values)
    return Field(
        name,
        kind,
        length=int(told["length"] or _LENGTHS.get(kind, 0)),
        **digits,
        default=default,
        defaulted=default is not None,
        picklist=tuple(value["fullName"] for value in values),
        restricted=told.is_true("valueSet/restricted"),
        **{**options, "nillable": options["nillable"] and kind != "boolean"},
    )


def _default(kind: str, told: str, values: list[_Told]) -> Any:
    """What a new row has. Defaults that are formulas are not played."""
    if kind == "boolean":
        return told == "true"
    if kind == "picklist":
        return next((value["fullName"] for value in values if value.is_true("default")), None)
    if kind in ("currency", "double", "percent") and told:
        return float(told)
    return told[1:-1] if told.startswith('"') else None


def _lookup_filter(told: _Told) -> Callable[[Row, Row], bool] | None:
    """All conditions of an active filter that is not optional, as a test of (referenced row, this row)."""
    for one in told.all("lookupFilter"):
        if one["booleanFilter"]:
            raise NotImplementedError("a lookup filter with logic of its own is not played")
        if one.is_true("active") and not one.is_true("isOptional"):
            tests = tuple(_condition(item) for item in one.all("filterItems"))
            return lambda target, row: all(test(target, row) for test in tests)
    return None


def _condition(item: _Told) -> Callable[[Row, Row], bool]:
    if item["operation"] != "equals":
        raise NotImplementedError(f"a lookup filter on {item['field']} with {item['operation']} is not played")
    one, other = _place(item["field"]), _place(item["valueField"]) if item["valueField"] else _constant(item["value"])
    return lambda target, row: bool(one(target, row) == other(target, row))


def _place(path: str) -> Callable[[Row, Row], Any]:
    """What stands at `$Source.Field`, of this row, or at `Object.Field`, of the referenced one."""
    head, _, name = path.partition(".")
    return (lambda target, row: row[name]) if head == "$Source" else (lambda target, row: target[name])


def _constant(told: str) -> Callable[[Row, Row], Any]:
    value: Any = {"true": True, "1": True, "false": False, "0": False}.get(told.lower(), told)
    return lambda target, row: value
