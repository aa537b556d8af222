"""Storage, Key Vault or one vendor away for a while: nothing is lost, what can go on does, and nobody has to lend a hand afterwards."""

from __future__ import annotations

import json
import logging
import random
from contextlib import suppress
from typing import Any

import pytest

from shared import polls, receiving
from shared.entra import Tokens
from shared.errors import TryLater
from shared.flows import synchronize
from shared.pairing import opportunity_name
from shared.partner_center import PartnerCenter
from shared.refresh_tokens import SettingsRefreshToken
from shared.reporting import health, health_answer, status
from shared.tables import MemoryTables
from shared.transport import http_client
from simulator.faults import Fault
from simulator.mount import httpx_transport
from tests.deals import DealWorld
from tests.one_deal import OneDeal

# -- storage ---------------------------------------------------------------------------------------------------------------------------


class Breaking(MemoryTables):
    """Tables that stop answering: now, or after so many operations more."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None

    def _answer(self) -> None:
        if self.left is not None:
            if self.left <= 0:
                raise TryLater("Table Storage cannot be reached")
            self.left -= 1


def _breaking(name: str) -> Any:
    def method(self: Breaking, *args: Any, **options: Any) -> Any:
        self._answer()
        return getattr(MemoryTables, name)(self, *args, **options)

    return method


for _name in ("get", "insert", "replace", "merge", "delete", "list", "merge_many", "delete_many"):
    setattr(Breaking, _name, _breaking(_name))


def test_while_storage_is_away_nothing_is_accepted_and_the_vendors_send_it_again() -> None:
    tables = Breaking()
    w = DealWorld(tables=tables, settings={"SALESFORCE_PUSH_SECRET": "simulated-push-secret"})
    deal = OneDeal.shared(w)
    tables.left = 0
    w.portal_edits(deal.there["id"], {"details/dealValue": 61_000})
    push = json.dumps({"ids": [deal.id]}).encode()
    assert receiving.salesforce_push(lambda: w.world, {"x-cosell-secret": "simulated-push-secret"}, push)[0] == 503
    assert w.deliver() > 0
    assert w.sim.webhooks.waiting, "the event was answered 503 and comes again"
    assert health_answer(lambda: w.world)[0] == 503
    before = w.position()
    with pytest.raises(TryLater):  # the host sees that the function failed, and gives the wake-up to another
        synchronize(w.world, opportunity_name(deal.id))
    for timer in (polls.poll_opportunities, polls.poll_referrals, polls.resume_owed_work):
        with pytest.raises(TryLater):
            timer(w.world)
    assert w.mutations(before) == []
    tables.left = None
    w.settle()
    assert deal.here["Amount"] == 61_000
    assert health_answer(lambda: w.world)[0] == 200


@pytest.mark.parametrize("create", [False, True], ids=["edit", "create"])
def test_storage_that_goes_away_at_any_point_of_a_run_loses_and_doubles_nothing(create: bool) -> None:
    for operations in range(60):
        tables = Breaking()
        w = DealWorld(tables=tables)
        deal = OneDeal(w, w.make_deal().opportunity) if create else OneDeal.shared(w)
        if not create:
            w.sim.clock.advance(3600)
            w.seller_edits(deal.id, Amount=61_000)
            w.portal_edits(deal.there["id"], {"details/notes": "From the portal"})
        w.sim.clock.advance(60)
        w.world.state.mark(opportunity_name(deal.id))
        tables.left = operations
        with suppress(TryLater):
            synchronize(w.world, opportunity_name(deal.id))
        left, tables.left = tables.left, None
        w.settle(rounds=20)
        assert deal.kind == "co-sell"
        assert (len(w.referrals()), len(w.referrals(own=False))) == (1, 1)
        if not create:
            assert (deal.there["details"]["dealValue"], deal.here["Description"]) == (61_000, "From the portal")
        assert not w.quiet(), operations
        if left:
            return  # the whole run went through: every point was tried
    raise AssertionError("the run makes more operations than were tried")


# -- Key Vault -------------------------------------------------------------------------------------------------------------------------


class Vault(SettingsRefreshToken):
    """Key Vault as it stands here: there, or away."""

    away = False
    asked = 0

    def read(self) -> str:
        self.asked += 1
        if self.away:
            raise TryLater("reading the secret partner-center-refresh-token: HTTP 503")
        return super().read()


def test_while_key_vault_is_away_deals_wait_and_the_vault_is_asked_once_a_minute() -> None:
    w = DealWorld()
    deals = [OneDeal(w, w.make_deal(f"Deal {n}", customer=f"Customer {n}").opportunity) for n in range(8)]
    w.settle()
    vault = Vault(w.settings)
    http = http_client(w.settings, transport=httpx_transport(w.sim))
    client = PartnerCenter(w.settings, http, Tokens(w.settings, http, vault, w.clock), w.clock)
    w.world = w.new_worker().__class__(**{**_parts(w.new_worker()), "partner_center": client})
    vault.away = True
    for deal in deals:
        w.seller_edits(deal.id, Amount=61_000)
    for _ in range(60):
        w.sim.clock.advance(60)
        w.round()
    assert len(w.owed()) == 8
    assert not w.parked()
    assert vault.asked <= 61
    assert health_answer(lambda: w.world)[0] == 503
    vault.away = False
    _drained_within_an_hour(w)
    assert {deal.there["details"]["dealValue"] for deal in deals} == {61_000}
    assert health_answer(lambda: w.world)[0] == 200


def _parts(world: Any) -> dict[str, Any]:
    return {name: getattr(world, name) for name in world.__dataclass_fields__}


# -- one vendor, for a day -------------------------------------------------------------------------------------------------------------

DAY = 24 * 60


def _drained_within_an_hour(w: DealWorld) -> None:
    for _ in range(60):
        w.sim.clock.advance(60)
        w.round()
        if not w.owed():
            break
    assert w.owed() == {}


@pytest.mark.parametrize("away", ["partner_center", "salesforce"])
def test_a_vendor_that_is_away_for_a_day_costs_time_alone(away: Any, caplog: pytest.LogCaptureFixture) -> None:
    random.seed(1)
    w = DealWorld()
    deals = [OneDeal(w, w.make_deal(f"Deal {n}", customer=f"Customer {n}").opportunity) for n in range(10)]
    w.settle()
    w.sim.clock.advance(3600)
    w.round()
    healthy: Any = "salesforce" if away == "partner_center" else "partner_center"
    w.sim.faults.add(Fault(host=away, status=503, html=True, count=10**9))
    if away == "salesforce":  # whoever signs in is answered; it is the data that is away
        w.sim.faults._faults[-1].path = "/services/data/*"
    before = w.position()
    with caplog.at_level(logging.CRITICAL, "cosell"):
        for minute in range(0, DAY, 10):
            if minute < 10 * 60 and minute % 60 == 0:
                deal = deals[minute // 60]
                w.seller_edits(deal.id, Amount=61_000)
                w.portal_edits(deal.there["id"], {"details/notes": f"Noted at {minute}"})
            if minute == 300:
                w.make_deal("New here", customer="Adatum", How_can_Microsoft_help__c=None)
                w.sim.people.portal_create_deal("New there", customer="Litware")
            w.sim.clock.advance(600)
            w.round()
    # What goes on: the healthy vendor is polled, events are taken, every change is owed; what cannot, waits in sight.
    assert len(w.sim.journal.calls(healthy, before)) >= DAY / 10
    assert not w.sim.webhooks.waiting
    owed = status(w.world)["owed"]
    assert owed["count"] >= 10
    assert all("503" in one["reason"] for one in owed["retrying"])
    assert not w.parked()
    assert health(w.world) == {"storage": True, "partner_center": away != "partner_center", "salesforce": away != "salesforce"}
    # Each of twelve deals is tried about ten times in its first hours, then twice an hour; the polls come on top.
    tried = len(w.sim.journal.calls(away, before))
    assert tried < 12 * (12 + 24 * 2) + 4 * DAY / 10
    w.sim.faults.clear()
    _drained_within_an_hour(w)
    for number, deal in enumerate(deals):
        assert (deal.there["details"]["dealValue"], deal.here["Description"]) == (61_000, f"Noted at {number * 60}")
    assert len(w.referrals()) == len(w.opportunities()) == 12
    assert all(health(w.world).values())
    assert not w.quiet()


def test_one_answer_that_fails_is_no_illness() -> None:
    w = DealWorld()
    w.round()
    w.sim.faults.add(Fault(host="partner_center", status=503))
    w.poll()
    assert all(health(w.world).values())
    w.sim.faults.add(Fault(host="partner_center", status=503, count=3))
    for _ in range(3):
        w.sim.clock.advance(300)
        w.poll()
    assert not health(w.world)["partner_center"]
    w.poll()
    assert all(health(w.world).values())
