"""Names, texts, lengths and places that a deploy refuses or a reader misses, for components of every type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.salesforce_package.tree import Component, Finding, Package

API_NAME = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*")

# (type, element): (what it may hold in characters, whether it must be there)
TEXTS = {
    ("CompactLayout", "label"): (40, True),
    ("CustomField", "label"): (40, True),
    ("CustomField", "description"): (1000, True),
    ("CustomField", "inlineHelpText"): (510, True),
    ("CustomField", "relationshipLabel"): (80, False),
    ("CustomField", "formula"): (3900, False),
    ("CustomObject", "label"): (40, True),
    ("CustomObject", "pluralLabel"): (40, True),
    ("CustomObject", "description"): (1000, True),
    ("CustomPermission", "label"): (80, True),
    ("CustomPermission", "description"): (255, True),
    ("Dashboard", "title"): (80, True),
    ("ExternalClientApplication", "label"): (80, True),
    ("FlexiPage", "masterLabel"): (80, True),
    ("FlexiPage", "description"): (255, False),
    ("Flow", "label"): (255, True),
    ("Flow", "description"): (1000, True),
    ("ListView", "label"): (40, True),
    ("PermissionSet", "label"): (80, True),
    ("PermissionSet", "description"): (255, True),
    ("QuickAction", "label"): (80, True),
    ("QuickAction", "description"): (255, False),
    ("QuickAction", "successMessage"): (1000, False),
    ("Report", "name"): (40, True),
    ("Report", "description"): (255, False),
    ("ValidationRule", "description"): (255, True),
    ("ValidationRule", "errorMessage"): (255, True),
}
# What a layout or a page of a customer's own would lose if ours replaced it.
REPLACES = {"Layout": "the customer's whole layout", "CustomObject": "the customer's settings of the object"}


def findings(package: Package) -> Iterator[Finding]:
    for path in package.files:
        shown = path.relative_to(package.root).as_posix()
        if not shown.isascii() or (" " in path.name and not path.name.endswith(".layout-meta.xml")):
            yield Finding(shown, "a file name has ASCII letters and no blanks")
        if path.suffix == ".xml" and not path.read_bytes().startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n'):
            yield Finding(shown, 'the first line must be <?xml version="1.0" encoding="UTF-8"?>')
    many = Counter((one.type, one.name) for one in package.components)
    for component in package.components:
        yield from _name(component)
        yield from _texts(component)
        if many[component.type, component.name] > 1:
            yield component.finding(f"{component.type} {component.name} stands in more than one file")
        if component.type in REPLACES and not component.name.partition("-")[0].endswith("__c"):
            yield component.finding(f"deploying it would replace {REPLACES[component.type]}")


def _name(component: Component) -> Iterator[Finding]:
    told = component.root.text("fullName")
    if told and told != component.own_name:
        yield component.finding(f"fullName is {told}, and the file is named {component.own_name}")
    if not told and component.type in ("CustomField", "ListView", "CompactLayout", "ValidationRule", "RecordType", "WebLink"):
        yield component.finding("it has no fullName")
    if component.type in ("Layout", "Profile"):
        return
    for part in re.split(r"[./]", component.name):
        stem = part.removesuffix("__c").removesuffix("__mdt").removesuffix("__e")
        if not API_NAME.fullmatch(stem) or len(stem) > (80 if component.type in ("Flow", "FlexiPage") else 40):
            yield component.finding(f"{part} is no API name: letters, digits and single underscores, at most 40")
    if component.type in ("CustomField", "CustomObject") and not part.endswith(("__c", "__mdt", "__e")):
        yield component.finding(f"the name of a custom {component.type[6:].lower()} ends in __c")


def _texts(component: Component) -> Iterator[Finding]:
    for (kind, element), (longest, needed) in TEXTS.items():
        if kind != component.type:
            continue
        if needed and not component.root.text(element):
            yield component.finding(f"it has no {element}")
        for text in component.root.texts(element):
            if len(text) > longest:
                yield component.finding(f"{element} has {len(text)} characters, Salesforce takes {longest}")
