"""The brakes: a mass of writes is held before it rewrites every deal, waits without a call, and loses nothing once it is let go."""

from __future__ import annotations

import io
import json
import logging
import random
from dataclasses import replace
from typing import Any

import pytest

from cosell.app import main
from shared import polls, reconciling
from shared.brakes import FEW, Brakes
from shared.flows import synchronize
from shared.pairing import opportunity_name
from shared.planning import Change, Known, Plan, held_back
from shared.reporting import health, status
from shared.state import HELD, State
from shared.tables import MemoryTables
from simulator.faults import Fault
from tests.client_doubles import SteppedClock, settings
from tests.deals import DealWorld, load
from tests.one_deal import OneDeal

THERE, HERE = "to-partner-center", "to-salesforce"


def limited(limit: int = 3, **options: Any) -> DealWorld:
    return DealWorld(settings={"BRAKE_WRITES_PER_HOUR": str(limit), "BRAKE_SHARE_PERCENT": "0"}, **options)


def agreed(number: int, limit: int = 3, **options: Any) -> tuple[DealWorld, list[OneDeal]]:
    """So many deals in agreement, their creation more than an hour ago."""
    w = DealWorld(settings={"BRAKE_WRITES_PER_HOUR": "0", "PARTNER_CENTER_CALLS_PER_MINUTE": "100000"}, **options)
    deals = [OneDeal(w, w.make_deal(f"Deal {n}", customer=f"Customer {n}").opportunity) for n in range(number)]
    w.settle()
    w.sim.clock.advance(7200)
    switch(w, limit)
    return w, deals


def switch(w: DealWorld, limit: int, share: float = 0) -> None:
    """The app restarts with another limit."""
    w.settings = replace(w.settings, brake_writes_per_hour=limit, brake_share_percent=share)
    w.world = w.new_worker()


def edit_all(w: DealWorld, deals: list[OneDeal], **fields: Any) -> None:
    for deal in deals:
        w.seller_edits(deal.id, **fields)


def rounds(w: DealWorld, number: int = 4) -> None:
    for _ in range(number):
        w.sim.clock.advance(65)
        w.round()


def rest(w: DealWorld) -> None:
    """Rounds until nothing is owed but what the brake holds."""
    for _ in range(20):
        rounds(w, 1)
        if all(one.held and one.due == HELD for one in w.world.state.all_owed()) and not w.wakes.queued:
            return
    raise AssertionError(f"still owed: {w.owed()}")


def waiting(w: DealWorld) -> set[str]:
    return {one.name for one in w.world.state.all_owed() if one.held}


def patches(w: DealWorld, since: int, host: str = "partner_center") -> int:
    return sum(call.startswith(host) for call in w.mutations(since))


def cosell(w: DealWorld, *arguments: str) -> tuple[int, Any]:
    out = io.StringIO()
    code = main([*arguments, "--json"], w.world, out, io.StringIO())
    return code, json.loads(out.getvalue())


# -- counting --------------------------------------------------------------------------------------------------------------------------


def brakes(tables: MemoryTables, clock: SteppedClock, limit: int, share: float = 0) -> Brakes:
    return Brakes(settings(brake_writes_per_hour=limit, brake_share_percent=share), State(tables, clock), clock)


def test_one_instance_is_held_at_exactly_the_limit_and_the_directions_do_not_count_together() -> None:
    for limit in (1, 3, 49, 500, 777):
        one = brakes(MemoryTables(), SteppedClock(), limit)
        assert [one.admits("salesforce") for _ in range(limit + 5)] == [True] * limit + [False] * 5
        assert one.admits("partner_center")


def test_several_instances_overshoot_by_a_few_writes_each_and_no_more() -> None:
    tables, clock, chance = MemoryTables(), SteppedClock(), random.Random(7)
    instances = [brakes(tables, clock, 500) for _ in range(6)]
    admitted = sum(chance.choice(instances).admits("salesforce") for _ in range(2_000))
    assert 500 <= admitted < 500 + len(instances) * FEW
    assert not any(one.admits("salesforce") for one in instances)


class Counted(MemoryTables):
    operations = 0

    def get(self, *args: Any) -> Any:
        self.operations += 1
        return super().get(*args)

    def replace(self, *args: Any) -> str:
        self.operations += 1
        return super().replace(*args)


def test_a_write_in_a_burst_costs_a_fraction_of_a_storage_call() -> None:
    tables = Counted()
    one = brakes(tables, SteppedClock(), 5_000)
    for _ in range(1_000):
        assert one.admits("salesforce")
    assert tables.operations < 300


def test_an_hour_is_an_hour_wherever_it_begins() -> None:
    tables, clock = MemoryTables(), SteppedClock()
    one = brakes(tables, clock, 10)
    for minutes in range(0, 600, 7):  # nine within any hour
        clock.elapsed = minutes * 60.0
        assert one.admits("salesforce"), minutes
    clock.advance(60)
    burst = [one.admits("salesforce") for _ in range(10)]
    assert burst.count(True) <= 2


def test_a_share_of_the_pairs_counts_where_it_is_more() -> None:
    tables, clock = MemoryTables(), SteppedClock()
    State(tables, clock).succeeded("certificate", {"in_agreement": 900, "in_flight": 60, "parked": 40, "only_in_salesforce": 5_000})
    assert brakes(tables, clock, 20, share=5).limit == 50
    assert brakes(tables, clock, 80, share=5).limit == 80


@pytest.mark.parametrize("off", [{"brake_writes_per_hour": 0}, {"sync_mode": "shadow", "brake_writes_per_hour": 1}])
def test_a_brake_that_is_off_counts_nothing(off: dict[str, Any]) -> None:
    w = DealWorld()
    w.settings = replace(w.settings, **off)
    w.world = w.new_worker()
    for number in range(3):
        w.make_deal(f"Deal {number}", customer=f"Customer {number}")
    rounds(w)
    assert not waiting(w)
    assert not list(w.tables.list("cursors", "brakes"))


# -- what is held ----------------------------------------------------------------------------------------------------------------------


def test_a_mass_update_is_held_after_the_limit_said_once_and_the_other_direction_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    w, deals = agreed(8)
    before = w.position()
    edit_all(w, deals, Amount=61_000)
    with caplog.at_level(logging.ERROR, "cosell"):
        rounds(w)
    assert patches(w, before) == 3
    assert len(waiting(w)) == 5
    assert not w.parked()
    assert [one.getMessage()[:43] for one in caplog.records] == ["the brake holds changes to-partner-center: "]
    told = status(w.world)
    assert told["brakes"][THERE] == {"held_since": told["brakes"][THERE]["held_since"], "writes": 4, "limit": 3, "waiting": 5}
    assert told["brakes"][THERE]["held_since"]
    assert told["brakes"][HERE]["held_since"] is None
    assert (told["owed"]["count"], told["owed"]["retrying"]) == (0, [])
    assert all(health(w.world).values()), "the app does what it was told to: nothing is to be restarted"
    for deal in deals[:3]:
        w.portal_edits(deal.there["id"], {"details/notes": "From the portal"})
    rounds(w)
    assert [deal.here["Description"] for deal in deals[:3]] == ["From the portal"] * 3


def test_deals_that_are_held_cost_no_call_while_nobody_marks_them() -> None:
    w, deals = agreed(8)
    edit_all(w, deals, Amount=61_000)
    rounds(w, 6)
    before = w.position()
    for _ in range(30):
        w.sim.clock.advance(60)
        polls.resume_owed_work(w.world)
        w.work()
    assert w.position() == before


def test_a_deal_that_is_held_in_one_direction_takes_what_comes_from_the_other() -> None:
    w, deals = agreed(2, limit=1)
    edit_all(w, deals, Amount=61_000)
    rounds(w)
    (name,) = waiting(w)
    deal = next(one for one in deals if opportunity_name(one.id) == name or f"pc-{one.there['id']}" == name)
    w.portal_edits(deal.there["id"], {"details/notes": "From the portal"})
    rounds(w)
    assert deal.here["Description"] == "From the portal"
    assert deal.there["details"]["dealValue"] == 50_000
    assert waiting(w) == {name}
    assert "deal value: held by the brake to-partner-center until `cosell resume`" in deal.explained


def test_creates_are_held_too_and_made_once_after_resume() -> None:
    w = limited(2)
    for number in range(4):
        w.make_deal(f"Deal {number}", customer=f"Customer {number}", How_can_Microsoft_help__c=None)
    rest(w)
    assert len(w.referrals()) == 2
    assert len(waiting(w)) == 2
    assert cosell(w, "resume", "--apply")[0] == 0
    w.settle()
    assert len(w.referrals()) == 4
    assert not w.quiet()


def test_while_microsofts_referral_waits_the_two_records_of_the_deal_go_on() -> None:
    w = limited(1)
    deal = OneDeal(w, w.make_deal().opportunity)
    rest(w)
    assert deal.kind != "co-sell", "one create is admitted, Microsoft's is one too many"
    assert deal.here["Referral_Identifier__c"] == deal.there["id"]
    assert len(waiting(w)) == 1
    cosell(w, "resume", "--apply")
    w.settle()
    assert deal.kind == "co-sell"


def test_an_opportunity_and_a_lead_from_partner_center_are_held_as_any_write() -> None:
    for overlay in (None, {"switches": {"cosell_opportunities_only": False}}):
        w = limited(1, overlay=overlay)
        for number in range(3):
            w.sim.people.portal_create_deal(f"Deal {number}", customer=f"Customer {number}")
            w.sim.people.microsoft_invites(name=f"Invitation {number}", customer=f"Guest {number}")
        rest(w)
        held = waiting(w)
        made = len(w.opportunities()) + len(w.sim.salesforce.records("Lead"))
        assert (made, len(held)) == (1, 5)
        cosell(w, "resume", "--apply")
        w.settle()
        assert len(w.opportunities()) + len(w.sim.salesforce.records("Lead")) == 6


def test_an_answer_that_a_lead_gives_is_held_as_any_write() -> None:
    w = DealWorld(settings={"BRAKE_WRITES_PER_HOUR": "0"}, overlay={"switches": {"cosell_opportunities_only": False}})
    referrals = [w.sim.people.microsoft_invites(f"Invitation {n}", customer=f"Guest {n}", shared=False)["id"] for n in range(3)]
    w.settle()
    w.sim.clock.advance(3600)
    switch(w, 1)
    for lead in w.sim.salesforce.records("Lead"):
        w.sim.salesforce.person_edits("Lead", lead["Id"], {"Status": w.mapping.leads.closed_status})
    rest(w)
    assert [w.sim.partner_center.records[one]["substatus"] for one in referrals].count("Declined") == 1
    assert len(waiting(w)) == 2
    cosell(w, "resume", "--apply")
    w.settle()
    assert [w.sim.partner_center.records[one]["substatus"] for one in referrals] == ["Declined"] * 3


def test_a_create_that_was_turned_away_at_the_gate_counts_once_it_is_made() -> None:
    w = limited(2)
    w.sim.faults.add(Fault(host="partner_center", method="POST", status=429, count=5))
    for number in range(2):
        w.make_deal(f"Deal {number}", customer=f"Customer {number}", How_can_Microsoft_help__c=None)
    w.settle(rounds=20)
    assert len(w.referrals()) == 2


def test_an_announced_write_is_repeated_though_its_direction_is_held() -> None:
    w, deals = agreed(3, limit=1)
    w.sim.faults.add(Fault(host="partner_center", method="PATCH", cut="before"))
    edit_all(w, deals, Amount=61_000)
    before = w.position()
    rounds(w, 6)
    assert patches(w, before) == 2, "the one that was admitted, sent twice"
    assert [deal.there["details"]["dealValue"] for deal in deals].count(61_000) == 1
    assert len(waiting(w)) == 2


def test_turning_sync_off_for_want_of_solutions_is_not_forgotten_while_held() -> None:
    w, deals = agreed(2, limit=1)
    for deal in deals:
        for row in deal.children("Microsoft_Solutions__c"):
            w.sim.salesforce.person_deletes("Microsoft_Solutions__c", row["Id"])
    rest(w)
    assert [deal.here["Sync_With_Partner_Center__c"] for deal in deals].count(True) == 1
    cosell(w, "resume", "--apply")
    w.settle()
    assert [deal.here["Sync_With_Partner_Center__c"] for deal in deals] == [False, False]


def test_an_undo_passes_the_brake() -> None:
    undo = Change("salesforce", "notes", "notes", "new", "old", "taken back", undo=True)
    change = Change("salesforce", "deal_value", "deal value", 1, 2, "changed")
    assert held_back(Plan(Known(), (undo, change)), "salesforce", "held").changes == (undo,)


# -- a wrong mapping -------------------------------------------------------------------------------------------------------------------

WRONG = {"fields": {"notes": {"salesforce": "NextStep"}}}


def test_a_wrong_mapping_found_by_the_full_sweep_rewrites_nothing_and_costs_no_call_by_deal() -> None:
    w, deals = agreed(20, limit=5)
    for deal in deals:
        w.seller_edits(deal.id, NextStep="Call back")
    rest(w)
    w.sim.clock.advance(7200)
    rest(w)
    w.mapping = load(WRONG)
    w.world = w.new_worker()
    before = w.position()
    reconciling.reconcile(w.world)
    w.work()
    rounds(w)
    assert w.mutations(before) == []
    assert len(w.sim.journal.calls(since=before)) < 30, "no call by deal"
    assert len(waiting(w)) == 20
    code, told = cosell(w, "resume", "--direction", THERE)
    assert code == 1
    assert told[THERE]["waiting"] == 20
    assert [one["sends"][0]["body"] for one in told[THERE]["examples"]] == [
        [{"op": "replace", "path": "/details/notes", "value": "Call back"}]
    ] * 3
    # Mended: the sweep finds that nothing waits any more.
    w.mapping = load(None)
    w.world = w.new_worker()
    reconciling.reconcile(w.world)
    w.work()
    assert (waiting(w), w.mutations(before)) == (set(), [])


def test_a_wrong_mapping_met_deal_by_deal_stops_at_the_limit_of_two_thousand() -> None:
    """As many links as that, the records of a few: whichever deals come first are rewritten, and no more than the limit."""
    w, deals = agreed(16, limit=5)
    w.world.state.succeeded("certificate", {"in_agreement": 2_000})
    switch(w, 5, share=0.5)  # ten of two thousand
    w.mapping = load(WRONG)
    w.world = w.new_worker()
    before = w.position()
    edit_all(w, deals, NextStep="Call back")
    rounds(w, 6)
    assert patches(w, before) == 10
    assert len(waiting(w)) == 6


# -- resume ----------------------------------------------------------------------------------------------------------------------------


def test_resume_admits_those_that_waited_and_the_usual_limit_and_no_more() -> None:
    w, deals = agreed(12)
    edit_all(w, deals[:8], Amount=61_000)
    rest(w)
    before = w.position()
    code, told = cosell(w, "resume")
    assert (code, told[THERE]["waiting"], patches(w, before)) == (1, 5, 0)
    assert cosell(w, "resume", "--apply")[1][THERE]["released"] == 5
    edit_all(w, deals[8:], Amount=62_000)
    rest(w)
    assert patches(w, before) == 5 + 3
    assert len(waiting(w)) == 1
    assert {deal.there["details"]["dealValue"] for deal in deals[:8]} == {61_000}
    assert cosell(w, "resume", "--apply")[1][THERE]["released"] == 1
    w.settle()
    assert {deal.there["details"]["dealValue"] for deal in deals[8:]} == {62_000}
    assert cosell(w, "resume") == (0, {})
    assert not w.quiet()


def test_one_direction_is_resumed_alone() -> None:
    w, deals = agreed(3, limit=1)
    edit_all(w, deals, Amount=61_000)
    for deal in deals:
        w.portal_edits(deal.there["id"], {"details/notes": "From the portal"})
    rest(w)
    assert cosell(w, "resume", "--direction", HERE, "--apply")[0] == 0
    rest(w)
    assert {deal.here["Description"] for deal in deals} == {"From the portal"}
    assert [deal.there["details"]["dealValue"] for deal in deals].count(50_000) == 2
    assert status(w.world)["brakes"][THERE]["waiting"] == 2


def test_a_brake_that_is_turned_off_lets_go_what_it_held() -> None:
    w, deals = agreed(4, limit=1)
    edit_all(w, deals, Amount=61_000)
    rest(w)
    switch(w, 0)
    w.settle()
    assert {deal.there["details"]["dealValue"] for deal in deals} == {61_000}


def test_a_deal_that_was_held_after_the_release_had_looked_is_not_forgotten() -> None:
    """A worker reads that the brake holds; the operator resumes; then the worker puts the deal aside."""
    w, deals = agreed(2, limit=1)
    edit_all(w, deals, Amount=61_000)
    rest(w)
    (name,) = waiting(w)
    hold = w.world.state.hold

    def late(*args: Any) -> bool:
        w.world.brakes._let_go = lambda side: 0  # type: ignore[method-assign]  # it looks, and this deal is not held yet
        cosell(w, "resume", "--apply")
        return hold(*args)

    w.world.state.mark(name)
    w.world.state.hold = late  # type: ignore[method-assign]
    synchronize(w.world, name)
    del w.world.state.hold, w.world.brakes._let_go  # type: ignore[method-assign]
    (owed,) = w.world.state.all_owed()
    assert owed.due != HELD
    w.settle()
    assert {deal.there["details"]["dealValue"] for deal in deals} == {61_000}


def test_a_resume_that_was_stopped_half_way_is_finished_by_the_timer() -> None:
    w, deals = agreed(5, limit=1)
    edit_all(w, deals, Amount=61_000)
    rest(w)
    w.world.brakes._let_go = lambda side: 0  # type: ignore[method-assign]
    w.world.brakes.release(["partner_center"])
    del w.world.brakes._let_go  # type: ignore[method-assign]
    assert waiting(w)  # and then the terminal is closed
    w.settle()
    assert {deal.there["details"]["dealValue"] for deal in deals} == {61_000}


def test_people_read_what_waits_before_they_let_it_go() -> None:
    w, deals = agreed(3, limit=1)
    edit_all(w, deals, Amount=61_000)
    rest(w)
    out = io.StringIO()
    assert main(["resume"], w.world, out, io.StringIO()) == 1
    shown = out.getvalue()
    assert "2 writes where 1 are allowed; 2 deals wait" in shown
    assert '"value": 61000' in shown
    assert "--apply lets them go" in shown
    out = io.StringIO()
    assert main(["status"], w.world, out, io.StringIO()) == 1
    assert "look with `cosell resume`" in out.getvalue()
    assert main(["plan", deals[0].id], w.world, io.StringIO(), io.StringIO()) in (0, 1)


# -- no edit is lost -------------------------------------------------------------------------------------------------------------------


class HeldNight:
    """Edits on both sides while either brake holds, resumes at random: at rest each field is where the merge rules put it."""

    FIELDS = ("deal_value", "notes")  # of a conflict Salesforce's stands

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        random.seed(seed)
        self.w, self.deals = agreed(3, limit=self.random.choice([1, 2]))
        self.next = 100_000
        self.wanted: dict[tuple[int, str], Any] = {}
        self.seen_both: dict[tuple[int, str], set[str]] = {}
        self.story: list[str] = []

    def value(self, deal: OneDeal, name: str, side: str) -> Any:
        if side == "salesforce":
            return deal.here["Amount" if name == "deal_value" else "Description"]
        return deal.there["details"]["dealValue" if name == "deal_value" else "notes"]

    def edit(self, number: int, name: str, side: str) -> None:
        deal = self.deals[number]
        self.next += 1
        value: Any = self.next if name == "deal_value" else f"edit {self.next}"
        agrees = self.value(deal, name, "salesforce") == self.value(deal, name, "partner_center")
        moved = self.seen_both.setdefault((number, name), set())
        if agrees:
            moved.clear()
        # Who edits a field after the other side's edit arrived has seen it; else the two are concurrent and Salesforce stands.
        if side == "salesforce" or "salesforce" not in moved:
            self.wanted[number, name] = value
        moved.add(side)
        if side == "salesforce":
            self.w.seller_edits(deal.id, **{"Amount" if name == "deal_value" else "Description": value})
        else:
            self.w.portal_edits(deal.there["id"], {f"details/{'dealValue' if name == 'deal_value' else 'notes'}": value})
        self.story.append(f"{side} edits {name} of deal {number} to {value}")

    def live(self) -> None:
        for _ in range(25):
            chance = self.random.random()
            if chance < 0.55:
                self.edit(self.random.randrange(3), self.random.choice(self.FIELDS), self.random.choice(["salesforce", "partner_center"]))
            elif chance < 0.75:
                self.w.sim.clock.advance(self.random.choice([1, 20, 70, 2_000]))
                self.w.round()
            elif chance < 0.85:
                direction = self.random.choice([THERE, HERE])
                cosell(self.w, "resume", "--direction", direction, "--apply")
                self.story.append(f"resume {direction}")
            else:
                self.w.sim.clock.advance(3)
                self.w.poll()
        for _ in range(10):
            rounds(self.w, 2)
            cosell(self.w, "resume", "--apply")
        self.w.settle(rounds=20)

    def check(self) -> None:
        told = "\n".join(self.story)
        for (number, name), wanted in self.wanted.items():
            deal = self.deals[number]
            there, here = self.value(deal, name, "partner_center"), self.value(deal, name, "salesforce")
            assert (there, here) == (wanted, wanted), f"{name} of deal {number}\n{told}"
        assert not self.w.parked()
        assert not waiting(self.w)
        assert not self.w.quiet(), told


@pytest.mark.parametrize("seed", range(15))
def test_edits_on_both_sides_of_held_deals_end_as_the_merge_promises(seed: int) -> None:
    night = HeldNight(seed)
    night.live()
    night.check()


def test_a_worker_that_looks_at_a_held_deal_says_what_it_waits_for() -> None:
    w, deals = agreed(2, limit=1)
    edit_all(w, deals, Amount=61_000)
    rest(w)
    (name,) = waiting(w)
    assert synchronize(w.world, name).kind == "idle"
    w.world.state.mark(name)
    outcome = synchronize(w.world, name)
    assert (outcome.kind, "held by the brake" in outcome.text) == ("held", True)
