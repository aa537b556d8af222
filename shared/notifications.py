"""A Partner Center event: is it really Microsoft's, what does it say?

Pure: no network, clock, environment or storage. Fetching the certificate is in `certificates.py`; what an event leads to is
decided elsewhere. Vendor source: the "Partner Center webhooks" and "Partner Center webhook events" pages of Microsoft's
developer documentation. Where the C# sample printed there is lax (any certificate URL is fetched, any certificate whose issuer
says Microsoft passes), this is strict.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from shared.errors import ConnectorError

MAXIMUM_BODY = 262_144
"""Bytes. A real event is about 300."""

REFERRAL_EVENTS = ("referral-created", "referral-updated", "related-referral-created", "related-referral-updated")
TEST_EVENT = "test-created"

ORGANIZATION = "Microsoft Corporation"

_EVENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REFERRAL_PATH = re.compile(r"(?:.*/)?referrals/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/?", re.IGNORECASE | re.ASCII | re.DOTALL)
_CERTIFICATE_FILE = re.compile(r"[A-Za-z0-9._-]{1,200}\.cer")
_ALGORITHM = re.compile(r"RSA-(SHA256|SHA384|SHA512)", re.IGNORECASE | re.ASCII)
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}

_RSA_BITS = range(2048, 8193)
_SIGNATURE_BYTES = range(2048 // 8, 8192 // 8 + 1)
# authorities between certificate and root; the longest chains Microsoft publishes have two, one of them a cross-signed root
_LONGEST_CHAIN = 3

# What cryptography raises for bytes that are, or at first look like, a certificate and make no sense as one. Not documented
# and different by version: TypeError and KeyError (for strange text types in a name) were found by flipping bits.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class NotAnEvent(ConnectorError):
    """The body is not a Partner Center event; sending it again cannot help. The message may be shown to the sender."""


class BadSignature(ConnectorError):
    """The event is not proved to be Microsoft's. The message is for the log only: a stranger must not learn what was checked."""


@dataclass(frozen=True)
class Event:
    """What a notification says. It carries no referral data; the record is always read again, by id.

    `referral_id` is None when the event asks for no work: the test event and events of other Partner Center features.
    For a related-referral event Microsoft does not say whether the id is the related record's or ours.
    """

    name: str
    resource_name: str
    referral_id: str | None
    changed_at: datetime | None


@dataclass(frozen=True)
class Signature:
    """What the request's headers claim. `hash_name` is sha256, sha384 or sha512; the URL is not checked yet."""

    value: bytes
    hash_name: str
    certificate_url: str


def parse(raw: bytes) -> Event:
    """The event in a request body; raises `NotAnEvent` with everything that is wrong with it."""
    values = _object(raw)
    faults: list[str] = []

    name = values.get("eventname")
    if not isinstance(name, str) or not _EVENT_NAME.fullmatch(name):
        faults.append(f"EventName must be the name of an event, such as referral-updated, and is {_shown(name)}")
    uri = values.get("resourceuri")
    if not isinstance(uri, str) or not uri:
        faults.append(f"ResourceUri must be the address of the resource and is {_shown(uri)}")

    referral_id = None
    if isinstance(name, str) and name.lower() in REFERRAL_EVENTS:
        name = name.lower()
        referral_id = _referral_id(uri) if isinstance(uri, str) and uri else None
        if referral_id is None and isinstance(uri, str) and uri:
            faults.append(f"ResourceUri of {name} must end in referrals/ and the referral's GUID and is {_shown(uri)}")
    if faults:
        raise NotAnEvent("not a Partner Center event: " + "; ".join(faults))

    resource_name = values.get("resourcename")
    return Event(
        name=str(name),
        resource_name=resource_name if isinstance(resource_name, str) and _EVENT_NAME.fullmatch(resource_name) else "",
        referral_id=referral_id,
        changed_at=_instant(values.get("resourcechangeutcdate")),
    )


def signature(headers: Mapping[str, str]) -> Signature:
    """What a request claims about its signature; header names in any case. Raises `BadSignature`.

    x-ms-signature comes first: a gateway may put its own Authorization in front of the app.
    """
    given: dict[str, str] = {}
    for header, content in headers.items():
        if given.setdefault(header.lower(), content) != content:
            raise BadSignature(f"header {header.lower()[:60]!r} was sent twice with different values")

    text = given.get("x-ms-signature", "").strip()
    if text and " " not in text:
        text = f"Signature {text}"
    scheme, _, token = (text or given.get("authorization", "").strip()).partition(" ")
    if scheme.lower() != "signature" or not token:
        raise BadSignature("no signature: neither x-ms-signature nor an Authorization header of scheme Signature")
    try:
        value = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature("the signature is not base64") from error
    if base64.b64encode(value).decode() != token:
        raise BadSignature("the signature is not base64 in its one canonical form")
    if len(value) not in _SIGNATURE_BYTES:
        raise BadSignature(f"the signature has {len(value)} bytes, which no RSA key in use gives")

    algorithm = _ALGORITHM.fullmatch(given.get("x-ms-signature-algorithm", "").strip())
    if not algorithm:
        raise BadSignature("x-ms-signature-algorithm must be RSA-SHA256, RSA-SHA384 or RSA-SHA512")
    url = given.get("x-ms-certificate-url", "").strip()
    if not url:
        raise BadSignature("no x-ms-certificate-url")
    return Signature(value, algorithm[1].lower(), url)


def check_certificate_url(url: str, prefix: str) -> None:
    """Raises `BadSignature` unless `url` is `prefix` (https, ending in /) followed by one plain file name that ends in .cer.

    Compared as text on purpose: user info, ports, queries, escapes, backslashes and dot segments then have no place to hide,
    whatever a URL parser would make of them.
    """
    if not prefix.startswith("https://") or not prefix.endswith("/"):
        raise BadSignature("the allowed certificate address must be https and end in /")
    if not url.startswith(prefix) or not _CERTIFICATE_FILE.fullmatch(url, len(prefix)):
        raise BadSignature(f"certificate address {_shown(url)} is not a .cer file directly under {prefix}")


def verify(raw: bytes, claimed: Signature, certificate: x509.Certificate) -> None:
    """Raises `BadSignature` unless the body was signed with the certificate's key (RSA, PKCS#1 v1.5).

    Microsoft signs the text, so a byte order mark in front of it does not belong to what was signed.
    """
    try:
        key = _rsa_key(certificate)
        key.verify(claimed.value, raw.removeprefix(codecs.BOM_UTF8), padding.PKCS1v15(), _HASHES[claimed.hash_name]())
    except (InvalidSignature, *UNREADABLE) as error:
        raise BadSignature("the signature does not fit the body and the certificate") from error


def check_certificate(
    certificate: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    names: Iterable[str],
    now: datetime,
) -> None:
    """Raises `BadSignature` unless this is, now, one of Partner Center's own signing certificates.

    Intermediates are not trusted: they only help to find the way to a root. Revocation is not looked up; Microsoft takes a
    withdrawn certificate from the address it is fetched from, which is read again every hour.
    """
    check_signer(certificate, names, now)
    check_chain(certificate, intermediates, roots, now)


def check_signer(certificate: x509.Certificate, names: Iterable[str], now: datetime) -> None:
    """The part of `check_certificate` that needs no issuer: dates, names, key and usages."""
    try:
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise BadSignature("the certificate has expired or is not valid yet")
        _check_names(certificate, names)
        _rsa_key(certificate)
        _check_usage(certificate)
    except UNREADABLE as error:
        raise BadSignature(f"the certificate cannot be read: {error}") from error


def check_chain(
    certificate: x509.Certificate, intermediates: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime
) -> None:
    """The other part: a chain of valid authorities from the certificate to one of the roots."""
    authorities = (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_authority_purpose)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_authority_usage)
    )
    try:
        verifier = (
            PolicyBuilder()
            .store(Store(list(roots)))
            .time(now)
            .max_chain_depth(_LONGEST_CHAIN)
            # check_signer has judged the leaf; unknown critical extensions in it are still refused here
            .extension_policies(ca_policy=authorities, ee_policy=ExtensionPolicy.permit_all())
            .build_client_verifier()
        )
        verifier.verify(certificate, list(intermediates))
    except (VerificationError, *UNREADABLE) as error:
        raise BadSignature(f"the certificate does not chain to a trusted root: {error}") from error


def _object(raw: bytes) -> dict[str, Any]:
    """The body's values by lower-case key."""
    if len(raw) > MAXIMUM_BODY:
        raise NotAnEvent(f"the body has {len(raw)} bytes; an event has at most {MAXIMUM_BODY}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotAnEvent(f"the body is not UTF-8: byte {error.start} cannot be read") from error
    if not text.strip():
        raise NotAnEvent("the body is empty; an event is a JSON object with EventName and ResourceUri")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise NotAnEvent(f"the body is not JSON: it cannot be read{where}") from error
    if not isinstance(value, dict):
        raise NotAnEvent(f"the body is a JSON {_kind(value)}; an event is an object with EventName and ResourceUri")
    return {key.lower(): content for key, content in value.items()}


def _referral_id(uri: str) -> str | None:
    """Only the id is taken: the documented host is not the one the API answers on, and no sender chooses what we call."""
    try:
        found = _REFERRAL_PATH.fullmatch(urlsplit(uri).path)
    except ValueError:
        return None
    return found[1].lower() if found else None


def _instant(value: Any) -> datetime | None:
    """Seven fraction digits are cut to six. Only for the log, so what cannot be read is simply not there."""
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _kind(value: Any) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def _shown(value: Any) -> str:
    """A stranger's value, made safe to print and short; a query may hold a key and is left out."""
    if value is None:
        return "missing"
    if not isinstance(value, str):
        return "an object" if isinstance(value, dict) else f"a JSON {_kind(value)}"
    return ascii(value.partition("?")[0][:120])


def _rsa_key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in _RSA_BITS:
        raise BadSignature("the certificate's key is not RSA of 2048 to 8192 bits")
    return key


def _check_names(certificate: x509.Certificate, names: Iterable[str]) -> None:
    # Microsoft's authorities also sign for other companies' hosts: issuer alone proves nothing.
    for role, name in (("subject", certificate.subject), ("issuer", certificate.issuer)):
        if [part.value for part in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] != [ORGANIZATION]:
            raise BadSignature(f"the certificate's {role} organization is not {ORGANIZATION}")
    common_names = [str(part.value).lower() for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(common_names) != 1 or common_names[0] not in {name.lower() for name in names}:
        raise BadSignature(f"the certificate's common name {_shown(', '.join(common_names))} is not in WEBHOOK_SIGNER_NAMES")


def _check_usage(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise BadSignature("the certificate is an authority's, not a signer's")
            case x509.KeyUsage(digital_signature=False):
                raise BadSignature("the certificate's key usage does not allow signatures")
            case x509.ExtendedKeyUsage() as purposes if not _speaks_for_a_host(purposes):
                raise BadSignature("the certificate is for another purpose than speaking for a host")


def _check_authority_purpose(_policy: Policy, _certificate: x509.Certificate, purposes: x509.ExtendedKeyUsage | None) -> None:
    # Public authorities drop client authentication from their TLS hierarchies; server authentication must do as well.
    if purposes is not None and not _speaks_for_a_host(purposes):
        raise ValueError("an authority in the chain is for another purpose")


def _check_authority_usage(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    # A company's own test authority may state no usage at all, which allows every one; what is stated must allow signing.
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority in the chain may not sign certificates")


def _speaks_for_a_host(purposes: x509.ExtendedKeyUsage) -> bool:
    accepted = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return not accepted.isdisjoint(purposes)
