"""Scenarios 3 and 4: Microsoft asks a partner to sell together, and a seller answers from Salesforce."""

from __future__ import annotations

import json
from typing import Any

from demo.checking import BESIDE, expect, expect_changed, then_quiet
from demo.edits import reaches_partner_center, stays
from demo.partner_center_first import creates, opportunities_of
from demo.stage import Stage
from demo.telling import Teller

CRM_ID = "Microsoft_CRM_Identifier__c"
# The portal learns the opportunity's id with the answer, because until then nothing travels.
LEARNED = "/externalReferenceId"


def accept(stage: Stage, tell: Teller) -> None:
    """Microsoft invites, Ana accepts"""
    opportunity_id, referral_id = invitation(stage, tell, "Tailspin modern workplace", "Tailspin")

    tell.step("Before she answers, she corrects the amount, 75,000 to 90,000.")
    amount = {"Amount": 90_000}
    stays(stage, tell, referral_id, lambda: stage.seller_edits(opportunity_id, **amount), "the deal is on hold, so her edit waits")
    waiting = stage.sim.referral(referral_id)
    expect("the deal in Partner Center", ("New", 75_000), (waiting["status"], waiting["details"]["dealValue"]))

    tell.step("She moves the stage out of On Hold, to Qualification: that accepts, and what waited goes with it.")
    answer = {"StageName": "Qualification"}
    paths = ["/status", "/substatus", "/details/dealValue", LEARNED]
    call = reaches_partner_center(stage, tell, referral_id, "her acceptance", lambda: stage.seller_edits(opportunity_id, **answer), paths)
    sent = {one["path"]: one["value"] for one in json.loads(call.body)}
    expect("what was sent", ("Active", "Accepted", 90_000, opportunity_id), tuple(sent[path] for path in paths))
    expect("the stage", "Qualification", stage.sim.salesforce.record(opportunity_id)["StageName"])

    then_quiet(stage, tell)


def decline(stage: Stage, tell: Teller) -> None:
    """Microsoft invites, Ana declines"""
    opportunity_id, referral_id = invitation(stage, tell, "Wide World data centre", "Wide World Importers")

    tell.step("The deal is not for her: she sets the stage to Closed Lost.")
    lost, paths = {"StageName": "Closed Lost"}, ["/status", "/substatus", "/statusReason", LEARNED]
    reaches_partner_center(stage, tell, referral_id, "her refusal", lambda: stage.seller_edits(opportunity_id, **lost), paths)
    declined = stage.sim.referral(referral_id)
    expect("the invitation in Partner Center", ("Closed", "Declined"), (declined["status"], declined["substatus"]))

    tell.step("Later she tidies up the amount and the description of the lost deal.")
    tidied: dict[str, Any] = {"Amount": 1_000, "Description": "Passed on to a partner in their region."}
    stays(stage, tell, referral_id, lambda: stage.seller_edits(opportunity_id, **tidied), "a closed referral takes no change")
    expect("the referral after that", declined["eTag"], stage.sim.referral(referral_id)["eTag"])
    left = stage.sim.salesforce.record(opportunity_id)
    expect("the lost deal", ("Closed Lost", 1_000), (left["StageName"], left["Amount"]))
    then_quiet(stage, tell)


def invitation(stage: Stage, tell: Teller, name: str, customer: str) -> tuple[str, str]:
    """A Microsoft seller shares a deal; ids of the opportunity, which waits on hold, and of our referral."""
    tell.step(f"A Microsoft seller shares a deal with {customer}, and Contoso has 14 days to answer.")
    contact = {
        "firstName": "Noor",
        "lastName": "Haddad",
        "phoneNumber": "+1 555 0177",
        "email": f"noor@{customer.split()[0]}.example".lower(),
    }
    invited: dict[str, Any] = {}

    def invite() -> None:
        invited.update(stage.sim.people.microsoft_invites(name, customer=customer, contact=contact, deal_value=75_000))

    def arrived() -> bool:
        return any(one[CRM_ID] for one in opportunities_of(stage, invited["id"]))

    seen = stage.act(invite, arrived, "the invitation and Microsoft's CRM id reach Salesforce")
    expect("writes to Partner Center", [], seen.writes("partner_center"))
    made = creates(seen.writes("salesforce"))[0]
    for call in seen.writes("salesforce"):
        if call is not made:
            expect_changed(call, [CRM_ID], also=BESIDE)
    found = opportunities_of(stage, invited["id"])
    expect("opportunities for this invitation", 1, len(found))
    opportunity = found[0]
    expect("the stage", "On Hold", opportunity["StageName"])
    expect("Microsoft's CRM id", microsofts(stage, invited["id"])["trackingInfo"]["microsoftMsxId"], opportunity[CRM_ID])
    audit = str(opportunity["Audit__c"]).splitlines()[0]
    expect("Microsoft's seller, in the audit", True, "Microsoft accepted: Max Muster" in audit)
    tell.then(seen.seconds(made), "in Salesforce: an opportunity on hold")
    tell.facts([("Name", opportunity["Name"]), ("Stage", opportunity["StageName"]), ("Amount", f"{opportunity['Amount']:,.0f} USD")])
    tell.then(seen.seconds(seen.writes("salesforce")[-1]), "and who stands behind it at Microsoft")
    tell.facts([("Microsoft CRM Identifier", opportunity[CRM_ID]), ("Audit", audit)])
    return opportunity["Id"], invited["id"]


def microsofts(stage: Stage, referral_id: str) -> dict[str, Any]:
    """Microsoft's record in the engagement of ours."""
    record = stage.sim.people.microsoft_record(referral_id)
    expect("a record of Microsoft's in the engagement", True, record is not None)
    return record or {}
