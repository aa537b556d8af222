"""Registering for events takes nothing from anybody unless it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import receiving
from shared.errors import Misconfigured
from shared.notifications import REFERRAL_EVENTS
from shared.registration import BadRequest, RegistrationPlan, RegistrationRequest, plan_registration, register
from shared.settings import Settings
from simulator.faults import Fault
from tests.deals import CALLBACK, EVENTS, DealWorld, SharedClock

OURS = "https://contoso-cosell.azurewebsites.example/api/partner-center-to-salesforce"
OTHER = "https://fabrikam.example/hook?sig=secret"
SUPPORTED = ["test-created", *REFERRAL_EVENTS, "subscription-updated", "invoice-ready"]
FOUR = list(REFERRAL_EVENTS)


def registered(url: str, *events: str) -> dict[str, Any]:
    return {"WebhookUrl": url, "WebhookEvents": list(events)}


def plan(current: dict[str, Any] | None, *, events: list[str] | None = None, overwrite: bool = False) -> RegistrationPlan:
    return plan_registration(current, SUPPORTED, OURS, events, overwrite)


class PartnerCenter:
    """The three calls a registration needs; `register` blows up unless it is allowed."""

    def __init__(self, current: dict[str, Any] | None = None, may_write: bool = True, leaves_out: str = "") -> None:
        self.current, self.may_write, self.leaves_out = current, may_write, leaves_out
        self.methods: list[str] = []

    def registration(self) -> dict[str, Any] | None:
        return self.current

    def supported_events(self) -> list[str]:
        return SUPPORTED

    def register(self, url: str, events: list[str], replace: bool) -> dict[str, Any]:
        assert self.may_write, "a registration was written"
        self.methods.append("PUT" if replace else "POST")
        self.current = registered(url, *(name for name in events if name != self.leaves_out))
        return {"SubscriberId": "e82cac64-dc67-4cd3-849b-78b6127dd57d"} | self.current


def test_where_nothing_is_registered_the_four_referral_events_are() -> None:
    assert plan(None) == RegistrationPlan("create", OURS, REFERRAL_EVENTS, REFERRAL_EVENTS, (), (), None, "nothing is registered")
    assert plan({}).action == "create"


def test_other_systems_events_are_kept_in_their_order() -> None:
    made = plan(registered(OURS, "invoice-ready", "referral-created", "subscription-updated"), overwrite=True)
    assert made.action == "replace"
    assert made.events == ("invoice-ready", "referral-created", "subscription-updated", *REFERRAL_EVENTS[1:])
    assert (made.added, made.kept, made.taken_over) == (REFERRAL_EVENTS[1:], ("invoice-ready", "subscription-updated"), ())


def test_the_same_again_changes_nothing() -> None:
    for overwrite in (False, True):
        made = plan(registered(OURS, "invoice-ready", *FOUR), overwrite=overwrite)
        assert (made.action, made.added, made.taken_over) == ("none", (), ())


def test_another_address_means_that_every_event_changes_hands() -> None:
    made = plan(registered(OTHER, "invoice-ready", "referral-created"), overwrite=True)
    assert (made.action, made.old_url) == ("replace", OTHER)
    assert made.taken_over == ("invoice-ready", "referral-created")
    assert made.events == ("invoice-ready", *FOUR)


@pytest.mark.parametrize(
    "current",
    [registered(OTHER, *FOUR), registered(OTHER), registered(OURS), registered(OURS, "invoice-ready"), registered(OURS, *FOUR[:3])],
)
def test_without_overwrite_nothing_that_exists_is_replaced(current: dict[str, Any]) -> None:
    made = plan(current)
    assert made.action == "refused"
    assert "overwrite is false" in made.why
    answer = register(PartnerCenter(current, may_write=False), Settings(), OURS, None, False)
    assert answer["before"] == answer["now"] == {"url": current["WebhookUrl"], "events": current["WebhookEvents"]}
    assert answer["would_change"] == {"added": list(made.added), "changed_hands": list(made.taken_over)}


def test_the_test_event_is_added_when_it_is_asked_for() -> None:
    made = plan(registered(OURS, *FOUR), events=["test-created", "test-created"], overwrite=True)
    assert made.added == ("test-created",)
    assert set(made.kept) == set(FOUR)


def test_an_event_that_is_not_offered_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadRequest, match=r"'refferal-created', 'lead-created'; it offers test-created, referral-created"):
        plan(None, events=["referral-created", "refferal-created", "lead-created"])


def test_our_own_events_are_asked_for_even_when_the_published_list_is_short() -> None:
    assert plan_registration(None, ["subscription-updated"], OURS, None, False).events == REFERRAL_EVENTS


def test_keys_of_a_registration_are_read_in_any_case() -> None:
    assert plan({"webhookUrl": OURS, "webhookEvents": FOUR, "lastModifiedTimestamp": "x"}).action == "none"


names = st.lists(st.sampled_from(SUPPORTED), unique=True)


@given(names, st.sampled_from([OURS, OTHER]), names.filter(bool) | st.none(), st.booleans())
def test_nobody_loses_an_event_and_a_second_run_changes_nothing(
    events: list[str], url: str, wanted: list[str] | None, overwrite: bool
) -> None:
    partner_center = PartnerCenter(registered(url, *events))
    answer = register(partner_center, Settings(), OURS, wanted, overwrite)
    assert set(answer["now"]["events"]) >= set(events)
    if overwrite:
        assert partner_center.current == registered(OURS, *answer["now"]["events"])
        assert set(answer["now"]["events"]) == set(events) | set(wanted or FOUR)
        assert register(partner_center, Settings(), OURS, wanted, False)["action"] == "none"


def test_the_answer_says_what_was_what_is_and_what_changed_hands() -> None:
    partner_center = PartnerCenter(registered(OTHER, "invoice-ready"))
    answer = register(partner_center, Settings(webhook_callback_url=OURS), None, None, True)
    assert partner_center.methods == ["PUT"]
    assert answer == {
        "action": "replace",
        "why": f"overwrite was asked for: move every event from the registered address to this one and add {', '.join(FOUR)}",
        "before": {"url": OTHER, "events": ["invoice-ready"]},
        "now": {"url": OURS, "events": ["invoice-ready", *FOUR]},
        "added": FOUR,
        "kept": ["invoice-ready"],
        "changed_hands": [{"event": "invoice-ready", "from": OTHER, "to": OURS}],
        "would_change": None,
    }
    json.dumps(answer)


def test_the_first_registration_is_a_post() -> None:
    partner_center = PartnerCenter()
    assert register(partner_center, Settings(), OURS, None, False)["before"] is None
    assert partner_center.methods == ["POST"]


def test_an_event_that_partner_center_leaves_out_is_reported() -> None:
    answer = register(PartnerCenter(leaves_out="related-referral-updated"), Settings(), OURS, None, False)
    assert answer["why"].endswith("Partner Center left out related-referral-updated")


@pytest.mark.parametrize("url", ["", "http://contoso.example/hook", "https://user@contoso.example/", "https://contoso.example/a b"])
def test_an_address_partner_center_could_not_use_is_refused_before_any_call(url: str) -> None:
    with pytest.raises(Misconfigured, match="WEBHOOK_CALLBACK_URL must be an https"):
        register(None, Settings(webhook_callback_url=url), None, None, True)  # type: ignore[arg-type]


def test_a_printed_plan_holds_no_key_of_an_address() -> None:
    shown = str(plan(registered(OTHER, "invoice-ready"), overwrite=True))
    assert "secret" not in shown
    assert shown.splitlines()[1:] == [
        f"  address     {OURS}",
        "  taken over  invoice-ready (from https://fabrikam.example/hook?…)",
        f"  added       {', '.join(FOUR)}",
        "  kept        invoice-ready",
    ]


# The request


def test_an_empty_request_asks_for_the_defaults() -> None:
    for body in (b"", b" \n", b"{}"):
        assert RegistrationRequest.read(body) == RegistrationRequest(callback_url=None, events=None, overwrite=False)


def test_a_request_is_read() -> None:
    body = {"callback_url": OURS + "?code=x", "events": ["referral-created"], "overwrite": True, "validate": True}
    read = RegistrationRequest.read(json.dumps(body).encode())
    assert read.model_dump(by_alias=True) == body


def test_every_fault_of_a_request_is_named_at_once() -> None:
    body = {"callback_url": "http://contoso.example/hook", "events": [7, ""], "overwrite": "yes", "overwirte": True}
    with pytest.raises(BadRequest) as refusal:
        RegistrationRequest.read(json.dumps(body).encode())
    for name in ("callback_url:", "events.0:", "events.1:", "overwrite:", "overwirte:"):
        assert name in str(refusal.value)


@pytest.mark.parametrize("body", [b"[]", b"null", b"{", b"\xff", b'{"events": []}', b'{"events": "referral-created"}', b'{"overwrite": 1}'])
def test_a_request_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="the registration request cannot be used"):
        RegistrationRequest.read(body)


# Trying it out


class DeliveringClock(SharedClock):
    """Whoever waits is overtaken by the events that are due."""

    def __init__(self, w: DealWorld, deliver: Callable[[], int]) -> None:
        super().__init__(w.sim.clock)
        self._deliver = deliver

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._deliver()


def tried_out(w: DealWorld, answers: int | None = None, **request: Any) -> dict[str, Any]:
    """The answer to a request to register with validation; the address answers with `answers`, or is the app itself."""
    deliver = w.deliver if answers is None else lambda: w.sim.deliver(lambda *_: answers)
    world = replace(w.world, clock=DeliveringClock(w, deliver))
    body = {"overwrite": True, "validate": True} | request
    status, answer = receiving.webhook_registration(lambda: world, json.dumps(body).encode())
    assert status == 200, answer
    return answer


def test_a_registration_is_tried_out_and_says_how_the_event_was_delivered() -> None:
    w = DealWorld()
    answer = tried_out(w)
    assert answer["now"]["events"] == [*EVENTS, "test-created"]
    assert answer["validation"] == {
        "status": "delivered",
        "attempts": [{"code": "OK", "message": "", "at": "2026-11-02T09:00:02.000Z"}],
        "why": "the registered address took the event",
    }
    assert w.owed() == {}, "a test event asks for no work"
    assert tried_out(w, overwrite=False)["action"] == "none", "the same at every deployment"


def test_each_attempt_that_an_address_answers_with_500_is_told_and_the_registration_stands() -> None:
    w = DealWorld()
    answer = tried_out(w, answers=500)
    assert w.sim.webhooks.registration is not None
    assert "test-created" in w.sim.webhooks.registration["WebhookEvents"]
    assert [one["code"] for one in answer["validation"]["attempts"]] == ["InternalServerError"] * 3
    assert answer["validation"]["status"] == "late"
    assert answer["validation"]["why"] == "Partner Center's status is 'pending' after 30 seconds; it may still be delivered"
    assert w.clock.monotonic() - w.sim.webhooks.waiting[0].answers[0][1].timestamp() <= 30


def test_an_event_that_is_never_taken_has_failed() -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.first_retry = 0
    validation = tried_out(w, answers=0)["validation"]
    assert (validation["status"], len(validation["attempts"])) == ("failed", 10)
    assert validation["attempts"][0]["message"] == "no answer from the address"


def test_the_limit_of_two_validation_events_a_minute_is_said_plainly() -> None:
    w = DealWorld()
    for _ in range(2):
        assert tried_out(w)["validation"]["status"] == "delivered"
    answer = tried_out(w)
    assert (answer["action"], answer["validation"]["status"]) == ("none", "not asked")
    for words in ("HTTP 429", "Try again in", "two requests a minute"):
        assert words in answer["validation"]["why"]


def test_a_result_that_cannot_be_read_at_once_is_asked_for_again() -> None:
    w = DealWorld()
    w.sim.faults.add(Fault(method="GET", path="*/validationEvents/*", status=503, count=3))
    assert tried_out(w)["validation"]["status"] == "delivered"
    w.sim.faults.add(Fault(method="GET", path="*/validationEvents/*", status=503, count=100))
    validation = tried_out(w)["validation"]
    assert (validation["status"], validation["attempts"]) == ("late", [])
    assert "HTTP 503" in validation["why"]


@pytest.mark.parametrize(
    ("mode", "overwrite", "why"), [("shadow", True, "shadow mode, nothing was sent"), ("live", False, "nothing was registered")]
)
def test_where_nothing_is_registered_no_event_is_asked_for(mode: str, overwrite: bool, why: str) -> None:
    w = DealWorld()
    w.settings = replace(w.settings, sync_mode=mode)
    w.world = w.new_worker()
    before = w.position()
    answer = tried_out(w, callback_url="https://elsewhere.contoso.example/hook", overwrite=overwrite)
    assert w.mutations(before) == []
    assert answer["validation"]["status"] == "not asked"
    assert why in answer["validation"]["why"]
    assert answer["now"] == {"url": CALLBACK, "events": EVENTS}
