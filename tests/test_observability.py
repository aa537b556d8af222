"""One id from the event to the write, and numbers an alert can stand on; none of it holds a name or a value of a deal."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import replace
from typing import Any

import pytest

from shared import correlation, heartbeat, pulse, receiving, reporting
from shared.pairing import opportunity_name
from shared.watching import ELSEWHERE, NONE, OURS, PARTLY
from simulator.faults import Fault
from tests.deals import CALLBACK, EVENTS, DealWorld

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def lines(log: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [json.loads(one.getMessage().split(" ", 1)[1]) for one in log.records if one.getMessage().startswith(f"{event} ")]


# -- correlation -----------------------------------------------------------------------------------------------------------------------


def test_one_trace_leads_from_the_mark_over_the_queue_to_both_vendors_and_history(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cosell")
    w = DealWorld()
    deal = w.make_deal()
    since = w.position()
    with correlation.work("salesforce_changes", PARENT):
        w.world.state.mark(opportunity_name(deal.opportunity))
        w.wakes.wake(opportunity_name(deal.opportunity))
    w.sim.clock.advance(5)
    with correlation.work("synchronize_deal"):  # another invocation, with a trace of its own
        w.work()
    sent = [call.headers["ms-correlationid"] for call in w.sim.journal.calls(since=since) if call.host == "partner_center"]
    assert set(sent) == {str(uuid.UUID(TRACE))}
    assert {line["trace"] for line in lines(caplog, "cosell.deal")} == {TRACE}
    pair = w.world.state.pair(opportunity_name(deal.opportunity))
    assert pair is not None
    assert {one["trace"] for one in w.world.state.history(pair.name)} == {TRACE}


def test_a_broken_trace_header_is_replaced_by_a_trace_of_our_own() -> None:
    with correlation.work("by a test", "00-nonsense"):
        assert correlation.trace_id()
        assert uuid.UUID(correlation.correlation_id()).hex == correlation.trace_id()
    assert correlation.trace_id() == ""


def test_a_run_is_a_span_of_the_trace_that_marked_it() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    exporting = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    simple = pytest.importorskip("opentelemetry.sdk.trace.export")
    from opentelemetry import trace

    exporter = exporting.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(simple.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with correlation.resumed(PARENT, "synchronize_deal"):
        pass
    (span,) = exporter.get_finished_spans()
    assert (format(span.context.trace_id, "032x"), format(span.parent.span_id, "016x")) == (TRACE, "00f067aa0ba902b7")


# -- figures ---------------------------------------------------------------------------------------------------------------------------


def test_the_calls_of_a_day_are_told_by_vendor_and_function_over_all_processes() -> None:
    w = DealWorld()
    deal = w.make_deal()
    other = w.new_worker()
    with correlation.work("salesforce_opportunity_to_partner_center"):
        w.poll()
    with correlation.work("synchronize_deal"):
        w.work()
        w.sim.clock.advance(5)
        other.org.opportunity(deal.opportunity)
    for world in (w.world, other):
        world.spending.tell(world)
    today = reporting.status(w.world)["calls_today"]
    made = [call for call in w.sim.journal.calls() if call.host in ("partner_center", "webhooks")]
    assert sum(today["partner_center"].values()) == len(made)
    assert today["partner_center"]["synchronize_deal"] > sum(call.mutating for call in made if call.host == "partner_center")
    assert today["salesforce"]["synchronize_deal"] > 0
    assert today["salesforce"]["salesforce_opportunity_to_partner_center"] > 0
    w.sim.clock.advance(86_400)
    w.world.spending.tell(w.world)
    assert reporting.status(w.world)["calls_today"]["salesforce"] == {}


def test_freshness_counts_from_the_edit_by_the_vendors_clock_not_from_the_mark() -> None:
    w = DealWorld()
    deal = w.make_deal()
    w.settle()
    w.world.state.tables.delete_many("cursors", "latencies", [f"{slot:02d}" for slot in range(64)])
    w.sim.clock.advance(3600)
    w.seller_edits(deal.opportunity, Amount=64_000)
    w.sim.clock.advance(120)  # no poll ran for two minutes
    w.round()
    told = reporting.status(w.world)
    assert 120 <= told["freshness_seconds"]["p95"] < 130
    assert told["latency_seconds"]["p95"] < 10


def test_the_pulse_is_numbers_and_counts_what_waits_for_a_person(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cosell")
    w = DealWorld()
    w.make_deal(solutions=())
    w.make_deal("Northwind rollout")
    w.settle()
    pulse.tell(w.world)
    (line,) = lines(caplog, "cosell.status")
    assert {type(value) for name, value in line.items() if name != "trace"} <= {int, float}
    assert (line["parked"], line["owed"], line["poison"], line["errors"], line["registration_ok"]) == (1, 0, 0, 0, -1)
    assert 0 <= line["last_write_seconds"] < 3600
    assert 0 < line["salesforce_api_percent"] < 100 or line["salesforce_api_percent"] == -1
    assert not any(word in caplog.text for word in ("Northwind", "Fabrikam"))


def test_a_deal_that_fails_again_and_again_is_an_error_in_the_pulse() -> None:
    w = DealWorld()
    deal = w.make_deal()
    w.settle()
    w.seller_edits(deal.opportunity, Amount=64_000)
    w.sim.faults.add(Fault(host="partner_center", method="PATCH", status=503, count=10_000))
    for _ in range(6):
        w.sim.clock.advance(120)
        w.round()
    found = pulse.pulse(w.world)
    assert (found["errors"], found["owed"]) == (1, 1)
    assert found["oldest_owed_seconds"] >= 0


def test_a_brake_that_holds_counts_in_the_pulse() -> None:
    w = DealWorld()
    assert pulse.pulse(w.world)["held"] == 0
    w.world.brakes.foresee("salesforce", w.world.brakes.limit + 1)
    assert pulse.pulse(w.world)["held"] == 1


@pytest.mark.parametrize(("state", "ok"), [(OURS, 1), (f"{OURS} (taken back)", 1), (PARTLY, 0), (NONE, 0), (ELSEWHERE, 0)])
def test_only_a_registration_that_is_ours_and_whole_is_well(state: str, ok: int) -> None:
    w = DealWorld()
    w.world.state.succeeded("registration", {"state": state})
    assert pulse.pulse(w.world)["registration_ok"] == ok


# -- heartbeat -------------------------------------------------------------------------------------------------------------------------


def beating() -> DealWorld:
    w = DealWorld()
    w.world.partner_center.register(CALLBACK, [*EVENTS, "test-created"], replace=True)
    return w


def test_the_heartbeat_measures_the_way_of_the_vendors_own_test_event() -> None:
    w = beating()
    heartbeat.beat(w.world)
    assert heartbeat.state_of(w.world)["state"] == "waiting"
    w.sim.clock.advance(3)
    w.deliver()
    told = heartbeat.state_of(w.world)
    assert told["state"] == "arrived"
    assert 3 <= told["seconds"] < 10
    assert w.owed() == {}
    asked = w.position()
    heartbeat.beat(w.world)
    assert not w.mutations(asked), "once an hour"
    w.sim.clock.advance(3601)
    heartbeat.beat(w.world)
    assert len(w.mutations(asked)) == 1


def test_a_test_event_that_does_not_arrive_is_one_alert(caplog: pytest.LogCaptureFixture) -> None:
    w = beating()
    w.sim.webhooks.conduct.hold = True
    heartbeat.beat(w.world)
    for _ in range(4):
        w.sim.clock.advance(200)
        heartbeat.beat(w.world)
    assert reporting.status(w.world)["heartbeat"]["state"] == "lost"
    assert pulse.pulse(w.world)["heartbeat_lost"] == 1
    assert [one.levelname for one in caplog.records if "test event" in one.getMessage()] == ["ERROR"]
    w.sim.webhooks.conduct.hold = False
    w.deliver()
    assert reporting.status(w.world)["heartbeat"]["state"] == "arrived", "late is not lost for good"


@pytest.mark.parametrize(
    ("settings", "events", "state"),
    [
        ({"heartbeat_minutes": 0}, [*EVENTS, "test-created"], "off"),
        ({"sync_mode": "shadow"}, [*EVENTS, "test-created"], "not asked yet"),
        ({}, EVENTS, heartbeat.NOT_REGISTERED),
    ],
)
def test_no_test_event_is_asked_for_where_none_is_wanted_or_none_would_come(
    settings: dict[str, str], events: list[str], state: str
) -> None:
    w = DealWorld()
    w.world.partner_center.register(CALLBACK, events, replace=True)
    world = replace(w.world, settings=replace(w.settings, **settings))
    since = w.position()
    heartbeat.beat(world)
    assert heartbeat.state_of(world)["state"] == state
    assert not w.mutations(since)


def test_a_forged_test_event_proves_nothing() -> None:
    w = beating()
    heartbeat.beat(w.world)
    body = json.dumps({"EventName": "test-created", "ResourceUri": "https://contoso.example/x", "ResourceName": "test"}).encode()
    assert receiving.partner_center_event(lambda: w.world, lambda: w.certificates, {}, body)[0] == 401
    assert heartbeat.state_of(w.world)["state"] == "waiting"
