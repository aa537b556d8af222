"""Whatever names a field, an object or another component names one that is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from tests.salesforce_package.fields import is_filterable
from tests.salesforce_package.model import Model
from tests.salesforce_package.tree import Component, Element, Finding, Package

# How list views call standard columns.
_OWNER = ("CORE.USERS.ALIAS", "CORE.USERS.FIRST_NAME", "CORE.USERS.LAST_NAME", "CORE.USERS.FULL_NAME")
_OPPORTUNITY = "NAME AMOUNT CLOSE_DATE STAGE_NAME CREATED_DATE LAST_UPDATE PROBABILITY NEXT_STEP TYPE LEAD_SOURCE CLOSED WON"
_LEAD = "COMPANY STATUS EMAIL PHONE CREATED_DATE LAST_UPDATE LEAD_SOURCE CITY STATE COUNTRY TITLE"
COLUMNS = {
    "Opportunity": {*(f"OPPORTUNITY.{one}" for one in _OPPORTUNITY.split()), "ACCOUNT.NAME", *_OWNER},
    "Lead": {*(f"LEAD.{one}" for one in _LEAD.split()), "FULL_NAME", *_OWNER},
    "": {"NAME", "OWNER.ALIAS", "OBJECT_ID", "CREATED_DATE", "LAST_UPDATE", "CREATEDBY_USER", "UPDATEDBY_USER", "CURRENCY_ISO_CODE"},
}

# How reports on opportunities call standard columns.
REPORTED = (
    "ACCOUNT_NAME AGE AMOUNT CLOSED CLOSE_DATE CLOSE_MONTH CREATED_DATE DESCRIPTION EXP_AMOUNT FISCAL_QUARTER FORECAST_CATEGORY FULL_NAME "
    "LAST_UPDATE LEAD_SOURCE NEXT_STEP OPPORTUNITY_NAME PROBABILITY ROLLUP_DESCRIPTION STAGE_NAME TYPE WON"
)


def findings(package: Package) -> Iterator[Finding]:
    checks = {
        "CompactLayout": _compact_layout,
        "CustomField": _field,
        "CustomObject": _object,
        "CustomTab": _tab,
        "Dashboard": _dashboard,
        "ExtlClntAppGlobalOauthSettings": _client_app,
        "ExtlClntAppOauthConfigurablePolicies": _client_app,
        "ExtlClntAppOauthSettings": _client_app,
        "FlexiPage": _page,
        "Layout": _layout,
        "ListView": _list_view,
        "QuickAction": _quick_action,
        "Report": _report,
        "ValidationRule": _rule,
        "Workflow": _workflow,
    }
    for model, component in in_its_directory(package):
        if component.type in checks:
            yield from (component.finding(text) for text in dict.fromkeys(checks[component.type](model, component)))


def in_its_directory(package: Package) -> Iterator[tuple[Model, Component]]:
    """Every component, and what an org has at least when it is deployed: an optional directory may not be needed by another."""
    models = {directory: Model(package.installed_with(directory)) for directory in package.directories}
    return ((models[component.directory], component) for component in package.components)


def missing(model: Model, sobject: str, names: Iterable[str]) -> Iterator[str]:
    """What leads nowhere, for each name in turn."""
    return (lack for name in names if name and (lack := model.lacks(sobject, name)))


def _field(model: Model, one: Component) -> Iterator[str]:
    root, target = one.root, one.root.text("referenceTo")
    yield from _object_exists(model, one.object)
    yield from _object_exists(model, target)
    yield from model.wrong_in_formula(one.object, root.text("formula"))
    if not root.all("formula"):
        yield from model.wrong_in_formula(one.object, root.text("defaultValue"))
    yield from missing(model, one.object, root.texts("valueSet", "controllingField"))
    controlling = model.custom_fields.get(f"{one.object}.{root.text('valueSet', 'controllingField')}")
    if controlling:
        offered = controlling.root.texts("valueSet", "valueSetDefinition", "value", "fullName")
        for value in root.texts("valueSet", "valueSettings", "controllingFieldValue"):
            if value not in offered:
                yield f"{controlling.own_name} has no value {value}"
    for item in root.all("lookupFilter", "filterItems"):
        for path in (item.text("field"), item.text("valueField")):
            head, _, rest = path.partition(".")
            if path:
                yield from missing(model, one.object if head == "$Source" else head, [rest])


def _object_exists(model: Model, name: str) -> Iterator[str]:
    if name and name not in model.fields:
        yield f"there is no object {name}"


def _object(model: Model, one: Component) -> Iterator[str]:
    for name in chain.from_iterable(one.root.texts("searchLayouts", part) for part in _SEARCH):
        yield from _column(model, one.name, name)
    compact = one.root.text("compactLayoutAssignment")
    if compact and compact != "SYSTEM" and not model.has("CompactLayout", f"{one.name}.{compact}"):
        yield f"there is no compact layout {compact}"
    masters = [field.object for field in model.package.of("CustomField") if field.root.text("type") == "MasterDetail"]
    if one.root.text("sharingModel") == "ControlledByParent" and one.name not in masters:
        yield "ControlledByParent needs a master-detail field"
    if len({one.root.text(name) for name in ("enableBulkApi", "enableSharing", "enableStreamingApi")}) > 1:
        yield "enableBulkApi, enableSharing and enableStreamingApi must agree"


_SEARCH = (
    "customTabListAdditionalFields",
    "lookupDialogsAdditionalFields",
    "searchResultsAdditionalFields",
    "lookupFilterFields",
    "searchFilterFields",
)


def _column(model: Model, sobject: str, name: str) -> Iterator[str]:
    """A column of a list: a custom field by its name, a standard one by the name that lists use."""
    if name.endswith("__c"):
        yield from missing(model, sobject, [name])
    elif name not in COLUMNS.get(sobject, COLUMNS[""]):
        yield f"lists of {sobject} have no column {name}"


def _compact_layout(model: Model, one: Component) -> Iterator[str]:
    names = one.root.texts("fields")
    yield from missing(model, one.object, names)
    if not 1 <= len(names) <= 10:
        yield f"a compact layout has 1 to 10 fields, this one {len(names)}"
    yield from (f"{name} is a long text, which a compact layout cannot show" for name in names if not _can_filter(model, one.object, name))


def _can_filter(model: Model, sobject: str, name: str) -> bool:
    field = model.custom_fields.get(f"{sobject}.{name}")
    return (field is None or is_filterable(field)) and (sobject, name) not in (("Opportunity", "Description"), ("Lead", "Description"))


def _list_view(model: Model, one: Component) -> Iterator[str]:
    columns, filters = one.root.texts("columns"), one.root.all("filters")
    for name in columns:
        yield from _column(model, one.object, name)
    yield from (f"the column {name} stands twice" for name in columns if columns.count(name) > 1)
    if len(columns) > 15 or len(filters) > 10:
        yield "a list view has at most 15 columns and 10 filters"
    for filtered in filters:
        name = filtered.text("field")
        yield from _column(model, one.object, name)
        if not _can_filter(model, one.object, name):
            yield f"{name} is a long text, which cannot be filtered"
        yield from _values(model, one.object, name, filtered.text("value"), filtered.text("operation"))
    logic = one.root.text("booleanFilter")
    if logic and {int(number) for number in re.findall(r"\d+", logic)} != set(range(1, len(filters) + 1)):
        yield f"booleanFilter {logic} does not name every filter by its number"


def _values(model: Model, sobject: str, name: str, value: str, operation: str) -> Iterator[str]:
    """A filter on a restricted picklist or a checkbox compares with values it can have."""
    field = model.custom_fields.get(f"{sobject}.{name}")
    if field is None or operation not in ("equals", "notEqual"):
        return
    if field.root.text("type") == "Checkbox" and value.lower() not in ("0", "1", "true", "false"):
        yield f"the checkbox {name} is true or false, not {value!r}"
    if field.root.text("valueSet", "restricted") == "true":
        offered = field.root.texts("valueSet", "valueSetDefinition", "value", "fullName")
        yield from (f"{name} has no value {part!r}" for part in value.split(",") if part and part not in offered)


def _rule(model: Model, one: Component) -> Iterator[str]:
    yield from model.wrong_in_formula(one.object, one.root.text("errorConditionFormula"))
    yield from missing(model, one.object, one.root.texts("errorDisplayField"))


def _quick_action(model: Model, one: Component) -> Iterator[str]:
    parent = one.object if "." in one.name else ""
    target = one.root.text("targetObject") or parent
    for name in (parent, target):
        yield from _object_exists(model, name)
    items = one.root.within("quickActionLayoutItems")
    yield from missing(model, target, [item.text("field") for item in items])
    yield from missing(model, target, one.root.texts("fieldOverrides", "field"))
    for override in one.root.all("fieldOverrides"):
        yield from model.wrong_in_formula(parent, override.text("formula"))
        if override.all("literalValue"):
            yield from _values(model, target, override.text("field"), override.text("literalValue"), "equals")
    flow = one.root.text("flowDefinition")
    if flow and not model.has("Flow", flow):
        yield f"there is no flow {flow}"
    for name in one.root.texts("lightningWebComponent"):
        if not model.has("LightningComponentBundle", name):
            yield f"there is no component {name}"


def _layout(model: Model, one: Component) -> Iterator[str]:
    sobject = one.name.partition("-")[0]
    yield from _object_exists(model, sobject)
    yield from missing(model, sobject, [name for item in one.root.within("layoutItems") for name in item.texts("field")])
    for listed in one.root.all("relatedLists"):
        relation = listed.text("relatedList")
        if "__c" in relation:
            child, _, field = relation.partition(".")
            yield from missing(model, child, [field])
            for column in listed.texts("fields"):
                yield from _column(model, child, column)
    for action in one.root.within("quickActionListItems"):
        name = action.text("quickActionName")
        if "__" in name or "." in name:
            yield from [] if model.has("QuickAction", name) else [f"there is no quick action {name}"]


def _page(model: Model, one: Component) -> Iterator[str]:
    root, sobject = one.root, one.root.text("sobjectType")
    yield from _object_exists(model, sobject)
    for text in (leaf.words for leaf in root.leaves):
        for path in re.findall(r"^Record\.([\w.]+)$|\{!Record\.([\w.]+)\}", text):
            yield from missing(model, sobject, [path[0] or path[1]])
    regions = root.texts("flexiPageRegions", "name")
    facets = [one.text("name") for one in root.all("flexiPageRegions") if one.text("type") == "Facet"]
    named = []
    for instance in root.within("componentInstance"):
        properties = {one.text("name"): one for one in instance.all("componentInstanceProperties")}
        named += [one.text("value") for one in properties.values() if one.text("value").startswith("Facet-") or one.text("value") in facets]
        related = properties.get("relatedListApiName")
        if related:
            relation = related.text("value")
            child = model.children.get(sobject, {}).get(relation)
            if child is None and relation.endswith("__r"):
                yield f"{sobject} has no related list {relation}"
            aliases = properties.get("relatedListFieldAliases")
            columns = aliases.texts("valueList", "valueListItems", "value") if aliases and child else []
            yield from missing(model, child or "", [_alias(column) for column in columns])
        for listed in properties.values():
            if listed.text("name") == "actionNames":
                for item in listed.texts("valueList", "valueListItems", "value"):
                    if "." in item and not model.has("QuickAction", item):
                        yield f"there is no quick action {item}"
    yield from (f"no region has the name {name}" for name in named if name not in regions)
    yield from (f"nothing shows the facet {name}" for name in facets if name not in named)
    yield from (f"two regions have the name {name}" for name in set(regions) if regions.count(name) > 1)
    identifiers = [one.text("identifier") for kind in ("componentInstance", "fieldInstance") for one in root.within(kind)]
    yield from (
        f"two parts of the page have the identifier {name}" for name in sorted(set(identifiers)) if name and identifiers.count(name) > 1
    )


def _alias(column: str) -> str:
    """Related lists say NAME where the API says Name."""
    return "Name" if column == "NAME" else column


def _tab(model: Model, one: Component) -> Iterator[str]:
    if one.root.text("customObject") == "true":
        yield from _object_exists(model, one.name)
    for page in one.root.texts("flexiPage"):
        yield from [] if model.has("FlexiPage", page) else [f"there is no page {page}"]


def _custom_names(root: Element) -> Iterator[tuple[str, str]]:
    """Object and field of every `Object.Field__c` or `Object$Field__c` a report names."""
    for leaf in root.leaves:
        yield from re.findall(r"\b(\w+)[.$](\w+__c)\b", leaf.words)


def _report(model: Model, one: Component) -> Iterator[str]:
    for sobject, name in _custom_names(one.root):
        yield from missing(model, sobject, [name])
    for path in (("columns", "field"), ("groupingsDown", "field"), ("groupingsAcross", "field"), ("timeFrameFilter", "dateColumn")):
        for name in one.root.texts(*path):
            if one.root.text("reportType") == "Opportunity" and "." not in name and name not in REPORTED.split():
                yield f"reports on opportunities have no column {name}"
    folder = one.name.partition("/")[0]
    if not model.has("ReportFolder", folder):
        yield f"there is no report folder {folder}"
    for name in one.root.texts("reportType"):
        if name.endswith("__c") and not model.has("ReportType", name.removesuffix("__c")):
            yield f"there is no report type {name}"
    for item in one.root.all("filter", "criteriaItems"):
        for sobject, name in re.findall(r"^(\w+)\.(\w+__c)$", item.text("column")):
            yield from _values(
                model, sobject, name, item.text("value"), "" if item.text("value") in ("", "True", "False") else item.text("operator")
            )


def _dashboard(model: Model, one: Component) -> Iterator[str]:
    reports = {report.name: report.root for report in model.package.of("Report")}
    for part in one.root.within("components"):
        report = reports.get(part.text("report"))
        if report is None:
            yield f"there is no report {part.text('report')}"
            continue
        grouped = [*report.texts("groupingsDown", "field"), *report.texts("groupingsAcross", "field")]
        yield from (f"{part.text('report')} is not grouped by {name}" for name in part.texts("groupingColumn") if name not in grouped)
        shown = ["RowCount", *report.texts("columns", "field")]
        yield from (f"{part.text('report')} does not show {name}" for name in part.texts("chartSummary", "column") if name not in shown)
    for sobject, name in _custom_names(one.root):
        yield from missing(model, sobject, [name])
    folder = one.name.partition("/")[0]
    if not model.has("DashboardFolder", folder):
        yield f"there is no dashboard folder {folder}"


def _client_app(model: Model, one: Component) -> Iterator[str]:
    app = one.root.text("externalClientApplication")
    if not model.has("ExternalClientApplication", app):
        yield f"there is no external client app {app}"
    for name in filter(None, one.root.text("commaSeparatedPermissionSet").split(",")):
        if not model.has("PermissionSet", name.strip()):
            yield f"there is no permission set {name.strip()}"


def _workflow(model: Model, one: Component) -> Iterator[str]:
    yield from _object_exists(model, one.name)
    yield from missing(model, one.name, one.root.texts("outboundMessages", "fields"))
    messages = one.root.texts("outboundMessages", "fullName")
    for action in one.root.all("rules", "actions"):
        if action.text("type") == "OutboundMessage" and action.text("name") not in messages:
            yield f"there is no outbound message {action.text('name')}"
