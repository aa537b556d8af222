"""What webhooks and pushes may have lost is found here: polls of both vendors, and the wake-ups of what is due.

A poll reads an overlap back from its cursor, marks what it finds, and only then moves the cursor [N33] to the vendor's own clock at
its start [N30, N31]. Nothing here writes to a vendor. Overlapping runs need no lock: a cursor set back only repeats marks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol

from shared.codecs import parse_instant
from shared.errors import TryLater
from shared.mapping_file import Side
from shared.pairing import lead_name, opportunity_name, referral_name
from shared.referral import is_guid
from shared.run import MOST_WAITING, wake, wake_all
from shared.soql import identifier, literal
from shared.state import stamp
from shared.world import World

Found = tuple[str, str, str]  # record id, the owed name it stands for, stamp and content hash


class TellsTime(Protocol):
    """A vendor's client: its clock now, as its last answer gave it."""

    @property
    def server_time(self) -> datetime | None: ...


PARKED_ASKED = 100
FIRST_LOOK = timedelta(days=1)  # how far the very first poll looks back; `reconcile` sees the rest


def poll_opportunities(world: World) -> int | None:
    """Marks the opportunities that changed or were deleted, and sync or did sync. The number of deals marked.

    None, of this and the polls below: put off, because the org's daily API calls are nearly used up.
    """
    if _put_off(world, "opportunities"):
        return None

    def rows(since: datetime) -> Iterator[Found]:
        mapping, polled = world.org.shape.mapping, world.org.shape.polled
        sync, carried = identifier(mapping.opportunity.sync_field), identifier(mapping.by_name["referral_id"].salesforce)
        columns = list(dict.fromkeys([*polled, "IsDeleted", "SystemModstamp"]))
        scope = f"({sync} = TRUE OR {carried} != NULL)"
        for row in _changed(world, columns, "Opportunity", scope, since):
            yield str(row["Id"]), opportunity_name(str(row["Id"])), _content(row, row["SystemModstamp"])

    marked = _poll(world, "opportunities", rows, world.salesforce, world.settings.salesforce_poll_overlap_seconds)
    return marked + _look_at_parked(world)


def _look_at_parked(world: World) -> int:
    """Marks the parked opportunities whose account or people changed: that changes no stamp of the opportunity itself.

    Costs no call while nothing is parked, and one for every 100 deals that are.
    """
    parked = [one.name.removeprefix("sf-") for one in world.state.all_owed() if one.parked and one.name.startswith("sf-006")]
    if not parked or world.budget.saving:
        return 0
    columns = ", ".join(one for one in world.org.shape.columns if one == "Id" or "." in one)  # of other records, and children
    now: dict[str, str] = {}
    for start in range(0, len(parked), PARKED_ASKED):
        ids = literal(parked[start : start + PARKED_ASKED])
        for record in world.salesforce.query_all(f"SELECT {columns} FROM Opportunity WHERE Id IN {ids}"):
            now[str(record["Id"])] = _content(record, "")
    before = world.state.seen("parked")
    # The first look marks too: what was mended between the parking and this look would else go unseen.
    changed = [record_id for record_id, content in now.items() if before.get(record_id) != content]
    for record_id in changed:
        world.state.mark(opportunity_name(record_id))
    world.state.remember_seen("parked", [(record_id, now[record_id]) for record_id in changed])
    world.state.forget_seen("parked", [one for one in before if one not in now])
    for record_id in changed:
        wake(world, opportunity_name(record_id))
    return len(changed)


def poll_solutions(world: World) -> int | None:
    """Marks the opportunities whose solution rows were added, changed or deleted. The number of deals marked."""
    if _put_off(world, "solutions"):
        return None

    def rows(since: datetime) -> Iterator[Found]:
        mapping = world.org.shape.mapping
        parent, detail = identifier(mapping.solutions.opportunity_field), identifier(mapping.solutions.detail_field)
        columns = ["Id", parent, detail, "IsDeleted", "SystemModstamp"]
        for row in _changed(world, columns, identifier(mapping.solutions.object), "", since):
            if row.get(parent):
                yield str(row["Id"]), opportunity_name(str(row[parent])), _content(row, row["SystemModstamp"])

    return _poll(world, "solutions", rows, world.salesforce, world.settings.salesforce_poll_overlap_seconds)


def poll_leads(world: World) -> int | None:
    """Marks the leads that changed or were deleted, and sync or did sync. With `cosell_opportunities_only` on this costs no call."""
    if world.mapping.switches.cosell_opportunities_only:
        return 0
    if _put_off(world, "leads"):
        return None

    def rows(since: datetime) -> Iterator[Found]:
        own = world.mapping.leads
        scope = f"{identifier(own.sync_field)} = TRUE OR {identifier(own.identifier_field)} != NULL"
        columns = [*world.org.lead_shape.columns, "IsDeleted", "SystemModstamp"]
        for row in _changed(world, columns, "Lead", scope, since):
            yield str(row["Id"]), lead_name(str(row["Id"])), _content(row, row["SystemModstamp"])

    return _poll(world, "leads", rows, world.salesforce, world.settings.salesforce_poll_overlap_seconds)


def poll_referrals(world: World) -> int:
    """Marks the referrals, ours and Microsoft's, that changed. The number of records marked."""

    def rows(since: datetime) -> Iterator[Found]:
        for referral in world.partner_center.changed_since(since):
            if is_guid(referral.get("id")):
                changed = referral.get("updatedDateTime")
                yield str(referral["id"]).lower(), referral_name(str(referral["id"])), _content(referral.get("eTag"), changed)

    return _poll(world, "referrals", rows, world.partner_center, world.settings.partner_center_poll_overlap_seconds)


def resume_owed_work(world: World, most: int = MOST_WAITING) -> int:
    """Wakes what is due: this is what makes lost and poisoned messages harmless. The number of wake-ups sent.

    While many wake-ups are still waiting, only as many are added as fit: the owed rows stay and are found again.
    """
    if world.state.cursor("mapping") != world.mapping.fingerprint:
        # Another mapping may be what a parked deal waited for.
        for owed in list(world.state.all_owed()):
            if owed.parked:
                world.state.mark(owed.name)
        world.state.move_cursor("mapping", world.mapping.fingerprint)
    world.brakes.finish_release()
    free = most - world.waker.waiting()
    return wake_all(world, (owed.name for owed in islice(world.state.due(), max(0, free))))


def _put_off(world: World, poll: str) -> bool:
    """Whether the org's daily calls are to be saved; a first look back waits sooner than what changed since."""
    return world.budget.owed_only or (world.budget.saving and not world.state.cursor(poll))


def _poll(world: World, poll: str, rows: Callable[[datetime], Iterable[Found]], vendor: TellsTime, overlap: float) -> int:
    """Marks what is new, and remembers for `health` whether the vendor answers."""
    side: Side = "salesforce" if vendor is world.salesforce else "partner_center"
    try:
        marked = _mark_new(world, poll, rows, vendor, overlap)
    except TryLater:
        world.state.failing(side)
        raise
    world.state.answering(side)
    return marked


def _mark_new(world: World, poll: str, rows: Callable[[datetime], Iterable[Found]], vendor: TellsTime, overlap: float) -> int:
    begun = world.clock.monotonic()
    cursor = world.state.cursor(poll)
    reached = parse_instant(cursor) if cursor else (vendor.server_time or world.clock.now()) - FIRST_LOOK
    since = reached - timedelta(seconds=overlap)
    before = world.state.seen(poll)
    window: dict[str, str] = {}
    marked: dict[str, None] = {}
    fresh: dict[str, str] = {}  # a record that changes while its list is read is listed twice
    for record_id, name, content in rows(since):
        window[record_id] = content
        # A row is marked once per content and stamp, not once per poll.
        if before.get(record_id) != content:
            marked[name] = None
            fresh[record_id] = content
    world.state.mark_many(marked)
    world.state.remember_seen(poll, list(fresh.items()))
    world.state.forget_seen(poll, [key for key in before if key not in window])
    # The vendor's clock when this poll began, not ours and not the newest stamp seen: both can lie ahead of what is visible.
    now = vendor.server_time
    if now is not None:
        world.state.move_cursor(poll, stamp(now - timedelta(seconds=world.clock.monotonic() - begun)))
    wake_all(world, marked)
    return len(marked)


def _changed(world: World, columns: list[str], sobject: str, scope: str, since: datetime) -> Iterator[dict[str, Any]]:
    """Rows stamped at or after `since`, deleted ones too, oldest first; the next page by key, never by position [N34]."""
    start = literal(since.replace(microsecond=0))
    position = f"SystemModstamp >= {start}"
    while True:
        where = " AND ".join(f"({part})" for part in (position, scope) if part)
        soql = f"SELECT {', '.join(columns)} FROM {sobject} WHERE {where} ORDER BY SystemModstamp ASC, Id ASC"
        page = world.salesforce.query(soql, include_deleted=True)
        yield from page.records
        if page.done or not page.records:
            return
        last = page.records[-1]
        at = literal(parse_instant(str(last["SystemModstamp"])))
        position = f"(SystemModstamp > {at}) OR (SystemModstamp = {at} AND Id > {literal(str(last['Id']))})"


def _content(value: Any, changed: Any) -> str:
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return f"{changed} {digest}"
