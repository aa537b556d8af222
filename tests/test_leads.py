"""Leads from Partner Center, both ways, behind `cosell_opportunities_only`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared import polls
from shared.leads import next_step
from shared.mapping import ACTIVE, LOST, PENDING, WON
from shared.pairing import lead_name, opportunity_name, referral_name
from simulator.faults import Fault
from simulator.salesforce import Org, ValidationRule
from simulator.salesforce.schema import text
from tests.deals import DealWorld, load

LEADS_TOO = {"switches": {"cosell_opportunities_only": False}}
CLOSED = "Closed - Not Converted"
WITHOUT_KEY = Org(connector_package=False)


class LeadWorld(DealWorld):
    """A world in which leads travel, and the hands that move one."""

    def __init__(self, overlay: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(overlay={**LEADS_TOO, **(overlay or {})}, **options)

    def invite(self, **content: Any) -> str:
        referral: str = self.sim.people.microsoft_invites("Northwind wants a lake", shared=False, **content)["id"]
        return referral

    def arrived(self, **content: Any) -> tuple[str, str]:
        """A referral that nobody accepted and its lead, at rest."""
        referral = self.invite(**content)
        self.settle()
        [lead] = self.leads()
        return referral, lead["Id"]

    def leads(self) -> list[dict[str, Any]]:
        return self.sim.salesforce.records("Lead")

    def status(self, referral_id: str) -> tuple[str, str]:
        record = self.sim.partner_center.records[referral_id]
        return record["status"], record["substatus"]

    def seller_sets(self, lead_id: str, **fields: Any) -> None:
        self.sim.salesforce.person_edits("Lead", lead_id, fields)

    def convert(self, lead_id: str, **options: Any) -> str:
        return str(self.sim.salesforce.person_converts_lead(lead_id, **options))

    def accept(self, referral_id: str) -> None:
        self.portal_edits(referral_id, {"status": "Active", "substatus": "Accepted"})

    def deployed_anew(self, overlay: dict[str, Any] | None = None, **settings: Any) -> None:
        """Another version of the app on the same state."""
        self.mapping = load({**LEADS_TOO, **(overlay or {})})
        self.settings = replace(self.settings, **settings)
        self.world = self.new_worker()

    def pair(self, referral_id: str) -> Any:
        return self.world.state.pair(referral_name(referral_id))


@pytest.fixture
def w() -> LeadWorld:
    return LeadWorld()


def audit(record: dict[str, Any]) -> str:
    """The newest entry, without its time."""
    return str(record["Audit__c"]).partition("\n")[0].partition(" - ")[2]


# -- the switch ------------------------------------------------------------------------------------------------------------------------


def test_with_cosell_only_a_lead_is_left_alone_on_both_sides_and_the_poll_costs_no_call() -> None:
    w = DealWorld()
    referral = w.sim.people.microsoft_invites(shared=False)["id"]
    fields = {"LastName": "Smith", "Company": "Fabrikam", "Sync_With_Partner_Center__c": True, "Referral_Identifier__c": referral}
    lead = w.sim.salesforce.person_creates("Lead", fields)
    w.settle()
    w.world.state.mark(lead_name(lead))
    w.portal_edits(referral, {"status": "Active", "substatus": "Accepted"})
    w.settle()
    assert w.opportunities() == []
    assert len(w.sim.salesforce.records("Lead")) == 1
    since = w.position()
    assert polls.poll_leads(w.world) == 0
    assert w.sim.journal.calls(since=since) == []
    assert w.quiet() == []


def test_an_unaccepted_lead_becomes_a_lead_and_nothing_else(w: LeadWorld) -> None:
    referral, lead_id = w.arrived(notes="They want one platform.\nSoon.")
    [lead] = w.leads()
    expected = {
        "LastName": "Smith",
        "FirstName": "Sue",
        "Company": "Fabrikam",
        "Email": "sue.smith@fabrikam.example",
        "Phone": "+1 425 555 0100",
        "Street": "One Fabrikam Way",
        "City": "Redmond",
        "State": "WA",
        "PostalCode": "98052",
        "Country": "US",
        "Description": "They want one platform.\nSoon.",
        "Status": "Open - Not Contacted",
        "Referral_Identifier__c": referral,
        "Co_sell_Key__c": referral,
        "Referral_Link__c": f"https://partner.microsoft.com/referrals/v2/inbox?id={referral}",
        "Sync_With_Partner_Center__c": True,
    }
    assert {name: lead[name] for name in expected} == expected
    assert audit(lead) == "created from Partner Center"
    assert w.opportunities() == []
    assert w.status(referral) == ("New", "Pending")
    assert w.world.state.pair(lead_name(lead_id)) == w.pair(referral)
    assert w.quiet() == []


def test_a_lead_takes_its_status_owner_and_constants_from_the_mapping() -> None:
    overlay = {
        "leads": {"default_status": "Working - Contacted"},
        "people": {"default_owner": "ben.okafor@contoso.example"},
        "create": {"Lead": {"LeadSource": "Partner Referral", "Title": "About {title}"}},
    }
    w = LeadWorld(overlay)
    w.arrived()
    [lead] = w.leads()
    [owner] = [user for user in w.sim.salesforce.records("User") if user["Email"] == "ben.okafor@contoso.example"]
    assert (lead["Status"], lead["LeadSource"], lead["Title"]) == (
        "Working - Contacted",
        "Partner Referral",
        "About Northwind wants a lake",
    )
    assert lead["OwnerId"] == owner["Id"]


def test_names_that_salesforce_requires_are_taken_from_what_there_is(w: LeadWorld) -> None:
    w.arrived(contact={"email": "info@fabrikam.example", "lastName": "", "firstName": "", "phoneNumber": ""})
    w.invite(contact=None, customer="Adventure Works")
    w.settle()
    assert [(lead["LastName"], lead["Company"]) for lead in w.leads()] == [("info", "Fabrikam"), ("Adventure Works", "Adventure Works")]


def test_state_and_country_picklists_get_codes() -> None:
    w = LeadWorld(org=Org(state_and_country_picklists=True))
    w.arrived()
    [lead] = w.leads()
    assert (lead["CountryCode"], lead["StateCode"], lead["Country"]) == ("US", "WA", "United States")


# -- nothing doubled -------------------------------------------------------------------------------------------------------------------


def test_an_event_that_repeats_doubles_nothing(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    before = w.position()
    for name in (referral_name(referral), lead_name(lead_id)) * 3:
        w.world.state.mark(name)
        w.wakes.wake(name)
        w.work()
    assert w.mutations(before) == []
    assert len(w.leads()) == 1


def test_without_a_unique_key_a_create_is_repeated_only_when_the_first_cannot_land_any_more() -> None:
    w = LeadWorld(org=WITHOUT_KEY)
    w.sim.faults.add(Fault("salesforce", "POST", "*/sobjects/Lead", cut="before"))
    since = w.position()
    w.invite()
    for _ in range(10):
        w.round()
        w.sim.clock.advance(60)
    posts = [call for call in w.sim.journal.calls("salesforce", since=since) if call.path.endswith("/sobjects/Lead")]
    assert len(posts) == 1
    w.settle()
    assert len(w.leads()) == 1


@pytest.mark.parametrize("org", [None, WITHOUT_KEY], ids=["with our key", "without our key"])
@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_create_whose_answer_was_lost_is_found_and_not_repeated(org: Org | None, cut: Any) -> None:
    w = LeadWorld(org=org)
    w.sim.faults.add(Fault("salesforce", "POST", "*/sobjects/Lead", cut=cut))
    w.invite()
    w.settle(rounds=20)
    assert len(w.leads()) == 1
    assert w.quiet() == []


def test_a_create_repeated_because_the_search_saw_nothing_finds_the_key_taken(w: LeadWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request lands after the second run searched: only the unique key can tell."""
    leads_of, blind = type(w.world.org).leads_of, [True, True]
    monkeypatch.setattr(type(w.world.org), "leads_of", lambda org, referral: [] if blind and blind.pop() else leads_of(org, referral))
    w.sim.faults.add(Fault("salesforce", "POST", "*/sobjects/Lead", cut="after"))
    referral = w.invite()
    w.deliver()
    w.work()
    w.sim.clock.advance(10)
    polls.resume_owed_work(w.world)
    w.work()
    [lead] = w.leads()
    assert blind == []
    assert w.pair(referral).lead_id == lead["Id"]
    assert w.owed() == {}


def test_a_lead_is_found_by_our_key_where_somebody_emptied_the_identifier(w: LeadWorld) -> None:
    w.sim.faults.add(Fault("salesforce", "POST", "*/sobjects/Lead", cut="after"))
    referral = w.invite()
    w.deliver()
    w.work()
    [lead] = w.leads()
    w.seller_sets(lead["Id"], Referral_Identifier__c=None)
    w.settle()
    assert w.pair(referral).lead_id == lead["Id"]


def test_a_lead_that_an_earlier_connector_made_is_adopted(w: LeadWorld) -> None:
    referral = w.invite()
    fields = {"LastName": "Smith", "Company": "Fabrikam", "Referral_Identifier__c": referral.upper(), "Sync_With_Partner_Center__c": True}
    lead = w.sim.salesforce.person_creates("Lead", fields)
    w.settle()
    assert len(w.leads()) == 1
    assert w.pair(referral).lead_id == lead


def test_a_lead_that_lands_after_its_referral_was_accepted_is_told_of_the_opportunity(w: LeadWorld) -> None:
    """The create whose answer was lost was still under way when the opportunity was made."""
    referral = w.invite()
    w.accept(referral)
    w.settle()
    fields = {"LastName": "Smith", "Company": "Fabrikam", "Sync_With_Partner_Center__c": True}
    w.sim.salesforce.person_creates("Lead", {**fields, "Referral_Identifier__c": referral})
    w.settle()
    [opportunity], [lead] = w.opportunities(), w.leads()
    assert audit(lead) == f"accepted in Partner Center: the opportunity {opportunity['Id']} takes this lead's place"
    assert lead["Sync_With_Partner_Center__c"] is False
    assert w.quiet() == []


def test_a_copy_of_a_lead_is_left_alone(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    fields = {"LastName": "Smith", "Company": "Fabrikam", "Sync_With_Partner_Center__c": True, "Status": CLOSED}
    copy = w.sim.salesforce.person_creates("Lead", {**fields, "Referral_Identifier__c": referral})
    w.settle()
    assert w.status(referral) == ("New", "Pending")
    assert w.pair(referral).lead_id == lead_id
    assert "looks like a copy" in next(w.world.state.history(lead_name(copy)))["text"]
    assert w.quiet() == []


@pytest.mark.parametrize("known", [True, False])
def test_a_referral_that_names_a_lead_is_that_leads_or_ignored(w: LeadWorld, known: bool) -> None:
    """Microsoft's solution writes the lead's id into the referral."""
    fields = {"LastName": "Smith", "Company": "Fabrikam", "Sync_With_Partner_Center__c": True}
    lead = w.sim.salesforce.person_creates("Lead", fields)
    referral = w.invite()
    w.portal_edits(referral, {"externalReferenceId": lead[:15]})
    if not known:
        w.sim.salesforce.person_deletes("Lead", lead)
    w.settle()
    assert [one["Id"] for one in w.leads()] == ([lead] if known else [])
    if known:
        w.seller_sets(lead, Status=CLOSED)
        w.settle()
    assert w.status(referral) == (("Closed", "Declined") if known else ("New", "Pending"))


def test_deals_travel_as_ever_where_leads_do(w: LeadWorld) -> None:
    w.sim.people.microsoft_invites("Fabrikam data platform")
    w.sim.people.portal_create_deal("Northwind lake")
    w.make_deal("Contoso estate")
    w.settle()
    assert sorted(one["StageName"] for one in w.opportunities()) == ["On Hold", "Prospecting", "Qualification"]
    assert (len(w.referrals()), w.leads()) == (3, [])
    assert w.quiet() == []


def test_two_leads_of_one_referral_wait_for_a_person() -> None:
    w = LeadWorld(org=WITHOUT_KEY)
    referral = w.invite()
    fields = {"LastName": "Smith", "Company": "Fabrikam", "Referral_Identifier__c": referral}
    both = sorted(w.sim.salesforce.person_creates("Lead", fields) for _ in range(2))
    w.settle()
    assert len(w.leads()) == 2
    assert f"2 records stand for this one deal: {both[0]}, {both[1]}" in w.parked()[referral_name(referral)]


def test_a_sellers_own_lead_does_not_travel(w: LeadWorld) -> None:
    w.sim.salesforce.person_creates("Lead", {"LastName": "Lind", "Company": "Fabrikam", "Sync_With_Partner_Center__c": True})
    w.settle()
    assert w.referrals() == []
    assert w.parked() == {}
    assert w.quiet() == []


# -- answered in Partner Center --------------------------------------------------------------------------------------------------------


def test_accepted_in_partner_center_the_lead_becomes_one_opportunity_and_says_so(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    w.accept(referral)
    w.settle()
    [opportunity], [lead] = w.opportunities(), w.leads()
    assert opportunity["Referral_Identifier__c"] == referral
    assert opportunity["StageName"] == "Qualification"
    assert w.sim.partner_center.records[referral]["externalReferenceId"] == opportunity["Id"]
    assert audit(lead) == f"accepted in Partner Center: the opportunity {opportunity['Id']} takes this lead's place"
    assert lead["Sync_With_Partner_Center__c"] is False
    assert lead["Status"] == "Open - Not Contacted"
    assert w.pair(referral).opportunity_id == opportunity["Id"]
    assert w.quiet() == []
    w.seller_edits(opportunity["Id"], Amount=61_000)
    w.settle()
    assert w.sim.partner_center.records[referral]["details"]["dealValue"] == 61_000, "from here on it is a deal like any other"
    w.world.state.mark(lead_name(lead_id))
    w.settle()
    assert (len(w.opportunities()), len(w.leads())) == (1, 1)


def test_accepted_before_the_lead_was_seen_it_is_an_opportunity_at_once(w: LeadWorld) -> None:
    referral = w.invite()
    w.accept(referral)
    w.settle()
    assert (len(w.opportunities()), w.leads()) == (1, [])
    assert w.quiet() == []


def test_accepted_while_the_answer_to_its_create_was_lost_leaves_no_stray_lead(w: LeadWorld) -> None:
    w.sim.faults.add(Fault("salesforce", "POST", "*/sobjects/Lead", cut="after"))
    referral = w.invite()
    w.deliver()
    w.work()
    w.accept(referral)
    w.settle()
    [opportunity], [lead] = w.opportunities(), w.leads()
    assert f"the opportunity {opportunity['Id']} takes this lead's place" in audit(lead)
    assert w.quiet() == []


@pytest.mark.parametrize("substatus", ["Declined", "Expired", "Error"])
def test_closed_in_partner_center_the_lead_is_closed_with_the_reason(w: LeadWorld, substatus: str) -> None:
    referral, lead_id = w.arrived()
    if substatus == "Declined":
        w.portal_edits(referral, {"status": "Closed", "substatus": "Declined", "statusReason": "No capacity"})
    elif substatus == "Expired":
        w.sim.clock.advance(15 * 86_400)
    else:  # the portal knows it, the service's own transitions do not (partner-center 3.2)
        record = w.sim.partner_center.records[referral]
        w.sim.partner_center.save({**record, "status": "Closed", "substatus": "Error"})
    w.settle()
    [lead] = w.leads()
    reason = ": No capacity" if substatus == "Declined" else ""
    assert lead["Status"] == CLOSED
    assert audit(lead) == f"closed in Partner Center ({substatus}{reason})"
    assert lead["Sync_With_Partner_Center__c"] is False
    assert w.opportunities() == []
    assert w.quiet() == []
    w.seller_sets(lead_id, Status="Working - Contacted")
    w.settle()
    assert w.leads()[0]["Status"] == "Working - Contacted", "whose lead it is from then on"


@pytest.mark.parametrize("moments_ago", [False, True], ids=["", "saved in the same second before"])
def test_a_close_that_meets_a_sellers_save_is_planned_again_and_keeps_it(w: LeadWorld, moments_ago: bool) -> None:
    referral, lead_id = w.arrived()
    w.sim.faults.add(
        Fault("salesforce", "PATCH", "*/sobjects/Lead/*", action=lambda _: w.seller_sets(lead_id, Audit__c="mine", Phone="+1 425 555 0199"))
    )
    w.portal_edits(referral, {"status": "Closed", "substatus": "Declined"})
    w.sim.clock.advance(5)
    w.deliver()
    if moments_ago:
        w.seller_sets(lead_id, Title="CIO")
    w.work()
    w.settle()
    [lead] = w.leads()
    assert (lead["Status"], lead["Phone"]) == (CLOSED, "+1 425 555 0199")
    assert lead["Audit__c"].endswith("\nmine")


def test_a_referral_declined_while_its_lead_is_on_its_way_leaves_no_claim_behind(w: LeadWorld) -> None:
    w.sim.faults.add(Fault("salesforce", "POST", "*/sobjects/Lead", cut="before"))
    referral = w.invite()
    w.deliver()
    w.work()
    w.portal_edits(referral, {"status": "Closed", "substatus": "Declined"})
    w.settle()
    assert (w.leads(), w.pair(referral).create) == ([], None)


def test_a_write_is_in_history_before_it_is_sent(w: LeadWorld) -> None:
    referral, _ = w.arrived()
    w.portal_edits(referral, {"status": "Closed", "substatus": "Declined"})
    told: list[str] = []
    name = referral_name(referral)
    w.sim.faults.add(
        Fault("salesforce", "PATCH", "*/sobjects/Lead/*", action=lambda _: told.append(next(w.world.state.history(name))["text"]))
    )
    w.settle()
    assert told == ["lead: closed in Partner Center (Declined)"]


# -- answered in Salesforce ------------------------------------------------------------------------------------------------------------


def test_converting_the_lead_accepts_the_referral_and_adopts_its_opportunity(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    became = w.convert(lead_id)
    w.settle()
    [opportunity] = w.opportunities()
    there = w.sim.partner_center.records[referral]
    assert opportunity["Id"] == became
    assert w.status(referral) == ("Active", "Accepted")
    assert (opportunity["Referral_Identifier__c"], opportunity["Co_sell_Key__c"]) == (referral, referral)
    assert opportunity["Sync_With_Partner_Center__c"] is True
    assert there["externalReferenceId"] == became
    # The first meeting: empty takes the other's value, else the field's winner, which is Salesforce.
    assert opportunity["Amount"] == there["details"]["dealValue"] == 50_000
    assert there["name"] == "Fabrikam-"
    assert len(w.sim.salesforce.records("Account")) == 1
    assert w.quiet() == []
    w.seller_edits(became, Amount=70_000)
    w.settle()
    assert w.sim.partner_center.records[referral]["details"]["dealValue"] == 70_000


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("host", ["partner_center", "salesforce"])
def test_a_conversion_survives_lost_answers(w: LeadWorld, host: Any, cut: Any) -> None:
    referral, lead_id = w.arrived()
    became = w.convert(lead_id)
    w.sim.faults.add(Fault(host, "PATCH", cut=cut))
    w.settle()
    assert [one["Id"] for one in w.opportunities()] == [became]
    assert w.status(referral) == ("Active", "Accepted")
    assert w.quiet() == []


def test_an_opportunity_whose_sync_the_conversion_turned_on_is_no_new_deal(w: LeadWorld) -> None:
    """An administrator may map the lead's flag to the opportunity's: then the opportunity's poll can be the first to see it."""
    referral, lead_id = w.arrived()
    became = w.convert(lead_id)
    w.seller_edits(became, Sync_With_Partner_Center__c=True)
    polls.poll_opportunities(w.world)
    w.work()
    w.settle()
    assert [one["id"] for one in w.referrals()] == [referral]
    assert w.pair(referral).opportunity_id == became


def test_a_lead_converted_without_an_opportunity_gets_one_from_the_accepted_referral(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    w.convert(lead_id, opportunity=False)
    w.settle()
    [opportunity] = w.opportunities()
    assert w.status(referral) == ("Active", "Accepted")
    assert opportunity["Referral_Identifier__c"] == referral
    assert w.quiet() == []


def test_a_lead_converted_into_another_deal_waits_for_a_person(w: LeadWorld) -> None:
    deal = w.make_deal()
    w.settle()
    referral, lead_id = w.arrived()
    w.convert(lead_id, opportunity=deal.opportunity)
    w.settle()
    assert f"the lead was converted into the opportunity {deal.opportunity}, which is a deal of its own" in str(w.parked())
    assert w.status(referral) == ("New", "Pending")
    assert w.opportunity(deal.opportunity)["Name"].startswith("✓")
    assert w.quiet() == []


def test_converted_while_it_was_accepted_there_the_second_opportunity_is_named(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    w.accept(referral)
    # Between the run that read the lead and the create it led to.
    w.sim.faults.add(Fault("salesforce", "POST", "*/composite/graph", action=lambda _: w.convert(lead_id)))
    w.settle()
    ours, theirs = w.pair(referral).opportunity_id, w.leads()[0]["ConvertedOpportunityId"]
    assert {one["Id"] for one in w.opportunities()} == {ours, theirs}
    assert audit(w.opportunity(theirs)).endswith(f"has the opportunity {ours}: close one of the two as a duplicate")
    assert w.quiet() == []
    w.seller_edits(theirs, Sync_With_Partner_Center__c=True)
    w.settle()
    assert len(w.referrals()) == 1
    assert f"has the opportunity {ours}" in w.parked()[opportunity_name(theirs)]


def test_closing_the_lead_declines_the_referral(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    w.seller_sets(lead_id, Status=CLOSED)
    w.settle()
    assert w.status(referral) == ("Closed", "Declined")
    assert w.sim.partner_center.records[referral]["statusReason"] == "Others"
    [lead] = w.leads()
    assert audit(lead) == "closed in Partner Center (Declined: Others)"
    assert lead["Sync_With_Partner_Center__c"] is False
    assert w.opportunities() == []
    assert w.quiet() == []


def test_declined_here_and_accepted_there_at_one_moment_it_is_a_deal(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    w.seller_sets(lead_id, Status=CLOSED)
    w.sim.faults.add(Fault("partner_center", "PATCH", action=lambda _: w.accept(referral)))
    w.settle()
    assert w.status(referral) == ("Active", "Accepted")
    assert len(w.opportunities()) == 1
    assert w.parked() == {}


def test_a_conversion_after_the_referral_was_closed_leaves_the_opportunity_alone(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    w.portal_edits(referral, {"status": "Closed", "substatus": "Declined"})
    became = w.convert(lead_id)
    w.settle()
    opportunity = w.opportunity(became)
    assert (opportunity["StageName"], opportunity["Sync_With_Partner_Center__c"]) == ("Prospecting", False)
    assert "the referral was closed in Partner Center (Declined)" in audit(opportunity)
    assert w.quiet() == []


@pytest.mark.parametrize("stop", ["opted out", "deleted"])
def test_a_lead_that_was_taken_out_stops_and_leaves_the_referral_alone(w: LeadWorld, stop: str) -> None:
    referral, lead_id = w.arrived()
    if stop == "deleted":
        w.sim.salesforce.person_deletes("Lead", lead_id)
    else:
        w.seller_sets(lead_id, Sync_With_Partner_Center__c=False)
    w.settle()
    w.seller_sets(lead_id, Status=CLOSED) if stop == "opted out" else w.accept(referral)
    w.settle()
    assert w.status(referral) == (("New", "Pending") if stop == "opted out" else ("Active", "Accepted"))
    assert w.opportunities() == []
    assert "the referral is left alone" in w.pair(referral).outcome
    assert w.quiet() == []


def test_contact_data_of_a_lead_does_not_travel(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    before = w.position()
    w.seller_sets(lead_id, Phone="+1 425 555 0199", LastName="Smith-Jones", Description="ours")
    w.settle()
    assert w.mutations(before) == []
    assert w.status(referral) == ("New", "Pending")


# -- refusals --------------------------------------------------------------------------------------------------------------------------


def test_a_required_field_that_the_org_added_parks_the_lead_until_the_mapping_fills_it() -> None:
    org = Org(extra_fields={"Lead": (text("Region__c", 20, nillable=False),)})
    w = LeadWorld(org=org)
    referral = w.invite()
    w.settle()
    assert "Required fields are missing: [Region__c]" in w.parked()[referral_name(referral)]
    assert w.quiet() == []
    w.deployed_anew({"create": {"Lead": {"Region__c": "EMEA"}}})
    w.world.state.mark(referral_name(referral))
    w.settle()
    assert [one["Region__c"] for one in w.leads()] == ["EMEA"]


def test_a_lead_that_cannot_be_told_holds_its_deal_up_by_nothing() -> None:
    rule = ValidationRule("Lead", "Sync_With_Partner_Center__c = false", "Leads must synchronize.")
    w = LeadWorld(org=Org(validation_rules=(rule,)))
    referral, _ = w.arrived()
    w.accept(referral)
    w.settle()
    [opportunity] = w.opportunities()
    assert opportunity["Referral_Identifier__c"] == referral
    assert any("could not be told" in one["text"] and rule.message in one["text"] for one in w.world.state.history(referral_name(referral)))
    assert w.parked() == {}
    assert w.quiet() == []


def test_a_refused_answer_parks_the_lead_with_the_vendors_words(w: LeadWorld) -> None:
    """An open referral that lacks what the service wants can be neither accepted nor declined by us."""
    referral, lead_id = w.arrived()
    record = w.sim.partner_center.records[referral]
    w.sim.partner_center.save({**record, "name": None})
    w.settle()
    w.seller_sets(lead_id, Status=CLOSED)
    w.settle()
    assert "Partner Center refused the change: name is required." in str(w.parked())
    assert audit(w.leads()[0]) == "Partner Center refused the change: name is required. [name]"
    assert w.quiet() == []
    record = w.sim.partner_center.records[referral]
    w.sim.partner_center.save({**record, "details": {**record["details"], "dealValue": 1.0}})
    w.settle()
    assert w.leads()[0]["Audit__c"].count("refused") == 1, "tried again, and told once"
    w.portal_edits(referral, {"name": "Northwind wants a lake"})
    w.settle()
    assert w.status(referral) == ("Closed", "Declined")


def test_an_adoption_that_the_org_refuses_is_told_on_the_opportunity_and_mended_there() -> None:
    rule = ValidationRule("Opportunity", "Sync_With_Partner_Center__c = true AND Amount = null", "Say what it is worth first.")
    w = LeadWorld(org=Org(validation_rules=(rule,)))
    referral, lead_id = w.arrived()
    became = w.convert(lead_id)
    w.settle()
    assert audit(w.opportunity(became)) == "Salesforce refused the change: Say what it is worth first."
    w.seller_edits(became, Amount=9_000, Sync_With_Partner_Center__c=True)
    w.settle()
    assert w.pair(referral).opportunity_id == became
    assert w.sim.partner_center.records[referral]["details"]["dealValue"] == 9_000


def test_a_solution_added_to_a_refused_conversion_lets_it_be_adopted() -> None:
    """The opportunity does not synchronize yet, so only its solution rows are seen."""
    rule = ValidationRule("Opportunity", "Sync_With_Partner_Center__c = true AND Solution_Count__c = 0", "Please add a solution.")
    w = LeadWorld(org=Org(validation_rules=(rule,), package_trigger=True))
    referral, lead_id = w.arrived()
    became = w.convert(lead_id)
    w.settle()
    assert "Please add a solution." in str(w.parked())
    assert w.quiet() == []
    detail = w.sim.salesforce.records("Microsoft_Solution_Detail__c")[0]["Id"]
    w.sim.salesforce.person_creates("Microsoft_Solutions__c", {"Opportunity__c": became, "Solution__c": detail})
    w.settle()
    assert w.pair(referral).opportunity_id == became
    assert w.parked() == {}


def test_statuses_that_the_org_does_not_have_are_told_to_the_operator() -> None:
    w = LeadWorld({"leads": {"closed_status": "Unqualified"}})
    w.sim.people.microsoft_invites(shared=False)
    w.deliver()
    w.work()
    assert w.leads() == []
    assert "lacks status 'Unqualified'" in str(w.owed())


def test_shadow_mode_writes_nothing(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    w.deployed_anew(sync_mode="shadow")
    w.seller_sets(lead_id, Status=CLOSED)
    before = w.position()
    w.settle()
    assert w.mutations(before) == []
    assert w.pair(referral).outcome.startswith("shadow mode, nothing written: to Partner Center: status on hold → Closed as Lost")


# -- the decision ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cosell", [False, True])
@pytest.mark.parametrize(
    ("status", "converted", "became", "closed", "step"),
    [
        (PENDING, False, "", False, "wait"),
        (PENDING, False, "", True, "decline"),
        (PENDING, True, "006", False, "accept"),
        (PENDING, True, "", False, "accept"),
        (ACTIVE, False, "", False, "create"),
        (ACTIVE, False, "", True, "create"),
        (ACTIVE, True, "006", False, "adopt"),
        (ACTIVE, True, "", False, "create"),
        *((status, False, "", closed, "close") for status in (LOST, WON) for closed in (False, True)),
        *((status, True, became, False, "leave") for status in (LOST, WON) for became in ("", "006")),
    ],
)
def test_every_situation_of_a_lead_has_one_next_step(
    status: str, converted: bool, became: str, closed: bool, step: str, cosell: bool
) -> None:
    expected = "create" if cosell and step == "wait" else step
    assert next_step(status, cosell, converted, became, closed) == expected


def test_both_names_of_a_converted_lead_lead_to_the_deal(w: LeadWorld) -> None:
    referral, lead_id = w.arrived()
    became = w.convert(lead_id)
    w.settle()
    names = (referral_name(referral), lead_name(lead_id), opportunity_name(became))
    assert {w.world.state.pair(name).name for name in names} == {referral_name(referral)}  # type: ignore[union-attr]
