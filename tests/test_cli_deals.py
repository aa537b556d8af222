"""`cosell` on single deals: it shows before it does, and what it shows is what happens."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from cosell.app import main, parser
from shared.mapping_file import SHIPPED
from shared.pairing import opportunity_name, referral_name
from simulator.salesforce import Deal
from tests.deals import CALLBACK, DealWorld


def run(world: DealWorld, *argv: str) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(argv, world.world, out, err)
    return code, out.getvalue() + err.getvalue()


def run_json(world: DealWorld, *argv: str) -> tuple[int, Any]:
    out = io.StringIO()
    code = main([*argv, "--json"], world.world, out, io.StringIO())
    return code, json.loads(out.getvalue())


@pytest.fixture
def agreed() -> tuple[DealWorld, Deal]:
    """A deal that both sides agree about."""
    world = DealWorld()
    deal = world.make_deal(How_can_Microsoft_help__c=None)
    world.settle()
    return world, deal


# -- plan and sync ---------------------------------------------------------------------------------------------------------------------


def test_a_plan_shows_both_directions_and_changes_nothing_anywhere(agreed: tuple[DealWorld, Deal]) -> None:
    world, deal = agreed
    referral = world.referrals()[0]
    world.seller_edits(deal.opportunity, Amount=62_500)
    world.portal_edits(referral["id"], {"details/notes": "They decide in May."})
    world.sim.clock.advance(5)
    position, tables = world.position(), _content(world)

    code, shown = run(world, "plan", deal.opportunity)

    assert code == 1
    assert "to Partner Center: deal value 50000 → 62500, changed in Salesforce" in shown
    assert "to Salesforce: notes updated, changed in Partner Center" in shown
    assert world.mutations(position) == []
    assert _content(world) == tables, "nothing is remembered, owed or recorded"


def test_what_the_plan_shows_is_what_the_sync_sends(agreed: tuple[DealWorld, Deal]) -> None:
    world, deal = agreed
    world.seller_edits(deal.opportunity, Amount=62_500, CloseDate="2027-05-31")
    world.sim.clock.advance(5)
    _, planned = run_json(world, "plan", deal.opportunity)
    position = world.position()
    code, _ = run(world, "sync", deal.opportunity, "--apply")
    sent = [call for call in world.sim.journal.calls(since=position) if call.mutating]
    assert code == 0
    assert [json.loads(call.body) for call in sent] == [planned["sends"][0]["body"]]
    assert run(world, "plan", deal.opportunity)[0] == 0, "then both agree"


def test_a_sync_without_apply_writes_nothing(agreed: tuple[DealWorld, Deal]) -> None:
    world, deal = agreed
    world.seller_edits(deal.opportunity, Amount=62_500)
    world.sim.clock.advance(5)
    position = world.position()
    code, shown = run(world, "sync", referral_name(world.referrals()[0]["id"]))
    assert code == 1
    assert "--apply" in shown
    assert world.mutations(position) == []


def test_a_plan_for_a_deal_without_a_pair_stops_at_the_create(agreed: tuple[DealWorld, Deal]) -> None:
    world, _ = agreed
    deal = world.make_deal("Second deal")
    world.sim.clock.advance(5)
    position = world.position()
    code, document = run_json(world, "plan", deal.opportunity)
    assert (code, document["would"]["kind"], document["more_follows"]) == (1, "created", True)
    assert document["sends"][0]["body"]["name"] == "Second deal"
    assert world.mutations(position) == []


def test_a_closing_in_two_steps_is_planned_up_to_the_first() -> None:
    """An invitation that is won at once is accepted first; what follows depends on Partner Center's answer and is not made up."""
    world = DealWorld()
    referral = world.sim.people.microsoft_invites()
    world.settle()
    opportunity = world.opportunities()[0]["Id"]
    world.seller_edits(opportunity, StageName="Closed Won")
    world.sim.clock.advance(5)
    _, document = run_json(world, "plan", referral["id"])
    values = {one["path"]: one["value"] for one in document["sends"][0]["body"]}
    assert (values["/status"], values["/substatus"]) == ("Active", "Accepted")
    assert len(document["sends"]) == 1
    assert document["more_follows"]


def _content(world: DealWorld) -> dict[str, list[Any]]:
    return {
        name: [(one.partition, one.key, one.row, one.etag) for one in world.tables.list(name)]
        for name in ("links", "owed", "history", "cursors")
    }


# -- status, history, retry ------------------------------------------------------------------------------------------------------------


def test_status_names_what_is_parked_and_why() -> None:
    world = DealWorld()
    deal = world.make_deal(country="Portugal")
    world.settle()
    code, shown = run(world, "status")
    assert code == 1
    assert opportunity_name(deal.opportunity) in shown
    assert "must hold two letters" in shown


def test_a_parked_deal_is_woken_by_retry_and_others_are_not() -> None:
    world = DealWorld()
    first, second = world.make_deal("First", country="Portugal"), world.make_deal("Second", country="Spain")
    world.settle()
    world.sim.salesforce.person_edits("Account", first.account, {"BillingCountry": "PT"})
    world.sim.clock.advance(5)
    code, shown = run(world, "retry", first.opportunity)
    assert (code, shown) == (0, f"{opportunity_name(first.opportunity)}: woken\n")
    world.settle()
    assert [one["name"] for one in world.referrals()] == ["First"]
    assert set(world.parked()) == {opportunity_name(second.opportunity)}
    assert run_json(world, "retry", "--all-parked") == (0, {"woken": [opportunity_name(second.opportunity)]})
    assert run(world, "retry", first.opportunity)[0] == 1, "there is nothing to retry"


def test_history_tells_what_was_overridden(agreed: tuple[DealWorld, Deal]) -> None:
    world, deal = agreed
    world.seller_edits(deal.opportunity, Amount=70_000)
    world.portal_edits(world.referrals()[0]["id"], {"details/dealValue": 80_000})
    world.settle()
    code, shown = run(world, "history", deal.opportunity)
    assert code == 0
    assert "changed on both sides, Salesforce wins" in shown
    assert "overrode deal_value: 80000" in shown
    assert len(run_json(world, "history", deal.opportunity, "--limit", "1")[1]) == 1


# -- link ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def strangers() -> tuple[DealWorld, str, str]:
    """A referral and an opportunity for the same deal that know nothing of each other."""
    world = DealWorld()
    referral = world.sim.people.portal_create_deal("Fabrikam migration", deal_value=40_000, notes="From the portal.")
    deal = world.make_deal("Fabrikam migration", How_can_Microsoft_help__c=None, Amount=45_000, Description=None)
    world.sim.clock.advance(5)
    return world, referral["id"], deal.opportunity


def test_linking_makes_two_records_one_deal_by_the_first_meeting_rules(strangers: tuple[DealWorld, str, str]) -> None:
    world, referral, opportunity = strangers
    position = world.position()
    code, shown = run(world, "link", "--referral", referral, "--opportunity", opportunity)
    assert code == 1
    assert "deal value 40000 → 45000, first meeting, Salesforce wins" in shown
    assert "notes updated, first value" in shown
    assert list(world.world.state.links()) == []

    assert run(world, "link", "--referral", referral, "--opportunity", opportunity, "--apply")[0] == 0
    assert world.mutations(position) == [], "the worker writes, not the command"
    world.settle()
    assert (len(world.referrals()), len(world.opportunities())) == (1, 1)
    there, here = world.referrals()[0], world.opportunity(opportunity)
    assert (there["details"]["dealValue"], here["Description"]) == (45_000, "From the portal.")
    assert (there["externalReferenceId"], here["Referral_Identifier__c"]) == (opportunity, referral)
    assert world.quiet() == []
    assert run(world, "link", "--referral", referral, "--opportunity", opportunity)[0] == 0, "linking again changes nothing"


def test_a_record_of_another_deal_is_not_linked(strangers: tuple[DealWorld, str, str]) -> None:
    world, referral, opportunity = strangers
    run(world, "link", "--referral", referral, "--opportunity", opportunity, "--apply")
    other = world.make_deal("Another").opportunity
    for applied in ([], ["--apply"]):
        code, shown = run(world, "link", "--referral", referral, "--opportunity", other, *applied)
        assert code == 2
        assert "belongs to a deal already" in shown


def test_an_opportunity_that_waits_for_a_mended_field_can_be_linked_instead(strangers: tuple[DealWorld, str, str]) -> None:
    world, referral, opportunity = strangers
    world.sim.salesforce.person_edits("Account", world.opportunity(opportunity)["AccountId"], {"BillingCountry": "Portugal"})
    world.poll()
    world.sim.clock.advance(5)
    [name for name in world.wakes.take() if name == opportunity_name(opportunity)]
    world.world.state.mark(opportunity_name(opportunity))
    run(world, "sync", opportunity, "--apply")
    assert opportunity_name(opportunity) in world.parked()
    assert run(world, "link", "--referral", referral, "--opportunity", opportunity, "--apply")[0] == 0
    world.settle()
    assert world.opportunity(opportunity)["Referral_Identifier__c"] == referral
    assert (len(world.referrals()), len(world.opportunities())) == (1, 1)


def test_linking_says_what_is_in_the_way(strangers: tuple[DealWorld, str, str]) -> None:
    world, referral, opportunity = strangers
    for arguments, words in (
        (("--referral", "not-a-guid", "--opportunity", opportunity), "not the id of a referral"),
        (("--referral", referral, "--opportunity", "001Ws0000000Q1UIAU"), "not the id of an opportunity"),
        (("--referral", "00000000-0000-4000-8000-000000000000", "--opportunity", opportunity), "00000000-0000-4000-8000"),
    ):
        code, shown = run(world, "link", *arguments)
        assert (code, words in shown) == (2, True), shown
    world.seller_edits(opportunity, Sync_With_Partner_Center__c=False)
    assert "turn it on first" in run(world, "link", "--referral", referral, "--opportunity", opportunity)[1]


# -- register --------------------------------------------------------------------------------------------------------------------------


def test_a_registration_is_shown_before_it_changes_hands() -> None:
    world = DealWorld()
    other = "https://other.contoso.example/api/partner-center-to-salesforce"
    assert run(world, "register") == (0, run(world, "register")[1]), "all is registered already"
    position = world.position()
    code, shown = run(world, "register", "--callback-url", other, "--apply")
    assert (code, world.mutations(position)) == (1, []), "an existing registration needs --overwrite"
    assert "--overwrite" in shown
    code, shown = run(world, "register", "--callback-url", other, "--overwrite")
    assert (code, world.mutations(position)) == (1, [])
    assert f"taken over  referral-created, referral-updated, related-referral-created, related-referral-updated (from {CALLBACK})" in shown
    assert run(world, "register", "--callback-url", other, "--overwrite", "--apply")[0] == 0
    registered = world.world.partner_center.registration()
    assert registered is not None
    assert registered["WebhookUrl"] == other


def test_a_validated_registration_includes_the_test_event_and_says_whether_one_arrived() -> None:
    world = DealWorld()
    position = world.position()
    assert "test-created" in run(world, "register", "--validate", "--overwrite")[1]
    assert world.mutations(position) == []
    # Nobody delivers while the command waits, as behind a closed firewall.
    code, shown = run(world, "register", "--validate", "--overwrite", "--apply")
    assert (code, "test event: late" in shown) == (1, True), shown
    assert "test-created" in (world.world.partner_center.registration() or {})["WebhookEvents"]


def test_an_address_that_cannot_receive_events_is_refused() -> None:
    code, shown = run(DealWorld(), "register", "--callback-url", "http://contoso.example/hook")
    assert code == 2
    assert "https://" in shown


# -- every command ---------------------------------------------------------------------------------------------------------------------


def _commands(made: Any, words: tuple[str, ...] = ()) -> Any:
    groups = [action for action in made._actions if hasattr(action, "choices") and isinstance(action.choices, dict)]
    if not groups:
        yield words, made
    for group in groups:
        for name, inner in group.choices.items():
            yield from _commands(inner, (*words, name))


COMMANDS = dict(_commands(parser()))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_that_its_own_parser_takes(words: tuple[str, ...]) -> None:
    examples = [line.strip() for line in COMMANDS[words].epilog.splitlines()[1:]]
    assert examples
    for example in examples:
        given = example.partition(" > ")[0].removeprefix("python -m cosell ").split()
        assert tuple(given[: len(words)]) == words
        parser().parse_args(given)


def test_wrong_usage_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync"]) == 2
    assert "NAME" in capsys.readouterr().err
    assert main(["--help"]) == 0


def test_an_error_is_one_text_and_its_origin_is_shown_on_request() -> None:
    world = DealWorld()
    code, shown = run(world, "plan", "nobody")
    assert code == 2
    assert shown.startswith("cosell: 'nobody' names no record")
    assert "Traceback" not in shown
    assert "Traceback" in run(world, "plan", "nobody", "--debug")[1]


def test_settings_come_from_a_file_and_the_environment_wins(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text(json.dumps({"Values": {"SYNC_MODE": "sideways", "LEASE_SECONDS": "x"}}), encoding="utf-8")
    monkeypatch.setattr("os.environ", {"SYNC_MODE": "shadow"})
    err = io.StringIO()
    assert main(["status", "--settings", str(file)], None, io.StringIO(), err) == 2
    assert "LEASE_SECONDS must be" in err.getvalue()
    assert "SYNC_MODE" not in err.getvalue()


def test_every_command_is_described_in_the_documentation() -> None:
    shown = (SHIPPED.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert [words for words in COMMANDS if f"`{' '.join(words)}" not in shown] == []
