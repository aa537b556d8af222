"""The Partner Center client: what its answers mean, what it may send, and how it pages, signs in and refuses."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared import entra, wire
from shared.clock import Clock
from shared.errors import ConnectorError, Gone, Misconfigured, Refused, ShadowMode, SignInFailed, TryLater, VersionConflict
from shared.partner_center import PartnerCenter, odata_literal
from shared.partner_center_answers import InvalidRequest, decode_error
from shared.refresh_tokens import SettingsRefreshToken
from shared.settings import Settings
from shared.transport import http_client
from simulator import mount
from simulator.faults import Fault
from simulator.people import CONTACT, MEMBER
from simulator.simulator import Simulator
from tests.client_doubles import NOW, SETTINGS, Answers, SteppedClock, answer, settings

SAMPLES = Path(__file__).parent / "samples" / "partner-center"
ID = "1352f1f5-1a4b-4bc0-a4d7-6d2ea6f2f6b0"
REQUEST_ID = "5a1c3de0-0f5e-4c36-9e0b-6d2f3f0a1c11"
REFERRALS = "https://api.partner.microsoft.com/v1.0/engagements/referrals"
RENAME = [{"op": "replace", "path": "/name", "value": "Deal"}]
ETAG = '"84001c9d-0000-0100-0000-6225a63e0000"'


class Tokens:
    """A token source that counts: every forgotten token is followed by another."""

    def __init__(self) -> None:
        self.number = 1

    def token(self, audience: str) -> str:
        return f"{audience}-{self.number}"

    def forget(self, audience: str, refused: str | None = None) -> None:
        assert refused == self.token(audience)
        self.number += 1


def client(vendor: Answers, given: Settings = SETTINGS, clock: SteppedClock | None = None) -> PartnerCenter:
    return PartnerCenter(given, http_client(given, transport=vendor.transport()), Tokens(), clock or SteppedClock())


# what an error means


@pytest.mark.parametrize(
    ("status", "body", "kind", "in_message"),
    [
        (400, {"error": {"code": "invalidRequest", "message": "Bad", "target": "substatus"}}, InvalidRequest, "Bad [substatus]"),
        (
            400,
            {"error": {"code": "invalidRequest", "innerError": {"code": "a", "innererror": {"code": "SolutionIdRequired"}}}},
            Refused,
            "SolutionIdRequired",
        ),
        (401, {"error": {"code": "unauthenticated", "message": ""}}, SignInFailed, "unauthenticated"),
        (403, {"error": {"code": "accessDenied", "message": "Not yours"}}, Refused, "Not yours"),
        (403, {"error": {"code": "accessDenied", "innerError": {"code": "insufficient_claims"}}}, SignInFailed, "multi-factor"),
        # The next two are the samples of Microsoft's "Partner Center webhooks" and "Get a list of referrals" pages.
        (403, {"code": "2032", "description": "Access denied", "data": [], "source": "PartnerCenter"}, Refused, "2032: Access denied"),
        (
            403,
            {
                "error": {
                    "code": "unAuthorized",
                    "message": "Caller is not authorized to access the resource.",
                    "target": "referral",
                    "innerError": {"code": "innerErrorCode", "message": "Unauthorized referral access"},
                }
            },
            Refused,
            "innerErrorCode: Unauthorized referral access [referral]",
        ),
        (404, {"error": {"code": "itemNotFound", "message": "No"}}, Gone, "itemNotFound"),
        (409, {"error": {"code": "resourceModified"}}, VersionConflict, "resourceModified"),
        (410, {}, Gone, "410"),
        (412, {"error": {"code": "preconditionFailed"}}, VersionConflict, "preconditionFailed"),
        (422, {"error": {"code": "invalidRequest", "message": "Closed"}}, Refused, "Closed"),
        (423, {}, TryLater, "423"),
        (429, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}, TryLater, "429: Rate limit"),
        (500, {"error": {"code": "generalException"}}, TryLater, "generalException"),
        (503, b"<html>maintenance</html>", TryLater, "503"),
        (302, b"", Misconfigured, "PARTNER_CENTER_API_URL"),
        (400, b"[]", Refused, "400"),
        (400, {"error": "invalid_token", "error_description": "odd"}, Refused, "invalid_token: odd"),
        (400, {"error": {"code": None, "message": None, "innerError": None}}, Refused, "400"),
    ],
)
def test_every_answer_means_what_should_happen_next(status: int, body: Any, kind: type[ConnectorError], in_message: str) -> None:
    error = decode_error(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode(), what="reading")
    assert isinstance(error, kind)
    assert in_message in str(error)
    assert "<html>" not in str(error)


def test_a_refusal_carries_the_vendors_words_for_the_seller() -> None:
    error = decode_error(400, {"Request-ID": "r-1"}, b'{"error": {"code": "invalidRequest", "message": "Solution ID is required"}}')
    assert isinstance(error, Refused)
    assert (error.words, error.code) == ("Solution ID is required", "invalidRequest")
    assert "request-id r-1" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "57"}, 57.0),
        ({"Retry-After": "Fri, 20 Nov 2026 10:02:00 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 120.0),
        ({"Retry-After": "Fri, 20 Nov 2026 09:00:00 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_vendors_wish_to_wait_is_understood(headers: dict[str, str], seconds: float | None) -> None:
    error = decode_error(429, headers, b"")
    assert isinstance(error, TryLater)
    assert error.retry_after == seconds


# what may be sent


@pytest.mark.parametrize("path", ["/id", "/eTag", "/details", "/details/dealValue/", "name", "/team/0", ""])
def test_a_patch_of_any_other_path_is_refused_before_it_is_sent(path: str) -> None:
    with pytest.raises(ValueError, match="no patch for"):
        client(Answers()).patch_referral(ID, [{"op": "replace", "path": path, "value": "x"}], ETAG, REQUEST_ID)


@pytest.mark.parametrize("operation", ["remove", "move", "copy", "test", ""])
def test_a_patch_of_any_other_kind_is_refused_before_it_is_sent(operation: str) -> None:
    with pytest.raises(ValueError, match="add and replace"):
        client(Answers()).patch_referral(ID, [{"op": operation, "path": "/name", "value": "x"}], ETAG, REQUEST_ID)


def test_a_status_never_travels_without_its_substatus() -> None:
    for path in ("/status", "/substatus"):
        with pytest.raises(ValueError, match="together"):
            client(Answers()).patch_referral(ID, [{"op": "replace", "path": path, "value": "Closed"}], ETAG, REQUEST_ID)


@pytest.mark.parametrize("hostile", ["", "..", f"{ID}/../x", f"{ID}?a=b", f"{ID}\n", "https://evil.example", "%2e%2e"])
def test_an_id_that_is_no_guid_reaches_no_address(hostile: str) -> None:
    partner_center = client(Answers())
    for call in (
        lambda: partner_center.referral(hostile),
        lambda: partner_center.engagement(hostile),
        lambda: partner_center.validation_result(hostile),
        lambda: partner_center.patch_referral(hostile, RENAME, ETAG, REQUEST_ID),
    ):
        with pytest.raises(Gone):
            call()


def test_an_odata_literal_cannot_be_left_by_its_value() -> None:
    assert odata_literal("O'Brien' or '1' eq '1") == "'O''Brien'' or ''1'' eq ''1'"
    vendor = Answers(answer(200, {"value": []}))
    client(vendor).by_external_reference("x' or status eq 'New&$top=1#", None)
    assert dict(vendor.asked[0].url.params) == {"$filter": "externalReferenceId eq 'x'' or status eq ''New&$top=1#'"}


def test_a_patch_is_conditional_traceable_and_exact() -> None:
    vendor = Answers(answer(204))
    client(vendor).patch_referral(ID, [{"op": "replace", "path": "/details/dealValue", "value": Decimal("10000.10")}], ETAG, REQUEST_ID)
    sent = vendor.asked[0]
    assert (sent.method, str(sent.url)) == ("PATCH", f"{REFERRALS}/{ID}")
    assert sent.content == b'[{"op":"replace","path":"/details/dealValue","value":10000.10}]'
    assert sent.headers["If-Match"] == ETAG
    assert sent.headers["MS-RequestId"] == REQUEST_ID
    assert len({sent.headers[name] for name in ("client-request-id", "MS-CorrelationId")}) == 2


def test_an_unconditional_patch_is_not_sent() -> None:
    with pytest.raises(ValueError, match="eTag"):
        client(Answers()).patch_referral(ID, RENAME, "", REQUEST_ID)


@pytest.mark.parametrize("status", [200, 201])
def test_a_created_referral_is_returned_whichever_success_code_is_used(status: int) -> None:
    created = client(Answers(answer(status, {"id": ID}))).create_referral({"name": "Deal"}, REQUEST_ID)
    assert created == {"id": ID}


def test_a_create_whose_answer_cannot_be_read_may_have_landed() -> None:
    for lost in (answer(200, b'{"id": "135'), answer(200, b""), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")):
        with pytest.raises(TryLater):
            client(Answers(lost)).create_referral({"name": "Deal"}, REQUEST_ID)


def test_in_shadow_mode_reads_pass_and_writes_never_leave() -> None:
    vendor = Answers(answer(200, {"id": ID}))
    partner_center = client(vendor, settings(sync_mode="shadow"))
    assert partner_center.referral(ID) == {"id": ID}
    for write in (
        lambda: partner_center.create_referral({"name": "Deal"}, REQUEST_ID),
        lambda: partner_center.patch_referral(ID, RENAME, ETAG, REQUEST_ID),
        lambda: partner_center.register("https://contoso.example/hook", ["referral-created"], replace=True),
        partner_center.send_validation_event,
    ):
        with pytest.raises(ShadowMode):
            write()
    assert len(vendor.asked) == 1


# signing in


def test_a_401_is_answered_with_one_new_token_and_the_same_request() -> None:
    vendor = Answers(answer(401), answer(204))
    client(vendor).patch_referral(ID, RENAME, ETAG, REQUEST_ID)
    first, second = vendor.asked
    assert [request.headers["Authorization"] for request in vendor.asked] == ["Bearer referrals-1", "Bearer referrals-2"]
    assert first.content == second.content
    assert {name: value for name, value in first.headers.items() if name != "authorization"} == {
        name: value for name, value in second.headers.items() if name != "authorization"
    }


def test_a_second_401_is_a_failed_sign_in_and_no_third_request() -> None:
    vendor = Answers(answer(401), answer(401))
    with pytest.raises(SignInFailed):
        client(vendor).referral(ID)
    assert len(vendor.asked) == 2


def test_no_error_shows_a_token() -> None:
    for status in (400, 401, 403, 404, 409, 429, 500):
        with pytest.raises(ConnectorError) as caught:
            client(Answers(*[answer(status, {"error": {"code": "x", "message": "y"}})] * 2)).referral(ID)
        assert "referrals-" not in str(caught.value)


# lists


def test_a_next_link_gives_only_its_query_and_that_untouched() -> None:
    link = "http://elsewhere.example/v1.0/referrals?$skiptoken=k18%2Fp%3D%3D+x&$orderby=updatedDateTime"
    vendor = Answers(answer(200, {"value": [{"id": "1"}], "@odata.nextLink": link}), answer(200, {"value": [{"id": "2"}]}))
    assert [referral["id"] for referral in client(vendor).all_referrals()] == ["1", "2"]
    assert str(vendor.asked[1].url) == f"{REFERRALS}?$skiptoken=k18%2Fp%3D%3D+x&$orderby=updatedDateTime"


def test_pages_that_go_round_in_a_circle_come_to_an_end() -> None:
    page = {"value": [{"id": "1"}], "@odata.nextLink": f"{REFERRALS}?$skiptoken=a"}
    with pytest.raises(TryLater, match="repeat"):
        list(client(Answers(answer(200, page), answer(200, page))).all_referrals())
    with pytest.raises(TryLater, match="repeat"):
        list(client(Answers(answer(200, {**page, "@odata.nextLink": REFERRALS}))).all_referrals())


def test_changes_are_asked_for_from_the_second_they_began() -> None:
    vendor = Answers(answer(200, {"value": None}))
    assert list(client(vendor).changed_since(datetime(2026, 11, 20, 12, 0, 1, 999999, tzinfo=UTC))) == []
    assert dict(vendor.asked[0].url.params) == {"$filter": "updatedDateTime ge 2026-11-20T12:00:01Z", "$orderby": "updatedDateTime"}
    with pytest.raises(ValueError, match="zone"):
        list(client(Answers()).changed_since(datetime(2026, 11, 20)))


def test_a_tenant_that_cannot_filter_on_our_id_is_searched_by_creation_and_asked_once() -> None:
    refused = answer(400, {"error": {"code": "invalidRequest", "message": "externalReferenceId is not filterable"}})
    page = {"value": [{"id": "1", "externalReferenceId": "006A"}, {"id": "2", "externalReferenceId": "006a"}, {"id": "3"}]}
    vendor = Answers(refused, answer(200, page), answer(200, page))
    partner_center = client(vendor)
    since = NOW - timedelta(hours=1)
    assert [referral["id"] for referral in partner_center.by_external_reference("006A", since)] == ["1"]
    assert [referral["id"] for referral in partner_center.by_external_reference("006a", since)] == ["2"]
    assert [request.url.params.get("$filter") for request in vendor.asked] == [
        "externalReferenceId eq '006A'",
        "createdDateTime ge 2026-11-20T09:00:00Z",
        "createdDateTime ge 2026-11-20T09:00:00Z",
    ]


def test_a_search_that_was_not_allowed_is_not_mistaken_for_an_unknown_filter() -> None:
    with pytest.raises(Refused):
        client(Answers(answer(403, {"error": {"code": "accessDenied"}}))).by_external_reference("006A", None)


# the clock


def test_the_vendors_clock_runs_on_between_answers() -> None:
    clock = SteppedClock()
    partner_center = client(
        Answers(answer(200, {"id": ID}, Date="Fri, 20 Nov 2026 12:34:56 GMT"), answer(404, Date="nonsense")), clock=clock
    )
    assert partner_center.server_time is None
    partner_center.referral(ID)
    clock.advance(90)
    with pytest.raises(Gone):
        partner_center.referral(ID)
    assert partner_center.server_time == datetime(2026, 11, 20, 12, 36, 26, tzinfo=UTC)


# webhooks


def test_a_registration_is_read_in_any_spelling() -> None:
    vendor = Answers(answer(200, {"webhookUrl": "https://contoso.example/hook", "webhookevents": ["a"], "lastModifiedTimestamp": "t"}))
    assert client(vendor).registration() == {
        "WebhookUrl": "https://contoso.example/hook",
        "WebhookEvents": ["a"],
        "LastModifiedTimestamp": "t",
    }
    assert vendor.asked[0].headers["Authorization"] == "Bearer webhooks-1"


@pytest.mark.parametrize("nothing", [answer(404), answer(200, {}), answer(200, {"WebhookUrl": None}), answer(204)])
def test_no_registration_is_none(nothing: httpx.Response) -> None:
    assert client(Answers(nothing)).registration() is None


@pytest.mark.parametrize(("replace", "method"), [(False, "POST"), (True, "PUT")])
def test_a_registration_asks_for_the_signature_where_gateways_leave_it(replace: bool, method: str) -> None:
    vendor = Answers(answer(200, {"subscriberId": ID, "WebhookUrl": "https://contoso.example/hook", "WebhookEvents": ["a"]}))
    assert client(vendor).register("https://contoso.example/hook", ["a"], replace)["SubscriberId"] == ID
    sent = vendor.asked[0]
    assert (sent.method, str(sent.url)) == (method, "https://api.partnercenter.microsoft.com/webhooks/v1/registration")
    assert json.loads(sent.content) == {
        "WebhookUrl": "https://contoso.example/hook",
        "WebhookEvents": ["a"],
        "SignatureTokenToMsSignatureHeader": True,
    }


# against the simulator, signed in through MSAL


class World:
    """The client with a real login, on a simulated tenant. `deal` is the sample of Microsoft's "Create a referral" page."""

    def __init__(self) -> None:
        self.simulator = Simulator()
        environment = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", **mount.environment(self.simulator)}
        given = Settings.from_environment(environment)
        http = http_client(given, transport=mount.httpx_transport(self.simulator))
        self.client = PartnerCenter(given, http, entra.Tokens(given, http, SettingsRefreshToken(given), Clock()), Clock())
        # The sample's members have no e-mail address, which the service asks for.
        self.deal = wire.loads((SAMPLES / "referral.create.private-2024.request.json").read_bytes()) | {"team": [MEMBER]}
        self.deal["customerProfile"]["team"] = [CONTACT]

    def create(self, record_id: str = "006RM000003kTzVYAU", **more: Any) -> dict[str, Any]:
        return self.client.create_referral({**self.deal, "externalReferenceId": record_id, **more}, str(uuid.uuid4()))

    @property
    def switches(self) -> Any:
        return self.simulator.partner_center.switches


def test_a_referral_is_created_read_and_changed_only_as_it_was_read() -> None:
    world = World()
    created = world.create()
    read = world.client.referral(created["id"])
    change = [{"op": "replace", "path": "/details/dealValue", "value": Decimal("60000.10")}]
    world.client.patch_referral(created["id"], change, read["eTag"], REQUEST_ID)
    changed = world.client.referral(created["id"])
    assert changed["details"]["dealValue"] == Decimal("60000.1")
    with pytest.raises(VersionConflict):
        world.client.patch_referral(created["id"], RENAME, read["eTag"], REQUEST_ID)
    assert world.client.referral(created["id"]) == changed
    del changed["@odata.context"]
    assert world.client.engagement(created["engagementId"]) == [changed]
    assert abs((world.client.server_time or NOW) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("odd_links", [False, True])
def test_every_page_of_a_list_is_read_whatever_the_next_link_looks_like(odd_links: bool) -> None:
    world = World()
    world.switches.page_size, world.switches.odd_links = 2, odd_links
    made = {world.create(f"006RM000003kTz{number}")["id"] for number in range(5)}
    assert {referral["id"] for referral in world.client.all_referrals()} == made
    assert {referral["id"] for referral in world.client.changed_since(datetime.now(UTC) - timedelta(minutes=1))} == made
    assert list(world.client.changed_since(datetime.now(UTC) + timedelta(minutes=1))) == []


@pytest.mark.parametrize("filterable", [True, False])
def test_a_create_whose_answer_was_lost_is_found_by_our_own_id(filterable: bool) -> None:
    world = World()
    world.switches.external_reference_filterable = filterable
    world.create("006RM000003kTzV")
    world.simulator.faults.add(Fault("partner_center", "POST", cut="after"))
    with pytest.raises(TryLater):
        world.create("006RM000003kTzW")
    found = world.client.by_external_reference("006RM000003kTzW", datetime.now(UTC) - timedelta(hours=1))
    assert [referral["externalReferenceId"] for referral in found] == ["006RM000003kTzW"]


def test_the_service_says_what_is_missing_in_words_for_the_seller() -> None:
    world = World()
    with pytest.raises(Refused) as caught:
        world.create(name=None)
    assert "name" in caught.value.words


def test_throttling_tells_how_long_to_wait_and_other_trouble_is_for_later() -> None:
    world = World()
    created = world.create()
    for fault, seconds in (
        (Fault("partner_center", status=503, html=True), None),
        (Fault("partner_center", cut="before"), None),
        (Fault("partner_center", status=429, retry_after=57), 57.0),
    ):
        world.simulator.faults.add(fault)
        with pytest.raises(TryLater) as caught:
            world.client.referral(created["id"])
        assert caught.value.retry_after == seconds


def test_an_expired_token_is_replaced_without_anybody_noticing() -> None:
    world = World()
    created = world.create()
    world.simulator.entra.expire_access_tokens()
    assert world.client.referral(created["id"])["id"] == created["id"]


def test_a_registration_is_made_changed_and_tried_out() -> None:
    world = World()
    assert world.client.registration() is None
    assert {"referral-created", "test-created"} <= set(world.client.supported_events())
    world.client.register("https://contoso.example/hook", ["test-created"], replace=False)
    with pytest.raises(VersionConflict):
        world.client.register("https://fabrikam.example/hook", ["test-created"], replace=False)
    world.client.register("https://contoso.example/hook", ["test-created", "referral-created"], replace=True)
    standing = world.client.registration() or {}
    assert (standing["WebhookUrl"], standing["WebhookEvents"]) == ("https://contoso.example/hook", ["test-created", "referral-created"])
    result = world.client.validation_result(world.client.send_validation_event())
    assert result["callbackUrl"] == "https://contoso.example/hook"


# numbers


@pytest.mark.parametrize("text", ["0.1", "-0.0", "10000.10", "1E+3", "123456789012345678901234567890.123456789", "5"])
def test_a_number_crosses_the_wire_with_every_digit(text: str) -> None:
    assert wire.dumps(wire.loads(f'{{"v":{text}}}')) == f'{{"v":{text}}}'.encode()


def test_text_crosses_the_wire_whatever_it_holds() -> None:
    for text in ("Żółć 日本 👍", '"\\\n\t\x00', "half a pair: \ud83d"):
        assert wire.loads(wire.dumps({"v": [text, None, True]})) == {"v": [text, None, True]}


@pytest.mark.parametrize("bad", [Decimal("NaN"), Decimal("Infinity"), float("nan"), {1: 2}, object(), NOW])
def test_what_json_cannot_hold_is_refused(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        wire.dumps({"v": bad})


@pytest.mark.parametrize("text", [b"NaN", b"{", b"\xff", b"1e99999999999999999999"])
def test_what_is_not_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.loads(text)
