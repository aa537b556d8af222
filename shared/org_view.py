"""One Salesforce org as describe shows it to the integration user: read once, then looked at as often as need be."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.errors import Gone
from shared.mapping_draft import Draft, Finding, suggestion
from shared.soql import literal

Described = Dict[str, Any]

CONTACT_ROLE = "OpportunityContactRole"
TEAM_MEMBER = "OpportunityTeamMember"  # absent while Team Selling is off
TEXTS = frozenset({"string", "textarea", "picklist", "combobox", "email", "phone", "url", "encryptedstring"})


class Looks(Protocol):
    """The part of the Salesforce client that a look at the org needs."""

    def describe(self, sobject: str) -> dict[str, Any]: ...

    def query_all(self, soql: str, include_deleted: bool = False) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class View:
    """What one look at the org showed. An object that is absent or hidden is None."""

    objects: Dict[str, Described | None]
    stages: tuple[Dict[str, Any], ...]
    owners: int = 1  # active users with the default owner's e-mail
    fields: Dict[str, Dict[str, Described]] = field(default_factory=dict)

    def field(self, sobject: str, name: str) -> Described | None:
        return self.fields.get(sobject, {}).get(name)


def look(salesforce: Looks, draft: Draft) -> View:
    """Describes every object the mapping touches, and reads the stages. Raises what the client raises."""
    mapping = draft.mapping
    assert mapping is not None
    objects: dict[str, Described | None] = {}

    def describe(name: str) -> Described | None:
        if name not in objects:
            try:
                objects[name] = salesforce.describe(name)
            except Gone:
                objects[name] = None
        return objects[name]

    opportunity = describe("Opportunity") or {}
    for name in ("Account", "Contact", CONTACT_ROLE, TEAM_MEMBER, mapping.solutions.object, mapping.solutions.detail_object):
        describe(name)
    if mapping.create.Lead or not mapping.switches.cosell_opportunities_only:
        describe("Lead")
    relations = {str(one.get("relationshipName")): one for one in opportunity.get("fields") or [] if one.get("relationshipName")}
    for row in draft.rows:
        relation, dot, _ = row.salesforce.partition(".")
        for target in (relations.get(relation) or {}).get("referenceTo") or [] if dot else ():
            describe(str(target))
    stages = salesforce.query_all("SELECT ApiName, IsActive, IsClosed, IsWon FROM OpportunityStage ORDER BY SortOrder")
    owners = 1
    if mapping.people.default_owner:
        where = f"IsActive = TRUE AND Email = {literal(mapping.people.default_owner)}"
        owners = len(salesforce.query_all(f"SELECT Id FROM User WHERE {where}"))
    fields = {name: {str(one["name"]): one for one in found.get("fields") or []} for name, found in objects.items() if found}
    return View(objects, tuple(one for one in stages if one.get("IsActive", True)), owners, fields)


def absent(view: View, sobject: str, name: str, where: str) -> Finding:
    near = suggestion(name, view.fields.get(sobject, {}))
    create = "create it, or let the integration user's permission set see it"
    remedy = f"{near} Otherwise {create}" if near else create
    return Finding(where, f"{sobject} has no field {name} that the integration user can see", remedy, about="field")


def values_of(described: Described) -> list[str]:
    return [str(one["value"]) for one in described.get("picklistValues") or [] if one.get("active", True)]
