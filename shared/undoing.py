"""Taking writes back: what an operator's undo wants in which field, and what no undo can do. Pure.

An undo is an edit by the operator. Where a field travels both ways the value from before is put into Salesforce alone, and is not remembered
as ours: the next run finds it there like anybody's edit and carries it over, by the same rules. Where a field travels one way the value is
put back on the side it was written, and the field rests until its source changes.
"""

from __future__ import annotations

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.codecs import Value
from shared.mapping import PARTNER_CENTER, PENDING, SALESFORCE, SIDE_NAMES, FieldRow, Mapping, Record
from shared.mapping_file import Side

WHY = "taken back by an operator"
ERASED = "[erased]"  # stands where a person's data was removed; never written to a vendor

_IDENTITY = frozenset({"referral_id", "referral_key", "referral_link", "external_reference"})


@dataclass(frozen=True)
class Wish:
    """A value that is wanted back, by an operator unless `why` says otherwise: `written` is what the connector wrote to `side`,
    `value` what stood there before."""

    value: Value
    written: Value
    side: Side
    why: str = WHY


@dataclass(frozen=True)
class Undo:
    """What an undo of some writes comes to: a wish for each field, and why the rest cannot be taken back."""

    wishes: Dict[str, Wish] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()


def is_write(entry: Dict[str, Any]) -> bool:
    """Whether a history entry is about something that was sent to a vendor."""
    return entry.get("kind") == "create" or bool((entry.get("details") or {}).get("changes"))


def undo_of(mapping: Mapping, entries: Sequence[Dict[str, Any]], referral_id: str, opportunity_id: str) -> Undo:
    """The undo of a deal's history entries, given newest first: each field goes back to what stood before the oldest of them."""
    wishes: dict[str, Wish] = {}
    refusals: dict[str, None] = {}
    for entry in entries:
        if entry.get("kind") == "create":
            words = str(entry.get("text") or "").partition(": ")[2] or "a create"
            which = f"the referral {referral_id or 'it made'} or the opportunity {opportunity_id or 'it made'}"
            refusals[f"{words} ({entry.get('at')}): a record is never deleted; close {which} by hand as a duplicate or an error"] = None
            continue
        for change in (entry.get("details") or {}).get("changes") or ():
            name, newer = str(change["field"]), wishes.get(str(change["field"]))
            written = newer.written if newer else _standing(change["new"])
            side: Side = newer.side if newer else change["side"]
            wishes[name] = Wish(_standing(change["old"]), written, side)
    for name, wish in list(wishes.items()):
        reason = refusal(mapping, name, wish)
        if reason:
            refusals[reason] = None
            del wishes[name]
    return Undo(wishes, tuple(refusals))


def _standing(value: Any) -> Any:
    """The value a record shows: of a list, all of it."""
    return value.get("list") if isinstance(value, Dict) else value


def refusal(mapping: Mapping, name: str, wish: Wish) -> str:
    """Why a write to a field can never be taken back, and what a person can do instead; empty where it can."""
    row, source = mapping.by_name.get(name), SIDE_NAMES[SALESFORCE if wish.side == PARTNER_CENTER else PARTNER_CENTER]
    if row is None:
        if name == "sync":
            return "sync: turned off because the last solution was removed; add a solution and turn Sync With Partner Center on again"
        return f"{name.replace('_', ' ')}: the mapping has no such field any more; set it by hand"
    if row.type == "status":
        if wish.value == PENDING and wish.written not in ("won", "lost"):
            return f"{row.label}: an accepted invitation cannot be handed back"
        return f"{row.label}: a closed deal stays closed in Partner Center, and its stage follows; make a new deal instead"
    if row.type == "one_way_flag":
        return f"{row.label}: once given it cannot be withdrawn"
    if row.type == "help":
        return f"{row.label}: once submitted it cannot be changed"
    if row.type == "answer":
        return f"{row.label}: told in the audit text, which is never shortened"
    if row.type == "solutions":
        return f"{row.label}: follow the opportunity's solution rows; add or remove the row in Salesforce, and the referral follows"
    if row.type == "members":
        return f"{row.label}: nobody is removed from a referral; remove the person in Partner Center by hand"
    if name in _IDENTITY:
        return f"{row.label}: says which records are one deal, and stays"
    if ERASED in str(wish.value) or ERASED in str(wish.written):
        return f"{row.label}: its value was erased from history"
    if wish.value in (None, "") and not row.clearing and (row.direction == "both" or wish.side == PARTNER_CENTER):
        return f"{row.label}: was empty before, and an empty value does not travel; empty it by hand on both sides"
    if not row.travels_to(wish.side):
        return f"{row.label}: no longer travels to {SIDE_NAMES[wish.side]}, only from there to {source}"
    return ""


def sides(row: FieldRow, wish: Wish) -> tuple[Side, ...]:
    """The sides an undo changes, in order: the one that is written, and the one that follows."""
    return (SALESFORCE, PARTNER_CENTER) if row.direction == "both" else (wish.side,)


def moved_on(row: FieldRow, wish: Wish, there: Record, here: Record) -> str:
    """Why the value from before is not wanted any more, on the records as they are now; empty while it is.

    Only what still holds what was written is taken back: whoever edited the field since meant something else.
    """
    for side in sides(row, wish):
        record = there if side == PARTNER_CENTER else here
        if row.name in record.unread:
            return record.unread[row.name]
        value = record.values.get(row.name)
        if value == wish.value:
            return f"{row.label}: {SIDE_NAMES[side]} holds the value from before already"
        if value != wish.written:
            return f"{row.label}: changed in {SIDE_NAMES[side]} since, and left alone"
    return ""
