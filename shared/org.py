"""The Salesforce org as the connector finds it: what describe shows, compared with the mapping, and the one query that reads a deal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from shared.codecs import parse_instant
from shared.errors import Gone, Misconfigured
from shared.mapping import Mapping
from shared.shape import LeadShape, Shape, described_objects, lead_shape_of, shape_of
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
class Reading:
    """One read of an opportunity or a lead. Only a settled one may be the basis of a write."""

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
        self._shaped: tuple[tuple[dict[str, Any], ...], Shape] | None = None

    @property
    def shape(self) -> Shape:
        try:
            described = tuple(self._salesforce.describe(name) for name in described_objects(self._mapping))
        except Gone as error:
            raise Misconfigured(f"Salesforce does not show an object to the integration user that it needs: {error}") from error
        if self._shaped is None or any(one is not known for one, known in zip(described, self._shaped[0], strict=True)):
            self._shaped = (described, shape_of(self._mapping, *described))
        return self._shaped[1]

    def opportunity(self, record_id: str) -> Reading:
        """One deal with its account, people and solutions. Raises `Gone` when it is deleted or invisible."""
        found = self._select(f"Id = {literal(record_id)}")
        if not found:
            raise Gone(f"the opportunity {record_id} does not exist, was deleted, or is not visible to the integration user")
        return self._reading(found[0])

    def by_referral(self, referral_id: str) -> list[dict[str, Any]]:
        """The opportunities that carry a referral's id."""
        shape = self.shape
        names = {row.salesforce for row in shape.mapping.fields if row.name in ("referral_id", "referral_key")}
        return self._select(" OR ".join(f"{identifier(name)} = {literal(referral_id)}" for name in sorted(names)))

    @property
    def lead_shape(self) -> LeadShape:
        try:
            return lead_shape_of(self._mapping.leads, self._salesforce.describe("Lead"))
        except Gone as error:
            raise Misconfigured(f"Salesforce does not show Lead to the integration user, which leads need: {error}") from error

    def lead(self, record_id: str) -> Reading:
        """One lead. Raises `Gone` when it is deleted or invisible."""
        found = self._leads(f"Id = {literal(record_id)}")
        if not found:
            raise Gone(f"the lead {record_id} does not exist, was deleted, or is not visible to the integration user")
        return self._reading(found[0])

    def leads_of(self, referral_id: str) -> list[dict[str, Any]]:
        """The leads that carry a referral's id. Microsoft's field for it is not unique, ours is."""
        own, names = self._mapping.leads, self.lead_shape.fields
        carriers = [name for name in (own.identifier_field, own.key_field) if name in names]
        return self._leads(" OR ".join(f"{identifier(name)} = {literal(referral_id)}" for name in carriers))

    def leads_converted_into(self, opportunity_id: str) -> list[dict[str, Any]]:
        return self._leads(f"ConvertedOpportunityId = {literal(opportunity_id)}")

    def _leads(self, where: str) -> list[dict[str, Any]]:
        return self._salesforce.query_all(f"SELECT {', '.join(map(identifier, self.lead_shape.columns))} FROM Lead WHERE {where}")

    def _reading(self, record: dict[str, Any]) -> Reading:
        at = self._salesforce.answered_at
        return Reading(record, at is not None and at - parse_instant(str(record["LastModifiedDate"])) >= SETTLED)

    def _select(self, where: str) -> list[dict[str, Any]]:
        return self._salesforce.query_all(f"SELECT {', '.join(self.shape.columns)} FROM Opportunity WHERE {where}")
