"""Orgs as administrators set them up: what describe tells is known before any write, what only a record reveals parks that record."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import Misconfigured
from shared.pairing import referral_name
from shared.reporting import status
from simulator.salesforce import DuplicateRule, Org, Stage, ValidationRule, refusal
from simulator.salesforce.org import STAGES
from simulator.salesforce.records import Actor, Write
from simulator.salesforce.schema import currency, text
from tests.deals import DealWorld, load
from tests.one_deal import OneDeal


def restarted(w: DealWorld, overlay: dict[str, Any]) -> DealWorld:
    """The same world after the operator changed the mapping."""
    w.mapping = load(overlay)
    w.world = w.new_worker()
    return w


def both_ways(w: DealWorld) -> tuple[OneDeal, OneDeal]:
    """A deal from each side, an edit of each on the other, and nothing left to do."""
    ours = OneDeal.shared(w).portal(details__dealValue=70_000)
    theirs = OneDeal.from_portal(w, name="Tailspin move", customer="Tailspin").seller(Amount=61_000)
    assert (ours.here["Amount"], theirs.there["details"]["dealValue"]) == (70_000, 61_000)
    assert (len(w.opportunities()), len(w.referrals()), w.parked()) == (2, 2, {})
    assert not w.quiet()
    return ours, theirs


def test_the_standard_org_works_both_ways() -> None:
    both_ways(DealWorld())


# -- currencies ------------------------------------------------------------------------------------------------------------------------

ONE_CURRENCY = Org(multi_currency=False)
IN_EUROS = {"opportunity": {"company_currency": "EUR"}}


def test_a_single_currency_org_names_its_currency_in_the_mapping() -> None:
    w = DealWorld(org=ONE_CURRENCY, overlay=IN_EUROS)
    deal = OneDeal.shared(w)
    assert deal.there["details"]["currency"] == "EUR"
    deal.portal(details__dealValue=70_000)
    assert deal.here["Amount"] == 70_000
    assert not w.quiet()


def test_a_single_currency_org_that_names_none_is_told_what_to_set() -> None:
    deal = OneDeal.shared(DealWorld(org=ONE_CURRENCY))
    assert "company_currency" in deal.audit[0]
    assert deal.w.referrals() == []


def test_an_amount_in_another_currency_is_not_taken_for_the_companys() -> None:
    w = DealWorld(org=ONE_CURRENCY, overlay=IN_EUROS)
    deal = OneDeal.shared(w).portal(details__currency="JPY", details__dealValue=9_000_000)
    assert deal.here["Amount"] == 50_000
    assert "JPY" in deal.explained


def test_an_invitation_in_another_currency_does_not_become_an_amount_of_the_companys() -> None:
    w = DealWorld(org=ONE_CURRENCY, overlay=IN_EUROS)
    deal = OneDeal.invited(w, currency="JPY", deal_value=9_000_000)
    assert deal.here["Amount"] is None
    assert "JPY" in deal.explained


def test_a_currency_that_the_org_does_not_use_parks_the_deal_in_salesforces_words() -> None:
    w = DealWorld()
    referral = w.sim.people.portal_create_deal(currency="CHF")
    w.settle()
    assert "Currency ISO Code: bad value for restricted picklist field: CHF" in w.parked()[referral_name(referral["id"])]
    w.portal_edits(referral["id"], {"details/currency": "EUR"})
    w.settle()
    assert [one["CurrencyIsoCode"] for one in w.opportunities()] == ["EUR"]


# -- addresses -------------------------------------------------------------------------------------------------------------------------


def test_with_state_and_country_picklists_the_codes_travel_both_ways() -> None:
    ours, theirs = both_ways(DealWorld(org=Org(state_and_country_picklists=True)))
    assert ours.there["customerProfile"]["address"]["country"] == "US"
    account = theirs.w.opportunity(theirs.here["AccountId"])
    assert (account["BillingCountryCode"], account["BillingCountry"]) == ("US", "United States")
    assert (account["BillingStateCode"], account["BillingState"]) == ("WA", "Washington")


def test_a_state_that_is_not_in_the_picklist_parks_the_deal_in_salesforces_words() -> None:
    w = DealWorld(org=Org(state_and_country_picklists=True))
    w.sim.people.portal_create_deal(
        address={"addressLine1": "Quai 1", "city": "Lyon", "state": "Rhône", "postalCode": "69000", "country": "FR"}
    )
    w.settle()
    (words,) = w.parked().values()
    assert "bad value for restricted picklist field: Rhône" in words


@pytest.mark.parametrize("listed", [False, True], ids=["free text", "picklists"])
def test_an_account_is_found_again_by_name_and_postal_code(listed: bool) -> None:
    w = DealWorld(org=Org(state_and_country_picklists=listed))
    OneDeal.from_portal(w, name="First")
    OneDeal.from_portal(w, name="Second")
    assert len(w.sim.salesforce.records("Account")) == 1


@pytest.mark.parametrize(("match", "field", "kind"), [("duns", "DunsNumber", "Duns"), ("external_id", "Erp_Id__c", "External")])
def test_an_account_is_found_by_the_id_that_the_mapping_names(match: str, field: str, kind: str) -> None:
    accounts = {"match": match, "external_id_field": "Erp_Id__c"}
    w = DealWorld(org=Org(extra_fields={"Account": (text(field, 20),)}), overlay={"accounts": accounts})
    known = w.sim.salesforce.person_creates("Account", {"Name": "Fabrikam Holdings", field: "150483782"})
    w.sim.webhooks.conduct.hold = True
    referral = w.sim.people.portal_create_deal()
    customer = {**referral["customerProfile"], "ids": [{"id": "150483782", "profileType": kind}]}
    w.sim.partner_center.save({**w.sim.referral(referral["id"]), "customerProfile": customer})
    w.sim.webhooks.conduct.hold = False
    w.settle()
    assert [one["AccountId"] for one in w.opportunities()] == [known]


def test_a_person_account_of_the_same_name_is_not_the_customer() -> None:
    w = DealWorld(org=Org(person_accounts=True))
    person = w.sim.salesforce.person_creates("Account", {"FirstName": "Dana", "LastName": "Moreau", "BillingPostalCode": "98052"})
    deal = OneDeal.from_portal(w, customer="Dana Moreau")
    assert deal.here["AccountId"] != person
    assert w.opportunity(deal.here["AccountId"])["IsPersonAccount"] is False
    both_ways(DealWorld(org=Org(person_accounts=True)))


# -- features that are off -------------------------------------------------------------------------------------------------------------


def test_without_team_selling_the_owner_alone_is_the_team() -> None:
    ours, theirs = both_ways(DealWorld(org=Org(team_selling=False)))
    assert [one["email"] for one in ours.there["team"]] == ["ana.sousa@contoso.example"]
    assert theirs.here["OwnerId"]


def test_an_org_without_our_package_has_neither_key_nor_token_and_works() -> None:
    w = DealWorld(org=Org(connector_package=False))
    w.sim.webhooks.conduct.duplicates = 2
    both_ways(w)


PACKAGE_2021 = frozenset(
    f"Opportunity.{name}__c" for name in ("Co_sell_Type", "Customer_purchase_intent", "Solution_Area", "Solution_Play", "Partner_Role")
)


def test_an_org_with_the_original_package_of_2021_works() -> None:
    both_ways(DealWorld(org=Org(hidden_fields=PACKAGE_2021)))


@pytest.mark.parametrize("trigger", [False, True])
def test_with_the_rules_of_microsofts_package_active_our_own_deals_are_shared(trigger: bool) -> None:
    w = DealWorld(org=Org(package_rules=True, package_trigger=trigger))
    made = w.make_deal(sync=False)
    deal = OneDeal(w, made.opportunity)
    deal.seller(**({} if trigger else {"Solution_Count__c": 1}), Sync_With_Partner_Center__c=True)
    assert deal.kind == "co-sell"
    deal.portal(details__dealValue=70_000)
    assert deal.here["Amount"] == 70_000


def test_with_the_rules_of_microsofts_package_active_a_deal_that_arrives_is_made_with_what_the_mapping_gives() -> None:
    w = DealWorld(org=Org(package_rules=True, package_trigger=True))
    (play, *_) = w.sim.salesforce.records("Solution_Play__c")
    given = {"Customer_purchase_intent__c": "HaveNotDecided", "Solution_Area__c": play["Solution_Area__c"], "Solution_Play__c": play["Id"]}
    deal = OneDeal.from_portal(restarted(w, {"create": {"Opportunity": given}}))
    assert deal.here["Sync_With_Partner_Center__c"] is True


# -- required fields and rules ---------------------------------------------------------------------------------------------------------

REGION = {"Opportunity": (text("Region__c", 40, nillable=False),)}


def test_a_required_field_that_nothing_fills_parks_the_deal_and_a_constant_in_the_mapping_mends_it() -> None:
    w = DealWorld(org=Org(extra_fields=REGION))
    referral = w.sim.people.portal_create_deal()
    w.settle()
    (words,) = w.parked().values()
    assert "Required fields are missing: [Region__c]" in words
    assert w.opportunities() == []
    assert not w.quiet(), "asked once"
    restarted(w, {"create": {"Opportunity": {"Region__c": "EMEA", "NextStep": "Call {title}"}}})
    w.portal_edits(referral["id"], {"favorite": True})
    w.settle()
    (opportunity,) = w.opportunities()
    assert (opportunity["Region__c"], opportunity["NextStep"]) == ("EMEA", "Call Fabrikam cloud migration")
    assert w.parked() == {}


def test_a_mapping_that_mends_a_parked_deal_needs_no_hand() -> None:
    w = DealWorld(org=Org(extra_fields=REGION))
    w.sim.people.portal_create_deal()
    w.settle()
    restarted(w, {"create": {"Opportunity": {"Region__c": "EMEA"}}})
    w.sim.clock.advance(86_400)
    w.round(full=True)
    w.settle()
    assert len(w.opportunities()) == 1


@pytest.mark.parametrize(("name", "constant"), [("Account", "Segment__c"), ("Contact", "Language__c")])
def test_what_an_account_or_a_contact_requires_is_filled_by_the_mapping(name: str, constant: str) -> None:
    required = Org(extra_fields={name: (text(constant, 40, nillable=False),)})
    w = DealWorld(org=required, overlay={"create": {name: {constant: "Given"}}})
    OneDeal.from_portal(w)
    (record,) = w.sim.salesforce.records(name)
    assert record[constant] == "Given"


COSELL_TYPE = "012000000000001AAA"


def _not_in_its_sales_process(new: dict[str, Any], old: dict[str, Any] | None) -> bool:
    """Records without a type have only the master process, whose stages lack Qualification."""
    return new["RecordTypeId"] != COSELL_TYPE and new["StageName"] == "Qualification"


def test_a_record_type_given_by_the_mapping_decides_which_stages_a_new_deal_may_have() -> None:
    words = "Stage: bad value for this record type"
    process = ValidationRule("Opportunity", _not_in_its_sales_process, words, "StageName")
    w = DealWorld(org=Org(extra_fields={"Opportunity": (text("RecordTypeId", 18),)}, validation_rules=(process,)))
    w.sim.people.portal_create_deal()
    w.settle()
    assert [words in one for one in w.parked().values()] == [True]
    restarted(w, {"create": {"Opportunity": {"RecordTypeId": COSELL_TYPE}}})
    w.settle()
    (opportunity,) = w.opportunities()
    assert (opportunity["RecordTypeId"], opportunity["StageName"], w.parked()) == (COSELL_TYPE, "Qualification", {})


CAP = ValidationRule("Opportunity", "Amount > 100000", "Deals above 100,000 need the approval of the desk.", "Amount")


def test_a_validation_rule_parks_the_deal_that_breaks_it_in_the_administrators_words_and_no_other() -> None:
    w = DealWorld(org=Org(validation_rules=(CAP,)))
    deal, other = OneDeal.shared(w), OneDeal.shared(w, name="Northwind archive", customer="Northwind")
    deal.portal(details__dealValue=200_000, details__notes="Bigger")
    assert "Deals above 100,000 need the approval of the desk." in deal.parked
    assert "Deals above 100,000 need the approval of the desk." in deal.audit[0]
    assert deal.here["Amount"] == 50_000
    other.portal(details__dealValue=60_000)
    assert other.here["Amount"] == 60_000
    deal.portal(details__dealValue=90_000)
    assert (deal.here["Amount"], deal.here["Description"], w.parked()) == (90_000, "Bigger", {})
    assert not w.quiet()


def test_a_rule_on_new_records_parks_the_deal_that_arrives_until_the_referral_changes() -> None:
    w = DealWorld(org=Org(validation_rules=(CAP,)))
    referral = w.sim.people.portal_create_deal(deal_value=200_000)
    w.settle()
    (words,) = w.parked().values()
    assert "Deals above 100,000 need the approval of the desk." in words
    assert w.sim.salesforce.records("Account") == [], "all of it or nothing"
    w.portal_edits(referral["id"], {"details/dealValue": 90_000})
    w.settle()
    assert [one["Amount"] for one in w.opportunities()] == [90_000]
    assert w.parked() == {}


def test_an_approval_lock_is_waited_for_and_not_parked() -> None:
    w = DealWorld()
    deal = OneDeal.shared(w)
    locked = [True]

    def lock(write: Write) -> None:
        if locked and write.record_id == deal.id:
            raise refusal("ENTITY_IS_LOCKED", "the entity is locked for editing", [])

    w.sim.salesforce.store.before.append(lock)
    w.portal_edits(deal.there["id"], {"details/dealValue": 70_000})
    w.sim.clock.advance(10)
    w.round()
    assert w.parked() == {}
    assert any("ENTITY_IS_LOCKED" in reason for reason in w.owed().values())
    locked.clear()
    w.sim.clock.advance(3700)
    w.settle()
    assert deal.here["Amount"] == 70_000


# -- duplicate rules -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alerting", [False, True], ids=["blocking", "alerting"])
def test_an_account_that_a_duplicate_rule_names_is_taken_as_the_customer(alerting: bool) -> None:
    rule = DuplicateRule("Account", ("Name",), allow_save=alerting)
    w = DealWorld(org=Org(duplicate_rules=(rule,)))
    known = w.sim.salesforce.person_creates("Account", {"Name": "Fabrikam", "BillingPostalCode": "10115"})
    deal = OneDeal.from_portal(w)
    assert deal.here["AccountId"] == known
    assert len(w.sim.salesforce.records("Account")) == 1


@pytest.mark.parametrize("alerting", [False, True], ids=["blocking", "alerting"])
def test_a_contact_that_a_duplicate_rule_names_is_taken_as_the_person(alerting: bool) -> None:
    rule = DuplicateRule("Contact", ("Email",), allow_save=alerting)
    w = DealWorld(org=Org(duplicate_rules=(rule,)))
    known = w.sim.salesforce.person_creates("Contact", {"LastName": "Smith", "Email": "sue.smith@fabrikam.example"})
    deal = OneDeal.from_portal(w)
    assert [one["ContactId"] for one in deal.children("OpportunityContactRole")] == [known]


def test_two_records_that_a_duplicate_rule_names_are_for_a_person_to_decide() -> None:
    w = DealWorld(org=Org(duplicate_rules=(DuplicateRule("Account", ("Name",), allow_save=True),)))
    for postal in ("10115", "10117"):
        w.sim.salesforce.person_creates("Account", {"Name": "Fabrikam", "BillingPostalCode": postal})
    w.sim.people.portal_create_deal()
    w.settle()
    assert w.opportunities() == []
    (words,) = w.parked().values()
    assert "Use one of these records?" in words


# -- picklists and stages --------------------------------------------------------------------------------------------------------------

RENAMED = (
    Stage("Parked", 5),
    Stage("Discovery", 10),
    Stage("Proof", 40),
    Stage("Gewonnen", 100, "Closed", closed=True, won=True),
    Stage("Verloren", 0, "Omitted", closed=True),
)
OWN_STAGES = {
    "switches": {"active_stage": "Discovery", "on_hold_stage": "Parked", "won_stage": "Gewonnen", "lost_stage": "Verloren"},
    "stages": {"active": ["Discovery", "Proof"]},
}


def test_renamed_stages_are_named_in_the_mapping() -> None:
    w = DealWorld(org=Org(stages=RENAMED, restricted_picklists=frozenset({"Opportunity.StageName"})), overlay=OWN_STAGES)
    deal = OneDeal.invited(w)
    assert deal.here["StageName"] == "Parked"
    deal.portal(status="Active", substatus="Accepted")
    assert deal.here["StageName"] == "Discovery"
    deal.seller(StageName="Proof").portal(details__dealValue=70_000)
    assert deal.here["StageName"] == "Proof"
    deal.service(status="Closed", substatus="Won")
    assert deal.here["StageName"] == "Gewonnen"
    lost = OneDeal.shared(w, name="Other", customer="Northwind", StageName="Discovery").seller(StageName="Verloren")
    assert lost.there["substatus"] == "Lost"


def test_a_stage_that_the_org_lacks_is_never_written_and_is_named() -> None:
    without_hold = tuple(stage for stage in STAGES if stage.name != "On Hold")
    w = DealWorld(org=Org(stages=without_hold))
    w.sim.people.microsoft_invites()
    w.settle()
    assert w.opportunities() == []
    (words, *_) = w.parked().values()
    assert "the org has no stage 'On Hold'" in words


def test_a_stage_that_the_org_lacks_is_known_at_start_up() -> None:
    without_hold = tuple(stage for stage in STAGES if stage.name != "On Hold")
    w = DealWorld(org=Org(stages=without_hold))
    w.settle()
    assert "On Hold" in str(status(w.world))


def test_a_value_map_of_a_restricted_picklist_says_what_it_does_not_know() -> None:
    org = Org(restricted_picklists=frozenset({"Opportunity.Type"}))
    row = {"partner_center": "campaignId", "salesforce": "Type", "type": "choice", "direction": "both", "winner": "salesforce"}
    w = DealWorld(org=org, overlay={"fields": {"campaign": row | {"values": {"New Customer": "NEW"}}}})
    deal = OneDeal.shared(w, Type="New Customer")
    assert deal.there["campaignId"] == "NEW"
    deal.portal(campaignId="OTHER")
    assert deal.here["Type"] == "New Customer"
    assert "not mapped: 'OTHER'" in deal.explained


# -- field-level security --------------------------------------------------------------------------------------------------------------


OPTIONAL = (
    "Opportunity.Microsoft_CRM_Identifier__c",
    "Opportunity.Solution_Area__c",
    "Opportunity.Products__c",
    "Opportunity.HasOpportunityLineItem",
    "Opportunity.Co_sell_Key__c",
    "Opportunity.Co_sell_Token__c",
    "Microsoft_Solution_Detail__c.Publisher_Name__c",
    "Microsoft_Solution_Detail__c.Type__c",
)


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_field_that_is_hidden_is_done_without(name: str) -> None:
    both_ways(DealWorld(org=Org(hidden_fields=frozenset({name}))))


NEEDED = (
    "Opportunity.Sync_With_Partner_Center__c",
    "Opportunity.Audit__c",
    "Opportunity.Referral_Identifier__c",
    "Opportunity.Amount",
    "Account.BillingCountry",
    "Microsoft_Solutions__c",
    "Microsoft_Solution_Detail__c.Solution_Identifier__c",
    "Contact.Email",
)


@pytest.mark.parametrize("name", NEEDED)
def test_a_needed_field_that_is_hidden_stops_the_start_and_is_named(name: str) -> None:
    w = DealWorld(org=Org(hidden_fields=frozenset({name})))
    with pytest.raises(Misconfigured) as raised:
        w.poll()
    assert name.split(".")[-1] in str(raised.value)
    assert [call for call in w.sim.journal.calls("salesforce") if "/query" in call.path and call.status >= 400] == []


def test_a_deal_value_that_is_a_formula_travels_out_and_is_never_written() -> None:
    org = Org(extra_fields={"Opportunity": (currency("Total__c"),)}, read_only_fields=frozenset({"Opportunity.Total__c"}))
    w = DealWorld(org=org, overlay={"switches": {"deal_value_field": "Total__c"}})
    deal = OneDeal.shared(w, Total__c=80_000)
    assert deal.there["details"]["dealValue"] == 80_000
    before = w.position()
    deal.portal(details__dealValue=90_000, details__notes="Still travels")
    refused = [call for call in w.sim.journal.calls("salesforce", before) if call.status >= 400]
    assert (refused, w.parked()) == ([], {})
    assert (deal.here["Total__c"], deal.here["Description"]) == (80_000, "Still travels")
    assert "deal value" in deal.explained


def test_a_mapping_that_no_longer_writes_a_refused_field_frees_the_deal() -> None:
    org = Org(extra_fields={"Opportunity": (currency("Total__c"),)}, read_only_fields=frozenset({"Opportunity.Total__c"}))
    w = DealWorld(org=org, overlay={"switches": {"deal_value_field": "Total__c"}})
    deal = OneDeal.shared(w, Total__c=80_000)
    w.portal_edits(deal.there["id"], {"details/dealValue": 90_000, "details/notes": "Still travels"})
    w.round()
    restarted(w, {"switches": {"deal_value_field": "Total__c"}, "fields": {"deal_value": {"direction": "to_partner_center"}}})
    for _ in range(4):
        w.sim.clock.advance(400)
        w.round()
    assert deal.here["Description"] == "Still travels"


def test_a_deal_arrives_although_a_field_may_not_be_written() -> None:
    w = DealWorld(org=Org(read_only_fields=frozenset({"Opportunity.Microsoft_CRM_Identifier__c", "Opportunity.Description"})))
    deal = OneDeal.from_portal(w, notes="Not writable")
    assert deal.here["Description"] is None


def test_an_amount_that_follows_the_products_is_not_written_and_travels_out() -> None:
    w = DealWorld()
    deal = OneDeal.shared(w)
    store = w.sim.salesforce.store
    products = Actor(w.sim.salesforce.integration_user_id, store.schema, system=True)
    store.update("Opportunity", deal.id, {"HasOpportunityLineItem": True, "Amount": 64_000}, products)
    w.settle()
    assert deal.there["details"]["dealValue"] == 64_000
    deal.portal(details__dealValue=70_000, details__notes="Still travels")
    assert (deal.here["Amount"], deal.here["Description"], w.parked()) == (64_000, "Still travels", {})
    assert "deal value: follows the opportunity's products, it cannot be written" in deal.explained


# -- people of the org -----------------------------------------------------------------------------------------------------------------


def _user(w: DealWorld, first: str, **changes: Any) -> str:
    (user,) = (one for one in w.sim.salesforce.records("User") if one["FirstName"] == first)
    w.sim.salesforce.person_edits("User", user["Id"], changes)
    return str(user["Id"])


BEN = {"firstName": "Ben", "lastName": "Okafor", "phoneNumber": "+1 555 0100", "email": "ben.okafor@contoso.example"}


@pytest.mark.parametrize(
    ("first", "changes"),
    [("Ben", {"IsActive": False}), ("Chloe", {"Email": "ben.okafor@contoso.example"})],
    ids=["who left", "whose e-mail another has as well"],
)
def test_a_user_who_left_or_is_not_certain_does_not_own_what_arrives(first: str, changes: dict[str, Any]) -> None:
    w = DealWorld(overlay={"people": {"default_owner": "ana.sousa@contoso.example"}})
    _user(w, first, **changes)
    deal = OneDeal.from_portal(w, team=[BEN])
    assert deal.here["OwnerId"] == _user(w, "Ana")


# -- texts -----------------------------------------------------------------------------------------------------------------------------

HARD = {
    "emoji": "Fabrikam 🚀👩🏽‍💻 rollout",
    "right to left": "مشروع فابريكام \u200fעברית",
    "HTML": "<b>Fabrikam</b> &amp; \"Söhne\" <script>alert('1')</script>",
    "quotes": "O'Brien \\ 50% _off_ {title}",
    "combining": "Cafe\u0301 Zoë Ångström",
}


@pytest.mark.parametrize("words", HARD.values(), ids=HARD.keys())
def test_hard_text_arrives_unharmed_both_ways_and_rests(words: str) -> None:
    w = DealWorld()
    theirs = OneDeal.from_portal(w, name=words, notes=f"{words}\n{words}", customer=words)
    assert (theirs.here["Name"], theirs.here["Description"]) == (f"✓ {words}", f"{words}\n{words}")
    ours = OneDeal.shared(w, name=words, customer="Northwind", Description=words)
    assert (ours.there["name"], ours.there["details"]["notes"]) == (words, words)
    assert not w.quiet()


@pytest.mark.parametrize("length", [118, 119, 120])
def test_a_name_as_long_as_salesforce_takes_is_sent_whole(length: int) -> None:
    name = "F" * length
    deal = OneDeal.shared(name=name)
    assert deal.there["name"] == name
    assert deal.here["Name"] == (f"✓ {name}" if length == 118 else name), "no mark where it does not fit"
    assert not deal.w.quiet()


def test_a_name_longer_than_salesforce_takes_is_shortened_here_and_stays_whole_there() -> None:
    name = "Fabrikam " + "x" * 191
    deal = OneDeal.from_portal(name=name)
    assert deal.here["Name"] == name[:120], "no mark where it does not fit"
    deal.seller(Amount=61_000)
    assert (deal.there["name"], deal.there["details"]["dealValue"]) == (name, 61_000)
    assert not deal.w.quiet()


@pytest.mark.parametrize("length", [32_000, 40_000])
def test_long_notes_are_kept_as_far_as_salesforce_takes_them_and_never_cut_over_there(length: int) -> None:
    notes = ("0123456789" * 4_000)[:length]
    deal = OneDeal.from_portal(notes=notes)
    assert deal.here["Description"] == notes[:32_000]
    deal.seller(Amount=61_000)
    assert deal.there["details"]["notes"] == notes
    assert not deal.w.quiet()


def test_notes_of_thirty_two_thousand_emoji_lose_no_half_character() -> None:
    deal = OneDeal.from_portal(notes="🚀" * 20_000)
    assert set(deal.here["Description"]) == {"🚀"}
    assert not deal.w.quiet()


def test_an_audit_that_is_full_loses_its_oldest_end() -> None:
    deal = OneDeal.shared(Audit__c="old " * 24_000).portal(details__dealValue=70_000)
    assert "deal value 50000 → 70000" in deal.audit[0]
    assert len(deal.here["Audit__c"]) <= 100_000
