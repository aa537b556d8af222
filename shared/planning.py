"""What should be written where, and why: a pure function of both records, the memory of the pair and the mapping.

The protocol this follows, and the story of what breaks without each of its steps, is `docs/protocol.md`; the numbers in comments
(N9, N11 …) are its stories. Nothing here touches the network, the clock or storage.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from shared.codecs import Value, parse_instant
from shared.mapping import ACTIVE, LOST, PARTNER_CENTER, PENDING, SALESFORCE, SIDE_NAMES, TERMINAL, WON, FieldRow, Mapping, Record
from shared.mapping_file import Side
from shared.people import digest, pseudonym
from shared.undoing import ERASED, Wish, moved_on, sides

AGREED = "both sides agree"
ANSWER, SYNC = "microsoft_answer", "sync"
HAD_SOLUTIONS = "had_solutions"  # in memory: the opportunity had solution rows, so that having none now means they were removed
# In memory: what a one-way field's source held when its write was taken back; until that changes nothing travels.
RESTING = "resting"
# A deal may be registered (for incentives) only when this lies between its creation and Won (partner-center 5.6).
REGISTRABLE_AFTER = timedelta(hours=72)
STATUS_WORDS = {PENDING: "on hold", ACTIVE: "Active", WON: "Closed as Won", LOST: "Closed as Lost"}


@dataclass(frozen=True)
class Announced:
    """A value on its way to one side, and the value it would override there where that is a loser of a conflict."""

    value: Value
    overrides: Value = None
    undo: bool = False  # an operator's edit, not ours: memory does not take it


@dataclass(frozen=True)
class Announcement:
    """One write that may be on its way: what it depends on, how to recognise it, and its exact body (JSON text) for a repetition."""

    version: str
    token: str
    fields: Dict[str, Announced]
    body: str


@dataclass(frozen=True)
class Known:
    """What the pair row knows. A field missing from `memory` was never seen, which is not the same as empty."""

    memory: Dict[str, Value] = field(default_factory=dict)
    announced: Dict[Side, Announcement] = field(default_factory=dict)
    unsure: frozenset[str] = frozenset()
    wishes: Dict[str, Wish] = field(default_factory=dict)  # by field: what an operator's undo wants back


@dataclass(frozen=True)
class Change:
    """One field to write on one side. `old` is what stands there now; `conflict` says that it is overridden knowingly.

    `undo` says that an operator takes a write back; `people` that the value names persons, who stay out of every text.
    """

    side: Side
    field: str
    label: str
    old: Value
    new: Value
    why: str
    conflict: bool = False
    undo: bool = False
    people: bool = False

    def __str__(self) -> str:
        if self.people:
            return f"{self.label} {len(self.old or ())} → {len(expected(self.new))} people, {self.why}"
        if self.field == "notes":
            return f"{self.label} updated, {self.why}"
        if self.field in (ANSWER, SYNC):
            return str(self.new) if self.field == ANSWER else self.why
        return f"{self.label} {_shown(self.field, self.old)} → {_shown(self.field, self.new)}, {self.why}"


@dataclass(frozen=True)
class Plan:
    """The outcome of planning one pair. Print it: that is the dry run, the history entry and the audit text."""

    known: Known
    changes: tuple[Change, ...] = ()
    repeats: tuple[Side, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # what the changes will have as a consequence
    unfinished: bool = False  # more is to be planned once this has landed
    held: tuple[Side, ...] = ()  # sides whose changes the brake keeps back

    def to(self, side: Side) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.side == side)

    @property
    def writes(self) -> bool:
        return bool(self.changes or self.repeats)

    def __str__(self) -> str:
        lines = [f"to {SIDE_NAMES[change.side]}: {change}" for change in self.changes]
        lines += [f"to {SIDE_NAMES[side]}: an announced write is repeated exactly" for side in self.repeats]
        lines += [f"left alone: {note}" for note in self.notes]
        lines += [f"note: {warning}" for warning in self.warnings]
        return "\n".join(lines) or AGREED


def plan_pair(mapping: Mapping, there: Record, here: Record, known: Known) -> Plan:
    """The plan for one deal: `there` is the referral, `here` the opportunity."""
    known, repeats = _settle_announcements(known, there, here)
    closed_there = there.closed or there.values.get("status") in TERMINAL
    both_closed = closed_there and here.values.get("status") in TERMINAL
    pending_fields = {name for side in repeats for name in known.announced[side].fields}
    memory, unsure = dict(known.memory), set(known.unsure)
    changes: list[Change] = []
    notes = [*there.unread.values(), *here.unread.values()]
    unfinished = held = False

    if here.values.get("solutions"):
        memory[HAD_SOLUTIONS] = True
    wishes: dict[str, Wish] = {}
    for name, wish in known.wishes.items():
        taken = _take_back(mapping, name, wish, there, here, closed_there, both_closed)
        if name in pending_fields or (isinstance(taken, Change) and taken.side in repeats):
            wishes[name], unfinished = wish, True
        elif isinstance(taken, Change):
            wishes[name], unfinished = wish, True
            changes.append(taken)
            if mapping.by_name[name].direction == "both":
                # Both sides hold it, so it is agreed, whoever wrote it; else the value that comes back could pass for not moved.
                _agree(memory, name, there.values.get(name), here)
                unsure.discard(name)
            else:
                source = there if taken.side == SALESFORCE else here
                memory[RESTING] = {**(memory.get(RESTING) or {}), name: source.values.get(name)}
        else:
            notes.append(taken)
    for row in mapping.fields:
        if row.name in pending_fields or row.name in wishes or not row.on_update or row.name in there.unread:
            continue
        # A stage nobody mapped is left alone, unless the deal is closed over there: then what it meant no longer matters.
        if row.name in here.unread and not (row.type == "status" and closed_there):
            continue
        decided = _decide(row, there, here, memory, row.name in unsure)
        resting = memory.get(RESTING) or {}
        if row.name in resting and (decided.change or decided.agreed is not _NOT_AGREED):
            # Its source moved, or the two agree: the same value, should it come back, is a new one.
            memory[RESTING] = {name: value for name, value in resting.items() if name != row.name}
        if decided.agreed is not _NOT_AGREED:
            _agree(memory, row.name, decided.agreed, here)
            unsure.discard(row.name)
        change = decided.change
        if change is None:
            notes += [decided.note] if decided.note else []
            continue
        hindrance = _hindrance(mapping, row, change, there, here, closed_there, both_closed)
        if hindrance:
            notes.append(hindrance)
            held = held or (change.side == PARTNER_CENTER and here.values.get("status") == PENDING)
        elif change.side in repeats:
            unfinished = True  # one announcement a side: this change waits until the old one is settled
        else:
            changes.append(change)
            unfinished = unfinished or decided.step
    if _solutions_gone(here, memory) and not closed_there and SALESFORCE not in repeats:
        # As the 2025 package does: a deal without a solution is not shared any more (connector-facts 2.10).
        why = "Sync With Partner Center turned off, because the last solution was removed"
        changes.append(Change(SALESFORCE, SYNC, "sync", True, False, why))
    # What the hold kept back travels once this run has ended the hold.
    unfinished = unfinished or (held and any(one.field == "status" and one.side == SALESFORCE for one in changes))
    known = Known(memory, known.announced, frozenset(unsure), wishes)
    warnings = _warnings(changes, there, here)
    return Plan(known, tuple(changes), repeats, tuple(dict.fromkeys(notes)), warnings, unfinished)


def _warnings(changes: Iterable[Change], there: Record, here: Record) -> tuple[str, ...]:
    """What a person should know of these changes. The time of winning is that of the opportunity's last save, its version."""
    won = any(one.field == "status" and one.side == PARTNER_CENTER and one.new == WON for one in changes)
    created = there.remarks.get("created")
    if won and created and here.version and parse_instant(here.version) - parse_instant(created) < REGISTRABLE_AFTER:
        return ("Won within 72 hours of its creation: Microsoft may not register this deal",)
    return ()


def _take_back(mapping: Mapping, name: str, wish: Wish, there: Record, here: Record, closed_there: bool, both_closed: bool) -> Change | str:
    """The write that takes another one back, or why it is given up. Every side that would have to follow must be able to."""
    row = mapping.by_name.get(name)
    if row is None:
        return f"{name}: not taken back, the mapping has no such field any more"
    reason = moved_on(row, wish, there, here)
    first, *others = (Change(side, name, row.label, wish.written, wish.value, wish.why, undo=True) for side in sides(row, wish))
    for change in (first, *others):
        reason = reason or _hindrance(mapping, row, change, there, here, closed_there, both_closed)
    return f"not taken back: {reason}" if reason else first


def _solutions_gone(here: Record, memory: Dict[str, Value]) -> bool:
    return here.values.get("solutions") == [] and bool(memory.get(HAD_SOLUTIONS)) and bool(here.values.get(SYNC))


# -- announced writes ------------------------------------------------------------------------------------------------------------------


def _settle_announcements(known: Known, there: Record, here: Record) -> tuple[Known, tuple[Side, ...]]:
    """What became of the announced writes: those that may still land stay (and are repeated), the others are settled."""
    memory, unsure, wishes = dict(known.memory), set(known.unsure), dict(known.wishes)
    pending: dict[Side, Announcement] = {}
    for side, record in ((PARTNER_CENTER, there), (SALESFORCE, here)):
        announcement = known.announced.get(side)
        if announcement is None:
            continue
        if announcement.version == record.version:
            # It has not landed and may still: its write is repeated exactly, whatever the values now say (N10, N11).
            pending[side] = announcement
            continue
        for name, announced in announcement.fields.items():
            if record.token is not None:
                landed = record.token == announcement.token
            else:
                landed = name in record.values and record.values[name] == expected(announced.value)
            if announced.undo:
                # An edit of the operator's: memory stays, so that the merge sees it as one. What did not land is still wanted.
                if landed:
                    wishes.pop(name, None)
            elif landed:
                _remember(memory, name, announced.value)
                unsure.discard(name)
            elif record.token is None:
                unsure.add(name)
    return Known(memory, pending, frozenset(unsure), wishes), tuple(pending)


def expected(value: Value) -> Value:
    """What a read shows after a value was written."""
    return value["list"] if isinstance(value, dict) else value


def _remember(memory: dict[str, Value], name: str, value: Value) -> None:
    """Memory takes a value that certainly landed."""
    memory[name] = remembered(value)
    if name == SYNC:
        memory.pop(HAD_SOLUTIONS, None)  # whoever turns it on again knows that there is no solution


def _agree(memory: dict[str, Value], name: str, value: Value, here: Record) -> None:
    """Memory takes a value that both sides hold, unless it knows an erased one by its hash."""
    if memory.get(name) != erased(_deal(here), value):
        memory[name] = value


def remembered(value: Value) -> Value:
    """What memory keeps of a value that was written: of a list, only the part that is ours."""
    return value["ours"] if isinstance(value, dict) else value


# -- one field -------------------------------------------------------------------------------------------------------------------------

_NOT_AGREED: Any = object()


def erased(deal: str, value: Value) -> dict[str, str]:
    """What memory keeps of a value that held a person's data: enough to see whether it is still the same."""
    return {"erased": digest(deal, value)}


def _deal(here: Record) -> str:
    return str(here.values.get("external_reference") or "")


@dataclass(frozen=True)
class _Decision:
    change: Change | None = None
    agreed: Value = _NOT_AGREED
    note: str = ""
    step: bool = False


def _decide(row: FieldRow, there: Record, here: Record, memory: Dict[str, Value], unsure: bool) -> _Decision:
    p, s = there.values.get(row.name), here.values.get(row.name)
    if isinstance(memory.get(row.name), dict):
        memory = {**memory, row.name: next((one for one in (p, s) if memory[row.name] == erased(_deal(here), one)), ERASED)}
    if row.type == "solutions":
        return _decide_solutions(row, p or [], s or [], memory.get(row.name) or [])
    if row.type == "members":
        return _decide_members(row, p or [], s or [], memory, _deal(here))
    if row.type == "answer":
        told = p is None or p == memory.get(row.name)
        return _Decision(None if told else Change(SALESFORCE, row.name, row.label, memory.get(row.name), p, "Microsoft's answer"))
    if row.type == "help":
        asked = memory.get(row.name)
        return _Decision(note=f"{row.label}: once submitted it cannot be changed" if asked and s != asked else "")
    if p == s:
        return _Decision(agreed=p)
    if row.type == "status":
        remark = there.remarks.get("status", "")
        return _decide_status(row, p, s, memory, f" ({remark})" if remark else "")
    if row.type == "one_way_flag":
        if s:
            return _Decision(Change(PARTNER_CENTER, row.name, row.label, p, True, "set in Salesforce"))
        # Asking Microsoft for help makes a deal visible without the seller's flag; only a flag taken back is worth a word.
        return _Decision(note=f"{row.label}: once given it cannot be withdrawn" if memory.get(row.name) else "")
    source = p if row.direction == "to_salesforce" else s
    resting = (memory.get(RESTING) or {}).get(row.name)
    if row.direction != "both" and source is not None and resting in (source, erased(_deal(here), source)):
        return _Decision(note=f"{row.label}: rests since a write was taken back, until the value it follows changes")
    if row.direction == "to_salesforce":
        return _Decision(None if p is None else Change(SALESFORCE, row.name, row.label, s, p, "from Partner Center"))
    if row.direction == "to_partner_center":
        return _Decision(None if s is None else Change(PARTNER_CENTER, row.name, row.label, p, s, "from Salesforce"))
    return _merge(row, p, s, memory, unsure)


def _merge(row: FieldRow, p: Value, s: Value, memory: Dict[str, Value], unsure: bool) -> _Decision:
    """The three-way merge of a field that travels both ways; `p` and `s` differ."""

    def write(side: Side, why: str, conflict: bool = False) -> _Decision:
        old, new = (p, s) if side == PARTNER_CENTER else (s, p)
        if new is None and not row.clearing:
            return _Decision(note=f"{row.label}: an empty value does not travel to {SIDE_NAMES[side]}, which keeps {_shown(row.name, old)}")
        if unsure:
            conflict, why = True, f"{why}; could not tell which came first"
        return _Decision(Change(side, row.name, row.label, old, new, why, conflict))

    loser: Side = SALESFORCE if row.winner == PARTNER_CENTER else PARTNER_CENTER
    if row.name not in memory:  # first meeting of the two records
        if s is None or p is None:
            return write(SALESFORCE if s is None else PARTNER_CENTER, "first value")
        return write(loser, f"first meeting, {SIDE_NAMES[row.winner]} wins", conflict=True)
    m = memory[row.name]
    if s == m:
        return write(SALESFORCE, "changed in Partner Center")
    if p == m:
        return write(PARTNER_CENTER, "changed in Salesforce")
    if not row.clearing and (s is None or p is None):
        return write(
            SALESFORCE if s is None else PARTNER_CENTER, "changed there, emptied here" if s is None else "changed here, emptied there"
        )
    return write(loser, f"changed on both sides, {SIDE_NAMES[row.winner]} wins", conflict=True)


def _decide_status(row: FieldRow, p: Value, s: Value, memory: Dict[str, Value], remark: str) -> _Decision:
    """Terminal beats open; of two terminal ones Partner Center's stands; in between, whoever moved (design, section 4)."""

    def write(side: Side, new: Value, why: str, conflict: bool = False, step: bool = False) -> _Decision:
        return _Decision(Change(side, row.name, row.label, p if side == PARTNER_CENTER else s, new, why, conflict), step=step)

    if p in TERMINAL:
        if s in TERMINAL:
            return write(SALESFORCE, p, f"closed differently on both sides, Partner Center stands{remark}", conflict=True)
        return write(SALESFORCE, p, f"closed in Partner Center{remark}")
    if s in TERMINAL:
        if s == WON and p == PENDING:
            # The service takes New to Closed only as Declined or Expired (partner-center 3.2): accept first.
            return write(PARTNER_CENTER, ACTIVE, "accepted in Salesforce, then closed", step=True)
        return write(PARTNER_CENTER, s, "declined in Salesforce" if p == PENDING else "closed in Salesforce")
    if p == ACTIVE:  # the stage is on hold
        if memory.get(row.name) in (None, PENDING):
            return write(SALESFORCE, ACTIVE, "accepted in Partner Center")
        return _Decision(note=f"status: an {STATUS_WORDS[ACTIVE]} referral cannot go back on hold")
    if row.name in memory:
        return write(PARTNER_CENTER, ACTIVE, "accepted in Salesforce")
    return _Decision(note="status: the invitation is not accepted yet; move the stage to on hold and out again to accept it")


def _decide_solutions(row: FieldRow, p: list[str], s: list[str], ours: list[str]) -> _Decision:
    """Salesforce adds; of what stands in Partner Center only what we added is removed."""
    removed = [item for item in ours if item not in s]
    target = sorted({item for item in p if item not in removed} | set(s))
    ours_then = sorted(item for item in s if item in ours or item not in p)
    if target == p:
        return _Decision(agreed=sorted(item for item in ours if item in s))
    if not target:
        return _Decision(note=f"{row.label}: the last solution cannot be removed in Partner Center")
    return _Decision(Change(PARTNER_CENTER, row.name, row.label, p, {"list": target, "ours": ours_then}, "changed in Salesforce"))


def _decide_members(row: FieldRow, p: list[str], s: list[str], memory: Dict[str, Value], deal: str) -> _Decision:
    """People who joined in Salesforce are added over there, by e-mail; nobody is ever removed, and the first meeting adds nobody.

    Memory holds no address, only by what it is known again.
    """
    ours = sorted(pseudonym(deal, one) for one in s)
    known = memory.get(row.name, s)
    joined = [one for one in s if one not in known and pseudonym(deal, one) not in known and one not in p]
    if not joined:
        return _Decision(agreed=ours)
    value = {"list": sorted({*p, *joined}), "ours": ours}
    return _Decision(Change(PARTNER_CENTER, row.name, row.label, p, value, "changed in Salesforce", people=True))


def _hindrance(mapping: Mapping, row: FieldRow, change: Change, there: Record, here: Record, closed_there: bool, both_closed: bool) -> str:
    """Why a change that the merge wants is not made: a vendor's rule known beforehand. Empty when nothing is in the way."""
    if not row.updates(change.side):
        return f"{row.label}: travels to {SIDE_NAMES[change.side]} with a new record only"
    if change.side == PARTNER_CENTER:
        if closed_there:
            return f"{row.label}: the referral is closed and takes no change"
        if here.values.get("status") == PENDING:
            return f"{row.label}: on hold, nothing travels to Partner Center until the stage is left"
        if row.frozen_once_shared and there.values.get("visible"):
            return f"{row.label}: frozen since the deal is shared with Microsoft"
        if row.type == "money" and str(change.new).startswith("-"):
            return f"{row.label}: a negative amount does not travel to Partner Center"
    elif row.name in here.locked:
        return f"{row.label}: {here.locked[row.name]}, it cannot be written"
    elif row.type == "status":
        if mapping.lacks_stage(change.new):
            return f"status: the org has no stage {mapping.lacks_stage(change.new)!r}; name an existing one under [switches] in the mapping"
    elif both_closed:
        return f"{row.label}: the deal is closed on both sides"
    return ""


def _shown(name: str, value: Value) -> str:
    if isinstance(value, dict):
        value = value["list"]
    if value is None or value == []:
        return "(empty)"
    if name == "status":
        return STATUS_WORDS.get(str(value), str(value))
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "yes" if value is True else "no" if value is False else str(value)


def overridden(plan: Plan) -> Iterable[Change]:
    """The changes that override a value somebody may have meant: history must have them before they are sent."""
    return (change for change in plan.changes if change.conflict)


def held_back(plan: Plan, side: Side, why: str) -> Plan:
    """The plan without what is new for one side. Memory does not move for it, so that the next plan finds it again.

    What was announced before goes on, since it may have landed; so does an operator's undo.
    """
    kept = tuple(change for change in plan.changes if change.side != side or change.undo)
    dropped = [change for change in plan.changes if change not in kept]
    notes = (*plan.notes, *(f"{one.label}: {why}" for one in dropped))
    return replace(plan, changes=kept, notes=notes, held=(*plan.held, side))


def after(known: Known, landed: Iterable[Side], lost: Iterable[Side]) -> Known:
    """What is known once the writes to some sides certainly landed: memory takes the values sent (N1, N2).

    `lost` are sides whose write was refused for good: their announcements go without a trace in memory.
    """
    memory, announced, unsure, wishes = dict(known.memory), dict(known.announced), set(known.unsure), dict(known.wishes)
    for side in landed:
        for name, one in announced.pop(side).fields.items():
            if one.undo:
                wishes.pop(name, None)
                continue
            _remember(memory, name, one.value)
            unsure.discard(name)
    for side in lost:
        refused = announced.pop(side, None)
        for name in refused.fields if refused else ():
            wishes.pop(name, None)
    return replace(known, memory=memory, announced=announced, unsure=frozenset(unsure), wishes=wishes)
