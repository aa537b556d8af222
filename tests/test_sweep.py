"""The full sweep in a large tenant: it compares everything, in pieces where there is no time, and looks twice at nothing that agrees."""

from __future__ import annotations

import pytest

from shared import reconciling
from tests.deals import DealWorld
from tests.one_deal import OneDeal


def world_with(number: int) -> tuple[DealWorld, list[OneDeal]]:
    w = DealWorld()
    deals = []
    for each in range(number):
        deals.append(OneDeal.from_portal(w, name=f"Deal {each}", customer=f"Customer {each}"))
        w.sim.clock.advance(60)
    w.settle()
    return w, deals


def test_a_sweep_without_time_goes_on_where_it_stopped_and_finds_every_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    w, deals = world_with(5)
    w.sim.webhooks.conduct.drop = True
    for deal in deals:
        w.sim.clock.advance(60)
        w.portal_edits(deal.there["id"], {"details/dealValue": 81_000})
    monkeypatch.setattr(reconciling, "SECONDS", -1.0)
    found, rounds = [], 0
    while w.world.state.cursor(reconciling.PLACE) or not rounds:
        certificate = reconciling.reconcile(w.world)
        assert certificate is not None
        found.append(certificate.not_reached)
        w.work()
        rounds += 1
        assert rounds < 30
    assert rounds > 2
    assert max(found) > 0
    assert [deal.here["Amount"] for deal in deals] == [81_000] * 5
    monkeypatch.undo()
    whole = reconciling.reconcile(w.world)
    assert whole is not None
    assert (whole.in_agreement, whole.not_reached, whole.marked) == (5, 0, 0)


def test_a_deal_the_sweep_compared_is_not_looked_at_again_however_long_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "ASKED", 2)  # several calls
    w, _ = world_with(5)
    w.sim.clock.advance(30 * 86_400)
    certificate = reconciling.reconcile(w.world)
    assert certificate is not None
    assert (certificate.in_agreement, certificate.marked) == (5, 0)


def test_a_referral_is_kept_small_while_the_sweep_runs() -> None:
    """A hundred thousand of them and Microsoft's have to fit into an instance's memory."""
    w, _ = world_with(1)
    record = w.referrals()[0]
    w.sim.partner_center.save({**record, "details": {**record["details"], "notes": "Northwind asks for a plan. " * 40}})
    listed = reconciling._listed(w.world)
    assert len(listed.ours) == 1
    assert max(map(len, listed.ours.values())) < 1_500
