"""Taking writes back: what comes back, what is left alone, what no undo can do, and that nothing is lost on the way."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cosell.undoing import want
from shared.mapping import Mapping, Record
from shared.planning import RESTING, Announced, Announcement, Known, Plan, after, plan_pair
from shared.state import State
from shared.undoing import WHY, Undo, Wish, undo_of
from simulator.faults import Fault
from simulator.salesforce import Deal
from tests.deals import DealWorld, load
from tests.interleaving import Interleaved, Untold, Worker
from tests.one_deal import OneDeal
from tests.test_cli_deals import run, run_json

MAPPING = load(None)
SAME = {"title": "Deal", "status": "active", "deal_value": "10", "notes": "same", "external_reference": "006", "visible": False}


# -- values ----------------------------------------------------------------------------------------------------------------------------


def planned(
    wish: Wish, name: str = "deal_value", p: dict[str, Any] | None = None, s: dict[str, Any] | None = None, mapping: Mapping = MAPPING
) -> Plan:
    """The plan for a wish on two records that agree but for what is given."""
    there, here = {**SAME, **(p or {})}, {**SAME, "sync": True, **(s or {})}
    return plan_pair(mapping, Record(there, version="1"), Record(here, version="1", token=""), Known(dict(SAME), wishes={name: wish}))


WISH = Wish("5", "10", "partner_center")


def test_a_field_of_both_sides_is_put_back_in_salesforce_and_is_the_operators_edit() -> None:
    plan = planned(WISH)
    assert [(one.side, one.old, one.new, one.why, one.undo) for one in plan.changes] == [("salesforce", "10", "5", WHY, True)]
    assert plan.unfinished, "the other side follows in the next run"
    sent = replace(plan.known, announced={"salesforce": Announcement("1", "t", {"deal_value": Announced("5", None, True)}, "{}")})
    known = after(sent, ["salesforce"], [])
    assert (known.memory["deal_value"], known.wishes) == ("10", {})
    follows = plan_pair(MAPPING, Record(SAME, version="1"), Record({**SAME, "sync": True, "deal_value": "5"}, version="2"), known)
    assert [(one.side, one.old, one.new, one.why) for one in follows.changes] == [("partner_center", "10", "5", "changed in Salesforce")]


LEFT = [
    ("edited in Salesforce since", {}, {"deal_value": "7"}, "changed in Salesforce since"),
    ("edited in Partner Center since", {"deal_value": "7"}, {}, "changed in Partner Center since"),
    ("put back by hand", {"deal_value": "5"}, {}, "Partner Center holds the value from before already"),
    ("closed on both sides", {"status": "won"}, {"status": "won"}, "the deal is closed on both sides"),
    ("the referral closed, the stage not yet", {"status": "won"}, {}, "the referral is closed and takes no change"),
    ("on hold", {"status": "pending"}, {"status": "pending"}, "on hold, nothing travels to Partner Center"),
]


@pytest.mark.parametrize(("p", "s", "told"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_moved_on_or_cannot_follow_is_left_alone_and_said(p: dict[str, Any], s: dict[str, Any], told: str) -> None:
    plan = planned(WISH, p=p, s=s)
    assert not [one for one in plan.changes if one.undo]
    assert plan.known.wishes == {}, "it is given up for good"
    assert any(note.startswith("not taken back: ") and told in note for note in plan.notes), plan.notes


def test_an_amount_that_follows_products_is_not_put_back() -> None:
    here = Record({**SAME, "sync": True}, locked={"deal_value": "follows the opportunity's products"})
    plan = plan_pair(MAPPING, Record(SAME), here, Known(dict(SAME), wishes={"deal_value": WISH}))
    assert (plan.changes, plan.known.wishes) == ((), {})


def test_a_field_that_travels_one_way_is_put_back_where_it_was_written_and_rests_until_its_source_changes() -> None:
    wish, agreed = Wish("old program", "new program", "salesforce"), {"program": "new program"}
    plan = planned(wish, "program", agreed, agreed)
    assert [(one.side, one.new) for one in plan.changes] == [("salesforce", "old program")]
    known = replace(plan.known, wishes={}, announced={})
    assert known.memory[RESTING] == {"program": "new program"}
    here = Record({**SAME, "sync": True, "program": "old program"})
    resting = plan_pair(MAPPING, Record({**SAME, **agreed}), here, known)
    assert resting.changes == ()
    assert "rests since a write was taken back" in str(resting)
    moved = plan_pair(MAPPING, Record({**SAME, "program": "newer program"}), here, known)
    assert [(one.side, one.new) for one in moved.changes] == [("salesforce", "newer program")]


def test_a_field_that_travels_to_partner_center_only_is_put_back_there() -> None:
    mapping = load({"fields": {"deal_value": {"direction": "to_partner_center"}}})
    plan = planned(WISH, mapping=mapping)
    assert [(one.side, one.new) for one in plan.changes] == [("partner_center", "5")]
    resting = plan_pair(mapping, Record({**SAME, "deal_value": "5"}), Record({**SAME, "sync": True}), replace(plan.known, wishes={}))
    assert resting.changes == ()


def test_an_announced_undo_is_repeated_to_the_letter_and_one_that_was_overtaken_is_judged_anew() -> None:
    announcement = Announcement("1", "t", {"deal_value": Announced("5", None, True)}, "{}")
    known = Known(dict(SAME), {"salesforce": announcement}, frozenset(), {"deal_value": WISH})
    repeated = plan_pair(MAPPING, Record(SAME), Record({**SAME, "sync": True}, version="1", token=""), known)
    assert (repeated.repeats, repeated.changes, repeated.known.wishes) == (("salesforce",), (), {"deal_value": WISH})
    overtaken = plan_pair(MAPPING, Record(SAME), Record({**SAME, "sync": True}, version="2", token=""), known)
    assert [one.undo for one in overtaken.changes] == [True]
    landed = plan_pair(MAPPING, Record(SAME), Record({**SAME, "sync": True, "deal_value": "5"}, version="2", token="t"), known)
    assert (landed.known.wishes, landed.known.memory["deal_value"]) == ({}, "10")
    assert [(one.side, one.undo) for one in landed.changes] == [("partner_center", False)]


def entry(*changes: tuple[str, str, Any, Any], at: str = "2026-11-02T09:00:00.000Z") -> dict[str, Any]:
    listed = [{"side": side, "field": name, "old": old, "new": new} for side, name, old, new in changes]
    return {"at": at, "kind": "Salesforce to Partner Center", "text": "", "details": {"changes": listed}}


def test_several_writes_of_a_field_go_back_to_before_the_oldest() -> None:
    newest, oldest = entry(("salesforce", "deal_value", "8", "9")), entry(("partner_center", "deal_value", "7", "8"))
    assert undo_of(MAPPING, [newest, oldest], "r", "o") == Undo({"deal_value": Wish("7", "9", "salesforce")})


CANNOT = [
    (entry(("partner_center", "status", "pending", "active")), "an accepted invitation cannot be handed back"),
    (entry(("partner_center", "status", "active", "won")), "a closed deal stays closed"),
    (entry(("salesforce", "status", "active", "lost")), "a closed deal stays closed"),
    (entry(("partner_center", "visible", False, True)), "once given it cannot be withdrawn"),
    (entry(("partner_center", "solutions", ["A"], {"list": ["A", "B"], "ours": ["B"]})), "add or remove the row in Salesforce"),
    (entry(("salesforce", "sync", True, False)), "turn Sync With Partner Center on again"),
    (entry(("salesforce", "microsoft_answer", None, "Microsoft accepted")), "told in the audit text"),
    (entry(("salesforce", "referral_id", None, "78e51061")), "which records are one deal"),
    (entry(("partner_center", "deal_value", None, "9")), "was empty before"),
    (entry(("partner_center", "retired", "1", "2")), "no such field any more"),
    (entry(("partner_center", "notes", "call [erased]", "2")), "erased from history"),
    (
        {"at": "T", "kind": "create", "text": "Create Co-sell Referral: creating the referral", "details": {"sent": {}, "attempt": 1}},
        "a record is never deleted; close the referral R or the opportunity O by hand",
    ),
]


@pytest.mark.parametrize(("write", "told"), CANNOT, ids=[re.sub(r"\W+", " ", told) for _, told in CANNOT])
def test_what_no_undo_can_do_is_said_plainly(write: dict[str, Any], told: str) -> None:
    undo = undo_of(MAPPING, [write], "R", "O")
    assert undo.wishes == {}
    assert len(undo.refusals) == 1
    assert told in undo.refusals[0]


def test_notes_that_were_empty_before_are_emptied_again() -> None:
    assert undo_of(MAPPING, [entry(("salesforce", "notes", None, "x"))], "", "").wishes == {"notes": Wish(None, "x", "salesforce")}


# -- whole flows -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def deal() -> OneDeal:
    return OneDeal.shared(How_can_Microsoft_help__c=None)


def values(deal: OneDeal) -> tuple[Any, Any]:
    return deal.here["Amount"], deal.there["details"]["dealValue"]


def undone(deal: OneDeal, *argv: str) -> str:
    deal.w.sim.clock.advance(5)
    _, shown = run(deal.w, "undo", deal.id, *argv, "--apply")
    deal.w.settle()
    return shown


def test_the_last_write_comes_back_on_both_sides_and_then_it_is_quiet(deal: OneDeal) -> None:
    deal.seller(Amount=62_500)
    position = deal.w.position()
    shown = undone(deal)
    assert "would take back: deal value 62500 → 50000" in shown
    assert values(deal) == (50_000, 50_000)
    assert deal.audit[0].endswith(f"deal value 62500 → 50000, {WHY}")
    writes = deal.w.mutations(position)
    assert len(writes) == 2, writes
    assert not deal.w.quiet()
    # Both at the simulated clock's one instant, so in either order.
    newest = {one["kind"] for one in list(deal.w.world.state.history(f"sf-{deal.id}"))[:2]}
    assert newest == {"Salesforce to Partner Center", "undo, Partner Center to Salesforce"}


def test_an_undo_is_undone(deal: OneDeal) -> None:
    deal.seller(Amount=62_500)
    undone(deal)
    undone(deal)
    assert values(deal) == (62_500, 62_500)
    assert not deal.w.quiet()


def test_the_loser_of_a_conflict_comes_back(deal: OneDeal) -> None:
    deal.w.seller_edits(deal.id, Amount=70_000)
    deal.portal(details__dealValue=80_000)
    assert values(deal) == (70_000, 70_000)
    undone(deal)
    assert values(deal) == (80_000, 80_000)
    assert not deal.w.quiet()


def test_one_write_is_named_by_its_time_and_the_rest_stays(deal: OneDeal) -> None:
    deal.seller(Amount=62_500).seller(CloseDate="2027-05-31")
    entries = run_json(deal.w, "history", deal.id)[1]
    (at,) = [one["at"] for one in entries if "deal value 50000 → 62500" in one["text"]][:1]
    undone(deal, "--entry", at)
    assert (values(deal), deal.here["CloseDate"]) == ((50_000, 50_000), "2027-05-31")
    code, shown = run(deal.w, "undo", deal.id, "--entry", "2026-01-01T00:00:00.000Z")
    assert (code, "is not in its history" in shown) == (2, True)


def test_all_writes_since_a_time_come_back_to_what_stood_then(deal: OneDeal) -> None:
    deal.w.sim.clock.advance(3600)
    since = deal.w.clock.now().isoformat()
    deal.seller(Amount=60_000, Description="first").seller(Amount=70_000)
    deal.portal(details__dealValue=80_000)
    before = deal.there["details"]["notes"]
    undone(deal, "--since", since.replace("+00:00", "Z"))
    assert values(deal) == (50_000, 50_000)
    assert deal.there["details"]["notes"] != before
    assert not deal.w.quiet()


def test_without_apply_nothing_is_remembered_or_written(deal: OneDeal) -> None:
    deal.seller(Amount=62_500)
    deal.w.sim.clock.advance(5)
    pair, position = deal.w.world.state.pair(f"sf-{deal.id}"), deal.w.position()
    code, shown = run(deal.w, "undo", deal.id)
    assert (code, "--apply" in shown) == (1, True)
    assert deal.w.world.state.pair(f"sf-{deal.id}") == pair
    assert deal.w.mutations(position) == []
    assert values(deal) == (62_500, 62_500)


@pytest.mark.parametrize("hand", ["seller", "portal"])
def test_whoever_edited_since_is_left_alone(deal: OneDeal, hand: str) -> None:
    deal.seller(Amount=62_500)
    (at,) = [one["at"] for one in run_json(deal.w, "history", deal.id)[1] if "50000 → 62500" in one["text"]]
    if hand == "seller":
        deal.seller(Amount=99_000)
    else:
        deal.portal(details__dealValue=99_000)
    shown = undone(deal, "--entry", at)
    assert "since, and left alone" in shown
    assert values(deal) == (99_000, 99_000)
    assert not deal.w.quiet()


def test_an_undo_that_the_vendor_refuses_is_told_and_keeps_nobody_waiting(deal: OneDeal) -> None:
    deal.seller(Amount=62_500)
    deal.w.sim.faults.add(Fault(host="salesforce", method="PATCH", status=400))
    undone(deal)
    assert "not taken back: Salesforce refused the change: " in deal.explained
    assert (values(deal), deal.parked) == ((62_500, 62_500), "")
    assert not deal.w.quiet()


def test_a_parked_deal_takes_an_undo() -> None:
    deal = OneDeal.shared(How_can_Microsoft_help__c=None).seller(Amount=62_500)
    deal.w.sim.faults.add(Fault(host="partner_center", method="PATCH", status=400))
    deal.seller(Description="x")
    assert "refused the change" in deal.parked
    undone(deal, "--since", "2026-11-01", "--field", "deal_value")
    assert values(deal) == (50_000, 50_000)


def test_a_wish_does_not_come_true_after_synchronization_was_off(deal: OneDeal) -> None:
    deal.seller(Amount=62_500)
    deal.w.seller_edits(deal.id, Sync_With_Partner_Center__c=False)
    undone(deal)
    deal.seller(Sync_With_Partner_Center__c=True)
    assert values(deal) == (62_500, 62_500)


def test_in_shadow_mode_nothing_is_taken_back_and_no_wish_is_left_for_later(deal: OneDeal) -> None:
    deal.seller(Amount=62_500)
    live = deal.w.world
    deal.w.world = replace(live, settings=replace(live.settings, sync_mode="shadow"))
    code, shown = run(deal.w, "undo", deal.id, "--apply")
    assert (code, "SYNC_MODE is shadow" in shown) == (2, True)
    pair = live.state.pair(f"sf-{deal.id}")
    assert pair is not None
    assert pair.known.wishes == {}


def test_what_cannot_be_undone_names_the_records(deal: OneDeal) -> None:
    code, shown = run(deal.w, "undo", deal.id, "--since", "2026-11-01")
    assert code == 1
    assert f"close the referral {deal.there['id']} or the opportunity {deal.id} by hand" in shown


def test_a_deal_without_writes_and_wrong_words_are_told(deal: OneDeal) -> None:
    for argv, told in (
        (["--all"], "--all needs a period"),
        ([], "give a NAME"),
        ([deal.id, "--all", "--hour"], "leave NAME"),
        ([deal.id, "--since", "yesterday"], "is not a time"),
        ([deal.id, "--until", "2026-11-02"], "--until goes with"),
        ([deal.id, "--field", "colour"], "is no field of the mapping"),
        (["006Ws0000000Q9UIAU"], "belongs to no deal"),
    ):
        code, shown = run(deal.w, "undo", *argv)
        assert (code, told in shown) == (2, True), shown
    deal.w.sim.clock.advance(7200)
    assert run(deal.w, "undo", deal.id, "--hour")[0] == 0, "nothing was written then"


# -- every deal of a period ------------------------------------------------------------------------------------------------------------


def test_a_bad_hour_is_taken_back_in_every_deal_and_no_later_write_with_it() -> None:
    w = DealWorld()
    deals = [OneDeal(w, w.make_deal(f"Deal {number}", customer=f"Customer {number}").opportunity) for number in range(3)]
    w.settle()
    w.sim.clock.advance(7200)
    for deal in deals:
        w.seller_edits(deal.id, Amount=1, CloseDate="2027-05-31")
    w.settle()
    code, shown = run(w, "undo", "--all", "--hour", "--field", "deal_value")
    assert (code, "3 fields of 3 deals would be taken back" in shown) == (1, True), shown
    assert [values(deal) for deal in deals] == [(1, 1)] * 3
    (again,) = re.findall(r"python -m cosell (.*)", shown)
    w.sim.clock.advance(60)
    deals[0].seller(Amount=77)
    code, told = run_json(w, *again.split())
    assert (len(told["deals"]), told["fields"]) == (3, 3)
    w.settle()
    assert [values(deal) for deal in deals] == [(77, 77), (50_000, 50_000), (50_000, 50_000)]
    assert {deal.here["CloseDate"] for deal in deals} == {"2027-05-31"}
    assert not w.quiet()


def test_the_scan_holds_one_deal_at_a_time(deal: OneDeal) -> None:
    found = deal.w.world.state.history_of_all(deal.w.clock.now() - timedelta(days=1), deal.w.clock.now())
    assert iter(found) is found, "a generator"
    for _, entries in found:
        assert [one["at"] for one in entries] == sorted((one["at"] for one in entries), reverse=True)


# -- nothing is lost on the way --------------------------------------------------------------------------------------------------------


class Stage:
    """A deal whose last write is wanted back, in a world where workers go call by call."""

    def __init__(self) -> None:
        self.w = Interleaved()
        made: Deal = self.w.make_deal(How_can_Microsoft_help__c=None)
        self.w.settle()
        self.w.sim.clock.advance(3600)
        self.deal = OneDeal(self.w, made.opportunity).seller(Amount=62_500)
        self.w.sim.clock.advance(3600)
        self.name = f"sf-{self.deal.id}"
        pair = self.w.world.state.pair(self.name)
        assert pair is not None
        writes = [one for one in self.w.world.state.history(self.name) if (one["details"] or {}).get("changes")][:1]
        want(self.w.world, self.name, undo_of(self.w.mapping, writes, pair.referral_id, pair.opportunity_id))

    def worker(self, steps: int) -> Worker:
        """A worker that has made so many calls."""
        worker = self.w.worker(self.name)
        for _ in range(steps):
            if worker.about_to is None:
                raise Untold("the worker has ended")
            worker.step()
        return worker

    def overridden(self) -> set[str]:
        details = [one["details"] or {} for one in self.w.world.state.history(self.name)]
        return {str(value) for one in details for value in (one.get("overrides") or {}).values()}


def calls() -> int:
    """Calls of one undisturbed undo."""
    stage = Stage()
    return len(stage.worker(0).finish().done)


def test_a_worker_that_dies_before_any_call_loses_nothing() -> None:
    for step in range(calls()):
        stage = Stage()
        position = stage.w.position()
        stage.worker(step).kill()
        stage.w.sim.clock.advance(120)
        stage.w.world.state.mark(stage.name)
        stage.w.settle()
        assert values(stage.deal) == (50_000, 50_000), step
        pair = stage.w.world.state.pair(stage.name)
        assert pair is not None
        assert (dict(pair.known.wishes), dict(pair.known.announced)) == ({}, {})
        sent = [one for one in stage.w.mutations(position) if "PATCH" in one]
        assert len(sent) == 2, f"killed before call {step}: {sent}"
        assert not stage.w.quiet(), step


@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "dies"])
@pytest.mark.parametrize("hand", ["seller", "portal"])
def test_an_edit_at_any_moment_of_an_undo_is_not_lost(hand: str, killed: bool) -> None:
    for step in range(calls()):
        stage = Stage()
        worker = stage.worker(step)
        if hand == "seller":
            stage.w.seller_edits(stage.deal.id, Amount=99_000)
        else:
            stage.w.portal_edits(stage.deal.there["id"], {"details/dealValue": 99_000})
        if killed:
            worker.kill()
        else:
            worker.finish()
        stage.w.sim.clock.advance(120)
        stage.w.world.state.mark(stage.name)
        stage.w.settle()
        here, there = values(stage.deal)
        assert here == there, step
        if here != 99_000:
            # Concurrent with the undo, which is an edit in Salesforce: its winner stands, and history holds the other.
            assert (hand, here) == ("portal", 50_000), step
            assert "99000" in stage.overridden(), step
        assert not stage.w.quiet(), step


def test_lost_answers_lose_no_undo() -> None:
    for fault in ({"cut": "after"}, {"cut": "before"}, {"status": 503}, {"status": 429, "retry_after": 3}):
        for host in ("salesforce", "partner_center"):
            stage = Stage()
            stage.w.sim.faults.add(Fault(host=host, method="PATCH", **fault))  # type: ignore[arg-type]
            stage.worker(0).finish()
            stage.w.sim.faults.clear()
            stage.w.settle(rounds=20)
            assert values(stage.deal) == (50_000, 50_000), (fault, host)
            assert not stage.w.quiet()


def test_a_wish_whose_mark_was_lost_is_found_by_the_full_sweep() -> None:
    stage = Stage()
    owed = stage.w.world.state.owed(stage.name)
    assert owed is not None
    stage.w.world.state.clear(owed)
    stage.w.round(full=True)
    stage.w.settle()
    assert values(stage.deal) == (50_000, 50_000)


def test_a_write_whose_worker_died_before_history_had_it_can_be_taken_back() -> None:
    w = Interleaved()
    deal = OneDeal(w, w.make_deal(How_can_Microsoft_help__c=None).opportunity)
    w.settle()
    w.sim.clock.advance(3600)
    w.seller_edits(deal.id, Amount=62_500)
    w.world.state.mark(f"sf-{deal.id}")
    w.worker(f"sf-{deal.id}").until("insert history").kill()
    w.sim.clock.advance(120)
    w.settle()
    undone(deal)
    assert values(deal) == (50_000, 50_000)


def test_a_wish_survives_storage(deal: OneDeal) -> None:
    state: State = deal.w.world.state
    want(deal.w.world, f"sf-{deal.id}", Undo({"notes": Wish(None, "é", "salesforce")}))
    pair = state.pair(f"sf-{deal.id}")
    assert pair is not None
    assert pair.known.wishes == {"notes": Wish(None, "é", "salesforce")}
