"""What an org has, read from describe and compared with the mapping. Pure.

What can be known from describe is known at start-up: a needed field that is missing stops the connector with its name, an optional one is
done without, a field that may not be written is not written. What is done without is said in `warnings`.
"""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from typing import Any

from shared.creating import Places
from shared.errors import Misconfigured
from shared.mapping import ACTIVE, LOST, PENDING, SALESFORCE, WON, FieldRow, Mapping, base_field
from shared.mapping_file import LeadFields
from shared.people import CONTACT_ROLES, TEAM_MEMBERS

_ALWAYS = ("Id", "Name", "StageName", "IsClosed", "IsWon", "LastModifiedDate", "SystemModstamp", "AccountId")
_PERSON = ("FirstName", "LastName", "Email", "Phone")


def described_objects(mapping: Mapping) -> tuple[str, ...]:
    """The objects whose describes `shape_of` needs, in its order."""
    return ("Opportunity", "Account", "Contact", mapping.solutions.object, mapping.solutions.detail_object)


@dataclass(frozen=True)
class Shape:
    """What this org has: the mapping without what it lacks, and the columns a deal is read with."""

    mapping: Mapping
    columns: tuple[str, ...]
    polled: tuple[str, ...]  # the columns whose change makes a poll mark the row
    has_token: bool
    has_team: bool
    has_person_accounts: bool
    has_solution_count: bool
    places: Places
    warnings: tuple[str, ...] = ()


def shape_of(mapping: Mapping, *described: Dict[str, Any]) -> Shape:
    """Compares the mapping with the describes of `described_objects`. Raises `Misconfigured` naming every field that is missing.

    One of the connector's own that may not be written counts as missing.
    """
    opportunity, account, contact, rows, details = ({str(one["name"]): one for one in each.get("fields") or []} for each in described)
    own, solutions = mapping.opportunity, mapping.solutions
    # A key or a token that may not be written is as good as none.
    has_key, has_token = (_writable(opportunity.get(name)) for name in (own.key_field, own.token_field))
    places = _places(mapping, set(account), has_key, _writable(opportunity.get(own.synced_field)))
    mapped = {base_field(row.salesforce): row for row in mapping.fields if row.salesforce}
    missing = [name for name, row in mapped.items() if name not in opportunity and not row.optional]
    missing += [name for name in (own.sync_field, own.audit_field) if name not in opportunity]
    missing += [f"Account.{name}" for name in ("Name", places.country_field) if name not in account]
    missing += [f"Contact.{name}" for name in _PERSON if name not in contact]
    missing += [f"{solutions.object}.{name}" for name in (solutions.opportunity_field, solutions.detail_field) if name not in rows]
    missing += [f"{solutions.detail_object}.{solutions.identifier_field}"] if solutions.identifier_field not in details else []
    if missing:
        raise Misconfigured(
            f"Salesforce does not show these fields to the integration user: {', '.join(sorted(set(missing)))}. "
            "Install the package and assign the integration permission set, or map other fields"
        )
    # Without these a referral would be made and never found again, or written while the opportunity refuses to say so.
    kept = (own.sync_field, own.audit_field, *(base_field(row.salesforce) for row in mapping.fields if row.name == "referral_id"))
    refused = [name for name in kept if not _writable(opportunity[name])]
    refused += [
        f"{solutions.object}.{name}"
        for name in (solutions.opportunity_field, solutions.detail_field)
        if rows[name].get("createable") is False or described[3].get("createable") is False
    ]
    if refused:
        raise Misconfigured(
            f"Salesforce does not let the integration user write these fields: {', '.join(sorted(refused))}. "
            "Assign the integration permission set, or give it edit access to them"
        )
    warnings: list[str] = []
    fields = [fitted for row in mapping.fields if (fitted := _fitted(row, opportunity, warnings)) is not None]
    stages = frozenset(str(one["value"]) for one in opportunity["StageName"].get("picklistValues") or [] if one.get("active", True))
    hidden = {kind: "" for kind in ("type_field", "publisher_field") if getattr(solutions, kind) not in details}
    warnings += [f"{solutions.detail_object} has no field {getattr(solutions, kind)}, it is done without" for kind in hidden]
    solutions = solutions.model_copy(update=hidden)
    fitted_mapping = replace(mapping, fields=tuple(fields), solutions=solutions, stages_in_org=stages or None)
    for status in (PENDING, ACTIVE, WON, LOST):
        stage = fitted_mapping.lacks_stage(status)
        warnings += (
            [f"the org has no stage {stage!r}, which a deal that is {status} would get; see [switches] in the mapping"] if stage else []
        )

    selected = [row.salesforce for row in fields if row.salesforce]
    optional = [name for name in (own.cosell_type_field, own.products_field, "HasOpportunityLineItem") if name in opportunity]
    address = ("Name", "BillingStreet", "BillingCity", places.state_field, "BillingPostalCode", places.country_field)
    # Whoever may not write them does without: they tell the seller, nothing rests on them.
    told = [name for name in (own.synced_field, own.next_step_field) if (opportunity.get(name) or {}).get("updateable")]
    columns = [*_ALWAYS, *selected, own.sync_field, own.audit_field, *optional, *([own.token_field] if has_token else []), *told]
    columns += [*(f"Account.{name}" for name in address if name in account), *(f"Owner.{name}" for name in _PERSON)]
    columns.append(f"(SELECT ContactId, IsPrimary, {_listed('Contact', _PERSON)} FROM {CONTACT_ROLES})")
    named = ("Name", solutions.identifier_field, *filter(None, (solutions.type_field, solutions.publisher_field)))
    columns.append(f"(SELECT Id, {_listed(solutions.detail_relationship, named)} FROM {solutions.relationship})")
    has_team = any(child.get("relationshipName") == TEAM_MEMBERS for child in described[0].get("childRelationships") or [])
    if has_team:
        columns.append(f"(SELECT UserId, {_listed('User', _PERSON)} FROM {TEAM_MEMBERS})")
    polled = tuple(dict.fromkeys([*_ALWAYS[:2], *selected, own.sync_field, *optional]))
    count = opportunity.get(solutions.count_field) or {}
    return Shape(
        fitted_mapping,
        tuple(dict.fromkeys(columns)),
        polled,
        has_token,
        has_team,
        "IsPersonAccount" in account,
        bool(count.get("createable")),
        places,
        tuple(warnings),
    )


def _fitted(row: FieldRow, opportunity: Dict[str, Any], warnings: list[str]) -> FieldRow | None:
    """The row as this org allows it: without a field it lacks, one way where the field may not be written; None where nothing is left."""
    name = base_field(row.salesforce)
    if not name:
        return row
    if name not in opportunity:
        warnings.append(f"{row.label}: Opportunity has no field {name}, it is done without")
        return replace(row, salesforce="") if row.default else None
    described = opportunity[name]
    creatable = described.get("createable", True) is not False
    if not row.travels_to(SALESFORCE) and row.creates(SALESFORCE) and not creatable and "." not in row.salesforce and name != "Id":
        warnings.append(f"{row.label}: Opportunity.{name} may not be written by the integration user, new opportunities go without it")
        return replace(row, on_create="to_partner_center")
    if not row.travels_to(SALESFORCE) or name == "Id" or _writable(described):
        return row
    warnings.append(
        f"{row.label}: Opportunity.{name} may not be written by the integration user, it only travels to Partner Center, if at all"
    )
    if row.direction == "both":
        return replace(row, direction="to_partner_center", on_create=row.on_create if creatable else "to_partner_center")
    return None


def _writable(described: Dict[str, Any] | None) -> bool:
    return described is not None and described.get("createable") is not False and described.get("updateable") is not False


def _listed(relationship: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{relationship}.{name}" for name in names)


@dataclass(frozen=True)
class LeadShape:
    """What this org has of a lead: the columns the connector reads, and every field it may fill on a new one."""

    columns: tuple[str, ...]
    fields: frozenset[str]


def lead_shape_of(own: LeadFields, lead: Dict[str, Any]) -> LeadShape:
    """Compares [leads] with the describe of Lead. Raises `Misconfigured` naming every field and status that is missing."""
    fields = {str(field["name"]): field for field in lead.get("fields") or []}
    needed = (own.sync_field, own.audit_field, own.identifier_field)
    missing = [name for name in needed if name not in fields]
    missing += [f"{name} (read-only)" for name in needed if fields.get(name, {}).get("updateable") is False]
    listed = {str(one["value"]) for one in fields.get("Status", {}).get("picklistValues") or [] if one.get("active", True)}
    missing += [f"status {one!r}" for one in (own.default_status, own.closed_status) if one and listed and one not in listed]
    if missing:
        raise Misconfigured(
            f"Lead in Salesforce lacks {', '.join(missing)}, or does not show it to the integration user. Install the package, assign the "
            "integration permission set, or name what the org has under [leads] in the mapping"
        )
    always = ("Id", "Status", "IsConverted", "ConvertedOpportunityId", "LastModifiedDate")
    return LeadShape((*always, *needed), frozenset(name for name, one in fields.items() if one.get("createable") is not False))


def _places(mapping: Mapping, account_fields: set[str], has_key: bool, has_synced: bool) -> Places:
    """With state and country picklists on, the codes stand in fields of their own (salesforce 10.2)."""
    listed = "BillingCountryCode" in account_fields and mapping.switches.country_field == "BillingCountry"
    if listed:
        return Places("BillingCountryCode", "BillingStateCode", has_key, has_synced)
    return Places(mapping.switches.country_field, "BillingState", has_key, has_synced)
