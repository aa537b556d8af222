"""`cosell adopt`: the links that Microsoft's solution made are taken over; nothing is created, nothing is lost."""

from __future__ import annotations

import io
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cosell import environment_variables
from cosell.app import main
from shared.mapping import Mapping
from shared.mapping_file import SHIPPED, read_toml
from shared.pairing import long_id, opportunity_name, referral_name
from tests.deals import DealWorld

UNKNOWN = "11111111-2222-4333-8444-555555555555"
ELSEWHERE = "006Ws0000009ZZZ"


def run(world: DealWorld | None, *argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(["adopt", *argv], world.world if world else None, out, err)
    return code, out.getvalue(), err.getvalue()


def survey(world: DealWorld, *argv: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(world, *argv, "--json")
    return code, json.loads(out)


def linked(world: DealWorld, name: str = "Fabrikam migration", carry: bool = True, refer: bool = True, **fields: Any) -> tuple[str, str]:
    """Two records as Microsoft's solution leaves them: (referral, opportunity)."""
    referral = world.sim.people.portal_create_deal(name, visible=True, deal_value=50_000, notes="They want one platform.")["id"]
    carried = {"Referral_Identifier__c": referral} if carry else {}
    told = {"How_can_Microsoft_help__c": None, "Referral_visible_to_Microsoft_sellers__c": True}
    opportunity = world.make_deal(name, **{**told, **carried, **fields}).opportunity
    if refer:
        world.portal_edits(referral, {"externalReferenceId": opportunity})
    return referral, opportunity


@pytest.fixture
def world() -> DealWorld:
    return DealWorld()


def settled(world: DealWorld) -> None:
    world.sim.clock.advance(5)


def test_both_sides_are_shown_before_anything_is_taken_over(world: DealWorld) -> None:
    referral, opportunity = linked(world, Amount=62_500)
    settled(world)
    position = world.position()

    code, found = survey(world)

    assert code == 1
    assert [(one["referral"], one["opportunity"]) for one in found["pairs"]] == [(referral, opportunity)]
    writes = {(one["to"], one["field"]): one["new"] for one in found["pairs"][0]["writes"]}
    assert writes["Partner Center", "deal_value"] == "62500"
    assert writes["Salesforce", "referral_key"] == referral, "the package's unique key is filled"
    assert ("Partner Center", "notes") not in writes
    assert world.mutations(position) == []
    assert list(world.world.state.links()) == list(world.world.state.all_owed()) == []


def test_taking_over_creates_no_record_and_then_both_agree(world: DealWorld) -> None:
    pairs = dict(linked(world, f"Deal {number}", Amount=50_000 + number) for number in range(3))
    settled(world)
    position = world.position()

    code, found = survey(world, "--apply")

    assert (code, found["taken_over"], found["failed"]) == (0, 3, [])
    assert world.mutations(position) == [], "the worker writes, not the command"
    world.settle()
    assert (len(world.referrals()), len(world.opportunities())) == (3, 3)
    for one in world.referrals():
        here = world.opportunity(pairs[one["id"]])
        assert one["details"]["dealValue"] == here["Amount"]
        assert (one["externalReferenceId"], here["Referral_Identifier__c"]) == (here["Id"], one["id"])
    assert world.quiet() == []
    assert survey(world) == (0, {**survey(world)[1], "pairs": [], "known_already": 3})


def test_what_agrees_is_remembered_at_once_so_that_the_next_edit_is_no_first_meeting(world: DealWorld) -> None:
    """An edit in Partner Center between taking over and the first run is an edit, although Salesforce wins first meetings."""
    referral, opportunity = linked(world)
    settled(world)
    run(world, "--apply")
    world.portal_edits(referral, {"details/dealValue": 99_000})
    world.settle()
    assert world.opportunity(opportunity)["Amount"] == 99_000


def test_an_empty_field_takes_the_others_value_on_either_side(world: DealWorld) -> None:
    _, opportunity = linked(world, Description=None, Amount=None)
    settled(world)
    run(world, "--apply")
    world.settle()
    here = world.opportunity(opportunity)
    assert (here["Description"], here["Amount"]) == ("They want one platform.", 50_000)


@pytest.mark.parametrize(("carry", "refer"), [(True, False), (False, True)], ids=["only the opportunity", "only the referral"])
def test_one_side_that_names_the_other_is_enough(world: DealWorld, carry: bool, refer: bool) -> None:
    referral, opportunity = linked(world, carry=carry, refer=refer)
    settled(world)
    run(world, "--apply")
    world.settle()
    assert (len(world.referrals()), len(world.opportunities())) == (1, 1)
    assert world.referrals()[0]["externalReferenceId"] == opportunity
    assert world.opportunity(opportunity)["Referral_Identifier__c"] == referral


def test_microsofts_answer_is_old_news_and_microsoft_is_not_asked_again(world: DealWorld) -> None:
    referral = world.sim.people.portal_create_deal("Fabrikam migration", help_code="GeneralOrOther", notes="They want one platform.")["id"]
    world.sim.people.microsoft_accepts(referral)
    opportunity = world.make_deal("Fabrikam migration", Referral_Identifier__c=referral).opportunity
    world.portal_edits(referral, {"externalReferenceId": opportunity})
    settled(world)
    run(world, "--apply")
    world.settle()
    assert len(world.referrals(own=False)) == 1
    assert "Microsoft accepted" not in world.opportunity(opportunity)["Audit__c"]
    pair = world.world.state.pair(opportunity_name(opportunity))
    assert pair is not None
    assert pair.microsoft_id == world.referrals(own=False)[0]["id"]


def test_solutions_that_stand_over_there_are_not_ours_to_remove(world: DealWorld) -> None:
    linked(world)
    standing = [one["id"] for one in world.referrals()[0]["details"]["requirements"]["solutions"]]
    settled(world)
    run(world, "--apply")
    world.settle()
    now = {one["id"] for one in world.referrals()[0]["details"]["requirements"]["solutions"]}
    assert set(standing) < now, "Salesforce's solution came, the portal's stayed"


# -- what a person decides -------------------------------------------------------------------------------------------------------------


def test_a_copy_of_an_opportunity_is_told_and_its_original_taken_over(world: DealWorld) -> None:
    referral, opportunity = linked(world)
    copy = world.make_deal("Fabrikam migration", How_can_Microsoft_help__c=None, Referral_Identifier__c=referral).opportunity
    settled(world)
    code, found = survey(world, "--apply")
    assert code == 1
    assert [one["opportunity"] for one in found["pairs"]] == [opportunity]
    assert found["doubled"] == [
        f"{opportunity_name(copy)} and {referral_name(referral)}: the referral is that of {opportunity_name(opportunity)}, this one looks like a copy"
    ]
    assert found["only_in_salesforce"] == []


def test_records_that_contradict_each_other_are_left_to_a_person(world: DealWorld) -> None:
    referral, opportunity = linked(world, refer=False)
    second = world.make_deal("Copy", Referral_Identifier__c=referral, How_can_Microsoft_help__c=None).opportunity
    elsewhere, contradicted = linked(world, "Elsewhere", refer=False)
    world.portal_edits(elsewhere, {"externalReferenceId": ELSEWHERE})
    settled(world)
    code, found = survey(world, "--apply")
    told = "\n".join(found["doubled"])
    assert (code, found["taken_over"]) == (1, 0)
    assert all(opportunity_name(one) in told for one in (opportunity, second, contradicted))
    assert "more than one record claims this deal" in told
    assert f"names another opportunity, {long_id(ELSEWHERE)}" in told


def test_what_is_only_here_or_only_there_is_told_and_left(world: DealWorld) -> None:
    alone = world.make_deal("New deal", How_can_Microsoft_help__c=None).opportunity
    lost = world.make_deal("Lost", How_can_Microsoft_help__c=None, Referral_Identifier__c=UNKNOWN).opportunity
    referral = world.sim.people.portal_create_deal("From the portal")["id"]
    off, opportunity = linked(world, "Opted out")
    world.seller_edits(opportunity, Sync_With_Partner_Center__c=False)
    settled(world)
    position = world.position()
    code, found = survey(world, "--apply")
    assert (code, found["pairs"], world.mutations(position)) == (0, [], [])
    assert set(found["only_in_salesforce"]) == {
        f"{opportunity_name(alone)}: has no referral yet",
        f"{opportunity_name(lost)}: names the referral {UNKNOWN}, which is not visible",
    }
    assert found["only_in_partner_center"] == [f"{referral_name(referral)}: names no opportunity"]
    assert found["left_alone"] == [f"{opportunity_name(opportunity)} and {referral_name(off)}: Sync With Partner Center is off"]
    assert list(world.world.state.links()) == []


def test_an_interrupted_takeover_is_finished_by_the_next(world: DealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    referral, _ = linked(world)
    settled(world)
    with monkeypatch.context() as cut:
        cut.setattr(type(world.world.state), "mark", _cut)
        assert run(world, "--apply")[0] == 2
    assert list(world.world.state.all_owed()) == []
    run(world, "--apply")
    assert set(world.owed()) == {referral_name(referral)}


def _cut(*_: Any) -> None:
    raise RuntimeError("the connection was cut")


# -- environment variables -------------------------------------------------------------------------------------------------------------

VALUES = {
    "msft_activestagename": "Discovery",
    "msft_onholdstagename": "On Hold",
    "msft_customeraccountcountrycode": "Country_Code__c",
    "msft_dealvaluefield": "Partner_Value__c",
    "msft_dealcurrencycodefield": "CurrencyIsoCode",
    "msft_displaycheckmarkinname": "no",
    "msft_synccosellopportunitiesonly": "yes",
}
FORMS = {
    "names and values": VALUES,
    "deployment settings": {"EnvironmentVariables": [{"SchemaName": name, "Value": value} for name, value in VALUES.items()]},
    "web api": {
        "value": [
            {
                "schemaname": name,
                "defaultvalue": "not this",
                "environmentvariabledefinition_environmentvariablevalue": [{"value": value}],
            }
            for name, value in VALUES.items()
        ]
    },
    "bare list": [{"SchemaName": name, "DefaultValue": value, "Value": None} for name, value in VALUES.items()],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_environment_variables_become_an_overlay_that_states_differences_only(tmp_path: Path, form: str) -> None:
    file = tmp_path / "variables.json"
    file.write_text(json.dumps(FORMS[form]), encoding="utf-8")
    code, out, _ = run(None, "--environment-variables", str(file))
    assert code == 0
    assert tomllib.loads(out) == {
        "switches": {
            "active_stage": "Discovery",
            "country_field": "Country_Code__c",
            "deal_value_field": "Partner_Value__c",
            "check_mark_in_name": False,
        }
    }
    overlay = tmp_path / "mine.toml"
    overlay.write_text(out, encoding="utf-8")
    assert Mapping.load(overlay).by_name["deal_value"].salesforce == "Partner_Value__c"


def test_every_variable_of_the_original_has_its_switch() -> None:
    switches = read_toml(SHIPPED)["switches"]
    assert set(environment_variables.SWITCHES) == set(VALUES)
    assert set(environment_variables.SWITCHES.values()) == set(switches) - {"won_stage", "lost_stage"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[switches]", "not JSON"),
        ('{"other": "value"}', "no variable of Microsoft's solution"),
        ('{"msft_dealvaluefield": "Deal Value", "msft_displaycheckmarkinname": "perhaps"}', "neither yes nor no"),
        ('{"msft_activestagename": "Closed Won"}', "the four stages must differ"),
    ],
)
def test_variables_that_cannot_be_translated_are_named(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "variables.json"
    file.write_text(content, encoding="utf-8")
    code, out, err = run(None, "--environment-variables", str(file))
    assert (code, out) == (2, "")
    assert words in err
