"""The form of a mapping file: what may stand in `mapping.toml` or an overlay, and how its faults are told.

Reading a file ends in a `Mapping` (`mapping.py`), or in one `Misconfigured` that names every fault with file and line.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared import tenant
from shared.errors import Misconfigured
from shared.referral import PATCHABLE

SHIPPED = Path(__file__).resolve().parent.parent / "mapping.toml"

Side = Literal["partner_center", "salesforce"]
FieldType = Literal[
    "text",
    "long_text",
    "title",
    "money",
    "currency",
    "date",
    "one_way_flag",
    "choice",
    "solutions",
    "members",
    "link",
    "status",
    "help",
    "answer",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Api = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")
_ApiOrNone = Field(default="", pattern=r"^([A-Za-z][A-Za-z0-9_]{0,79})?$")
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


class Stages(_Strict):
    active: tuple[str, ...]


class OpportunityFields(_Strict):
    """The connector's own fields on Opportunity."""

    sync_field: str = _Api
    audit_field: str = _Api
    help_field: str = _Api
    cosell_type_field: str = _Api
    products_field: str = _Api
    key_field: str = _Api
    token_field: str = _Api
    synced_field: str = _Api
    next_step_field: str = _Api
    company_currency: str = Field(pattern=r"^([A-Z]{3})?$")


class LeadFields(_Strict):
    """The connector's own fields on Lead, and the statuses it writes. An empty default_status leaves the choice to the org."""

    sync_field: str = _Api
    audit_field: str = _Api
    identifier_field: str = _Api
    link_field: str = _Api
    program_field: str = _Api
    key_field: str = _Api
    default_status: str = Field(default="", max_length=255)
    closed_status: str = _Stage


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
    count_field: str = _Api


class Accounts(_Strict):
    """How a referral's customer is found among the accounts."""

    match: Literal["name_and_postal_code", "duns", "external_id"]
    duns_field: str = _Api
    external_id_field: str = _ApiOrNone


class People(_Strict):
    """Who owns what comes from Partner Center."""

    default_owner: str = Field(default="", max_length=255)
    opportunity_team: bool


class ReferralTexts(_Strict):
    link: str = Field(pattern=r"^https://.*\{id\}")
    lost_reason: str = Field(max_length=255)


class Audit(_Strict):
    line: str = Field(pattern=r"\{text\}")


class Create(_Strict):
    """Constants and templates of new records: field (or referral path) = value; `{field}` stands for a neutral value."""

    Opportunity: dict[str, Any] = Field(default_factory=dict)
    Account: dict[str, Any] = Field(default_factory=dict)
    Contact: dict[str, Any] = Field(default_factory=dict)
    Lead: dict[str, Any] = Field(default_factory=dict)
    Referral: dict[str, Any] = Field(default_factory=dict)


class Row(_Strict):
    """One field."""

    partner_center: str = Field(pattern=r"^((microsoft|attribute):)?[A-Za-z]+(/[A-Za-z]+)*$")
    salesforce: str = Field(default="", pattern=r"^([A-Za-z][A-Za-z0-9_]{0,79}(\.[A-Za-z][A-Za-z0-9_]{0,79})?|\{[a-z_]+\})?$")
    type: FieldType
    direction: Literal["both", "to_salesforce", "to_partner_center"]
    winner: Side | None = None
    clearing: bool = False
    optional: bool = False
    on_create: bool | Literal["to_salesforce", "to_partner_center"] = True
    on_update: bool | Literal["to_salesforce", "to_partner_center"] = True
    drop: bool = False
    values: dict[str, str] = Field(default_factory=dict)
    default: str = ""
    label: str = ""


class File(_Strict):
    version: Literal[1]
    switches: Switches
    stages: Stages
    opportunity: OpportunityFields
    leads: LeadFields
    solutions: SolutionRows
    accounts: Accounts
    people: People
    referral: ReferralTexts
    audit: Audit
    required: dict[str, tuple[str, ...]]
    create: Create
    fields: dict[str, Row]


class Source:
    """The files a mapping is read from, for saying where a fault stands."""

    def __init__(self, *paths: Path) -> None:
        self._texts = [(path.name, path.read_text(encoding="utf-8").splitlines()) for path in paths if path.is_file()]

    def where(self, *location: str | int) -> str:
        """`file:line [table] key`, in the overlay if it stands there, else in the shipped file."""
        keys = [str(part) for part in location]
        table = ".".join(keys[:-1]) if len(keys) > 1 else keys[0] if keys else ""
        for name, lines in reversed(self._texts):
            line = _line_of(lines, keys)
            if line:
                return f"{name}:{line} [{table}]" + (f" {keys[-1]}" if len(keys) > 1 else "")
        return f"[{table}]" + (f" {keys[-1]}" if len(keys) > 1 else "")


def _line_of(lines: list[str], keys: list[str]) -> int:
    """The line where a key, or at least its table, stands; 0 if it does not."""
    for depth in range(len(keys), 0, -1):
        table, found = "", 0
        for number, line in enumerate(lines, 1):
            header = re.match(r"\s*\[([^\[\]]+)\]\s*(#.*)?$", line)
            if header:
                table = header.group(1).strip()
                if table == ".".join(keys[:depth]):
                    found = found or number
            entry = re.match(r"\s*(\"[^\"]+\"|[A-Za-z0-9_-]+)\s*=", line)
            if entry and ".".join(filter(None, [table, entry.group(1).strip('"')])) == ".".join(keys[:depth]):
                return number
        if found:
            return found
    return 0


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file, over what was settled on the tenant (`tenant.py`). Raises `Misconfigured` when it cannot be read."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        settled = tenant.parse(tables, path.name).mapping
        return laid_over(settled, {name: table for name, table in tables.items() if name != "tenant"})
    except OSError as error:
        raise Misconfigured(f"the mapping file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the mapping file {path} is not valid TOML: {error}") from error


def laid_over(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """The base with the overlay's differences, table by table."""
    merged = dict(base)
    for key, value in overlay.items():
        merged[key] = laid_over(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


def checked(tree: dict[str, Any], source: Source, faults: list[str]) -> tuple[File | None, set[str]]:
    """The file in its form, and the fields whose rows are faulty.

    Faults of form are added and mended from the shipped file for the time being, so that the rules can be checked in the same breath.
    """
    try:
        return File.model_validate(tree), set()
    except ValidationError as error:
        shipped = read_toml(SHIPPED)
        mended, faulty = copy.deepcopy(tree), set()
        for one in error.errors():
            given = json.dumps(one.get("input"), default=str)
            shown = "" if one["type"] == "missing" else f" (given: {given if len(given) < 80 else given[:77] + '...'})"
            faults.append(f"{source.where(*one['loc'])}: {one['msg']}{shown}")
            _mend(mended, shipped, [str(part) for part in one["loc"]])
            if one["loc"][0] == "fields" and len(one["loc"]) > 1:
                faulty.add(str(one["loc"][1]))
    for name in faulty - set(shipped["fields"]):
        mended["fields"].pop(name, None)
    try:
        return File.model_validate(mended), faulty
    except ValidationError:
        return None, faulty


def _mend(tree: Any, shipped: Any, location: list[str]) -> None:
    """Puts the shipped value in a faulty place, or takes the place away where the shipped file has none."""
    for part in location[:-1]:
        if not isinstance(tree, dict) or not isinstance(tree.get(part), dict):
            break
        tree, shipped = tree[part], shipped.get(part, {}) if isinstance(shipped, dict) else {}
    else:
        part = location[-1]
    if isinstance(tree, dict):
        if isinstance(shipped, dict) and part in shipped:
            tree[part] = shipped[part]
        else:
            tree.pop(part, None)


def report(faults: list[str]) -> str:
    return f"{len(faults)} fault(s) in the mapping:\n" + "\n".join(f"  - {fault}" for fault in faults)


def place_of(name: str, row: Row, file: File, source: Source, faults: list[str]) -> str:
    """The Opportunity field a row names, directly or by a switch in braces."""
    place = row.salesforce
    if place.startswith("{"):
        known = {**file.switches.model_dump(), **file.opportunity.model_dump()}
        reference = place[1:-1]
        if reference not in known or not reference.endswith("_field"):
            faults.append(f"{source.where('fields', name, 'salesforce')}: {{{reference}}} is not the name of a field switch")
        place = str(known.get(reference, ""))
    if not place and row.type not in ("solutions", "members", "answer"):
        faults.append(f"{source.where('fields', name, 'salesforce')}: name the Opportunity field")
    if "." in place and row.direction != "to_partner_center":
        faults.append(f"{source.where('fields', name, 'salesforce')}: a field of another record can be read, not written")
    return place


def rule_faults(name: str, row: Row, source: Source) -> list[str]:
    """What one row may not combine."""
    faults: list[str] = []
    kind, _, path = row.partner_center.rpartition(":")
    if row.direction != "to_salesforce" and row.on_update and row.type != "help" and (kind or f"/{path}" not in PATCHABLE):
        faults.append(
            f"{source.where('fields', name, 'partner_center')}: Partner Center takes no later change of {row.partner_center!r}; "
            'use direction = "to_salesforce", or on_update = false'
        )
    if row.direction == "both" and row.winner is None:
        faults.append(
            f'{source.where("fields", name, "winner")}: a field that travels both ways needs a winner, "salesforce" or "partner_center"'
        )
    if (row.type == "status") != (name == "status"):
        faults.append(f"{source.where('fields', name, 'type')}: the field named status, and no other, has the type status")
    if row.type == "choice" and not row.values:
        faults.append(f"{source.where('fields', name, 'values')}: a choice needs its values, Salesforce value = Partner Center value")
    if len(set(row.values.values())) != len(row.values) and row.direction != "to_partner_center":
        faults.append(
            f"{source.where('fields', name, 'values')}: two Salesforce values stand for one of Partner Center; the way back is not clear"
        )
    return faults


def stage_faults(file: File, source: Source) -> list[str]:
    """Stages that would make two statuses one."""
    named: dict[str, str] = {}
    faults: list[str] = []
    for switch in ("active_stage", "on_hold_stage", "won_stage", "lost_stage"):
        stage = getattr(file.switches, switch)
        if stage in named:
            faults.append(f"{source.where('switches', switch)}: {stage!r} is already the {named[stage]}; the four stages must differ")
        named.setdefault(stage, switch)
    return faults
