"""What Partner Center's answers mean: the three shapes of its errors, and the spelling of its keys. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx

from shared import wire
from shared.errors import ConnectorError, Gone, Misconfigured, Refused, SignInFailed, TryLater, VersionConflict
from shared.transport import retry_after

CONSENT = (
    "A person with the Referrals admin role has to sign in again with multi-factor authentication and grant consent: "
    "run `cosell login partner-center`."
)


class InvalidRequest(Refused):
    """A 400: the request itself was not accepted, such as a filter this tenant does not know."""


def decode_error(status: int, headers: Mapping[str, str], body: bytes, what: str = "Partner Center") -> ConnectorError:
    """The error an answer stands for; `what` says what was tried.

    Three services answer with three shapes: referrals `{"error": {code, message, target, innerError}}`, webhooks
    `{code, description}`, the gateway in front of both `{statusCode, message}`.
    """
    headers = httpx.Headers(dict(headers))
    code, words = _code_and_words(body)
    request_id = headers.get("request-id") or headers.get("MS-RequestId") or ""
    message = f"{what}: HTTP {status}" + (f" {code}" if code else "") + (f": {words}" if words else "")
    message += f" (request-id {request_id})" if request_id else ""
    if status == 401:
        return SignInFailed(f"{message}. The token was renewed once and refused again; check the app's permissions. {CONSENT}")
    if status == 403 and _asks_for_sign_in(headers, body):
        return SignInFailed(f"{message}. {CONSENT}")
    if status in (404, 410):
        return Gone(message)
    if status in (409, 412):
        return VersionConflict(message)
    if status in (408, 423, 425, 429) or status >= 500:
        # Throttling turns a call away at the gate; any other of these may follow a write that landed.
        return TryLater(message, retry_after(headers), certain=status == 429)
    if status < 400:
        return Misconfigured(f"{message}. Partner Center does not redirect: check PARTNER_CENTER_API_URL and PARTNER_CENTER_WEBHOOKS_URL")
    return (InvalidRequest if status == 400 else Refused)(message, words, code)


def canonical_keys(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The webhook service's keys in the spelling its documentation uses (`WebhookUrl`), whatever spelling was sent."""
    known = {name.lower(): name for name in ("WebhookUrl", "WebhookEvents", "SubscriberId", "CorrelationId", "LastModifiedTimestamp")}
    return {known.get(key.lower(), key[:1].upper() + key[1:]): value for key, value in answer.items()}


def _code_and_words(body: bytes) -> tuple[str, str]:
    try:
        answer = wire.loads(body)
    except ValueError:
        # A proxy's HTML page tells a seller nothing, and the status is in the message already.
        return "", ""
    if not isinstance(answer, dict):
        return "", ""
    error = answer.get("error")
    if not isinstance(error, dict):
        # An error of the token service, {"error": "text"}, comes out of gateways too.
        code = _first(answer, "code", "statusCode") or (error if isinstance(error, str) else "")
        return str(code), str(_first(answer, "description", "message", "error_description"))[:1024]
    code, words = str(_first(error, "code")), str(_first(error, "message"))
    deepest: Any = error
    while isinstance(deepest, dict):
        code, words = str(_first(deepest, "code") or code), str(_first(deepest, "message") or words)
        deepest = _first(deepest, "innerError", "innererror")
    target = _first(error, "target")
    return code, (f"{words} [{target}]" if target else words)[:1024]


def _first(answer: Mapping[str, Any], *names: str) -> Any:
    return next((answer[name] for name in names if answer.get(name)), "")


def _asks_for_sign_in(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a 403 is about the user's sign-in (conditional access, missing MFA), not about the record.

    Partner Center refuses calls without MFA since April 2026; the error's exact form is not documented.
    """
    told = (headers.get("WWW-Authenticate", "") + body[:4096].decode("utf-8", "replace")).lower()
    return re.search(r"insufficient_claims|\bclaims=|multi-?factor|\bmfa\b", told) is not None
