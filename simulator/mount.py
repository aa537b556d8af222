"""The simulator inside a client: the connector's own HTTP libraries, real URLs and status codes, no sockets."""

from __future__ import annotations

import atexit
import functools
import io
import os
import tempfile
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import requests
import urllib3
from cryptography.hazmat.primitives import serialization
from requests.adapters import HTTPAdapter

from simulator.certificates import SIGNER
from simulator.core import ConnectionCut, Host, Request, Response
from simulator.entra import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, TENANT_ID
from simulator.simulator import SALESFORCE_CLIENT_ID, SALESFORCE_CLIENT_SECRET, Simulator, salesforce_key

URLS: dict[Host, str] = {
    "entra": "https://login.sim.test",
    "partner_center": "https://api.sim.test",
    "webhooks": "https://webhooks.sim.test",
    "certificates": "https://certificates.sim.test",
    "salesforce": "https://salesforce.sim.test",
    "control": "https://control.sim.test",
}
HOSTS: dict[str, Host] = {urlsplit(url).netloc: host for host, url in URLS.items()}


def settings(simulator: Simulator, urls: Mapping[Host, str], roots_file: str, private_key: bool) -> dict[str, str]:
    """What the connector must be told to work with this simulator at these addresses; tells the simulator, too."""
    simulator.certificates.url = f"{urls['certificates']}/cert/{SIGNER}.cer"
    simulator.salesforce.login.instance_url = urls["salesforce"]
    salesforce = {"SALESFORCE_CLIENT_SECRET": SALESFORCE_CLIENT_SECRET}
    if private_key:
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        # On one line, as stores of settings keep it.
        salesforce = {"SALESFORCE_PRIVATE_KEY": salesforce_key().private_bytes(*form).decode().strip().replace("\n", "\\n")}
    return {
        "PARTNER_CENTER_AUTHORITY": urls["entra"],
        "PARTNER_CENTER_API_URL": urls["partner_center"],
        "PARTNER_CENTER_WEBHOOKS_URL": urls["webhooks"],
        "PARTNER_CENTER_TENANT_ID": TENANT_ID,
        "PARTNER_CENTER_CLIENT_ID": CLIENT_ID,
        "PARTNER_CENTER_CLIENT_SECRET": CLIENT_SECRET,
        "PARTNER_CENTER_REFRESH_TOKEN": REFRESH_TOKEN,
        "WEBHOOK_CERTIFICATE_URL_PREFIX": f"{urls['certificates']}/cert/",
        "WEBHOOK_TRUSTED_ROOTS": roots_file,
        "WEBHOOK_SIGNER_NAMES": SIGNER,
        "SALESFORCE_LOGIN_URL": urls["salesforce"],
        "SALESFORCE_CLIENT_ID": SALESFORCE_CLIENT_ID,
        "SALESFORCE_USERNAME": simulator.salesforce.login.username,
        **salesforce,
    }


def environment(simulator: Simulator, private_key: bool = False) -> dict[str, str]:
    """The settings for a connector in this process, whose clients use the transports below.

    With `private_key` it signs in to Salesforce by JWT bearer, which needs a simulated clock near the real one; else by client secret.
    """
    return settings(simulator, URLS, _file(simulator.certificates.roots_pem()), private_key)


@functools.cache
def _file(text: str) -> str:
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    atexit.register(os.unlink, name)
    return name


def _answer(simulator: Simulator, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Response:
    parts = urlsplit(url)
    lower = {name.lower(): value for name, value in headers.items()} | {"host": parts.netloc}
    if parts.scheme != "https" or parts.netloc not in HOSTS:
        raise LookupError(f"the simulator is not at {parts.scheme}://{parts.netloc}")
    return simulator.handle(Request(HOSTS[parts.netloc], method, parts.path or "/", parts.query, lower, body))


class _HttpxTransport(httpx.BaseTransport):
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = _answer(self._simulator, request.method, str(request.url), request.headers, request.read())
        except ConnectionCut as error:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request) from error
        except LookupError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body, request=request)


class _RequestsAdapter(HTTPAdapter):
    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self._simulator = simulator

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        assert isinstance(body, bytes), "streamed uploads are not supported"
        headers = {str(name): str(value) for name, value in request.headers.items()}
        try:
            answer = _answer(self._simulator, str(request.method), str(request.url), headers, body)
        except (ConnectionCut, LookupError) as error:
            raise requests.ConnectionError(str(error) or "Remote end closed connection without response", request=request) from error
        raw = urllib3.HTTPResponse(io.BytesIO(answer.body), headers=dict(answer.headers), status=answer.status, preload_content=False)
        return self.build_response(request, raw)


def httpx_transport(simulator: Simulator) -> httpx.BaseTransport:
    """For `httpx.Client(transport=...)`. A cut connection is a `httpx.RemoteProtocolError`."""
    return _HttpxTransport(simulator)


def requests_adapter(simulator: Simulator) -> HTTPAdapter:
    """For `session.mount("https://", ...)`. A cut connection is a `requests.ConnectionError`."""
    return _RequestsAdapter(simulator)
