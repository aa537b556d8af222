"""Entra ID's token endpoint, as far as MSAL needs it for Partner Center (partner-center.md 1.2 and 1.3).

Tokens are opaque to clients, so they are random strings whose claims stay here. Access tokens live an hour of simulated time; refresh
tokens live 90 days, and each use returns a new one beside the old.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import Literal
from urllib.parse import urlsplit

from simulator.core import Clock, Request, Response

TENANT_ID = "7d23e5ca-19dc-4eaa-aac8-5e6b559f0d1d"
CLIENT_ID = "b5a1c3de-0f5e-4c36-9e0b-6d2f3f0a1c11"
CLIENT_SECRET = "simulated-client-secret"
REFRESH_TOKEN = "simulated-refresh-token"
REFERRALS = "https://api.partner.microsoft.com"
WEBHOOKS = "https://api.partnercenter.microsoft.com"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class User:
    """A person of the partner. Role `admin` sees every deal of the company, `user` those whose team names them (1.4)."""

    email: str
    role: Literal["admin", "user", "none"] = "admin"
    mfa: bool = True
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class AccessToken:
    """What a bearer token says. `user` is None for an app-only token."""

    audience: str
    user: User | None
    expires: datetime


@dataclass
class RefreshToken:
    """One consent of a user, good until it expires or is revoked."""

    user: User
    expires: datetime
    revoked: bool = False


@dataclass
class Authorization:
    """A sign-in that began at `authorize` and is to end at `token`, once."""

    user: User
    scopes: list[str]
    redirect_uri: str
    challenge: str
    nonce: str
    expires: datetime


@dataclass
class Device:
    """A sign-in by device code. `user` is who typed the code in; `asked` is when the client last looked."""

    user_code: str
    scopes: list[str]
    expires: datetime
    user: User | None = None
    declined: bool = False
    asked: datetime | None = None


class Refused(Exception):
    """An OAuth error answer."""

    def __init__(self, error: str, code: int, text: str, suberror: str = "") -> None:
        super().__init__(text)
        self.error, self.code, self.text, self.suberror = error, code, text, suberror


class Entra:
    """One tenant, one confidential client, any number of users."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.user = User("sync@contoso.example")
        self.mfa_required = False
        self.consented = {REFERRALS, WEBHOOKS}
        """Audiences an administrator granted the app; a token for another is refused."""
        self.redirect_uris = {"http://localhost"}
        """Of the app's web platform; for localhost the port is not compared."""
        self.at_the_browser: User | None = self.user
        """Who signs in when a browser or a device code asks; None declines."""
        self.tells_methods = True
        """Whether id tokens have the claim amr."""
        self.device_interval = 5
        self.authorizations: dict[str, Authorization] = {}
        self.devices: dict[str, Device] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.consent(self.user, REFRESH_TOKEN)

    def consent(self, user: User, token: str | None = None) -> str:
        """A refresh token for `user`, as an interactive sign-in with MFA gives."""
        token = token or f"0.simulated.{secrets.token_urlsafe(24)}"
        self.refresh_tokens[token] = RefreshToken(user, self._clock.now() + timedelta(days=90))
        return token

    def enter_device_code(self, user_code: str) -> None:
        """A person types the code in and signs in, or declines (`at_the_browser` is None)."""
        (device,) = [one for one in self.devices.values() if one.user_code == user_code and one.expires > self._clock.now()]
        device.user, device.declined = self.at_the_browser, self.at_the_browser is None

    def revoke(self) -> None:
        """Ends every refresh token given so far, as a changed password does."""
        for token in self.refresh_tokens.values():
            token.revoked = True

    def expire_access_tokens(self) -> None:
        self.access_tokens.clear()

    def authenticate(self, request: Request, audience: str) -> AccessToken | None:
        """The caller of an API for `audience`, or None: no token, a wrong one, an expired one, one for another API."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = self.access_tokens.get(token) if scheme.lower() == "bearer" else None
        return known if known and known.audience == audience and known.expires > self._clock.now() else None

    def handle(self, request: Request) -> Response:
        base = f"https://{request.headers.get('host', 'login.microsoftonline.com')}/{TENANT_ID}"
        match request.method, request.path.strip("/").split("/"):
            case "GET", [tenant, "v2.0", ".well-known", "openid-configuration"] if tenant == TENANT_ID:
                return Response.of(200, _discovery(base))
            case "POST", [tenant, "oauth2", "v2.0", "token"] if tenant == TENANT_ID:
                try:
                    return Response.of(200, self._token(request.form(), base))
                except Refused as refused:
                    return self._error(refused)
            case "GET", [tenant, "oauth2", "v2.0", "authorize"] if tenant == TENANT_ID:
                return self._authorize(request.parameters())
            case "POST", [tenant, "oauth2", "v2.0", "devicecode"] if tenant == TENANT_ID:
                try:
                    return Response.of(200, self._begin_device(request.form()))
                except Refused as refused:
                    return self._error(refused)
            case _, [_, "v2.0", ".well-known", "openid-configuration"] | [_, "oauth2", "v2.0", "token" | "authorize" | "devicecode"]:
                return self._error(Refused("invalid_tenant", 90002, "Tenant not found. Check the tenant ID."))
        return Response(404)

    def _token(self, form: dict[str, str], base: str) -> dict[str, object]:
        _check_client(form, base)
        user: User | None = None
        extra: dict[str, object] = {}
        audience = ""
        match form.get("grant_type"):
            case "refresh_token":
                audience = _audience(form.get("scope", ""))
                user = self._redeem(form.get("refresh_token", ""))
                self._check_consent(audience)
                extra = {"refresh_token": self.consent(user), **self._identity(user)}
            case "client_credentials":
                audience = _audience(form.get("scope", ""))
            case "authorization_code":
                begun = self._redeem_code(form)
                user, audience = begun.user, _audience(" ".join(begun.scopes))
                extra = self._signed_in(user, begun.scopes, begun.nonce)
            case other if other == DEVICE_CODE:
                device = self._redeem_device(form.get("device_code", ""))
                assert device.user
                user, audience = device.user, _audience(" ".join(device.scopes))
                extra = self._signed_in(user, device.scopes)
            case other:
                raise Refused("unsupported_grant_type", 70003, f"The app requested an unsupported grant type '{other}'.")
        token = f"simulated.{secrets.token_urlsafe(32)}"
        self.access_tokens[token] = AccessToken(audience, user, self._clock.now() + timedelta(hours=1))
        return {
            "token_type": "Bearer",
            "scope": f"{audience}/user_impersonation {audience}/.default",  # MSAL finds a token again by the scope it asked for
            "expires_in": 3600,
            "ext_expires_in": 3600,
            "access_token": token,
            **extra,
        }

    def _signed_in(self, user: User, scopes: list[str], nonce: str = "") -> dict[str, object]:
        """What an interactive sign-in gives beside the access token: a refresh token only where it was asked for."""
        return {**({"refresh_token": self.consent(user)} if "offline_access" in scopes else {}), **self._identity(user, nonce)}

    def _authorize(self, asked: dict[str, str]) -> Response:
        """The page a person signs in on. A fault that concerns the address to go back to is shown, any other goes there."""
        back = asked.get("redirect_uri", "")
        if asked.get("client_id") != CLIENT_ID:
            return Response(400, b"AADSTS700016: Application was not found in the directory.")
        if _without_local_port(back) not in self.redirect_uris:
            return Response(400, b"AADSTS50011: The redirect URI specified in the request does not match those of the application.")
        try:
            if asked.get("response_type") != "code" or asked.get("response_mode") != "form_post":
                raise Refused("unsupported_response_type", 70007, "Only response_type=code and response_mode=form_post are played here.")
            if asked.get("code_challenge_method") != "S256" or not re.fullmatch(r"[A-Za-z0-9_-]{43}", asked.get("code_challenge", "")):
                raise Refused("invalid_request", 9002325, "Proof Key for Code Exchange is required.")
            if not asked.get("state"):
                raise Refused("invalid_request", 900144, "The request must contain the parameter 'state'.")
            scopes = asked.get("scope", "").split()
            self._check_consent(_audience(asked.get("scope", "")))
            if self.at_the_browser is None:
                raise Refused("access_denied", 65004, f"User declined to consent to access the app: {self.user.email}.")
        except Refused as refused:
            words = {"error": refused.error, "error_description": f"AADSTS{refused.code}: {refused.text}", "state": asked.get("state", "")}
            return _posted_back(back, words)
        code = f"0.code.{secrets.token_urlsafe(32)}"
        expires = self._clock.now() + timedelta(minutes=10)
        begun = Authorization(self.at_the_browser, scopes, back, asked["code_challenge"], asked.get("nonce", ""), expires)
        self.authorizations[code] = begun
        answer = {"code": code, "state": asked["state"], "session_state": str(uuid.uuid4())}
        return _posted_back(back, answer)

    def _redeem_code(self, form: dict[str, str]) -> Authorization:
        begun = self.authorizations.pop(form.get("code", ""), None)
        if begun is None:
            raise Refused("invalid_grant", 54005, "OAuth2 Authorization code was already redeemed, or is unknown.")
        if begun.expires <= self._clock.now():
            raise Refused("invalid_grant", 70008, "The provided authorization code has expired.")
        if form.get("redirect_uri") != begun.redirect_uri:
            raise Refused("invalid_client", 500112, "The reply address does not match the one of the request for authorization.")
        proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
        if proof != begun.challenge:
            raise Refused("invalid_grant", 501481, "The Code_Verifier does not match the code_challenge of the authorization request.")
        return begun

    def _begin_device(self, form: dict[str, str]) -> dict[str, object]:
        if form.get("client_id") != CLIENT_ID:
            raise Refused("unauthorized_client", 700016, "Application was not found in the directory.")
        self._check_consent(_audience(form.get("scope", "")))
        code, user_code = f"0.device.{secrets.token_urlsafe(32)}", "".join(secrets.choice("ABCDEFGHJKLMNPQR") for _ in range(9))
        self.devices[code] = Device(user_code, form.get("scope", "").split(), self._clock.now() + timedelta(minutes=15))
        page = "https://microsoft.com/devicelogin"
        return {
            "device_code": code,
            "user_code": user_code,
            "verification_uri": page,
            "expires_in": 900,
            "interval": self.device_interval,
            "message": f"To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate.",
        }

    def _redeem_device(self, code: str) -> Device:
        device, now = self.devices.get(code), self._clock.now()
        if device is None:
            raise Refused("invalid_grant", 70018, "Bad verification code.")
        if device.expires <= now:
            raise Refused("expired_token", 70019, "The verification code expired.")
        if device.declined:
            raise Refused("authorization_declined", 65004, f"User declined to consent to access the app: {self.user.email}.")
        if device.user is None:
            early = device.asked is not None and now - device.asked < timedelta(seconds=self.device_interval - 1)
            device.asked = now
            raise Refused("slow_down" if early else "authorization_pending", 70016, "The code has not been entered yet.")
        return self.devices.pop(code)

    def _check_consent(self, audience: str) -> None:
        if audience not in self.consented:
            raise Refused("invalid_grant", 65001, "The user or administrator has not consented to use the application.", "consent_required")

    def _redeem(self, token: str) -> User:
        known = self.refresh_tokens.get(token)
        if known is None:
            raise Refused("invalid_grant", 9002313, "Invalid request. Request is malformed or invalid.", "bad_token")
        if known.revoked:
            raise Refused("invalid_grant", 50173, "The provided grant has expired due to it being revoked, a fresh auth token is needed.")
        if known.expires <= self._clock.now():
            raise Refused("invalid_grant", 700082, "The refresh token has expired due to inactivity.", "token_expired")
        if self.mfa_required:
            text = "Due to a configuration change made by your administrator, you must use multi-factor authentication."
            raise Refused("invalid_grant", 50076, text, "basic_action")
        return known.user

    def _identity(self, user: User, nonce: str = "") -> dict[str, object]:
        """`id_token` and `client_info`, from which MSAL makes the account its cache is keyed by."""
        now = int(self._clock.now().timestamp())
        claims: dict[str, object] = {
            "aud": CLIENT_ID,
            "iss": f"https://login.microsoftonline.com/{TENANT_ID}/v2.0",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "tid": TENANT_ID,
            "oid": user.id,
            "sub": user.id,
            "preferred_username": user.email,
            "ver": "2.0",
            **({"nonce": nonce} if nonce else {}),
            **({"amr": ["pwd", "mfa"] if user.mfa else ["pwd"]} if self.tells_methods else {}),
        }
        header = _encode({"alg": "none", "typ": "JWT"})
        return {"id_token": f"{header}.{_encode(claims)}.", "client_info": _encode({"uid": user.id, "utid": TENANT_ID})}

    def _error(self, refused: Refused) -> Response:
        body = {
            "error": refused.error,
            "error_description": f"AADSTS{refused.code}: {refused.text}",
            "error_codes": [refused.code],
            "timestamp": f"{self._clock.now():%Y-%m-%d %H:%M:%SZ}",
            "trace_id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
            **({"suberror": refused.suberror} if refused.suberror else {}),
        }
        return Response.of(401 if refused.error == "invalid_client" else 400, body)


def _discovery(base: str) -> dict[str, object]:
    return {
        "issuer": f"{base}/v2.0",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_types_supported": ["code", "id_token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def _check_client(form: dict[str, str], base: str) -> None:
    if form.get("client_id") != CLIENT_ID:
        raise Refused("unauthorized_client", 700016, "Application was not found in the directory.")
    if form.get("client_assertion_type") == ASSERTION_TYPE:
        # Signed by a key of the app's certificate or by the managed identity's issuer; neither key is known here, so only the claims count.
        claims = _claims(form.get("client_assertion", ""))
        if claims.get("aud") not in ("api://AzureADTokenExchange", f"{base}/oauth2/v2.0/token", f"{base}/v2.0"):
            raise Refused("invalid_client", 700023, "Client assertion audience claim does not match.")
    elif "client_secret" not in form:
        raise Refused("invalid_client", 7000218, "The request body must contain 'client_assertion' or 'client_secret'.")
    elif form["client_secret"] != CLIENT_SECRET:
        raise Refused("invalid_client", 7000215, "Invalid client secret provided.")


def _claims(token: str) -> dict[str, object]:
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, binascii.Error):
        raise Refused("invalid_client", 50027, "JWT token is invalid or malformed.") from None
    return claims if isinstance(claims, dict) else {}


def _audience(scope: str) -> str:
    resources = [name for name in scope.split() if name not in ("openid", "profile", "offline_access")]
    if len(resources) != 1 or not resources[0].endswith(("/.default", "/user_impersonation")):
        raise Refused("invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid.")
    audience = resources[0].rpartition("/")[0]
    if audience not in (REFERRALS, WEBHOOKS):
        raise Refused("invalid_resource", 500011, f"The resource principal named {audience} was not found in the tenant.")
    return audience


def _posted_back(back: str, answer: dict[str, str]) -> Response:
    """A page that sends itself on, so that the code stands in no address."""
    fields = "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}"/>' for name, value in answer.items())
    page = f'<html><body onload="document.forms[0].submit()"><form method="POST" action="{escape(back)}">{fields}</form></body></html>'
    return Response(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})


def _without_local_port(uri: str) -> str:
    """Entra takes any port of localhost for the registered one (RFC 8252, 7.3)."""
    parts = urlsplit(uri)
    return f"http://localhost{parts.path}" if parts.scheme == "http" and parts.hostname == "localhost" else uri


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
