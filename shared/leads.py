"""A deal that is still a lead: what follows when it moves on either side.

| referral | lead in Salesforce | what follows |
| --- | --- | --- |
| nobody answered | open | nothing |
| nobody answered | converted | the referral is accepted, then the converted opportunity is adopted |
| nobody answered | closed | the referral is declined |
| accepted | open or closed | an opportunity is created as for any deal; the lead says so and synchronizes no more |
| closed | open or closed | the lead is closed, says why and synchronizes no more |
| closed | converted | the opportunity is left alone and says why |

Only these steps travel: a lead's contact data, once written, belongs to whoever edits it. Every write is conditional on a settled read and
stands in history before it is sent; each is made by a run of its own, so that a crash or a lost answer leaves nothing to remember.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from shared.brakes import Held
from shared.codecs import CROSS, Value
from shared.errors import ConnectorError, Gone, Refused, TryLater
from shared.mapping import ACTIVE, LOST, PARTNER_CENTER, PENDING, SALESFORCE, TERMINAL
from shared.mapping_file import Side
from shared.org import Reading
from shared.pairing import lead_name, long_id, opportunity_name
from shared.planning import Change, Plan
from shared.referral import is_cosell
from shared.run import TO_SALESFORCE, Outcome, Run, content_hash
from shared.state import Pair
from shared.writing import audit_text, referral_patch, says_already

LEADS = "Salesforce Leads to Partner Center"  # the original's flow, as history names it

Step = Literal["wait", "accept", "decline", "adopt", "create", "close", "leave"]


def next_step(status: Value, cosell: bool, converted: bool, opportunity_id: str | None, closed: bool) -> Step:
    """The table above: `status` is the referral's, the rest says how the lead stands."""
    if converted:
        if status in TERMINAL:
            return "leave"
        if status == PENDING:
            return "accept"
        return "adopt" if opportunity_id else "create"
    if status in TERMINAL:
        return "close"
    if status == PENDING and closed:
        return "decline"
    # A lead that Microsoft made a co-sell deal is a deal, whoever accepted it.
    return "create" if status == ACTIVE or cosell else "wait"


def follow_lead(run: Run, pair: Pair) -> Outcome | None:
    """One step of a deal that is still a lead; None where the next one is to create its opportunity."""
    world, own = run.world, run.mapping.leads
    world.state.alias(lead_name(pair.lead_id), pair.name)
    try:
        reading = _settled(run, lambda: world.org.lead(pair.lead_id))
        lead, became = reading.record, str(reading.record.get("ConvertedOpportunityId") or "")
        if pair.opportunity_id:
            return _give_way(run, pair, reading)
        opportunity = _settled(run, lambda: world.org.opportunity(became)) if became else None
    except Gone as error:
        if pair.opportunity_id:
            return _forget(run, pair, f"{error}; its opportunity goes on")
        return _rest(run, pair, f"synchronization stopped: {error}; the referral is left alone")
    synced = opportunity.record.get(run.mapping.opportunity.sync_field) if opportunity else False
    if not lead.get(own.sync_field) and not synced:
        return _rest(run, pair, "Sync With Partner Center is off on the lead; the referral is left alone")

    try:
        referral = world.partner_center.referral(pair.referral_id)
    except Gone:
        return _rest(run, pair, "the referral is not visible any more; the lead is left alone")
    there = run.mapping.read_referral(referral)
    here = [run.mapping.read_opportunity(opportunity.record)] if opportunity else []
    refused = content_hash(run.mapping, there, *here, also=[lead.get("Status"), lead.get("IsConverted")])
    if run.owed.parked and run.owed.refused == refused:
        run.ended(pair, pair.outcome)
        return run.parked(run.owed.parked, run.owed.refused)
    reason = there.unread.get("status") or (opportunity and _taken(run, pair, opportunity))
    if reason:
        return run.parked(reason, refused, pair)
    status, closed = there.values.get("status"), lead.get("Status") == own.closed_status
    why = there.remarks.get("status") or str(referral.get("substatus"))
    step = next_step(status, is_cosell(referral), bool(lead.get("IsConverted")), became, closed)
    try:
        if step == "accept":
            return _answer(run, pair, referral, ACTIVE, "the lead was converted in Salesforce")
        if step == "decline":
            return _answer(run, pair, referral, LOST, f"the lead was set to {own.closed_status} in Salesforce")
        if step == "adopt":
            assert opportunity is not None
            return _adopt(run, pair, opportunity)
        if step == "close":
            ends = {"Status": own.closed_status, own.sync_field: False}
            return _write(run, pair, "Lead", reading, f"closed in Partner Center ({why})", ends)
    except Refused as error:
        words = f"{'Partner Center' if step in ('accept', 'decline') else 'Salesforce'} refused the change: {error.words}"
        _say(run, reading, words)
        return run.parked(words, refused, pair, opportunity)
    if step == "leave":
        text = f"the referral was closed in Partner Center ({why}); what the lead became is left alone"
        if opportunity:
            run.tell_seller(opportunity, text, CROSS)
        return _rest(run, pair, text)
    if step == "wait":
        return _rest(run, pair, "a lead that nobody accepted yet", "agreed")
    return None


def _settled(run: Run, read: Callable[[], Reading]) -> Reading:
    """A reading that a write may stand on [N8]."""
    for _ in range(30):
        reading = read()
        if reading.settled:
            return reading
        run.world.clock.sleep(1)
    raise TryLater("the record is being saved again and again", 10.0)


def _rest(run: Run, pair: Pair, text: str, kind: Literal["agreed", "skipped"] = "skipped") -> Outcome:
    run.ended(pair, text)
    return run.done(kind, text)


def _carry_out(run: Run, pair: Pair, flow: str, text: str, write: Callable[[], None]) -> Outcome:
    """One conditional write, in history before it is sent; the next round looks at what then stands. Raises `Refused`, `Held`."""
    if run.world.settings.shadow:
        return _rest(run, pair, f"shadow mode, nothing written: {text}")
    side: Side = PARTNER_CENTER if flow == LEADS else SALESFORCE
    if not run.admitted(side):
        raise Held(side, text)
    run.world.state.record(pair.name, flow, text)
    write()
    return Outcome(run.owed.name, "again", text)


def _write(run: Run, pair: Pair, sobject: Literal["Lead", "Opportunity"], reading: Reading, text: str, fields: dict[str, Any]) -> Outcome:
    """The fields and an Audit line, unless the record was saved since it was read."""
    field = (run.mapping.leads if sobject == "Lead" else run.mapping.opportunity).audit_field
    body = {field: audit_text(run.mapping, run.now, text, reading.record.get(field)), **fields}
    update, record_id, since = run.world.salesforce.update, str(reading.record["Id"]), reading.modified
    send = partial(update, sobject, record_id, body, unmodified_since=since)
    return _carry_out(run, pair, TO_SALESFORCE, f"{sobject.lower()}: {text}", send)


def _answer(run: Run, pair: Pair, referral: dict[str, Any], status: str, why: str) -> Outcome:
    """Accepts or declines the invitation."""
    row = run.mapping.by_name["status"]
    plan = Plan(pair.known, (Change(PARTNER_CENTER, row.name, row.label, PENDING, status, why),))
    body, etag = referral_patch(run.mapping, plan, referral, {}), str(referral.get("eTag") or "")
    send = partial(run.world.partner_center.patch_referral, pair.referral_id, body, etag, str(uuid.uuid4()))
    return _carry_out(run, pair, LEADS, str(plan), send)


def _taken(run: Run, pair: Pair, opportunity: Reading) -> str:
    """Why a converted opportunity cannot be this referral's: it is another deal already."""
    record_id = str(opportunity.record["Id"])
    known = run.world.state.pair(opportunity_name(record_id))
    if run.mapping.carried_referral(opportunity.record) in ("", pair.referral_id) and (known is None or known.name == pair.name):
        return ""
    return f"the lead was converted into the opportunity {record_id}, which is a deal of its own: answer this referral in Partner Center"


def _adopt(run: Run, pair: Pair, opportunity: Reading) -> Outcome:
    """The converted opportunity becomes the deal's. Its identifiers and all else are written by the ordinary run that follows."""
    record_id = long_id(str(opportunity.record["Id"]))
    # Before anything is written: whatever happens to the opportunity now belongs to this deal.
    run.world.state.alias(opportunity_name(record_id), pair.name)
    sync_field = run.mapping.opportunity.sync_field
    if not opportunity.record.get(sync_field):
        text = "the lead from Partner Center became this opportunity, which is synchronized from now on"
        return _write(run, pair, "Opportunity", opportunity, text, {sync_field: True})
    text = f"{LEADS}: the opportunity that the lead became, adopted"
    run.ended(pair, text, opportunity_id=record_id, lead_id="")
    return Outcome(run.owed.name, "again", text)


def _give_way(run: Run, pair: Pair, reading: Reading) -> Outcome:
    """The deal has its opportunity: the lead says so, once, and is in play no more."""
    lead, became = reading.record, long_id(str(reading.record.get("ConvertedOpportunityId") or ""))
    if became not in ("", pair.opportunity_id):
        text = f"the referral of this opportunity's lead has the opportunity {pair.opportunity_id}: close one of the two as a duplicate"
        with contextlib.suppress(Gone):
            run.tell_seller(run.world.org.opportunity(became), text, CROSS)
        return _forget(run, pair, f"the lead was converted into {became} as well: two opportunities stand for this deal")
    sync_field = run.mapping.leads.sync_field
    if lead.get("IsConverted") or not lead.get(sync_field):
        return _forget(run, pair, "the lead has become an opportunity")
    text = f"accepted in Partner Center: the opportunity {pair.opportunity_id} takes this lead's place"
    try:
        return _write(run, pair, "Lead", reading, text, {sync_field: False})
    except Refused as error:
        return _forget(run, pair, f"the lead could not be told of its opportunity, Salesforce refused: {error.words}")


def _forget(run: Run, pair: Pair, text: str) -> Outcome:
    run.ended(pair, text, lead_id="")
    return Outcome(run.owed.name, "again", text)


def _say(run: Run, reading: Reading, text: str) -> None:
    """Puts a reason into the lead's Audit, once. A converted lead takes no change; what it became is told instead."""
    record, field = reading.record, run.mapping.leads.audit_field
    if record.get("IsConverted") or says_already(run.mapping, record.get(field), text):
        return
    fields = {field: audit_text(run.mapping, run.now, text, record.get(field))}
    with contextlib.suppress(ConnectorError):
        run.world.salesforce.update("Lead", str(record["Id"]), fields, unmodified_since=reading.modified)
