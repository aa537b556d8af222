"""The bodies of planned writes: JSON Patch for a referral, a field dictionary for an opportunity, and the audit text. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Dict
from datetime import datetime
from typing import Any

from shared.codecs import CHECK, Value, clip, mark_of, strip_marks
from shared.mapping import ACTIVE, LOST, PARTNER_CENTER, PENDING, SALESFORCE, WON, Mapping
from shared.planning import Change, Plan
from shared.referral import PATCHABLE, holds, value_at

AUDIT_LENGTH = 32_000  # Audit__c holds 100,000 (connector-facts 3.1); its newest part is what anybody reads
NAME_FIELD_LENGTH = 120

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
        elif row.type == "solutions":
            operations.append(_operation(referral, row.partner_center, _solution_entries(mapping, change, referral, opportunity)))
        else:
            operations.append(_operation(referral, row.partner_center, row.codec.write_referral(change.new)))
    return operations


def _operation(referral: Dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    if f"/{path}" not in PATCHABLE:
        raise ValueError(f"Partner Center takes no change of /{path}")
    return {"op": "replace" if holds(referral, path) else "add", "path": f"/{path}", "value": value}


def _solution_entries(mapping: Mapping, change: Change, referral: Dict[str, Any], opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
    """The whole list as Partner Center wants it: entries that stand are sent back as they were read, new ones come from the rows."""
    wanted = change.new["list"]
    standing = {str(item.get("id")): item for item in value_at(referral, "details/requirements/solutions") or [] if isinstance(item, Dict)}
    ours = {item["id"]: item for item in mapping.solution_rows(opportunity)}
    return [dict(standing.get(identifier) or ours[identifier]) for identifier in wanted]


def opportunity_fields(
    mapping: Mapping, plan: Plan, opportunity: Dict[str, Any], token: str, now: datetime, has_token: bool
) -> dict[str, Any]:
    """The fields of the PATCH that carries the plan's changes to the opportunity, with its audit line, mark and sync token."""
    fields: dict[str, Any] = {}
    changes = plan.to(SALESFORCE)
    for change in changes:
        row = mapping.by_name[change.field]
        if row.type == "title":
            fields[row.salesforce] = marked_name(mapping, str(change.new), CHECK)
        elif row.type == "status":
            fields[row.salesforce] = mapping.stage_for(change.new)
        else:
            fields[row.salesforce] = row.codec.write_opportunity(change.new)
    title = mapping.by_name["title"].salesforce
    if title not in fields and mark_of(opportunity.get(title)) != CHECK:
        fields.update(name_with_mark(mapping, opportunity, CHECK))
    fields[mapping.opportunity.audit_field] = audit_text(now, [audit_line(changes)], opportunity.get(mapping.opportunity.audit_field))
    if has_token:
        fields[mapping.opportunity.token_field] = token
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


def audit_text(now: datetime, lines: Iterable[str], previous: Value) -> str:
    """The audit text with new lines on top, UTC, cut at its oldest end."""
    stamp = now.strftime("%Y-%m-%d %H:%M")
    text = "\n".join([*(f"{stamp} - {line}" for line in lines), *([str(previous)] if previous else [])])
    return clip(text, AUDIT_LENGTH)


def latest_audit_line(audit: Value) -> str:
    """The newest line without its time, to see whether it would only be said again."""
    first = str(audit or "").splitlines()[:1]
    return first[0].partition(" - ")[2] if first else ""
