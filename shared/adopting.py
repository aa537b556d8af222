"""Taking over what Microsoft's solution has linked: which record belongs to which, and what their first meeting would do. Pure.

Microsoft's package keeps the same links under the same names: the referral's id on the opportunity, the opportunity's id as the referral's
external reference. What both sides name is one deal. What they disagree about is told and left to a person; nothing is guessed by text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from typing import Any

from shared.mapping import Mapping
from shared.pairing import is_opportunity_id, long_id, opportunity_name, referral_name
from shared.planning import ANSWER, Known, Plan, plan_pair
from shared.referral import is_closed, is_guid, is_microsofts
from shared.state import Pair

NEW = "has no referral yet"


@dataclass(frozen=True)
class Match:
    """Two records of one deal, and the pair row that would stand for them."""

    pair: Pair
    plan: Plan

    @property
    def names(self) -> tuple[str, str]:
        return referral_name(self.pair.referral_id), opportunity_name(self.pair.opportunity_id)


@dataclass(frozen=True)
class Survey:
    """Both sides laid over each other. Texts name records by their ids."""

    matches: tuple[Match, ...] = ()
    doubled: tuple[str, ...] = ()
    """Records that claim the same partner, or contradict each other: for a person to decide."""
    only_in_salesforce: tuple[str, ...] = ()
    only_in_partner_center: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()
    standing: tuple[Pair, ...] = ()
    """Pairs that were started before."""


def first_meeting(mapping: Mapping, referral: Dict[str, Any], microsofts: Dict[str, Any] | None, opportunity: Dict[str, Any]) -> Match:
    """The pair of two existing records. What agrees is remembered at once; what differs meets by the field's first-meeting rule.

    Microsoft's answer so far is old news to the seller. Of the solutions none counts as ours, so that none is ever removed over there
    that a person may have added.
    """
    there, here = mapping.read_referral(referral, microsofts), mapping.read_opportunity(opportunity)
    told = there.values.get(ANSWER)
    memory = {ANSWER: told} if told is not None else {}
    if microsofts and here.values.get("help"):
        memory["help"] = here.values["help"]
    plan = plan_pair(mapping, there, here, Known(memory))
    identifier = str(referral["id"]).lower()
    pair = Pair(
        referral_name(identifier),
        referral_id=identifier,
        engagement_id=str(referral.get("engagementId") or ""),
        opportunity_id=long_id(str(opportunity["Id"])),
        microsoft_id=str(microsofts["id"]).lower() if microsofts else "",
        known=plan.known,
    )
    return Match(pair, plan)


def survey(mapping: Mapping, referrals: Iterable[Dict[str, Any]], opportunities: Iterable[Dict[str, Any]], pairs: Iterable[Pair]) -> Survey:
    """Pairs up every referral of ours with the opportunity that it names or that names it.

    `opportunities` are those that synchronize or carry a referral's id, as the gather query returns them; `pairs` what is known already.
    """
    own: dict[str, Dict[str, Any]] = {}
    microsofts: dict[str, Dict[str, Any]] = {}
    for one in referrals:
        if is_guid(one.get("id")) and is_microsofts(one):
            microsofts[str(one.get("engagementId") or "").lower()] = one
        elif is_guid(one.get("id")):
            own[str(one["id"]).lower()] = one
    here = {long_id(str(one["Id"])): one for one in opportunities}
    standing = tuple(pairs)
    taken = {pair.referral_id for pair in standing if pair.referral_id} | {pair.opportunity_id for pair in standing if pair.opportunity_id}
    carried = {record_id: mapping.carried_referral(one) for record_id, one in here.items()}
    named = {identifier: _reference(one) for identifier, one in own.items()}

    claims, doubled = _claims(own, here, carried, named)
    matches, left = [], []
    for identifier, record_id in claims:
        if identifier in taken or record_id in taken:
            continue
        if not here[record_id].get(mapping.opportunity.sync_field):
            left.append(f"{opportunity_name(record_id)} and {referral_name(identifier)}: Sync With Partner Center is off")
            continue
        engagement = str(own[identifier].get("engagementId") or "").lower()
        matches.append(first_meeting(mapping, own[identifier], microsofts.get(engagement), here[record_id]))
    settled = taken | {part for claim in (*claims, *doubled) for part in claim}
    only_here = [
        f"{opportunity_name(record_id)}: "
        + (f"names the referral {carried[record_id]}, which is not visible" if carried[record_id] else NEW)
        for record_id, one in sorted(here.items(), key=lambda item: item[0])
        if record_id not in settled and one.get(mapping.opportunity.sync_field)
    ]
    only_there = [
        f"{referral_name(identifier)}: "
        + (f"names {reference}, which is not visible or does not sync" if reference else "names no opportunity")
        for identifier, one in sorted(own.items(), key=lambda item: item[0])
        if identifier not in settled and not is_closed(one)
        for reference in [str(one.get("externalReferenceId") or "").strip()[:60]]
    ]
    return Survey(tuple(matches), tuple(doubled.values()), tuple(only_here), tuple(only_there), tuple(left), standing)


def _reference(referral: Dict[str, Any]) -> str:
    reference = str(referral.get("externalReferenceId") or "").strip()
    return long_id(reference) if is_opportunity_id(reference) else ""


def _claims(
    own: Dict[str, Any], here: Dict[str, Any], carried: Dict[str, str], named: Dict[str, str]
) -> tuple[list[tuple[str, str]], dict[tuple[str, str], str]]:
    """The (referral, opportunity) that are one deal, and for each claim that cannot be believed, why.

    A claim is a record that names another. Two that name each other are a deal; a copy of the opportunity, or a second referral for it,
    cannot be named back. A claim alone is believed where nothing else is claimed by or of either record.
    """
    mutual = {(named_by, record_id) for record_id, named_by in carried.items() if named_by in own and named[named_by] == record_id}
    sure = {part: claim for claim in mutual for part in claim}
    lone = {(named_by, record_id) for record_id, named_by in carried.items() if named_by in own}
    lone |= {(identifier, record_id) for identifier, record_id in named.items() if record_id in here}
    lone -= mutual
    times = Counter(part for claim in lone for part in claim)
    doubled: dict[tuple[str, str], str] = {}
    for identifier, record_id in sorted(lone):
        words = f"{opportunity_name(record_id)} and {referral_name(identifier)}: "
        if identifier in sure:
            doubled[identifier, record_id] = (
                f"{words}the referral is that of {opportunity_name(sure[identifier][1])}, this one looks like a copy"
            )
        elif record_id in sure:
            doubled[identifier, record_id] = f"{words}the opportunity has the referral {sure[record_id][0]} already"
        elif times[identifier] > 1 or times[record_id] > 1:
            doubled[identifier, record_id] = f"{words}more than one record claims this deal"
        elif named[identifier] not in ("", record_id):
            doubled[identifier, record_id] = f"{words}the referral names another opportunity, {named[identifier]}"
        elif carried[record_id] not in ("", identifier):
            doubled[identifier, record_id] = f"{words}the opportunity carries another referral, {carried[record_id]}"
    return sorted(mutual | (lone - set(doubled))), doubled
