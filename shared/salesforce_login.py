"""Signing in to Salesforce without a person: JWT bearer where a private key is set, else client credentials.

Never logs out or revokes: logins of one user and app may share a session, and ending it would end the others'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from shared import wire
from shared.clock import Clock
from shared.errors import Misconfigured, SignInFailed, TryLater
from shared.settings import Settings
from shared.sign_in import SignIn
from shared.transport import network_errors, retry_after

# Salesforce does not say how long a token lives (15 minutes to 24 hours by policy): a 401 ends it, this ages it before.
SOFT_LIFE_SECONDS = 50 * 60.0
# Salesforce refuses an assertion that is valid for longer than three minutes.
ASSERTION_SECONDS = 120
# The limit is 3,600 logins per user and hour.
RATE_LIMIT_SECONDS = 3600.0
# Salesforce's domains: public, United States government, China. A token is sent to no other, save to the host that gave it.
DOMAINS = (".salesforce.com", ".salesforce.mil", ".sfcrmproducts.cn", ".sfcrmapps.cn")
# A clock that differs by more than this from Salesforce's is named when a sign-in is refused.
SKEW_SECONDS = 60.0

# (error, part of its description in lower case) -> what a person does about it; the first that fits.
REMEDIES = (
    (
        "invalid_grant",
        "approved this consumer",
        "pre-authorise the app for the integration user: 'Admin approved users' and a permission set",
    ),
    ("invalid_grant", "audience", "SALESFORCE_LOGIN_URL is not of the kind of org the app is in: production and sandbox differ"),
    ("invalid_grant", "expired authorization code", "the assertion was out of date on arrival: correct this machine's clock"),
    ("invalid_grant", "not supported on this domain", "client credentials need the org's My Domain address in SALESFORCE_LOGIN_URL"),
    ("invalid_grant", "no client credentials user", "name an execution user in the app's client credentials policy"),
    ("invalid_grant", "locked", "unlock the integration user"),
    ("invalid_grant", "inactive", "activate the integration user"),
    ("invalid_grant", "ip restricted", "allow the connector's addresses in the app's policy or the user's profile"),
    (
        "invalid_grant",
        "",
        "check SALESFORCE_USERNAME, that the user is active, and that the certificate on the app belongs to SALESFORCE_PRIVATE_KEY",
    ),
    ("invalid_client_id", "", "SALESFORCE_CLIENT_ID is not the consumer key of an app this org knows"),
    ("invalid_client", "", "SALESFORCE_CLIENT_SECRET or SALESFORCE_CLIENT_ID is wrong"),
    ("invalid_app_access", "", "give the integration user the permission set that the app's policy admits"),
    ("unsupported_grant_type", "", "switch the flow on in the app: client credentials, or JWT bearer by uploading the certificate"),
)


@dataclass(frozen=True)
class Session:
    """An access token and the only host it may be sent to."""

    token: str
    instance_url: str
    org_id: str = ""
    user_id: str = ""

    def __repr__(self) -> str:
        return f"Session({self.instance_url})"


class SalesforceLogin:
    """The session all threads share; asked for once, renewed by one thread when the API refuses it."""

    def __init__(self, settings: Settings, http: httpx.Client, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._sign_in = SignIn(self._fetch, clock)

    def session(self) -> Session:
        """Raises `SignInFailed` with the remedy when a person has to act, `TryLater` when Salesforce cannot answer."""
        return self._sign_in.current()

    def renew(self, old_token: str) -> Session:
        """Another session after a 401 on `old_token`, or the one another thread has fetched meanwhile."""
        current = self._sign_in.current()
        if current.token == old_token:
            self._sign_in.forget(current)
        return self._sign_in.current()

    def _fetch(self) -> tuple[Session, float]:
        url = f"{self._settings.salesforce_login_url}/services/oauth2/token"
        form = self._assertion() if self._settings.salesforce_private_key else self._client_credentials()
        with network_errors("signing in to Salesforce"):
            response = self._http.post(url, data=form, headers={"Accept": "application/json"})
        try:
            answer = wire.loads(response.content)
        except ValueError:
            answer = None
        if response.status_code == 200 and isinstance(answer, dict) and answer.get("access_token"):
            return _session(answer, self._settings.salesforce_login_url), SOFT_LIFE_SECONDS
        error = decode_login_error(response.status_code, answer, retry_after(response.headers))
        raise self._with_clock(error, response.headers) from None

    def _with_clock(self, error: SignInFailed | TryLater, headers: Mapping[str, str]) -> SignInFailed | TryLater:
        """An assertion is good for two minutes, so a wrong clock is a common cause and never told as such."""
        try:
            ahead = (self._clock.now() - parsedate_to_datetime(headers.get("Date", "")).astimezone(UTC)).total_seconds()
        except ValueError:
            return error
        if isinstance(error, TryLater) or not self._settings.salesforce_private_key or abs(ahead) < SKEW_SECONDS:
            return error
        return SignInFailed(
            f"{error}; this machine's clock is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} Salesforce's"
        )

    def _client_credentials(self) -> dict[str, str]:
        return {
            "grant_type": "client_credentials",
            "client_id": self._settings.salesforce_client_id,
            "client_secret": self._settings.salesforce_client_secret,
        }

    def _assertion(self) -> dict[str, str]:
        import jwt

        claims = {
            "iss": self._settings.salesforce_client_id,
            "sub": self._settings.salesforce_username,
            "aud": audience(self._settings.salesforce_login_url),
            "exp": int(self._clock.now().timestamp()) + ASSERTION_SECONDS,
        }
        try:
            assertion = jwt.encode(claims, self._settings.salesforce_private_key, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            # Not chained: what the library says about a key may quote it.
            raise Misconfigured(f"SALESFORCE_PRIVATE_KEY is not a usable RSA key ({type(error).__name__})") from None
        return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}


def audience(login_url: str) -> str:
    """The `aud` Salesforce expects whatever host the assertion is posted to: the login service of production or of sandboxes."""
    host = urlsplit(login_url).hostname or ""
    return "https://test.salesforce.com" if host == "test.salesforce.com" or ".sandbox." in host else "https://login.salesforce.com"


def decode_login_error(status: int, answer: Any, wait: float | None = None) -> SignInFailed | TryLater:
    """The error a token answer stands for: one object here, not the list of the data API, and sometimes no description."""
    answer = answer if isinstance(answer, dict) else {}
    error, description = str(answer.get("error") or ""), str(answer.get("error_description") or "")[:200]
    message = f"Salesforce refused the sign-in: HTTP {status} {error}" + (f" ({description})" if description else "")
    if error == "rate_limit_exceeded" or "login rate" in description:
        return TryLater(message, RATE_LIMIT_SECONDS)
    # Whatever a gateway says in between: it is not Salesforce's answer about this sign-in.
    if status >= 500 or (not error and status in (408, 420, 429)) or error in ("server_error", "temporarily_unavailable"):
        return TryLater(f"Salesforce cannot sign anybody in now: HTTP {status} {error}".rstrip(), wait)
    for known, part, remedy in REMEDIES:
        if error == known and part in description.lower():
            return SignInFailed(f"{message}: {remedy}")
    if not error:
        return SignInFailed(
            f"what answered at SALESFORCE_LOGIN_URL is no Salesforce sign-in (HTTP {status}): give the org's My Domain address, "
            "https://NAME.my.salesforce.com, not the one of the user interface"
        )
    return SignInFailed(f"{message}: check SALESFORCE_LOGIN_URL and the app's settings")


def check_instance(instance_url: str, login_url: str) -> None:
    """Raises `SignInFailed` unless a token may be sent there: https, Salesforce's own domain or the very host that gave the token.

    Records and the token travel to this address, so an answer that was tampered with must not choose it.
    """
    parts, login = urlsplit(instance_url), urlsplit(login_url)
    plain = parts.scheme == "https" and instance_url == f"https://{parts.netloc}" and re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", parts.netloc)
    if not plain or not (parts.netloc == login.netloc or (parts.netloc == parts.hostname and parts.hostname.endswith(DOMAINS))):
        raise SignInFailed(
            "Salesforce named an instance that is neither of Salesforce's domain nor the host of SALESFORCE_LOGIN_URL; nothing is sent there: "
            "check SALESFORCE_LOGIN_URL"
        )


def _session(answer: dict[str, Any], login_url: str) -> Session:
    instance_url = str(answer.get("instance_url") or "").rstrip("/").lower()
    try:
        check_instance(instance_url, login_url.lower())
    except ValueError:  # what urlsplit says of a broken address
        raise SignInFailed("Salesforce named an instance whose address cannot be read: check SALESFORCE_LOGIN_URL") from None
    who = re.search(r"/id/(00D[A-Za-z0-9]{12,15})/(005[A-Za-z0-9]{12,15})$", str(answer.get("id") or ""))
    return Session(str(answer["access_token"]), instance_url, who[1] if who else "", who[2] if who else "")
