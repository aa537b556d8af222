"""One contract for the connector's state, held on tables in memory always and on Table Storage as Azurite plays it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import Clock
from shared.planning import Announced, Announcement, Known
from shared.settings import Settings
from shared.state import Alias, Create, Pair, State, stamp
from shared.tables import AzureTables, MemoryTables, RowChanged, RowExists, Tables

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


class Ticking(Clock):
    """Every look is a millisecond later, so that what was written later is later."""

    def __init__(self) -> None:
        self.at = START
        self._ticks = itertools.count()

    def now(self) -> datetime:
        return self.at + timedelta(milliseconds=next(self._ticks))


@pytest.fixture(scope="session")
def azure_tables(azurite: str) -> AzureTables:
    return AzureTables(Settings(storage=azurite))


@pytest.fixture(params=["memory", "table storage"])
def tables(request: pytest.FixtureRequest) -> Tables:
    if request.param == "memory":
        return MemoryTables()
    shared: AzureTables = request.getfixturevalue("azure_tables")
    return shared


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def state(tables: Tables, clock: Ticking) -> State:
    return State(tables, clock)


@pytest.fixture
def name() -> str:
    """Tests share the storage: each works on a name of its own."""
    return f"pc-{uuid.uuid4()}"


def full_pair(name: str) -> Pair:
    """A pair with something in every column."""
    announced = Announcement(
        '"84001c9d"', "token", {"notes": Announced("new", "old"), "solutions": Announced({"list": ["A"], "ours": []})}, '[{"op":"replace"}]'
    )
    return Pair(
        name,
        referral_id=name.removeprefix("pc-"),
        engagement_id="e",
        opportunity_id="006Ws0000000Q1UIAU",
        microsoft_id="m",
        help_code="GeneralOrOther",
        known=Known(
            {"title": "Дело 😀", "notes": None, "visible": False, "solutions": []}, {"partner_center": announced}, frozenset({"notes"})
        ),
        create=Create("microsoft", 2, "request", {"title": "Deal", "notes": None}, stamp(START), stamp(START), ({"title": "Older"},)),
        next_step="microsoft",
        lease_until=stamp(START),
        holder="holder",
        checked_at=stamp(START),
        outcome="both sides agree",
    )


# -- owed work -------------------------------------------------------------------------------------------------------------------------


def test_marking_twice_is_marking_once_and_changes_the_etag(state: State, name: str) -> None:
    state.mark(name)
    first = state.owed(name)
    state.mark(name)
    second = state.owed(name)
    assert first is not None
    assert second is not None
    assert first.etag != second.etag
    assert [one.name for one in state.all_owed() if one.name == name] == [name]


def test_a_later_mark_does_not_forget_that_microsofts_record_changed(state: State, name: str) -> None:
    state.mark(name, "microsofts-id")
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    assert owed.microsoft_id == "microsofts-id"


def test_a_row_is_cleared_with_the_etag_it_was_read_with(state: State, name: str) -> None:
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    assert state.clear(owed)
    assert state.owed(name) is None


def test_a_clear_fails_after_another_mark(state: State, name: str) -> None:
    """N3: what was marked while the worker was busy is not forgotten."""
    state.mark(name)
    owed = state.owed(name)
    state.mark(name)
    assert owed is not None
    assert not state.clear(owed)
    assert state.owed(name) is not None


def test_a_row_cleared_by_another_worker_and_marked_again_is_not_cleared_with_the_old_etag(state: State, name: str) -> None:
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    state.clear(owed)
    state.mark(name)
    assert not state.clear(owed)


def test_a_row_that_is_gone_counts_as_cleared(state: State, name: str) -> None:
    """Another worker, which read the same mark, was quicker: nothing is left to run for."""
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    assert state.clear(owed)
    assert state.clear(owed)


def test_a_postponed_row_keeps_its_reason_until_it_is_due(state: State, clock: Ticking, name: str) -> None:
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    assert state.postpone(owed, clock.at + timedelta(minutes=5), "Partner Center answered 503", 3)
    waiting = state.owed(name)
    assert waiting is not None
    assert (waiting.reason, waiting.attempts, waiting.parked) == ("Partner Center answered 503", 3, "")
    assert name not in [one.name for one in state.due()]
    clock.at += timedelta(minutes=6)
    assert name in [one.name for one in state.due()]


def test_what_was_marked_meanwhile_is_neither_postponed_nor_parked(state: State, clock: Ticking, name: str) -> None:
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    state.mark(name)
    assert not state.postpone(owed, clock.at + timedelta(hours=1), "later", 1)
    assert not state.park(owed, "a person must act", "hash")
    assert name in [one.name for one in state.due()]


def test_what_is_parked_stays_parked_when_it_is_marked(state: State, name: str) -> None:
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    assert state.park(owed, "Solution ID is required", "hash")
    assert name not in [one.name for one in state.due()]
    state.mark(name)
    marked = state.owed(name)
    assert marked is not None
    assert (marked.parked, marked.refused) == ("Solution ID is required", "hash")
    assert name in [one.name for one in state.due()], "a worker looks whether the content changed"


def test_an_operators_retry_unparks(state: State, name: str) -> None:
    assert not state.unpark(name)
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    state.park(owed, "a person must act", "hash")
    assert state.unpark(name)
    unparked = state.owed(name)
    assert unparked is not None
    assert (unparked.parked, unparked.refused, unparked.attempts) == ("", "", 0)
    assert name in [one.name for one in state.due()]


def test_due_lists_exactly_what_is_due(state: State, clock: Ticking) -> None:
    names = [f"pc-{uuid.uuid4()}" for _ in range(12)]
    for one in names:
        state.mark(one)
    for one in names[::2]:
        owed = state.owed(one)
        assert owed is not None
        state.postpone(owed, clock.at + timedelta(hours=1), "later", 1)
    assert {one.name for one in state.due()} & set(names) == set(names[1::2])


def test_reasons_of_any_length_survive(state: State, name: str) -> None:
    reason = "причина 😀 " * 4_000
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    assert state.park(owed, reason, "hash")
    parked = state.owed(name)
    assert parked is not None
    assert parked.parked == reason


# -- pairs and aliases -----------------------------------------------------------------------------------------------------------------


def test_a_pair_comes_back_as_it_was_saved(state: State, name: str) -> None:
    saved = state.start_pair(full_pair(name))
    assert state.pair(name) == saved
    bare = state.save(replace(Pair(name), etag=saved.etag))
    assert state.pair(name) == bare, "an emptied column is empty"


def test_compare_and_set_lets_one_of_two_workers_through(state: State, name: str) -> None:
    """N5: without it the slower worker would put its old memory back."""
    started = state.start_pair(Pair(name))
    state.save(replace(started, outcome="the quicker one"))
    with pytest.raises(RowChanged):
        state.save(replace(started, outcome="the slower one"))
    kept = state.pair(name)
    assert kept is not None
    assert kept.outcome == "the quicker one"


def test_a_save_that_changes_nothing_still_counts(state: State, name: str) -> None:
    """N12: a run that found nothing to do must make a run that is about to remember fail."""
    started = state.start_pair(Pair(name))
    state.save(started)
    with pytest.raises(RowChanged):
        state.save(started)


def test_a_name_is_started_once_and_keeps_its_meaning(state: State, name: str) -> None:
    other = f"sf-{uuid.uuid4().hex[:18]}"
    state.start_pair(Pair(name))
    with pytest.raises(RowExists):
        state.start_pair(Pair(name, referral_id="another"))
    state.alias(other, name)
    state.alias(other, "pc-somebody-else")
    state.alias(name, other)
    assert state.link(other) == Alias(other, name)
    assert state.pair(other) == state.pair(name)
    with pytest.raises(RowExists):
        state.start_pair(Pair(other))


def test_a_name_nobody_knows_has_no_pair(state: State, name: str) -> None:
    assert state.link(name) is None
    assert state.pair(name) is None


def test_links_lists_pairs_and_aliases(state: State, name: str) -> None:
    state.start_pair(full_pair(name))
    state.alias(f"sf-of-{name}", name)
    mine = {link.name: type(link) for link in state.links() if name in link.name}
    assert mine == {name: Pair, f"sf-of-{name}": Alias}


@pytest.mark.parametrize("sign", ["a", "é", "漢", '"', "\n"])
def test_notes_of_the_greatest_length_survive_in_every_place_at_once(state: State, name: str, sign: str) -> None:
    """Memory, an announced value, the value it overrides and the body: one deal may hold the longest notes four times over.

    Table Storage takes 64 KiB in a column and 1 MiB in a row; Azurite checks less, so the size is checked here.
    """
    notes = sign * 32_000
    announced = Announcement("v", "t", {"notes": Announced(notes, notes)}, notes)
    saved = state.start_pair(Pair(name, known=Known({"notes": notes}, {"partner_center": announced})))
    assert state.pair(name) == saved
    state.record(name, "conflict", "notes updated", {"changes": [{"old": notes, "new": notes}], "overrides": {"notes": notes}})
    (entry,) = state.history(name)
    assert entry["details"]["overrides"]["notes"] == notes


@pytest.mark.parametrize("sign", ["a", "漢", '"'])
def test_no_row_outgrows_table_storage(name: str, sign: str) -> None:
    tables = MemoryTables()
    state = State(tables, Ticking())
    notes = sign * 32_000
    announced = Announcement("v", "t", {"notes": Announced(notes, notes)}, notes)
    state.start_pair(Pair(name, known=Known({"notes": notes}, {"partner_center": announced})))
    state.record(name, "conflict", "notes updated", {"changes": [{"old": notes, "new": notes}], "overrides": {"notes": notes}})
    for table in ("links", "history"):
        for stored in tables.list(table, name):
            sizes = {key: len(str(value).encode("utf-16-le")) for key, value in stored.row.items()}
            assert max(sizes.values()) <= 64 * 1024
            assert sum(sizes.values()) < 1024 * 1024


# -- history ---------------------------------------------------------------------------------------------------------------------------


def test_history_is_read_newest_first(state: State, name: str) -> None:
    for number in range(5):
        state.record(name, "outcome", f"entry {number}", {"number": number})
    entries = list(state.history(name))
    assert [one["text"] for one in entries] == [f"entry {number}" for number in (4, 3, 2, 1, 0)]
    assert entries[0]["details"] == {"number": 4}
    assert entries[0]["at"] > entries[-1]["at"]
    assert entries[0]["kind"] == "outcome"


def test_history_belongs_to_one_name(state: State, name: str) -> None:
    state.record(f"{name}-other", "outcome", "not mine")
    assert list(state.history(name)) == []


# -- cursors ---------------------------------------------------------------------------------------------------------------------------


def test_a_cursor_is_where_it_was_moved_to(state: State, name: str) -> None:
    assert state.cursor(name) == ""
    state.move_cursor(name, stamp(START))
    state.move_cursor(name, stamp(START - timedelta(hours=1)))
    assert state.cursor(name) == stamp(START - timedelta(hours=1)), "it may be set back: that only repeats marks"


def test_a_window_of_many_rows_is_remembered_and_forgotten(state: State, name: str) -> None:
    """More than the hundred operations that one transaction holds."""
    rows = [(f"006{number:015d}", f"content {number}") for number in range(250)]
    state.remember_seen(name, rows)
    assert state.seen(name) == dict(rows)
    state.remember_seen(name, [(rows[0][0], "moved on")])
    state.forget_seen(name, [key for key, _ in rows[5:]])
    assert state.seen(name) == {**dict(rows[1:5]), rows[0][0]: "moved on"}
    state.forget_seen(name, [rows[0][0], "never there"])
    state.remember_seen(name, [])
    assert state.seen(name) == dict(rows[1:5])


def test_a_flows_last_success_is_kept_with_what_it_found(state: State, name: str) -> None:
    state.succeeded(name, {"found": 1})
    state.succeeded(name, {"found": 2})
    assert state.flows()[name]["found"] == 2
    assert state.flows()[name]["at"] >= stamp(START)


# -- tables ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tables: Tables, name: str) -> Iterator[tuple[Tables, str]]:
    yield tables, name
    tables.delete_many("cursors", name, [stored.key for stored in tables.list("cursors", name)])


Refusal = tuple[str, Callable[[Tables, str, str], Any], type[Exception]]
REFUSALS: list[Refusal] = [
    ("insert over a row", lambda t, p, _: t.insert("cursors", p, "k", {}), RowExists),
    ("replace with an old etag", lambda t, p, old: t.replace("cursors", p, "k", {"a": "3"}, old), RowChanged),
    ("replace of a row that is gone", lambda t, p, old: t.replace("cursors", p, "none", {}, old), RowChanged),
    ("delete with an old etag", lambda t, p, old: t.delete("cursors", p, "k", old), RowChanged),
]


@pytest.mark.parametrize(("what", "call", "error"), REFUSALS, ids=[what for what, *_ in REFUSALS])
def test_a_condition_that_fails_writes_nothing(rows: tuple[Tables, str], what: str, call: Any, error: type[Exception]) -> None:
    tables, partition = rows
    old = tables.insert("cursors", partition, "k", {"a": "1"})
    current = tables.merge("cursors", partition, "k", {"a": "2"})
    with pytest.raises(error):
        call(tables, partition, old)
    stored = tables.get("cursors", partition, "k")
    assert stored is not None
    assert (stored.row["a"], stored.etag) == ("2", current)


def test_a_merge_sets_the_given_columns_and_a_replace_all(rows: tuple[Tables, str]) -> None:
    tables, partition = rows
    tables.merge("cursors", partition, "k", {"a": "1", "b": "1"})
    etag = tables.merge("cursors", partition, "k", {"b": "2", "none": None})
    stored = tables.get("cursors", partition, "k")
    assert stored is not None
    assert stored.row == {"a": "1", "b": "2"}
    tables.replace("cursors", partition, "k", {"c": "3"}, etag)
    stored = tables.get("cursors", partition, "k")
    assert stored is not None
    assert stored.row == {"c": "3"}


def test_rows_are_listed_in_key_order_and_by_time(rows: tuple[Tables, str]) -> None:
    tables, partition = rows
    for key, due in (("b", "2026-02"), ("a", "2026-03"), ("c", "2026-01")):
        tables.insert("cursors", partition, key, {"due": due})
    assert [one.key for one in tables.list("cursors", partition)] == ["a", "b", "c"]
    assert [one.key for one in tables.list("cursors", partition, before=("due", "2026-02"))] == ["b", "c"]
