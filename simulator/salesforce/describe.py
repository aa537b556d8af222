"""Describe results, with every key of the recorded ones. They show what the caller may see: the effective field-level security."""

from __future__ import annotations

from typing import Any

from simulator.salesforce.schema import NUMBER_TYPES, Field, ObjectType, Schema, child_name

_SOAP = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "address": "urn:address",
}
_SOAP |= dict.fromkeys(NUMBER_TYPES, "xsd:double")
_UNGROUPED = {"datetime", "address", *NUMBER_TYPES}

# keys that say nothing about the fields and objects played here
_FIELD_REST = {
    **dict.fromkeys(("aiPredictionField", "dependentPicklist", "deprecatedAndHidden", "displayLocationInDecimal"), False),
    **dict.fromkeys(("encrypted", "formulaTreatNullNumberAsZero", "highScaleNumber", "htmlFormatted", "namePointing"), False),
    **dict.fromkeys(("polymorphicForeignKey", "queryByDistance", "searchPrefilterable", "writeRequiresMasterRead"), False),
    **dict.fromkeys(("compoundFieldName", "controllerName", "defaultValueFormula", "extraTypeInfo"), None),
    **dict.fromkeys(("filteredLookupInfo", "inlineHelpText", "mask", "maskType", "referenceTargetField", "relationshipOrder"), None),
}
_OBJECT_REST = {
    **dict.fromkeys(
        ("activateable", "customSetting", "deprecatedAndHidden", "hasSubtypes", "isInterface", "isSubtype", "mergeable"), False
    ),
    **dict.fromkeys(("associateEntityType", "associateParentEntity", "defaultImplementation", "extendedBy", "extendsInterfaces"), None),
    **dict.fromkeys(("implementedBy", "implementsInterfaces", "listviewable", "lookupLayoutable", "networkScopeFieldName"), None),
    **dict.fromkeys(("compactLayoutable", "deepCloneable", "feedEnabled", "layoutable", "mruEnabled", "queryable"), True),
    **dict.fromkeys(("replicateable", "retrieveable", "searchLayoutable", "searchable", "triggerable"), True),
}


def describe_field(field: Field) -> dict[str, Any]:
    text = _SOAP.get(field.type, "xsd:string") == "xsd:string"
    return {
        **_FIELD_REST,
        "aggregatable": field.type not in ("boolean", "address") and field.filterable,
        "autoNumber": field.auto_number,
        "byteLength": 3 * field.length if text and (field.createable or field.picklist) else field.length,
        "calculated": bool(field.formula),
        "calculatedFormula": field.formula or None,
        "cascadeDelete": field.parent_deleted == "cascade",
        "caseSensitive": field.case_sensitive,
        "createable": field.createable,
        "custom": field.custom,
        "defaultValue": field.default if field.custom and field.type == "boolean" else None,
        "defaultedOnCreate": field.defaulted,
        "digits": 8 if field.type == "int" else 0,
        "externalId": field.external_id,
        "filterable": field.filterable,
        "groupable": field.type not in _UNGROUPED and not (field.type == "textarea" and field.length > 255),
        "idLookup": field.type in ("id", "email") or field.external_id or (field.name_field and field.filterable),
        "label": field.label,
        "length": field.length,
        "name": field.name,
        "nameField": field.name_field,
        "nillable": field.nillable,
        "permissionable": field.nillable and field.createable,
        "picklistValues": [_value(field, value) for value in field.picklist],
        "precision": field.precision,
        "referenceTo": [field.refers_to] if field.refers_to else [],
        "relationshipName": field.relationship,
        "restrictedDelete": field.parent_deleted == "restrict",
        "restrictedPicklist": field.restricted,
        "scale": field.scale,
        "soapType": _SOAP.get(field.type, "xsd:string"),
        "sortable": field.filterable,
        "type": field.type,
        "unique": field.unique,
        "updateable": field.updateable,
    }


def _value(field: Field, value: str) -> dict[str, Any]:
    return {"active": True, "defaultValue": value == field.default, "label": value, "validFor": None, "value": value}


def summarize(kind: ObjectType, version: str) -> dict[str, Any]:
    """An object as the global describe lists it."""
    base = f"/services/data/v{version}/sobjects/{kind.name}"
    return {
        **_OBJECT_REST,
        "createable": kind.createable,
        "custom": kind.custom,
        "deletable": kind.deletable,
        "keyPrefix": kind.prefix,
        "label": kind.label,
        "labelPlural": kind.plural,
        "name": kind.name,
        "undeletable": kind.deletable and kind.recycled,
        "updateable": kind.updateable,
        "urls": {"describe": f"{base}/describe", "rowTemplate": f"{base}/{{ID}}", "sobject": base},
    }


def describe(kind: ObjectType, schema: Schema, version: str) -> dict[str, Any]:
    return {
        **summarize(kind, version),
        "actionOverrides": [],
        "childRelationships": [_child(child, field) for child, field in schema.children(kind.name)],
        "fields": [describe_field(field) for field in kind.fields.values()],
        "namedLayoutInfos": [],
        "recordTypeInfos": [_master_record_type(kind, version)] if kind.record_types else [],
        "sobjectDescribeOption": "FULL",
        "supportedScopes": [{"label": f"All {kind.plural.lower()}", "name": "everything"}],
    }


def _child(kind: ObjectType, field: Field) -> dict[str, Any]:
    return {
        "cascadeDelete": field.parent_deleted == "cascade",
        "childSObject": kind.name,
        "deprecatedAndHidden": False,
        "field": field.name,
        "junctionIdListNames": [],
        "junctionReferenceTo": [],
        "relationshipName": child_name(field) or None,
        "restrictedDelete": field.parent_deleted == "restrict",
    }


def _master_record_type(kind: ObjectType, version: str) -> dict[str, Any]:
    master = "012000000000000AAA"
    return {
        "active": True,
        "available": True,
        "defaultRecordTypeMapping": True,
        "developerName": "Master",
        "master": True,
        "name": "Master",
        "recordTypeId": master,
        "urls": {"layout": f"/services/data/v{version}/sobjects/{kind.name}/describe/layouts/{master}"},
    }
