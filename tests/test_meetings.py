"""Where the brake, undo, parking, erasure and storage of an earlier version meet: no promise of the protocol breaks there."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from cosell.undoing import want
from shared import flows, planning
from shared.brakes import DIRECTIONS
from shared.flows import synchronize
from shared.mapping import Record
from shared.mapping_file import Side
from shared.pairing import opportunity_name
from shared.planning import Known, plan_pair
from shared.polls import poll_referrals, resume_owed_work
from shared.reconciling import reconcile
from shared.run import MOST_WAITING, wake_all
from shared.undoing import Wish, is_write, undo_of
from simulator.faults import Fault
from tests.deals import DealWorld, load
from tests.interleaving import Interleaved
from tests.one_deal import OneDeal
from tests.test_brakes import agreed, edit_all, rest, rounds, waiting
from tests.test_no_edit_is_lost import FIELDS, Edits, Night

SIDES: list[Side] = list(DIRECTIONS)
SEEDS = [int(part) for part in os.environ.get("MEETINGS_SEEDS", "0:20").split(":")]


# -- everything at once ----------------------------------------------------------------------------------------------------------------


class LongNight(Night):
    """A night under a brake that holds after a few writes, with an operator who resumes and takes back at any moment.

    An undo is an operator's edit in Salesforce. It puts an old value back, so here an edit is known by a name of its own.
    """

    def __init__(self, seed: int, limit: int, **options: Any) -> None:
        super().__init__(seed, **options)
        self.w.settings = replace(self.w.settings, brake_writes_per_hour=limit, brake_share_percent=0.0)
        self.w.world = self.w.new_worker()
        self.disturbed = True  # an operator's wish takes the row from under a run, as a crash would
        self.texts: dict[str, str] = {}
        self.standing: dict[tuple[str, str], str] = {}
        for name in FIELDS:
            first = f"{name} at first"
            self.edits[name] = Edits(first)
            self.texts[first] = self.value("salesforce", name)
            self.standing |= {("salesforce", name): first, ("partner_center", name): first}
        self.undone = 0
        answer = self.w.sim.handle

        def watched(request: Any) -> Any:
            try:
                return answer(request)
            finally:
                self.look()  # also where the answer is lost on its way

        self.w.sim.handle = watched  # type: ignore[method-assign]

    def look(self) -> None:
        """What a write of the connector left on each side: an operator's edit, or one that was carried over."""
        for (side, name), known in list(self.standing.items()):
            text = self.value(side, name)
            if text == self.texts[known]:
                continue
            if side == "salesforce" and self.is_undo(name, text):
                self.undone += 1
                self.note(side, name, f"undo {self.undone}", text)
                continue
            other = self.standing["partner_center" if side == "salesforce" else "salesforce", name]
            same = [one for one in self.edits[name].seen if self.texts[one] == text] or [self.edits[name].base]
            self.standing[side, name] = other if self.texts[other] == text else same[-1]

    def is_undo(self, name: str, text: str) -> bool:
        stored = super(type(self.w.tables), self.w.tables).get("links", self.names[0], "link")  # past the gate
        assert stored is not None
        announced = json.loads(stored.row["announced"] or "{}").get("salesforce", {"fields": {}})
        one = announced["fields"].get(name)
        return one is not None and one["undo"] and str(one["value"]) == text

    def note(self, side: str, name: str, edit: str, text: str) -> None:
        self.texts[edit] = text
        self.edits[name].add(side, edit, self.standing[side, name])
        self.standing[side, name] = edit
        self.story.append(f"{side}: {edit} of {name} lands as {text}")

    def edit(self, side: str) -> None:
        name = self.random.choice(list(FIELDS))
        self.counter += 1
        text = str(100_000 + self.counter) if name == "deal_value" else f"edit {self.counter}"
        self.note(side, name, f"edit {self.counter}", text)
        raw: Any = int(text) if name == "deal_value" else text
        if side == "salesforce":
            self.w.seller_edits(self.opportunity_id, **{"Amount" if name == "deal_value" else "Description": raw})
        else:
            self.w.portal_edits(self.referral_id, {"details/dealValue" if name == "deal_value" else "details/notes": raw})
        self.w.world.state.mark(self.names[side != "salesforce"])

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.02:
            sides = self.random.choice([SIDES[:1], SIDES[1:], SIDES])
            self.story.append(f"the operator resumes {sides}")
            self.w.world.brakes.release(sides)
        elif choice < 0.05:
            side = self.random.choice(SIDES)
            self.story.append(f"a mass update of other deals makes the brake hold what goes to {side}")
            self.w.world.brakes.foresee(side, 1_000)
        elif choice < 0.08:
            self.take_back()
        elif choice < 0.09:
            self.w.world.brakes.finish_release()
        elif choice < 0.1:
            self.story.append("the full sweep looks")
            reconcile(self.w.world)
        else:
            super().step()

    def take_back(self) -> None:
        state = self.w.world.state
        writes = [one for one in state.history(self.names[0]) if is_write(one)]
        count = self.random.choice([1, 1, 2, 4])
        undo = undo_of(self.w.mapping, writes[:count], self.referral_id, self.opportunity_id)
        if undo.wishes:
            self.story.append(f"the operator takes back {dict(undo.wishes)}")
            want(self.w.world, self.names[0], undo)

    def run(self, steps: int = 240) -> None:
        for _ in range(steps):
            self.step()
        for worker in self.workers:
            worker.finish()
        self.w.sim.faults.clear()
        for _ in range(40):
            self.w.sim.clock.advance(65)
            self.w.round()
            owed = list(self.w.world.state.all_owed())
            if not owed:
                return
            if any(one.held for one in owed):
                self.w.world.brakes.release(SIDES)
        raise AssertionError(f"does not drain: {self.w.owed()}\n" + "\n".join(self.story))

    def check(self) -> None:
        told = "\n".join(self.story)
        state = self.w.world.state
        history = [one["details"] for one in state.history(self.names[0]) if one["details"]]
        overridden = {str(value) for one in history for value in (one.get("overrides") or {}).values()}
        for name, winner in FIELDS.items():
            here, there = self.value("salesforce", name), self.value("partner_center", name)
            assert here == there, f"{name}: Salesforce {here}, Partner Center {there}\n{told}"
            last = self.edits[name].last_words()
            winners = {one for one in last if self.edits[name].by.get(one) == winner}
            expected = {self.texts[one] for one in (winners if len(last) > 1 and winners else last)}
            if here not in expected:
                assert expected <= overridden, f"{name} rests at {here}; {expected - overridden} went silently\n{told}"
        pair = state.pair(self.names[0])
        assert pair is not None
        assert not pair.known.announced
        assert not pair.known.wishes
        assert {name: pair.known.memory[name] for name in FIELDS} == {name: self.value("salesforce", name) for name in FIELDS}
        assert len(self.w.referrals()) == len(self.w.opportunities()) == 1
        assert not self.w.quiet(), told


def lived(seed: int) -> None:
    night = LongNight(seed, limit=1 + seed % 3, crashes=2 * (seed % 2), losses=2 * (seed % 2))
    night.run()
    night.check()


@pytest.mark.parametrize("seed", range(*SEEDS))
def test_brakes_undos_crashes_and_edits_in_any_order_lose_no_edit(seed: int) -> None:
    lived(seed)


# -- held and parked -------------------------------------------------------------------------------------------------------------------


def test_what_is_held_on_a_deal_that_parks_goes_once_it_is_released() -> None:
    """One direction waits for the brake, the other is refused: the reason stands, and an operator's resume lets the rest go."""
    w, (deal, *_) = agreed(1)
    w.world.brakes.foresee("partner_center", 1_000)
    w.seller_edits(deal.id, Amount=61_000)
    w.portal_edits(deal.there["id"], {"details/notes": "from the portal"})
    w.sim.faults.add(Fault(host="salesforce", method="PATCH", status=400, count=20))
    rounds(w, 3)
    assert "refused the change" in deal.parked
    w.world.brakes.release(["partner_center"])
    rounds(w, 3)
    assert deal.there["details"]["dealValue"] == 61_000
    assert "refused the change" in deal.parked
    w.sim.faults.clear()


# -- undo ------------------------------------------------------------------------------------------------------------------------------


def test_an_undo_of_what_both_sides_hold_comes_back_though_memory_is_behind() -> None:
    """Both records were set to the same value and no run has learned it yet: memory still holds the value that is wanted back."""
    mapping = load(None)
    same = {"title": "Deal", "status": "active", "deal_value": "10", "external_reference": "006"}
    here = {**same, "sync": True}
    wish = {"deal_value": Wish("5", "10", "partner_center")}
    plan = plan_pair(mapping, Record(same, version="1"), Record(here, version="1"), Known({**same, "deal_value": "5"}, wishes=wish))
    assert [(one.side, one.new, one.undo) for one in plan.changes] == [("salesforce", "5", True)]
    known = replace(plan.known, wishes={})
    follows = plan_pair(mapping, Record(same, version="1"), Record({**here, "deal_value": "5"}, version="2"), known)
    assert [(one.side, one.new) for one in follows.changes] == [("partner_center", "5")]


def test_a_field_rests_after_an_undo_until_its_source_moves_and_not_when_that_moves_back() -> None:
    mapping, first = load(None), {"title": "Deal", "status": "active", "external_reference": "006", "program": "first"}
    wish = {"program": Wish("before", "first", "salesforce")}
    taken = plan_pair(mapping, Record(first), Record({**first, "sync": True}), Known(first, wishes=wish))
    assert [(one.side, one.new) for one in taken.changes] == [("salesforce", "before")]
    known, told = replace(taken.known, wishes={}), []
    for there, here in (("first", "before"), ("second", "before"), ("first", "second")):
        plan = plan_pair(mapping, Record({**first, "program": there}), Record({**first, "sync": True, "program": here}), known)
        known = plan.known
        told.append([one.new for one in plan.changes])
    assert told == [[], ["second"], ["first"]]


def test_an_undo_that_is_refused_when_it_is_repeated_parks_nobody() -> None:
    w = Interleaved()
    deal = OneDeal.shared(w, How_can_Microsoft_help__c=None)
    name = f"sf-{deal.id}"
    w.sim.clock.advance(3600)
    deal.seller(Amount=62_500)
    w.sim.clock.advance(60)
    written = next(one for one in w.world.state.history(name) if is_write(one))
    want(w.world, name, undo_of(w.mapping, [written], deal.there["id"], deal.id))
    w.worker(name).until("PATCH salesforce").kill()
    w.sim.clock.advance(120)
    w.sim.faults.add(Fault(host="salesforce", method="PATCH", status=400))
    w.settle()
    assert (deal.here["Amount"], deal.there["details"]["dealValue"], deal.parked) == (62_500, 62_500, "")
    assert not w.quiet()


# -- what many held deals cost ---------------------------------------------------------------------------------------------------------


def test_the_full_sweep_asks_for_the_brake_once_and_not_for_every_deal_that_waits() -> None:
    w, deals = agreed(12, limit=1)
    edit_all(w, deals, Amount=61_000)
    rest(w)
    asked: list[str] = []
    get = w.tables.get
    w.tables.get = lambda *at: (asked.append(at[1]), get(*at))[1]  # type: ignore[method-assign, func-returns-value]
    reconcile(w.world)
    assert len(waiting(w)) == 11
    assert asked.count("brakes") <= 4


def test_a_mass_update_is_marked_at_once_and_woken_minute_by_minute() -> None:
    w = DealWorld()
    names = [opportunity_name(f"006{number:012d}") for number in range(3_000)]
    w.world.state.mark_many(names)
    assert wake_all(w.world, names) == MOST_WAITING == len(w.wakes.queued)
    w.wakes.queued.clear()
    assert resume_owed_work(w.world) == MOST_WAITING
    assert len(list(w.world.state.due())) == 3_000


def test_the_share_of_the_pairs_counts_those_that_a_sweep_had_no_time_for() -> None:
    w = DealWorld(settings={"BRAKE_WRITES_PER_HOUR": "1", "BRAKE_SHARE_PERCENT": "5"})
    w.world.state.succeeded("certificate", {"in_agreement": 400, "not_reached": 600})
    assert w.world.brakes.limit == 50


# -- polls -----------------------------------------------------------------------------------------------------------------------------


def test_a_record_that_moves_while_its_list_is_read_is_remembered_once() -> None:
    """Table Storage refuses a transaction that names a row twice, and the poll would fail at this place again and again."""
    w = DealWorld()
    deal = OneDeal.shared(w)
    merge_many = w.tables.merge_many

    def strictly(table: str, partition: str, rows: Any) -> None:
        assert len({key for key, _ in rows}) == len(rows), "InvalidDuplicateRow"
        merge_many(table, partition, rows)

    w.tables.merge_many = strictly  # type: ignore[method-assign]
    listed = w.world.partner_center.changed_since

    def moving(since: Any) -> Any:
        found = list(listed(since))
        yield from found
        yield from ({**one, "eTag": f"{one['eTag']}-again"} for one in found)

    w.world.partner_center.changed_since = moving  # type: ignore[method-assign]
    deal.w.portal_edits(deal.there["id"], {"details/notes": "moving"})
    w.sim.clock.advance(60)
    assert poll_referrals(w.world) > 0


# -- creates and calls that never left -------------------------------------------------------------------------------------------------


def test_a_repeated_create_that_is_turned_away_here_leaves_the_earlier_claim_standing() -> None:
    """The first request got no answer; before the second could leave, Partner Center asked for a pause. The first may still have landed."""
    w = DealWorld(settings={"CREATE_MARGIN_SECONDS": "60"})
    w.sim.faults.add(Fault(host="partner_center", method="POST", cut="before"))
    made = w.make_deal(How_can_Microsoft_help__c=None)
    name = opportunity_name(made.opportunity)
    w.round()
    first = w.world.state.pair(name)
    assert first is not None
    assert first.create is not None
    w.sim.clock.advance(200)
    create = w.world.partner_center.create_referral

    def paused(body: Any, request_id: str) -> Any:
        w.world.partner_center._pauses["referrals"].ask(30.0)
        return create(body, request_id)

    w.world.partner_center.create_referral = paused  # type: ignore[method-assign]
    assert synchronize(w.world, name).kind == "later"
    standing = w.world.state.pair(name)
    assert standing is not None
    assert standing.create == first.create
    del w.world.partner_center.create_referral  # type: ignore[method-assign]
    w.settle()
    assert len(w.referrals()) == 1


# -- rows of the version before --------------------------------------------------------------------------------------------------------


def test_rows_of_the_version_before_are_taken_up_and_nothing_is_written_because_of_it() -> None:
    """Owed rows without what the brake and the trace added, pair rows without wishes, an announcement without `undo`, plain addresses."""
    w = Interleaved()
    deal = OneDeal.shared(w, How_can_Microsoft_help__c=None)
    name = f"sf-{deal.id}"
    w.sim.clock.advance(3600)
    w.seller_edits(deal.id, Amount=62_500)
    w.world.state.mark(name)
    w.worker(name).until("PATCH partner_center").kill()
    for stored in list(w.tables.list("links", name)):
        row = {key: value for key, value in stored.row.items() if key != "wishes"}
        memory, announced = json.loads(row["memory"]), json.loads(row["announced"])
        memory |= {"contacts": [one["email"] for one in deal.there["customerProfile"]["team"]]}
        for one in announced["partner_center"]["fields"].values():
            del one["undo"]
        row |= {"memory": json.dumps(memory), "announced": json.dumps(announced)}
        w.tables.replace("links", stored.partition, stored.key, row, stored.etag)
    for stored in list(w.tables.list("owed")):
        row = {key: value for key, value in stored.row.items() if key not in ("held", "released", "trace")}
        w.tables.replace("owed", stored.partition, stored.key, row, stored.etag)
    w.sim.clock.advance(120)
    before = w.position()
    w.settle()
    assert deal.there["details"]["dealValue"] == 62_500
    assert len([one for one in w.mutations(before) if "partner_center PATCH" in one]) == 1
    pair = w.world.state.pair(name)
    assert pair is not None
    assert "@" not in json.dumps(pair.known.memory["contacts"])
    assert not w.quiet()


def test_a_wish_that_came_too_late_and_lost_its_mark_does_not_stay() -> None:
    w, (deal, *_) = agreed(1)
    name = f"sf-{deal.id}"
    w.seller_edits(deal.id, Amount=61_000)
    rounds(w)
    written = next(one for one in w.world.state.history(name) if is_write(one))
    w.seller_edits(deal.id, Amount=62_000)
    rounds(w)
    want(w.world, name, undo_of(w.mapping, [written], deal.there["id"], deal.id))
    (owed,) = w.world.state.all_owed()
    w.world.state.clear(owed)  # the process died between the wish and its mark
    w.round(full=True)
    pair = w.world.state.pair(name)
    assert pair is not None
    assert pair.known.wishes == {}
    assert "left alone" in next(iter(w.world.state.history(name)))["text"]
    assert (deal.here["Amount"], deal.there["details"]["dealValue"]) == (62_000, 62_000)


# -- the property sees what it is there for --------------------------------------------------------------------------------------------


def _memory_moves_for_what_is_held(patch: pytest.MonkeyPatch) -> None:
    held_back = planning.held_back

    def forgetful(plan: Any, side: Side, why: str) -> Any:
        gone = {one.field: one.new for one in plan.to(side) if not one.undo}
        plan = held_back(plan, side, why)
        return replace(plan, known=replace(plan.known, memory={**plan.known.memory, **gone}))

    patch.setattr(flows, "held_back", forgetful)


def _an_undo_goes_over_later_edits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "moved_on", lambda *_: "")


@pytest.mark.parametrize(
    "plant", [_memory_moves_for_what_is_held, _an_undo_goes_over_later_edits], ids=lambda plant: plant.__name__.strip("_")
)
def test_the_property_catches_a_planted_bug(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    def nights() -> None:
        for seed in range(20):
            lived(seed)

    with pytest.raises(AssertionError):
        nights()
