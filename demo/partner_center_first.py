"""Scenario 2: a deal is made in the Partner Center portal, and goes on changing there."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from demo.checking import expect, expect_changed, then_quiet
from demo.edits import reaches_salesforce
from demo.stage import Stage, StoryFailed
from demo.telling import Teller
from simulator.core import Call
from simulator.webhooks import Delivery

NAME = "Northwind cloud migration"
EXTRA_COPIES = 2


def partner_center_first(stage: Stage, tell: Teller) -> None:
    """Partner Center first"""
    tell.say(
        "A colleague of Ana's works in the Partner Center portal. To make it hard, every event is delivered three times, the newest first."
    )
    conduct = stage.sim.webhooks.conduct
    conduct.duplicates, conduct.reorder = EXTRA_COPIES, True
    try:
        opportunity_id, referral_id = new_deal(stage, tell)
        closing = (date.today() + timedelta(days=45)).isoformat()
        edits: list[tuple[str, dict[str, Any], list[str]]] = [
            ("the deal value to 71,000", {"details/dealValue": 71_000}, ["Amount"]),
            (f"the closing date to {closing}", {"details/closingDateTime": f"{closing}T00:00:00Z"}, ["CloseDate"]),
            ("the notes", {"details/notes": "They want to move before the summer."}, ["Description"]),
            ("the name", {"name": f"{NAME}, wave one"}, ["Name"]),
        ]
        for what, changes, fields in edits:
            edit(stage, tell, opportunity_id, referral_id, what, changes, fields)
        then_quiet(stage, tell)
        expect("opportunities for this deal", 1, len(opportunities_of(stage, referral_id)))
    finally:
        conduct.duplicates, conduct.reorder = 0, False


def opportunities_of(stage: Stage, referral_id: str) -> list[dict[str, Any]]:
    with stage.sim.lock:
        return [row for row in stage.sim.salesforce.records("Opportunity") if row["Referral_Identifier__c"] == referral_id]


def new_deal(stage: Stage, tell: Teller) -> tuple[str, str]:
    """ "New deal" in the portal and a second edit before any event is delivered; ids of the opportunity and the referral."""
    sim, conduct = stage.sim, stage.sim.webhooks.conduct
    tell.step('"New deal" in the portal, with a customer, a contact, a solution and a request for help; and at once a second edit.')
    conduct.hold = True
    try:
        referral = sim.people.portal_create_deal(NAME, customer="Northwind", help_code="QuotesOrLicensing", deal_value=64_000)
        sim.people.portal_edit(referral["id"], {"details/dealValue": 66_000})
        waiting = len(sim.webhooks.waiting)
    except BaseException:
        conduct.hold = False
        raise

    def release() -> None:
        conduct.hold = False

    delivered = len(sim.webhooks.finished)
    seen = stage.act(release, lambda: bool(sim.referral(referral["id"])["externalReferenceId"]), "Partner Center learns the Salesforce id")
    deliveries = list(sim.webhooks.finished)[delivered : delivered + waiting]
    tell.then(last_answered(deliveries, seen.began), f"{len(deliveries)} signed events delivered and answered: {orders(deliveries)}")

    found = opportunities_of(stage, referral["id"])
    expect("opportunities for this deal", 1, len(found))
    tell_opportunity(stage, tell, found[0], seen.seconds(creates(seen.writes("salesforce"))[0]))
    learned = seen.writes("partner_center")
    expect("writes to Partner Center", ["PATCH"], [call.method for call in learned])
    expect_changed(learned[0], ["/externalReferenceId"])
    expect("what Partner Center learned", found[0]["Id"], sim.referral(referral["id"])["externalReferenceId"])
    tell.patch(seen, learned[0])
    return found[0]["Id"], referral["id"]


def creates(writes: list[Call]) -> list[Call]:
    made = [call for call in writes if call.method == "POST"]
    expect("creates in Salesforce", 1, len(made))
    return made


def last_answered(deliveries: list[Delivery], began: Any) -> float:
    return max(((at - began).total_seconds() for delivery in deliveries for _, at in delivery.answers), default=0.0)


def orders(deliveries: list[Delivery]) -> str:
    """The events in the order of their delivery, copies next to each other told once."""
    told: list[list[Any]] = []
    for delivery in deliveries:
        expect("answers to an event", [200], [status for status, _ in delivery.answers])
        if told and told[-1][0] == delivery.name:
            told[-1][1] += 1
        else:
            told.append([delivery.name, 1])
    return ", ".join(f"{count} x {name}" for name, count in told)


def tell_opportunity(stage: Stage, tell: Teller, opportunity: dict[str, Any], seconds: float) -> None:
    """The new opportunity and what hangs on it."""
    with stage.sim.lock:
        crm = stage.sim.salesforce
        account = crm.record(opportunity["AccountId"])
        contacts = [
            crm.record(row["ContactId"]) for row in crm.records("OpportunityContactRole") if row["OpportunityId"] == opportunity["Id"]
        ]
        lines = [row for row in crm.records("Microsoft_Solutions__c") if row["Opportunity__c"] == opportunity["Id"]]
        solutions = [crm.record(row["Solution__c"]) for row in lines]
    for what, rows in (("contact", contacts), ("solution row", lines)):
        if not rows:
            raise StoryFailed(f"the new opportunity has no {what}")
    tell.then(seconds, "in Salesforce: one opportunity, in one create with everything that belongs to it")
    tell.facts(
        [
            ("Name", opportunity["Name"]),
            ("Account", f"{account['Name']}, {account['BillingCountry']}"),
            ("Contact", ", ".join(f"{one['FirstName']} {one['LastName']}" for one in contacts)),
            ("Solution", ", ".join(one["Solution_Identifier__c"] for one in solutions)),
            ("Stage", opportunity["StageName"]),
            ("Amount", f"{opportunity['Amount']:,.0f} {opportunity['CurrencyIsoCode']}"),
            ("Referral Identifier", opportunity["Referral_Identifier__c"]),
            ("Referral Link", opportunity["Referral_Link__c"]),
            ("Audit", str(opportunity["Audit__c"]).splitlines()[-1]),
        ]
    )


def edit(stage: Stage, tell: Teller, opportunity_id: str, referral_id: str, what: str, changes: dict[str, Any], fields: list[str]) -> None:
    """One edit in the portal, its event three times, and the one write it becomes."""
    tell.step(f"In the portal somebody changes {what}.")
    reaches_salesforce(stage, tell, opportunity_id, what, lambda: stage.sim.people.portal_edit(referral_id, changes), fields)
