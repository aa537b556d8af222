"""Whatever a record, a vendor or a stranger says: it stays a value, it goes to no other host, and it costs next to nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import settings as runs
from hypothesis import strategies as st

from shared import receiving, wire
from shared.certificates import Certificates
from shared.errors import ConnectorError, Gone, SignInFailed, TryLater
from shared.pairing import is_lead_id, is_opportunity_id
from shared.partner_center import PartnerCenter, odata_literal
from shared.refresh_tokens import KeyVaultRefreshToken
from shared.salesforce import GraphRequest, Salesforce
from shared.salesforce_login import Session, check_instance
from shared.soql import identifier, literal
from shared.transport import http_client
from simulator import odata
from simulator.salesforce.soql import Comparison, decoded
from simulator.salesforce.soql import parse as parse_soql
from tests import hostile_events
from tests.client_doubles import Answers, SteppedClock, answer, settings
from tests.deals import DealWorld

# What breaks out of one syntax or another, mixed into whatever else Hypothesis thinks of.
BREAKERS = [
    "'",
    "''",
    "\\",
    "\\'",
    '"',
    "%27",
    "%",
    "_",
    "\r\n",
    "\n",
    "\0",
    "/",
    "//",
    "..",
    "../",
    "?",
    "#",
    "&",
    "=",
    ";",
    "--",
    "/*",
    "*/",
]
BREAKERS += [") OR (Name != '", "' OR '1'='1", " eq ", " or 1 eq 1", "$filter", "@evil.example", "https://evil.example/", "{0}", "@{a.id}"]
BREAKERS += ["\u2028", "\u202e", "ʼ", "＇", "\ufeff", "\x7f", "Host: evil.example\r\n\r\n", "<!--", "${jndi:ldap://evil.example}"]
texts = st.lists(st.sampled_from(BREAKERS) | st.text(st.characters(codec="utf-8"), max_size=8), max_size=8).map("".join)
many = runs(max_examples=150, deadline=None)
few = runs(max_examples=50, deadline=None)

GUID = "0f6a1c3e-7b52-4d0e-9a55-1c2d3e4f5a6b"
HOST = "api.partner.microsoft.com"


# -- queries ---------------------------------------------------------------------------------------------------------------------------


@many
@given(texts)
@example("\\' OR Name != '")
def test_a_text_is_one_value_of_a_soql_query_and_comes_back_as_it_was(text: str) -> None:
    where = parse_soql(f"SELECT Id FROM Account WHERE Name = {literal(text)} LIMIT 1").where
    assert isinstance(where, Comparison)
    assert isinstance(where.values, tuple)
    assert [decoded(value.text) for value in where.values] == [text]


@many
@given(st.lists(texts, min_size=1, max_size=4))
def test_a_list_has_as_many_values_as_were_given(several: list[str]) -> None:
    inside = literal(several)[1:-1]
    assert _split_values(inside) == several


def _split_values(text: str) -> list[str]:
    """SOQL string literals read by the rule of the reference, character by character."""
    back = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
    values, at = [], 0
    while at < len(text):
        assert text[at] == "'", text[at:]
        at, value = at + 1, ""
        while text[at] != "'":
            if text[at] == "\\":
                at += 1
                value += back.get(text[at], text[at])
            else:
                value += text[at]
            at += 1
        values.append(value)
        at += 1
        assert text[at : at + 2] in ("", ", ")
        at += 2
    return values


@many
@given(texts)
@example("Name\n")
@example("Id FROM User")
def test_a_name_is_a_name_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(part.isascii() and part.isidentifier() for part in identifier(text).split("."))


@many
@given(texts, texts)
def test_a_text_is_one_value_of_an_odata_filter(text: str, other: str) -> None:
    # The grammar of the simulator knows no connective that could hide in a value: whatever broke out would not parse, or match others.
    chosen = odata.predicate(f"externalReferenceId eq {odata_literal(text)}")
    assert chosen({"externalReferenceId": text})
    assert chosen({"externalReferenceId": other}) == (other == text)


# -- addresses and headers -------------------------------------------------------------------------------------------------------------


class Tokens:
    expires_at = None

    def token(self, audience: str) -> str:
        return "token"

    def forget(self, audience: str, refused: str | None = None) -> None:
        raise AssertionError("no 401 was answered")

    def expiries(self) -> dict[str, Any]:
        return {}


class Endless:
    """Answers every request the same way, and keeps them."""

    def __init__(self, make: Callable[[], httpx.Response]) -> None:
        self.make, self.asked = make, list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert len(self.asked) < 20, "it goes on for ever"
        self.asked.append(request)
        return self.make()


def partner_center(answers: Callable[[httpx.Request], httpx.Response]) -> PartnerCenter:
    given = settings()
    return PartnerCenter(given, http_client(given, transport=httpx.MockTransport(answers)), Tokens(), SteppedClock())


class Login:
    def session(self) -> Session:
        return Session("token", "https://fabrikam.my.salesforce.com")

    def renew(self, old_token: str) -> Session:
        raise AssertionError("no 401 was answered")


def salesforce(answers: Any) -> Salesforce:
    return Salesforce(settings(), Login(), SteppedClock(), Answers.adapter(answers))


@few
@given(texts)
def test_the_value_of_a_search_stays_in_its_parameter(text: str) -> None:
    vendor = Endless(lambda: answer(200, {"value": []}))
    partner_center(vendor).by_external_reference(text, None)
    (asked,) = vendor.asked
    parts = urlsplit(str(asked.url))
    assert (parts.hostname, parts.path, parts.fragment) == (HOST, "/v1.0/engagements/referrals", "")
    assert parse_qs(parts.query) == {"$filter": [f"externalReferenceId eq {odata_literal(text)}"]}


@few
@given(texts)
@example(GUID + "\n")
@example(f"{GUID}/../x")
@example("１" * 8 + GUID[8:])
def test_what_is_no_partner_center_id_reaches_no_address(text: str) -> None:
    vendor = partner_center(Answers())
    for call in (
        lambda: vendor.referral(text),
        lambda: vendor.engagement(text),
        lambda: vendor.validation_result(text),
        lambda: vendor.patch_referral(text, [], '"etag"', GUID),
    ):
        with pytest.raises(Gone):
            call()


@few
@given(texts)
@example("006000000000001AAA\n")
@example("006000000000001/../x")
@example("006００0000000001AAA")
def test_what_is_no_salesforce_id_or_name_reaches_no_address(text: str) -> None:
    vendor = salesforce(Answers())
    for call in (
        lambda: vendor.update("Opportunity", text, {"Name": "x"}),
        lambda: vendor.describe(text),
        lambda: vendor.create("Contact", {text: "x"}),
        lambda: vendor.create(text, {}),
        lambda: vendor.graph([GraphRequest("one", "PATCH", f"Account/{text}", {})]),
        lambda: vendor.graph([GraphRequest("one", "POST", text, {})]),
        lambda: vendor.graph([GraphRequest(text, "POST", "Account", {})]),
    ):
        if not text.isidentifier():
            with pytest.raises((Gone, ValueError, AssertionError)) as caught:
                call()
            # A graph path that ends in a slash names the object alone, and that is asked for.
            assert not isinstance(caught.value, AssertionError) or not text


@few
@given(texts)
@example("https://evil.example/v1.0/engagements/referrals?$skiptoken=1")
@example("//evil.example?x")
@example("https://[?x")
@example("?x=\x00")
def test_a_next_link_leads_to_our_own_address_only(link: str) -> None:
    vendor = Endless(lambda: answer(200, {"value": [], "@odata.nextLink": link}))
    with contextlib.suppress(TryLater):
        list(partner_center(vendor).all_referrals())
    assert {(one.url.host, one.url.path) for one in vendor.asked} == {(HOST, "/v1.0/engagements/referrals")}
    assert len(vendor.asked) <= 2


@few
@given(texts.map(lambda text: f"/services/data/v66.0/query/01g000000000001-2000{text}") | texts)
@example("https://evil.example/services/data/v66.0/query/01g000000000001-2000")
@example("/services/data/v66.0/query/../../../evil")
def test_a_next_page_of_salesforce_leads_to_our_own_instance_only(link: str) -> None:
    pages = [
        answer(200, {"done": False, "totalSize": 2, "records": [], "nextRecordsUrl": link}),
        answer(200, {"done": True, "records": []}),
    ]
    vendor = Answers(*pages)
    with contextlib.suppress(TryLater):
        salesforce(vendor).query_all("SELECT Id FROM Opportunity")
    for one in vendor.asked:
        assert one.url.host == "fabrikam.my.salesforce.com"
        assert one.url.path.startswith("/services/data/v66.0/query/")
        assert ".." not in one.url.path


@few
@given(texts)
@example('"etag"\r\nX-Evil: 1')
@example('"ä"')
def test_an_etag_is_sent_as_one_header_or_not_at_all(etag: str) -> None:
    vendor = Endless(lambda: answer(204))
    with contextlib.suppress(TryLater, ValueError):
        partner_center(vendor).patch_referral(GUID, [{"op": "replace", "path": "/name", "value": "x"}], etag, GUID)
    for one in vendor.asked:
        assert one.headers["If-Match"] == etag
        assert etag.isascii()
        assert etag.isprintable()


# -- where Salesforce says it is -------------------------------------------------------------------------------------------------------

LOGIN = "https://fabrikam.my.salesforce.com"


@pytest.mark.parametrize(
    ("instance", "login"),
    [
        (LOGIN, LOGIN),
        ("https://na139.salesforce.com", "https://login.salesforce.com"),
        ("https://fabrikam--uat.sandbox.my.salesforce.com", "https://test.salesforce.com"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
        ("https://salesforce.sim.test", "https://salesforce.sim.test"),
    ],
)
def test_salesforces_own_hosts_and_the_one_that_gave_the_token_are_followed(instance: str, login: str) -> None:
    check_instance(instance, login)


@pytest.mark.parametrize(
    "instance",
    [
        "",
        "http://fabrikam.my.salesforce.com",
        "https://evil.example",
        "https://salesforce.com.evil.example",
        "https://evilsalesforce.com",
        "https://salesforce.com",
        "https://user@fabrikam.my.salesforce.com",
        "https://fabrikam.my.salesforce.com@evil.example",
        "https://evil.example#.salesforce.com",
        "https://evil.example?.salesforce.com",
        "https://evil.example/.salesforce.com",
        "https://evil.example\\.salesforce.com",
        "https://evil.example%2f.salesforce.com",
        "https://fabrikam.my.salesforce.com:8443",
        "https://fabrikam.my.salesforce.com/path",
        "https://fabrikam.my.salesforce.com.",
        "https://fabrikam。my.salesforce.com",
        "https://127.0.0.1",
        "https://169.254.169.254",
        "https://x\n.salesforce.com",
        "//fabrikam.my.salesforce.com",
        "file:///etc/.salesforce.com",
    ],
)
def test_no_token_is_sent_to_another_host_whoever_names_it(instance: str) -> None:
    with pytest.raises(SignInFailed, match="nothing is sent there"):
        check_instance(instance, LOGIN)


@few
@given(texts)
def test_whatever_passes_is_a_host_of_salesforce(text: str) -> None:
    for instance in (f"https://{text}.salesforce.com", f"https://x.salesforce.com{text}", text):
        try:
            check_instance(instance, LOGIN)
        except (SignInFailed, ValueError):
            continue
        assert httpx.URL(instance).host.endswith(".salesforce.com")
        assert httpx.URL(instance).raw_path in (b"", b"/")


# -- answers that are bombs ------------------------------------------------------------------------------------------------------------

BOMBS = {
    "nested lists": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of five thousand digits": b'{"value": ' + b"9" * 5000 + b"}",
    "a number beyond all measure": b'{"value": 1e999999999}',
    "a number too small to be": b'{"value": 1e-999999999}',
    "an exponent no machine holds": b'{"value": 1e99999999999999999999}',
    "not a number": b'{"value": NaN}',
    "no number": b'{"value": Infinity}',
    "half a text": b'{"value": "',
    "no text at all": b"\xff\xfe\x00",
    "a list where a record belongs": b"[[]]",
    "nothing": b"null",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_an_answer_that_is_a_bomb_is_for_later(bomb: bytes) -> None:
    with pytest.raises(ConnectorError):
        partner_center(Answers(httpx.Response(200, content=bomb))).referral(GUID)
    with pytest.raises(ConnectorError):
        salesforce(Answers(httpx.Response(200, content=bomb))).create("Contact", {"LastName": "Haddad"})
    with pytest.raises(ConnectorError):
        salesforce(Answers(httpx.Response(500, content=bomb))).create("Contact", {"LastName": "Haddad"})
    with pytest.raises(ConnectorError):
        partner_center(Answers(httpx.Response(500, content=bomb))).referral(GUID)
    given = settings(key_vault_uri="https://contoso.vault.azure.net")
    client = http_client(given, transport=Answers(httpx.Response(200, content=bomb)).transport())
    with pytest.raises(ConnectorError):
        KeyVaultRefreshToken(given, client, SteppedClock(), lambda: "token").read()


@many
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_that_is_read_can_be_written_out(number: Decimal) -> None:
    with contextlib.suppress(ValueError):
        assert len(format(wire.loads(str(number)), "f")) < 1000


# -- events: replays and floods --------------------------------------------------------------------------------------------------------


def received(w: DealWorld, headers: dict[str, str], body: bytes) -> int:
    return receiving.partner_center_event(lambda: w.world, lambda: w.certificates, headers, body)[0]


def signed(w: DealWorld, body: bytes) -> dict[str, str]:
    certificates = w.sim.certificates
    return {
        "x-ms-signature": f"Signature {hostile_events.text(certificates.sign(body))}",
        "x-ms-signature-algorithm": "rsa-sha256",
        "x-ms-certificate-url": certificates.url,
    }


def test_a_thousand_replays_of_an_event_are_one_piece_of_work_and_no_call_to_a_vendor() -> None:
    w = DealWorld()
    w.settle()
    body = hostile_events.BODY
    headers = signed(w, body)
    assert received(w, headers, body) == 200
    before, rows = w.position(), list(w.world.state.all_owed())
    for _ in range(1000):
        assert received(w, headers, body) == 200
    assert [one.host for one in w.sim.journal.calls(since=before)] == []
    assert [one.name for one in w.world.state.all_owed()] == [one.name for one in rows] == [f"pc-{GUID}"]
    assert len(w.work()) >= 1
    assert w.mutations(before) == [], "there is no such referral, and nothing is made of it"


def test_a_flood_of_forged_events_marks_nothing_calls_nobody_and_fills_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    w = DealWorld()
    body = hostile_events.BODY
    honest = signed(w, body)
    received(w, honest, body)
    before, owed = w.position(), len(list(w.world.state.all_owed()))
    prefix = w.settings.webhook_certificate_url_prefix

    # pytest keeps every line that is logged.
    caplog.set_level(logging.CRITICAL, "cosell")

    def flood(first: int, last: int) -> set[int]:
        return {
            status
            for number in range(first, last)
            for status in (
                received(w, {**honest, "x-ms-signature": f"Signature {hostile_events.text(number.to_bytes(256, 'big'))}"}, body),
                received(w, {**honest, "x-ms-certificate-url": f"{prefix}made-up-{number}.cer"}, body),
                received(w, {**honest, "x-ms-certificate-url": f"https://evil.example/{number}.cer"}, body),
                received(w, honest, body + b" " * number),
                received(w, {}, b"{" * number),
            )
        }

    assert flood(1, 200) <= {400, 401, 503}
    tracemalloc.start()
    try:
        flood(200, 400)
        start, _ = tracemalloc.get_traced_memory()
        flood(400, 800)
        grown = tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()
    journal_entries = w.sim.journal.position() - before
    assert {one.host for one in w.sim.journal.calls(since=before)} <= {"certificates"}
    assert journal_entries <= 30, "made-up addresses are looked up ten times a minute at most"
    assert grown < 200_000, f"{grown} bytes more after 2,000 requests more"
    assert len(list(w.world.state.all_owed())) == owed


@few
@given(st.binary(max_size=400) | st.recursive(st.none() | st.integers() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)).map(lambda value: json.dumps({"ids": value}).encode()), texts)  # fmt: skip
def test_a_push_marks_only_ids_of_records_and_only_with_the_secret(body: bytes, secret: str) -> None:
    w = _pushed()
    before = len(list(w.world.state.all_owed()))
    status, _ = receiving.salesforce_push(lambda: w.world, {"x-cosell-secret": secret}, body)
    assert status == 401
    status, _ = receiving.salesforce_push(lambda: w.world, {"x-cosell-secret": "shared-between-the-two"}, body)
    assert status in (200, 400)
    names = [one.name.removeprefix("sf-") for one in w.world.state.all_owed()]
    assert all(is_opportunity_id(name) or is_lead_id(name) for name in names)
    assert status == 200 or len(names) == before


_world: list[DealWorld] = []


def _pushed() -> DealWorld:
    if not _world:
        _world.append(DealWorld(settings={"SALESFORCE_PUSH_SECRET": "shared-between-the-two"}))
    return _world[0]


@few
@given(st.dictionaries(st.sampled_from(["x-ms-signature", "authorization", "x-ms-signature-algorithm", "x-ms-certificate-url", "x"]), texts), texts)  # fmt: skip
def test_any_headers_and_any_body_are_refused_without_a_connection(headers: dict[str, str], body: str) -> None:
    given = settings()
    doors = Certificates(given, http_client(given, transport=Answers().transport()), SteppedClock())
    status, told = receiving.partner_center_event(lambda: pytest.fail("no work"), lambda: doors, headers, body.encode())
    assert status in (400, 401)
    assert told["error"] in ("the signature is missing or wrong", "the body is empty; send it with a Content-Length")
