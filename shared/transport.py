"""How every call leaves the process: pooled, with time limits, verified, and unable to change anything in shadow mode."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from shared.errors import ShadowMode, TryLater
from shared.settings import Settings

if TYPE_CHECKING:
    import requests
    from requests.adapters import BaseAdapter

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class ReadOnly:
    """Refuses whatever could change a vendor's record, for both HTTP libraries.

    Everything but a read is refused unless it is on the short list: the two token endpoints and our own Key Vault.
    """

    def __init__(self, settings: Settings) -> None:
        self._token_endpoints = (
            f"{settings.partner_center_authority}/{settings.partner_center_tenant_id}/oauth2/v2.0/token",
            f"{settings.salesforce_login_url}/services/oauth2/token",
        )
        self._vault = f"{settings.key_vault_uri}/secrets/" if settings.key_vault_uri else None

    def check(self, method: str, url: str) -> None:
        """Raises `ShadowMode` when the request must not be sent."""
        address = url.partition("?")[0]
        if method.upper() in SAFE_METHODS or address in self._token_endpoints:
            return
        if self._vault and address.startswith(self._vault):
            return
        raise ShadowMode(f"shadow mode: {method.upper()} {urlsplit(url).path} was not sent (SYNC_MODE=shadow writes to neither vendor)")


def http_client(settings: Settings, *, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """The one pooled client for Partner Center, Entra, Key Vault and the Salesforce login; safe to share between threads.

    Redirects are not followed: none of these services redirects an API call, and a token must not travel along.
    """
    hooks: dict[str, list[Callable[..., Any]]] = {}
    if settings.shadow:
        read_only = ReadOnly(settings)
        hooks["request"] = [lambda request: read_only.check(request.method, str(request.url))]
    return httpx.Client(
        transport=transport,
        # Building the context reads the root certificates; an injected transport brings its own or needs none.
        verify=True if transport or not settings.ca_bundle else ssl.create_default_context(cafile=settings.ca_bundle),
        timeout=httpx.Timeout(settings.call_timeout_seconds),
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=32),
        follow_redirects=False,
        event_hooks=hooks,
    )


def requests_session(
    settings: Settings, observe: Callable[[requests.Response], None], adapter: BaseAdapter | None = None
) -> requests.Session:
    """A session for one thread with the same promises as `http_client`; `observe` sees every response, errors included."""
    import requests
    from requests.adapters import BaseAdapter, HTTPAdapter

    read_only = ReadOnly(settings) if settings.shadow else None
    inner = adapter or HTTPAdapter(pool_connections=2, pool_maxsize=2)

    class Guarded(BaseAdapter):
        """Adds what requests and simple-salesforce leave out: a time limit on every call, and shadow mode."""

        def send(
            self, request: Any, stream: bool = False, timeout: Any = None, verify: Any = True, cert: Any = None, proxies: Any = None
        ) -> Any:
            if read_only:
                read_only.check(request.method, request.url)
            limit = timeout or settings.call_timeout_seconds
            return inner.send(request, stream=stream, timeout=limit, verify=verify, cert=cert, proxies=proxies)

        def close(self) -> None:
            inner.close()

    session = requests.Session()
    # With trust_env REQUESTS_CA_BUNDLE would override `verify`, and a .netrc entry our Authorization header.
    session.trust_env = False
    session.verify = settings.ca_bundle or True
    session.mount("https://", Guarded())
    session.hooks["response"].append(lambda response, **_: observe(response))
    return session


@contextmanager
def network_errors(what: str) -> Iterator[None]:
    """Turns a time-out, a refused or a cut connection of httpx into `TryLater`. A write that ends so may have landed."""
    try:
        yield
    except httpx.RequestError as error:
        slow = isinstance(error, httpx.TimeoutException)
        words = (
            f"no answer within the time limit ({type(error).__name__})"
            if slow
            else f"the connection failed ({type(error).__name__}: {error})"
        )
        # What could not connect was never sent: whatever it was to do, it certainly did not.
        raise TryLater(f"{what}: {words}", certain=isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)) from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the vendor asks us to wait; its HTTP date is read against its own clock, the Date header."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds())
    except (ValueError, TypeError):
        return None
