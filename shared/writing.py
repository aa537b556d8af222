"""The bodies of planned writes: JSON Patch for a referral, a field dictionary for an opportunity, and the audit text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from datetime import datetime
from typing import Any

from shared.codecs import CHECK, Value, clip, mark_of, strip_marks
from shared.mapping import ACTIVE, LOST, PARTNER_CENTER, PENDING, SALESFORCE, WON, Mapping
from shared.people import email_of
from shared.planning import SYNC, Change, Plan
from shared.referral import PATCHABLE, holds, value_at

AUDIT_LENGTH = 32_000  # Audit__c holds 100,000 (connector-facts 3.1); its newest part is what anybody reads
NAME_FIELD_LENGTH = 120
NEXT_STEP_LENGTH = 255

STATUS_PAIRS = {ACTIVE: ("Active", "Accepted"), WON: ("Closed", "Won"), LOST: ("Closed", "Lost")}


def referral_patch(mapping: Mapping, plan: Plan, referral: Dict[str, Any], opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON Patch that carries the plan's changes to the referral: only what changes."""
    operations: list[dict[str, Any]] = []
    for change in plan.to(PARTNER_CENTER):
        row = mapping.by_name[change.field]
        if row.type == "status":
            status, substatus = STATUS_PAIRS[change.new]
            if change.old == PENDING and change.new == LOST:
                substatus = "Declined"
            # The service checks the pair, so both go in one patch (partner-center 2.6).
            operations += [_operation(referral, "status", status), _operation(referral, "substatus", substatus)]
            if change.new == LOST and mapping.lost_reason:
                operations.append(_operation(referral, "statusReason", mapping.lost_reason))
        elif row.type in ("solutions", "members"):
            operations.append(_operation(referral, row.partner_center, _entries(mapping, change, referral, opportunity)))
        else:
            operations.append(_operation(referral, row.partner_center, row.codec.write_referral(change.new)))
    return operations


def _operation(referral: Dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    if f"/{path}" not in PATCHABLE:
        raise ValueError(f"Partner Center takes no change of /{path}")
    return {"op": "replace" if holds(referral, path) else "add", "path": f"/{path}", "value": value}


def _entries(mapping: Mapping, change: Change, referral: Dict[str, Any], opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
    """The whole list as Partner Center wants it: entries that stand are sent back as they were read, new ones come from Salesforce."""
    row = mapping.by_name[change.field]

    def key(item: Dict[str, Any]) -> str:
        return str(item.get("id")).strip() if row.type == "solutions" else email_of(item)

    ours = mapping.solution_rows(opportunity) if row.type == "solutions" else mapping.members(row, opportunity)
    listed = value_at(referral, row.partner_center)
    standing = {key(item): item for item in (listed if isinstance(listed, list) else []) if isinstance(item, Dict)}
    new = {key(item): item for item in ours}
    # In the order they stand, so that only the end of the list changes.
    order = [name for name in standing if name in change.new["list"]]
    order += [name for name in change.new["list"] if name not in standing]
    return [dict(standing.get(name) or new[name]) for name in order]


def opportunity_fields(
    mapping: Mapping, plan: Plan, opportunity: Dict[str, Any], token: str, now: datetime, has_token: bool
) -> dict[str, Any]:
    """The fields of the PATCH that carries the plan's changes to the opportunity, with its audit line, mark and sync token."""
    fields: dict[str, Any] = {}
    changes = plan.to(SALESFORCE)
    for change in changes:
        if change.field == SYNC:
            fields[mapping.opportunity.sync_field] = False
            continue
        row = mapping.by_name[change.field]
        if row.type == "answer":
            continue  # told in the audit line alone
        if row.type == "title":
            fields[row.salesforce] = marked_name(mapping, str(change.new), CHECK)
        elif row.type == "status":
            fields[row.salesforce] = mapping.stage_for(change.new)
        else:
            fields[row.salesforce] = row.codec.write_opportunity(change.new)
    title = mapping.by_name["title"].salesforce
    if title not in fields and mark_of(opportunity.get(title)) != CHECK:
        fields.update(name_with_mark(mapping, opportunity, CHECK))
    audit = mapping.opportunity.audit_field
    fields[audit] = audit_text(mapping, now, audit_line(changes), opportunity.get(audit))
    if has_token:
        fields[mapping.opportunity.token_field] = token
    return fields | told_fields(mapping, opportunity, now, "")


def told_fields(mapping: Mapping, opportunity: Dict[str, Any], now: datetime, next_step: str) -> dict[str, Any]:
    """When the connector wrote and what the seller has to do next, beside any write; only the fields that were read."""
    own = mapping.opportunity
    fields: dict[str, Any] = {}
    if own.synced_field in opportunity:
        fields[own.synced_field] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    wanted = clip(next_step, NEXT_STEP_LENGTH) or None
    if own.next_step_field in opportunity and opportunity[own.next_step_field] != wanted:
        fields[own.next_step_field] = wanted
    return fields


def marked_name(mapping: Mapping, title: str, mark: str) -> str:
    """The name with its mark, or without where the switch is off or the mark does not fit."""
    if not mapping.switches.check_mark_in_name or not mark:
        return title
    marked = f"{mark} {title}"
    return marked if clip(marked, NAME_FIELD_LENGTH) == marked else title


def name_with_mark(mapping: Mapping, opportunity: Dict[str, Any], mark: str) -> dict[str, Any]:
    """The field that puts another mark before the name a person gave; empty when nothing would change."""
    if not mapping.switches.check_mark_in_name:
        return {}
    field = mapping.by_name["title"].salesforce
    present = str(opportunity.get(field) or "")
    wanted = marked_name(mapping, strip_marks(present).strip(), mark)
    return {field: wanted} if wanted != present else {}


def audit_line(changes: Iterable[Change]) -> str:
    """One line for one outcome, in the words of the plan."""
    changes = tuple(changes)
    if any(change.field == "referral_id" for change in changes):
        rest = [str(change) for change in changes if change.field not in ("referral_id", "referral_key", "referral_link")]
        return "; ".join(["synchronized with Partner Center", *rest])
    return "; ".join(str(change) for change in changes)


def audit_text(mapping: Mapping, now: datetime, text: str, previous: Value) -> str:
    """The audit text with a new entry on top, UTC, cut at its oldest end."""
    entry = mapping.audit_line.replace("{time}", now.strftime("%Y-%m-%d %H:%M")).replace("{text}", text)
    return clip("\n".join([entry, *([str(previous)] if previous else [])]), AUDIT_LENGTH)


def says_already(mapping: Mapping, audit: Value, text: str) -> bool:
    """Whether the newest entry says exactly this, whatever its time."""
    entry = re.escape(mapping.audit_line).replace(re.escape("{time}"), "[0-9: -]+").replace(re.escape("{text}"), re.escape(text))
    return re.match(rf"{entry}(\n|\Z)", str(audit or "")) is not None
