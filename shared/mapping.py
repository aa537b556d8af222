"""The mapping: which field stands where on both sides, who wins, and which way it travels. Pure but for reading its files.

`Mapping.load` reads the shipped `mapping.toml`, lays an overlay over it, and reports every fault at once. The planner, the Salesforce
queries, the checks and the field guide all read the same rows, so adding a field is adding a row.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.codecs import CODECS, Codec, Unreadable, Value
from shared.errors import Misconfigured
from shared.referral import PATCHABLE, value_at

SHIPPED = Path(__file__).resolve().parent.parent / "mapping.toml"

PARTNER_CENTER: Literal["partner_center"] = "partner_center"
SALESFORCE: Literal["salesforce"] = "salesforce"
Side = Literal["partner_center", "salesforce"]
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Api = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")
_Stage = Field(min_length=1, max_length=255)


class Switches(_Strict):
    """The seven switches of Microsoft's solution, and the two stages it left to the standard."""

    active_stage: str = _Stage
    on_hold_stage: str = _Stage
    won_stage: str = _Stage
    lost_stage: str = _Stage
    deal_value_field: str = _Api
    currency_field: str = _Api
    country_field: str = _Api
    check_mark_in_name: bool
    cosell_opportunities_only: bool


class _Stages(_Strict):
    active: tuple[str, ...]


class OpportunityFields(_Strict):
    """The connector's own fields on Opportunity."""

    sync_field: str = _Api
    audit_field: str = _Api
    help_field: str = _Api
    intent_field: str = _Api
    key_field: str = _Api
    token_field: str = _Api
    company_currency: str = Field(pattern=r"^([A-Z]{3})?$")


class SolutionRows(_Strict):
    """Where an opportunity's solutions are kept."""

    object: str = _Api
    opportunity_field: str = _Api
    relationship: str = _Api
    detail_field: str = _Api
    detail_relationship: str = _Api
    detail_object: str = _Api
    identifier_field: str = _Api
    type_field: str = _Api
    publisher_field: str = _Api


class _Referral(_Strict):
    link: str = Field(pattern=r"^https://.*\{id\}")
    lost_reason: str = Field(max_length=255)


class _Row(_Strict):
    partner_center: str = Field(pattern=r"^(microsoft:)?[A-Za-z]+(/[A-Za-z]+)*$")
    salesforce: str = Field(default="", pattern=r"^([A-Za-z][A-Za-z0-9_]{0,79}|\{[a-z_]+\})?$")
    type: Literal["text", "long_text", "title", "money", "currency", "date", "one_way_flag", "solutions", "link", "status"]
    direction: Literal["both", "to_salesforce", "to_partner_center"]
    winner: Side | None = None
    clearing: bool = False
    optional: bool = False


class _File(_Strict):
    version: Literal[1]
    switches: Switches
    stages: _Stages
    opportunity: OpportunityFields
    solutions: SolutionRows
    referral: _Referral
    fields: dict[str, _Row]


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
    of_microsoft: bool = False

    @property
    def codec(self) -> Codec:
        return CODECS[self.type]

    @property
    def label(self) -> str:
        """The name a seller reads."""
        return self.name.replace("_", " ")

    def travels_to(self, side: Side) -> bool:
        return self.direction in ("both", f"to_{side}")


@dataclass(frozen=True)
class Record:
    """One vendor's record in neutral terms.

    `values` holds what could be read, `unread` says for each other field why not. `version` is what a conditional write depends on
    (the eTag, or LastModifiedDate); `token` is the sync token found in it, None where the org has no such field.
    """

    values: Dict[str, Value]
    unread: Dict[str, str] = field(default_factory=dict)
    version: str = ""
    token: str | None = None


@dataclass(frozen=True)
class Mapping:
    """The compiled mapping."""

    switches: Switches
    active_stages: frozenset[str]
    opportunity: OpportunityFields
    solutions: SolutionRows
    link: str
    lost_reason: str
    fields: tuple[FieldRow, ...]
    stages_in_org: frozenset[str] | None = None  # where describe told; None: not asked yet

    @classmethod
    def load(cls, overlay: str | Path | None = None) -> Mapping:
        """The shipped mapping with the overlay's differences. Raises `Misconfigured` with every fault and where it stands."""
        tree = _toml(SHIPPED)
        if overlay:
            tree = _laid_over(tree, _toml(Path(overlay)))
        return cls.compile(tree, str(overlay or SHIPPED.name))

    @classmethod
    def compile(cls, tree: dict[str, Any], source: str) -> Mapping:
        """The mapping a parsed file states. Raises `Misconfigured` with every fault at once."""
        faults: list[str] = []
        try:
            checked = _File.model_validate(tree)
        except ValidationError as error:
            faults += [f"[{'.'.join(str(part) for part in one['loc'])}] {_fault(one)}" for one in error.errors()]
            raise Misconfigured(_report(source, faults)) from None
        rows = tuple(_row(name, row, checked, faults) for name, row in checked.fields.items())
        faults += _clashes(rows)
        faults += _stage_faults(checked)
        faults += [f"[fields] {name!r} may not be dropped: the connector stands on it" for name in _NEEDED - set(checked.fields)]
        if faults:
            raise Misconfigured(_report(source, faults))
        switches = checked.switches
        active = (frozenset(checked.stages.active) | {switches.active_stage}) - {
            switches.on_hold_stage,
            switches.won_stage,
            switches.lost_stage,
        }
        return cls(switches, active, checked.opportunity, checked.solutions, checked.referral.link, checked.referral.lost_reason, rows)

    @cached_property
    def by_name(self) -> dict[str, FieldRow]:
        return {row.name: row for row in self.fields}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the mapping does; part of the hash that keeps a parked deal parked."""
        text = repr((self.switches, sorted(self.active_stages), self.opportunity, self.solutions, self.link, self.lost_reason, self.fields))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def without(self, missing: frozenset[str]) -> Mapping:
        """The mapping for an org that lacks these Opportunity fields. Only optional rows may go; the caller has checked."""
        rows = tuple(row for row in self.fields if row.salesforce not in missing)
        return replace(self, fields=rows)

    # -- reading records ---------------------------------------------------------------------------------------------------------

    def read_referral(self, referral: Dict[str, Any], microsoft: Dict[str, Any] | None = None) -> Record:
        """A referral (and Microsoft's, where there is one) in neutral terms."""
        values: dict[str, Value] = {}
        unread: dict[str, str] = {}
        for row in self.fields:
            try:
                if row.type == "status":
                    values[row.name] = status_of(referral)
                elif row.type == "link":
                    identifier = referral.get("id")
                    values[row.name] = self.link.replace("{id}", str(identifier)) if identifier else None
                else:
                    raw = value_at(microsoft if row.of_microsoft else referral, row.partner_center)
                    values[row.name] = row.codec.read_referral(raw)
            except Unreadable as error:
                unread[row.name] = f"{row.label} in Partner Center: {error}"
        return Record(values, unread, str(referral.get("eTag") or ""))

    def read_opportunity(self, opportunity: Dict[str, Any]) -> Record:
        """An opportunity, as the gather query returns it, in neutral terms."""
        values: dict[str, Value] = {}
        unread: dict[str, str] = {}
        for row in self.fields:
            try:
                if row.type == "status":
                    values[row.name] = self.status_of_stage(opportunity)
                elif row.type == "solutions":
                    values[row.name] = sorted({item["id"] for item in self.solution_rows(opportunity)})
                else:
                    values[row.name] = row.codec.read_opportunity(opportunity.get(row.salesforce))
            except Unreadable as error:
                unread[row.name] = f"{row.label} in Salesforce: {error}"
        if "currency" not in self.by_name and self.opportunity.company_currency:
            values["currency"] = self.opportunity.company_currency
        token = opportunity.get(self.opportunity.token_field) if self.opportunity.token_field in opportunity else None
        has_token = self.opportunity.token_field in opportunity
        return Record(values, unread, str(opportunity.get("LastModifiedDate") or ""), str(token or "") if has_token else None)

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
        """The deal's solutions as Partner Center names them: `{id, name, type, publisherName?, solutionType?}`, in row order."""
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
        return list(found.values())


def child_rows(record: Dict[str, Any], relationship: str) -> list[dict[str, Any]]:
    """The rows of a child subquery, which is null when there are none."""
    nested = record.get(relationship)
    return list(nested.get("records") or []) if isinstance(nested, Dict) else []


def status_of(referral: Dict[str, Any]) -> str:
    """The neutral status of a referral. Raises `Unreadable` for a pair the connector does not know."""
    status, substatus = str(referral.get("status") or ""), str(referral.get("substatus") or "None")
    try:
        return _SUBSTATUS[status.lower(), substatus.lower()]
    except KeyError:
        raise Unreadable(f"status {status or 'null'}/{substatus} is not known") from None


_NEEDED = frozenset({"title", "status", "external_reference", "referral_id", "solutions"})


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"the mapping file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the mapping file {path} is not valid TOML: {error}") from error


def _laid_over(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overlay.items():
        merged[key] = _laid_over(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


def _fault(one: Any) -> str:
    given = json.dumps(one.get("input"), default=str)
    return f"{one['msg']} (given: {given if len(given) < 80 else given[:77] + '...'})"


def _report(source: str, faults: list[str]) -> str:
    return f"{source}: {len(faults)} fault(s) in the mapping:\n" + "\n".join(f"  - {fault}" for fault in faults)


def _row(name: str, row: _Row, checked: _File, faults: list[str]) -> FieldRow:
    where = f"[fields.{name}]"
    place = row.salesforce
    if place.startswith("{"):
        known = {**checked.switches.model_dump(), **checked.opportunity.model_dump()}
        reference = place[1:-1]
        place = str(known.get(reference, ""))
        if reference not in known or not reference.endswith("_field"):
            faults.append(f"{where} salesforce: {{{reference}}} is not the name of a field switch")
    if not place and row.type != "solutions":
        faults.append(f"{where} salesforce: name the Opportunity field")
    path = row.partner_center.removeprefix("microsoft:")
    of_microsoft = path != row.partner_center
    if row.direction != "to_salesforce" and (of_microsoft or f"/{path}" not in PATCHABLE):
        faults.append(f"{where} partner_center: Partner Center takes no change of {row.partner_center!r}; use direction = \"to_salesforce\"")
    if row.direction == "both" and row.winner is None:
        faults.append(f"{where} winner: a field that travels both ways needs a winner, \"salesforce\" or \"partner_center\"")
    if row.type == "status" and name != "status":
        faults.append(f"{where} type: only the field named status has the type status")
    winner: Side = row.winner or (PARTNER_CENTER if row.direction == "to_salesforce" else SALESFORCE)
    return FieldRow(name, path, place, row.type, row.direction, winner, row.clearing, row.optional, of_microsoft)


def _clashes(rows: tuple[FieldRow, ...]) -> list[str]:
    faults: list[str] = []
    for side, place in ((SALESFORCE, "salesforce"), (PARTNER_CENTER, "partner_center")):
        taken: dict[str, str] = {}
        for row in rows:
            where = getattr(row, place)
            if not row.travels_to(side) or not where:
                continue
            if where in taken:
                faults.append(f"[fields.{row.name}] {place}: {where!r} is already written by [fields.{taken[where]}]")
            taken.setdefault(where, row.name)
    return faults


def _stage_faults(checked: _File) -> list[str]:
    switches = checked.switches
    named: dict[str, str] = {}
    faults: list[str] = []
    for switch in ("active_stage", "on_hold_stage", "won_stage", "lost_stage"):
        stage = getattr(switches, switch)
        if stage in named:
            faults.append(f"[switches] {switch}: {stage!r} is already the {named[stage]}; the four stages must differ")
        named.setdefault(stage, switch)
    return faults
