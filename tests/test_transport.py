"""Both HTTP libraries over real connections: trust, time limits, and what shadow mode lets through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.clock import Clock
from shared.entra import Tokens
from shared.errors import ShadowMode, TryLater
from shared.partner_center import PartnerCenter
from shared.refresh_tokens import SettingsRefreshToken
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.transport import ReadOnly, http_client
from simulator.faults import Fault
from simulator.server import Running, serve
from simulator.simulator import Simulator
from tests.client_doubles import settings


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serve(Simulator(), deliver=False) as served:
        yield served


def given(running: Running) -> Settings:
    return Settings.from_environment({"AzureWebJobsStorage": "UseDevelopmentStorage=true", **running.environment()})


def partner_center(settings: Settings) -> PartnerCenter:
    http = http_client(settings)
    return PartnerCenter(settings, http, Tokens(settings, http, SettingsRefreshToken(settings), Clock()), Clock())


def salesforce(settings: Settings) -> Salesforce:
    return Salesforce(settings, SalesforceLogin(settings, http_client(settings), Clock()), Clock())


def test_both_clients_trust_the_private_authority_they_are_given(running: Running) -> None:
    assert list(partner_center(given(running)).all_referrals()) == []
    assert salesforce(given(running)).query_all("SELECT Id FROM Opportunity") == []


def test_neither_client_speaks_to_a_host_that_cannot_prove_its_name(running: Running) -> None:
    trusting, doubting = given(running), replace(given(running), ca_bundle="")
    with pytest.raises(TryLater, match="CERTIFICATE_VERIFY_FAILED"):
        partner_center(doubting).referral("1352f1f5-1a4b-4bc0-a4d7-6d2ea6f2f6b0")
    with pytest.raises(TryLater, match="SSLError"):
        Salesforce(doubting, SalesforceLogin(trusting, http_client(trusting), Clock()), Clock()).query("SELECT Id FROM Account")


def test_neither_client_waits_longer_than_it_may(running: Running) -> None:
    hasty = replace(given(running), call_timeout_seconds=0.2)
    there, here = partner_center(hasty), salesforce(hasty)
    there.sign_in()
    here.sign_in()
    running.simulator.faults.add(Fault("partner_center", delay=0.6))
    running.simulator.faults.add(Fault("salesforce", delay=0.6))
    with pytest.raises(TryLater, match="time limit"):
        list(there.all_referrals())
    with pytest.raises(TryLater, match="time limit"):
        here.query("SELECT Id FROM Account")


SHADOW = ReadOnly(settings(sync_mode="shadow", key_vault_uri="https://contoso.vault.azure.net"))
TENANT = "7d23e5ca-19dc-4eaa-aac8-5e6b559f0d1d"


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "https://api.partner.microsoft.com/v1.0/engagements/referrals"),
        ("HEAD", "https://fabrikam.my.salesforce.com/services/data"),
        ("POST", f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"),
        ("POST", "https://fabrikam.my.salesforce.com/services/oauth2/token"),
        ("PUT", "https://contoso.vault.azure.net/secrets/partner-center-refresh-token?api-version=7.4"),
    ],
)
def test_shadow_mode_lets_reads_sign_ins_and_our_own_vault_pass(method: str, url: str) -> None:
    SHADOW.check(method, url)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "https://api.partner.microsoft.com/v1.0/engagements/referrals"),
        ("patch", "https://api.partner.microsoft.com/v1.0/engagements/referrals/1"),
        ("PUT", "https://api.partnercenter.microsoft.com/webhooks/v1/registration"),
        ("POST", "https://fabrikam.my.salesforce.com/services/data/v66.0/composite/graph"),
        ("DELETE", "https://fabrikam.my.salesforce.com/services/oauth2/token/x"),
        ("POST", "https://fabrikam.my.salesforce.com/services/oauth2/revoke"),
        ("POST", "https://evil.example/?https://fabrikam.my.salesforce.com/services/oauth2/token"),
        ("POST", "https://contoso.vault.azure.net.evil.example/secrets/x"),
        ("MKCOL", "https://api.partner.microsoft.com/"),
    ],
)
def test_shadow_mode_sends_nothing_else(method: str, url: str) -> None:
    with pytest.raises(ShadowMode):
        SHADOW.check(method, url)
