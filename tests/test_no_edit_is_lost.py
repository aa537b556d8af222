"""The property the product stands on: whatever happens in whatever order, no edit is lost, none is doubled, and then it is quiet.

Every edit carries which edits it saw, so that "the last word" is checked and not guessed: at rest both sides hold, for each field, the
value of an edit that nobody saw and replaced; where several such edits exist, the declared winner's. "Both sides end up equal" would not do:
a connector that tramples one side passes that.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from typing import Any

import pytest

from chaos.checking import Edits
from shared import flows, planning
from shared.pairing import opportunity_name, referral_name
from simulator.faults import Fault
from tests.interleaving import Interleaved, Worker

FIELDS = {"deal_value": "salesforce", "notes": "partner_center"}
OVERLAY = {"fields": {"notes": {"winner": "partner_center"}}}


class Night:
    """One deal, two workers, random hands: a seed says everything that happens."""

    def __init__(self, seed: int, crashes: int = 0, losses: int = 0) -> None:
        self.disturbed = bool(crashes or losses)
        self.random = random.Random(seed)
        random.seed(seed)  # the connector spreads its retries by chance
        self.w = Interleaved(overlay=OVERLAY)
        deal = self.w.make_deal()
        self.w.settle()
        self.w.sim.clock.advance(3600)
        self.opportunity_id, self.referral_id = deal.opportunity, self.w.referrals()[0]["id"]
        self.names = (opportunity_name(self.opportunity_id), referral_name(self.referral_id))
        self.edits = {name: Edits(self.value("salesforce", name)) for name in FIELDS}
        self.counter = 0
        self.crashes, self.losses = crashes, losses
        self.workers: list[Worker] = []
        self.story: list[str] = []

    def value(self, side: str, name: str) -> str:
        if side == "salesforce":
            record = self.w.opportunity(self.opportunity_id)
            return str(int(record["Amount"])) if name == "deal_value" else str(record["Description"])
        details = self.w.sim.partner_center.records[self.referral_id]["details"]
        return str(int(details["dealValue"])) if name == "deal_value" else str(details["notes"])

    def edit(self, side: str) -> None:
        name = self.random.choice(list(FIELDS))
        self.counter += 1
        value = str(100_000 + self.counter) if name == "deal_value" else f"edit {self.counter}"
        self.edits[name].add(side, value, self.value(side, name))
        raw: Any = int(value) if name == "deal_value" else value
        if side == "salesforce":
            self.w.seller_edits(self.opportunity_id, **{"Amount" if name == "deal_value" else "Description": raw})
        else:
            self.w.portal_edits(self.referral_id, {"details/dealValue" if name == "deal_value" else "details/notes": raw})
        self.w.world.state.mark(self.names[side != "salesforce"])
        self.story.append(f"{side} edits {name} to {value}")

    def step(self) -> None:
        """One thing happens."""
        alive = [worker for worker in self.workers if worker.about_to is not None]
        choice = self.random.random()
        if choice < 0.08 and self.counter < 5:
            self.edit(self.random.choice(["salesforce", "partner_center"]))
        elif choice < 0.16 and len(alive) < 2:
            name = self.random.choice(self.names)
            self.workers.append(self.w.worker(name))
            self.story.append(f"a worker starts on {name}")
        elif choice < 0.18 and self.crashes and alive:
            self.crashes -= 1
            worker = self.random.choice(alive)
            self.story.append(f"a worker dies before {worker.about_to}")
            worker.kill()
        elif choice < 0.20 and self.losses:
            self.losses -= 1
            fault = self.random.choice(
                [{"cut": "after"}, {"cut": "before"}, {"status": 503}, {"status": 500}, {"status": 429, "retry_after": 3}]
            )
            host = self.random.choice(["salesforce", "partner_center"])
            self.w.sim.faults.add(Fault(host=host, method="PATCH", **fault))
            self.story.append(f"the next write to {host} meets {fault}")
        elif choice < 0.26:
            # In an undisturbed night leases are honoured: time may not pass them by while somebody works.
            self.w.sim.clock.advance(self.random.choice([0.4, 1, 3, 100 if self.disturbed or not alive else 3]))
        elif alive:
            worker = self.random.choice(alive)
            self.story.append(f"worker {self.workers.index(worker)}: {worker.about_to}")
            worker.step()

    def run(self, steps: int = 160) -> None:
        for _ in range(steps):
            self.step()
        for worker in self.workers:
            worker.finish()
        self.w.sim.faults.clear()
        self.w.settle(rounds=20)

    def check(self) -> None:
        told = "\n".join(self.story)
        history = [one["details"] for one in self.w.world.state.history(self.names[0]) if one["details"]]
        overridden = {str(value) for one in history for value in (one.get("overrides") or {}).values()}
        for name, winner in FIELDS.items():
            here, there = self.value("salesforce", name), self.value("partner_center", name)
            assert here == there, f"{name}: Salesforce {here}, Partner Center {there}\n{told}"
            last = self.edits[name].last_words()
            winners = {value for value in last if self.edits[name].by.get(value) == winner}
            expected = winners if len(last) > 1 and winners else last
            if here not in expected:
                # W1 of the protocol: after a crash or a lost answer the order of two edits cannot always be told. Then the
                # declared winner stands, and what it overrode was read and is in history; never silently.
                assert self.disturbed, f"{name} rests at {here}, expected one of {expected}\n{told}"
                assert expected <= overridden, f"{name} rests at {here}; {expected - overridden} went silently\n{told}"
        pair = self.w.world.state.pair(self.names[0])
        assert pair is not None
        assert not pair.known.announced
        assert {name: pair.known.memory[name] for name in FIELDS} == {name: self.value("salesforce", name) for name in FIELDS}
        assert len(self.w.referrals()) == len(self.w.opportunities()) == 1
        assert not self.w.quiet(), told


def lived(night: Night) -> None:
    night.run()
    night.check()


@pytest.mark.parametrize("seed", range(30))
def test_flows_in_any_order_lose_no_edit(seed: int) -> None:
    lived(Night(seed))


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_crashes_and_lost_answers_lose_no_edit(seed: int) -> None:
    lived(Night(seed, crashes=2, losses=2))


# The three planted bugs of which "both sides end up equal" notices none.


def _ignoring_memory(patch: pytest.MonkeyPatch) -> None:
    merge = planning._merge
    patch.setattr(planning, "_merge", lambda row, p, s, memory, unsure: merge(row, p, s, {**memory, row.name: "something else"}, unsure))


def _wrong_winner(patch: pytest.MonkeyPatch) -> None:
    merge = planning._merge
    turned = {"salesforce": "partner_center", "partner_center": "salesforce"}
    patch.setattr(
        planning,
        "_merge",
        lambda row, p, s, memory, unsure: merge(replace(row, winner=turned[row.winner]), p, s, memory, unsure),
    )


def _memory_moved_after_a_failed_write(patch: pytest.MonkeyPatch) -> None:
    send = flows._send

    def sends(run: Any, pair: Any, side: Any, announcement: Any, gathered: Any) -> None:
        with contextlib.suppress(flows.TryLater):  # and so it is taken for landed
            send(run, pair, side, announcement, gathered)

    patch.setattr(flows, "_send", sends)


@pytest.mark.parametrize(
    "plant", [_ignoring_memory, _wrong_winner, _memory_moved_after_a_failed_write], ids=lambda plant: plant.__name__.strip("_")
)
def test_the_property_catches_a_planted_bug(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    def forty_nights() -> None:
        for seed in range(40):
            lived(Night(seed))
            lived(Night(seed, crashes=2, losses=2))

    with pytest.raises(AssertionError):
        forty_nights()
