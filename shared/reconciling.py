"""The full sweep: lists both sides, compares them with memory, and marks what differs. It writes to no vendor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from shared.codecs import parse_instant
from shared.pairing import opportunity_name, referral_name
from shared.planning import plan_pair
from shared.referral import is_closed, is_guid, is_microsofts
from shared.run import wake
from shared.soql import identifier
from shared.state import Pair, stamp
from shared.world import World

UNCHECKED = timedelta(days=1)  # a pair that no run looked at for this long is looked at


@dataclass
class Certificate:
    """What the sweep found, by deal."""

    in_agreement: int = 0
    in_flight: int = 0
    parked: int = 0
    leads: int = 0
    only_in_partner_center: int = 0
    only_in_salesforce: int = 0
    marked: int = 0


def reconcile(world: World) -> Certificate:
    """Marks every deal whose records differ from what was agreed, every one-sided record that should have another, every stale claim."""
    mapping = world.org.shape.mapping
    referrals: dict[str, dict[str, Any]] = {}
    microsofts: dict[str, dict[str, Any]] = {}
    for referral in world.partner_center.all_referrals():
        if is_guid(referral.get("id")):
            kept = microsofts if is_microsofts(referral) else referrals
            kept[str(referral["id"]).lower()] = referral
    opportunities = {str(one["Id"]): one for one in _synchronized(world)}
    owed = {one.name: one for one in world.state.all_owed()}

    certificate = Certificate()
    names: set[str] = set()
    for link in world.state.links():
        if not isinstance(link, Pair):
            continue
        there, here = referrals.pop(link.referral_id, None), opportunities.pop(link.opportunity_id, None)
        microsofts_one = microsofts.get(link.microsoft_id)
        waiting = [owed[name] for name in _names(link) if name in owed]
        if any(one.parked for one in waiting):
            certificate.parked += 1
        elif waiting:
            certificate.in_flight += 1
        elif link.lead_id and not link.opportunity_id:
            certificate.leads += 1
        elif there is None or here is None:
            # One record is gone, opted out or hidden; the worker says which when it is asked, and then rests.
            certificate.only_in_salesforce += here is not None
            certificate.only_in_partner_center += there is not None
            # A create that was only planned (shadow mode) or put off is looked at again.
            if _stale(world, link) or not (link.referral_id and link.opportunity_id):
                names.add(link.name)
        else:
            plan = plan_pair(mapping, mapping.read_referral(there, microsofts_one), mapping.read_opportunity(here), link.known)
            if plan.writes or _stale(world, link):
                names.add(link.name)
                certificate.in_flight += 1
            else:
                certificate.in_agreement += 1
    for referral_id, referral in referrals.items():
        certificate.only_in_partner_center += 1
        if not is_closed(referral) and world.state.link(referral_name(referral_id)) is None:
            names.add(referral_name(referral_id))
    for record_id in opportunities:
        certificate.only_in_salesforce += 1
        if world.state.link(opportunity_name(record_id)) is None:
            names.add(opportunity_name(record_id))

    for name in sorted(names):
        world.state.mark(name)
    for name in sorted(names):
        wake(world, name)
    certificate.marked = len(names)
    world.state.succeeded("certificate", asdict(certificate))
    return certificate


def _synchronized(world: World) -> list[dict[str, Any]]:
    shape = world.org.shape
    sync = identifier(shape.mapping.opportunity.sync_field)
    return world.salesforce.query_all(f"SELECT {', '.join(shape.columns)} FROM Opportunity WHERE {sync} = TRUE")


def _names(pair: Pair) -> list[str]:
    other = [referral_name(pair.referral_id)] if pair.referral_id else []
    return [pair.name, *other, *([opportunity_name(pair.opportunity_id)] if pair.opportunity_id else [])]


def _stale(world: World, pair: Pair) -> bool:
    """Whether a claim or an announcement outlived its time, or nobody looked at the pair for a day."""
    now = world.clock.now()
    if pair.create and now > parse_instant(pair.create.deadline) + timedelta(seconds=world.settings.create_margin_seconds):
        return True
    if pair.known.announced and (not pair.lease_until or now > parse_instant(pair.lease_until)):
        return True
    return not pair.checked_at or pair.checked_at < stamp(now - UNCHECKED)
