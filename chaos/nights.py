"""The second half: one deal in one process, where every call of every worker is a place to stop, to die, or to be overtaken.

Nothing here depends on timing: a seed is one exact interleaving of two workers, the polls, the events, people, faults and time.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

from chaos.checking import Edits, Rest, faults, plain
from chaos.deal import FIELDS, Deal, written
from chaos.story import WINNERS, Side
from shared import polls
from shared.errors import ConnectorError, TryLater
from shared.flows import synchronize
from shared.pairing import referral_name
from shared.world import World
from simulator.core import Response
from simulator.faults import Fault
from simulator.salesforce import Org
from tests import interleaving
from tests.interleaving import GatedTables, Interleaved, Worker

SIDES: tuple[Side, ...] = get_args(Side)
OVERLAY = {"fields": {"notes": {"winner": "partner_center"}}}
BEGINNINGS = (
    "agreed",
    "shared by a seller",
    "shared by a seller, Microsoft asked for help",
    "made in the portal",
    "an invitation by Microsoft",
    "met for the first time",
)
STEPS = 170
EDITS = 6
FAULTS = 5
LONG_WAIT = 700.0  # seconds: past the lease and the margin
HOUR = 3700.0

_ERRORS = {
    "row lock": (400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record"),
    "daily limit": (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
}
_VENDOR_FAULTS: tuple[dict[str, Any], ...] = (
    {"cut": "after"},
    {"cut": "after"},
    {"cut": "before"},
    {"status": 503, "html": True},
    {"status": 500},
    {"status": 502, "html": True},
    {"status": 429},
    {"status": 429, "retry_after": 3},
)
_POLLS: dict[str, Callable[[World], int | None]] = {
    "the poll of opportunities": polls.poll_opportunities,
    "the poll of solutions": polls.poll_solutions,
    "the poll of referrals": polls.poll_referrals,
    "the resumption of owed work": polls.resume_owed_work,
}


class BrokenTables(GatedTables):
    """Tables whose next operations by a worker can fail, before or after they were done."""

    def __init__(self) -> None:
        super().__init__()
        self.next: list[str] = []
        self.counted: Counter[str] = Counter()

    def forget(self) -> None:
        """Every row is gone, as after a lost storage account."""
        with self._lock:
            self._rows.clear()

    def _met(self, moment: str) -> None:
        if self.next and self.next[0] == moment and getattr(interleaving._current, "worker", None) is not None:
            self.next.pop(0)
            self.counted[f"storage: fails {moment} the operation is done"] += 1
            raise TryLater("Table Storage answered 503")

    def insert(self, table: str, partition: str, key: str, row: Any) -> str:
        self._met("before")
        etag = super().insert(table, partition, key, row)
        self._met("after")
        return etag

    def replace(self, table: str, partition: str, key: str, row: Any, etag: str) -> str:
        self._met("before")
        new = super().replace(table, partition, key, row, etag)
        self._met("after")
        return new

    def merge(self, table: str, partition: str, key: str, row: Any) -> str:
        self._met("before")
        etag = super().merge(table, partition, key, row)
        self._met("after")
        return etag

    def delete(self, table: str, partition: str, key: str, etag: str) -> None:
        self._met("before")
        super().delete(table, partition, key, etag)
        self._met("after")

    def get(self, table: str, partition: str, key: str) -> Any:
        self._met("before")
        return super().get(table, partition, key)


class Night:
    """One deal, two workers at most, random hands: a seed says everything that happens."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"night {seed}")
        random.seed(seed)  # the connector spreads its retries by chance
        self.beginning = self.random.choice(BEGINNINGS)
        self.w = Interleaved(overlay=OVERLAY, tables=BrokenTables(), org=Org(page_size=2))
        self.w.sim.partner_center.switches.page_size = 2
        self.deal = Deal(self.w.sim)
        self.workers: list[Worker] = []
        self.told: list[str] = [f"seed {seed}: a deal, {self.beginning}"]
        self.counted: Counter[str] = Counter()
        self.steps, self.edits, self.faults = 0, 0, 0
        self._open()

    @property
    def tables(self) -> BrokenTables:
        tables = self.w.tables
        assert isinstance(tables, BrokenTables)
        return tables

    def _open(self) -> None:
        if self.beginning in ("made in the portal", "an invitation by Microsoft"):
            self.deal.made_in_partner_center(invited="invitation" in self.beginning)
        else:
            self.deal.saved_by_seller("General or Other" if "Microsoft" in self.beginning else None)
            self.deal.shared_by_seller()
        if self.beginning in ("agreed", "met for the first time"):
            self.w.settle()
            self.w.sim.clock.advance(3600)
            self.deal.find()
        if self.beginning == "met for the first time":
            self._forget()
        self.began = self.w.position()

    def _forget(self) -> None:
        """Both records name each other and hold different values, and nothing is remembered of them."""
        for name in FIELDS:
            for side in SIDES:
                self.deal.edit(side, name)
            known = Edits("nothing")
            for side in SIDES:
                known.add(side, self.deal.values(side)[name], "nothing")
            self.deal.edits[name] = known
        self.tables.forget()

    # -- what happens ------------------------------------------------------------------------------------------------------------------

    def _alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.about_to is not None]

    def _note(self, what: str, count: str = "") -> None:
        self.told.append(what)
        if count:
            self.counted[count] += 1

    def step(self) -> None:
        """One thing happens."""
        self.steps += 1
        alive, choice = self._alive(), self.random.random()
        # People like to come in between: right before a worker writes, remembers, or clears what it owes.
        tempting = any(re.match("PATCH|POST|replace links|delete owed", str(worker.about_to)) for worker in alive)
        if choice < (0.2 if tempting else 0.05) and self.edits < 1 + EDITS * self.steps // STEPS:
            self._edit()
        elif choice < 0.29 and len(alive) < 2:
            self._start()
        elif choice < 0.31 and alive and self.faults < FAULTS:
            self.faults += 1
            worker = self.random.choice(alive)
            self._note(f"a worker dies before {worker.about_to}", "killed between two calls")
            worker.kill()
        elif choice < 0.35 and self.faults < FAULTS:
            self.faults += 1
            self._trouble()
        elif choice < 0.39:
            self._event()
        elif choice < 0.45:
            self._wait(alive)
        elif alive:
            worker = self.random.choice(alive)
            self._note(f"worker {self.workers.index(worker)}: {worker.about_to}")
            worker.step()

    def _edit(self) -> None:
        side, name = self.random.choice(SIDES), self.random.choice(list(WINNERS))
        late = self.random.choice((0.0, 0.0, 0.0, 5.0)) if side == "salesforce" else 0.0
        if self.deal.edit(side, name, late):
            self.edits += 1
            self._note(f"a person: {self.deal.log[-1]}", "an edit by a person" + (", visible late with its old stamp" if late else ""))
            if self.random.random() < 0.5:
                # Found before anybody works on it: whoever is under way must notice the mark, no later poll repeats it.
                self._note("both polls see it at once")
                for poll in (polls.poll_opportunities, polls.poll_referrals):
                    with contextlib.suppress(ConnectorError):
                        poll(self.w.world)

    def _start(self) -> None:
        """Whoever is due, or a poll."""
        if self.random.random() < 0.3:
            poll = self.random.choice(list(_POLLS))
            self.workers.append(Worker(self.w.new_worker(), poll, _invoked(lambda world, name: _POLLS[name](world))))
            self._note(f"{poll} starts")
            return
        names = sorted(one.name for one in self.w.world.state.all_owed()) or sorted(n for n in self.deal.names if n[:3] in ("sf-", "pc-"))
        name = self.random.choice(names)
        self.workers.append(Worker(self.w.new_worker(), name, _invoked(synchronize)))
        self._note(f"a worker starts on {name}")

    def _trouble(self) -> None:
        drawn = self.random.random()
        if drawn < 0.35:
            moment = self.random.choice(("before", "after"))
            self.tables.next.append(moment)
            self._note(f"the next operation of storage fails {moment} it was done")
            return
        host, method = self.random.choice((("salesforce", "PATCH"), ("partner_center", "PATCH"), ("partner_center", "POST"), ("salesforce", "POST"), ("salesforce", "GET"), ("partner_center", "GET")))  # fmt: skip
        words: dict[str, Any] = self.random.choice(_VENDOR_FAULTS)
        fault = _Fault(host=host, method=method, **words)  # type: ignore[arg-type]
        if host == "salesforce" and drawn > 0.8:
            kind = self.random.choice(list(_ERRORS))
            status, code, message = _ERRORS[kind]
            fault = _Fault(host="salesforce", method=method, status=status)
            fault.answer = Response.of(status, [{"errorCode": code, "message": message}])
            words = {kind: True}
        fault.met = lambda: self.counted.update([f"{host}: {', '.join(f'{key} {value}' for key, value in words.items())}"])
        self.w.sim.faults.add(fault)
        self._note(f"the next {method} to {host} meets {words}")

    def _event(self) -> None:
        """One of the waiting events arrives, is lost, or arrives twice; which one is chance, so they come in any order."""
        waiting = self.w.sim.webhooks.waiting
        if not waiting:
            return
        event = waiting.pop(self.random.randrange(len(waiting)))
        referral = json.loads(event.body)["ResourceUri"].rpartition("/")[2]
        fate = self.random.choices(("arrives", "is lost", "arrives twice"), (4, 2, 1))[0]
        self._note(f"an event about {referral} {fate}", f"event {fate}")
        for _ in range({"arrives": 1, "is lost": 0, "arrives twice": 2}[fate]):
            self.w.world.state.mark(referral_name(referral))

    def _wait(self, alive: list[Worker]) -> None:
        # Past the margin while a create may be on its way: that is W3, which is provoked elsewhere.
        creating = any("POST" in str(worker.about_to) for worker in alive)
        pending = self.w.sim.salesforce.store.oldest_uncommitted()
        seconds = self.random.choice((0.4, 1, 3, 100) if not creating and not pending else (0.4, 1, 3))
        if not creating and not pending and self.random.random() < 0.1:
            seconds = LONG_WAIT
        self.w.sim.clock.advance(seconds)
        self._note(f"{seconds} s pass")

    def run(self) -> None:
        if self.beginning == "an invitation by Microsoft":
            self.accept_at = self.random.randrange(STEPS)
        for number in range(STEPS):
            if self.beginning == "an invitation by Microsoft" and number == self.accept_at:
                self.deal.accepted_in_portal()
            self.step()
        for worker in self.workers:
            worker.finish()
        self.w.sim.faults.clear()
        self.tables.next.clear()
        self.counted += self.tables.counted
        self.w.sim.clock.advance(HOUR)  # the longest pause that a vendor asked for is over
        for _ in range(40):
            self.w.sim.clock.advance(LONG_WAIT)
            with contextlib.suppress(ConnectorError):
                self.w.round()
                if not self.w.owed():
                    break

    # -- what is left ------------------------------------------------------------------------------------------------------------------

    def faults_found(self) -> list[str]:
        """What does not hold, after everything has come to rest and another round of every timer."""
        deal, state = self.deal, self.w.world.state
        late = self.w.quiet()
        deal.find()
        calls = [call for call in self.w.sim.journal.calls(since=self.began) if call.mutating]
        pair = next(filter(None, (state.pair(name) for name in sorted(deal.names) if name[:3] in ("sf-", "pc-"))), None)
        history = list(state.history(pair.name)) if pair else []
        rest = Rest(
            {side: deal.values(side) for side in SIDES},
            {name: plain(name, pair.known.memory.get(name)) for name in FIELDS} if pair else {},
            bool(pair and (pair.known.announced or pair.create)),
            [one["details"] or {} for one in history],
            {side: written(calls, side) for side in SIDES},
            {side: sum(call.host == side and call.method == "POST" for call in calls) for side in SIDES},
            deal.records(),
            [f"{name}: {reason}" for name, reason in self.w.owed().items()],
            [f"{name}: {reason}" for name, reason in self.w.parked().items()],
        )
        found = faults(deal.edits, rest) if deal.is_whole() else ["the other record was never made", *rest.owed, *rest.parked]
        found += [f"wrote after everybody rested: {one}" for one in late]
        if found:
            self.told += [f"{side}: {rest.values[side]}" for side in SIDES] + [f"memory: {rest.memory}", "history, newest first:"]
            self.told += [f"  {one['at']} {one['kind']}: {one['text']}" for one in history]
        return found


class _Fault(Fault):
    """A fault that says when it is met, and may answer in the vendor's own words."""

    answer: Response | None = None
    met: Callable[[], None] | None = None

    def matches(self, request: Any) -> bool:
        known = super().matches(request) and "/oauth2/" not in request.path and "/describe" not in request.path
        if known and self.met:
            self.met()
        return known

    def response(self) -> Response:
        return self.answer or super().response()


def _invoked(flow: Callable[[World, str], object]) -> Callable[[World, str], None]:
    """The flow as the host runs it: one that fails has failed, and nobody is told but the log."""

    def invoked(world: World, name: str) -> None:
        with contextlib.suppress(ConnectorError):
            flow(world, name)

    return invoked


def lived(seed: int) -> Night:
    """A night from its beginning to its end; `faults_found` says what does not hold."""
    night = Night(seed)
    night.run()
    return night
