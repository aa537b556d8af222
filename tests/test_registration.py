"""Registering for events takes nothing from anybody unless it is told to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Misconfigured
from shared.notifications import REFERRAL_EVENTS
from shared.registration import BadRequest, RegistrationPlan, RegistrationRequest, plan_registration, register
from shared.settings import Settings

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
    body = json.dumps({"callback_url": OURS + "?code=x", "events": ["referral-created"], "overwrite": True}).encode()
    assert RegistrationRequest.read(body) == RegistrationRequest(callback_url=OURS + "?code=x", events=["referral-created"], overwrite=True)


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
