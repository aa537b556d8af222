"""What may be called: the org's daily calls are kept for what is owed, and no vendor is called faster than it or the operator allows."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from cosell.app import main
from shared import polls, reconciling
from shared.budgets import SalesforceBudget
from shared.errors import TryLater
from shared.pacing import Pace, Pause
from shared.reporting import status
from shared.salesforce import DESCRIBE_SECONDS
from shared.sign_in import SignIn
from shared.state import State
from shared.tables import MemoryTables
from simulator.faults import Fault
from tests.client_doubles import SteppedClock
from tests.deals import DealWorld
from tests.one_deal import OneDeal


class Waiting(SteppedClock):
    """A clock that waiting moves."""

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)


def allow(w: DealWorld, daily_requests: int) -> None:
    w.sim.salesforce.org = replace(w.sim.salesforce.org, daily_requests=daily_requests)


def used(w: DealWorld, percent: float) -> None:
    """The org's other clients use up so much of the day."""
    w.world.salesforce.ask_usage()
    allow(w, round(w.sim.salesforce.api_usage * 100 / percent))
    with suppress(TryLater):
        w.world.salesforce.ask_usage()


def calls(w: DealWorld, since: int, host: str = "salesforce") -> int:
    return len(w.sim.journal.calls(host, since))


# -- the org's daily calls -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> tuple[DealWorld, OneDeal]:
    w = DealWorld()
    deal = OneDeal.shared(w)
    for _ in range(300):
        w.world.salesforce.ask_usage()  # so that a few calls more move the share by little
    return w, deal


def test_below_four_fifths_nothing_is_stopped(shared: tuple[DealWorld, OneDeal]) -> None:
    w, _ = shared
    used(w, 78)
    assert reconciling.reconcile(w.world) is not None
    assert polls.poll_opportunities(w.world) is not None


def test_from_four_fifths_on_what_is_not_essential_is_put_off(shared: tuple[DealWorld, OneDeal]) -> None:
    w, deal = shared
    OneDeal.shared(w, name="Parked", customer="Northwind", solutions=())
    assert w.parked()
    w.sim.clock.advance(DESCRIBE_SECONDS + 1)
    used(w, 82)
    before = w.position()
    assert reconciling.reconcile(w.world) is None
    assert w.position() == before
    assert polls.poll_opportunities(w.world) is not None
    assert calls(w, before) == 1, "the poll itself, and neither the parked deals nor descriptions anew"
    w.world.state.move_cursor("solutions", "")
    assert polls.poll_solutions(w.world) is None, "a first look back"
    deal.portal(details__dealValue=61_000)
    assert deal.here["Amount"] == 61_000


def test_from_ninety_five_on_polls_stop_and_what_is_owed_goes_on(shared: tuple[DealWorld, OneDeal]) -> None:
    w, deal = shared
    used(w, 96)
    before = w.position()
    for poll in (polls.poll_opportunities, polls.poll_solutions):
        assert poll(w.world) is None
    assert calls(w, before) == 0
    assert polls.poll_referrals(w.world) is not None
    w.portal_edits(deal.there["id"], {"details/dealValue": 61_000})
    w.deliver()
    w.work()
    assert deal.here["Amount"] == 61_000


def test_what_stopped_goes_on_by_itself_when_the_day_has_passed_and_is_said_once_per_change(
    shared: tuple[DealWorld, OneDeal], caplog: pytest.LogCaptureFixture
) -> None:
    w, deal = shared
    with caplog.at_level(logging.INFO, "shared"), caplog.at_level(logging.INFO, "cosell"):
        used(w, 96)
        w.seller_edits(deal.id, Amount=61_000)
        before = w.position()
        for _ in range(60):  # an hour of timers
            w.poll()
            w.sim.clock.advance(60)
        assert 10 <= calls(w, before) <= 13, "one call in five minutes asks whether it may go on"
        w.world = w.new_worker()  # the process starts anew
        w.poll()
        w.sim.clock.advance(24 * 3600)
        w.settle()
    assert deal.there["details"]["dealValue"] == 61_000
    said = [one.getMessage().partition(": ")[2] for one in caplog.records if "API calls of the last" in one.getMessage()]
    assert said == ["polls of Salesforce are stopped too; only deals that are owed go on", "nothing is stopped"]


def test_the_figure_survives_the_start_of_a_process_and_a_stale_one_stops_nothing_for_long() -> None:
    w = DealWorld()
    w.world.state.succeeded("salesforce_solutions_to_partner_center", {"salesforce_api_calls": {"used": 97, "limit": 100}})
    before = w.position()
    assert polls.poll_opportunities(w.world) is None
    assert calls(w, before) == 0
    w.sim.clock.advance(301)  # the true figure is far lower, and one call tells
    assert polls.poll_opportunities(w.world) is not None


def test_a_figure_of_the_day_before_yesterday_is_none(shared: tuple[DealWorld, OneDeal]) -> None:
    tables, clock = MemoryTables(), SteppedClock()
    State(tables, clock).succeeded("poll", {"salesforce_api_calls": {"used": 100, "limit": 100}})

    class Silent:
        api_usage = api_usage_at = None

        def ask_usage(self) -> None:
            raise TryLater("nobody answers")

    budget = SalesforceBudget(Silent(), State(tables, clock), clock)
    assert (budget.saving, budget.owed_only) == (True, True)
    clock.advance(25 * 3600)
    assert (budget.saving, budget.owed_only, budget.report()) == (False, False, None)


def test_status_tells_what_is_used_and_what_is_stopped(shared: tuple[DealWorld, OneDeal]) -> None:
    w, _ = shared
    used(w, 96)
    told = status(w.world)["salesforce_budget"]
    assert (told["level"], told["limit"]) == ("owed only", w.sim.salesforce.org.daily_requests)
    out = io.StringIO()
    main(["status"], w.world, out, io.StringIO())
    assert "polls of Salesforce are stopped too" in out.getvalue()


def test_an_org_whose_calls_are_used_up_is_not_stormed() -> None:
    w = DealWorld()
    deals = [OneDeal(w, w.make_deal(f"Deal {n}", customer=f"Customer {n}").opportunity) for n in range(20)]
    w.settle()
    allow(w, w.sim.salesforce.api_usage)
    before = w.position()
    for deal in deals:
        w.portal_edits(deal.there["id"], {"details/dealValue": 61_000})
    for _ in range(120):
        w.sim.clock.advance(60)
        w.round()
    refused = calls(w, before)
    assert 0 < refused <= 3 * 24, "in two hours a few in five minutes, not some for every deal"
    w.sim.clock.advance(24 * 3600)
    w.settle(rounds=90)
    assert {deal.here["Amount"] for deal in deals} == {61_000}


# -- pace ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_minute", [2, 7, 60, 300])
def test_never_more_than_the_allowed_calls_in_any_minute(per_minute: int) -> None:
    clock, chance = Waiting(), random.Random(per_minute)
    pace, made = Pace("Vendor", per_minute, clock), []
    for _ in range(3_000):
        clock.advance(chance.choice([0, 0, 0, 0.05, 0.3, 90]) if chance.random() < 0.5 else 0)
        with suppress(TryLater):
            pace.take("calling", write=chance.random() < 0.3, patience=chance.choice([0.1, 5, 30]))
            made.append(clock.elapsed)
        clock.advance(0.01)
    start = 0
    for end, at in enumerate(made):
        while made[start] <= at - 60:
            start += 1
        assert end - start + 1 <= per_minute
    assert len(made) > 100


def test_reads_without_end_hold_up_no_write() -> None:
    clock = Waiting()
    pace = Pace("Vendor", 300, clock)
    for _ in range(20):
        for _ in range(400):
            with suppress(TryLater):
                pace.take("reading", patience=0)
        before = clock.elapsed
        pace.take("writing", write=True)
        assert clock.elapsed == before, "it goes at once"
        clock.advance(2)


def test_whoever_is_turned_away_gets_a_time_of_his_own() -> None:
    clock = SteppedClock()
    pace = Pace("Vendor", 60, clock)
    given = []
    for _ in range(400):
        try:
            pace.take("reading", patience=0)
        except TryLater as error:
            given.append(error.retry_after or 0.0)
    assert given[0] > 0
    assert given == sorted(given)
    assert max(sum(at <= one < at + 60 for one in given) for at in given) <= 60


def test_a_burst_of_deals_is_drained_within_the_pace() -> None:
    w = DealWorld(settings={"PARTNER_CENTER_CALLS_PER_MINUTE": "60"})
    for number in range(15):
        w.make_deal(f"Deal {number}", customer=f"Customer {number}", How_can_Microsoft_help__c=None)
    before = w.position()
    w.settle(rounds=40)
    assert len(w.referrals()) == 15
    made = [call.at.timestamp() for call in w.sim.journal.calls("partner_center", before)]
    assert max(sum(at <= one < at + 60 for one in made) for at in made) <= 60


# -- a vendor's own wish ---------------------------------------------------------------------------------------------------------------


def test_of_two_wishes_to_wait_the_longer_stands() -> None:
    clock = SteppedClock()
    pause = Pause("Vendor", clock)
    pause.check("calling")
    pause.ask(60)
    pause.ask(10)
    clock.elapsed = 59
    with pytest.raises(TryLater):
        pause.check("calling")
    clock.elapsed = 60
    pause.check("calling")


@pytest.mark.parametrize("number", [429, 503])
@pytest.mark.parametrize("host", ["partner_center", "salesforce"])
def test_after_retry_after_no_call_of_the_process_leaves_before_that_time(host: Any, number: int) -> None:
    w = DealWorld()
    deals = [OneDeal(w, w.make_deal(f"Deal {n}", customer=f"Customer {n}").opportunity) for n in range(5)]
    w.settle()
    w.sim.faults.add(Fault(host=host, status=number, retry_after=120))
    for deal in deals:
        w.seller_edits(deal.id, Amount=61_000)
        w.world.state.mark(f"sf-{deal.id}")
        w.world.waker.wake(f"sf-{deal.id}")
    before = w.position()
    for _ in range(23):
        w.round()
        w.sim.clock.advance(5)
    assert calls(w, before, host) == 1, "the one that was told to wait"
    w.settle()
    assert {deal.there["details"]["dealValue"] for deal in deals} == {61_000}


def test_what_the_webhook_service_asks_for_does_not_hold_up_referrals() -> None:
    w = DealWorld()
    w.sim.faults.add(Fault(host="webhooks", status=429, retry_after=600))
    with pytest.raises(TryLater):
        w.world.partner_center.registration()
    assert list(w.world.partner_center.all_referrals()) == []


# -- sign-in ---------------------------------------------------------------------------------------------------------------------------


def _fetches(clock: SteppedClock, until: float, step: float) -> Iterator[float]:
    asked: list[float] = []

    def fetch() -> tuple[str, float]:
        asked.append(clock.elapsed)
        raise TryLater("nobody answers")

    sign_in = SignIn(fetch, clock)
    while clock.elapsed < until:
        with pytest.raises(TryLater) as caught:
            sign_in.current()
        assert caught.value.certain
        clock.advance(step)
    return iter(asked)


def test_a_login_that_does_not_answer_is_asked_after_five_seconds_then_ever_more_rarely() -> None:
    assert list(_fetches(SteppedClock(), 400, 1)) == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]


@pytest.mark.parametrize("login", ["entra", "salesforce"])
def test_two_hundred_owed_deals_do_not_storm_a_login_that_is_down(login: Any) -> None:
    w = DealWorld()
    for number in range(200):
        w.world.state.mark(
            f"{'pc-00000000-0000-4000-8000-' if login == 'entra' else 'sf-006'}{number:012d}" + ("" if login == "entra" else "AAA")
        )
    w.world = w.new_worker()
    w.sim.faults.add(Fault(host=login, path="*/token" if login == "salesforce" else "*", cut="before", count=10**6))
    before = w.position()
    for _ in range(30):
        w.sim.clock.advance(60)
        w.poll()
        w.work()
    assert 0 < calls(w, before, login) <= 2 * 31, "MSAL asks for the tenant's addresses first, then for a token"
