"""Under load: how a run's storage calls grow with the number of pairs, a burst of events, a mass update found by one poll."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import httpx

from bench.budgets import OPPORTUNITY_POLL, SETTLED, calm
from bench.speed import AT_ONCE, queues_alive, signed_event, some_deals, value
from demo.stage import CALLBACK, Stage
from devhost.azurite import Azurite
from shared import composition
from shared.clock import Clock
from shared.planning import Known
from shared.settings import Settings
from shared.state import Pair, State
from shared.tables import AzureTables

SAMPLES = 200
LONGEST = 300.0
# About what stands in the memory of a deal.
REMEMBERED = {"title": "Fabrikam data estate", "deal_value": "50000", "currency": "USD", "status": "active", "notes": "x" * 400}


@dataclass(frozen=True)
class Growth:
    """What a run costs in storage with so many pairs in the tables: milliseconds, medians."""

    pairs: int
    run: float
    due: float
    megabytes: float


@dataclass(frozen=True)
class Held:
    """How something went that has no floor to compare with."""

    what: str
    measured: str


def growth(sizes: Sequence[int]) -> list[Growth]:
    """The storage calls of one run that writes (mark, owed, alias, pair, announce, history, remember, clear) as the tables grow."""
    rows = []
    with Azurite() as azurite:
        settings = Settings(storage=azurite.connection_string)
        state = State(AzureTables(settings), Clock())
        known = Known(REMEMBERED)
        before = 0
        for size in sizes:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                names = [_names(number) for number in range(before, size)]
                made = pool.map(lambda pair: _start(state, pair, known), names)
                for number, _ in enumerate(made, before + 1):
                    if number % 1000 == 0 and sys.stderr.isatty():
                        print(f"\r{number:,} of {size:,} pairs in the tables", end="", file=sys.stderr)
            before = size
            asked = [_names(number * size // SAMPLES) for number in range(SAMPLES)]
            for opportunity, referral in asked:
                state.alias(referral, opportunity)
            run = _median(lambda pair: _run(state, pair), asked)
            due = _median(lambda _: list(state.due()), asked[:20])
            rows.append(Growth(size, run, due, _megabytes()))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return rows


def _names(number: int) -> tuple[str, str]:
    return f"sf-006Ws{number:010d}AAA", f"pc-00000000-0000-4000-8000-{number:012x}"


def _start(state: State, pair: tuple[str, str], known: Known) -> None:
    opportunity, referral = pair
    state.start_pair(Pair(opportunity, referral_id=referral[3:], opportunity_id=opportunity[3:], known=known))


def _run(state: State, pair: tuple[str, str]) -> None:
    _, referral = pair
    state.mark(referral)
    owed = state.owed(referral)
    found = state.pair(referral)
    assert owed is not None
    assert found is not None
    announced = state.save(replace(found, holder="bench"))
    state.record(found.name, "bench", "value 1 → 2, changed in Salesforce")
    state.save(replace(announced, holder=""))
    assert state.clear(owed)


def _median(work: Callable[[Any], object], over: Iterable[Any]) -> float:
    took = []
    for one in over:
        began = time.perf_counter()
        work(one)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def burst(stage: Stage, number: int, deals: int) -> list[Held]:
    """Signed events for fewer deals than there are events, all at once; then the time until nothing is owed any more."""
    chosen = [referral for _, referral in some_deals(stage, deals)]
    for referral in chosen:
        stage.sim.people.portal_edit(referral, {"details/dealValue": value(stage, referral) + 10})
    stage.sim.webhooks.waiting.clear()
    requests = [signed_event(stage, referral) for referral in itertools.islice(itertools.cycle(chosen), number)]
    stage.sim.advance(SETTLED)
    before = stage.sim.journal.position()

    async def post_all() -> float:
        gate = asyncio.Semaphore(AT_ONCE)
        app: Any = stage.app.host
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=stage.app.url) as client:

            async def post(headers: dict[str, str], body: bytes) -> None:
                async with gate:
                    (await client.post(CALLBACK, headers=headers, content=body)).raise_for_status()

            began = time.monotonic()
            await asyncio.gather(*(post(headers, body) for headers, body in requests))
            return time.monotonic() - began

    accepted = asyncio.run_coroutine_threadsafe(post_all(), stage.app.loop).result()
    began = time.monotonic()
    with queues_alive(stage):
        _until(lambda: stage.status()["owed"]["count"] == 0, "nothing is owed")
        drained = time.monotonic() - began
        # What is left are wake-ups for deals that are done: each finds nothing owed.
        _until(lambda: composition.world().waker.waiting() == 0, "no wake-up is left")
        emptied = time.monotonic() - began
    writes = sum(call.mutating for call in stage.sim.journal.calls("salesforce", before))
    calm(stage)
    return [
        Held(f"{number:,} events for {deals:,} deals, accepted", f"{accepted:.1f} s, {number / accepted:.0f}/s"),
        Held("nothing owed any more", f"{drained:.1f} s after the last, {writes:,} writes: one for each deal"),
        Held("the repeated wake-ups found idle", f"{emptied:.1f} s after the last event"),
    ]


def mass_update(stage: Stage, number: int, seconds: float) -> list[Held]:
    """So many opportunities shared at once and found by one poll; then somebody edits another deal, which must not wait for them all."""
    opportunity, referral = some_deals(stage, 1)[0]
    with stage.sim.lock:
        for each in range(number):
            stage.sim.salesforce.make_deal(f"Mass {each}")
    stage.sim.advance(SETTLED)
    memory = _megabytes()
    began = time.monotonic()
    stage.app.run_timer(OPPORTUNITY_POLL)
    polled = time.monotonic() - began
    grown = _megabytes() - memory
    owed = stage.status()["owed"]["count"]
    before = stage.sim.journal.position()

    def patched() -> bool:
        calls = stage.sim.journal.calls("partner_center", before)
        return any(call.method == "PATCH" and referral in call.path for call in calls)

    began = time.monotonic()
    with queues_alive(stage):
        time.sleep(2)
        stage.seller_edits(opportunity, Amount=value(stage, referral) + 10)
        edited = time.monotonic()
        time.sleep(SETTLED)
        stage.app.run_timer(OPPORTUNITY_POLL)
        _until(patched, "the other deal's edit arrives")
        waited = time.monotonic() - edited
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        took = time.monotonic() - began
        made = sum(call.method == "POST" and call.status < 300 for call in stage.sim.journal.calls("partner_center", before)) // 2
    return [
        Held(f"one poll that finds {number:,} changed opportunities", f"{polled:.1f} s, {owed:,} deals owed, memory +{grown:.0f} MB"),
        Held(
            "an edit of another deal, made while they are worked off",
            f"on the other side after {waited:.1f} s ({SETTLED} s of them settling)",
        ),
        Held("referrals created meanwhile, each with Microsoft's", f"{made:,} in {took:.0f} s, {made / took:.1f}/s"),
    ]


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LONGEST
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {LONGEST:.0f} s in vain for this: {what}")
        time.sleep(0.1)


def _megabytes() -> float:
    """Resident memory of this process at its highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if os.uname().sysname == "Linux" else 1024**2)
