"""Signing in to Entra through MSAL: one token per audience, no storms, and refusals that say what a person must do."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest

from shared.entra import REMEDIES, Tokens, decode_refusal
from shared.errors import ConnectorError, Misconfigured, SignInFailed, TryLater
from shared.refresh_tokens import KeyVaultRefreshToken, SettingsRefreshToken
from shared.settings import Settings
from shared.sign_in import SignIn
from shared.transport import http_client
from simulator import mount
from simulator.entra import REFERRALS, WEBHOOKS
from simulator.faults import Fault
from simulator.simulator import Simulator
from tests.client_doubles import NOW, Answers, SteppedClock, answer, settings


class Consent:
    """A refresh-token store in memory."""

    def __init__(self) -> None:
        self.token = "simulated-refresh-token"
        self.offered: list[str] = []

    def read(self) -> str:
        return self.token

    def offer(self, fresh: str) -> None:
        self.offered.append(fresh)


def simulated(simulator: Simulator, **changes: Any) -> Settings:
    return settings(
        partner_center_authority=mount.URLS["entra"],
        partner_center_api_url=mount.URLS["partner_center"],
        partner_center_webhooks_url=mount.URLS["webhooks"],
        **changes,
    )


def tokens(simulator: Simulator, consent: Any = None, clock: SteppedClock | None = None, **changes: Any) -> Tokens:
    given = simulated(simulator, **changes)
    http = http_client(given, transport=mount.httpx_transport(simulator))
    return Tokens(given, http, consent or Consent(), clock or SteppedClock())


def asked(simulator: Simulator) -> int:
    """Token requests so far; discovery is not counted."""
    return len([call for call in simulator.journal.calls("entra") if call.method == "POST"])


def test_each_service_gets_a_token_of_its_own_audience() -> None:
    simulator = Simulator()
    source = tokens(simulator)
    assert simulator.entra.access_tokens[source.token("referrals")].audience == REFERRALS
    assert simulator.entra.access_tokens[source.token("webhooks")].audience == WEBHOOKS


def test_a_token_is_used_until_five_minutes_before_it_expires() -> None:
    simulator, clock = Simulator(), SteppedClock()
    source = tokens(simulator, clock=clock)
    first = source.token("referrals")
    clock.advance(3299)
    assert source.token("referrals") == first
    clock.advance(1)
    assert source.token("referrals") != first
    assert asked(simulator) == 2


def test_many_threads_share_one_request() -> None:
    simulator = Simulator()
    simulator.faults.latency["entra"] = 0.02
    source = tokens(simulator)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: source.token("referrals"), range(16)))
    assert len(found) == 1
    assert asked(simulator) == 1


def test_a_refused_token_is_replaced_once_however_many_threads_saw_the_refusal() -> None:
    simulator = Simulator()
    source = tokens(simulator)
    refused = source.token("referrals")
    for _ in range(8):
        source.forget("referrals", refused)
        assert source.token("referrals") != refused
    assert asked(simulator) == 2


def test_a_service_that_refuses_every_token_does_not_start_a_storm() -> None:
    simulator, clock = Simulator(), SteppedClock()
    source = tokens(simulator, clock=clock)
    for _ in range(50):
        source.forget("referrals", source.token("referrals"))
    assert asked(simulator) == 5
    clock.advance(60)
    source.forget("referrals", source.token("referrals"))
    source.token("referrals")
    assert asked(simulator) == 6


def test_a_final_refusal_is_not_asked_for_again_within_a_minute() -> None:
    simulator, clock = Simulator(), SteppedClock()
    source = tokens(simulator, clock=clock)
    simulator.entra.mfa_required = True
    for _ in range(3):
        with pytest.raises(SignInFailed, match=r"AADSTS50076.*multi-factor"):
            source.token("referrals")
    assert asked(simulator) == 1
    simulator.entra.mfa_required = False
    # MSAL remembers a refusal of its own for a minute of real time; a person's new consent is another refresh token.
    source._refresh_tokens.token = simulator.entra.consent(simulator.entra.user)  # type: ignore[attr-defined]
    clock.advance(60)
    assert source.token("referrals")


@pytest.mark.parametrize(
    ("spoil", "changes", "told"),
    [
        (lambda simulator: simulator.entra.revoke(), {}, "AADSTS50173"),
        (lambda simulator: simulator.clock.advance(timedelta(days=91).total_seconds()), {}, "AADSTS700082"),
        (lambda _: None, {"partner_center_client_secret": "not-the-one"}, "AADSTS7000215.*PARTNER_CENTER_CLIENT_SECRET"),
        (lambda _: None, {"partner_center_client_id": "00000000-0000-0000-0000-000000000000"}, "AADSTS700016.*PARTNER_CENTER_CLIENT_ID"),
        (lambda _: None, {"partner_center_tenant_id": "00000000-0000-0000-0000-000000000000"}, "PARTNER_CENTER_TENANT_ID"),
    ],
)
def test_a_refusal_says_what_a_person_must_do_and_nothing_secret(
    spoil: Callable[[Simulator], None], changes: dict[str, str], told: str
) -> None:
    simulator = Simulator()
    source = tokens(simulator, **changes)
    spoil(simulator)
    with pytest.raises(SignInFailed, match=told) as caught:
        source.token("referrals")
    for secret in ("simulated-refresh-token", "simulated-client-secret", "not-the-one", "sync@contoso.example"):
        assert secret not in str(caught.value)


def test_trouble_at_entra_is_for_later_with_its_own_wish_to_wait() -> None:
    for fault in (Fault("entra", status=503, retry_after=7), Fault("entra", "POST", status=503, retry_after=7)):
        simulator = Simulator()
        simulator.faults.add(fault)
        source, clock = tokens(simulator), SteppedClock()
        with pytest.raises(TryLater) as caught:
            source.token("referrals")
        assert caught.value.retry_after == 7
    for fault in (Fault("entra", cut="before"), Fault("entra", "POST", cut="after"), Fault("entra", "GET", html=True, status=200)):
        simulator = Simulator()
        simulator.faults.add(fault)
        source = tokens(simulator, clock=clock)
        for _ in range(5):  # asked once, then left alone for a moment
            with pytest.raises(TryLater):
                source.token("referrals")
        clock.advance(5)
        assert source.token("referrals")


def test_a_managed_identity_signs_in_for_the_app_without_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"aud": "api://AzureADTokenExchange"}).encode()).decode().rstrip("=")
    wanted: list[tuple[str, str]] = []

    class Identity:
        def __init__(self, client_id: str) -> None:
            self.client_id = client_id

        def get_token(self, scope: str) -> Any:
            wanted.append((self.client_id, scope))
            return type("Token", (), {"token": f"e30.{claims}.c2ln"})

    # azure-identity is imported when it is first needed, so this is the only seam.
    monkeypatch.setattr("azure.identity.ManagedIdentityCredential", Identity)
    simulator = Simulator()
    source = tokens(simulator, partner_center_client_secret="", partner_center_federated_identity_client_id="identity")
    assert source.token("referrals")
    assert wanted == [("identity", "api://AzureADTokenExchange/.default")]
    assert "client_secret" not in simulator.journal.calls("entra")[-1].body.decode()


def test_a_renewed_refresh_token_is_offered_and_a_failure_to_keep_it_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    simulator, consent = Simulator(), Consent()
    tokens(simulator, consent).token("referrals")
    assert consent.offered == [token for token in simulator.entra.refresh_tokens if token != consent.token]

    class Full(Consent):
        def offer(self, fresh: str) -> None:
            raise Misconfigured("no access to the vault")

    assert tokens(simulator, Full()).token("referrals")
    assert "no access to the vault" in caplog.text
    assert caplog.records[-1].levelname == "CRITICAL"
    assert not any(token in caplog.text for token in simulator.entra.refresh_tokens)


def test_signing_in_works_in_shadow_mode() -> None:
    assert tokens(Simulator(), sync_mode="shadow").token("referrals")


@pytest.mark.parametrize("code", sorted(REMEDIES))
def test_every_known_code_has_its_remedy(code: int) -> None:
    error = decode_refusal({"error": "invalid_grant", "error_codes": [code], "error_description": "user x@contoso.example"}, "webhooks")
    assert isinstance(error, SignInFailed)
    assert f"AADSTS{code}" in str(error)
    assert REMEDIES[code] in str(error)
    assert "x@contoso.example" not in str(error)


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        ({"error": "temporarily_unavailable", "error_codes": [90033]}, TryLater, "temporarily_unavailable"),
        ({"error": "invalid_grant", "error_codes": [50196]}, TryLater, "50196"),
        ({"error": "invalid_grant", "error_codes": [99999]}, SignInFailed, "signs in once more"),
        ({"error": "invalid_scope", "error_codes": [70011]}, SignInFailed, "error?code=70011"),
        ({}, SignInFailed, "PARTNER_CENTER_"),
        ({"error": "x", "error_codes": None}, SignInFailed, "PARTNER_CENTER_"),
    ],
)
def test_an_unknown_refusal_still_says_where_to_look(body: dict[str, Any], kind: type[ConnectorError], told: str) -> None:
    error = decode_refusal(body, "referrals")
    assert isinstance(error, kind)
    assert told in str(error)


# where the refresh token is kept

VAULT = "https://contoso.vault.azure.net"


def vault(answers: Answers, clock: SteppedClock | None = None) -> KeyVaultRefreshToken:
    given = settings(key_vault_uri=VAULT)
    return KeyVaultRefreshToken(given, http_client(given, transport=answers.transport()), clock or SteppedClock(), lambda: "vault-token")


def secret(age: timedelta, value: str = "old", version: str = "v1") -> httpx.Response:
    return answer(200, {"value": value, "id": f"{VAULT}/secrets/s/{version}", "attributes": {"updated": int((NOW - age).timestamp())}})


def test_the_vault_takes_a_newer_token_only_when_its_own_is_a_week_old() -> None:
    young = Answers(secret(timedelta(days=6)))
    store = vault(young)
    assert store.read() == "old"
    store.offer("new")
    assert len(young.asked) == 1

    old = Answers(*[secret(timedelta(days=8))] * 2, answer(200, {"value": "new"}))
    store = vault(old)
    store.read()
    store.offer("new")
    store.offer("newer still")
    written = old.asked[2]
    assert (written.method, str(written.url)) == ("PUT", f"{VAULT}/secrets/partner-center-refresh-token?api-version=7.4")
    assert json.loads(written.content) == {"value": "new"}
    assert written.headers["Authorization"] == "Bearer vault-token"
    assert len(old.asked) == 3


def test_what_a_person_stored_while_an_instance_was_renewing_the_old_token_is_not_overwritten() -> None:
    raced = Answers(secret(timedelta(days=8)), secret(timedelta(0), "of the new sign-in", "v2"))
    store = vault(raced)
    assert store.read() == "old"
    store.offer("renewed from the old one")
    assert [one.method for one in raced.asked] == ["GET", "GET"]
    assert store.expires_at == NOW + timedelta(days=90)


def test_the_vault_tells_when_its_secrets_end_and_never_follows_its_own_links() -> None:
    def listed(name: str, **attributes: int) -> dict[str, Any]:
        return {"id": f"{VAULT}/secrets/{name}", "attributes": attributes}

    exp = int((NOW + timedelta(days=9)).timestamp())
    answers = Answers(
        answer(
            200, {"value": [listed("app-secret", exp=exp), listed("no-end")], "nextLink": "https://evil.example/x?api-version=7.4&skip=1"}
        ),
        answer(200, {"value": [listed("other", exp=exp)], "nextLink": None}),
    )
    assert vault(answers).expiries() == {"app-secret": NOW + timedelta(days=9), "other": NOW + timedelta(days=9)}
    assert {one.url.host for one in answers.asked} == {"contoso.vault.azure.net"}
    assert str(answers.asked[1].url) == f"{VAULT}/secrets?api-version=7.4&skip=1"


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        (answer(404, {"error": {"code": "SecretNotFound"}}), SignInFailed, "refresh token of the first sign-in"),
        (answer(403), Misconfigured, "Key Vault Secrets Officer"),
        (answer(429, Retry_After="3"), TryLater, "429"),
        (answer(200, b"<html>"), TryLater, "not JSON"),
        (answer(200, {"value": ""}), SignInFailed, "empty"),
        (answer(200, {"value": "<not stored yet>"}), SignInFailed, "cosell login partner-center"),
        (httpx.ConnectTimeout("slow"), TryLater, "time limit"),
    ],
)
def test_a_vault_that_does_not_give_the_token_says_why(given: Any, kind: type[ConnectorError], told: str) -> None:
    with pytest.raises(kind, match=told):
        vault(Answers(given)).read()


def test_a_token_from_the_settings_is_read_and_never_replaced() -> None:
    store = SettingsRefreshToken(settings(partner_center_refresh_token="local"))
    store.offer("new")
    assert store.read() == "local"


# the rules of asking


def test_while_one_thread_signs_in_the_others_wait_for_its_answer() -> None:
    started, go = threading.Event(), threading.Event()
    calls: list[int] = []

    def fetch() -> tuple[str, float]:
        calls.append(1)
        started.set()
        assert go.wait(5)
        return "token", 60.0

    sign_in = SignIn(fetch, SteppedClock())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(sign_in.current)
        assert started.wait(5)
        second = pool.submit(sign_in.current)
        go.set()
        assert (first.result(5), second.result(5)) == ("token", "token")
    assert len(calls) == 1


def test_a_vendor_that_asks_us_to_wait_is_not_asked_before() -> None:
    clock, calls = SteppedClock(), []

    def fetch() -> tuple[str, float]:
        calls.append(1)
        raise TryLater("rate", 3600.0)

    sign_in = SignIn(fetch, clock)
    for elapsed in (0, 1200, 2399):
        clock.elapsed = elapsed
        with pytest.raises(TryLater) as caught:
            sign_in.current()
        assert caught.value.retry_after == 3600.0 - elapsed
    assert len(calls) == 1
    clock.elapsed = 3600
    with pytest.raises(TryLater):
        sign_in.current()
    assert len(calls) == 2
