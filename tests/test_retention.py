"""How long history is kept: older entries go, a batch at a time; what an undo within the period needs stays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared import retention
from shared.retention import forget_old_history
from shared.settings import Settings
from shared.state import State
from shared.tables import AzureTables, MemoryTables, Tables
from tests.deals import DealWorld

SETTINGS = {"HISTORY_RETENTION_DAYS": "30"}


@pytest.fixture(params=["memory", "table storage"])
def tables(request: pytest.FixtureRequest) -> Tables:
    if request.param == "memory":
        return MemoryTables()
    return AzureTables(Settings(storage=request.getfixturevalue("azurite")))


@pytest.fixture
def world(tables: Tables) -> Iterator[DealWorld]:
    world = DealWorld(settings=SETTINGS)
    world.sim.clock.advance(-timedelta(days=9_000).total_seconds())  # tests share the storage: nobody else has history so old
    world.world = type(world.world)(**{**vars(world.world), "state": State(tables, world.clock)})
    yield world
    for name, key in list(world.world.state.history_keys(world.clock.now())):
        tables.delete_many("history", name, [key])
    world.world.state.move_cursor("history-retention", "")


def kept(world: DealWorld, name: str) -> list[str]:
    return [one["text"] for one in world.world.state.history(name)]


def test_entries_of_the_period_stay_and_older_ones_go(world: DealWorld) -> None:
    first, second = sorted(f"sf-{uuid.uuid4()}" for _ in range(2))
    for name in (first, second):
        for number in range(150):  # more than a transaction holds
            world.world.state.record(name, "outcome", f"old {number}", {"changes": []})
    world.sim.clock.advance(timedelta(days=20).total_seconds())
    world.world.state.record(first, "outcome", "younger", {"changes": []})
    world.sim.clock.advance(timedelta(days=9).total_seconds())
    assert forget_old_history(world.world) == 0
    world.sim.clock.advance(timedelta(days=2).total_seconds())
    assert forget_old_history(world.world) == 300
    assert (kept(world, first), kept(world, second)) == (["younger"], [])
    assert forget_old_history(world.world) == 0


def test_a_run_is_bounded_and_the_next_one_goes_on(world: DealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(f"sf-{uuid.uuid4()}" for _ in range(3))
    for name in names:
        for number in range(4):
            world.world.state.record(name, "outcome", f"old {number}")
    world.sim.clock.advance(timedelta(days=31).total_seconds())
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "MOST", 5)
    assert [forget_old_history(world.world) for _ in range(4)] == [4, 4, 4, 0]
    assert [kept(world, name) for name in names] == [[], [], []]


def test_a_run_stops_when_its_time_is_over(world: DealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"sf-{uuid.uuid4()}"
    for number in range(4):
        world.world.state.record(name, "outcome", f"old {number}")
    world.sim.clock.advance(timedelta(days=31).total_seconds())
    forget = world.world.state.forget_history
    monkeypatch.setattr(retention, "BATCH", 1)
    monkeypatch.setattr(world.world.state, "forget_history", lambda *given: (forget(*given), world.sim.clock.advance(retention.SECONDS)))
    assert [forget_old_history(world.world) for _ in range(3)] == [2, 2, 0]


def test_the_full_sweep_forgets_and_deals_go_on() -> None:
    world = DealWorld(settings=SETTINGS)
    deal = world.make_deal()
    world.settle()
    name = f"sf-{deal.opportunity}"
    assert kept(world, name)
    world.sim.clock.advance(timedelta(days=31).total_seconds())
    world.round(full=True)
    texts = kept(world, name)
    assert not [one for one in texts if "creat" in one], texts
    pair = world.world.state.pair(name)
    assert pair is not None
    assert pair.known.memory, "links and memory are kept"
    world.settle()
    assert world.quiet() == []


# -- what it stands on, on both kinds of tables ----------------------------------------------------------------------------------------


def test_keys_are_listed_by_range_and_partition_without_values_and_deleted_in_bulk(tables: Tables) -> None:
    first, second = sorted(f"retention-{uuid.uuid4()}" for _ in range(2))
    for partition in (first, second):
        for key in ("a", "b", "c"):
            tables.insert("history", partition, key, {"text": "long", "kind": "x"})
    listed = list(tables.list("history", first, keys=("b", "c"), columns=()))
    assert [(one.partition, one.key, one.row) for one in listed] == [(first, "b", {}), (first, "c", {})]
    assert [one.row for one in tables.list("history", second, keys=("a", "a"), columns=("kind",))] == [{"kind": "x"}]
    after = [
        (one.partition, one.key) for one in tables.list("history", keys=("a", "b"), after=first, columns=()) if one.partition == second
    ]
    assert after == [(second, "a"), (second, "b")]
    assert first not in {one.partition for one in tables.list("history", after=first, columns=())}
    tables.delete_many("history", first, ["a", "gone already", "c"])
    assert [one.key for one in tables.list("history", first)] == ["b"]
    for partition in (first, second):
        tables.delete_many("history", partition, [one.key for one in tables.list("history", partition)])


def test_a_period_of_every_deal_is_listed_newest_first(tables: Tables) -> None:
    world = DealWorld()
    world.sim.clock.advance(-timedelta(days=9_500).total_seconds())
    state, names = State(tables, world.clock), sorted(f"sf-{uuid.uuid4()}" for _ in range(2))
    times = []
    for number in range(3):
        world.sim.clock.advance(60)
        times.append(world.clock.now())
        for name in names:
            state.record(name, "outcome", f"entry {number}")
    found = {name: [one["text"] for one in entries] for name, entries in state.history_of_all(times[1], times[2])}
    assert found == {name: ["entry 2", "entry 1"] for name in names}
    assert dict(state.history_of_all(times[2] + timedelta(seconds=1), times[2] + timedelta(hours=1))) == {}
    for name in names:
        state.forget_history(name, [key for of, key in state.history_keys(times[2]) if of == name])
