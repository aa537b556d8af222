"""What will stop the sync is known before it does, told once to the person who can mend it, and shown by every instance."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from shared import credentials, reporting
from shared.credentials import FLOW, REFRESH_TOKEN, known, watch
from shared.errors import Misconfigured, TryLater
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.transport import http_client
from shared.world import World
from simulator.entra import REFRESH_TOKEN as TOKEN
from tests.client_doubles import Answers, SteppedClock, answer, settings
from tests.deals import START, DealWorld


def with_settings(w: DealWorld, **changes: Any) -> World:
    w.settings = replace(w.settings, **changes)
    w.world = w.new_worker()
    return w.world


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[tuple[str, str]]:
    lines = [(one.levelname, one.getMessage()) for one in caplog.records if one.levelno >= level and one.name == "cosell"]
    caplog.clear()
    return lines


def look_for(w: DealWorld, minutes: int) -> None:
    """The timer of another instance each minute."""
    for _ in range(minutes):
        w.sim.clock.advance(60)
        watch(w.new_worker())


# -- sign-ins --------------------------------------------------------------------------------------------------------------------------


def test_a_dead_token_is_one_alert_with_the_command_to_run_and_every_instance_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    w = DealWorld()
    watch(w.world)
    assert told(caplog) == []
    w.sim.entra.revoke()
    w.sim.entra.expire_access_tokens()
    w.world = w.new_worker()
    look_for(w, 40)
    ((level, words),) = told(caplog)
    assert level == "CRITICAL"
    assert "AADSTS50173" in words
    assert "run `cosell login partner-center`" in words

    shown = reporting.status(w.new_worker())["credentials"]["sign_ins"]
    assert shown["salesforce"]["state"] == "ok"
    assert shown["partner_center"]["state"] == "refused"
    assert shown["partner_center"]["since"] == "2026-11-02T09:01:00.000Z"

    w.sim.entra.consent(w.sim.entra.user, TOKEN)
    look_for(w, 40)
    assert told(caplog) == [("WARNING", "Partner Center takes our sign-in again")]
    assert reporting.status(w.new_worker())["credentials"]["sign_ins"]["partner_center"]["state"] == "ok"


def test_a_user_whom_only_the_service_refuses_is_found_and_stays_found_between_the_looks(caplog: pytest.LogCaptureFixture) -> None:
    w = DealWorld()
    w.sim.entra.user.mfa = False
    look_for(w, 60)
    ((level, words),) = told(caplog)
    assert (level, "multi-factor" in words) == ("CRITICAL", True)
    w.sim.entra.user.mfa = True
    look_for(w, 15)
    assert told(caplog) == [("WARNING", "Partner Center takes our sign-in again")]


def test_salesforce_is_watched_as_well(caplog: pytest.LogCaptureFixture) -> None:
    w = DealWorld()
    w.sim.salesforce.login.refuse_with = "inactive_user"
    look_for(w, 20)
    ((level, words),) = told(caplog)
    assert level == "CRITICAL"
    assert words.startswith("Salesforce refuses our sign-in")
    assert "activate the integration user" in words


def test_trouble_that_passes_is_no_refusal_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    from simulator.faults import Fault

    w = DealWorld()
    watch(w.world)
    w.sim.faults.add(Fault("partner_center", status=503, count=100))
    w.sim.faults.add(Fault("entra", status=503, count=100))
    look_for(w, 31)
    assert credentials.sign_ins(w.world)["partner_center"]["state"] == "ok"
    assert told(caplog) == []


def test_a_look_costs_the_vendors_one_call_each_in_a_quarter_of_an_hour() -> None:
    w = DealWorld()
    watch(w.world)
    before = w.position()
    for _ in range(14):
        w.sim.clock.advance(60)
        watch(w.world)
    assert w.sim.journal.calls(since=before) == []
    w.sim.clock.advance(60)
    watch(w.world)
    assert [call.host for call in w.sim.journal.calls(since=before)] == ["partner_center"], "a description is kept for an hour"


def test_storage_that_fails_stops_no_timer(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    w = DealWorld()

    def down(*_: Any) -> Any:
        raise TryLater("storage does not answer")

    monkeypatch.setattr(w.world.state.tables, "list", down)
    watch(w.world)
    assert "storage does not answer" in told(caplog)[0][1]


# -- expiries --------------------------------------------------------------------------------------------------------------------------


def days(number: int) -> date:
    return START.date() + timedelta(days=number)


def test_each_credential_says_who_does_what_the_next_to_end_first() -> None:
    w = DealWorld()
    ends = {"PARTNER_CENTER_CLIENT_SECRET": days(20), "GATEWAY_CERTIFICATE": days(-1), "SALESFORCE_PRIVATE_KEY": days(200)}
    found = known(with_settings(w, credential_expiries=ends))
    assert [(one.what, one.days_left, one.state, one.who) for one in found] == [
        ("GATEWAY_CERTIFICATE", -2, "expired", "whoever runs the connector"),
        ("PARTNER_CENTER_CLIENT_SECRET", 19, "soon", "an Entra application administrator"),
        ("SALESFORCE_PRIVATE_KEY", 199, "ok", "a Salesforce administrator"),
        (REFRESH_TOKEN, None, "unknown", "a person with the Referrals admin role in Partner Center"),
    ]
    assert "cosell login partner-center" in found[-1].what_to_do
    assert "CREDENTIAL_EXPIRIES" in found[1].what_to_do
    listed = reporting.status(w.world)["credentials"]["list"]
    assert listed[1]["expires"] == "2026-11-22T00:00:00.000Z"


def test_a_client_secret_whose_end_nobody_told_is_listed_as_unknown() -> None:
    found = {one.what: one for one in known(DealWorld().world)}
    assert found["PARTNER_CENTER_CLIENT_SECRET"].state == "unknown"
    without = with_settings(DealWorld(), partner_center_client_secret="", partner_center_federated_identity_client_id="identity")
    assert [one.what for one in known(without)] == [REFRESH_TOKEN], "a managed identity has nothing that ends"


def test_the_log_warns_once_a_day_and_louder_towards_the_end(caplog: pytest.LogCaptureFixture) -> None:
    w = DealWorld()
    with_settings(w, credential_expiries={"PARTNER_CENTER_CLIENT_SECRET": days(33)})
    heard = {}
    for _ in range(36 * 4):
        watch(w.world)
        left = (datetime(2026, 12, 5, tzinfo=UTC) - w.clock.now()) // timedelta(days=1)
        for level, words in told(caplog):
            assert "an Entra application administrator: make a new client secret" in words
            assert left not in heard, "once a day"
            heard[left] = level
        w.sim.clock.advance(6 * 3600)
    loud = (("WARNING", range(15, 31)), ("ERROR", range(8, 15)), ("CRITICAL", range(-4, 8)))
    assert heard == {left: level for level, lefts in loud for left in lefts}


class Vaulted:
    """A refresh token and other secrets, as a Key Vault tells of them."""

    def __init__(self, w: DealWorld) -> None:
        self.w, self.may_list = w, True
        self.expires_at: datetime | None = None

    def read(self) -> str:
        self.expires_at = self.w.clock.now() + timedelta(days=88, seconds=1)
        return TOKEN

    def offer(self, fresh: str) -> None:
        pass

    def expiries(self) -> dict[str, datetime]:
        if not self.may_list:
            raise Misconfigured("HTTP 403")
        return {"salesforce-private-key": self.w.clock.now() + timedelta(days=10, seconds=1), "partner-center-refresh-token": START}


def vaulted(w: DealWorld) -> tuple[World, Vaulted]:
    world = with_settings(
        w, partner_center_refresh_token="", partner_center_client_secret="", key_vault_uri="https://contoso.vault.azure.net"
    )
    place = Vaulted(w)
    world.partner_center._tokens._refresh_tokens = place  # type: ignore[attr-defined]
    return world, place


def test_what_one_instance_learned_of_the_vault_another_one_shows() -> None:
    w = DealWorld()
    world, _ = vaulted(w)
    w.sim.entra.expire_access_tokens()
    world.partner_center._tokens._app = None  # type: ignore[attr-defined]
    world = replace(world, settings=replace(world.settings, partner_center_client_secret="simulated-client-secret"))
    world.partner_center._tokens._settings = world.settings  # type: ignore[attr-defined]
    watch(world)
    other = w.new_worker()
    assert other.partner_center.credential_expires_at is None
    found = {one.what: (one.days_left, one.state) for one in known(other)}
    assert found == {REFRESH_TOKEN: (88, "ok"), "Key Vault secret salesforce-private-key": (10, "soon")}
    assert reporting.status(other)["credentials"]["partner_center_refresh_token_expires"] == "2027-01-29T09:00:01.000Z"


def test_a_vault_that_does_not_let_its_list_be_read_costs_no_more_than_that(caplog: pytest.LogCaptureFixture) -> None:
    w = DealWorld()
    world, place = vaulted(w)
    place.may_list = False
    watch(world)
    assert w.world.state.flows()[FLOW]["vault"] == {}
    assert [words for level, words in told(caplog) if level == "WARNING"] == []


def test_nothing_that_is_remembered_is_a_secret() -> None:
    w = DealWorld()
    w.sim.entra.revoke()
    w.sim.entra.expire_access_tokens()
    watch(w.new_worker())
    written = json.dumps([row for table in ("cursors",) for row in map(str, w.tables.list(table))])
    for secret in (TOKEN, "simulated-client-secret", "simulated-consumer-secret", *w.sim.entra.access_tokens):
        assert secret not in written


# -- the certificate beside the private key --------------------------------------------------------------------------------------------


def key_with_certificate(ends: datetime) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "contoso connector")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    certificate = builder.not_valid_before(START - timedelta(days=1)).not_valid_after(ends).sign(key, hashes.SHA256())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return (key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM)).decode()


def test_the_certificate_that_stands_beside_the_key_tells_its_end_and_the_key_still_signs() -> None:
    pem = key_with_certificate(START + timedelta(days=12))
    read, faults = Settings.examined({"SALESFORCE_PRIVATE_KEY": pem.replace("\n", "\\n")})
    assert not [fault for fault in faults if fault.startswith("SALESFORCE_PRIVATE_KEY")]
    w = DealWorld()
    found = {one.what: one for one in known(with_settings(w, salesforce_private_key=read.salesforce_private_key))}
    assert (found["SALESFORCE_PRIVATE_KEY"].days_left, found["SALESFORCE_PRIVATE_KEY"].state) == (12, "soon")

    given = settings(salesforce_private_key=read.salesforce_private_key, salesforce_username="sync@contoso.example")
    answers = Answers(answer(200, {"access_token": "t", "instance_url": "https://fabrikam.my.salesforce.com"}))
    SalesforceLogin(given, http_client(given, transport=answers.transport()), SteppedClock()).session()
    assert b"assertion=" in answers.asked[0].content
