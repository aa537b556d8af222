"""What the installed packages add: Microsoft's (API names as in connector-facts 3.1 to 3.3) and the connector's own.

Every custom object and field is as the files in `salesforce/` have it; the names here say which of them are Microsoft's too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simulator.salesforce.org import Org, ValidationRule
from simulator.salesforce.package_files import CustomObject, custom_fields, custom_objects
from simulator.salesforce.schema import Field, ObjectType, Row, Schema, object_type, text
from simulator.salesforce.standard import currency_code, deleted_flag, owner, record_id, stamps, standard_objects

IP, SERVICES = "IP Co-sell", "Services Co-sell"

_BOTH = "Audit Referral_Identifier Referral_Link Sync_With_Partner_Center"
MICROSOFT = {
    "Opportunity": f"{_BOTH} Co_sell_Type Customer_purchase_intent How_can_Microsoft_help Microsoft_CRM_Identifier Partner_Role Products "
    "Referral_visible_to_Microsoft_sellers Solution_Area Solution_Count Solution_Play",
    "Lead": f"{_BOTH} Referral_Program",
    "Microsoft_Solutions__c": "Opportunity Price Quantity Solution",
    "Microsoft_Solution_Detail__c": "Publisher_Name Solution_Identifier Type",
    "Solution_Area__c": "Active",
    "Solution_Play__c": "Active Solution_Area",
    "Partner_Role__c": "Active",
}
"""Object -> its fields in Microsoft's package, without their `__c`. Every other custom field of our files is only ours."""


def _installed(org: Org, name: str) -> list[Field]:
    """The custom fields that this org's packages give an object."""
    microsofts = {f"{one}__c" for one in MICROSOFT.get(name, "").split()}
    return [
        field for field in custom_fields().get(name, ()) if (org.microsoft_package if field.name in microsofts else org.connector_package)
    ]


def _package_objects() -> Iterable[ObjectType]:
    """The objects of the packages, with their standard fields."""
    for number, one in enumerate(custom_objects()):
        yield object_type(one.name, f"a{number:02}", _standard_fields(one), label=one.label, plural=one.plural)


def _standard_fields(one: CustomObject) -> list[Field]:
    name = text("Name", 80, nillable=False, name_field=True, label=one.name_label)
    if one.auto_number:
        name = replace(name, createable=False, updateable=False, defaulted=True, auto_number=True)
    owned = [] if one.controlled_by_parent else [owner()]
    return [record_id("Record"), *owned, deleted_flag(), name, *stamps()]


def build_schema(org: Org) -> Schema:
    """Everything the org has, before anybody's field-level security."""
    installed = [replace(kind, fields={**kind.fields, **_by_name(currency_code(org))}) for kind in _package_objects()]
    kinds = [*standard_objects(org), *(installed if org.microsoft_package else ())]
    return Schema(_configured(kind, org, [*_installed(org, kind.name), *org.extra_fields.get(kind.name, ())]) for kind in kinds)


def _configured(kind: ObjectType, org: Org, added: list[Field]) -> ObjectType:
    fields = {**kind.fields, **_by_name(added)}
    for name, field in fields.items():
        if f"{kind.name}.{name}" in org.restricted_picklists:
            fields[name] = replace(field, restricted=True)
    return replace(kind, fields=fields)


def _by_name(fields: Iterable[Field]) -> dict[str, Field]:
    return {field.name: field for field in fields}


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
