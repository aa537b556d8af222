"""What Microsoft's documentation promises of its solution, shown of ours: A1 to A19 of the acceptance table.

Every test runs the connector against the strict simulator of both vendors, through their APIs and a signed webhook.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from shared import registration
from shared.errors import ConnectorError
from simulator.faults import Fault
from simulator.salesforce import Org
from simulator.salesforce.schema import currency, picklist, text
from tests.deals import CALLBACK, EVENTS, DealWorld
from tests.one_deal import OneDeal
from tests.seller_page import PAGE, field_of, read, sections

ROOT = Path(__file__).resolve().parent.parent
HELP = "Quotes or Licensing"

# -- A1 --------------------------------------------------------------------------------------------------------------------------------

SECTION = (
    "Sync_With_Partner_Center__c",
    "Referral_Identifier__c",
    "Referral_Link__c",
    "How_can_Microsoft_help__c",
    "Referral_visible_to_Microsoft_sellers__c",
    "Microsoft_CRM_Identifier__c",
    "Audit__c",
)


def test_a1_the_opportunity_page_has_a_section_microsoft_partner_center_with_the_fields() -> None:
    (columns,) = (columns for label, columns in sections(read(PAGE)) if label == "Microsoft Partner Center")
    shown = {field_of(one) for column in columns for one in column}
    assert [name for name in SECTION if name not in shown] == []


# -- A2 to A5: sharing a deal ----------------------------------------------------------------------------------------------------------


def test_a2_a_deal_with_help_contact_and_solution_is_a_cosell_referral_within_a_minute() -> None:
    w = DealWorld()
    begun = w.clock.monotonic()
    deal = OneDeal(w, w.make_deal(How_can_Microsoft_help__c=HELP).opportunity)
    w.round()
    w.sim.clock.advance(5)
    w.round()
    assert w.clock.monotonic() - begun < 60, "the original takes up to ten minutes"
    assert deal.kind == "co-sell"
    assert deal.microsofts["inviteContext"]["assistanceRequestCode"] == "QuotesOrLicensing"
    assert deal.solutions == ["SOL-10001-CON"]
    identifier = deal.there["id"]
    assert deal.here["Referral_Identifier__c"] == identifier
    assert deal.here["Referral_Link__c"].endswith(identifier)
    assert deal.here["Name"] == "✓ Fabrikam data estate"
    assert deal.audit == ["2026-11-02 09:00 - synchronized with Partner Center"]
    assert not w.quiet()


def test_a3_a_deal_without_help_is_private_and_becomes_cosell_by_choosing_help() -> None:
    deal = OneDeal.shared(How_can_Microsoft_help__c=None)
    assert (deal.kind, deal.there["type"], deal.there["target"]) == ("private", "Independent", [])
    deal.seller(How_can_Microsoft_help__c=HELP)
    assert (deal.kind, deal.visible) == ("co-sell", True), "asking for help makes it visible"
    assert deal.microsofts["inviteContext"]["assistanceRequestCode"] == "QuotesOrLicensing"
    assert len(deal.w.referrals()) == 1, "the referral that was there is extended, not made again"
    assert not deal.w.quiet()


def test_a4_a_visible_deal_without_help_is_partner_led_and_stays_visible() -> None:
    deal = OneDeal.shared(How_can_Microsoft_help__c=None, Referral_visible_to_Microsoft_sellers__c=True)
    assert deal.kind == "partner-led"
    before = deal.w.position()
    deal.seller(Referral_visible_to_Microsoft_sellers__c=False)
    assert deal.visible
    assert not [call for call in deal.w.mutations(before) if call.startswith("partner_center")]
    assert "visible: once given it cannot be withdrawn" in deal.explained


def _without_solution(w: DealWorld) -> OneDeal:
    return OneDeal(w, w.make_deal(solutions=()).opportunity)


def _without_country(w: DealWorld) -> OneDeal:
    return OneDeal(w, w.make_deal(country="United States").opportunity)


def _without_contact(w: DealWorld) -> OneDeal:
    deal = w.make_deal(sync=False)
    w.sim.salesforce.person_deletes("OpportunityContactRole", deal.contact_role)
    w.seller_edits(deal.opportunity, Sync_With_Partner_Center__c=True)
    return OneDeal(w, deal.opportunity)


def _adds_solution(deal: OneDeal) -> None:
    (detail, *_) = deal.w.sim.salesforce.records("Microsoft_Solution_Detail__c")
    deal.w.sim.salesforce.person_creates("Microsoft_Solutions__c", {"Opportunity__c": deal.id, "Solution__c": detail["Id"]})


def _sets_country(deal: OneDeal) -> None:
    deal.w.sim.salesforce.person_edits("Account", deal.here["AccountId"], {"BillingCountry": "US"})


def _adds_contact(deal: OneDeal) -> None:
    deal.adds_contact("Noor", "Haddad")


@pytest.mark.parametrize(
    ("make", "words", "mend"),
    [
        pytest.param(_without_solution, "Solution ID is required", _adds_solution, id="solution"),
        pytest.param(_without_country, "customer account country code missing", _sets_country, id="country"),
        pytest.param(_without_contact, "needs a customer contact", _adds_contact, id="contact"),
    ],
)
def test_a5_what_is_missing_is_said_in_audit_with_a_cross_and_once_mended_the_deal_is_shared_by_itself(
    make: Any, words: str, mend: Any
) -> None:
    w = DealWorld()
    deal = make(w)
    before = w.position()
    w.settle()
    assert not w.referrals()
    assert not [call for call in w.mutations(before) if call.startswith("partner_center")], "known before any call"
    assert words in deal.audit[0]
    assert deal.here["Name"] == "✗ Fabrikam data estate"
    assert not w.quiet(), "said once"
    mend(deal)
    w.sim.clock.advance(60)
    w.round(full=True)
    w.settle()
    assert deal.kind == "co-sell"
    assert deal.here["Name"] == "✓ Fabrikam data estate"
    assert not w.parked()
    assert not w.quiet()


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        pytest.param(_without_country, _sets_country, id="country"),
        pytest.param(_without_contact, _adds_contact, id="contact"),
    ],
)
def test_a5_a_small_edit_of_the_opportunity_tries_again_once_what_was_missing_elsewhere_is_there(make: Any, mend: Any) -> None:
    w = DealWorld()
    deal = make(w)
    w.settle()
    w.quiet()
    mend(deal)
    w.sim.clock.advance(60)
    deal.seller(NextStep="Shared now")
    assert deal.kind == "co-sell"


# -- A6: edits -------------------------------------------------------------------------------------------------------------------------

EDITS: list[tuple[str, Any, str, Any]] = [
    ("Amount", 61_000.5, "details/dealValue", 61_000.5),
    ("CurrencyIsoCode", "EUR", "details/currency", "EUR"),
    ("CloseDate", "2027-02-28", "details/closingDateTime", "2027-02-28T00:00:00Z"),
    ("Name", "Fabrikam lakehouse", "name", "Fabrikam lakehouse"),
    ("Description", "Two platforms.", "details/notes", "Two platforms."),
    ("StageName", "Closed Won", "status", "Closed"),
]


def at(record: dict[str, Any], path: str) -> Any:
    for part in path.split("/"):
        record = record[part]
    return record


@pytest.mark.parametrize(("name", "value", "path", "sent"), EDITS, ids=[name for name, *_ in EDITS])
def test_a6_an_edited_field_of_a_synchronized_opportunity_reaches_the_referral(name: str, value: Any, path: str, sent: Any) -> None:
    deal = OneDeal.shared()
    before = deal.w.position()
    deal.seller(**{name: value})
    assert at(deal.there, path) == sent
    patches = [call for call in deal.w.mutations(before) if call.startswith("partner_center")]
    assert len(patches) == 1, "one edit is one write"
    assert not deal.w.quiet()


def test_a6_where_nothing_differs_nothing_is_called() -> None:
    deal = OneDeal.shared()
    before = deal.w.position()
    deal.seller(NextStep="Call them", Amount=50_000)
    assert deal.w.mutations(before) == []


# -- A7 to A9: deals that come from Partner Center -------------------------------------------------------------------------------------


def test_a7_a_deal_made_in_the_portal_is_an_open_opportunity_with_sync_on_and_its_fields_filled() -> None:
    deal = OneDeal.from_portal(name="Fabrikam cloud migration", notes="From the portal.", closing="2027-03-31T00:00:00Z")
    here, identifier = deal.here, deal.there["id"]
    assert {name: here[name] for name in ("Name", "StageName", "Amount", "CurrencyIsoCode", "CloseDate", "Description")} == {
        "Name": "✓ Fabrikam cloud migration",
        "StageName": "Qualification",
        "Amount": 50_000,
        "CurrencyIsoCode": "USD",
        "CloseDate": "2027-03-31",
        "Description": "From the portal.",
    }
    assert here["Sync_With_Partner_Center__c"] is True
    assert here["IsClosed"] is False
    assert here["Referral_Identifier__c"] == identifier
    assert here["Referral_Link__c"].endswith(identifier)
    account = deal.w.opportunity(here["AccountId"])
    assert (account["Name"], account["BillingPostalCode"], account["BillingCountry"]) == ("Fabrikam", "98052", "US")
    assert len(deal.children("OpportunityContactRole")) == len(deal.children("Microsoft_Solutions__c")) == 1
    assert deal.there["externalReferenceId"] == deal.id, "and the portal shows the CRM id"
    assert not deal.w.quiet()


def test_a8_a_referral_that_microsoft_shares_is_on_hold_and_edits_there_do_not_go_out() -> None:
    deal = OneDeal.invited()
    assert deal.here["StageName"] == "On Hold"
    before = deal.w.position()
    deal.seller(Amount=99_000, Name="Renamed", Description="Ours")
    assert not [call for call in deal.w.mutations(before) if call.startswith("partner_center")]
    assert (deal.there["status"], deal.there["details"]["dealValue"]) == ("New", 50_000)
    assert deal.here["Amount"] == 99_000, "and the seller's work is left alone"


@pytest.mark.parametrize("stage", ["Qualification", "Negotiation/Review"])
def test_a9_moving_out_of_on_hold_accepts_the_referral_and_starts_the_sync(stage: str) -> None:
    deal = OneDeal.invited()
    deal.seller(Amount=99_000)
    deal.seller(StageName=stage)
    assert (deal.there["status"], deal.there["substatus"]) == ("Active", "Accepted")
    assert deal.there["details"]["dealValue"] == 99_000, "what the hold kept back goes with it"
    assert deal.here["StageName"] == stage
    deal.seller(Description="After the hold")
    assert deal.there["details"]["notes"] == "After the hold"
    assert not deal.w.quiet()


# -- A10 to A12 ------------------------------------------------------------------------------------------------------------------------


def test_a10_when_microsoft_accepts_its_crm_id_is_filled() -> None:
    deal = OneDeal.shared()
    assert deal.here["Microsoft_CRM_Identifier__c"] is None
    deal.microsoft("accepts")
    assert deal.here["Microsoft_CRM_Identifier__c"] == deal.microsofts["trackingInfo"]["microsoftMsxId"] != ""


def test_a11_the_referrals_solutions_follow_and_removing_the_last_one_turns_sync_off() -> None:
    deal = OneDeal.shared(solutions=("SOL-10001-CON",))
    second = next(
        one for one in deal.w.sim.salesforce.records("Microsoft_Solution_Detail__c") if one["Solution_Identifier__c"] == "SOL-10002-CON"
    )
    row = deal.w.sim.salesforce.person_creates("Microsoft_Solutions__c", {"Opportunity__c": deal.id, "Solution__c": second["Id"]})
    deal.w.settle()
    assert deal.solutions == ["SOL-10001-CON", "SOL-10002-CON"]
    (first, _) = deal.children("Microsoft_Solutions__c")
    deal.w.sim.salesforce.person_deletes("Microsoft_Solutions__c", first["Id"])
    deal.w.settle()
    assert deal.solutions == ["SOL-10002-CON"]
    deal.w.sim.salesforce.person_deletes("Microsoft_Solutions__c", row)
    deal.w.settle()
    assert deal.here["Sync_With_Partner_Center__c"] is False
    assert "turned off, because the last solution was removed" in deal.audit[0]
    assert deal.solutions == ["SOL-10002-CON"], "Partner Center takes no deal without a solution"
    assert not deal.w.quiet()


def test_a12_with_cosell_only_a_lead_that_arrives_is_left_alone() -> None:
    w = DealWorld()
    w.sim.people.microsoft_invites(shared=False)
    before = w.position()
    w.settle()
    assert (w.opportunities(), w.sim.salesforce.records("Lead"), w.mutations(before)) == ([], [], [])


LEADS_TOO = {"switches": {"cosell_opportunities_only": False}}


def test_a12_without_cosell_only_a_lead_is_a_lead_and_accepted_it_becomes_one_opportunity() -> None:
    w = DealWorld(overlay=LEADS_TOO)
    referral = w.sim.people.microsoft_invites(shared=False)
    w.settle()
    assert w.opportunities() == []
    (lead,) = w.sim.salesforce.records("Lead")
    assert (lead["Referral_Identifier__c"], lead["Company"]) == (referral["id"], "Fabrikam")
    w.portal_edits(referral["id"], {"status": "Active", "substatus": "Accepted"})
    w.settle()
    (opportunity,) = w.opportunities()
    assert opportunity["Referral_Identifier__c"] == referral["id"]
    assert not w.quiet()


# -- A13, A14: switches ----------------------------------------------------------------------------------------------------------------


def test_a13_with_the_check_mark_off_a_name_is_never_touched() -> None:
    w = DealWorld(overlay={"switches": {"check_mark_in_name": False}})
    good, bad = w.make_deal("Fabrikam data estate"), w.make_deal("Northwind archive", customer="Northwind", solutions=())
    w.settle()
    OneDeal(w, good.opportunity).portal(details__dealValue=70_000)
    assert (w.opportunity(good.opportunity)["Name"], w.opportunity(bad.opportunity)["Name"]) == (
        "Fabrikam data estate",
        "Northwind archive",
    )
    assert w.opportunity(good.opportunity)["Amount"] == 70_000
    assert "Solution ID is required" in w.opportunity(bad.opportunity)["Audit__c"]
    assert OneDeal.from_portal(w, name="Tailspin move", customer="Tailspin").here["Name"] == "Tailspin move"


ELSEWHERE = {
    "switches": {"deal_value_field": "Deal_Value__c", "currency_field": "Deal_Currency__c", "country_field": "Country_Code__c"},
}
OWN_FIELDS = {
    "Opportunity": (currency("Deal_Value__c"), picklist("Deal_Currency__c", "USD", "EUR", restricted=True)),
    "Account": (text("Country_Code__c", 2),),
}


def test_a14_value_currency_and_country_may_stand_in_other_fields_both_ways() -> None:
    w = DealWorld(org=Org(extra_fields=OWN_FIELDS), overlay=ELSEWHERE)
    made = w.make_deal(country="United States", sync=False, Amount=1, Deal_Value__c=80_000, Deal_Currency__c="EUR")
    w.sim.salesforce.person_edits("Account", made.account, {"Country_Code__c": "DE"})
    deal = OneDeal(w, made.opportunity).seller(Sync_With_Partner_Center__c=True)
    details = deal.there["details"]
    assert (details["dealValue"], details["currency"], deal.there["customerProfile"]["address"]["country"]) == (80_000, "EUR", "DE")
    deal.portal(details__dealValue=90_000, details__currency="USD")
    assert (deal.here["Deal_Value__c"], deal.here["Deal_Currency__c"]) == (90_000, "USD")
    assert (deal.here["Amount"], deal.here["CurrencyIsoCode"]) == (1, "USD"), "the standard fields are somebody else's now"
    other = OneDeal.from_portal(w, name="Tailspin move", customer="Tailspin", currency="EUR")
    account = w.opportunity(other.here["AccountId"])
    assert (other.here["Deal_Value__c"], other.here["Deal_Currency__c"], account["Country_Code__c"]) == (50_000, "EUR", "US")
    assert (other.here["Amount"], account["BillingCountry"]) == (None, None)
    assert not w.quiet()


# -- A15, A16: what must not happen ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["006000000000000AAA", "CRM-4711", "b5a1c3de-0f5e-4c36-9e0b-6d2f3f0a1c11"])
def test_a15_a_referral_that_carries_a_crm_id_unknown_to_salesforce_is_ignored(reference: str) -> None:
    w = DealWorld()
    referral = w.sim.people.portal_create_deal()
    w.portal_edits(referral["id"], {"externalReferenceId": reference})
    before = w.position()
    w.settle()
    assert (w.opportunities(), w.mutations(before), w.parked()) == ([], [], {})
    assert not w.quiet()


def test_a16_the_same_webhook_delivered_many_times_makes_one_opportunity_and_no_echo() -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.duplicates = 4
    deal = OneDeal.from_portal(w)
    assert len(w.opportunities()) == len(w.referrals()) == 1
    deal.portal(details__dealValue=61_000)
    deal.seller(Amount=62_000)
    assert (deal.here["Amount"], deal.there["details"]["dealValue"]) == (62_000, 62_000)
    assert not w.quiet()


def test_a16_edits_within_a_minute_of_one_another_each_arrive_once() -> None:
    deal = OneDeal.shared()
    before = deal.w.position()
    for amount in (61_000, 62_000, 63_000):
        deal.w.seller_edits(deal.id, Amount=amount)
        deal.w.sim.clock.advance(4)
        deal.w.round()
    deal.w.settle()
    assert deal.there["details"]["dealValue"] == 63_000
    assert len(deal.w.referrals()) == len(deal.w.opportunities()) == 1
    assert len([call for call in deal.w.mutations(before) if call.startswith("partner_center")]) <= 3
    assert not deal.w.quiet()


# -- A17: registration -----------------------------------------------------------------------------------------------------------------

ELSEWHERE_URL = "https://old.contoso.example/flow"


def _registered_elsewhere() -> DealWorld:
    w = DealWorld()
    w.world.partner_center.register(ELSEWHERE_URL, ["subscription-updated", "referral-created"], replace=True)
    return w


def test_a17_with_overwrite_the_webhook_is_ours_and_other_events_are_kept() -> None:
    w = _registered_elsewhere()
    answer = registration.register(w.world.partner_center, w.settings, None, None, overwrite=True)
    assert w.world.partner_center.registration() == {"WebhookUrl": CALLBACK, "WebhookEvents": ["subscription-updated", *EVENTS]}
    assert {one["event"] for one in answer["changed_hands"]} == {"subscription-updated", "referral-created"}
    deal = OneDeal.from_portal(w)
    assert deal.here["Sync_With_Partner_Center__c"]


def test_a17_without_overwrite_what_is_registered_is_kept() -> None:
    w = _registered_elsewhere()
    answer = registration.register(w.world.partner_center, w.settings, None, None, overwrite=False)
    assert answer["action"] == "refused"
    registered = w.world.partner_center.registration()
    assert registered == {"WebhookUrl": ELSEWHERE_URL, "WebhookEvents": ["subscription-updated", "referral-created"]}


# -- A18, A19 --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("substatus", ["Won", "Lost", "Declined", "Expired", "Error"])
def test_a18_a_closed_referral_is_never_written_to(substatus: str) -> None:
    deal = OneDeal.shared()
    deal.service(status="Closed", substatus=substatus, statusReason="Others")
    assert deal.here["StageName"] == ("Closed Won" if substatus == "Won" else "Closed Lost")
    before = deal.w.position()
    deal.seller(Amount=1_000, Description="Too late", Name="Too late", CloseDate="2028-01-01")
    deal.seller(StageName="Qualification")
    assert not [call for call in deal.w.mutations(before) if call.startswith("partner_center")]
    assert "the referral is closed and takes no change" in deal.explained


def failing_round(w: DealWorld) -> None:
    """A round in which timers fail, as the host lets them."""
    for step in (w.deliver, w.work, w.poll):
        with contextlib.suppress(ConnectorError):
            step()


@pytest.mark.parametrize("host", ["partner_center", "salesforce"])
def test_a19_after_a_lost_connection_every_edit_arrives_by_itself(host: Any) -> None:
    deal = OneDeal.shared()
    w = deal.w
    w.seller_edits(deal.id, Amount=61_000)
    w.portal_edits(deal.there["id"], {"details/notes": "From the portal"})
    fault = w.sim.faults.add(Fault(host=host, cut="before", count=1_000_000))
    for _ in range(20):
        failing_round(w)
        w.sim.clock.advance(60)
    assert deal.there["details"]["dealValue"] == 50_000 or deal.here["Description"] != "From the portal"
    fault.count = 0
    w.sim.clock.advance(3600)
    w.settle()
    assert (deal.there["details"]["dealValue"], deal.here["Description"]) == (61_000, "From the portal")
    assert not w.quiet()


def test_a19_a_consent_that_expired_stops_nothing_for_good() -> None:
    deal = OneDeal.shared()
    w = deal.w
    w.sim.clock.advance(7200)  # the access token is old
    for token in w.sim.entra.refresh_tokens.values():
        token.revoked = True
    w.seller_edits(deal.id, Amount=61_000)
    for _ in range(3):
        failing_round(w)
        w.sim.clock.advance(600)
    assert deal.there["details"]["dealValue"] == 50_000
    for token in w.sim.entra.refresh_tokens.values():
        token.revoked = False
    w.world = w.new_worker()  # MSAL repeats a refusal for a minute of real time
    w.sim.clock.advance(3600)
    w.settle()
    assert deal.there["details"]["dealValue"] == 61_000


# -- the page that tells all this ------------------------------------------------------------------------------------------------------


def test_every_row_of_the_parity_page_is_filled_and_every_test_it_names_exists() -> None:
    page = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if re.match(r"\| [A\d]", line)]
    assert len(rows) > 100
    assert [row[0] for row in rows if len(row) != 5 or not all(row)] == []
    assert {f"A{number}" for number in range(1, 20)} <= {row[0] for row in rows}
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", page)
    files = {name: (ROOT / "tests" / name).read_text(encoding="utf-8") for name, _ in named}
    assert [f"{name}::{test}" for name, test in named if f"def {test}(" not in files[name]] == []
    assert [row[0] for row in rows if "`test_" not in row[4] and row[4] != "no test: outside the code"] == []
