"""Another system can take our events over without a word; the watch notices, tells, and where allowed takes them back."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

import function_app
from shared import composition, reporting
from shared.watching import ELSEWHERE, EVERY, NONE, OURS, PARTLY, watch_registration
from simulator.faults import Fault
from tests.deals import CALLBACK, EVENTS, DealWorld

THEIRS = "https://fabrikam.example/hook"


def register(w: DealWorld, url: str = CALLBACK, events: list[str] = EVENTS) -> None:
    w.world.partner_center.register(url, events, replace=True)


def looks(w: DealWorld, since: int) -> int:
    calls = w.sim.journal.calls("webhooks", since)
    return len([call for call in calls if call.method == "GET"])


def test_it_tells_ours_from_partly_ours_from_none_from_taken_over() -> None:
    w = DealWorld()
    told = []
    for change in (
        lambda: register(w, events=["invoice-ready", *EVENTS]),
        lambda: register(w, events=EVENTS[:3]),
        lambda: register(w, THEIRS),
        lambda: setattr(w.sim.webhooks, "registration", None),
    ):
        change()
        told.append(watch_registration(w.world))
        w.sim.clock.advance(EVERY.total_seconds())
    assert told == [OURS, PARTLY, ELSEWHERE, NONE]


@pytest.mark.parametrize(
    ("allowed", "mode", "back"), [(True, "live", True), (False, "live", False), (True, "shadow", False), (False, "shadow", False)]
)
def test_it_is_taken_back_only_where_that_is_allowed_and_not_in_shadow_mode(allowed: bool, mode: str, back: bool) -> None:
    w = DealWorld()
    register(w, THEIRS, ["invoice-ready", "referral-created"])
    w.settings = replace(w.settings, webhook_take_back=allowed, sync_mode=mode)
    w.world = w.new_worker()
    state = watch_registration(w.world)
    assert w.sim.webhooks.registration is not None
    now = w.sim.webhooks.registration
    if back:
        assert (state, now["WebhookUrl"]) == (f"{OURS} (taken back)", CALLBACK)
        assert set(now["WebhookEvents"]) == {"invoice-ready", *EVENTS}, "nobody's event is dropped"
    else:
        assert (state, now["WebhookUrl"]) == (ELSEWHERE, THEIRS)


def test_what_was_lost_while_another_system_had_the_events_is_found_when_they_are_taken_back() -> None:
    w = DealWorld(settings={"WEBHOOK_TAKE_BACK": "true"})
    register(w, THEIRS)
    w.sim.people.portal_create_deal()
    assert w.sim.deliver(lambda *_: 200) == 1, "the other system has the event, and it does not come again"
    watch_registration(w.world)
    w.work()
    assert len(w.opportunities()) == 1


def test_partner_center_is_asked_once_in_a_quarter_of_an_hour() -> None:
    w = DealWorld()
    before = w.position()
    assert watch_registration(w.world) == OURS
    register(w, THEIRS)
    for _ in range(14):
        w.sim.clock.advance(60)
        assert watch_registration(w.new_worker()) == OURS
    assert looks(w, before) == 1
    w.sim.clock.advance(60)
    assert watch_registration(w.world) == ELSEWHERE
    assert looks(w, before) == 2


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut="before"), Fault(status=403)], ids=["503", "cut", "403"])
def test_a_look_that_fails_stops_no_work_and_is_repeated_with_the_next_run(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    w = DealWorld()
    monkeypatch.setattr(composition, "world", lambda: w.world)
    resume = function_app.resume_owed_work
    w.sim.faults.add(replace(fault, host="webhooks"))
    w.world.state.mark("sf-006000000000001AAA")
    context = SimpleNamespace(function_name="resume_owed_work", trace_context=SimpleNamespace(trace_parent=None))
    resume(None, context)
    assert [name for _, name in w.wakes.queued] == ["sf-006000000000001AAA"]
    assert reporting.status(w.world)["registration"] is None
    resume(None, context)
    assert reporting.status(w.world)["registration"]["state"] == OURS


def test_without_an_address_of_our_own_nobody_is_asked() -> None:
    w = DealWorld()
    w.settings = replace(w.settings, webhook_callback_url="")
    before = w.position()
    assert watch_registration(w.new_worker()) == ""
    assert looks(w, before) == 0


def test_status_shows_what_the_registration_was_like_at_the_last_look() -> None:
    w = DealWorld()
    register(w, THEIRS)
    watch_registration(w.world)
    assert reporting.status(w.world)["registration"] == {"at": "2026-11-02T09:00:00.000Z", "state": ELSEWHERE}
