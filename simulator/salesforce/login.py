"""The token endpoint: JWT bearer and client credentials, sessions that end, and refusals on request (salesforce.md 1)."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt

from simulator.core import Clock, Request, Response
from simulator.salesforce.errors import Refusal, refusal
from simulator.salesforce.org import Org

if TYPE_CHECKING:
    from jwt.types import Options

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCES = frozenset({"https://login.salesforce.com", "https://test.salesforce.com"})
LONGEST_ASSERTION = timedelta(minutes=3, seconds=5)
LOGIN_HOSTS = frozenset({"login.salesforce.com", "test.salesforce.com"})

SCENARIOS = {
    "not_approved": ("invalid_grant", "user hasn't approved this consumer"),
    "audience": ("invalid_grant", "audience is invalid"),
    "expired_assertion": ("invalid_grant", "expired authorization code"),
    "expired_token": ("invalid_grant", "expired access/refresh token"),
    "authentication_failure": ("invalid_grant", "authentication failure"),
    "user_locked": ("invalid_grant", "user is locked"),
    "inactive_user": ("invalid_grant", "inactive user"),
    "ip_restricted": ("invalid_grant", "ip restricted"),
    "wrong_domain": ("invalid_grant", "request not supported on this domain"),
    "no_execution_user": ("invalid_grant", "no client credentials user enabled"),
    "client_secret": ("invalid_client", "invalid client credentials"),
    "client_id": ("invalid_client_id", "client identifier invalid"),
    "app_access": ("invalid_app_access", "user is not admin approved to access this app"),
    "flow_off": ("unsupported_grant_type", "grant type not supported"),
    "login_rate": ("rate_limit_exceeded", "login rate exceeded"),
    "no_description": ("invalid_grant", None),
}
"""Every row of the error table, by a name of our own."""


@dataclass(frozen=True)
class App:
    """A connected app, pre-authorised for one user."""

    client_id: str
    username: str
    public_key: bytes | None = None
    """PEM; turns the JWT bearer flow on."""
    secret: str | None = None
    """Turns the client credentials flow on."""


# the claims are checked by hand, against this world's clock
_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_iat": False,
    "verify_nbf": False,
}


class _Refused(Exception):
    """A row of `SCENARIOS`."""


class Login:
    """Who may sign in, and the sessions they hold. `logins` counts the tokens given, so that a login storm shows."""

    def __init__(self, clock: Clock, org: Org, organization_id: str, user_id: str, username: str) -> None:
        self._clock, self._org = clock, org
        self._organization_id, self._user_id, self.username = organization_id, user_id, username
        self.instance_url = "https://contoso.my.salesforce.com"
        self.apps: dict[str, App] = {}
        self.logins = 0
        self.refuse_with: str | None = None
        """A key of `SCENARIOS`: every sign-in is refused so until it is set back to None."""
        self._sessions: dict[str, datetime] = {}

    def register(self, app: App) -> None:
        self.apps[app.client_id] = app

    def end_sessions(self) -> None:
        """Every token stops working, as after an administrator's revocation."""
        self._sessions.clear()

    def token(self, request: Request) -> Response:
        """The answer of POST /services/oauth2/token."""
        form = request.form()
        try:
            if self.refuse_with:
                raise _Refused(self.refuse_with)
            grant = form.get("grant_type")
            if grant == JWT_BEARER:
                self._check_assertion(form.get("assertion", ""))
            elif grant == "client_credentials":
                self._check_secret(request, form)
            else:
                raise _Refused("flow_off")
        except _Refused as refused:
            error, description = SCENARIOS[refused.args[0]]
            return Response.of(400, {"error": error, **({"error_description": description} if description else {})}, _PRIVATE)
        answer = self._signed_in()
        if grant == JWT_BEARER:
            answer["scope"] = "api"
        else:
            answer |= {"issued_at": str(int(self._clock.now().timestamp() * 1000)), "signature": secrets.token_urlsafe(32)}
        return Response.of(200, answer, _PRIVATE)

    def _signed_in(self) -> dict[str, Any]:
        self.logins += 1
        token = f"{self._organization_id[:15]}!{secrets.token_urlsafe(48)}"
        self._sessions[token] = self._clock.now()
        return {
            "access_token": token,
            "instance_url": self.instance_url,
            "id": f"https://login.salesforce.com/id/{self._organization_id}/{self._user_id}",
            "token_type": "Bearer",
        }

    def _check_assertion(self, assertion: str) -> None:
        """Signature, issuer, subject, audience and expiry; the expiry in epoch seconds and at most three minutes ahead."""
        try:
            claims = jwt.decode(assertion, options={"verify_signature": False})
            app = self.apps.get(str(claims.get("iss")))
            if app is None or app.public_key is None:
                raise _Refused("client_id")
            jwt.decode(assertion, app.public_key, algorithms=["RS256"], options=_SIGNATURE_ONLY)
        except jwt.PyJWTError:
            raise _Refused("authentication_failure") from None
        if str(claims.get("aud")) not in AUDIENCES:
            raise _Refused("audience")
        expiry, now = claims.get("exp"), self._clock.now()
        if not isinstance(expiry, int | float) or not now.timestamp() < expiry <= (now + LONGEST_ASSERTION).timestamp():
            raise _Refused("expired_assertion")
        if claims.get("sub") != app.username:
            raise _Refused("not_approved")

    def _check_secret(self, request: Request, form: dict[str, str]) -> None:
        client_id, secret = form.get("client_id", ""), form.get("client_secret")
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
            except ValueError:
                raise _Refused("client_secret") from None
        if request.headers.get("host", "") in LOGIN_HOSTS:
            raise _Refused("wrong_domain")
        app = self.apps.get(client_id)
        if app is None:
            raise _Refused("client_id")
        if app.secret is None:
            raise _Refused("flow_off")
        if secret != app.secret:
            raise _Refused("client_secret")

    def check(self, request: Request) -> None:
        """Raises 401 unless the request carries a live session, which every call prolongs."""
        header = request.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() not in ("bearer", "oauth") or not token:
            raise refusal("INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE", None, 401)
        used, now = self._sessions.get(token.strip()), self._clock.now()
        if used is None or now - used > timedelta(seconds=self._org.session_seconds):
            self._sessions.pop(token.strip(), None)
            raise expired_session()
        self._sessions[token.strip()] = now

    def userinfo(self) -> dict[str, Any]:
        identity = f"https://login.salesforce.com/id/{self._organization_id}/{self._user_id}"
        return {
            "sub": identity,
            "user_id": self._user_id,
            "organization_id": self._organization_id,
            "preferred_username": self.username,
            "active": True,
        }


def expired_session() -> Refusal:
    return refusal("INVALID_SESSION_ID", "Session expired or invalid", None, 401)


_PRIVATE = {"Cache-Control": "no-cache, no-store"}
