"""What a new record is made of, and what must be there before one is made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.creating import Found, Places, draft_opportunity, draft_referral, microsofts_referral
from shared.mapping import Mapping
from simulator.faults import Fault
from tests.deals import DealWorld

MAPPING = Mapping.load()
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
DANA = {"FirstName": "Dana", "LastName": "Moreau", "Email": "dana.moreau@fabrikam.example", "Phone": "+1 555 0142"}
ANA = {"FirstName": "Ana", "LastName": "Sousa", "Email": "ana.sousa@contoso.example", "Phone": "+1 555 0100"}


def opportunity(**changes: Any) -> dict[str, Any]:
    return {
        "Id": "006Ws0000000Q1UIAU",
        "Name": "Fabrikam data estate",
        "Amount": 50000.0,
        "CurrencyIsoCode": "USD",
        "CloseDate": "2027-01-31",
        "Description": "One platform.",
        "StageName": "Prospecting",
        "How_can_Microsoft_help__c": "General or Other",
        "Customer_purchase_intent__c": "Yes",
        "Referral_visible_to_Microsoft_sellers__c": False,
        "Account": {
            "Name": "Fabrikam",
            "BillingStreet": "1 Harbour Road\r\nPier 4\r\nGate 2",
            "BillingCity": "Redmond",
            "BillingState": None,
            "BillingPostalCode": "98052",
            "BillingCountry": "us",
        },
        "Owner": ANA,
        "OpportunityContactRoles": {"records": [{"IsPrimary": True, "Contact": DANA}]},
        "OpportunityTeamMembers": None,
        "Opportunity_To_Microsoft_Solutions__r": {
            "records": [
                {
                    "Solution__r": {
                        "Name": "Data Platform",
                        "Solution_Identifier__c": "SOL-1",
                        "Type__c": "3P",
                        "Publisher_Name__c": "Contoso",
                    }
                }
            ]
        },
        **changes,
    }


def drafted(**changes: Any) -> Any:
    record = opportunity(**changes)
    return draft_referral(MAPPING, record, MAPPING.read_opportunity(record), "BillingCountry")


def test_a_deal_with_help_becomes_a_shared_referral() -> None:
    draft = drafted()
    assert draft.missing == ()
    assert draft.help_code == "GeneralOrOther"
    assert draft.body == {
        "name": "Fabrikam data estate",
        "externalReferenceId": "006Ws0000000Q1UIAU",
        "type": "Shared",
        "qualification": "SalesQualified",
        "customerProfile": {
            "name": "Fabrikam",
            "address": {
                "addressLine1": "1 Harbour Road",
                "addressLine2": "Pier 4, Gate 2",
                "city": "Redmond",
                "state": "",
                "postalCode": "98052",
                "country": "US",
            },
            "team": [{"firstName": "Dana", "lastName": "Moreau", "phoneNumber": "+1 555 0142", "email": "dana.moreau@fabrikam.example"}],
        },
        "consent": {
            "consentToToShareInfoWithOthers": True,
            "consentToContact": True,
            "consentToShareReferralWithMicrosoftSellers": True,
        },
        "details": {
            "notes": "One platform.",
            "dealValue": 50000,
            "currency": "USD",
            "closingDateTime": "2027-01-31T00:00:00Z",
            "requirements": {
                "solutions": [{"id": "SOL-1", "name": "Data Platform", "type": "Name", "publisherName": "Contoso", "solutionType": "3P"}],
                "additionalRequirements": {"attributes": [{"type": "CustomerMarketplaceIntent", "id": "Yes"}]},
            },
        },
        "team": [{"firstName": "Ana", "lastName": "Sousa", "phoneNumber": "+1 555 0100", "email": "ana.sousa@contoso.example"}],
        "target": [{"type": "SolutionProfile", "id": "SOL-1"}],
    }


def test_memory_of_a_create_is_what_was_sent() -> None:
    """N26: the values of the body, so that an edit made before the answer arrived is seen as one."""
    sent = drafted().sent
    expected = {
        "title": "Fabrikam data estate",
        "deal_value": "50000",
        "currency": "USD",
        "close_date": "2027-01-31",
        "notes": "One platform.",
        "status": "active",
        "solutions": ["SOL-1"],
        "visible": True,
        "external_reference": "006Ws0000000Q1UIAU",
    }
    assert {name: sent.get(name) for name in expected} == expected


@pytest.mark.parametrize(("visible", "shown"), [(False, False), (True, True)])
def test_without_help_the_deal_is_private_or_partner_led(visible: bool, shown: bool) -> None:
    draft = drafted(How_can_Microsoft_help__c=None, Referral_visible_to_Microsoft_sellers__c=visible)
    assert (draft.body["type"], draft.body["target"], draft.help_code) == ("Independent", [], "")
    assert draft.body["consent"]["consentToShareReferralWithMicrosoftSellers"] is shown


def test_microsofts_referral_is_the_same_deal_in_the_same_engagement_without_our_key() -> None:
    own = drafted().body
    connected = microsofts_referral(own, "78e51061-7311-48a3-82ce-6f447ed4d57b", "GeneralOrOther")
    assert connected["engagementId"] == "78e51061-7311-48a3-82ce-6f447ed4d57b"
    assert connected["target"] == [{"type": "BusinessProfileLocation", "id": "msft"}]
    assert connected["inviteContext"] == {"assistanceRequestCode": "GeneralOrOther", "notes": "One platform."}
    assert "externalReferenceId" not in connected
    assert {key: connected[key] for key in ("name", "details", "customerProfile", "team")} == {
        key: own[key] for key in ("name", "details", "customerProfile", "team")
    }


NO_SOLUTION = {"records": [{"Solution__r": {"Name": "Nameless", "Solution_Identifier__c": None}}]}
NO_ADDRESS = {"records": [{"IsPrimary": True, "Contact": {"LastName": "Moreau", "Email": None}}]}

MISSING: list[tuple[str, dict[str, Any], str]] = [
    ("a solution", {"Opportunity_To_Microsoft_Solutions__r": None}, "Solution ID is required"),
    ("a solution's identifier", {"Opportunity_To_Microsoft_Solutions__r": NO_SOLUTION}, "Solution ID is required"),
    ("an account", {"Account": None}, "needs an account"),
    ("a country", {"Account": {"Name": "Fabrikam", "BillingCountry": None}}, "country code missing: BillingCountry"),
    ("a two-letter country", {"Account": {"Name": "Fabrikam", "BillingCountry": "United States"}}, "must hold two letters"),
    ("a two-letter country in Latin letters", {"Account": {"Name": "Fabrikam", "BillingCountry": "日本"}}, "must hold two letters"),
    ("a customer contact, with help", {"OpportunityContactRoles": None}, "needs a customer contact"),
    ("a contact's e-mail, with help", {"OpportunityContactRoles": NO_ADDRESS}, "needs a customer contact"),
    ("the owner's e-mail", {"Owner": {"LastName": "Sousa", "Email": None}}, "owner needs an e-mail"),
    ("an amount", {"Amount": None}, "needs a deal value"),
    ("an amount that is not negative", {"Amount": -1}, "negative deal value"),
    ("a name", {"Name": "✓"}, "needs a name"),
    ("a closing date", {"CloseDate": None}, "needs a closing date"),
    ("a currency", {"CurrencyIsoCode": None}, "currency is not known"),
    ("a known help option", {"How_can_Microsoft_help__c": "Free lunch"}, "'Free lunch' is not a help that Partner Center knows"),
]


@pytest.mark.parametrize(("name", "changes", "words"), MISSING, ids=[name for name, *_ in MISSING])
def test_what_is_missing_is_said_in_words_a_seller_acts_on(name: str, changes: dict[str, Any], words: str) -> None:
    (said,) = drafted(**changes).missing
    assert words in said


def test_a_stage_nobody_mapped_keeps_no_deal_from_being_shared() -> None:
    draft = drafted(StageName="Daydreaming")
    assert draft.missing == ()
    assert "status" not in draft.sent, "what it means is not known, so nothing is remembered of it"


def test_what_a_kind_of_cosell_needs_is_asked_for() -> None:
    (area, play, role) = drafted(Co_sell_Type__c="Services Co-sell").missing
    assert ("solution area" in area, "solution play" in play, "partner role" in role) == (True, True, True)
    given = {"Solution_Area__r": {"Name": "Data"}, "Solution_Play__r": {"Name": "Analytics"}, "Partner_Role__r": {"Name": "Services"}}
    draft = drafted(Co_sell_Type__c="Services Co-sell", **given)
    assert draft.missing == ()
    attributes = draft.body["details"]["requirements"]["additionalRequirements"]["attributes"]
    assert {one["type"]: one["id"] for one in attributes} == {
        "CustomerMarketplaceIntent": "Yes",
        "SolutionArea": "Data",
        "SolutionPlay": "Analytics",
        "PartnerRole": "Services",
    }


def test_everything_that_is_missing_is_said_at_once() -> None:
    empty = dict.fromkeys(opportunity(), None) | {"Id": "006Ws0000000Q1UIAU", "StageName": "Prospecting"}
    assert len(draft_referral(MAPPING, empty, MAPPING.read_opportunity(empty), "BillingCountry").missing) >= 6


def test_without_help_no_customer_contact_is_needed() -> None:
    assert drafted(How_can_Microsoft_help__c=None, OpportunityContactRoles=None).missing == ()


def test_people_are_named_once_by_e_mail_and_the_primary_contact_comes_first() -> None:
    kim = {**DANA, "FirstName": "Kim", "LastName": "Abe", "Email": "kim@fabrikam.example"}
    ben = {**ANA, "FirstName": "Ben", "LastName": "Okafor", "Email": "ben@contoso.example"}
    roles = [
        {"IsPrimary": False, "Contact": kim},
        {"IsPrimary": True, "Contact": DANA},
        {"IsPrimary": False, "Contact": {**DANA, "Email": DANA["Email"].upper()}},
    ]
    team = [{"User": ANA}, {"User": ben}, {"User": None}]
    body = drafted(OpportunityContactRoles={"records": roles}, OpportunityTeamMembers={"records": team}).body
    assert [one["lastName"] for one in body["customerProfile"]["team"]] == ["Moreau", "Abe"]
    assert [one["lastName"] for one in body["team"]] == ["Sousa", "Okafor"]


# -- an opportunity from a referral ----------------------------------------------------------------------------------------------------

REFERRAL_ID = "35bf992d-c9e9-4616-a12e-7696a6cecc1b"


def referral(**changes: Any) -> dict[str, Any]:
    return {
        "id": REFERRAL_ID,
        "name": "Fabrikam migration",
        "status": "New",
        "substatus": "Pending",
        "customerProfile": {
            "name": "Fabrikam",
            "address": {
                "addressLine1": "1 Harbour Road",
                "addressLine2": "Pier 4",
                "city": "Redmond",
                "postalCode": "98052",
                "country": "US",
            },
            "team": [
                {"firstName": "Sue", "lastName": "Smith", "phoneNumber": "+1 425 555 0100", "email": "Sue.Smith@fabrikam.example"},
                {"firstName": "Sue", "lastName": "Smith", "phoneNumber": None, "email": "sue.smith@FABRIKAM.example"},
                {"firstName": "Cher", "lastName": None, "email": None},
                {"firstName": None, "lastName": None, "email": None},
            ],
            "ids": {},
        },
        "details": {
            "notes": "Please call.",
            "dealValue": 50000,
            "currency": "USD",
            "closingDateTime": "2027-01-31T00:00:00Z",
            "requirements": {
                "solutions": [
                    {"id": "SOL-1", "name": "Suite", "solutionType": "3P", "publisherName": "Contoso"},
                    {"id": " SOL-1"},
                    {"id": None},
                ]
            },
        },
        **changes,
    }


def created(found: Found, own: bool = True, **changes: Any) -> tuple[dict[str, tuple[str, dict[str, Any]]], dict[str, Any]]:
    """The records by reference, and what is remembered."""
    record = referral(**changes)
    draft = draft_opportunity(
        MAPPING, record, MAPPING.read_referral(record), found, NOW, Places("BillingCountry", has_key=own, has_synced=own)
    )
    return {reference: (name, fields) for reference, name, fields in draft.records}, dict(draft.sent)


def test_an_invitation_becomes_an_opportunity_on_hold_with_everything_that_hangs_on_it() -> None:
    records, sent = created(Found())
    name, fields = records["opportunity"]
    assert name == "Opportunity"
    assert fields == {
        "Name": "✓ Fabrikam migration",
        "StageName": "On Hold",
        "Amount": 50000,
        "CurrencyIsoCode": "USD",
        "CloseDate": "2027-01-31",
        "Description": "Please call.",
        "Referral_visible_to_Microsoft_sellers__c": False,
        "Referral_Identifier__c": REFERRAL_ID,
        "Co_sell_Key__c": REFERRAL_ID,
        "Referral_Link__c": MAPPING.link.replace("{id}", REFERRAL_ID),
        "Sync_With_Partner_Center__c": True,
        "Audit__c": "2026-11-02 09:00 - created from Partner Center",
        "Co_sell_Last_Synced__c": "2026-11-02T09:00:00Z",
        "AccountId": "@{account.id}",
    }
    assert records["account"][1]["BillingStreet"] == "1 Harbour Road\nPier 4"
    assert [fields["LastName"] for name, fields in records.values() if name == "Contact"] == ["Smith", "Cher"], "each person once"
    assert [fields["IsPrimary"] for name, fields in records.values() if name == "OpportunityContactRole"] == [True, False]
    assert [fields["Solution_Identifier__c"] for name, fields in records.values() if name == "Microsoft_Solution_Detail__c"] == ["SOL-1"]
    assert [fields["Opportunity__c"] for name, fields in records.values() if name == "Microsoft_Solutions__c"] == ["@{opportunity.id}"]
    assert sent["status"] == "pending"
    assert sent["solutions"] == [], "what came from Partner Center is not ours to remove"


def test_what_salesforce_already_has_is_used_and_not_made_again() -> None:
    found = Found("001Ws0000000Q1SIAU", {"sue.smith@fabrikam.example": "003Ws0000000Q1TIAU"}, {"SOL-1": "a01Ws0000000Q1JIAU"})
    records, _ = created(found)
    made = [name for name, _ in records.values()]
    assert made.count("Contact") == 1, "only the person Salesforce does not know"
    assert "Account" not in made
    assert "Microsoft_Solution_Detail__c" not in made
    assert records["opportunity"][1]["AccountId"] == "001Ws0000000Q1SIAU"
    assert records["role0"][1]["ContactId"] == "003Ws0000000Q1TIAU"


def test_the_opportunity_comes_before_what_refers_to_it() -> None:
    order = list(created(Found())[0])
    for reference, (_, fields) in created(Found())[0].items():
        for value in fields.values():
            if isinstance(value, str) and value.startswith("@{"):
                assert order.index(value[2:].removesuffix(".id}")) < order.index(reference)


def test_an_org_without_the_connectors_own_fields_gets_none_of_them() -> None:
    (with_them, without) = (set(created(Found(), own=own)[0]["opportunity"][1]) for own in (True, False))
    assert with_them - without == {"Co_sell_Key__c", "Co_sell_Last_Synced__c"}


def test_a_closing_date_is_assumed_where_partner_center_has_none_and_said() -> None:
    records, sent = created(Found(), details={"dealValue": 1})
    fields = records["opportunity"][1]
    assert fields["CloseDate"] == "2027-01-31" == sent["close_date"]
    assert "no closing date in Partner Center, 2027-01-31 assumed" in fields["Audit__c"]


def test_a_referral_with_almost_nothing_still_makes_an_opportunity() -> None:
    bare = {"id": REFERRAL_ID, "status": "Active", "substatus": "Accepted"}
    draft = draft_opportunity(MAPPING, bare, MAPPING.read_referral(bare), Found(), NOW, Places("BillingCountry"))
    ((reference, _, fields),) = draft.records
    assert (reference, fields["Name"], fields["StageName"]) == ("opportunity", "✓ Partner Center referral", "Qualification")


@pytest.mark.parametrize(
    "changes",
    [
        *[{"customerProfile": {"name": "Fabrikam", "team": team}} for team in ({}, [{}], [None], None, "x", {"id": "1"})],
        *[{"customerProfile": {"name": "Fabrikam", "ids": ids}} for ids in ({}, [], [{"profileType": "Duns", "id": "795986822"}])],
        *[{"customerProfile": {"name": "Fabrikam", "address": address}} for address in ({}, [], None, "x", [{}])],
        *[{"customerProfile": other} for other in ([], None, "Fabrikam")],
        *[
            {"details": other}
            for other in (
                None,
                [],
                {"requirements": None},
                {"requirements": {"solutions": {}}},
                {"requirements": {"solutions": [None, "x", {}]}},
            )
        ],
    ],
    ids=str,
)
def test_sections_of_another_shape_do_not_break_the_draft(changes: dict[str, Any]) -> None:
    records, _ = created(Found(), **changes)
    assert records["opportunity"][1]["Name"] == "✓ Fabrikam migration"


def test_an_edit_between_two_requests_of_one_create_is_not_undone_by_the_late_first_one() -> None:
    """N26 with a unique key: `DUPLICATE_VALUE` says that a request landed, not which. The first insert is on its way while Paul edits."""
    w = DealWorld()
    referral_id = w.sim.people.portal_create_deal("Deal", deal_value=50_000)["id"]
    w.sim.faults.add(Fault(host="salesforce", method="POST", path="*graph", cut="before"))
    w.deliver()
    w.work()
    w.portal_edits(referral_id, {"details/dealValue": 72_000})

    def the_first_lands(_: Any) -> None:
        fields = {"Name": "✓ Deal", "StageName": "Qualification", "CloseDate": "2027-01-31", "Amount": 50_000, "CurrencyIsoCode": "USD"}
        ours = {"Co_sell_Key__c": referral_id, "Referral_Identifier__c": referral_id, "Sync_With_Partner_Center__c": True}
        w.sim.salesforce.person_creates("Opportunity", {**fields, **ours})

    w.sim.faults.add(Fault(host="salesforce", method="POST", path="*graph", action=the_first_lands))
    w.settle()
    (opportunity,) = w.opportunities()
    assert (w.sim.partner_center.records[referral_id]["details"]["dealValue"], opportunity["Amount"]) == (72_000, 72_000)


def test_a_field_can_be_part_of_new_records_one_way_only() -> None:
    w = DealWorld(overlay={"fields": {"notes": {"on_create": "to_salesforce", "on_update": "to_partner_center"}}})
    ours = w.make_deal("Ours", Description="for us alone")
    w.sim.people.portal_create_deal("Theirs", notes="from the portal", customer="Northwind")
    w.settle()
    there = next(one for one in w.referrals() if one["externalReferenceId"] == ours.opportunity)
    here = next(one for one in w.opportunities() if one["Id"] != ours.opportunity)
    assert (there["details"]["notes"] or "", here["Description"]) == ("", "from the portal")
    w.portal_edits(here["Referral_Identifier__c"], {"details/notes": "edited there"})
    w.settle()
    assert w.opportunity(here["Id"])["Description"] == "from the portal"
    w.seller_edits(ours.opportunity, Description="edited here")
    w.settle()
    assert w.sim.partner_center.records[there["id"]]["details"]["notes"] == "edited here"
