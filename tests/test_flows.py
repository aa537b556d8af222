"""How deals behave in the flows, beyond the acceptance table: kinds, answers, closing, leaving, people, lists, and what was lost on the way."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from shared import polls, reconciling, watching
from simulator.faults import Fault
from simulator.salesforce import Org
from simulator.salesforce.schema import text
from tests.deals import CALLBACK, START, DealWorld
from tests.one_deal import OneDeal

SERVICES = "Services Co-sell"
PRIVATE = {"How_can_Microsoft_help__c": None}


def to_partner_center(w: DealWorld, since: int) -> list[str]:
    return [call for call in w.mutations(since) if call.startswith("partner_center")]


# -- the three kinds and their upgrades ------------------------------------------------------------------------------------------------


def test_a_private_deal_becomes_partner_led_and_then_cosell_in_one_referral() -> None:
    deal = OneDeal.shared(**PRIVATE)
    assert deal.kind == "private"
    deal.seller(Referral_visible_to_Microsoft_sellers__c=True)
    assert deal.kind == "partner-led"
    deal.seller(How_can_Microsoft_help__c="Proof Of Concept or Demo")
    assert deal.kind == "co-sell"
    assert deal.microsofts["inviteContext"]["assistanceRequestCode"] == "ProofOfConceptOrDemo"
    assert (len(deal.w.referrals()), len(deal.w.referrals(own=False))) == (1, 1)
    assert not deal.w.quiet()


HELP = {
    "Workload Specific Value Proposition": "WorkloadSpecificValueProposition",
    "Customer Technical Architecture": "CustomerTechnicalArchitecture",
    "Proof Of Concept or Demo": "ProofOfConceptOrDemo",
    "Quotes or Licensing": "QuotesOrLicensing",
    "Post Sales Customer Success": "PostSalesCustomerSuccess",
    "General or Other": "GeneralOrOther",
}


def test_each_of_the_six_helps_is_asked_for_by_its_code() -> None:
    w = DealWorld()
    deals = {help: w.make_deal(help, customer=f"Customer {help}", How_can_Microsoft_help__c=help).opportunity for help in HELP}
    w.settle()
    codes = {help: OneDeal(w, id).microsofts["inviteContext"]["assistanceRequestCode"] for help, id in deals.items()}
    assert codes == HELP


def test_another_help_chosen_later_makes_no_call_and_is_explained() -> None:
    deal = OneDeal.shared()
    before = deal.w.position()
    deal.seller(How_can_Microsoft_help__c="Quotes or Licensing")
    deal.seller(How_can_Microsoft_help__c=None)
    assert to_partner_center(deal.w, before) == []
    assert "help: once submitted it cannot be changed" in deal.explained


def test_help_asked_later_without_a_contact_waits_with_words_and_goes_on_once_there_is_one() -> None:
    w = DealWorld()
    made = w.make_deal(**PRIVATE)
    w.sim.salesforce.person_deletes("OpportunityContactRole", made.contact_role)
    w.settle()
    deal = OneDeal(w, made.opportunity).seller(How_can_Microsoft_help__c="General or Other")
    assert deal.kind != "co-sell"
    assert "needs a customer contact" in deal.audit[0]
    assert deal.here["Name"].startswith("✗")
    deal.adds_contact("Noor", "Haddad")
    deal.seller(NextStep="Contact added")
    assert deal.kind == "co-sell"
    assert [one["email"] for one in deal.microsofts["customerProfile"]["team"]] == ["noor.haddad@fabrikam.example"]
    assert deal.here["Name"].startswith("✓")


def test_help_that_partner_center_does_not_add_to_a_private_deal_is_parked_in_its_words() -> None:
    deal = OneDeal.shared(**PRIVATE)
    deal.w.sim.partner_center.switches.independent_may_ask = False
    deal.seller(How_can_Microsoft_help__c="General or Other")
    assert "Microsoft can only be invited to a shared referral." in deal.audit[0]
    assert not deal.w.quiet(), "asked once, not in a circle"


def test_a_services_deal_names_what_it_lacks_and_is_shared_with_area_play_and_role() -> None:
    w = DealWorld()
    deal = OneDeal(w, w.make_deal(Co_sell_Type__c=SERVICES, Solution_Area__c=None, Solution_Play__c=None).opportunity)
    w.settle()
    for words in ("needs a solution area", "needs a solution play", "needs a partner role"):
        assert f"{SERVICES} {words}" in deal.audit[0]
    (play, *_) = w.sim.salesforce.records("Solution_Play__c")
    (role, *_) = w.sim.salesforce.records("Partner_Role__c")
    deal.seller(Solution_Area__c=play["Solution_Area__c"], Solution_Play__c=play["Id"], Partner_Role__c=role["Id"])
    attributes = {one["type"]: one["id"] for one in deal.there["details"]["requirements"]["additionalRequirements"]["attributes"]}
    assert attributes == {
        "CustomerMarketplaceIntent": "Yes",
        "SolutionArea": "Data & AI (Azure)",
        "SolutionPlay": "Analytics",
        "PartnerRole": "Services",
    }


def test_a_purchase_intent_nobody_chose_is_not_decided() -> None:
    deal = OneDeal.shared(Customer_purchase_intent__c=None)
    attributes = {one["type"]: one["id"] for one in deal.there["details"]["requirements"]["additionalRequirements"]["attributes"]}
    assert attributes["CustomerMarketplaceIntent"] == "HaveNotDecided"


# -- prerequisites ---------------------------------------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_named_in_one_entry() -> None:
    w = DealWorld()
    made = w.make_deal(country="Deutschland", solutions=(), sync=False, Amount=None)
    w.sim.salesforce.person_deletes("OpportunityContactRole", made.contact_role)
    deal = OneDeal(w, made.opportunity).seller(Sync_With_Partner_Center__c=True)
    for words in ("Solution ID is required", "country code missing", "customer contact", "needs a deal value"):
        assert words in deal.audit[0]
    assert len(deal.audit) == 1


def test_a_deal_value_of_zero_is_a_deal_value() -> None:
    assert OneDeal.shared(Amount=0).there["details"]["dealValue"] == 0


@pytest.mark.parametrize("who", ["contact", "owner"])
def test_where_nobody_is_complete_partner_center_has_the_last_word_and_it_stands_in_audit(who: str) -> None:
    """That all four fields are needed is documented for the portal and for bulk upload, not for the API (partner-center 2.5)."""
    w = DealWorld()
    made = w.make_deal(sync=False)
    (ana,) = (one["Id"] for one in w.sim.salesforce.records("User") if one["FirstName"] == "Ana")
    person = ("Contact", made.contact) if who == "contact" else ("User", ana)
    w.sim.salesforce.person_edits(*person, {"Phone": None})
    before = w.position()
    deal = OneDeal(w, made.opportunity).seller(Sync_With_Partner_Center__c=True)
    refused = [call for call in w.sim.journal.calls("partner_center", before) if call.status >= 400]
    assert len(refused) == 1, "asked once, then parked"
    assert "A member needs phoneNumber" in deal.parked
    assert "A member needs phoneNumber" in deal.audit[0]
    w.sim.salesforce.person_edits(*person, {"Phone": "+1 555 0142"})
    w.settle()
    assert (deal.kind, deal.parked) == ("co-sell", "")


def test_a_second_contact_without_a_phone_keeps_nobody_from_sharing() -> None:
    w = DealWorld()
    made = w.make_deal(sync=False)
    deal = OneDeal(w, made.opportunity)
    deal.adds_contact("Noor", "Haddad", Phone=None)
    deal.seller(Sync_With_Partner_Center__c=True)
    assert deal.kind == "co-sell"
    assert [one["email"] for one in deal.there["customerProfile"]["team"]] == ["dana.moreau@fabrikam.example"]


def test_a_country_code_in_small_letters_is_a_country_code() -> None:
    assert OneDeal.shared(country="us").there["customerProfile"]["address"]["country"] == "US"


# -- Microsoft's answers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names_own", [False, True], ids=["the event names Microsoft's record", "the event names ours"])
@pytest.mark.parametrize(
    ("answer", "options", "told"),
    [
        ("accepts", {}, "Microsoft accepted: Max Muster"),
        ("declines", {"reason": "No seller manages this customer"}, "closed: Declined (No seller manages this customer)"),
        ("expires", {}, "closed: Expired"),
    ],
)
def test_microsofts_answer_is_told_once_and_never_moves_our_stage_or_amounts(
    answer: str, options: dict[str, Any], told: str, names_own: bool
) -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.related_names_own = names_own
    deal = OneDeal.shared(w)
    kept = {name: deal.here[name] for name in ("StageName", "Amount", "CloseDate", "Description")}
    deal.microsoft(answer, **options)
    assert told in deal.audit[0]
    assert {name: deal.here[name] for name in kept} == kept
    assert deal.there["status"] == "Active", "our referral stays open"
    assert bool(deal.here["Microsoft_CRM_Identifier__c"]) == (answer == "accepts")
    entries = len(deal.audit)
    assert not w.quiet()
    assert len(deal.audit) == entries


def test_what_microsoft_edits_in_its_own_record_changes_no_value_of_ours() -> None:
    deal = OneDeal.shared().microsoft("accepts")
    before, kept = deal.w.position(), deal.here
    deal.w.sim.people.microsoft_edits(deal.microsofts["id"], {"details/dealValue": 1, "details/notes": "theirs", "name": "theirs"})
    deal.w.settle()
    assert deal.here == kept
    assert deal.w.mutations(before) == []


def test_an_answer_that_nobody_gave_in_fourteen_days_is_told() -> None:
    deal = OneDeal.shared()
    deal.w.sim.advance(15 * 86_400)
    deal.w.settle()
    assert "Microsoft's side is closed: Expired" in deal.audit[0]


def test_a_new_microsoft_seller_after_the_answer_is_told() -> None:
    deal = OneDeal.shared().microsoft("accepts")
    seller = {"firstName": "Mia", "lastName": "Lindt", "phoneNumber": "+1 425 555 0103", "email": "mia.lindt@microsoft.example"}
    deal.w.sim.people.microsoft_edits(deal.microsofts["id"], {"team": [seller]})
    deal.w.settle()
    assert "Microsoft accepted: Mia Lindt" in deal.audit[0]


# -- invitations: accept, decline ------------------------------------------------------------------------------------------------------


def test_losing_an_invitation_while_on_hold_declines_it_with_a_reason() -> None:
    deal = OneDeal.invited().seller(StageName="Closed Lost")
    assert (deal.there["status"], deal.there["substatus"], deal.there["statusReason"]) == ("Closed", "Declined", "Others")
    assert not deal.w.quiet()


def test_winning_an_invitation_while_on_hold_accepts_it_first() -> None:
    deal = OneDeal.invited().seller(StageName="Closed Won")
    assert (deal.there["status"], deal.there["substatus"]) == ("Closed", "Won")
    assert deal.there["acceptedDateTime"]


def test_an_invitation_accepted_in_the_portal_leaves_the_hold() -> None:
    deal = OneDeal.invited().portal(status="Active", substatus="Accepted")
    assert deal.here["StageName"] == "Qualification"
    assert deal.audit[0].endswith("status on hold → Active, accepted in Partner Center")


@pytest.mark.parametrize(
    ("substatus", "reason"), [("Declined", "Not a customer"), ("Expired", None)], ids=["declined in the portal", "expired"]
)
def test_an_invitation_that_ends_unaccepted_is_lost_and_says_how(substatus: str, reason: str | None) -> None:
    deal = OneDeal.invited()
    if substatus == "Expired":
        deal.w.sim.advance(15 * 86_400)
        deal.w.settle()
    else:
        deal.portal(status="Closed", substatus=substatus, statusReason=reason)
    assert deal.here["StageName"] == "Closed Lost"
    assert f"closed in Partner Center ({': '.join(part for part in (substatus, reason) if part)})" in deal.audit[0]


def test_changes_to_an_invitation_arrive_while_it_is_on_hold() -> None:
    deal = OneDeal.invited().portal(details__dealValue=75_000)
    assert (deal.here["Amount"], deal.here["StageName"]) == (75_000, "On Hold")


def test_an_invitation_closed_before_we_heard_of_it_makes_no_opportunity() -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.drop = True
    referral = w.sim.people.microsoft_invites()
    w.portal_edits(referral["id"], {"status": "Closed", "substatus": "Declined", "statusReason": "Others"})
    w.settle()
    w.round(full=True)
    assert w.opportunities() == []


def test_a_deal_that_an_earlier_connector_linked_is_taken_over_without_a_create() -> None:
    w = DealWorld()
    referral = w.sim.people.portal_create_deal(notes="Theirs", deal_value=70_000)
    made = w.make_deal("Fabrikam cloud migration", sync=False, Description=None, Referral_Identifier__c=referral["id"].upper())
    w.portal_edits(referral["id"], {"externalReferenceId": made.opportunity})
    deal = OneDeal(w, made.opportunity).seller(Sync_With_Partner_Center__c=True)
    assert (len(w.opportunities()), len(w.referrals())) == (1, 1)
    assert (deal.here["Description"], deal.there["details"]["dealValue"]) == ("Theirs", 50_000), "empty takes the other's, else the winner"
    assert "first meeting, Salesforce wins" in deal.explained
    assert not w.quiet()


# -- closing ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "substatus", "reason"), [("Closed Won", "Won", None), ("Closed Lost", "Lost", "Others")], ids=["won", "lost"]
)
def test_a_deal_closed_in_salesforce_is_closed_there(stage: str, substatus: str, reason: str | None) -> None:
    deal = OneDeal.shared().seller(StageName=stage, Amount=64_000)
    assert (deal.there["status"], deal.there["substatus"], deal.there["statusReason"]) == ("Closed", substatus, reason)
    assert deal.there["details"]["dealValue"] == 64_000, "with the last edit in the same patch"
    assert not deal.w.quiet()


def test_a_deal_won_within_72_hours_is_closed_and_history_warns_of_its_registration() -> None:
    warning = "note: Won within 72 hours of its creation: Microsoft may not register this deal"
    deal = OneDeal.shared()
    before = deal.w.position()
    deal.seller(StageName="Closed Won")
    assert deal.there["substatus"] == "Won"
    assert warning in deal.explained
    assert [call for call in deal.w.mutations(before) if call.startswith("salesforce")] == [], "the warning is no write of its own"
    later = OneDeal.shared()
    later.w.sim.clock.advance(72 * 3600)
    later.seller(StageName="Closed Won")
    assert later.there["substatus"] == "Won"
    assert warning not in later.explained


@pytest.mark.parametrize(("substatus", "stage"), [("Won", "Closed Won"), ("Lost", "Closed Lost"), ("Error", "Closed Lost")])
def test_a_deal_closed_in_partner_center_is_closed_here_and_the_word_is_told(substatus: str, stage: str) -> None:
    deal = OneDeal.shared().service(status="Closed", substatus=substatus, statusReason="Duplicate, from bulk upload")
    assert deal.here["StageName"] == stage
    told = "Duplicate, from bulk upload" if substatus == "Won" else f"{substatus}: Duplicate, from bulk upload"
    assert f"closed in Partner Center ({told})" in deal.audit[0]
    assert not deal.w.quiet()


def test_closed_differently_on_both_sides_partner_center_stands_and_the_seller_is_told() -> None:
    deal = OneDeal.shared()
    deal.w.seller_edits(deal.id, StageName="Closed Won")
    deal.service(status="Closed", substatus="Lost", statusReason="Others")
    assert deal.here["StageName"] == "Closed Lost"
    assert "closed differently on both sides, Partner Center stands" in deal.audit[0]


@pytest.mark.parametrize(("status", "substatus"), [("Active", "Paused"), ("Suspended", "None"), ("Closed", "Withdrawn")])
def test_a_status_of_the_future_is_said_and_left_alone_while_the_other_fields_travel(status: str, substatus: str) -> None:
    deal = OneDeal.shared()
    kept = deal.here["StageName"]
    deal.service(status=status, substatus=substatus, details={**deal.there["details"], "dealValue": 71_000})
    assert (deal.here["StageName"], deal.here["Amount"]) == (kept, 71_000)
    assert f"status {status}/{substatus} is not known" in deal.explained


def test_nothing_is_patched_on_a_referral_closed_with_a_word_of_the_future() -> None:
    deal = OneDeal.shared().service(status="Closed", substatus="Withdrawn")
    before = deal.w.position()
    deal.seller(Amount=99_000)
    assert to_partner_center(deal.w, before) == []


def test_a_later_stage_of_the_seller_is_never_pulled_back_by_active() -> None:
    deal = OneDeal.shared().seller(StageName="Negotiation/Review")
    deal.portal(details__dealValue=70_000)
    deal.microsoft("accepts")
    deal.service(status="Active", substatus="Accepted")
    assert (deal.here["StageName"], deal.here["Amount"]) == ("Negotiation/Review", 70_000)
    assert not deal.w.quiet()


# -- leaving ---------------------------------------------------------------------------------------------------------------------------


def test_a_deleted_opportunity_stops_syncing_and_the_referral_is_left_alone() -> None:
    deal = OneDeal.shared()
    referral, before = deal.there, deal.w.position()
    deal.w.sim.salesforce.person_deletes("Opportunity", deal.id)
    deal.w.settle()
    deal.w.portal_edits(referral["id"], {"details/dealValue": 70_000})
    deal.w.settle()
    assert deal.w.mutations(before) == []
    assert (len(deal.w.opportunities()), deal.w.parked()) == (0, {}), "and no second opportunity is made of it"
    assert "synchronization stopped" in deal.explained
    assert not deal.w.quiet()


def test_opting_out_stops_both_directions_and_opting_in_again_merges_what_happened_meanwhile() -> None:
    deal = OneDeal.shared().seller(Sync_With_Partner_Center__c=False)
    before = deal.w.position()
    deal.seller(Amount=61_000)
    deal.portal(details__notes="Meanwhile")
    assert deal.w.mutations(before) == []
    deal.seller(Sync_With_Partner_Center__c=True)
    assert (deal.there["details"]["dealValue"], deal.here["Description"]) == (61_000, "Meanwhile")
    assert not deal.w.quiet()


def test_an_opportunity_that_never_asked_for_sync_is_never_read() -> None:
    w = DealWorld()
    w.make_deal(sync=False)
    before = w.position()
    w.settle()
    assert not [call for call in w.sim.journal.calls("partner_center", before) if call.method == "POST"]
    assert w.mutations(before) == []


def test_a_copied_opportunity_is_parked_says_so_and_harms_nobody() -> None:
    deal = OneDeal.shared()
    carried = ("Referral_Identifier__c", "Referral_Link__c", "Sync_With_Partner_Center__c", "AccountId", "StageName", "CloseDate", "Amount")
    fields = {name: deal.here[name] for name in carried} | {"Name": "Fabrikam data estate, second phase"}
    copy = deal.w.sim.salesforce.person_creates("Opportunity", fields)
    before, original, referral = deal.w.position(), deal.here, deal.there
    deal.w.settle()
    assert "it looks like a copy" in deal.w.opportunity(copy)["Audit__c"]
    assert deal.w.opportunity(copy)["Name"] == "✗ Fabrikam data estate, second phase"
    assert to_partner_center(deal.w, before) == []
    assert (deal.here, deal.there) == (original, referral)
    deal.seller(Amount=61_000)
    assert deal.there["details"]["dealValue"] == 61_000, "the original goes on"


def test_a_copy_freed_of_the_identifier_becomes_a_deal_of_its_own() -> None:
    deal = OneDeal.shared()
    w = deal.w
    copy = OneDeal(w, w.make_deal("Northwind copy", customer="Northwind", Referral_Identifier__c=deal.there["id"]).opportunity)
    w.settle()
    assert len(w.referrals()) == 1
    copy.seller(Referral_Identifier__c=None)
    assert copy.there["id"] != deal.there["id"]
    assert copy.here["Name"] == "✓ Northwind copy"


# -- solutions -------------------------------------------------------------------------------------------------------------------------


def test_only_solutions_that_we_added_are_removed() -> None:
    deal = OneDeal.shared(solutions=("SOL-10001-CON", "SOL-10002-CON"))
    theirs = {"type": "Name", "id": "SOL-99999-FAB", "name": "From the portal"}
    deal.portal(details__requirements__solutions=[*deal.there["details"]["requirements"]["solutions"], theirs])
    (first, _) = deal.children("Microsoft_Solutions__c")
    deal.w.sim.salesforce.person_deletes("Microsoft_Solutions__c", first["Id"])
    deal.w.settle()
    assert deal.solutions == ["SOL-10002-CON", "SOL-99999-FAB"]


def test_solutions_of_an_invitation_are_not_ours_to_remove() -> None:
    deal = OneDeal.invited().seller(StageName="Qualification")
    (row,) = deal.children("Microsoft_Solutions__c")
    detail = next(one for one in deal.w.sim.salesforce.records("Microsoft_Solution_Detail__c") if one["Type__c"] == "1P")
    deal.w.sim.salesforce.person_creates("Microsoft_Solutions__c", {"Opportunity__c": deal.id, "Solution__c": detail["Id"]})
    deal.w.sim.salesforce.person_deletes("Microsoft_Solutions__c", row["Id"])
    deal.w.settle()
    assert deal.solutions == ["SOL-15974-MQF", "SOL-20001-MSF"]


def test_solution_ids_in_the_legacy_products_field_are_understood() -> None:
    deal = OneDeal.shared(solutions=(), Products__c="SOL-10001-CON, SOL-10002-CON")
    assert deal.solutions == ["SOL-10001-CON", "SOL-10002-CON"]
    deal.seller(Products__c="SOL-10001-CON;SOL-20001-MSF")
    assert deal.solutions == ["SOL-10001-CON", "SOL-20001-MSF"]


def test_the_packages_trigger_and_ours_agree_when_the_last_solution_goes() -> None:
    deal = OneDeal.shared(DealWorld(org=Org(package_trigger=True)))
    (row,) = deal.children("Microsoft_Solutions__c")
    deal.w.sim.salesforce.person_deletes("Microsoft_Solutions__c", row["Id"])
    deal.w.settle()
    assert deal.here["Sync_With_Partner_Center__c"] is False
    assert not deal.w.quiet()


def test_a_deal_whose_sync_the_last_solution_turned_off_goes_on_with_a_new_one() -> None:
    deal = OneDeal.shared()
    (row,) = deal.children("Microsoft_Solutions__c")
    deal.w.sim.salesforce.person_deletes("Microsoft_Solutions__c", row["Id"])
    deal.w.settle()
    (_, second, *_) = deal.w.sim.salesforce.records("Microsoft_Solution_Detail__c")
    deal.w.sim.salesforce.person_creates("Microsoft_Solutions__c", {"Opportunity__c": deal.id, "Solution__c": second["Id"]})
    deal.seller(Sync_With_Partner_Center__c=True, Amount=61_000)
    assert (deal.solutions, deal.there["details"]["dealValue"]) == (["SOL-10002-CON"], 61_000)
    assert len(deal.w.referrals()) == 1


def test_more_solutions_than_partner_center_takes_are_refused_whole_with_the_reason() -> None:
    w = DealWorld()
    deal = OneDeal(w, w.make_deal(solutions=tuple(f"SOL-{number}-CON" for number in range(51))).opportunity)
    w.settle()
    assert w.referrals() == []
    assert "50 solutions" in deal.audit[0]
    assert deal.here["Name"].startswith("✗")


# -- people ----------------------------------------------------------------------------------------------------------------------------


def test_contacts_are_frozen_once_shared_and_no_call_is_tried() -> None:
    deal = OneDeal.shared()
    before = deal.w.position()
    deal.adds_contact("Noor", "Haddad")
    deal.seller(NextStep="New contact")
    assert to_partner_center(deal.w, before) == []
    assert "contacts: frozen since the deal is shared with Microsoft" in deal.explained


def test_a_new_contact_of_a_private_deal_travels() -> None:
    deal = OneDeal.shared(**PRIVATE)
    deal.adds_contact("Noor", "Haddad")
    deal.seller(NextStep="New contact")
    emails = [one["email"] for one in deal.there["customerProfile"]["team"]]
    assert emails == ["dana.moreau@fabrikam.example", "noor.haddad@fabrikam.example"]


def test_a_contact_who_joins_a_private_deal_travels_without_an_edit_of_the_opportunity() -> None:
    deal = OneDeal.shared(**PRIVATE)
    deal.w.quiet()
    deal.adds_contact("Noor", "Haddad")
    deal.w.sim.clock.advance(60)
    deal.w.round(full=True)
    deal.w.settle()
    assert [one["firstName"] for one in deal.there["customerProfile"]["team"]] == ["Dana", "Noor"]


def _member(deal: OneDeal, first: str) -> str:
    (user,) = (one for one in deal.w.sim.salesforce.records("User") if one["FirstName"] == first)
    return deal.w.sim.salesforce.person_creates("OpportunityTeamMember", {"OpportunityId": deal.id, "UserId": user["Id"]})


def test_sync_is_turned_off_after_the_last_solution_even_if_somebody_saves_meanwhile() -> None:
    deal = OneDeal.shared()
    deal.w.sim.clock.advance(3600)
    for row in deal.children("Microsoft_Solutions__c"):
        deal.w.sim.salesforce.person_deletes("Microsoft_Solutions__c", row["Id"])
    deal.w.sim.faults.add(Fault("salesforce", "PATCH", "*/Opportunity/*", action=lambda _: deal.w.seller_edits(deal.id, NextStep="Call")))
    deal.w.settle()
    assert deal.here["Sync_With_Partner_Center__c"] is False
    deal.seller(Sync_With_Partner_Center__c=True)
    assert deal.here["Sync_With_Partner_Center__c"] is True, "whoever turns it on again knows"


def test_a_team_member_is_added_by_e_mail_and_never_removed() -> None:
    deal = OneDeal.shared()
    member = _member(deal, "Ben")
    deal.seller(NextStep="Ben joins")
    team = ["ana.sousa@contoso.example", "ben.okafor@contoso.example"]
    assert [one["email"] for one in deal.there["team"]] == team
    deal.w.sim.salesforce.person_deletes("OpportunityTeamMember", member)
    deal.seller(NextStep="Ben leaves")
    assert [one["email"] for one in deal.there["team"]] == team
    assert not deal.w.quiet()


def test_a_colleague_whom_the_portal_added_is_kept_as_he_stands() -> None:
    deal = OneDeal.shared()
    colleague = {"firstName": "Per", "lastName": "Holm", "phoneNumber": "+1 555 0111", "email": "per.holm@contoso.example"}
    deal.portal(team=[*deal.there["team"], colleague])
    kept = deal.there["team"]
    _member(deal, "Ben")
    deal.seller(NextStep="Ben joins")
    assert deal.there["team"][:2] == kept
    assert deal.there["team"][2]["email"] == "ben.okafor@contoso.example"


def test_the_owner_of_a_deal_from_partner_center_is_the_team_member_who_is_a_user() -> None:
    w = DealWorld()
    team = [
        {"firstName": "Ben", "lastName": "Okafor", "phoneNumber": "+1 555 0100", "email": "Ben.Okafor@Contoso.example"},
        {"firstName": "Per", "lastName": "Holm", "phoneNumber": "+1 555 0111", "email": "per.holm@contoso.example"},
        {"firstName": "Chloe", "lastName": "Lindqvist", "phoneNumber": "+1 555 0100", "email": "chloe.lindqvist@contoso.example"},
    ]
    deal = OneDeal.from_portal(w, team=team)
    names = {one["Id"]: one["FirstName"] for one in w.sim.salesforce.records("User")}
    assert names[deal.here["OwnerId"]] == "Ben"
    assert [names[one["UserId"]] for one in deal.children("OpportunityTeamMember")] == ["Chloe"]
    assert len(deal.there["team"]) == 3, "and nobody is added twice over there"


def test_where_no_team_member_is_a_user_the_default_owner_owns_it() -> None:
    w = DealWorld(overlay={"people": {"default_owner": "chloe.lindqvist@contoso.example"}})
    deal = OneDeal.from_portal(w)
    (chloe,) = (one for one in w.sim.salesforce.records("User") if one["FirstName"] == "Chloe")
    assert deal.here["OwnerId"] == chloe["Id"]


def test_a_customer_is_one_account_and_a_person_one_contact_over_several_deals() -> None:
    w = DealWorld()
    first, second = OneDeal.from_portal(w, name="First"), OneDeal.from_portal(w, name="Second")
    third = OneDeal.from_portal(
        w, name="Third", address={"addressLine1": "2 Quay", "city": "Lisboa", "postalCode": "1000", "country": "PT"}
    )
    assert first.here["AccountId"] == second.here["AccountId"] != third.here["AccountId"]
    assert len(w.sim.salesforce.records("Contact")) == 2
    assert len(second.children("OpportunityContactRole")) == 1


def test_an_account_edited_later_makes_no_call() -> None:
    deal = OneDeal.shared()
    before = deal.w.position()
    deal.w.sim.salesforce.person_edits("Account", deal.here["AccountId"], {"Name": "Fabrikam Holdings", "BillingCountry": "CA"})
    deal.seller(NextStep="Renamed")
    assert deal.w.mutations(before) == []


# -- visibility, values, names ---------------------------------------------------------------------------------------------------------


def test_notes_may_be_emptied_and_nothing_else() -> None:
    deal = OneDeal.shared().seller(Description=None, Amount=None)
    assert (deal.there["details"]["notes"] or None, deal.there["details"]["dealValue"]) == (None, 50_000)
    assert "deal value: an empty value does not travel to Partner Center, which keeps 50000" in deal.explained
    deal.portal(details__notes="Again")
    assert deal.here["Description"] == "Again"
    deal.portal(details__notes="")
    assert deal.here["Description"] is None


@pytest.mark.parametrize("mark", ["✓ ", "✔ ", "✗ ", "✘", "❌ ", "✔️ ", "✓ ✓ "])
def test_marks_are_stripped_before_a_name_is_compared_or_sent(mark: str) -> None:
    deal = OneDeal.shared()
    before = deal.w.position()
    deal.seller(Name=f"{mark}Fabrikam data estate")
    assert to_partner_center(deal.w, before) == []
    deal.seller(Name=f"{mark}Fabrikam lakehouse")
    assert deal.there["name"] == "Fabrikam lakehouse"


def test_a_name_changed_in_the_portal_arrives_with_its_mark() -> None:
    deal = OneDeal.shared().portal(name="Fabrikam lakehouse")
    assert deal.here["Name"] == "✓ Fabrikam lakehouse"


def test_edits_of_different_fields_on_both_sides_merge_and_of_one_field_salesforce_wins() -> None:
    deal = OneDeal.shared()
    deal.w.portal_edits(deal.there["id"], {"details/dealValue": 70_000, "details/closingDateTime": "2027-03-01T00:00:00Z"})
    deal.seller(Amount=61_000, Description="Ours")
    assert (deal.here["Amount"], deal.here["CloseDate"], deal.here["Description"]) == (61_000, "2027-03-01", "Ours")
    details = deal.there["details"]
    assert (details["dealValue"], details["closingDateTime"][:10], details["notes"]) == (61_000, "2027-03-01", "Ours")
    assert "changed on both sides, Salesforce wins" in deal.explained


# -- audit -----------------------------------------------------------------------------------------------------------------------------


def test_audit_tells_the_newest_first_in_utc_in_the_words_of_the_plan() -> None:
    deal = OneDeal.shared()
    deal.w.sim.clock.advance(3600)
    deal.portal(details__closingDateTime="2027-02-15T00:00:00Z", details__notes="Secret plans")
    deal.w.sim.clock.advance(3600)
    deal.portal(details__dealValue=70_000)
    assert deal.audit == [
        "2026-11-02 11:00 - deal value 50000 → 70000, changed in Partner Center",
        "2026-11-02 10:00 - close date 2027-01-31 → 2027-02-15, changed in Partner Center; notes updated, changed in Partner Center",
        f"{START:%Y-%m-%d %H:%M} - synchronized with Partner Center",
    ]


def test_what_a_person_wrote_into_audit_stays() -> None:
    deal = OneDeal.shared(Audit__c="A note by hand").portal(details__dealValue=70_000)
    assert deal.audit[-1] == "A note by hand"


# -- ids in events ---------------------------------------------------------------------------------------------------------------------

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_an_event_for_a_referral_that_does_not_exist_is_answered_and_dropped() -> None:
    w = DealWorld()
    w.sim.webhooks.emit("referral-updated", UNKNOWN)
    before = w.position()
    w.settle()
    assert (w.mutations(before), w.parked(), w.owed()) == ([], {}, {})


def test_an_event_for_a_referral_of_another_organization_is_answered_and_dropped() -> None:
    w = DealWorld()
    referral = w.sim.people.portal_create_deal()
    for token in w.sim.entra.refresh_tokens.values():
        token.user.role = "user"  # who sees only deals whose team names him
    before = w.position()
    w.settle()
    assert (w.opportunities(), w.mutations(before), w.parked()) == ([], [], {})
    assert any("belongs to somebody else" in one["text"] for one in w.world.state.history(f"pc-{referral['id']}"))


def test_an_event_that_names_microsofts_record_leads_to_our_deal() -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.hold = True
    referral = w.sim.people.microsoft_invites()
    microsofts = w.sim.people.microsoft_record(referral["id"])
    assert microsofts is not None
    w.sim.webhooks.conduct.hold = False
    w.sim.webhooks.waiting.clear()
    w.sim.webhooks.emit("related-referral-created", microsofts["id"])
    w.deliver()
    w.work()
    (opportunity,) = w.opportunities()
    assert opportunity["Referral_Identifier__c"] == referral["id"]


def test_an_event_of_an_engagement_in_which_we_have_no_referral_is_dropped() -> None:
    w = DealWorld()
    stranger = w.sim.partner_center.add({**w.sim.people.microsoft_invites(), "organizationId": "msft", "engagementId": UNKNOWN})
    w.settle()
    w.sim.webhooks.emit("related-referral-updated", stranger["id"])
    before = w.position()
    w.settle()
    assert (len(w.opportunities()), w.mutations(before), w.parked()) == (1, [], {})


def test_a_referral_that_names_an_opportunity_of_fifteen_characters_finds_it() -> None:
    w = DealWorld()
    made = w.make_deal(sync=False)
    referral = w.sim.people.portal_create_deal()
    w.portal_edits(referral["id"], {"externalReferenceId": made.opportunity[:15]})
    w.seller_edits(made.opportunity, Referral_Identifier__c=referral["id"], Sync_With_Partner_Center__c=True)
    w.settle()
    assert (len(w.opportunities()), len(w.referrals())) == (1, 1)
    assert w.opportunity(made.opportunity)["Referral_Link__c"].endswith(referral["id"])
    assert not w.quiet()


# -- what webhooks lost ----------------------------------------------------------------------------------------------------------------


def test_what_webhooks_lost_is_caught_up_over_all_pages_and_odd_links() -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.drop = True
    w.sim.partner_center.switches.page_size, w.sim.partner_center.switches.odd_links = 3, True
    for number in range(10):
        w.sim.people.portal_create_deal(f"Deal {number}", customer=f"Customer {number}")
    w.settle()
    assert sorted(one["Name"] for one in w.opportunities()) == [f"✓ Deal {number}" for number in range(10)]
    for referral in w.referrals():
        w.portal_edits(referral["id"], {"details/dealValue": 70_000})
    w.settle()
    assert {one["Amount"] for one in w.opportunities()} == {70_000}
    assert not w.quiet()


def test_microsofts_answer_is_caught_up_when_its_event_was_lost() -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.drop = True
    deal = OneDeal.shared(w).microsoft("accepts")
    assert deal.here["Microsoft_CRM_Identifier__c"] == deal.microsofts["trackingInfo"]["microsoftMsxId"]


def test_a_change_older_than_every_poll_is_found_by_the_sweep() -> None:
    w = DealWorld()
    deal = OneDeal.shared(w)
    w.sim.webhooks.conduct.drop = True
    w.sim.people.portal_edit(deal.there["id"], {"details/dealValue": 70_000})
    w.sim.clock.advance(7 * 86_400)
    polls.poll_opportunities(w.world)
    w.world.state.move_cursor("referrals", "2027-01-01T00:00:00.000000Z")
    reconciling.reconcile(w.world)
    w.work()
    assert deal.here["Amount"] == 70_000


def test_a_create_whose_answer_was_lost_is_found_and_not_made_again() -> None:
    w = DealWorld()
    w.sim.faults.add(Fault(host="partner_center", method="POST", cut="after"))
    deal = OneDeal(w, w.make_deal().opportunity)
    w.settle(rounds=20)
    assert (deal.kind, len(w.referrals()), len(w.referrals(own=False))) == ("co-sell", 1, 1)
    w.sim.faults.add(Fault(host="salesforce", method="POST", path="*/composite/*", cut="after"))
    other = OneDeal.from_portal(w, name="Tailspin move", customer="Tailspin")
    assert other.here["Name"] == "✓ Tailspin move"
    assert len(w.opportunities()) == 2
    assert not w.quiet()


def test_the_certificate_counts_every_deal_once() -> None:
    w = DealWorld()
    agreed = [OneDeal.from_portal(w, name=f"Deal {number}", customer=f"Customer {number}") for number in range(3)]
    OneDeal.shared(w, name="Parked", customer="Northwind", solutions=())
    opted_out = OneDeal.shared(w, name="Opted out", customer="Tailspin").seller(Sync_With_Partner_Center__c=False)
    w.round(full=True)
    w.settle()
    w.sim.webhooks.conduct.drop = True
    w.sim.people.portal_create_deal("Only there", customer="Adatum")
    w.make_deal("Only here", customer="Litware")
    w.portal_edits(agreed[0].there["id"], {"details/dealValue": 70_000})
    counted = asdict(reconciling.reconcile(w.world))
    assert counted == {
        "in_agreement": 2,
        "in_flight": 1,
        "parked": 1,
        "leads": 0,
        "only_in_partner_center": 2,  # the new one, and the one that opted out
        "only_in_salesforce": 1,
        "not_reached": 0,
        "marked": 3,
    }
    assert opted_out.there["status"] == "Active"
    w.settle()
    w.round(full=True)
    final = asdict(reconciling.reconcile(w.world))
    assert final == counted | {"in_agreement": 5, "in_flight": 0, "only_in_partner_center": 1, "only_in_salesforce": 0, "marked": 0}


# -- the registration ------------------------------------------------------------------------------------------------------------------

THEIRS = "https://other.contoso.example/flow"


@pytest.mark.parametrize("allowed", [False, True], ids=["told", "told and taken back"])
def test_a_registration_that_another_system_took_over_is_noticed_and_nothing_is_lost(allowed: bool) -> None:
    w = DealWorld(settings={"WEBHOOK_TAKE_BACK": str(allowed).lower()})
    assert watching.watch_registration(w.world) == watching.OURS
    w.world.partner_center.register(THEIRS, ["referral-created"], replace=True)
    w.sim.people.portal_create_deal()  # its event goes to them
    w.sim.clock.advance(1800)
    state = watching.watch_registration(w.world)
    assert state == (f"{watching.OURS} (taken back)" if allowed else watching.ELSEWHERE)
    assert w.sim.webhooks.registration is not None
    assert w.sim.webhooks.registration["WebhookUrl"] == (CALLBACK if allowed else THEIRS)
    if not allowed:
        w.poll()  # the catch-up of every few minutes; what takes the registration back sweeps at once
    w.work()
    assert len(w.opportunities()) == 1


def test_a_referral_program_arrives_where_the_org_has_the_field() -> None:
    deal = OneDeal.shared(DealWorld(org=Org(extra_fields={"Opportunity": (text("Referral_Program__c", 200),)})))
    deal.portal(referralProgram="Azure Migrate and Modernize")
    assert deal.here["Referral_Program__c"] == "Azure Migrate and Modernize"
