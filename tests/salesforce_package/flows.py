"""A flow's elements lead to elements that are there, and its records have the fields it reads and writes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.salesforce_package.model import GLOBALS, Model
from tests.salesforce_package.references import in_its_directory
from tests.salesforce_package.tree import Component, Element, Finding, Package

_REFERENCES = ("elementReference", "assignToReference", "inputReference", "outputReference", "collectionReference", "leftValueReference")
_NAMED_FIELDS = (("filters", "field"), ("inputAssignments", "field"), ("outputAssignments", "field"), ("queriedFields",), ("sortField",))
_ASSETS = {"apex": "ApexClass", "flow": "Flow", "quickAction": "QuickAction", "externalService": "ExternalServiceRegistration"}
GLOBAL = GLOBALS | {"$Permission", "$User"}


def findings(package: Package) -> Iterator[Finding]:
    for model, component in in_its_directory(package):
        if component.type == "Flow":
            yield from (component.finding(text) for text in dict.fromkeys(_flow(model, component)))


def _flow(model: Model, flow: Component) -> Iterator[str]:
    root = flow.root
    elements = {one.text("name"): one for one in root.node_elements()}
    names = set(elements) | {name.words for name in root.within("name")}
    holds = _objects_held(root)
    for target in root.within("targetReference"):
        if target.words not in elements:
            yield f"a connector leads to {target.words}, which is no element of the flow"
    for one in (*elements.values(), *root.all("start")):
        yield from _record_element(model, one, holds)
    for one in root.all("actionCalls"):
        yield from _action(model, one)
    for one in root.all("subflows"):
        if not model.has("Flow", one.text("flowName")):
            yield f"there is no flow {one.text('flowName')}"
    for path in _paths(root):
        yield from _path(model, path, names, holds)
    reached = {one.words for one in root.within("targetReference")} | set(root.texts("startElementReference"))
    steps = [one.text("name") for one in root.node_elements() if one.tag in _STEPS]
    yield from (f"nothing leads to the element {name}" for name in steps if name not in reached)
    if root.text("status") not in ("Active", "Draft"):
        yield "a flow that ships is Active or Draft"


_STEPS = frozenset(
    {
        "actionCalls",
        "assignments",
        "decisions",
        "loops",
        "recordCreates",
        "recordDeletes",
        "recordLookups",
        "recordUpdates",
        "screens",
        "subflows",
        "waits",
    }
)


def _objects_held(root: Element) -> dict[str, str]:
    """What a name stands for, where it is a record: the object."""
    held = {"$Record": root.text("start", "object"), "$Record__Prior": root.text("start", "object")}
    held |= {one.text("name"): one.text("objectType") for one in root.all("variables") if one.text("dataType") == "SObject"}
    held |= {one.text("name"): one.text("object") for one in root.all("recordLookups")}
    held |= {one.text("name"): held.get(one.text("collectionReference"), "") for one in root.all("loops")}
    return {name: sobject for name, sobject in held.items() if sobject}


def _record_element(model: Model, one: Element, holds: dict[str, str]) -> Iterator[str]:
    sobject = one.text("object") or holds.get(one.text("inputReference"), "")
    if one.text("object") and sobject not in model.fields:
        yield f"there is no object {sobject}"
        return
    for path in _NAMED_FIELDS:
        for name in one.texts(*path):
            if sobject and (lack := model.lacks(sobject, name)):
                yield lack
    if one.tag == "start" and one.text("filterFormula"):
        for path in re.findall(r"\$Record(?:__Prior)?\.([\w.]+)", one.text("filterFormula")):
            yield from [lack] if (lack := model.lacks(sobject, path)) else []


def _action(model: Model, one: Element) -> Iterator[str]:
    kind, name = one.text("actionType"), one.text("actionName")
    if kind == "outboundMessage":
        sobject, _, message = name.rpartition(".")
        flows = [each for each in model.package.of("Workflow") if each.name == sobject]
        if not any(message in each.root.texts("outboundMessages", "fullName") for each in flows):
            yield f"there is no outbound message {name}"
    elif kind in _ASSETS and not model.has(_ASSETS[kind], name.partition(".")[0] if kind == "externalService" else name):
        yield f"there is no {_ASSETS[kind]} {name}"


def _paths(root: Element) -> Iterator[str]:
    for name in _REFERENCES:
        yield from (one.words for one in root.within(name) if one.words)
    for leaf in root.leaves:
        if leaf.tag != "filterFormula":
            yield from re.findall(r"\{!([$\w.]+)\}", leaf.words)


def _path(model: Model, path: str, names: set[str], holds: dict[str, str]) -> Iterator[str]:
    head, _, rest = path.partition(".")
    if head == "$Permission":
        yield from [] if model.has("CustomPermission", rest) else [f"there is no custom permission {rest}"]
    elif head == "$User":
        yield from [lack] if (lack := model.lacks("User", rest)) else []
    elif head in holds and rest:
        yield from [lack] if (lack := model.lacks(holds[head], rest)) else []
    elif head not in names and head not in holds and head not in GLOBAL:
        yield f"{head} is neither an element nor a variable of the flow"
