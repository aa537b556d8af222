"""Whose deal is this? Finds, or starts, the pair that a record name belongs to (protocol, section 5)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from shared.errors import ConnectorError, Gone, Refused
from shared.org import Reading
from shared.referral import is_closed, is_guid, is_microsofts
from shared.run import Run
from shared.state import Pair
from shared.tables import RowExists

_OPPORTUNITY_ID = re.compile(r"006[a-zA-Z0-9]{12}(?:[a-zA-Z0-9]{3})?")
_LEAD_ID = re.compile(r"00Q[a-zA-Z0-9]{12}(?:[a-zA-Z0-9]{3})?")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


class NoPair(ConnectorError):
    """The name belongs to no deal of ours; the message says why. Nothing is owed for it."""


class Copied(ConnectorError):
    """A record carries the identifier of a deal that has another record of its kind; a person must decide.

    `reading` is the opportunity on which the seller is told, if it is one that stands for no deal.
    """

    def __init__(self, message: str, reading: Reading | None = None) -> None:
        super().__init__(message)
        self.reading = reading


def opportunity_name(record_id: str) -> str:
    """The record name of an opportunity, always with the 18-character id."""
    return f"sf-{long_id(record_id)}"


def lead_name(record_id: str) -> str:
    """The record name of a lead: its id begins with 00Q where an opportunity's begins with 006."""
    return f"sf-{long_id(record_id)}"


def referral_name(referral_id: str) -> str:
    return f"pc-{referral_id.lower()}"


def long_id(record_id: str) -> str:
    """The 18-character form of a Salesforce id: three characters say which letters of the first fifteen are upper case."""
    if len(record_id) != 15:
        return record_id
    groups = (record_id[start : start + 5] for start in (0, 5, 10))
    return record_id + "".join(_ALPHABET[sum(1 << bit for bit, sign in enumerate(group) if "A" <= sign <= "Z")] for group in groups)


def is_opportunity_id(text: object) -> bool:
    return isinstance(text, str) and _OPPORTUNITY_ID.fullmatch(text) is not None


def is_lead_id(text: object) -> bool:
    return isinstance(text, str) and _LEAD_ID.fullmatch(text) is not None


def find_pair(run: Run, name: str) -> Pair:
    """The pair of a name, started if the name begins a deal. Raises `NoPair` or `Copied`."""
    known = run.world.state.pair(name)
    if known is not None:
        return known
    kind, _, identifier = name.partition("-")
    if is_lead_id(identifier):
        pair = _pair_of_lead(run, identifier)
    else:
        pair = _pair_of_referral(run, identifier) if kind == "pc" else _pair_of_opportunity(run, identifier)
    run.world.state.alias(name, pair.name)
    return pair


def _start(run: Run, pair: Pair) -> Pair:
    try:
        return run.world.state.start_pair(pair)
    except RowExists:
        found = run.world.state.pair(pair.name)
        assert found is not None
        return found


def _pair_of_referral(run: Run, referral_id: str) -> Pair:
    try:
        referral = run.world.partner_center.referral(referral_id)
    except Gone:
        raise NoPair(f"the referral {referral_id} does not exist or is not visible to us") from None
    except Refused as error:
        raise NoPair(f"the referral {referral_id} belongs to somebody else: {error.words}") from None
    if is_microsofts(referral):
        return find_pair(run, referral_name(_own_referral_of(run, referral)))
    reference = str(referral.get("externalReferenceId") or "").strip()
    if not reference:
        return _start(run, Pair(referral_name(referral_id), referral_id=referral_id, engagement_id=str(referral.get("engagementId") or "")))
    if is_lead_id(reference) and not run.mapping.switches.cosell_opportunities_only:
        # Microsoft's solution wrote the lead's id there (connector-facts 3.4).
        begun = Pair(referral_name(referral_id), referral_id=referral_id, engagement_id=str(referral.get("engagementId") or ""))
        return _start(run, replace(begun, lead_id=long_id(reference)))
    if not is_opportunity_id(reference):
        raise NoPair(f"the referral carries the reference {reference[:60]!r}, which is not a record of this Salesforce org: ignored")
    name = opportunity_name(reference)
    known = run.world.state.pair(name)
    if known is not None:
        _refuse_second(run, known, referral)
        return known
    try:
        opportunity = run.world.org.opportunity(long_id(reference)).record
    except Gone:
        raise NoPair(f"the referral carries the opportunity id {reference}, which Salesforce does not know: ignored") from None
    if run.mapping.carried_referral(opportunity) == referral_id:
        # Each names the other: nothing is remembered of this deal. It is kept under the referral, whoever comes first.
        return _start(run, _both(referral, name))
    return find_pair(run, name)


def _refuse_second(run: Run, pair: Pair, referral: dict[str, Any]) -> None:
    """Two referrals of one opportunity: a create that landed after its margin (protocol, section 9, W3), or a person's doing."""
    second = str(referral["id"]).lower()
    if pair.referral_id in ("", second):
        return
    if is_closed(referral):
        raise NoPair(f"a closed duplicate of the referral {pair.referral_id}: left alone")
    text = f"two referrals stand for this one deal: {pair.referral_id} and {second}. Keep the first and close {second} as a duplicate"
    if run.owed.parked != text:
        run.world.state.record(pair.name, "parked", text)
    raise Copied(text)


def _own_referral_of(run: Run, microsofts: dict[str, Any]) -> str:
    engagement = str(microsofts.get("engagementId") or "")
    own = [one for one in run.world.partner_center.engagement(engagement) if not is_microsofts(one)] if is_guid(engagement) else []
    if not own:
        raise NoPair("Microsoft's referral belongs to an engagement in which we have none")
    if len(own) > 1:
        raise NoPair(f"the engagement {engagement} holds {len(own)} referrals of ours; each is synchronized by its own events")
    return str(own[0]["id"]).lower()


def _pair_of_opportunity(run: Run, record_id: str) -> Pair:
    try:
        reading = run.world.org.opportunity(record_id)
    except Gone as error:
        raise NoPair(str(error)) from None
    opportunity = reading.record
    if not opportunity.get(run.mapping.opportunity.sync_field):
        raise NoPair("Sync With Partner Center is off")
    name = opportunity_name(record_id)
    carried = run.mapping.carried_referral(opportunity)
    lead_of = _referral_of_conversion(run, record_id) if not carried else ""
    if lead_of:
        pair = find_pair(run, referral_name(lead_of))
        if pair.opportunity_id not in ("", long_id(record_id)):
            text = f"the referral of this opportunity's lead has the opportunity {pair.opportunity_id}: close one of the two as a duplicate"
            raise Copied(text, reading)
        return pair
    if not carried:
        run.carried.reading = reading
        return _start(run, Pair(name, opportunity_id=long_id(record_id)))
    known = run.world.state.pair(referral_name(carried))
    if known is not None:
        if known.opportunity_id not in ("", long_id(record_id)):
            raise Copied(_copy_of(known.opportunity_id), reading)
        return known
    try:
        referral = run.world.partner_center.referral(carried)
    except (Gone, Refused):
        text = f"the Referral Identifier {carried} is not a referral we can see in Partner Center; empty it or correct it"
        raise Copied(text, reading) from None
    reference = str(referral.get("externalReferenceId") or "")
    if is_opportunity_id(reference) and long_id(reference) != long_id(record_id):
        raise Copied(_copy_of(reference), reading)
    return _start(run, _both(referral, name))


def _pair_of_lead(run: Run, record_id: str) -> Pair:
    """The pair of the referral that a lead carries; only leads that came from Partner Center synchronize."""
    if run.mapping.switches.cosell_opportunities_only:
        raise NoPair("a lead: left alone because cosell_opportunities_only is on")
    try:
        lead = run.world.org.lead(record_id).record
    except Gone as error:
        raise NoPair(str(error)) from None
    carried = _referral_of_lead(run, lead)
    if not carried:
        raise NoPair("a lead that did not come from Partner Center: left alone")
    if not lead.get(run.mapping.leads.sync_field):
        raise NoPair("Sync With Partner Center is off")
    pair = find_pair(run, referral_name(carried))
    if pair.lead_id not in ("", long_id(record_id)):
        raise NoPair(f"this lead carries the Referral Identifier of {pair.lead_id}: it looks like a copy and is left alone")
    claim = None if pair.create and pair.create.step == "lead" else pair.create  # the record itself is the answer to its claim
    return run.world.state.save(replace(pair, lead_id=long_id(record_id), create=claim))


def _referral_of_lead(run: Run, lead: dict[str, Any]) -> str:
    carried = str(lead.get(run.mapping.leads.identifier_field) or "").strip().lower()
    return carried if is_guid(carried) else ""


def _referral_of_conversion(run: Run, record_id: str) -> str:
    """The referral of the lead that was converted into an opportunity; empty where there is none, or where leads do not travel."""
    if run.mapping.switches.cosell_opportunities_only:
        return ""
    return next(filter(None, (_referral_of_lead(run, lead) for lead in run.world.org.leads_converted_into(long_id(record_id)))), "")


def _copy_of(other: str) -> str:
    return (
        f"this opportunity carries the Referral Identifier of {other}: it looks like a copy. "
        "Empty the Referral Identifier to make it a deal of its own, or turn Sync With Partner Center off"
    )


def _both(referral: dict[str, Any], opportunity: str) -> Pair:
    identifier = str(referral["id"]).lower()
    return Pair(
        referral_name(identifier),
        referral_id=identifier,
        engagement_id=str(referral.get("engagementId") or ""),
        opportunity_id=opportunity.removeprefix("sf-"),
    )
