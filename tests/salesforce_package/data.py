"""The reference data can be loaded: files, plans, references between records, fields, values and lengths."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from tests.salesforce_package.fields import is_formula
from tests.salesforce_package.model import Model
from tests.salesforce_package.tree import Component, Finding, Package

MOST = 200  # records in one file, the limit of the API behind `sf data import tree`
NAME_LENGTH = 80


def findings(package: Package) -> Iterator[Finding]:
    model = Model(package)
    files = sorted((package.root / "data").glob("**/*.json")) if (package.root / "data").is_dir() else []
    read: dict[str, Any] = {}
    for file in files:
        shown = file.relative_to(package.root).as_posix()
        try:
            read[shown] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            yield Finding(shown, f"not JSON: {error}")
    for file in sorted((package.root / "data").glob("**/*.csv")):
        yield from _table(model, file.read_text(encoding="utf-8-sig").splitlines(), file.relative_to(package.root).as_posix())
    plans = {path: plan for path, plan in read.items() if isinstance(plan, list)}
    planned: set[str] = set()
    for path, plan in plans.items():
        known: dict[str, str] = {}
        for step in plan:
            for name in step.get("files", ()):
                beside = f"{path.rpartition('/')[0]}/{name}"
                planned.add(beside)
                if beside not in read:
                    yield Finding(path, f"there is no file {name}")
                    continue
                yield from (Finding(beside, text) for text in _records(model, read[beside], step.get("sobject", ""), known))
    yield from (Finding(path, "no plan loads it") for path in read if path not in plans and path not in planned)


def _table(model: Model, lines: list[str], shown: str) -> Iterator[Finding]:
    """A table to be filled in names fields of one object in its first line."""
    names = next(csv.reader(lines), [])
    nearest = max(model.fields, key=lambda sobject: len(set(names) & set(model.fields[sobject])))
    yield from (Finding(shown, f"{nearest} has no field {name}") for name in names if name not in model.fields[nearest])


def _records(model: Model, content: Any, sobject: str, known: dict[str, str]) -> Iterator[str]:
    records = content.get("records") if isinstance(content, dict) else None
    if not isinstance(records, list):
        yield 'it has no list "records"'
        return
    if len(records) > MOST:
        yield f"it has {len(records)} records, one file takes {MOST}"
    if sobject not in model.fields:
        yield f"there is no object {sobject}"
        return
    seen: set[str] = set()
    for record in records:
        told = record.get("attributes") or {}
        reference = str(told.get("referenceId", ""))
        if told.get("type") != sobject:
            yield f"{reference} is a {told.get('type')}, and the plan says {sobject}"
        if not reference or reference in known:
            yield f"the referenceId {reference!r} is missing or stands twice"
        name = str(record.get("Name", ""))
        if name.lower() in seen or not 1 <= len(name) <= NAME_LENGTH:
            yield f"{reference}: a name has 1 to {NAME_LENGTH} characters and stands once"
        seen.add(name.lower())
        for key, value in record.items():
            if key != "attributes":
                yield from (f"{reference}: {text}" for text in _value(model, sobject, key, value, known))
        yield from (f"{reference}: {field.own_name} is required" for field in _required(model, sobject) if not record.get(field.own_name))
        known[reference] = sobject


def _required(model: Model, sobject: str) -> list[Component]:
    fields = [one for one in model.custom_fields.values() if one.object == sobject]
    return [one for one in fields if one.root.text("required") == "true" or one.root.text("type") == "MasterDetail"]


def _value(model: Model, sobject: str, name: str, value: Any, known: dict[str, str]) -> Iterator[str]:
    if lack := model.lacks(sobject, name):
        yield lack
        return
    field = model.custom_fields.get(f"{sobject}.{name}")
    if field is None:
        return
    kind = field.root.text("type")
    if is_formula(field):
        yield f"{name} is a formula, which cannot be loaded"
    elif kind in ("Lookup", "MasterDetail"):
        target = field.root.text("referenceTo")
        if not (isinstance(value, str) and value.startswith("@") and known.get(value[1:]) == target):
            yield f"{name} must refer to a {target} loaded before it, not {value!r}"
    elif kind == "Checkbox" and not isinstance(value, bool):
        yield f"{name} is true or false, not {value!r}"
    elif kind in ("Number", "Currency", "Percent") and (isinstance(value, bool) or not isinstance(value, (int, float))):
        yield f"{name} is a number, not {value!r}"
    elif kind == "Picklist" and field.root.text("valueSet", "restricted") == "true":
        if value not in field.root.texts("valueSet", "valueSetDefinition", "value", "fullName"):
            yield f"{name} has no value {value!r}"
    elif kind in ("Text", "LongTextArea") and len(str(value)) > int(field.root.text("length") or 255):
        yield f"{name} takes {field.root.text('length')} characters"
