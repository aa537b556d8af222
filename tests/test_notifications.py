"""Nobody but Partner Center is let in, and what it says is read as it is."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import notifications
from shared.certificates import Certificates
from shared.clock import Clock
from shared.errors import Misconfigured, TryLater
from shared.notifications import BadSignature, Event, NotAnEvent, Signature, parse
from shared.settings import Settings
from shared.trusted_roots import trusted
from tests.hostile_events import (
    BODY,
    HOST,
    HOST_PURPOSE,
    HOSTILE,
    ISSUER_URL,
    MICROSOFT,
    NOT_CA,
    NOW,
    PREFIX,
    REFUSED_AFTER_A_LOOK,
    REFUSED_UNSEEN,
    SIGNER,
    SIGNS,
    TEST_CREATED,
    URL,
    Delivery,
    der,
    fetching_its_issuer,
    honest,
    honest_issuer,
    honest_leaf,
    key,
    leaf,
    name,
    pem,
    points_to,
    root,
    served,
    sign,
    text,
)

ID = "0f6a1c3e-7b52-4d0e-9a55-1c2d3e4f5a6b"


class Hands(Clock):
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Receiver:
    """The connector's side: what it trusts, what it asked the network for, when."""

    delivery: Delivery
    folder: Path
    clock: Hands = field(default_factory=Hands)
    calls: list[str] = field(default_factory=list)
    network: dict[str, Any] = field(default_factory=dict)
    signer_names: tuple[str, ...] = (SIGNER, "pcnotifications.microsoft.com")

    def __post_init__(self) -> None:
        bundle = self.folder / "roots.pem"
        bundle.write_bytes(self.delivery.trusted)
        self.network = dict(self.delivery.network)
        chosen = Settings(webhook_trusted_roots=str(bundle), webhook_signer_names=self.signer_names)
        self.certificates = Certificates(chosen, httpx.Client(transport=httpx.MockTransport(self.answer)), self.clock)

    def answer(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self.calls.append(url)
        if request.url.host not in (HOST, "www.microsoft.com"):
            raise AssertionError(f"a connection to {request.url.host}")
        assert "authorization" not in request.headers
        file = self.network.get(url)
        if callable(file):
            return file()
        if file is None:
            return httpx.Response(404, stream=httpx.ByteStream(b""))
        return httpx.Response(200, stream=httpx.ByteStream(file))

    def take(self, delivery: Delivery | None = None) -> None:
        """Raises if the event is not accepted."""
        delivery = delivery or self.delivery
        self.certificates.authenticate(delivery.headers, delivery.body)

    def refuses(self, delivery: Delivery) -> bool:
        try:
            self.take(delivery)
        except BadSignature:
            return True
        return False


@pytest.fixture
def receiver(tmp_path: Path) -> Callable[..., Receiver]:
    return lambda delivery, **options: Receiver(delivery, tmp_path, **options)


Make = Callable[..., Receiver]


# Hostile requests


@pytest.mark.parametrize("title", REFUSED_UNSEEN)
def test_it_is_refused_before_any_network_access(title: str, receiver: Make) -> None:
    at_the_door = receiver(REFUSED_UNSEEN[title]())
    with pytest.raises(BadSignature):
        at_the_door.take()
    assert at_the_door.calls == []


@pytest.mark.parametrize("title", REFUSED_AFTER_A_LOOK)
def test_it_is_refused_and_only_the_allowed_addresses_were_read(title: str, receiver: Make) -> None:
    at_the_door = receiver(REFUSED_AFTER_A_LOOK[title]())
    with pytest.raises(BadSignature):
        at_the_door.take()
    assert at_the_door.calls in ([URL], [URL, ISSUER_URL])


def test_there_are_enough_hostile_requests_and_the_honest_one_they_are_made_from_is_accepted(receiver: Make) -> None:
    assert len(HOSTILE) > 120
    receiver(honest()).take()


def test_every_flipped_bit_of_the_body_or_of_the_signature_is_refused() -> None:
    certificate, value = honest_leaf(), sign(BODY)
    claimed = Signature(value, "sha256", URL)
    notifications.verify(BODY, claimed, certificate)
    accepted = []
    for bit in range(len(BODY) * 8):
        accepted += _accepts(flipped(BODY, bit), claimed, certificate, bit)
    for bit in range(len(value) * 8):
        accepted += _accepts(BODY, replace(claimed, value=flipped(value, bit)), certificate, bit)
    assert accepted == []


def _accepts(body: bytes, claimed: Signature, certificate: x509.Certificate, bit: int) -> list[int]:
    try:
        notifications.verify(body, claimed, certificate)
    except BadSignature:
        return []
    return [bit]


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_flipped_bit_anywhere_in_the_certificate_is_refused(tmp_path: Path) -> None:
    file, accepted = der(honest_leaf()), []
    for place in range(len(file)):
        broken = replace(honest(), network={URL: flipped(file, place * 8 + place % 8)})
        if not Receiver(broken, tmp_path).refuses(broken):
            accepted.append(place)
    assert accepted == []


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_refusal_names_no_signature_and_no_query(receiver: Make) -> None:
    with pytest.raises(BadSignature) as refusal:
        receiver(honest().having(x_ms_certificate_url=f"{URL}?sig=secret")).take()
    assert "secret" not in str(refusal.value)


# Honest requests


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d, id="as the Functions host hands it over"),
        pytest.param(
            lambda d: replace(d, headers={header.title(): value for header, value in d.headers.items()}), id="headers in any case"
        ),
        pytest.param(lambda d: d.having(x_ms_signature=text(sign(BODY))), id="a bare signature"),
        pytest.param(lambda d: d.having(x_ms_signature="SIGNATURE " + text(sign(BODY))), id="the scheme in any case"),
        pytest.param(
            lambda d: d.without("x-ms-signature").having(authorization="Signature " + text(sign(BODY))), id="in the Authorization header"
        ),
        pytest.param(lambda d: d.having(authorization="Bearer of-the-gateway"), id="behind a gateway with its own Authorization"),
        pytest.param(lambda d: d.having(x_ms_signature_algorithm="RSA-SHA256"), id="the algorithm in any case"),
        pytest.param(
            lambda d: d.having(x_ms_signature=text(sign(BODY, hash=hashes.SHA384())), x_ms_signature_algorithm="rsa-sha384"), id="SHA-384"
        ),
        pytest.param(
            lambda d: d.having(x_ms_signature=text(sign(BODY, hash=hashes.SHA512())), x_ms_signature_algorithm="rsa-sha512"), id="SHA-512"
        ),
        pytest.param(lambda d: replace(d, body=b"\xef\xbb\xbf" + BODY), id="a byte order mark that was not signed"),
        pytest.param(lambda d: replace(d, network={URL: pem(honest_leaf())}), id="a PEM file"),
        pytest.param(
            lambda d: replace(d, network={URL: pem(honest_leaf(), honest_issuer())}, trusted=pem(root())), id="a PEM file with the issuer"
        ),
        pytest.param(lambda d: served(leaf(NOT_CA)), id="a certificate without usages"),
    ],
)
def test_an_event_is_accepted(change: Callable[[Delivery], Delivery], receiver: Make) -> None:
    delivery = change(honest())
    receiver(delivery).take()


def test_an_issuer_that_is_not_at_hand_is_fetched_from_its_own_host_once(receiver: Make) -> None:
    delivery = fetching_its_issuer(ISSUER_URL, network={ISSUER_URL: der(honest_issuer())})
    connector = receiver(delivery)
    connector.take()
    connector.clock.seconds += 3601
    connector.take()
    assert connector.calls == [URL, ISSUER_URL, URL]


def test_no_issuer_is_looked_up_for_a_certificate_that_is_not_the_signers(receiver: Make) -> None:
    stranger = leaf(NOT_CA, SIGNS, HOST_PURPOSE, points_to(ISSUER_URL), subject=name("contoso.example"))
    connector = receiver(replace(honest(), network={URL: der(stranger), ISSUER_URL: der(honest_issuer())}, trusted=pem(root())))
    assert connector.refuses(connector.delivery)
    assert connector.calls == [URL]


def test_the_simulator_and_the_connector_agree(tmp_path: Path) -> None:
    simulated = pytest.importorskip("simulator.certificates")
    for intermediate in (False, True):
        signer = simulated.Certificates(intermediate=intermediate)
        (tmp_path / "roots.pem").write_text(signer.roots_pem())
        chosen = Settings(
            webhook_trusted_roots=str(tmp_path / "roots.pem"), webhook_certificate_url_prefix=signer.url.rpartition("/")[0] + "/"
        )
        file = der(signer.leaf)
        http = httpx.Client(transport=httpx.MockTransport(lambda _, file=file: httpx.Response(200, content=file)))
        headers = {
            "x-ms-signature": text(signer.sign(BODY)),
            "x-ms-signature-algorithm": "rsa-sha256",
            "x-ms-certificate-url": signer.url,
        }
        Certificates(chosen, http, Clock()).authenticate(headers, BODY)


# What a certificate costs


def test_a_hundred_events_cost_one_fetch_an_hour(receiver: Make) -> None:
    connector = receiver(honest())
    for _ in range(100):
        connector.take()
    assert connector.calls == [URL]
    connector.clock.seconds += 3601
    connector.take()
    assert connector.calls == [URL] * 2


def test_many_first_events_at_once_cost_one_fetch(receiver: Make) -> None:
    connector = receiver(honest())
    entered, outcomes = threading.Barrier(8), []

    def event() -> None:
        entered.wait()
        connector.take()
        outcomes.append("accepted")

    threads = [threading.Thread(target=event) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes, connector.calls) == (["accepted"] * 8, [URL])


def renewed(body: bytes = BODY) -> Delivery:
    """Signed with the next key, whose certificate stands at the old address."""
    fresh = leaf(public_key=key("next signer").public_key())
    return replace(honest(body), network={URL: der(fresh)}).having(x_ms_signature=text(sign(body, "next signer")))


def test_a_renewed_certificate_is_noticed_by_the_first_event_that_needs_it(receiver: Make) -> None:
    connector = receiver(honest())
    connector.take()
    connector.clock.seconds += 61
    connector.network = renewed().network
    connector.take(renewed())
    assert connector.calls == [URL] * 2
    assert connector.refuses(honest())


def test_a_flood_of_bad_signatures_costs_one_fetch_a_minute(receiver: Make) -> None:
    connector, forged = receiver(honest()), honest().having(x_ms_signature=text(sign(b"{}")))
    connector.take()
    for _ in range(300):
        assert connector.refuses(forged)
        connector.clock.seconds += 0.5
    assert len(connector.calls) == 3
    connector.take()


def test_a_flood_of_made_up_certificate_names_is_not_looked_up_one_by_one(receiver: Make) -> None:
    connector = receiver(honest())
    for number in range(500):
        with pytest.raises((BadSignature, TryLater)):
            connector.take(honest().having(x_ms_certificate_url=f"{PREFIX}made-up-{number}.cer"))
    assert len(connector.calls) == 10
    connector.take()
    assert connector.calls[10:] == [URL]


def test_made_up_names_do_not_push_out_the_certificate_in_use(receiver: Make) -> None:
    connector = receiver(honest())
    connector.take()
    for number in range(100):
        with pytest.raises(BadSignature):
            connector.take(honest().having(x_ms_certificate_url=f"{PREFIX}made-up-{number}.cer"))
        connector.clock.seconds += 7
    connector.take()
    assert connector.calls.count(URL) == 1


def test_a_certificate_that_expires_while_it_is_kept_is_refused(receiver: Make) -> None:
    connector = receiver(served(leaf(ends=timedelta(minutes=10))))
    connector.take()
    connector.clock.seconds += 601
    assert connector.refuses(honest())


def test_a_withdrawn_certificate_is_refused_within_the_hour(receiver: Make) -> None:
    connector = receiver(honest())
    connector.take()
    connector.network = {}
    connector.clock.seconds += 3601
    assert connector.refuses(honest())


# When the address does not answer


def _refused_connection() -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def _time_out() -> httpx.Response:
    raise httpx.ReadTimeout("timed out")


def _status(status: int) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(status, stream=httpx.ByteStream(b""))


TROUBLE = {"no connection": _refused_connection, "a time-out": _time_out} | {str(code): _status(code) for code in (403, 409, 429, 500, 503)}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_partner_center_is_asked_to_send_again_when_the_certificate_cannot_be_read(trouble: str, receiver: Make) -> None:
    connector = receiver(served(TROUBLE[trouble]))
    for _ in range(20):
        with pytest.raises(TryLater):
            connector.take()
    assert connector.calls == [URL]
    connector.network = honest().network
    connector.clock.seconds += 6
    connector.take()


def test_the_same_holds_for_its_issuer(receiver: Make) -> None:
    connector = receiver(fetching_its_issuer(ISSUER_URL, network={ISSUER_URL: _time_out}))
    with pytest.raises(TryLater):
        connector.take()
    connector.network[ISSUER_URL] = der(honest_issuer())
    connector.clock.seconds += 6
    connector.take()


def test_a_certificate_that_arrives_by_the_drop_is_given_up(receiver: Make) -> None:
    class Drops(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            for byte in der(honest_leaf()):
                connector.clock.seconds += 1
                yield bytes([byte])

    connector = receiver(served(lambda: httpx.Response(200, stream=Drops())))
    with pytest.raises(TryLater):
        connector.take()
    assert connector.clock.seconds < 25


def test_events_are_accepted_for_a_day_with_the_certificate_at_hand(receiver: Make) -> None:
    connector = receiver(honest())
    connector.take()
    connector.network = {URL: _time_out}
    for _ in range(23):
        connector.clock.seconds += 3601
        connector.take()
    connector.clock.seconds += 2 * 3600
    with pytest.raises(TryLater):
        connector.take()


# Trusted roots


def test_the_public_roots_microsoft_chains_to_come_with_certifi() -> None:
    roots, intermediates = trusted("")
    names = {str(part.value) for one in roots for part in one.subject if part.oid == x509.NameOID.COMMON_NAME}
    assert names >= {"DigiCert Global Root G2", "Microsoft RSA Root Certificate Authority 2017"}
    assert all("DigiCert" in name or "Microsoft" in name for name in names)
    assert intermediates == []


def test_a_bundle_without_a_root_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_bytes(pem(honest_issuer()))
    with pytest.raises(Misconfigured, match="WEBHOOK_TRUSTED_ROOTS"):
        trusted(str(tmp_path / "roots.pem"))


def test_the_whole_check_of_a_certificate_stands_alone() -> None:
    notifications.check_certificate(honest_leaf(), [honest_issuer()], [root()], [SIGNER.upper()], NOW)
    for other, why in (
        (leaf(subject=name(SIGNER, organizations=())), MICROSOFT),
        (leaf(public_key=key("weak", 1024).public_key()), "2048"),
    ):
        with pytest.raises(BadSignature, match=why):
            notifications.check_certificate(other, [honest_issuer()], [root()], [SIGNER], NOW)


@pytest.mark.parametrize("prefix", [f"http://{HOST}/cert/", f"https://{HOST}/cert", ""])
def test_a_certificate_address_is_never_allowed_by_a_lax_setting(prefix: str) -> None:
    with pytest.raises(BadSignature, match="must be https"):
        notifications.check_certificate_url(f"{prefix}{SIGNER}.cer", prefix)


# Events


def event(**changes: Any) -> bytes:
    values = {key: value for key, value in (json.loads(BODY) | changes).items() if value is not ...}
    return json.dumps(values).encode()


def test_an_event_is_read_to_the_microsecond() -> None:
    assert parse(BODY) == Event("referral-updated", "referral", ID, datetime(2026, 3, 2, 8, 59, 58, 548548, UTC))


def test_the_recorded_test_event_asks_for_no_work() -> None:
    assert len(TEST_CREATED) == 195
    assert parse(TEST_CREATED) == Event("test-created", "test", None, datetime(2017, 11, 16, 16, 19, 6, 352027, UTC))


@pytest.mark.parametrize("name", notifications.REFERRAL_EVENTS)
def test_each_referral_event_names_its_referral(name: str) -> None:
    assert parse(event(EventName=name)).referral_id == ID
    assert parse(event(EventName=name.upper())).name == name


@pytest.mark.parametrize("name", ["subscription-updated", "usagerecords-thresholdExceeded", "something-new"])
def test_an_unknown_event_is_an_event_without_work(name: str) -> None:
    assert parse(event(EventName=name)).referral_id is None


@pytest.mark.parametrize(
    "uri",
    [
        f"https://api.partner.microsoft.com/v1.0/engagements/referrals/{ID}",
        f"https://api.partnercenter.microsoft.com/engagements/v1/referrals/{ID.upper()}",
        f"https://evil.example/referrals/{ID}?code=1#here",
        f"http://localhost:1/Referrals/{ID}/",
        f"/referrals/{ID}",
        f"referrals/{ID}",
    ],
)
def test_only_the_id_is_taken_from_the_resource_address(uri: str) -> None:
    assert parse(event(ResourceUri=uri)).referral_id == ID


@pytest.mark.parametrize(
    "uri",
    [
        f"https://api.partner.microsoft.com/v1.0/engagements/{ID}",
        f"https://api.partner.microsoft.com/v1.0/engagements/referrals/{ID}/notes",
        f"https://api.partner.microsoft.com/v1.0/engagements/referrals/{{{ID}}}",
        f"https://api.partner.microsoft.com/v1.0/engagements/xreferrals/{ID}",
        f"https://api.partner.microsoft.com/v1.0/engagements?x=referrals/{ID}",
        "https://api.partner.microsoft.com/v1.0/engagements/referrals/12345",
        f"https://api.partner.microsoft.com/v1.0/engagements/referrals/{ID}'%20or%201%20eq%201",
        "https://api.partner.microsoft.com/v1.0/engagements/referrals/../..",
        "https://[/referrals/",
        "１" * 8,
    ],
)
def test_a_referral_event_without_a_referral_is_no_event(uri: str) -> None:
    with pytest.raises(NotAnEvent, match="ResourceUri of referral-updated must end in referrals/"):
        parse(event(ResourceUri=uri))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"{" + b" " * 262_144 + b"}", "262146 bytes; an event has at most 262144"),
        (BODY.decode().encode("utf-16"), "not UTF-8"),
        (b"\xff\xfe", "not UTF-8: byte 0"),
        (b"EventName=referral-updated", "not JSON: it cannot be read at line 1, column 1"),
        (BODY[:-1], "not JSON"),
        (BODY * 2, "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"EventName":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" + BODY + b"]", "a JSON array"),
        (b'"referral-updated"', "a JSON string"),
        (b"null", "a JSON null"),
        (b"true", "a JSON boolean"),
        (b"42", "a JSON number"),
        (b"{}", "EventName .* missing; ResourceUri .* missing"),
        (event(EventName=None), "EventName"),
        (event(EventName=["referral-updated"]), "EventName .* a JSON array"),
        (event(EventName=""), "EventName"),
        (event(EventName="referral-updated\r\nSet-Cookie: x"), "EventName"),
        (event(EventName="\ud800"), "EventName"),
        (event(EventName="x" * 101), "EventName"),
        (event(ResourceUri=...), "ResourceUri .* missing"),
        (event(ResourceUri={}), "ResourceUri .* an object"),
        (event(EventName=7, ResourceUri=7), "EventName .* a JSON number; ResourceUri .* a JSON number"),
    ],
)
def test_what_is_not_an_event_is_told_completely(body: bytes, says: str) -> None:
    with pytest.raises(NotAnEvent, match=says) as refusal:
        parse(body)
    assert str(refusal.value).isascii()
    assert len(str(refusal.value)) < 500


def test_keys_are_read_in_any_case_and_more_than_once() -> None:
    body = f'{{"eventName":"x","EVENTNAME":"referral-created","resourceUri":"referrals/{ID}","Other":{{"a":[1,null]}}}}'.encode()
    assert parse(b"\xef\xbb\xbf" + body) == Event("referral-created", "", ID, None)


@pytest.mark.parametrize("moment", [None, 7, "yesterday", "9999-99-99", "0001-01-01T00:00:00+14:00", {}])
def test_a_change_date_that_cannot_be_read_costs_no_event(moment: Any) -> None:
    assert parse(event(ResourceChangeUtcDate=moment, ResourceName=moment)).changed_at is None


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["EventName", "ResourceUri", "ResourceName", "ResourceChangeUtcDate"]),
                inner | st.sampled_from([*notifications.REFERRAL_EVENTS, f"referrals/{ID}"]),
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_an_event_or_is_refused(body: bytes) -> None:
    with contextlib.suppress(NotAnEvent):
        assert parse(body).referral_id in (None, ID)
