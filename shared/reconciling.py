"""The full sweep: lists both sides, compares them with memory, and marks what differs. It writes no value to a vendor."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from shared import wire
from shared.brakes import DIRECTIONS, words
from shared.codecs import parse_instant
from shared.field_history import look_for_overwritten
from shared.mapping_file import Side
from shared.pairing import opportunity_name, referral_name
from shared.planning import Plan, plan_pair
from shared.referral import is_closed, is_guid, is_microsofts
from shared.retention import forget_old_history
from shared.run import wake_all
from shared.soql import identifier, literal
from shared.state import Owed, Pair, stamp
from shared.world import World

UNCHECKED = timedelta(days=1)  # a deal that the sweep cannot compare, and no run looked at for this long, is looked at
SECONDS = 150.0  # of listing referrals: a run has five minutes for everything
ASKED = 100  # opportunities read in one call; a WHERE holds 4,000 characters (salesforce 3.2)
PLACE = "sweep"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class Certificate:
    """What the sweep found, by deal."""

    in_agreement: int = 0
    in_flight: int = 0
    parked: int = 0
    leads: int = 0
    only_in_partner_center: int = 0
    only_in_salesforce: int = 0
    not_reached: int = 0  # there was no time for them; the next sweep begins with them
    marked: int = 0


@dataclass
class _Listed:
    """The referrals of one sweep, packed: a hundred thousand of them must fit into an instance's memory."""

    ours: dict[str, bytes] = field(default_factory=dict)
    microsofts: dict[str, bytes] = field(default_factory=dict)
    complete: bool = True


def reconcile(world: World) -> Certificate | None:
    """Marks every deal whose records differ from what was agreed, every one-sided record that should have another, every stale claim.

    What differs in more deals than the brake allows in an hour is not begun at all: those deals are owed, and held.
    None: put off, because the org's daily API calls are better spent on what is owed.
    """
    if world.budget.saving:
        return None
    mapping = world.org.shape.mapping
    listed = _listed(world)
    synchronized = set(_synchronized(world))
    owed = {one.name: one for one in world.state.all_owed()}
    holding = {side for side in DIRECTIONS if world.brakes.look(side).held_since}

    certificate = Certificate()
    names: set[str] = set()
    going: dict[str, tuple[Side, ...]] = {}  # what would be written, by deal; without those that only repeat a write
    writes: Counter[Side] = Counter()

    def compare(links: list[Pair]) -> None:
        waiting = {link.name: [owed[name] for name in _names(link) if name in owed] for link in links}
        both = [link for link in links if link.referral_id in listed.ours and link.opportunity_id in synchronized]
        wanted = [link for link in both if not waiting[link.name] or any(one.held for one in waiting[link.name])]
        read = _opportunities(world, [link.opportunity_id for link in wanted])
        for link in links:
            there, here = listed.ours.pop(link.referral_id, None), read.get(link.opportunity_id)
            present = link.opportunity_id in synchronized
            synchronized.discard(link.opportunity_id)
            plan = None
            if there and here:
                microsofts = listed.microsofts.get(link.microsoft_id)
                referral = mapping.read_referral(_unpacked(there), _unpacked(microsofts) if microsofts else None)
                plan = plan_pair(mapping, referral, mapping.read_opportunity(here), link.known)
            judge(link, waiting[link.name], bool(there), present, plan)

    def judge(link: Pair, waiting: list[Owed], there: bool, here: bool, plan: Plan | None) -> None:
        held = {side for one in waiting for side in one.held}
        if any(one.parked for one in waiting):
            certificate.parked += 1
        elif waiting:
            certificate.in_flight += 1
            waits = plan is None or any(plan.to(side) for side in held)
            if held and not (waits and held <= holding):
                names.add(link.name)  # the mapping was mended, or the brake released and this deal missed
        elif link.lead_id and not link.opportunity_id:
            certificate.leads += 1
        elif link.referral_id and not there and not listed.complete:
            certificate.not_reached += 1
        elif plan is None:
            # One record is gone, opted out or hidden; the worker says which when it is asked, and then rests.
            certificate.only_in_salesforce += here
            certificate.only_in_partner_center += there
            # A create that was only planned (shadow mode) or put off is looked at again.
            if _unchecked(world, link) or _overdue(world, link) or not (link.referral_id and link.opportunity_id):
                names.add(link.name)
        elif plan.writes or link.known.wishes or _overdue(world, link):
            names.add(link.name)
            certificate.in_flight += 1
            sides = tuple(side for side in DIRECTIONS if plan.to(side))
            writes.update(sides)
            if sides and not plan.repeats:
                going[link.name] = sides
        else:
            # Both records were read and agree with memory: nobody needs to look again.
            certificate.in_agreement += 1

    pairs = (link for link in world.state.links() if isinstance(link, Pair))
    while links := list(islice(pairs, ASKED)):
        compare(links)
    for referral_id, packed in listed.ours.items():
        certificate.only_in_partner_center += 1
        if not is_closed(_unpacked(packed)) and world.state.link(referral_name(referral_id)) is None:
            names.add(referral_name(referral_id))
    for record_id in synchronized:
        certificate.only_in_salesforce += 1
        if world.state.link(opportunity_name(record_id)) is None:
            names.add(opportunity_name(record_id))

    held = {side for side in DIRECTIONS if world.brakes.foresee(side, writes[side])}
    for name, sides in going.items():
        if held.issuperset(sides):
            world.state.owe_held(name, "; ".join(f"changes are {words(side)}" for side in sides), sides)
            names.discard(name)
    world.state.mark_many(names)
    wake_all(world, sorted(names))
    certificate.marked = len(names)  # of those held nothing is looked at before an operator resumes
    world.state.succeeded("certificate", asdict(certificate))
    forget_old_history(world)
    look_for_overwritten(world)
    return certificate


def _listed(world: World) -> _Listed:
    """The referrals, from where the last sweep ran out of time; oldest change first, so that nothing slips behind the place."""
    begun, place = world.clock.monotonic(), world.state.cursor(PLACE)
    listed = _Listed(complete=not place)
    since = parse_instant(place) if place else LONG_AGO
    for referral in world.partner_center.changed_since(since):
        if is_guid(referral.get("id")):
            kept = listed.microsofts if is_microsofts(referral) else listed.ours
            kept[str(referral["id"]).lower()] = zlib.compress(wire.dumps(referral), 1)
        changed = parse_instant(str(referral.get("updatedDateTime") or stamp(since)))
        # Whole seconds, as the list is asked for: the next sweep must not begin where this one did.
        if world.clock.monotonic() - begun > SECONDS and changed.replace(microsecond=0) > since:
            world.state.move_cursor(PLACE, stamp(changed))
            listed.complete = False
            return listed
    if place:
        world.state.move_cursor(PLACE, "")
    return listed


def _unpacked(packed: bytes) -> dict[str, Any]:
    record: dict[str, Any] = wire.loads(zlib.decompress(packed))
    return record


def _synchronized(world: World) -> Iterator[str]:
    sync = identifier(world.org.shape.mapping.opportunity.sync_field)
    for record in world.salesforce.each(f"SELECT Id FROM Opportunity WHERE {sync} = TRUE"):
        yield str(record["Id"])


def _opportunities(world: World, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not ids:
        return {}
    columns = ", ".join(world.org.shape.columns)
    return {str(one["Id"]): one for one in world.salesforce.each(f"SELECT {columns} FROM Opportunity WHERE Id IN {literal(list(ids))}")}


def _names(pair: Pair) -> list[str]:
    other = [referral_name(pair.referral_id)] if pair.referral_id else []
    return [pair.name, *other, *([opportunity_name(pair.opportunity_id)] if pair.opportunity_id else [])]


def _overdue(world: World, pair: Pair) -> bool:
    """Whether a claim or an announcement outlived its time."""
    now = world.clock.now()
    if pair.create and now > parse_instant(pair.create.deadline) + timedelta(seconds=world.settings.create_margin_seconds):
        return True
    return bool(pair.known.announced) and (not pair.lease_until or now > parse_instant(pair.lease_until))


def _unchecked(world: World, pair: Pair) -> bool:
    return not pair.checked_at or pair.checked_at < stamp(world.clock.now() - UNCHECKED)
