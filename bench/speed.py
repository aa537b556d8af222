"""How fast: events accepted, edits carried over while both vendors are 50 ms away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from bench.budgets import OPPORTUNITY_POLL, SETTLED, calm, deliver
from bench.report import Rate
from demo.stage import CALLBACK, Stage, StoryFailed
from simulator.core import Call
from simulator.core import Host as VendorHost

LATENCY = 0.05
AT_ONCE = 16  # threads of the worker, PYTHON_THREADPOOL_THREAD_COUNT in the shipped settings
# Read the referral, read the opportunity, write one of them: each needs the answer before it, or must not be older than it.
CHAIN = 3
LONGEST = 60.0


def edits_in_salesforce(stage: Stage, number: int) -> Rate:
    """From the start of the poll that finds the edits to the last write in Partner Center."""
    deals = some_deals(stage, number)
    for opportunity, referral in deals:
        stage.seller_edits(opportunity, Amount=value(stage, referral) + 10)
    stage.sim.advance(SETTLED)
    seconds = timed(stage, lambda: stage.app.run_timer(OPPORTUNITY_POLL), "partner_center", number)
    return rate("edits in Salesforce, found by one poll", number, seconds, before=1)


def edits_in_partner_center(stage: Stage, number: int) -> Rate:
    """From the moment the events are let go to the last write in Salesforce."""
    for _, referral in some_deals(stage, number):
        stage.sim.people.portal_edit(referral, {"details/dealValue": value(stage, referral) + 10})
    stage.sim.advance(SETTLED)
    seconds = timed(stage, lambda: deliver(stage), "salesforce", number)
    return rate("edits in Partner Center, by webhook", number, seconds, before=0)


def rate(what: str, number: int, seconds: float, before: int) -> Rate:
    """`before` are the calls ahead of all the deals' chains."""
    turns = math.ceil(number / AT_ONCE)
    calls = before + turns * CHAIN
    words = f"{before + CHAIN} calls in a row" if turns == 1 else f"{turns} turns of {AT_ONCE} deals, {calls} calls in a row"
    return Rate(what, number, seconds, calls * LATENCY, f"{words} x {LATENCY * 1000:.0f} ms")


def some_deals(stage: Stage, number: int) -> list[tuple[str, str]]:
    """Opportunity and referral of linked deals, by id."""
    found = [(one["externalReferenceId"], one["id"]) for one in stage.sim.referrals() if one["externalReferenceId"]]
    assert len(found) >= number, "not enough linked deals"
    return found[-number:]


def value(stage: Stage, referral: str) -> float:
    return float(stage.sim.referral(referral)["details"]["dealValue"])


def timed(stage: Stage, start: Callable[[], object], host: VendorHost, number: int) -> float:
    """Seconds until so many writes were answered, while the real queue trigger runs; then everybody rests, without latency."""
    stage.sim.faults.latency.update({"salesforce": LATENCY, "partner_center": LATENCY})
    position, began, end = stage.sim.journal.position(), stage.sim.clock.now(), time.monotonic() + LONGEST

    def done() -> list[Call]:
        return [call for call in stage.sim.journal.calls(host, position) if call.mutating and call.status < 300]

    try:
        with queues_alive(stage):
            start()
            while len(done()) < number:
                time.sleep(0.02)
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(done())} of {number} edits arrived in {LONGEST:.0f} s")
    finally:
        stage.sim.faults.latency.clear()
    seconds = (done()[number - 1].at - began).total_seconds()
    calm(stage)
    if len(done()) != number:
        raise StoryFailed(f"{number} edits led to {len(done())} writes")
    return seconds


@contextlib.contextmanager
def queues_alive(stage: Stage) -> Iterator[None]:
    """The queue trigger works by itself, with its own batches and pauses, until the block ends."""
    stop = asyncio.Event()
    triggers = stage.app.host.queue_triggers.values()
    running = [asyncio.run_coroutine_threadsafe(trigger.keep_going(stop), stage.app.loop) for trigger in triggers]
    try:
        yield
    finally:
        stage.app.loop.call_soon_threadsafe(stop.set)
        for trigger in running:
            trigger.result()


def events_accepted(stage: Stage, number: int) -> Rate:
    """Signed events posted to the app in process, sixteen at a time: verified, marked in Azurite, a wake-up sent, answered 200."""
    referrals = [one["id"] for one in stage.sim.referrals()]
    requests = [signed_event(stage, referrals[each % len(referrals)]) for each in range(number)]

    async def post_all() -> float:
        app: Any = stage.app.host
        transport = httpx.ASGITransport(app)
        gate = asyncio.Semaphore(AT_ONCE)
        async with httpx.AsyncClient(transport=transport, base_url=stage.app.url) as client:

            async def post(headers: dict[str, str], body: bytes) -> None:
                async with gate:
                    answer = await client.post(CALLBACK, headers=headers, content=body)
                if answer.status_code != 200:
                    raise RuntimeError(f"an event was answered {answer.status_code}: {answer.text}")

            began = time.monotonic()
            await asyncio.gather(*(post(headers, body) for headers, body in requests))
            return time.monotonic() - began

    seconds = asyncio.run_coroutine_threadsafe(post_all(), stage.app.loop).result()
    return Rate("events accepted, durably marked", number, seconds)


def signed_event(stage: Stage, referral: str) -> tuple[dict[str, str], bytes]:
    webhooks = stage.sim.webhooks
    with stage.sim.lock:
        webhooks.emit("referral-updated", referral)
        delivery = webhooks.waiting.pop()
        assert json.loads(delivery.body)["ResourceUri"].endswith(referral)
        return webhooks.headers(delivery), delivery.body
