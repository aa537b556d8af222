"""Bugs to plant, so that the checks can be seen to fail: each is one of the steps of docs/protocol.md left out or done wrongly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from shared import creation, flows, planning
from shared.errors import TryLater
from shared.state import State

Patch = Callable[[Any, str, Any], None]


def memory_ignored(patch: Patch) -> None:
    merge = planning._merge
    patch(planning, "_merge", lambda row, p, s, memory, unsure: merge(row, p, s, {**memory, row.name: "something else"}, unsure))


def wrong_winner(patch: Patch) -> None:
    merge = planning._merge
    turned: dict[Any, Any] = {"salesforce": "partner_center", "partner_center": "salesforce"}
    patch(planning, "_merge", lambda row, p, s, memory, unsure: merge(replace(row, winner=turned[row.winner]), p, s, memory, unsure))


def memory_moved_after_a_lost_answer(patch: Patch) -> None:
    send = flows._send

    def sends(*arguments: Any) -> None:
        with contextlib.suppress(TryLater):
            send(*arguments)

    patch(flows, "_send", sends)


def owed_cleared_without_etag(patch: Patch) -> None:
    def clear(self: State, owed: Any) -> bool:
        found = self.owed(owed.name)
        if found:
            with contextlib.suppress(Exception):
                self.tables.delete("owed", _bucket(owed.name), owed.name, found.etag)
        return True

    from shared.state import _bucket

    patch(State, "clear", clear)


def create_repeated_without_search(patch: Patch) -> None:
    """Neither looks for what an earlier attempt made, nor waits for it."""
    from shared.partner_center import PartnerCenter

    patch(PartnerCenter, "by_external_reference", lambda self, reference, since: [])
    claim = creation._claim
    patch(creation, "_claim", lambda run, pair, step, sent, wait=True: claim(run, pair, step, sent, wait=False))


def pair_saved_without_etag(patch: Patch) -> None:
    save = State.save

    def saves(self: State, pair: Any) -> Any:
        found = self.pair(pair.name)
        return save(self, replace(pair, etag=found.etag) if found else pair)

    patch(State, "save", saves)


BUGS: dict[str, Callable[[Patch], None]] = {
    bug.__name__: bug
    for bug in (
        memory_ignored,
        wrong_winner,
        memory_moved_after_a_lost_answer,
        owed_cleared_without_etag,
        pair_saved_without_etag,
        create_repeated_without_search,
    )
}


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The named bug, until the block ends."""
    before: list[tuple[Any, str, Any]] = []

    def patch(where: Any, what: str, instead: Any) -> None:
        before.append((where, what, getattr(where, what)))
        setattr(where, what, instead)

    BUGS[name](patch)
    try:
        yield
    finally:
        for where, what, was in reversed(before):
            setattr(where, what, was)
