"""How a custom field is made up: what each type needs, and what does not go together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.salesforce_package.tree import Component, Finding, Package

NEEDS = {
    "Checkbox": ("defaultValue",),
    "Currency": ("precision", "scale"),
    "Number": ("precision", "scale"),
    "Percent": ("precision", "scale"),
    "Html": ("length", "visibleLines"),
    "LongTextArea": ("length", "visibleLines"),
    "Lookup": ("referenceTo", "relationshipName"),
    "MasterDetail": ("referenceTo", "relationshipName", "relationshipOrder"),
    "Picklist": ("valueSet",),
    "Text": ("length",),
}
LENGTHS = {"Text": (1, 255), "LongTextArea": (256, 131_072), "Html": (256, 131_072)}
KEYS = ("Text", "Number", "Email", "AutoNumber")
# Microsoft's identifier is an external id that may stand twice (connector facts); ours beside it is unique.
MAY_REPEAT = ("Referral_Identifier__c",)
OFF_FORMULAS = ("length", "required", "unique", "externalId", "defaultValue", "caseSensitive", "visibleLines")


def is_required(field: Component) -> bool:
    """Whether the platform shows and demands it everywhere: such a field cannot stand in a permission set."""
    return field.root.text("required") == "true" or field.root.text("type") == "MasterDetail"


def is_formula(field: Component) -> bool:
    return bool(field.root.all("formula"))


def is_filterable(field: Component) -> bool:
    return field.root.text("type") not in ("LongTextArea", "Html", "EncryptedText")


def findings(package: Package) -> Iterator[Finding]:
    fields = package.of("CustomField")
    relations = Counter((field.root.text("referenceTo"), field.root.text("relationshipName")) for field in fields)
    labels = Counter((field.object, field.root.text("label").lower()) for field in fields)
    keys = Counter(field.object for field in fields if field.root.text("externalId") == "true")
    for field in fields:
        root, kind = field.root, field.root.text("type")
        if is_formula(field):
            yield from (field.finding(f"a formula has no {name}") for name in OFF_FORMULAS if root.all(name))
            continue
        yield from (field.finding(f"a {kind} field needs {name}") for name in NEEDS.get(kind, ()) if not root.all(name))
        yield from _sizes(field)
        yield from _keys(field)
        relation = (root.text("referenceTo"), root.text("relationshipName"))
        if relation[1] and relations[relation] > 1:
            yield field.finding(f"two fields call their children of {relation[0]} {relation[1]}")
        if labels[field.object, root.text("label").lower()] > 1:
            yield field.finding(f"two fields of {field.object} have the label {root.text('label')}")
        if keys[field.object] > 25:
            yield field.finding(f"{field.object} has more than 25 external ids")
        yield from _values(field)


def _sizes(field: Component) -> Iterator[Finding]:
    root, kind = field.root, field.root.text("type")
    length = root.text("length")
    if length and kind in LENGTHS:
        low, high = LENGTHS[kind]
        if not low <= int(length) <= high:
            yield field.finding(f"the length of a {kind} field is {low} to {high}, not {length}")
    if root.text("precision") and root.text("scale"):
        precision, scale = int(root.text("precision")), int(root.text("scale"))
        if not 0 <= scale <= precision <= 18:
            yield field.finding(f"precision {precision} and scale {scale} do not go together: at most 18 digits in all")


def _keys(field: Component) -> Iterator[Finding]:
    root, kind = field.root, field.root.text("type")
    key, unique = root.text("externalId") == "true", root.text("unique") == "true"
    if key and kind not in KEYS:
        yield field.finding(f"a {kind} field cannot be an external id")
    if key and not unique and field.own_name not in MAY_REPEAT:
        yield field.finding("an external id must be unique, or an upsert that meets two records fails")
    if unique and kind == "Text" and not root.all("caseSensitive"):
        yield field.finding("a unique text says whether case matters (caseSensitive)")
    if kind == "MasterDetail" and root.all("required"):
        yield field.finding("a master-detail field is always required and does not say so")
    if kind == "Checkbox" and root.text("required") == "true":
        yield field.finding("a checkbox cannot be required")
    if kind == "Lookup" and root.text("required") == "true" and root.text("deleteConstraint") in ("", "SetNull"):
        yield field.finding("a required lookup cannot be cleared when its record is deleted: deleteConstraint Restrict or Cascade")


def _values(field: Component) -> Iterator[Finding]:
    values = field.root.all("valueSet", "valueSetDefinition", "value")
    names = [value.text("fullName") for value in values]
    if field.root.text("type") == "Picklist" and not names and not field.root.text("valueSet", "valueSetName"):
        yield field.finding("a picklist has values")
    for name, times in Counter(name.lower() for name in names).items():
        if times > 1:
            yield field.finding(f"the value {name} stands twice")
    if len([value for value in values if value.text("default") == "true"]) > 1:
        yield field.finding("only one value is the default")
    for value in values:
        if not value.text("label") or not value.text("default"):
            yield field.finding(f"the value {value.text('fullName')} has no label or does not say whether it is the default")
    for setting in field.root.all("valueSet", "valueSettings"):
        if setting.text("valueName") not in names:
            yield field.finding(f"valueSettings name {setting.text('valueName')}, which is no value of the field")
