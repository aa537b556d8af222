"""The sign-in of a person that the connector then lives on: in this machine's browser, or with a code on any other device.

Both go through MSAL for the confidential client of the secure application model: the refresh token belongs to the app and the person
together. Nothing of what Entra answers is logged, printed or put into an error but its error codes.
"""

from __future__ import annotations

import hmac
import http.server
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx

from shared.entra import AUDIENCES, decode_refusal, msal_application
from shared.errors import SignInFailed, TryLater
from shared.settings import Settings

# One sign-in names one audience; the refresh token it gives serves the other as well.
SCOPES = [f"{AUDIENCES['referrals']}/.default"]
# How long a person may take. Entra's own device codes live for fifteen minutes.
SECONDS = 600.0
# The longest one connection to the loopback address may take to say what it wants.
CONNECTION_SECONDS = 5.0
MAXIMUM_ANSWER = 16_384
"""Bytes of what the browser brings back; a real answer has about 2,000."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Consent:
    """What a sign-in gave. `mfa` is None where the answer does not say how the person signed in."""

    refresh_token: str = field(repr=False)
    account: str
    mfa: bool | None


def by_device_code(settings: Settings, client: httpx.Client, tell: Tell) -> Consent:
    """Shows a code to be entered in a browser anywhere, and waits. Raises `SignInFailed` with the remedy, `TryLater`."""
    app = msal_application(settings, client, public=True)
    flow = _asked(lambda: app.initiate_device_flow(SCOPES))
    if "user_code" not in flow:
        raise decode_refusal(flow, "the first sign-in")
    tell(f"open {flow.get('verification_uri')} in a browser and enter the code {flow['user_code']}")
    tell(f"waiting for the sign-in, for at most {int(flow['expires_in'] / 60)} minutes; Ctrl-C gives up and changes nothing …")
    # MSAL has this flow for public clients only; the secret makes it the confidential client's.
    proof = {"client_secret": settings.partner_center_client_secret}
    return _consent(_asked(lambda: app.acquire_token_by_device_flow(flow, data=proof)))


def by_browser(settings: Settings, client: httpx.Client, tell: Tell, browse: Callable[[str], object], port: int = 0) -> Consent:
    """Sends a browser of this machine to the sign-in page, and takes what it brings back (authorization code with PKCE).

    Raises `SignInFailed` with the remedy, `TryLater`.
    """
    app = msal_application(settings, client)
    with Loopback(port) as loopback:
        redirect = f"http://localhost:{loopback.port}"
        flow = _asked(
            lambda: app.initiate_auth_code_flow(SCOPES, redirect_uri=redirect, prompt="select_account", response_mode="form_post")
        )
        tell(f"sign in at {flow['auth_uri']}")
        tell(f"waiting for the browser to come back, for at most {int(SECONDS / 60)} minutes; Ctrl-C gives up and changes nothing …")
        browse(flow["auth_uri"])
        back = loopback.wait(flow["state"], SECONDS)
    if "code" not in back:
        raise decode_refusal(_authorization_error(back), "the first sign-in")
    return _consent(_asked(lambda: app.acquire_token_by_auth_code_flow(flow, back)))


def _asked(call: Callable[[], Any]) -> dict[str, Any]:
    """What MSAL answered. Its ways of failing are not chained into ours: they may quote the answer."""
    from msal.exceptions import MsalError

    try:
        answer: dict[str, Any] = call()
    except (MsalError, ValueError, KeyError, RuntimeError) as error:
        raise TryLater(f"signing in to Entra: its answer could not be used ({type(error).__name__})") from None
    return answer


def _authorization_error(back: dict[str, str]) -> dict[str, Any]:
    """An error of the sign-in page in the form of the token endpoint's; its text may name the user, so only the number is taken."""
    number = re.match(r"AADSTS(\d{5,8})\b", back.get("error_description", ""))
    return {"error": re.sub(r"[^a-z_]", "", back.get("error", ""))[:40], "error_codes": [int(number[1])] if number else []}


def _consent(answer: dict[str, Any]) -> Consent:
    if "access_token" not in answer:
        raise decode_refusal(answer, "the first sign-in")
    token = answer.get("refresh_token")
    if not token:
        raise SignInFailed("Entra gave no refresh token: the app registration must allow offline_access (Microsoft Graph, delegated)")
    claims = answer.get("id_token_claims") or {}
    methods = claims.get("amr")
    mfa = "mfa" in methods if isinstance(methods, list) else None
    if mfa is False:
        raise SignInFailed(
            "the sign-in was made without multi-factor authentication, and Partner Center refuses such users: "
            "turn it on for this user (security defaults or a conditional access policy) and sign in again; nothing was stored"
        )
    return Consent(str(token), str(claims.get("preferred_username") or ""), mfa)


class Loopback:
    """A listener on 127.0.0.1 that takes exactly one answer: the one that carries the state of our own request."""

    def __init__(self, port: int = 0) -> None:
        self._taken: dict[str, str] = {}
        self._state = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = CONNECTION_SECONDS

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                known = length.isascii() and length.isdigit() and int(length) <= MAXIMUM_ANSWER
                form = self.rfile.read(int(length)) if known else b""
                self._answer(*outer._judge(self.path, self.headers.get("Host", ""), form))

            def log_message(self, *_: Any) -> None:
                """Nothing of a request is anybody's business."""

            def _answer(self, status: int, words: str) -> None:
                page = f"<!doctype html><title>cosell</title><p>{words}</p>".encode()
                self.send_response_only(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(page)

        class Server(http.server.HTTPServer):
            # Another program must not be able to listen on the same port beside us.
            allow_reuse_address = False

            def handle_error(self, *_: Any) -> None:
                """A connection that breaks off concerns nobody, and a traceback could show its request."""

        try:
            self._server = Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise SignInFailed(f"port {port} of this machine is taken ({error.strerror}): give --port another one") from error
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self, state: str, seconds: float) -> dict[str, str]:
        """The parameters the browser came back with. Raises `SignInFailed` when nobody came in time."""
        self._state, end = state, time.monotonic() + seconds
        while not self._taken:
            self._server.timeout = end - time.monotonic()
            if self._server.timeout <= 0:
                raise SignInFailed(f"nobody signed in within {seconds:g} seconds; nothing was changed: begin again")
            self._server.handle_request()
        return self._taken

    def _judge(self, target: str, host: str, form: bytes) -> tuple[int, str]:
        # A page elsewhere may make the browser call this port; without the state it learns and changes nothing.
        given = dict(parse_qsl(form.decode("ascii", "replace")))
        if host not in (f"localhost:{self.port}", f"127.0.0.1:{self.port}") or target != "/":
            return 404, "There is nothing here."
        ours = hmac.compare_digest(given.get("state", "").encode(), self._state.encode())
        if not self._state or not ours or not ("code" in given or "error" in given):
            return 400, "This does not belong to the sign-in that was begun."
        self._taken = given
        return 200, "The sign-in has arrived. You can close this page and go back to the terminal."
