"""The XML schema of Salesforce's Metadata API, which the library simple-salesforce carries, held against every file.

The schema wants a fixed order of elements and Salesforce does not, so the elements are put in order first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import simple_salesforce
from lxml import etree

from tests.salesforce_package.tree import NAMESPACE, Finding, Package

_XSD = "{http://www.w3.org/2001/XMLSchema}"


def findings(package: Package) -> Iterator[Finding]:
    """Unknown elements, wrong values, missing parts, XML that is none."""
    for component in package.components:
        root = component.root.node
        if component.root.tag not in (component.type, _FOLDERS.get(component.type)):
            yield component.finding(f"the root element is {component.root.tag}, a file of this name holds {component.type}")
            continue
        if etree.QName(root).namespace != NAMESPACE:
            yield component.finding(f"the namespace must be {NAMESPACE}")
            continue
        ordered = copy.deepcopy(root)
        _put_in_order(ordered, etree.QName(root).localname)
        schema = _schema()
        if not schema.validate(ordered):
            for error in schema.error_log:
                yield component.finding(error.message.replace(f"{{{NAMESPACE}}}", "").replace("'", ""))
    yield from package.unreadable


_FOLDERS = {"ReportFolder": "ReportFolder", "DashboardFolder": "DashboardFolder"}


@cache
def _definition() -> Any:
    """The one schema of the WSDL, with every type also as an element, so that each may be the root of a file."""
    wsdl = etree.parse(Path(simple_salesforce.__file__).with_name("metadata.wsdl"))
    schema = wsdl.find(f".//{_XSD}schema")
    declared = {one.get("name") for one in schema.findall(f"{_XSD}element")}
    for kind in schema.findall(f"{_XSD}complexType"):
        if kind.get("name") not in declared:
            etree.SubElement(schema, f"{_XSD}element", name=kind.get("name"), type=f"tns:{kind.get('name')}")
    return etree.fromstring(etree.tostring(schema))


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(_definition())


@cache
def _types() -> dict[str, Any]:
    return {kind.get("name"): kind for kind in _definition().findall(f"{_XSD}complexType")}


@cache
def _parts(kind: str) -> dict[str, str]:
    """Element name -> type of a type's children, in the order the schema wants, those of the base first."""
    found: dict[str, str] = {}
    definition = _types().get(kind)
    if definition is None:
        return found
    for extension in definition.iter(f"{_XSD}extension"):
        found |= _parts(extension.get("base").removeprefix("tns:"))
    for element in definition.iter(f"{_XSD}element"):
        if element.get("name"):
            found[element.get("name")] = (element.get("type") or "").removeprefix("tns:")
    return found


def _put_in_order(node: Any, kind: str) -> None:
    parts = _parts(kind)
    places = {name: place for place, name in enumerate(parts)}
    children = [child for child in node if isinstance(child.tag, str)]
    for child in list(node):
        if not isinstance(child.tag, str):
            node.remove(child)
    for child in sorted(children, key=lambda one: places.get(etree.QName(one).localname, len(places))):
        node.append(child)  # moves it to the end
        _put_in_order(child, parts.get(etree.QName(child).localname, ""))
