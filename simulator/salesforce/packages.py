"""What the installed packages add: Microsoft's (API names as in connector-facts 3.1 to 3.3) and the connector's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simulator.salesforce.org import Org, ValidationRule
from simulator.salesforce.schema import (
    Field,
    ObjectType,
    Row,
    Schema,
    area,
    checkbox,
    currency,
    lookup,
    number,
    object_type,
    picklist,
    text,
    url,
)
from simulator.salesforce.standard import currency_code, deleted_flag, owner, record_id, stamps, standard_objects

HELP = (
    "Workload Specific Value Proposition",
    "Customer Technical Architecture",
    "Proof Of Concept or Demo",
    "Quotes or Licensing",
    "Post Sales Customer Success",
    "General or Other",
)
IP, SERVICES = "IP Co-sell", "Services Co-sell"


def _active(target: Row, row: Row) -> bool:
    return bool(target["Active__c"])


def _active_in_area(target: Row, row: Row) -> bool:
    return bool(target["Active__c"]) and target["Solution_Area__c"] in (None, row["Solution_Area__c"])


def _shared() -> list[Field]:
    """On Opportunity and Lead alike. The identifier is an external id but not unique."""
    return [
        checkbox("Sync_With_Partner_Center__c"),
        text("Referral_Identifier__c", 100, external_id=True),
        url("Referral_Link__c"),
        area("Audit__c", 100_000),
    ]


MICROSOFT = {
    "Opportunity": (
        *_shared(),
        picklist("How_can_Microsoft_help__c", *HELP, restricted=True, label="How can Microsoft help?"),
        checkbox("Referral_visible_to_Microsoft_sellers__c", label="Referral visible to Microsoft sellers?"),
        text("Microsoft_CRM_Identifier__c", 100),
        text("Products__c", 255),
        picklist("Co_sell_Type__c", IP, SERVICES, default=IP, defaulted=True, restricted=True, label="Co-sell Type"),
        picklist("Customer_purchase_intent__c", "Yes", "No", "HaveNotDecided", restricted=True),
        lookup("Solution_Area__c", "Solution_Area__c", "Opportunities", lookup_filter=_active),
        lookup("Solution_Play__c", "Solution_Play__c", "Opportunities", lookup_filter=_active_in_area),
        lookup("Partner_Role__c", "Partner_Role__c", "Opportunities", lookup_filter=_active),
        number("Solution_Count__c", default=0.0, defaulted=True),
    ),
    "Lead": (*_shared(), text("Referral_Program__c", 200)),
}
CONNECTOR = {
    "Opportunity": (text("Co_sell_Key__c", 80, unique=True, external_id=True), text("Co_sell_Token__c", 64)),
    "Lead": (text("Co_sell_Key__c", 80, unique=True, external_id=True),),
}


def _package_objects(org: Org) -> Iterable[ObjectType]:
    def named(length: int = 80) -> Field:
        return text("Name", length, nillable=False, name_field=True)

    def catalogue(name: str, prefix: str, *fields: Field) -> ObjectType:
        return object_type(name, prefix, [record_id("Record"), owner(), deleted_flag(), named(), *currency_code(org), *stamps(), *fields])

    line = [
        record_id("Record"),
        deleted_flag(),
        text("Name", 80, nillable=False, createable=False, updateable=False, defaulted=True, name_field=True, auto_number=True),
        *currency_code(org),
        *stamps(),
        lookup(
            "Opportunity__c",
            "Opportunity",
            "Opportunity_To_Microsoft_Solutions",
            nillable=False,
            updateable=False,
            parent_deleted="cascade",
        ),
        lookup("Solution__c", "Microsoft_Solution_Detail__c", "Microsoft_Solutions_To_Details", nillable=False, parent_deleted="restrict"),
        currency("Price__c", 12, 2),
        number("Quantity__c", 10, 0),
    ]
    yield object_type("Microsoft_Solutions__c", "a00", line, label="Microsoft Solutions", plural="Microsoft Solutions")
    yield catalogue(
        "Microsoft_Solution_Detail__c",
        "a01",
        text("Solution_Identifier__c", 100, nillable=False),
        picklist("Type__c", "1P", "3P", restricted=True),
        text("Publisher_Name__c", 200),
    )
    yield catalogue("Solution_Area__c", "a02", checkbox("Active__c"))
    yield catalogue("Solution_Play__c", "a03", checkbox("Active__c"), lookup("Solution_Area__c", "Solution_Area__c", "Solution_Plays"))
    yield catalogue("Partner_Role__c", "a04", checkbox("Active__c"))


def build_schema(org: Org) -> Schema:
    """Everything the org has, before anybody's field-level security."""
    added = [org.extra_fields]
    added += [CONNECTOR] if org.connector_package else []
    added += [MICROSOFT] if org.microsoft_package else []
    objects = [*standard_objects(org), *(_package_objects(org) if org.microsoft_package else ())]
    return Schema(_configured(kind, org, [field for fields in reversed(added) for field in fields.get(kind.name, ())]) for kind in objects)


def _configured(kind: ObjectType, org: Org, added: list[Field]) -> ObjectType:
    fields = {**kind.fields, **{field.name: field for field in added}}
    for name, field in fields.items():
        if f"{kind.name}.{name}" in org.restricted_picklists:
            fields[name] = replace(field, restricted=True)
    return replace(kind, fields=fields)


def _type_changed(new: Row, old: Row | None) -> bool:
    """The connector may set the type when it sets link or identifier in the same save."""
    if old is None or new["Co_sell_Type__c"] == old["Co_sell_Type__c"]:
        return False
    return all(new[name] == old[name] for name in ("Referral_Link__c", "Referral_Identifier__c"))


PACKAGE_RULES = (
    ValidationRule(
        "Opportunity",
        f"Co_sell_Type__c = '{IP}' AND Sync_With_Partner_Center__c = true AND (Solution_Count__c = null OR Solution_Count__c = 0)",
        "Please add at least one Solution/Product (1P/3P/Your own company product) before syncing.",
    ),
    ValidationRule("Opportunity", _type_changed, "Co-sell type cannot be updated after creation.", "Co_sell_Type__c"),
    ValidationRule("Opportunity", "Co_sell_Type__c = null", "Co-sell Type is Required."),
    ValidationRule(
        "Opportunity", f"Co_sell_Type__c = '{IP}' AND Customer_purchase_intent__c = null", "Customer Purchase Intent is Required."
    ),
    ValidationRule("Opportunity", "Solution_Area__c = null", "Solution Area is Required."),
    ValidationRule("Opportunity", "Solution_Play__c = null", "Solution Play is Required."),
    ValidationRule("Opportunity", f"Co_sell_Type__c = '{SERVICES}' AND Partner_Role__c = null", "Partner Role is Required."),
)
