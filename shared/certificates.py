"""Partner Center's signing certificates: fetched from the one allowed address, kept for an hour, trusted only when checked.

The checks themselves are in `notifications.py`; here are the calls they need and the limits on those calls, so that a flood of
forged events costs Microsoft and us next to nothing.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from shared import notifications
from shared.clock import Clock
from shared.errors import TryLater
from shared.notifications import BadSignature, Signature
from shared.settings import Settings
from shared.transport import network_errors
from shared.trusted_roots import trusted

MAXIMUM_CERTIFICATE = 65_536
"""Bytes of one certificate file; a real one has about 2,000."""

# Where Microsoft's and DigiCert's authorities publish their intermediates ("Azure Certificate Authority details", AIA). Plain
# http is the norm there: what is fetched is believed only when a trusted root vouches for it.
_ISSUER_ADDRESS = re.compile(
    r"https?://(?:www\.microsoft\.com/pki(?:ops)?/|caissuers\.microsoft\.com/|cacerts\.digicert\.com/)"
    r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/){0,4}[A-Za-z0-9_(-](?:[A-Za-z0-9._()-]|%20){0,150}\.(?:crt|cer)"
)

_FRESH = 3600.0
"""Seconds a certificate is used before it is read again."""
_STALE = 86_400.0
"""Seconds a certificate may still be used while its address does not answer."""
_PAUSE = 60.0
"""Seconds between two fetches of one address, whatever is sent to us."""
_TROUBLE = 5.0
"""The same, after a fetch that got no answer."""
_UNEXPECTED_FETCHES = 10
"""Fetches in `_PAUSE` seconds of all files not named after an expected signer."""
_KEPT = 32
"""Addresses remembered."""
_INTERMEDIATES = 3


@dataclass(frozen=True)
class _Fetched:
    """What one address gave: a certificate with what may lead to its root, or why there is none. Times are monotonic."""

    tried: float
    read: float
    certificate: x509.Certificate | None = None
    intermediates: tuple[x509.Certificate, ...] = ()
    fault: str = ""
    passing: bool = False
    """The fault is the network's or the host's, not the certificate's."""


class Certificates:
    """Decides whether a request comes from Partner Center. One per process; safe to use from many threads."""

    def __init__(self, settings: Settings, http: httpx.Client, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._roots, self._bundled = trusted(settings.webhook_trusted_roots)
        self._signers: dict[str, _Fetched] = {}
        self._issuers: dict[str, tuple[float, x509.Certificate]] = {}
        self._unexpected: deque[float] = deque(maxlen=_UNEXPECTED_FETCHES)
        self._expected_files = {f"{name}.cer" for name in settings.webhook_signer_names}
        self._fetching = threading.Lock()

    def authenticate(self, headers: Mapping[str, str], raw: bytes) -> None:
        """Returns when Microsoft signed this body; raises `BadSignature` (answer 401) or `TryLater` (503: send it again).

        Nothing is fetched before headers and certificate address have been checked, and an address is read again at most once
        a minute however many bad signatures name it.
        """
        if len(raw) > notifications.MAXIMUM_BODY:
            raise BadSignature(f"the body has {len(raw)} bytes; no event has more than {notifications.MAXIMUM_BODY}")
        claimed = notifications.signature(headers)
        notifications.check_certificate_url(claimed.certificate_url, self._settings.webhook_certificate_url_prefix)
        fetched = self._signer(claimed.certificate_url, _FRESH)
        try:
            self._check(fetched, claimed, raw)
        except BadSignature:
            # Microsoft may have renewed the certificate under the same address
            again = self._signer(claimed.certificate_url, _PAUSE)
            if again is fetched or again.certificate == fetched.certificate:
                raise
            self._check(again, claimed, raw)

    def _check(self, fetched: _Fetched, claimed: Signature, raw: bytes) -> None:
        if fetched.certificate is None:
            raise TryLater(fetched.fault, retry_after=_TROUBLE) if fetched.passing else BadSignature(fetched.fault)
        now = self._clock.now()
        notifications.check_certificate(fetched.certificate, fetched.intermediates, self._roots, self._settings.webhook_signer_names, now)
        notifications.verify(raw, claimed, fetched.certificate)

    def _signer(self, url: str, maximum_age: float) -> _Fetched:
        """What `url` gave at most `maximum_age` seconds ago; many threads that miss it wait for one fetch."""
        known = self._signers.get(url)
        if known and not self._due(known, maximum_age):
            return known
        # a routine renewal must not hold up events that the certificate at hand can prove
        renewal = known is not None and known.certificate is not None and maximum_age == _FRESH
        if not self._fetching.acquire(timeout=0 if renewal else self._settings.call_timeout_seconds):
            if known and renewal:
                return known
            raise TryLater("the certificate's address is slow to answer", retry_after=_TROUBLE)
        try:
            known = self._signers.get(url)
            if known and not self._due(known, maximum_age):
                return known
            if known is None or known.certificate is None:
                self._count_unexpected(url)
            fetched = self._fetch_signer(url, known)
            self._remember(url, fetched)
            return fetched
        finally:
            self._fetching.release()

    def _due(self, known: _Fetched, maximum_age: float) -> bool:
        age = self._clock.monotonic() - known.tried
        if not known.fault:
            return age >= maximum_age
        return age >= (_TROUBLE if known.passing and known.certificate is None else _PAUSE)

    def _fetch_signer(self, url: str, known: _Fetched | None) -> _Fetched:
        try:
            certificate, *others = _certificates(self._download(url))
            notifications.check_signer(certificate, self._settings.webhook_signer_names, self._clock.now())
            intermediates = (*others[:_INTERMEDIATES], *self._bundled, *self._issuers_of(certificate, others))
        except BadSignature as fault:
            now = self._clock.monotonic()
            return _Fetched(now, now, fault=str(fault))
        except TryLater as fault:
            now = self._clock.monotonic()
            if known and known.certificate and now - known.read < _STALE:
                return replace(known, tried=now, fault=str(fault), passing=True)
            return _Fetched(now, now, fault=str(fault), passing=True)
        now = self._clock.monotonic()
        return _Fetched(now, now, certificate, intermediates)

    def _issuers_of(self, certificate: x509.Certificate, given: list[x509.Certificate]) -> list[x509.Certificate]:
        """The authorities between a certificate and a root that nobody has handed us, from where the certificates point to."""
        roots = {root.subject for root in self._roots}
        at_hand = {other.subject: other for other in (*self._bundled, *given)}
        fetched: list[x509.Certificate] = []
        for _ in range(_INTERMEDIATES):
            if certificate.issuer in roots:
                break
            issuer = at_hand.get(certificate.issuer)
            if issuer is None:
                url = _issuer_address(certificate)
                if url is None:
                    break  # the chain check says what is missing
                issuer = self._issuer(url)
                fetched.append(issuer)
            certificate = issuer
        return fetched

    def _issuer(self, url: str) -> x509.Certificate:
        known = self._issuers.get(url)
        if known and self._clock.monotonic() - known[0] < _STALE:
            return known[1]
        issuer = _certificates(self._download(url))[0]
        if len(self._issuers) >= _KEPT:
            self._issuers.clear()
        self._issuers[url] = (self._clock.monotonic(), issuer)
        return issuer

    def _count_unexpected(self, url: str) -> None:
        """Strangers may name any file below the allowed address; only so many of those are looked up."""
        if url.rpartition("/")[2] in self._expected_files:
            return
        now = self._clock.monotonic()
        if len(self._unexpected) == _UNEXPECTED_FETCHES and now - self._unexpected[0] < _PAUSE:
            raise TryLater("too many different certificate addresses were named within a minute", retry_after=_PAUSE)
        self._unexpected.append(now)

    def _remember(self, url: str, fetched: _Fetched) -> None:
        """Certificates outlive refusals when room is needed."""
        self._signers.pop(url, None)
        if len(self._signers) >= _KEPT:
            refused = (known for known, entry in self._signers.items() if entry.certificate is None)
            self._signers.pop(next(refused, None) or next(iter(self._signers)))
        self._signers[url] = fetched

    def _download(self, url: str) -> bytes:
        """At most `MAXIMUM_CERTIFICATE` bytes, within the time of one call, from exactly this address."""
        limit = self._settings.call_timeout_seconds
        end = self._clock.monotonic() + limit
        content = b""
        with (
            network_errors(f"reading the certificate at {url}"),
            self._http.stream("GET", url, headers={"Accept-Encoding": "identity"}, follow_redirects=False, timeout=limit) as answer,
        ):
            if answer.status_code in (400, 404, 410) or answer.is_redirect:
                raise BadSignature(f"there is no certificate at {url} (HTTP {answer.status_code})")
            if answer.status_code != 200:
                raise TryLater(f"the certificate at {url} cannot be read now (HTTP {answer.status_code})")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise BadSignature(f"the certificate at {url} comes compressed although it was asked for as it is")
            for part in answer.iter_bytes():
                content += part
                if len(content) > MAXIMUM_CERTIFICATE:
                    raise BadSignature(f"the file at {url} is too large for a certificate")
                if self._clock.monotonic() > end:
                    raise TryLater(f"the certificate at {url} did not arrive within {limit:g} seconds")
        return content


def _certificates(content: bytes) -> list[x509.Certificate]:
    """The certificates of a file, DER or PEM; the first one is what the file is about."""
    try:
        pem = b"-----BEGIN CERTIFICATE-----" in content
        found = x509.load_pem_x509_certificates(content) if pem else [x509.load_der_x509_certificate(content)]
        # names are parsed when first asked for: a broken one should show here
        return [certificate for certificate in found if certificate.subject is not None and certificate.issuer is not None]
    except notifications.UNREADABLE as error:
        raise BadSignature("the file that was fetched is not an X.509 certificate") from error


def _issuer_address(certificate: x509.Certificate) -> str | None:
    """Where the certificate says its issuer's is, if that is one of the issuers' own hosts."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    except notifications.UNREADABLE as error:
        raise BadSignature(f"the certificate cannot be read: {error}") from error
    for entry in access:
        location = entry.access_location
        if entry.access_method != AuthorityInformationAccessOID.CA_ISSUERS or not isinstance(location, x509.UniformResourceIdentifier):
            continue
        if _ISSUER_ADDRESS.fullmatch(location.value):
            return location.value
    return None
