"""The bodies of planned writes: a patch holds only what changes, and the seller's audit tells the newest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mapping import Mapping
from shared.planning import Change, Known, Plan, plan_pair
from shared.writing import (
    AUDIT_LENGTH,
    audit_line,
    audit_text,
    marked_name,
    name_with_mark,
    opportunity_fields,
    referral_patch,
    says_already,
)

MAPPING = Mapping.load()
NOW = datetime(2026, 11, 2, 9, 5, 59, tzinfo=UTC)
ID = "35bf992d-c9e9-4616-a12e-7696a6cecc1b"


def referral(**changes: Any) -> dict[str, Any]:
    """As Partner Center answers; `details__x` changes what is inside `details`."""
    record: dict[str, Any] = {
        "id": ID,
        "name": "Deal",
        "externalReferenceId": "006Ws0000000Q1UIAU",
        "status": "Active",
        "substatus": "Accepted",
        "consent": {"consentToShareReferralWithMicrosoftSellers": False},
        "details": {
            "notes": "n",
            "dealValue": 50000,
            "currency": "USD",
            "closingDateTime": "2027-01-31T00:00:00Z",
            "requirements": {"solutions": [solution("SOL-1")]},
        },
    }
    inner = {name.removeprefix("details__"): value for name, value in changes.items() if name.startswith("details__")}
    record |= {name: value for name, value in changes.items() if not name.startswith("details__")}
    return record | {"details": record["details"] | inner}


def solution(identifier: str, **more: Any) -> dict[str, Any]:
    return {"id": identifier, "name": f"Suite {identifier}", "type": "Name", **more}


def opportunity(*solutions: str, **changes: Any) -> dict[str, Any]:
    rows = [{"Solution__r": {"Name": f"Suite {one}", "Solution_Identifier__c": one, "Type__c": "3P"}} for one in solutions or ("SOL-1",)]
    return {
        "Id": "006Ws0000000Q1UIAU",
        "Name": "✓ Deal",
        "Amount": 50000.0,
        "CurrencyIsoCode": "USD",
        "CloseDate": "2027-01-31",
        "Description": "n",
        "StageName": "Prospecting",
        "Referral_visible_to_Microsoft_sellers__c": False,
        "Referral_Identifier__c": ID,
        "Co_sell_Key__c": ID,
        "Referral_Link__c": MAPPING.link.replace("{id}", ID),
        "Audit__c": "2026-11-01 08:00 - created from Partner Center",
        "Co_sell_Token__c": "",
        "Opportunity_To_Microsoft_Solutions__r": {"records": rows},
        **changes,
    }


def planned(there: dict[str, Any], here: dict[str, Any]) -> Plan:
    """The plan after both sides once agreed on the standard deal."""
    agreed = MAPPING.read_referral(referral()).values
    return plan_pair(MAPPING, MAPPING.read_referral(there), MAPPING.read_opportunity(here), Known({**agreed, "solutions": ["SOL-1"]}))


def patch(there: dict[str, Any], here: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(one["op"], one["path"], one["value"]) for one in referral_patch(MAPPING, planned(there, here), there, here)]


def fields(there: dict[str, Any], here: dict[str, Any], has_token: bool = True) -> dict[str, Any]:
    return opportunity_fields(MAPPING, planned(there, here), here, "token-1", NOW, has_token)


PATCHES: list[tuple[str, dict[str, Any], dict[str, Any], list[tuple[str, str, Any]]]] = [
    ("the amount", {}, {"Amount": 60000}, [("replace", "/details/dealValue", 60000)]),
    ("the closing date", {}, {"CloseDate": "2027-03-01"}, [("replace", "/details/closingDateTime", "2027-03-01T00:00:00Z")]),
    ("the name, without its mark", {}, {"Name": "✓ Better"}, [("replace", "/name", "Better")]),
    ("emptied notes", {}, {"Description": None}, [("replace", "/details/notes", "")]),
    (
        "two fields, one patch",
        {},
        {"Amount": 1, "Description": "new"},
        [("replace", "/details/dealValue", 1), ("replace", "/details/notes", "new")],
    ),
    (
        "won: status and substatus together",
        {},
        {"StageName": "Closed Won"},
        [("replace", "/status", "Closed"), ("replace", "/substatus", "Won")],
    ),
]


@pytest.mark.parametrize(("name", "there", "here", "expected"), PATCHES, ids=[name for name, *_ in PATCHES])
def test_the_patch_holds_only_what_changed(name: str, there: dict[str, Any], here: dict[str, Any], expected: list[Any]) -> None:
    assert patch(referral(**there), opportunity(**here)) == expected


@pytest.mark.parametrize(("status", "substatus", "how"), [("New", "Pending", "Declined"), ("Active", "Accepted", "Lost")])
def test_a_lost_deal_is_declined_or_lost_and_gives_the_mapped_reason(status: str, substatus: str, how: str) -> None:
    """The portal demands a reason (partner-center 5.6); without one in the mapping none is sent."""
    there, here = referral(status=status, substatus=substatus), opportunity(StageName="Closed Lost")
    pair = [("replace", "/status", "Closed"), ("replace", "/substatus", how)]
    assert patch(there, here) == [*pair, ("add", "/statusReason", MAPPING.lost_reason)]
    silent = replace(MAPPING, lost_reason="")
    assert [one["path"] for one in referral_patch(silent, planned(there, here), there, here)] == ["/status", "/substatus"]


def test_a_key_that_is_absent_is_added_and_one_that_is_null_is_replaced() -> None:
    """JSON Patch `replace` needs its target."""
    absent, null = referral(), referral(externalReferenceId=None)
    del absent["externalReferenceId"]
    assert patch(absent, opportunity()) == [("add", "/externalReferenceId", "006Ws0000000Q1UIAU")]
    assert patch(null, opportunity()) == [("replace", "/externalReferenceId", "006Ws0000000Q1UIAU")]


def test_the_solution_list_keeps_what_stands_as_it_was_read() -> None:
    theirs = solution("SOL-9", price=5, unknownKey="kept")
    there = referral(details__requirements={"solutions": [theirs, solution("SOL-1")]})
    ((_, path, entries),) = patch(there, opportunity("SOL-1", "SOL-2"))
    assert path == "/details/requirements/solutions"
    assert {one["id"]: one for one in entries} == {
        "SOL-1": solution("SOL-1"),
        "SOL-2": solution("SOL-2", solutionType="3P"),
        "SOL-9": theirs,
    }


def test_a_solution_identifier_with_blanks_around_it_is_still_found() -> None:
    theirs = solution(" SOL-9 ")
    ((_, _, entries),) = patch(referral(details__requirements={"solutions": [theirs, solution("SOL-1")]}), opportunity("SOL-1", "SOL-2"))
    assert [one for one in entries if one["id"].strip() == "SOL-9"] == [theirs]


def test_the_opportunity_gets_only_what_changed_with_audit_and_token() -> None:
    assert fields(referral(details__dealValue=60000), opportunity()) == {
        "Amount": 60000,
        "Audit__c": "2026-11-02 09:05 - deal value 50000 → 60000, changed in Partner Center\n2026-11-01 08:00 - created from Partner Center",
        "Co_sell_Token__c": "token-1",
    }
    assert "Co_sell_Token__c" not in fields(referral(details__dealValue=60000), opportunity(), has_token=False)


def test_a_status_becomes_the_mapped_stage() -> None:
    assert fields(referral(status="Closed", substatus="Lost"), opportunity())["StageName"] == "Closed Lost"


def test_a_new_name_is_marked_and_an_unmarked_one_gets_its_mark_with_the_next_write() -> None:
    assert fields(referral(name="Better"), opportunity())["Name"] == "✓ Better"
    assert fields(referral(details__dealValue=1), opportunity(Name="✗ Deal"))["Name"] == "✓ Deal"
    assert "Name" not in fields(referral(details__dealValue=1), opportunity(Name="✓ Deal"))


@pytest.mark.parametrize(
    ("title", "marked"),
    [("Deal", "✓ Deal"), ("d" * 118, "✓ " + "d" * 118), ("d" * 119, "d" * 119), ("😀" * 59, "✓ " + "😀" * 59), ("😀" * 60, "😀" * 60)],
)
def test_the_mark_fits_or_is_left_off(title: str, marked: str) -> None:
    assert marked_name(MAPPING, title, "✓") == marked


def test_with_the_switch_off_the_name_is_never_touched() -> None:
    unmarked = replace(MAPPING, switches=MAPPING.switches.model_copy(update={"check_mark_in_name": False}))
    assert marked_name(unmarked, "Deal", "✓") == "Deal"
    assert name_with_mark(unmarked, {"Name": "✗ Deal"}, "✓") == {}


def test_another_mark_replaces_the_one_that_stands() -> None:
    assert name_with_mark(MAPPING, {"Name": "✓ Deal"}, "✗") == {"Name": "✗ Deal"}
    assert name_with_mark(MAPPING, {"Name": "✗ Deal"}, "✗") == {}


def test_the_audit_tells_the_newest_first_and_loses_its_oldest_end() -> None:
    audit: Any = None
    for number in range(700):
        audit = audit_text(MAPPING, NOW, f"entry {number} {'x' * 40}", audit)
    lines = audit.splitlines()
    assert lines[0].startswith("2026-11-02 09:05 - entry 699 ")
    assert lines[1].startswith("2026-11-02 09:05 - entry 698 ")
    assert AUDIT_LENGTH - 100 < len(audit) <= AUDIT_LENGTH


@given(st.text(st.characters(categories=["L", "N", "P", "Zs", "So"]), min_size=1, max_size=200).map(str.strip).filter(bool))
def test_an_entry_that_would_only_be_said_again_is_recognised(text: str) -> None:
    assert says_already(MAPPING, audit_text(MAPPING, NOW, text, "2026-11-01 08:00 - older"), text)
    assert not says_already(MAPPING, audit_text(MAPPING, NOW, "another", f"2026-11-01 08:00 - {text}"), f"{text} and more")
    assert not says_already(MAPPING, None, text)


def test_an_entry_of_several_lines_is_recognised_too() -> None:
    """Vendors' words hold line ends; told again at every retry, the audit would fill with one complaint."""
    said = "Salesforce refused the change: \nSELECT Foo FROM Opportunity\n       ^\nNo such column"
    assert says_already(MAPPING, audit_text(MAPPING, NOW, said, "2026-11-01 08:00 - older"), said)


def test_a_reason_of_which_a_part_is_mended_is_told_anew() -> None:
    both = "the opportunity needs a deal value; the opportunity needs a closing date"
    assert not says_already(MAPPING, audit_text(MAPPING, NOW, both, None), "the opportunity needs a deal value")


def test_the_first_meeting_is_told_as_one_thing() -> None:
    changes = [
        Change("salesforce", name, name.replace("_", " "), None, ID, "from Partner Center") for name in ("referral_id", "referral_link")
    ]
    changes.append(Change("salesforce", "program", "program", None, "Build", "from Partner Center"))
    assert audit_line(changes) == "synchronized with Partner Center; program (empty) → Build, from Partner Center"
