"""Scenario 1: a seller shares an opportunity from Salesforce, then goes on working on it there."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

from demo.checking import expect, then_quiet
from demo.edits import reaches_partner_center
from demo.stage import Seen, Stage, StoryFailed
from demo.telling import Teller
from simulator.salesforce import Deal

NAME = "Fabrikam data estate"
CHECK = "✓"


def salesforce_first(stage: Stage, tell: Teller) -> None:
    """Salesforce first"""
    tell.say(
        "Ana Sousa sells for Contoso, a Microsoft partner. Her opportunity with Fabrikam has an account in the US, a customer contact, "
        'one Microsoft solution, and "How can Microsoft help?" filled in. She never leaves Salesforce.'
    )
    deal, referral_id = share(stage, tell)
    edits: list[tuple[str, dict[str, Any], list[str]]] = [
        ("the amount, 50,000 to 62,500", {"Amount": 62_500}, ["/details/dealValue"]),
        (f"the closing date to {later(30)}", {"CloseDate": later(30)}, ["/details/closingDateTime"]),
        ("the description", {"Description": "One platform, and the finance reports first."}, ["/details/notes"]),
        ("the name", {"Name": f"{CHECK} {NAME}, phase one"}, ["/name"]),
        ("the stage to Closed Won", {"StageName": "Closed Won"}, ["/status", "/substatus"]),
    ]
    for what, fields, paths in edits:
        edit(stage, tell, deal, referral_id, what, fields, paths)
    final = stage.sim.referral(referral_id)
    tell.fine_print(
        f"Partner Center shows {final['name']}, {final['details']['dealValue']:,} USD, {final['status']} as {final['substatus']}."
    )
    expect("the deal in Partner Center", ("Closed", "Won", f"{NAME}, phase one"), (final["status"], final["substatus"], final["name"]))
    then_quiet(stage, tell)


def share(stage: Stage, tell: Teller) -> tuple[Deal, str]:
    """The seller turns Sync With Partner Center on: the deal and the id of our referral."""
    with stage.sim.lock:
        deal = stage.sim.salesforce.make_deal(NAME, sync=False)
    record = stage.sim.salesforce.record

    def linked() -> bool:
        return str(record(deal.opportunity)["Name"]).startswith(CHECK)

    tell.step("She turns Sync With Partner Center on.")
    turn_on = {"Sync_With_Partner_Center__c": True}
    seen = stage.act(lambda: stage.seller_edits(deal.opportunity, **turn_on), linked, "the opportunity gets its check mark")

    creates = seen.writes("partner_center")
    expect("writes to Partner Center", ["POST", "POST"], [call.method for call in creates])
    ours, microsofts = (json.loads(call.body) for call in creates)
    own = [one for one in stage.sim.referrals() if one["externalReferenceId"] == deal.opportunity]
    expect("referrals of ours for this opportunity", 1, len(own))
    asked = stage.sim.people.microsoft_record(own[0]["id"])
    if asked is None:
        raise StoryFailed("Microsoft was not asked for help: the engagement holds only our own referral")
    expect("our record id in the request", deal.opportunity, ours["externalReferenceId"])
    expect("the engagement of Microsoft's referral", own[0]["engagementId"], microsofts["engagementId"])
    tell.then(seen.seconds(creates[0]), "in Partner Center: our co-sell referral")
    tell.facts([("deal", f"{ours['name']}, {ours['details']['dealValue']:,} USD"), ("externalReferenceId", ours["externalReferenceId"])])
    tell.then(seen.seconds(creates[1]), "in Partner Center: Microsoft's referral, in the same engagement")
    tell.facts([("engagement", asked["engagementId"]), ("help asked for", asked["inviteContext"]["assistanceRequestCode"])])

    tell_link(tell, seen, record(deal.opportunity), own[0]["id"])
    return deal, own[0]["id"]


def tell_link(tell: Teller, seen: Seen, opportunity: dict[str, Any], referral_id: str) -> None:
    """What stands in Salesforce once the two records know each other."""
    writes = seen.writes("salesforce")
    expect("writes to Salesforce", 1, len(writes))
    expect("Referral Identifier", referral_id, opportunity["Referral_Identifier__c"])
    for name in ("Referral_Link__c", "Audit__c"):
        if not opportunity[name]:
            raise StoryFailed(f"{name} is empty in Salesforce")
    tell.then(seen.seconds(writes[0]), "in Salesforce, one write: the seller sees that it is linked, and why")
    labels = {"Name": "Name", "Referral_Identifier__c": "Referral Identifier", "Referral_Link__c": "Referral Link", "Audit__c": "Audit"}
    tell.facts([(label, str(opportunity[name]).splitlines()[0]) for name, label in labels.items()])


def edit(stage: Stage, tell: Teller, deal: Deal, referral_id: str, what: str, fields: dict[str, Any], paths: list[str]) -> None:
    """One edit in Salesforce, and the one JSON Patch it becomes."""
    tell.step(f"She changes {what}.")
    reaches_partner_center(stage, tell, referral_id, what, lambda: stage.seller_edits(deal.opportunity, **fields), paths)


def later(days: int) -> str:
    return (date.today() + timedelta(days=days)).isoformat()
