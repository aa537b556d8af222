"""The real worker on the real records, with its hands tied: what it would write is shown, nothing is written anywhere.

Memory is borrowed: rows are copied when they are first read, and every write stays in the copy. The vendors' clients answer reads alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from shared.clock import Clock
from shared.flows import synchronize
from shared.run import Outcome
from shared.state import Owed, State
from shared.tables import MemoryTables, Row, Stored, Tables
from shared.world import World


@dataclass(frozen=True)
class Attempt:
    """A write that was about to leave."""

    vendor: str
    what: str
    body: Any


@dataclass
class Rehearsal:
    """How a run would end, and what it would have sent."""

    outcome: Outcome
    attempts: list[Attempt] = field(default_factory=list)
    more: bool = False
    """It stopped where the next step depends on what a vendor answers."""


class _Stopped(BaseException):
    """The next step needs an answer that cannot be made up. Not an `Exception`, since the worker survives all of those."""


def rehearse(world: World, name: str, prepare: Callable[[State], None] = lambda _: None) -> Rehearsal:
    """What the next run for a record name would do, on a state that is prepared before. Raises what reading may raise."""
    attempts: list[Attempt] = []
    state = _Borrowed(world.state, world.clock)
    prepare(state)
    readers: dict[str, Any] = {
        "partner_center": _PartnerCenter(world.partner_center, attempts),
        "salesforce": _Salesforce(world.salesforce, attempts),
    }
    rehearsed = replace(world, settings=replace(world.settings, sync_mode="live"), state=state, waker=_Asleep(), **readers)
    try:
        return Rehearsal(synchronize(rehearsed, name), attempts)
    except _Stopped as stopped:
        kind: Literal["created", "wrote"] = "created" if stopped.args else "wrote"
        return Rehearsal(Outcome(name, kind, str(stopped) or state.last_recorded), attempts, more=True)


class _BorrowedTables(MemoryTables):
    """Starts from the rows of the real tables, one by one as they are read, and never gives anything back."""

    def __init__(self, lender: Tables) -> None:
        super().__init__()
        self._lender = lender
        self._borrowed: set[tuple[str, str, str]] = set()

    def get(self, table: str, partition: str, key: str) -> Stored | None:
        if (table, partition, key) not in self._borrowed:
            self._borrowed.add((table, partition, key))
            stored = self._lender.get(table, partition, key)
            if stored is not None:
                super().merge(table, partition, key, stored.row)
        return super().get(table, partition, key)

    def insert(self, table: str, partition: str, key: str, row: Row) -> str:
        self.get(table, partition, key)
        return super().insert(table, partition, key, row)

    def merge(self, table: str, partition: str, key: str, row: Row) -> str:
        self.get(table, partition, key)  # borrowed afterwards, the lender's columns would lie over these
        return super().merge(table, partition, key, row)


class _Borrowed(State):
    """The connector's memory, for one rehearsal. Whatever name is asked for is owed once."""

    def __init__(self, lender: State, clock: Clock) -> None:
        super().__init__(_BorrowedTables(lender.tables), clock)
        self._asked: set[str] = set()
        self.last_recorded = ""

    def record(self, pair: str, kind: str, text: str, details: Any = None) -> None:
        self.last_recorded = text

    def owed(self, name: str) -> Owed | None:
        if name not in self._asked:
            self.mark(name)  # also what waits for its time, or for a person, is looked at
        self._asked.add(name)
        return super().owed(name)


class _Reader:
    """Lets the named reads through."""

    reads: frozenset[str]

    def __init__(self, client: Any, attempts: list[Attempt]) -> None:
        self._client, self._attempts = client, attempts

    def __getattr__(self, name: str) -> Any:
        if name not in self.reads:
            raise AttributeError(f"a rehearsal cannot {name}")
        if name == "referral" and self._attempts:
            raise _Stopped  # to read a record that was not really written would end in fiction
        return getattr(self._client, name)


class _PartnerCenter(_Reader):
    reads = frozenset({"referral", "engagement", "by_external_reference", "changed_since", "all_referrals", "server_time"})

    def create_referral(self, body: dict[str, Any], request_id: str) -> dict[str, Any]:
        what = "asking Microsoft for help" if body.get("inviteContext") else "creating a referral"
        self._attempts.append(Attempt("Partner Center", what, body))
        raise _Stopped(f"{what} in Partner Center")

    def patch_referral(self, referral_id: str, operations: list[dict[str, Any]], etag: str, request_id: str) -> None:
        self._attempts.append(Attempt("Partner Center", f"changing referral {referral_id}", operations))


class _Salesforce(_Reader):
    reads = frozenset({"query", "query_all", "describe", "server_time", "answered_at", "api_usage"})

    def create(self, sobject: str, fields: Any, **options: Any) -> str:
        self._attempts.append(Attempt("Salesforce", f"creating {sobject}", dict(fields)))
        raise _Stopped(f"creating {sobject} in Salesforce")

    def graph(self, requests: Any, **options: Any) -> dict[str, str]:
        records = [{"object": one.path, **one.body} for one in requests]
        self._attempts.append(Attempt("Salesforce", f"creating {', '.join(one.path for one in requests)}", records))
        raise _Stopped("creating the deal's records in Salesforce")

    def update(self, sobject: str, record_id: str, fields: Any, **options: Any) -> None:
        self._attempts.append(Attempt("Salesforce", f"changing {sobject} {record_id}", dict(fields)))


class _Asleep:
    def wake(self, name: str, delay: float = 0) -> None:
        return None

    def waiting(self) -> int:
        return 0

    def poisoned(self) -> int:
        return 0
