"""Permission sets cover every custom field that may stand in one, and nothing that may not."""

from __future__ import annotations

from collections.abc import Iterator

from tests.salesforce_package.fields import is_formula, is_required
from tests.salesforce_package.model import Model
from tests.salesforce_package.references import in_its_directory, missing
from tests.salesforce_package.tree import Component, Finding, Package

# What a right on an object needs beside it; a deploy refuses the one without the other.
ALSO = {
    "allowCreate": ("allowRead",),
    "allowEdit": ("allowRead",),
    "allowDelete": ("allowRead", "allowEdit"),
    "viewAllRecords": ("allowRead",),
    "modifyAllRecords": ("allowRead", "allowEdit", "allowDelete", "viewAllRecords"),
}
PARENTS = {"Opportunity": "Account", "Contact": "Account"}
_ASSETS = {
    "applicationVisibilities": ("application", "CustomApplication"),
    "classAccesses": ("apexClass", "ApexClass"),
    "customPermissions": ("name", "CustomPermission"),
    "externalCredentialPrincipalAccesses": ("externalCredentialPrincipal", "ExternalCredential"),
    "flowAccesses": ("flow", "Flow"),
    "tabSettings": ("tab", "CustomTab"),
}


def findings(package: Package) -> Iterator[Finding]:
    sets = package.of("PermissionSet")
    for model, one in in_its_directory(package):
        if one.type == "PermissionSet":
            yield from (one.finding(text) for text in (*_fields(model, one), *_objects(model, one), *_assets(model, one)))
    covered = {field for one in sets for field in one.root.texts("fieldPermissions", "field")}
    for field in package.of("CustomField"):
        if not is_required(field) and field.name not in covered:
            yield field.finding(f"no permission set shows {field.name}, so nobody would see it")
    granted = {name for one in sets for name in one.root.texts("objectPermissions", "object")}
    for kind in package.of("CustomObject"):
        if kind.name.endswith("__c") and kind.name not in granted:
            yield kind.finding(f"no permission set gives a right on {kind.name}")


def _fields(model: Model, one: Component) -> Iterator[str]:
    readable_objects = set(one.root.texts("objectPermissions", "object"))
    names = one.root.texts("fieldPermissions", "field")
    yield from (f"{name} stands twice" for name in sorted(set(names)) if names.count(name) > 1)
    for permission in one.root.all("fieldPermissions"):
        name = permission.text("field")
        sobject, _, field_name = name.partition(".")
        field, editable = model.custom_fields.get(name), permission.text("editable") == "true"
        yield from missing(model, sobject, [field_name])
        if field and is_required(field):
            yield f"{name} is required, and a deploy refuses a permission on a required field"
        if field and is_formula(field) and editable:
            yield f"{name} is a formula, which nobody can edit"
        if editable and permission.text("readable") != "true":
            yield f"{name} is editable and not readable"
        if permission.text("readable") == "true" and sobject.endswith("__c") and sobject not in readable_objects:
            yield f"{name} is shown without a right on {sobject}"


def _objects(model: Model, one: Component) -> Iterator[str]:
    rights = {each.text("object"): each for each in one.root.all("objectPermissions")}
    names = one.root.texts("objectPermissions", "object")
    yield from (f"{name} stands twice" for name in sorted(set(names)) if names.count(name) > 1)
    parents = {**PARENTS, **_masters(model)}
    for name, right in rights.items():
        if name not in model.fields:
            yield f"there is no object {name}"
        for given, also in ALSO.items():
            lacking = [each for each in also if right.text(each) != "true"]
            if right.text(given) == "true" and lacking:
                yield f"{given} on {name} needs {' and '.join(lacking)} too"
        parent = parents.get(name)
        if parent and right.text("allowRead") == "true" and (parent not in rights or rights[parent].text("allowRead") != "true"):
            yield f"a right on {name} needs allowRead on {parent}"


def _masters(model: Model) -> dict[str, str]:
    return {
        field.object: field.root.text("referenceTo") for field in model.custom_fields.values() if field.root.text("type") == "MasterDetail"
    }


def _assets(model: Model, one: Component) -> Iterator[str]:
    for element, (key, kind) in _ASSETS.items():
        for name in one.root.texts(element, key):
            stem = name.rpartition("-")[0] or name if kind == "ExternalCredential" else name
            if not name.startswith("standard-") and not model.has(kind, stem):
                yield f"there is no {kind} {name}"
