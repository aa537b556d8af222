"""Access tokens for Partner Center: App+User by refresh token (Microsoft's secure application model), one per audience.

Partner Center takes no app-only token for referrals, and since April 2026 no user's without multi-factor authentication:
a person consents once, the refresh token of that sign-in is what the connector lives on.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from shared.clock import Clock
from shared.errors import ConnectorError, SignInFailed, TryLater
from shared.refresh_tokens import RefreshTokens, managed_identity_token
from shared.settings import Settings
from shared.sign_in import SignIn
from shared.transport import network_errors, retry_after

Audience = Literal["referrals", "webhooks"]

# Two services, two audiences; these are names, not addresses, so they stay when a test server plays both.
AUDIENCES: dict[Audience, str] = {
    "referrals": "https://api.partner.microsoft.com",
    "webhooks": "https://api.partnercenter.microsoft.com",
}
MICROSOFT_LOGIN_HOSTS = frozenset({"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"})
# A token is replaced this long before it expires.
MARGIN_SECONDS = 300.0

_CONSENT = (
    "a person with the Referrals admin role signs in once more, with multi-factor authentication: run `cosell login partner-center`, "
    "which stores the new refresh token (Key Vault secret partner-center-refresh-token, or PARTNER_CENTER_REFRESH_TOKEN when running locally)"
)
_APP_CREDENTIAL = "give PARTNER_CENTER_CLIENT_SECRET a current secret, or let the managed identity sign in for the app"
# Entra's own error number -> what a person does about it.
REMEDIES = {
    50057: "the consenting user is disabled: enable it, or consent with another",
    50074: _CONSENT,
    50076: _CONSENT,
    50078: _CONSENT,
    50079: _CONSENT,
    50173: f"the user's password or sessions were reset: {_CONSENT}",
    50011: "the app registration does not know the address the browser came back to: add http://localhost to its web redirect addresses",
    50105: "the user is not assigned to the app: assign it under Enterprise applications, Users and groups",
    53003: "a conditional access policy blocks the sign-in: exempt the connector's addresses, or satisfy the policy (many tenants block device codes: sign in with `--browser`)",
    54005: "the authorization code was used already: begin the sign-in again",
    65004: "the sign-in was declined",
    65001: f"consent is missing for this audience: grant admin consent to the app's Partner Center permissions, then {_CONSENT}",
    70000: f"the refresh token is not valid (any more): {_CONSENT}",
    70018: "the device code is unknown: begin the sign-in again",
    70019: "the device code was not entered in time: begin the sign-in again",
    70008: f"the refresh token expired: {_CONSENT}",
    70021: "the app trusts no such managed identity: add the federated credential to the app registration",
    90002: "PARTNER_CENTER_TENANT_ID names no tenant",
    500011: "the tenant does not know this audience: add Partner Center's permissions to the app and grant admin consent",
    700016: "PARTNER_CENTER_CLIENT_ID is not an app of this tenant",
    700025: "the app is registered as a public client: its redirect address must be of the platform Web, and public client flows off",
    700082: f"the refresh token was not used for 90 days: {_CONSENT}",
    700084: f"the refresh token came from a single-page app and is too short-lived: {_CONSENT}",
    700212: "the federated credential of the app registration names another audience than api://AzureADTokenExchange",
    700213: "the app trusts no such managed identity: add the federated credential to the app registration",
    7000218: f"the app is a confidential client, no secret came with the request: {_APP_CREDENTIAL}",
    7000215: f"the client secret is wrong: {_APP_CREDENTIAL}",
    7000222: f"the client secret expired: {_APP_CREDENTIAL}",
}
# Entra is busy, or wants to be asked less.
TRANSIENT = frozenset({50196, 90033, 90099})

log = logging.getLogger(__name__)


class Tokens:
    """Access tokens for both Partner Center services; safe to share between threads."""

    def __init__(self, settings: Settings, http: httpx.Client, refresh_tokens: RefreshTokens, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._refresh_tokens = refresh_tokens
        self._app: Any = None
        self._app_lock = threading.Lock()
        self._sign_ins = {audience: SignIn(self._fetcher(audience), clock) for audience in AUDIENCES}

    def token(self, audience: Audience) -> str:
        """A token good for five minutes at least. Raises `SignInFailed` when a person has to act, `TryLater`."""
        return self._sign_ins[audience].current()

    def forget(self, audience: Audience, refused: str | None = None) -> None:
        """Drop a token the service answered 401 to; the next `token` asks for another."""
        self._sign_ins[audience].forget(refused)

    @property
    def expires_at(self) -> datetime | None:
        """When the refresh token dies at the latest, where its keeper knows."""
        return self._refresh_tokens.expires_at

    def expiries(self) -> dict[str, datetime]:
        """When the secrets beside the refresh token end, by name; asks their keeper."""
        return self._refresh_tokens.expiries()

    def _fetcher(self, audience: Audience) -> Callable[[], tuple[str, float]]:
        return lambda: self._fetch(audience)

    def _fetch(self, audience: Audience) -> tuple[str, float]:
        # Imported here: MSAL and what it pulls in cost a good part of a cold start.
        from msal.exceptions import MsalError

        refresh_token = self._refresh_tokens.read()
        try:
            answer = self._application().acquire_token_by_refresh_token(refresh_token, [f"{AUDIENCES[audience]}/.default"])
        except (MsalError, ValueError, KeyError, RuntimeError) as error:
            # MSAL's ways of saying that an answer was not what it expects; not chained, they may quote the answer.
            raise TryLater(f"signing in to Entra for {audience}: its answer could not be read ({type(error).__name__})") from None
        if "access_token" not in answer:
            raise decode_refusal(answer, audience)
        self._keep(answer.get("refresh_token"), refresh_token)
        return str(answer["access_token"]), max(0.0, float(answer.get("expires_in", 3600)) - MARGIN_SECONDS)

    def _keep(self, fresh: str | None, used: str) -> None:
        if not fresh or fresh == used:
            return
        try:
            self._refresh_tokens.offer(fresh)
        except ConnectorError as error:
            # The old one stays valid for its 90 days: work goes on, but somebody has to look before then.
            log.critical("the renewed refresh token could not be stored: %s", error)

    def _application(self) -> Any:
        with self._app_lock:
            if self._app is None:
                self._app = msal_application(self._settings, self._http)
            return self._app


def msal_application(settings: Settings, http: httpx.Client, public: bool = False) -> Any:
    """The Entra app in MSAL's hands; `public` leaves its credential out. Raises `SignInFailed` for a tenant that does not exist."""
    import msal

    authority = f"{settings.partner_center_authority}/{settings.partner_center_tenant_id}"
    credential = {} if public else {"client_credential": _credential(settings)}
    try:
        return (msal.PublicClientApplication if public else msal.ConfidentialClientApplication)(
            settings.partner_center_client_id,
            authority=authority,
            # For other hosts MSAL would ask Microsoft whether it knows them.
            instance_discovery=None if urlsplit(authority).hostname in MICROSOFT_LOGIN_HOSTS else False,
            http_client=_MsalHttp(http),
            **credential,
        )
    except ValueError as error:
        raise SignInFailed(f"Entra has no such tenant at {authority}: check PARTNER_CENTER_TENANT_ID") from error


def _credential(settings: Settings) -> str | dict[str, Any]:
    if settings.partner_center_client_secret:
        return settings.partner_center_client_secret
    # A callable, so that MSAL asks for the assertion only when a request goes out.
    identity = settings.partner_center_federated_identity_client_id
    return {"client_assertion": managed_identity_token(identity, "api://AzureADTokenExchange/.default")}


def decode_refusal(answer: dict[str, Any], audience: str) -> SignInFailed | TryLater:
    """The error a refused token request stands for. Entra's prose is left out: it may name the user."""
    codes = [int(code) for code in answer.get("error_codes") or [] if str(code).isdigit()]
    error = str(answer.get("error") or "no error code")
    names = ", ".join([error, *(f"AADSTS{code}" for code in codes)])
    message = f"Entra refused the sign-in for {audience} ({names})"
    if answer.get("correlation_id"):
        message += f", correlation id {answer['correlation_id']}"
    if error in ("temporarily_unavailable", "server_error") or TRANSIENT & set(codes):
        return TryLater(message)
    known = next((REMEDIES[code] for code in codes if code in REMEDIES), None)
    if known is None and error in ("invalid_grant", "interaction_required"):
        known = _CONSENT
    if known is None:
        known = f"see https://login.microsoftonline.com/error?code={codes[0]}" if codes else "check the PARTNER_CENTER_* settings"
    return SignInFailed(f"{message}: {known}")


class _MsalHttp:
    """MSAL's way of asking, answered by our client: its time limits, its certificates, its errors."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any) -> httpx.Response:
        return self._ask("POST", url, params=params or None, data=data, headers=headers)

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> httpx.Response:
        return self._ask("GET", url, params=params or None, headers=headers)

    def close(self) -> None:
        """The client is not MSAL's to close."""

    def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        with network_errors("signing in to Entra"):
            response = self._http.request(method, url, **options)
        if response.status_code == 429 or response.status_code >= 500:
            raise TryLater(f"signing in to Entra: HTTP {response.status_code}", retry_after(response.headers))
        if not _is_json(response.content):
            # A proxy's page; MSAL would take it for a tenant that does not exist, or write it into the log as it is.
            raise TryLater(f"signing in to Entra: HTTP {response.status_code}, the answer is not JSON")
        return response


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True
