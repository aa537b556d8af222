"""The referrals that Microsoft printed over the years are read, each with the values a person would read from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shared import wire
from shared.codecs import parse_instant
from shared.creating import Found, Places, draft_opportunity, solutions_of
from shared.mapping import Mapping
from shared.referral import is_closed, is_cosell, is_guid, is_microsofts

SAMPLES = Path(__file__).parent / "samples" / "referrals"
MAPPING = Mapping.load()

MICROSOFT_365 = {"deal_value": None, "currency": None, "close_date": None, "status": "pending", "solutions": [], "title": None}
DYNAMICS = {
    "deal_value": "50000",
    "currency": "USD",
    "close_date": None,
    "status": "pending",
    "solutions": ["Dynamics365forFieldService"],
    "title": None,
}
OF_2020 = {
    "deal_value": "10000",
    "currency": "USD",
    "close_date": "2020-12-01",
    "status": "pending",
    "solutions": ["SOL-Microsoft365"],
    "title": None,
}

# file -> for each referral in it: what it says, whether it is a co-sell deal, whether it is closed
EXPECTED: dict[str, list[tuple[dict[str, Any], bool, bool]]] = {
    "legacy-2018.referral.list.response.json": [(MICROSOFT_365, False, False), (DYNAMICS, False, False)],
    "referral.list-2019.response.json": [(MICROSOFT_365, False, False), (DYNAMICS, False, False)],
    "referral.get-2019.response.json": [(DYNAMICS, False, False)],
    "referral.put-2019.response.json": [({**DYNAMICS, "status": "won"}, False, True)],
    "referral.list-2020.response.json": [(OF_2020, False, False)],
    "referral.get-2020.response.json": [(OF_2020, False, False)],
    "referral.create.cosell-2019.response.json": [({**DYNAMICS, "status": "active", "title": "Test Cosell Invite_20"}, True, False)],
    "referral.full-shape.synthetic.json": [
        (
            {
                "title": "Example deal",
                "deal_value": "50000",
                "currency": "USD",
                "close_date": "2022-06-30",
                "status": "active",
                "solutions": ["SOL-34104-EBB"],
                "visible": True,
                "external_reference": "OPP-000123",
            },
            True,
            False,
        )
    ],
}


def referrals(file: str) -> list[dict[str, Any]]:
    content = wire.loads((SAMPLES / file).read_bytes())
    return list(content.get("value") or content.get("items") or [content])


def test_every_sample_has_its_expectation_and_its_source() -> None:
    files = {path.name for path in SAMPLES.glob("*.json")}
    assert files == {*EXPECTED, "flow-template-2019.referral.schema.json"}
    assert set(re.findall(r"`([\w.-]+\.json)`", (SAMPLES / "README.md").read_text(encoding="utf-8"))) == files


@pytest.mark.parametrize("file", EXPECTED)
def test_a_printed_referral_is_read(file: str) -> None:
    found = referrals(file)
    assert len(found) == len(EXPECTED[file])
    for referral, (values, cosell, closed) in zip(found, EXPECTED[file], strict=True):
        record = MAPPING.read_referral(referral)
        assert record.unread == {}
        assert {name: record.values[name] for name in values} == values
        assert record.values["notes"]
        assert record.values["referral_id"] == referral["id"]
        assert record.version == (referral.get("eTag") or "")
        assert is_guid(referral["id"])
        assert (is_cosell(referral), is_closed(referral), is_microsofts(referral)) == (cosell, closed, False)


@pytest.mark.parametrize("file", EXPECTED)
def test_a_printed_referral_makes_an_opportunity_draft(file: str) -> None:
    """Whatever shape `ids`, `team` and `solutions` have in it."""
    for referral in referrals(file):
        changed = parse_instant(referral["updatedDateTime"])
        draft = draft_opportunity(MAPPING, referral, MAPPING.read_referral(referral), Found(), changed, Places("BillingCountry"))
        records = {reference: fields for reference, _, fields in draft.records}
        assert records["opportunity"]["Referral_Identifier__c"] == referral["id"]
        assert records["account"]["Name"] == referral["customerProfile"]["name"]
        people = referral["customerProfile"].get("team") or []
        assert [fields["LastName"] for name, fields in records.items() if name.startswith("contact")] == [one["lastName"] for one in people]
        assert len([name for name in records if name.startswith("solution")]) == len(solutions_of(referral))


def test_a_time_of_seven_digits_is_read() -> None:
    (referral,) = referrals("referral.create.cosell-2019.response.json")
    assert referral["createdDateTime"] == "2019-02-23T02:05:23.2931817Z"
    assert parse_instant(referral["createdDateTime"]).isoformat() == "2019-02-23T02:05:23.293181+00:00"


def nothing_but(schema: dict[str, Any]) -> Any:
    """The emptiest referral a schema allows: null wherever null may stand, empty lists, no more sections than it must."""
    types = schema.get("type")
    if types is None or "null" in types:
        return None
    if types == "object":
        return {name: nothing_but(inner) for name, inner in (schema.get("properties") or {}).items()}
    return {"array": [], "string": "", "boolean": False, "integer": 0, "number": 0}[types]


def test_the_emptiest_referral_of_microsofts_own_schema_is_read() -> None:
    """Microsoft's flow of 2019 says which fields may be null: nearly all."""
    empty = nothing_but(wire.loads((SAMPLES / "flow-template-2019.referral.schema.json").read_bytes()))
    record = MAPPING.read_referral(empty)
    assert set(record.unread) == {"status"}
    assert "is not known" in record.unread["status"]
    assert [value for name, value in record.values.items() if value not in (None, [], False)] == []
