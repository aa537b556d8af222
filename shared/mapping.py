"""The mapping: which field stands where on both sides, who wins, and which way it travels. Pure but for reading its files.

`Mapping.load` reads the shipped `mapping.toml`, lays an overlay over it, and reports every fault at once (`mapping_file.py`). The planner,
the Salesforce queries, the checks and the field guide all read the same rows, so adding a field is adding a row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from shared import mapping_file
from shared.codecs import CODECS, Codec, Unreadable, Value, choice, parse_instant
from shared.errors import Misconfigured
from shared.mapping_file import SHIPPED, Accounts, Create, LeadFields, OpportunityFields, People, Side, SolutionRows, Source, Switches
from shared.people import child_rows, complete, customer_contacts, email_of, own_team
from shared.referral import HELP_CODES, is_closed, is_guid, list_at, value_at

PARTNER_CENTER: Literal["partner_center"] = "partner_center"
SALESFORCE: Literal["salesforce"] = "salesforce"
SIDE_NAMES: dict[str, str] = {PARTNER_CENTER: "Partner Center", SALESFORCE: "Salesforce"}

# A deal's neutral statuses. Declined, Expired and Error are told apart in words, not here: Salesforce has one lost stage.
PENDING, ACTIVE, WON, LOST = "pending", "active", "won", "lost"
TERMINAL = frozenset({WON, LOST})

_SUBSTATUS = {
    ("new", "pending"): PENDING,
    ("new", "received"): PENDING,
    ("new", "none"): PENDING,
    ("active", "accepted"): ACTIVE,
    ("closed", "won"): WON,
    ("closed", "lost"): LOST,
    ("closed", "declined"): LOST,
    ("closed", "expired"): LOST,
    ("closed", "error"): LOST,
}

_NEEDED = frozenset({"title", "status", "external_reference", "referral_id", "solutions"})


@dataclass(frozen=True)
class FieldRow:
    """One row: a field's neutral name, both its places, and the rules it travels by."""

    name: str
    partner_center: str
    salesforce: str
    type: str
    direction: str
    winner: Side
    clearing: bool = False
    optional: bool = False
    of: str = ""  # "microsoft": read from Microsoft's referral; "attribute": an entry of additionalRequirements
    on_create: bool | str = True  # or the one way in which it is
    on_update: bool | str = True
    values: Dict[str, str] = field(default_factory=dict)
    default: str = ""
    given_label: str = ""

    @cached_property
    def codec(self) -> Codec:
        return choice(self.values) if self.type == "choice" else CODECS[self.type]

    @property
    def label(self) -> str:
        """The name a seller reads."""
        return self.given_label or self.name.replace("_", " ")

    @property
    def frozen_once_shared(self) -> bool:
        """The customer's contacts may not change once Microsoft sees the deal (partner-center, section 4)."""
        return self.partner_center.startswith("customerProfile")

    def travels_to(self, side: Side) -> bool:
        return self.direction in ("both", f"to_{side}")

    def creates(self, side: Side) -> bool:
        """Whether the field is part of a record that is made on this side."""
        return self.on_create in (True, f"to_{side}")

    def updates(self, side: Side) -> bool:
        """Whether a later change travels to this side."""
        return self.on_update in (True, f"to_{side}")


@dataclass(frozen=True)
class Record:
    """One vendor's record in neutral terms.

    `values` holds what could be read, `unread` says for each other field why not, `remarks` says more about a value than it tells itself.
    `version` is what a conditional write depends on (the eTag, or LastModifiedDate); `token` is the sync token found in it, None where the
    org has no such field. `locked` names fields that cannot be written just now, with the reason.
    """

    values: Dict[str, Value]
    unread: Dict[str, str] = field(default_factory=dict)
    version: str = ""
    token: str | None = None
    closed: bool = False  # final, whatever its status is called
    remarks: Dict[str, str] = field(default_factory=dict)
    locked: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mapping:
    """The compiled mapping."""

    switches: Switches
    active_stages: frozenset[str]
    opportunity: OpportunityFields
    leads: LeadFields
    solutions: SolutionRows
    accounts: Accounts
    people: People
    link: str
    lost_reason: str
    audit_line: str
    required: Dict[str, tuple[str, ...]]
    create: Create
    fields: tuple[FieldRow, ...]
    stages_in_org: frozenset[str] | None = None  # where describe told; None: not asked yet

    @classmethod
    def load(cls, overlay: str | Path | None = None) -> Mapping:
        """The shipped mapping with the overlay's differences. Raises `Misconfigured` with every fault, its file and its line."""
        paths = [SHIPPED, *([Path(overlay)] if overlay else [])]
        tree: dict[str, Any] = {}
        for path in paths:
            tree = mapping_file.laid_over(tree, mapping_file.read_toml(path))
        return cls.compile(tree, Source(*paths))

    @classmethod
    def compile(cls, tree: dict[str, Any], source: Source | None = None) -> Mapping:
        """The mapping that parsed files state. Raises `Misconfigured` with every fault at once."""
        source = source or Source()
        faults: list[str] = []
        checked, faulty = mapping_file.checked(tree, source, faults)
        if checked is None:
            raise Misconfigured(mapping_file.report(faults))
        rows: list[FieldRow] = []
        for name, row in checked.fields.items():
            if row.drop or name in faulty:
                continue
            place = mapping_file.place_of(name, row, checked, source, faults)
            faults += mapping_file.rule_faults(name, row, source)
            kind, _, path = row.partner_center.rpartition(":")
            winner: Side = row.winner or (PARTNER_CENTER if row.direction == "to_salesforce" else SALESFORCE)
            rows.append(
                FieldRow(
                    name, path, place, row.type, row.direction, winner, row.clearing, row.optional, kind,
                    row.on_create, row.on_update, row.values, row.default, row.label,
                )
            )  # fmt: skip
        faults += _clashes(rows, source) + mapping_file.stage_faults(checked, source)
        faults += [
            f"[fields.{name}] may not be dropped: the connector stands on it"
            for name in sorted(_NEEDED - faulty - {row.name for row in rows})
        ]
        if faults:
            raise Misconfigured(mapping_file.report(faults))
        switches = checked.switches
        closed = {switches.on_hold_stage, switches.won_stage, switches.lost_stage}
        return cls(
            switches,
            (frozenset(checked.stages.active) | {switches.active_stage}) - closed,
            checked.opportunity,
            checked.leads,
            checked.solutions,
            checked.accounts,
            checked.people,
            checked.referral.link,
            checked.referral.lost_reason,
            checked.audit.line,
            checked.required,
            checked.create,
            tuple(rows),
        )

    @cached_property
    def by_name(self) -> dict[str, FieldRow]:
        return {row.name: row for row in self.fields}

    @cached_property
    def people_fields(self) -> frozenset[str]:
        """The fields whose values name persons."""
        return frozenset(row.name for row in self.fields if row.type == "members")

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the mapping does; part of the hash that keeps a parked deal parked."""
        parts = [getattr(self, name) for name in self.__dataclass_fields__ if name not in ("active_stages", "stages_in_org")]
        return hashlib.sha256(repr([parts, sorted(self.active_stages)]).encode()).hexdigest()[:16]

    # -- reading records ---------------------------------------------------------------------------------------------------------

    def read_referral(self, referral: Dict[str, Any], microsoft: Dict[str, Any] | None = None) -> Record:
        """A referral (and Microsoft's, where there is one) in neutral terms."""
        values: dict[str, Value] = {}
        unread: dict[str, str] = {}
        for row in self.fields:
            try:
                values[row.name] = self._there(row, referral, microsoft)
            except Unreadable as error:
                unread[row.name] = f"{row.label} in Partner Center: {error}"
        reason = str(referral.get("statusReason") or "").strip()
        substatus = str(referral.get("substatus") or "")
        remark = ": ".join(part for part in (substatus if values.get("status") == LOST else "", reason) if part)
        currency = CODECS["currency"].read_referral(value_at(referral, "details/currency")) if "currency" not in self.by_name else None
        if currency not in (None, self.opportunity.company_currency) and values.pop("deal_value", None) is not None:
            unread["deal_value"] = (
                f"deal value in Partner Center: it is in {currency}, the org keeps {self.opportunity.company_currency or 'one currency'}"
            )
        remarks = {"status": remark, "created": _instant(referral.get("createdDateTime"))}
        told = {name: text for name, text in remarks.items() if text}
        return Record(values, unread, str(referral.get("eTag") or ""), closed=is_closed(referral), remarks=told)

    def _there(self, row: FieldRow, referral: Dict[str, Any], microsoft: Dict[str, Any] | None) -> Value:
        if row.type == "status":
            return status_of(referral)
        if row.type == "answer":
            return answer_of(microsoft)
        if row.type == "link":
            identifier = referral.get("id")
            return self.link.replace("{id}", str(identifier)) if identifier else None
        record = microsoft if row.of == "microsoft" else referral
        if row.of == "attribute":
            return row.codec.read_referral(attribute_of(referral, row.partner_center))
        raw = value_at(record, row.partner_center)
        if row.type == "members":
            return sorted({email_of(one) for one in raw if email_of(one)}) if isinstance(raw, list) else []
        return row.codec.read_referral(raw)

    def read_opportunity(self, opportunity: Dict[str, Any]) -> Record:
        """An opportunity, as the gather query returns it, in neutral terms."""
        values: dict[str, Value] = {}
        unread: dict[str, str] = {}
        for row in self.fields:
            try:
                values[row.name] = self._here(row, opportunity)
            except Unreadable as error:
                unread[row.name] = f"{row.label} in Salesforce: {error}"
        if values.get("help") and "visible" in values:
            values["visible"] = True  # asking for help implies it (connector-facts 3.1)
        if "currency" not in self.by_name and self.opportunity.company_currency:
            values["currency"] = self.opportunity.company_currency
        values["sync"] = bool(opportunity.get(self.opportunity.sync_field))
        locked = {"deal_value": "follows the opportunity's products"} if opportunity.get("HasOpportunityLineItem") else {}
        has_token = self.opportunity.token_field in opportunity
        token = str(opportunity.get(self.opportunity.token_field) or "") if has_token else None
        return Record(values, unread, str(opportunity.get("LastModifiedDate") or ""), token, locked=locked)

    def _here(self, row: FieldRow, opportunity: Dict[str, Any]) -> Value:
        if row.type == "status":
            return self.status_of_stage(opportunity)
        if row.type == "solutions":
            return sorted({item["id"] for item in self.solution_rows(opportunity)})
        if row.type == "members":
            return sorted({email_of(one) for one in self.members(row, opportunity) if complete(one)})
        if row.type == "answer":
            return None
        raw = value_at(opportunity, row.salesforce.replace(".", "/"))
        if row.type == "help":
            return help_code(raw)
        return row.codec.read_opportunity(raw)

    def members(self, row: FieldRow, opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
        """The people a row of type members stands for."""
        return customer_contacts(opportunity) if row.frozen_once_shared else own_team(opportunity)

    def carried_referral(self, opportunity: Dict[str, Any]) -> str:
        """The referral id an opportunity carries, in either field, lower case; empty where it carries none."""
        for name in ("referral_key", "referral_id"):
            row = self.by_name.get(name)
            value = str(opportunity.get(row.salesforce) or "").strip().lower() if row else ""
            if is_guid(value):
                return value
        return ""

    def status_of_stage(self, opportunity: Dict[str, Any]) -> Value:
        """The neutral status of an opportunity's stage. Raises `Unreadable` for an open stage that is not mapped."""
        stage = str(opportunity.get("StageName") or "")
        if stage == self.switches.on_hold_stage:
            return PENDING
        if stage == self.switches.won_stage or opportunity.get("IsWon") is True:
            return WON
        if stage == self.switches.lost_stage or opportunity.get("IsClosed") is True:
            return LOST
        if stage in self.active_stages:
            return ACTIVE
        raise Unreadable(f"stage {stage!r} is not mapped; list it under [stages] in the mapping")

    def stage_for(self, status: Value) -> str:
        """The stage an opportunity gets for a neutral status."""
        switches = self.switches
        return {PENDING: switches.on_hold_stage, ACTIVE: switches.active_stage, WON: switches.won_stage, LOST: switches.lost_stage}[status]

    def lacks_stage(self, status: Value) -> str:
        """The stage a neutral status would need and the org does not have; empty when it has it."""
        stage = self.stage_for(status)
        return stage if self.stages_in_org is not None and stage not in self.stages_in_org else ""

    def solution_rows(self, opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
        """The deal's solutions as Partner Center names them: `{id, name, type, publisherName?, solutionType?}`, in row order.

        An opportunity without solution rows may still hold ids in the text field of the original's first versions.
        """
        found: dict[str, dict[str, Any]] = {}
        for child in child_rows(opportunity, self.solutions.relationship):
            detail = child.get(self.solutions.detail_relationship) or {}
            identifier = str(detail.get(self.solutions.identifier_field) or "").strip()
            if identifier:
                entry: dict[str, Any] = {"id": identifier, "name": detail.get("Name") or identifier, "type": "Name"}
                if detail.get(self.solutions.publisher_field):
                    entry["publisherName"] = detail[self.solutions.publisher_field]
                if detail.get(self.solutions.type_field):
                    entry["solutionType"] = detail[self.solutions.type_field]
                found.setdefault(identifier, entry)
        if not found:
            listed = re.split(r"[,;\s]+", str(opportunity.get(self.opportunity.products_field) or ""))
            found = {identifier: {"id": identifier, "name": identifier, "type": "Name"} for identifier in listed if identifier}
        return list(found.values())


def base_field(place: str) -> str:
    """The field of Opportunity that a place stands on: `Solution_Area__r.Name` stands on `Solution_Area__c`."""
    first, dot, _ = place.partition(".")
    if not dot:
        return place
    return f"{first[:-1]}c" if first.endswith("__r") else f"{first}Id"


def help_code(raw: Any) -> Value:
    """The code of a help the seller chose. Raises `Unreadable` for one Partner Center does not know."""
    text = str(raw or "").strip()
    if not text or text == "--None--":
        return None
    if text not in HELP_CODES:
        raise Unreadable(f"{text!r} is not a help that Partner Center knows")
    return HELP_CODES[text]


def attribute_of(referral: Dict[str, Any], kind: str) -> Any:
    """The id of an entry of additionalRequirements (partner-center 3.7)."""
    listed = list_at(referral, "details/requirements/additionalRequirements/attributes")
    return next((one.get("id") for one in listed if one.get("type") == kind), None)


def answer_of(microsoft: Dict[str, Any] | None) -> Value:
    """Microsoft's answer to a co-sell request, in words for the seller; None while there is none."""
    if microsoft is None:
        return None
    status, substatus = str(microsoft.get("status") or ""), str(microsoft.get("substatus") or "")
    reason = str(microsoft.get("statusReason") or "").strip()
    if status == "Active":
        names = [f"{one.get('firstName') or ''} {one.get('lastName') or ''}".strip() for one in list_at(microsoft, "team")]
        return "Microsoft accepted" + (f": {', '.join(name for name in names if name)}" if any(names) else "")
    if status == "Closed":
        # No reason is given where the request expired, or below USD 25,000 (partner-center 5.5).
        return f"Microsoft's side is closed: {substatus}" + (f" ({reason})" if reason else "")
    return None


def _instant(raw: Any) -> str:
    """A time as it was read; empty for what is none."""
    try:
        parse_instant(str(raw or ""))
    except ValueError:
        return ""
    return str(raw)


def status_of(referral: Dict[str, Any]) -> str:
    """The neutral status of a referral. Raises `Unreadable` for a pair the connector does not know."""
    status, substatus = str(referral.get("status") or ""), str(referral.get("substatus") or "None")
    try:
        return _SUBSTATUS[status.lower(), substatus.lower()]
    except KeyError:
        raise Unreadable(f"status {status or 'null'}/{substatus} is not known") from None


def _clashes(rows: list[FieldRow], source: Source) -> list[str]:
    faults: list[str] = []
    for side, place in ((SALESFORCE, "salesforce"), (PARTNER_CENTER, "partner_center")):
        taken: dict[str, str] = {}
        for row in rows:
            where = getattr(row, place)
            if not row.travels_to(side) or not where:
                continue
            key = f"{row.of}:{where}"
            if key in taken:
                faults.append(f"{source.where('fields', row.name, place)}: {where!r} is already written by [fields.{taken[key]}]")
            taken.setdefault(key, row.name)
    return faults
