"""The Salesforce org as the connector finds it: what describe shows, compared with the mapping, and the one query that reads a deal."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from shared.codecs import parse_instant
from shared.creating import Places
from shared.errors import Gone, Misconfigured
from shared.mapping import Mapping, base_field
from shared.people import CONTACT_ROLES, TEAM_MEMBERS
from shared.soql import identifier, literal

# One second for the granularity of LastModifiedDate, one for the clocks of different hosts [N8].
SETTLED = timedelta(seconds=2)

_ALWAYS = ("Id", "Name", "StageName", "IsClosed", "IsWon", "LastModifiedDate", "SystemModstamp", "AccountId")


class Reads(Protocol):
    """The part of the Salesforce client that reading a deal needs."""

    def describe(self, sobject: str) -> dict[str, Any]: ...

    def query_all(self, soql: str, include_deleted: bool = False) -> list[dict[str, Any]]: ...

    @property
    def answered_at(self) -> datetime | None: ...


@dataclass(frozen=True)
class Shape:
    """What this org has: the mapping without the optional fields it lacks, and the columns a deal is read with."""

    mapping: Mapping
    columns: tuple[str, ...]
    polled: tuple[str, ...]  # the columns whose change makes a poll mark the row
    has_token: bool
    has_team: bool
    has_person_accounts: bool
    places: Places


def shape_of(mapping: Mapping, opportunity: Dict[str, Any], account: Dict[str, Any]) -> Shape:
    """Compares the mapping with the describes of Opportunity and Account. Raises `Misconfigured` naming every field that is missing."""
    fields = {str(field["name"]): field for field in opportunity.get("fields") or []}
    own = mapping.opportunity
    mapped = {base_field(row.salesforce): row for row in mapping.fields if row.salesforce}
    missing = [name for name, row in mapped.items() if name not in fields and not row.optional]
    missing += [name for name in (own.sync_field, own.audit_field) if name not in fields]
    account_fields = {str(one["name"]) for one in account.get("fields") or []}
    places = _places(mapping, account_fields, own.key_field in fields)
    if places.country_field not in account_fields:
        missing.append(f"Account.{places.country_field}")
    if missing:
        raise Misconfigured(
            f"Salesforce does not show these fields of Opportunity to the integration user: {', '.join(sorted(set(missing)))}. "
            "Install the package and assign the integration permission set, or map other fields"
        )
    lacking = frozenset(name for name in mapped if name not in fields)
    stages = frozenset(str(one["value"]) for one in fields["StageName"].get("picklistValues") or [] if one.get("active", True))
    fitted = replace(mapping.without(lacking), stages_in_org=stages or None)

    selected = [row.salesforce for row in fitted.fields if row.salesforce]
    optional = [name for name in (own.cosell_type_field, own.products_field, "HasOpportunityLineItem") if name in fields]
    has_token = own.token_field in fields
    polled = tuple(dict.fromkeys([*_ALWAYS[:2], *selected, own.sync_field, *optional]))
    address = ("Name", "BillingStreet", "BillingCity", places.state_field, "BillingPostalCode", places.country_field)
    people = [f"Owner.{name}" for name in ("FirstName", "LastName", "Email", "Phone")]
    columns = [*_ALWAYS, *selected, own.sync_field, own.audit_field, *optional, *([own.token_field] if has_token else [])]
    columns += [*(f"Account.{name}" for name in address), *people]
    columns.append(f"(SELECT ContactId, IsPrimary, Contact.FirstName, Contact.LastName, Contact.Email, Contact.Phone FROM {CONTACT_ROLES})")
    rows = fitted.solutions
    detail = rows.detail_relationship
    solutions = [f"{detail}.{name}" for name in ("Name", rows.identifier_field, rows.type_field, rows.publisher_field)]
    columns.append(f"(SELECT Id, {', '.join(solutions)} FROM {rows.relationship})")
    has_team = any(child.get("relationshipName") == TEAM_MEMBERS for child in opportunity.get("childRelationships") or [])
    if has_team:
        columns.append(f"(SELECT UserId, User.FirstName, User.LastName, User.Email, User.Phone FROM {TEAM_MEMBERS})")
    return Shape(fitted, tuple(dict.fromkeys(columns)), polled, has_token, has_team, "IsPersonAccount" in account_fields, places)


def _places(mapping: Mapping, account_fields: set[str], has_key: bool) -> Places:
    """With state and country picklists on, the codes stand in fields of their own (salesforce 10.2)."""
    listed = "BillingCountryCode" in account_fields and mapping.switches.country_field == "BillingCountry"
    if listed:
        return Places("BillingCountryCode", "BillingStateCode", has_key)
    return Places(mapping.switches.country_field, "BillingState", has_key)


@dataclass(frozen=True)
class Reading:
    """One read of an opportunity. Only a settled one may be the basis of a write."""

    record: dict[str, Any]
    settled: bool

    @property
    def modified(self) -> datetime:
        return parse_instant(str(self.record["LastModifiedDate"]))


class Org:
    """The org, described at most once an hour, and its deals, each read in one call."""

    def __init__(self, salesforce: Reads, mapping: Mapping) -> None:
        self._salesforce = salesforce
        self._mapping = mapping
        self._shaped: tuple[dict[str, Any], dict[str, Any], Shape] | None = None

    @property
    def shape(self) -> Shape:
        try:
            opportunity, account = self._salesforce.describe("Opportunity"), self._salesforce.describe("Account")
        except Gone as error:
            raise Misconfigured(f"Salesforce does not show an object to the integration user that it needs: {error}") from error
        if self._shaped is None or self._shaped[0] is not opportunity or self._shaped[1] is not account:
            self._shaped = (opportunity, account, shape_of(self._mapping, opportunity, account))
        return self._shaped[2]

    def opportunity(self, record_id: str) -> Reading:
        """One deal with its account, people and solutions. Raises `Gone` when it is deleted or invisible."""
        found = self._select(f"Id = {literal(record_id)}")
        if not found:
            raise Gone(f"the opportunity {record_id} does not exist, was deleted, or is not visible to the integration user")
        record = found[0]
        at = self._salesforce.answered_at
        return Reading(record, at is not None and at - parse_instant(str(record["LastModifiedDate"])) >= SETTLED)

    def by_referral(self, referral_id: str) -> list[dict[str, Any]]:
        """The opportunities that carry a referral's id."""
        shape = self.shape
        names = {row.salesforce for row in shape.mapping.fields if row.name in ("referral_id", "referral_key")}
        return self._select(" OR ".join(f"{identifier(name)} = {literal(referral_id)}" for name in sorted(names)))

    def _select(self, where: str) -> list[dict[str, Any]]:
        return self._salesforce.query_all(f"SELECT {', '.join(self.shape.columns)} FROM Opportunity WHERE {where}")
