"""What the connector needs of a Salesforce org beside the mapped fields: its own fields, solutions, customers, leads, new records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from shared.mapping import Mapping, base_field
from shared.mapping_draft import Draft, Finding, suggestion
from shared.org_view import TEXTS, Described, View, absent, values_of


def needs(draft: Draft, view: View, mapping: Mapping) -> Iterator[Finding]:
    """Everything that is missing, hidden, of another type or not allowed."""
    yield from _own_fields(draft, view, mapping)
    yield from _solutions(draft, view, mapping)
    yield from _customers(draft, view, mapping)
    yield from _leads(draft, view, mapping)
    for sobject in ("Opportunity", "Account", "Contact", "Lead"):
        yield from _constants(draft, view, mapping, sobject)
        yield from _required(draft, view, mapping, sobject)


def _own_fields(draft: Draft, view: View, mapping: Mapping) -> Iterator[Finding]:
    own = mapping.opportunity
    for key, kinds, needed in (
        ("sync_field", {"boolean"}, True),
        ("audit_field", {"textarea"}, True),
        ("cosell_type_field", {"picklist", "string"}, False),
        ("products_field", {"string", "textarea"}, False),
        ("key_field", {"string"}, False),
        ("token_field", {"string"}, False),
        ("synced_field", {"datetime"}, False),
        ("next_step_field", {"string"}, False),
    ):
        name = getattr(own, key)
        where, described = draft.where("opportunity", key), view.field("Opportunity", name)
        if described is None:
            if needed or draft.stated("opportunity", key):
                yield absent(view, "Opportunity", name, where)
            elif key in ("key_field", "token_field", "synced_field", "next_step_field"):
                yield Finding(where, f"Opportunity has no field {name}", "install the connector's own package", "warning", "field")
        elif described.get("type") not in kinds:
            yield Finding(where, f"{name} is a {described.get('type')} field", f"name a {' or '.join(sorted(kinds))} field")
        elif needed and not (described.get("createable", True) and described.get("updateable", True)):
            yield Finding(where, f"{name} is read-only for the integration user", "let its permission set edit the field", about="right")
        elif key == "key_field" and not described.get("unique"):
            text = f"{name} is not unique, so nothing in Salesforce stops a deal from being doubled"
            yield Finding(where, text, "mark the field Unique and External ID", "warning")
    cosell_type = view.field("Opportunity", own.cosell_type_field)
    for kind in mapping.required if cosell_type else ():
        offered = values_of(cosell_type or {})
        if offered and kind not in offered:
            yield Finding(draft.where("required", kind), f"{own.cosell_type_field} has no value {kind!r}", suggestion(kind, offered))
    if view.owners != 1:
        text = f"{view.owners or 'no'} active users have the e-mail {mapping.people.default_owner}"
        yield Finding(draft.where("people", "default_owner"), text, "name the e-mail of exactly one active user")


def _solutions(draft: Draft, view: View, mapping: Mapping) -> Iterator[Finding]:
    rows = mapping.solutions
    children = {str(one.get("relationshipName")) for one in (view.objects["Opportunity"] or {}).get("childRelationships") or []}
    if view.objects.get(rows.object) is None:
        text = f"the integration user does not see {rows.object}, where a deal's solutions are kept"
        remedy = "install the package and assign the integration permission set"
        yield Finding(draft.where("solutions", "object"), text, remedy, about="object")
    elif rows.relationship not in children:
        text = f"Opportunity has no child relationship {rows.relationship}"
        yield Finding(draft.where("solutions", "relationship"), text, suggestion(rows.relationship, children), about="object")
    for sobject, keys in (
        (rows.object, ("opportunity_field", "detail_field")),
        (rows.detail_object, ("identifier_field", "type_field", "publisher_field")),
    ):
        if view.objects.get(sobject) is None:
            if sobject == rows.detail_object:
                text = f"the integration user does not see {sobject}"
                yield Finding(draft.where("solutions", "detail_object"), text, "let it read the object", about="object")
            continue
        for key in keys:
            if view.field(sobject, getattr(rows, key)) is None:
                yield absent(view, sobject, getattr(rows, key), draft.where("solutions", key))


def _customers(draft: Draft, view: View, mapping: Mapping) -> Iterator[Finding]:
    accounts = mapping.accounts
    keys = [("switches", "country_field", mapping.switches.country_field)]
    keys += [("accounts", "duns_field", accounts.duns_field)] if accounts.match == "duns" else []
    keys += [("accounts", "external_id_field", accounts.external_id_field)] if accounts.match == "external_id" else []
    for table, key, name in keys:
        if not name:
            continue
        described, where = view.field("Account", name), draft.where(table, key)
        if described is None:
            yield absent(view, "Account", name, where)
        elif described.get("type") not in TEXTS:
            yield Finding(where, f"Account.{name} is a {described.get('type')} field", "name a text or picklist field")
        elif not described.get("createable", True):
            text = f"Account.{name} cannot be written, so an account made for a referral would lack it"
            yield Finding(where, text, "let the permission set edit it, or name a field that can be written", "warning", "right")
        elif table == "accounts" and not described.get("filterable", True):
            yield Finding(where, f"Account.{name} cannot be searched", "name a field that can be filtered")
    for sobject in ("Account", "Contact", "Opportunity"):
        described_object = view.objects.get(sobject)
        if described_object is None:
            text = f"the integration user does not see {sobject}"
            yield Finding(f"[create.{sobject}]", text, "assign it the permission set", about="object")
        elif not described_object.get("createable", True):
            text = f"the integration user may not create {sobject}"
            yield Finding(f"[create.{sobject}]", text, "assign it the permission set", about="right")


def _leads(draft: Draft, view: View, mapping: Mapping) -> Iterator[Finding]:
    if mapping.switches.cosell_opportunities_only:
        return
    if view.objects.get("Lead") is None:
        text = "the integration user does not see Lead, which leads need"
        remedy = "assign it the permission set, or leave leads out"
        yield Finding(draft.where("switches", "cosell_opportunities_only"), text, remedy, about="object")
        return
    for key in ("sync_field", "audit_field", "identifier_field", "link_field", "program_field"):
        name = getattr(mapping.leads, key)
        needed = key in ("sync_field", "audit_field", "identifier_field")
        if view.field("Lead", name) is None and (needed or draft.stated("leads", key)):
            yield absent(view, "Lead", name, draft.where("leads", key))
    offered = values_of(view.field("Lead", "Status") or {})
    for key in ("default_status", "closed_status"):
        status = getattr(mapping.leads, key)
        if status and offered and status not in offered:
            remedy = f"one of {', '.join(offered)}"
            yield Finding(draft.where("leads", key), f"the org has no lead status {status!r}", remedy, about="stage")


# -- new records -----------------------------------------------------------------------------------------------------------------------


def _constants(draft: Draft, view: View, mapping: Mapping, sobject: str) -> Iterator[Finding]:
    for name, value in getattr(mapping.create, sobject).items():
        if view.objects.get(sobject) is None:
            continue
        where, described = draft.where("create", sobject, name), view.field(sobject, name)
        if described is None:
            yield absent(view, sobject, name, where)
        elif not described.get("createable", True):
            remedy = "take the line out, or let the permission set edit it"
            yield Finding(where, f"{sobject}.{name} cannot be set on a new record", remedy, about="right")
        elif not _constant_fits(value, described):
            yield Finding(where, f"{sobject}.{name} is a {described['type']} field and cannot hold {value!r}", "give a value of that type")
        elif described["type"] == "picklist" and isinstance(value, str) and "{" not in value and value not in values_of(described):
            restricted = bool(described.get("restrictedPicklist"))
            remedy = suggestion(value, values_of(described))
            yield Finding(where, f"{sobject}.{name} has no value {value!r}", remedy, "fault" if restricted else "warning")
        elif isinstance(value, str) and 0 < int(described.get("length") or 0) < len(value):
            yield Finding(where, f"{sobject}.{name} holds {described['length']} characters", "shorten the text")


def _constant_fits(value: Any, described: Described) -> bool:
    kind = described["type"]
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("currency", "double", "int", "percent"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, str) or not isinstance(value, (bool, int, float, list, dict))


def _required(draft: Draft, view: View, mapping: Mapping, sobject: str) -> Iterator[Finding]:
    """Fields that the org requires and no new record of ours would have."""
    given = set(getattr(mapping.create, sobject)) | set(_ALWAYS_GIVEN[sobject])
    if sobject == "Opportunity":
        own = mapping.opportunity
        given |= {own.sync_field, own.audit_field, *(base_field(row.salesforce) for row in mapping.fields if row.on_create)}
    missing = [
        name
        for name, one in view.fields.get(sobject, {}).items()
        if one.get("createable") and not one.get("nillable") and not one.get("defaultedOnCreate") and one["type"] != "boolean"
        if name not in given
    ]
    for name in missing:
        text = f"the org requires {sobject}.{name}, and nothing fills it in a record that comes from Partner Center"
        where = draft.where("create", sobject)
        yield Finding(where, text, f"add {name} = … under [create.{sobject}]" + _example(view.field(sobject, name)))


_ALWAYS_GIVEN: dict[str, Iterable[str]] = {
    "Opportunity": ("Name", "StageName", "CloseDate"),
    "Account": ("Name",),
    "Contact": ("LastName",),
    "Lead": ("LastName", "Company", "Status"),
}


def _example(described: Described | None) -> str:
    offered = values_of(described or {})
    return f", one of {', '.join(offered[:8])}" if offered else ""
