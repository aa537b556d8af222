"""The mapping file: what is shipped loads, an overlay states differences, every fault is reported at once; and how records are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.codecs import Unreadable
from shared.errors import Misconfigured
from shared.mapping import Mapping, status_of

Overlay = Callable[[str], Path]

SHIPPED = Mapping.load()


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults(path: Path) -> list[str]:
    """One line per fault, as the operator reads them."""
    with pytest.raises(Misconfigured) as raised:
        Mapping.load(path)
    first, *lines = str(raised.value).splitlines()
    assert path.name in str(raised.value)
    assert f"{len(lines)} fault" in first
    return lines


def test_the_shipped_mapping_holds_the_rules_of_the_design() -> None:
    rows = {row.name: (row.direction, row.winner) for row in SHIPPED.fields}
    both = [name for name, (direction, _) in rows.items() if direction == "both"]
    assert both == ["title", "deal_value", "currency", "close_date", "notes", "status"]
    assert {name for name in both if rows[name][1] == "salesforce"} == set(both) - {"status"}
    assert [row.name for row in SHIPPED.fields if row.clearing] == ["notes"]
    assert {rows[name][0] for name in ("visible", "solutions", "external_reference")} == {"to_partner_center"}
    assert {rows[name][0] for name in ("referral_id", "referral_link", "program", "microsoft_crm_id")} == {"to_salesforce"}
    assert SHIPPED.by_name["deal_value"].salesforce == "Amount"


def test_an_overlay_states_only_differences(overlay: Overlay) -> None:
    mine = Mapping.load(
        overlay(
            '[switches]\ndeal_value_field = "Total_Value__c"\nactive_stage = "Discovery"\n[fields.notes]\nsalesforce = "Partner_Notes__c"\n'
        )
    )
    assert mine.by_name["deal_value"].salesforce == "Total_Value__c"
    assert mine.by_name["notes"].salesforce == "Partner_Notes__c"
    assert mine.by_name["notes"].clearing, "what the overlay does not state stays"
    assert mine.stage_for("active") == "Discovery"
    assert mine.active_stages == SHIPPED.active_stages | {"Discovery"}
    unchanged = [row for row in mine.fields if row.name not in ("deal_value", "notes")]
    assert unchanged == [row for row in SHIPPED.fields if row.name not in ("deal_value", "notes")]
    assert mine.fingerprint != SHIPPED.fingerprint


def test_an_overlay_may_add_a_field(overlay: Overlay) -> None:
    mine = Mapping.load(
        overlay(
            '[fields.campaign]\npartner_center = "campaignId"\nsalesforce = "Campaign_Code__c"\ntype = "text"\ndirection = "to_partner_center"\n'
        )
    )
    assert mine.read_referral({"campaignId": " C-1 "}).values["campaign"] == "C-1"
    assert mine.read_opportunity({"Campaign_Code__c": "C-2"}).values["campaign"] == "C-2"


# an overlay that is wrong, what its report must name, and what it must say
FAULTS = [
    ('colour = "blue"', "colour", "Extra inputs"),
    ('[switches]\nactiv_stage = "Discovery"', "switches activ_stage", "Extra inputs"),
    ('[switches]\ncheck_mark_in_name = "perhaps"', "switches check_mark_in_name", "boolean"),
    ('[switches]\ndeal_value_field = "Deal Value"', "switches deal_value_field", "Deal Value"),
    ('[switches]\nactive_stage = "Closed Won"', "switches won_stage", "'Closed Won' is already the active_stage"),
    ('[switches]\non_hold_stage = "Closed Lost"', "switches lost_stage", "already the on_hold_stage"),
    ('[fields.notes]\ntype = "prose"', "fields.notes type", "long_text"),
    ('[fields.notes]\ndirection = "upwards"', "fields.notes direction", "to_salesforce"),
    ('[fields.notes]\nwinner = "nobody"', "fields.notes winner", "salesforce"),
    ('[fields.notes]\nsalesforce = "Amount"', "fields.notes salesforce", "'Amount' is already written by"),
    ('[fields.notes]\nsalesforce = "{deal_value}"', "fields.notes salesforce", "{deal_value} is not the name of a field switch"),
    ('[fields.notes]\npartner_center = "details/secret"', "fields.notes partner_center", "change of 'details/secret'"),
    ('[fields.program]\ndirection = "both"', "fields.program winner", "needs a winner"),
    ('[fields.microsoft_crm_id]\ndirection = "both"\nwinner = "salesforce"', "fields.microsoft_crm_id partner_center", "change of"),
    (
        '[fields.area]\npartner_center = "campaignId"\ntype = "text"\ndirection = "to_salesforce"',
        "fields.area salesforce",
        "name the Opportunity",
    ),
    ('[referral]\nlink = "http://contoso.example/{id}"', "referral link", "https"),
    ("version = 2", "version", "1"),
]


@pytest.mark.parametrize(("text", "where", "what"), FAULTS, ids=[where for _, where, _ in FAULTS])
def test_a_fault_is_named_with_its_place(overlay: Overlay, text: str, where: str, what: str) -> None:
    found = faults(overlay(text))
    assert [line for line in found if all(part in line for part in where.split()) and what in line], found


def test_five_faults_of_every_sort_are_reported_at_once(overlay: Overlay) -> None:
    """A person corrects a file once: what is malformed does not hide what is merely inconsistent."""
    found = faults(
        overlay(
            """
            [switches]
            activ_stage = "Discovery"
            won_stage = "Qualification"
            [fields.notes]
            type = "prose"
            [fields.close_date]
            partner_center = "details/secret"
            [fields.program]
            direction = "both"
            """
        )
    )
    assert len(found) == 5, found
    for where in ("activ_stage", "won_stage", "fields.notes", "fields.close_date", "fields.program"):
        assert [line for line in found if where in line], f"{where} is missing from {found}"


@pytest.mark.parametrize(("content", "what"), [(b"[switches", "not valid TOML"), (b"\xff\xfe", "not valid TOML")])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=what) as raised:
        Mapping.load(path)
    assert "broken.toml" in str(raised.value)
    with pytest.raises(Misconfigured, match="cannot be read"):
        Mapping.load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("status", "substatus", "meant"),
    [
        ("New", "Pending", "pending"),
        ("New", "Received", "pending"),
        ("new", None, "pending"),
        ("Active", "Accepted", "active"),
        ("Closed", "Won", "won"),
        *[("Closed", how, "lost") for how in ("Lost", "Declined", "Expired", "Error")],
    ],
)
def test_the_statuses_of_partner_center_are_four_to_us(status: str, substatus: str | None, meant: str) -> None:
    assert status_of({"status": status, "substatus": substatus}) == meant


@pytest.mark.parametrize(
    ("status", "substatus"), [("Active", "Engaged"), ("Dormant", "Accepted"), (None, None), ({}, []), ("Closed", None)]
)
def test_an_unknown_status_is_said_and_not_guessed(status: Any, substatus: Any) -> None:
    with pytest.raises(Unreadable, match="is not known"):
        status_of({"status": status, "substatus": substatus})


@pytest.mark.parametrize(
    ("opportunity", "meant"),
    [
        ({"StageName": "On Hold"}, "pending"),
        ({"StageName": "Prospecting"}, "active"),
        ({"StageName": "Qualification"}, "active"),
        ({"StageName": "Closed Won"}, "won"),
        ({"StageName": "Ganado", "IsWon": True, "IsClosed": True}, "won"),
        ({"StageName": "Closed - no budget", "IsClosed": True, "IsWon": False}, "lost"),
    ],
)
def test_many_stages_mean_one_status(opportunity: dict[str, Any], meant: str) -> None:
    assert SHIPPED.read_opportunity(opportunity).values["status"] == meant


def test_a_stage_the_mapping_does_not_know_is_said_and_the_other_fields_are_read() -> None:
    record = SHIPPED.read_opportunity({"StageName": "Daydreaming", "Amount": 5, "Name": "✓ Deal"})
    assert "status" not in record.values
    assert "'Daydreaming' is not mapped" in record.unread["status"]
    assert (record.values["deal_value"], record.values["title"]) == ("5", "Deal")


def test_a_single_currency_org_takes_the_company_currency(overlay: Overlay) -> None:
    mine = Mapping.load(overlay('[opportunity]\ncompany_currency = "EUR"\n[fields.currency]\ndrop = true\n'))
    assert mine.read_opportunity({"StageName": "On Hold"}).values["currency"] == "EUR"


def test_a_token_field_the_org_lacks_is_told_apart_from_an_empty_one() -> None:
    assert SHIPPED.read_opportunity({"StageName": "On Hold"}).token is None
    assert SHIPPED.read_opportunity({"StageName": "On Hold", "Co_sell_Token__c": None}).token == ""


def test_microsofts_record_is_read_for_its_own_fields_only() -> None:
    own = {"id": "1", "trackingInfo": {"microsoftMsxId": "not this"}, "name": "Deal", "status": "Active", "substatus": "Accepted"}
    microsoft = {"id": "2", "trackingInfo": {"microsoftMsxId": "7-MSX"}, "name": "Their name"}
    values = SHIPPED.read_referral(own, microsoft).values
    assert (values["microsoft_crm_id"], values["title"], values["referral_id"]) == ("7-MSX", "Deal", "1")
    assert SHIPPED.read_referral(own).values["microsoft_crm_id"] is None


def test_solution_rows_are_read_once_each_and_rows_without_an_identifier_are_left_out() -> None:
    def row(identifier: str | None, name: str = "Suite") -> dict[str, Any]:
        return {"Solution__r": {"Name": name, "Solution_Identifier__c": identifier, "Type__c": "3P", "Publisher_Name__c": None}}

    rows = [row("SOL-2", "Kit"), row(" SOL-1 "), row("SOL-2"), row(None), {"Solution__r": None}]
    opportunity = {"StageName": "On Hold", "Opportunity_To_Microsoft_Solutions__r": {"records": rows}}
    assert SHIPPED.read_opportunity(opportunity).values["solutions"] == ["SOL-1", "SOL-2"]
    assert SHIPPED.solution_rows(opportunity)[0] == {"id": "SOL-2", "name": "Kit", "type": "Name", "solutionType": "3P"}
    assert SHIPPED.read_opportunity(opportunity | {"Opportunity_To_Microsoft_Solutions__r": None}).values["solutions"] == []
