"""What the integration user must be allowed to write beside the mapped fields: people, solutions, the connector's own marks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shared.mapping import SALESFORCE, Mapping
from shared.mapping_draft import Draft, Finding
from shared.org_view import CONTACT_ROLE, TEAM_MEMBER, View, absent

PERMISSION_SET = "assign the integration permission set, or let its own permission set edit the field"
_PERSON = ("LastName", "FirstName", "Email", "Phone")
_ADDRESS = ("Name", "BillingStreet", "BillingCity", "BillingPostalCode")


def rights(draft: Draft, view: View, mapping: Mapping) -> Iterator[Finding]:
    """Every field that a new record is made with and may not be, and every object whose rows may not be made."""
    own, rows = mapping.opportunity, mapping.solutions
    for key in ("key_field", "token_field"):
        yield from _fields(view, "Opportunity", (getattr(own, key),), draft.where("opportunity", key), ("createable", "updateable"))
    yield from _fields(view, "Account", _ADDRESS, "[create.Account]", ("createable",))
    for name in _PERSON:
        if view.objects.get("Contact") and view.field("Contact", name) is None:
            yield absent(view, "Contact", name, "[create.Contact]")
    yield from _fields(view, "Contact", (*_PERSON, "AccountId"), "[create.Contact]", ("createable",))
    yield from _object(view, CONTACT_ROLE, ("OpportunityId", "ContactId"), draft.where("fields", "contacts"))
    if view.objects.get(TEAM_MEMBER) and mapping.people.opportunity_team:
        yield from _object(view, TEAM_MEMBER, ("OpportunityId", "UserId"), draft.where("people", "opportunity_team"))
    if any(row.type == "solutions" and row.creates(SALESFORCE) for row in mapping.fields):
        yield from _object(view, rows.object, (rows.opportunity_field, rows.detail_field), draft.where("solutions", "object"))
        named = (rows.identifier_field, *filter(None, (rows.type_field, rows.publisher_field)))
        # Who keeps the catalogue by hand may have it read-only: then only solutions that are not in it yet make a deal wait.
        for one in _object(view, rows.detail_object, named, draft.where("solutions", "detail_object")):
            yield replace(one, text=f"{one.text}, so a deal with a solution that is not in the catalogue waits", level="warning")
    if not mapping.switches.cosell_opportunities_only:
        leads = mapping.leads
        marks = (leads.sync_field, leads.audit_field, leads.identifier_field)
        yield from _fields(view, "Lead", marks, draft.where("leads", "sync_field"), ("createable", "updateable"))


def _object(view: View, sobject: str, fields: tuple[str, ...], where: str) -> Iterator[Finding]:
    described = view.objects.get(sobject)
    if described is None:
        # The solution objects are missed by `org_needs.py` already.
        if sobject == CONTACT_ROLE:
            text = f"the integration user does not see {sobject}, where a deal's contacts are kept"
            yield Finding(where, text, "let its permission set read Opportunity and Contact", about="object")
        return
    if not described.get("createable", True):
        text = f"the integration user may not create {sobject}"
        yield Finding(where, text, "assign the integration permission set", about="right")
        return
    yield from _fields(view, sobject, fields, where, ("createable",))


def _fields(view: View, sobject: str, names: tuple[str, ...], where: str, needed: tuple[str, ...]) -> Iterator[Finding]:
    for name in names:
        described = view.field(sobject, name)
        if described is not None and not all(described.get(one, True) for one in needed):
            yield Finding(where, f"{sobject}.{name} is read-only for the integration user", PERMISSION_SET, about="right")
