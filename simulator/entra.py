"""Entra ID's token endpoint, as far as MSAL needs it for Partner Center (partner-center.md 1.2 and 1.3).

Tokens are opaque to clients, so they are random strings whose claims stay here. Access tokens live an hour of simulated time; refresh
tokens live 90 days, and each use returns a new one beside the old.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from simulator.core import Clock, Request, Response

TENANT_ID = "7d23e5ca-19dc-4eaa-aac8-5e6b559f0d1d"
CLIENT_ID = "b5a1c3de-0f5e-4c36-9e0b-6d2f3f0a1c11"
CLIENT_SECRET = "simulated-client-secret"
REFRESH_TOKEN = "simulated-refresh-token"
REFERRALS = "https://api.partner.microsoft.com"
WEBHOOKS = "https://api.partnercenter.microsoft.com"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


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
        self.access_tokens: dict[str, AccessToken] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.consent(self.user, REFRESH_TOKEN)

    def consent(self, user: User, token: str | None = None) -> str:
        """A refresh token for `user`, as an interactive sign-in with MFA gives."""
        token = token or f"0.simulated.{secrets.token_urlsafe(24)}"
        self.refresh_tokens[token] = RefreshToken(user, self._clock.now() + timedelta(days=90))
        return token

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
            case _, [_, "v2.0", ".well-known", "openid-configuration"] | [_, "oauth2", "v2.0", "token"]:
                return self._error(Refused("invalid_tenant", 90002, "Tenant not found. Check the tenant ID."))
        return Response(404)

    def _token(self, form: dict[str, str], base: str) -> dict[str, object]:
        _check_client(form, base)
        audience = _audience(form.get("scope", ""))
        user: User | None = None
        extra: dict[str, object] = {}
        match form.get("grant_type"):
            case "refresh_token":
                user = self._redeem(form.get("refresh_token", ""))
                extra = {"refresh_token": self.consent(user), **_identity(user)}
            case "client_credentials":
                pass
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
    elif form.get("client_secret") != CLIENT_SECRET:
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


def _identity(user: User) -> dict[str, object]:
    """`id_token` and `client_info`, from which MSAL makes the account its cache is keyed by."""
    claims = {
        "aud": CLIENT_ID,
        "iss": f"https://login.microsoftonline.com/{TENANT_ID}/v2.0",
        "tid": TENANT_ID,
        "oid": user.id,
        "sub": user.id,
    }
    header = _encode({"alg": "none", "typ": "JWT"})
    return {
        "id_token": f"{header}.{_encode({**claims, 'preferred_username': user.email, 'ver': '2.0'})}.",
        "client_info": _encode({"uid": user.id, "utid": TENANT_ID}),
    }


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
