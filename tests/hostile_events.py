"""A small certificate authority, honest events signed under it, and a catalogue of dishonest ones.

Each entry of `HOSTILE` makes one delivery that must be refused. Nothing here knows how the connector checks.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOST = "3psostorageacct.blob.core.windows.net"
PREFIX = f"https://{HOST}/cert/"
SIGNER = "pcnotifications-dispatch.microsoft.com"
URL = f"{PREFIX}{SIGNER}.cer"
ISSUER_URL = "http://www.microsoft.com/pkiops/certs/Test%20TLS%20Issuing%20CA%2003%20-%20xsign.crt"
MICROSOFT = "Microsoft Corporation"

SHA1, MD5 = hashes.SHA1(), hashes.MD5()  # noqa: S303 - the point is that they are refused

# The sample delivery of learn.microsoft.com/partner-center/developer/partner-center-webhooks: 195 bytes, as its Content-Length says.
TEST_CREATED = (
    b'{"EventName":"test-created","ResourceUri":"http://localhost:16722/v1/webhooks/registration/test",'
    b'"ResourceName":"test","AuditUri":null,"ResourceChangeUtcDate":"2017-11-16T16:19:06.3520276+00:00"}'
)
BODY = (
    b'{"EventName":"referral-updated","ResourceUri":"https://api.partnercenter.microsoft.com/engagements/v1/referrals/'
    b'0f6a1c3e-7b52-4d0e-9a55-1c2d3e4f5a6b","ResourceName":"referral","AuditUri":null,'
    b'"ResourceChangeUtcDate":"2026-03-02T08:59:58.5485487+00:00"}'
)

Extension = tuple[x509.ExtensionType, bool]


@functools.cache
def key(owner: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def name(*common_names: str, organizations: tuple[str, ...] = (MICROSOFT,)) -> x509.Name:
    parts = [(NameOID.COUNTRY_NAME, "US"), *((NameOID.ORGANIZATION_NAME, text) for text in organizations)]
    parts += [(NameOID.COMMON_NAME, text) for text in common_names]
    return x509.Name([x509.NameAttribute(*part) for part in parts])


def usage(*allowed: str) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    every += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{one: one in allowed for one in every})


def certificate(
    subject: x509.Name,
    public_key: Any,
    issuer: x509.Name,
    issuer_key: Any,
    *extensions: Extension,
    starts: timedelta = timedelta(days=-30),
    ends: timedelta = timedelta(days=300),
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + starts)
        .not_valid_after(NOW + ends)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def authority(ca: bool = True, path_length: int | None = None, may: tuple[str, ...] = ("key_cert_sign", "crl_sign")) -> list[Extension]:
    return [(x509.BasicConstraints(ca, path_length), True), (usage(*may), True)]


ROOT, ISSUER, SECOND = name("Test Root"), name("Test TLS Issuing CA 03"), name("Test TLS Issuing CA 04")
SIGNS = (usage("digital_signature", "key_encipherment"), True)


def purpose(*purposes: x509.ObjectIdentifier) -> Extension:
    return x509.ExtendedKeyUsage(purposes), False


def points_to(*addresses: str) -> Extension:
    way = AuthorityInformationAccessOID.CA_ISSUERS
    return x509.AuthorityInformationAccess([x509.AccessDescription(way, x509.UniformResourceIdentifier(one)) for one in addresses]), False


HOST_PURPOSE = purpose(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
NOT_CA: Extension = (x509.BasicConstraints(False, None), True)


@functools.cache
def root() -> x509.Certificate:
    return certificate(ROOT, key("root").public_key(), ROOT, key("root"), *authority(), ends=timedelta(days=3000))


def issuer(*extensions: Extension, subject: x509.Name = ISSUER, owner: str = "issuer", **changes: Any) -> x509.Certificate:
    return certificate(subject, key(owner).public_key(), ROOT, key("root"), *(extensions or authority(path_length=0)), **changes)


@functools.cache
def honest_issuer() -> x509.Certificate:
    return issuer()


def leaf(*extensions: Extension, subject: x509.Name | None = None, public_key: Any = None, **changes: Any) -> x509.Certificate:
    """The signer's certificate, honest unless something is changed."""
    issued_by, issuer_key = changes.pop("issued_by", (ISSUER, key("issuer")))
    return certificate(
        subject or name(SIGNER),
        public_key or key("signer").public_key(),
        issued_by,
        issuer_key,
        *(extensions or (NOT_CA, SIGNS, HOST_PURPOSE)),
        **changes,
    )


@functools.cache
def honest_leaf() -> x509.Certificate:
    return leaf()


def der(one: x509.Certificate) -> bytes:
    return one.public_bytes(serialization.Encoding.DER)


def pem(*several: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in several)


def sign(body: bytes, owner: str = "signer", hash: hashes.HashAlgorithm | None = None) -> bytes:
    return key(owner).sign(body, padding.PKCS1v15(), hash or hashes.SHA256())


def text(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


@dataclass(frozen=True)
class Delivery:
    """A request to the webhook endpoint, what the network would answer, and what the operator trusts."""

    headers: dict[str, str]
    body: bytes = BODY
    network: dict[str, Any] = field(default_factory=dict)
    """URL to file, or to a function that makes the response."""
    trusted: bytes = b""

    def without(self, *headers: str) -> Delivery:
        return replace(self, headers={header: value for header, value in self.headers.items() if header not in headers})

    def having(self, **headers: str) -> Delivery:
        return replace(self, headers={**self.headers, **{header.replace("_", "-"): value for header, value in headers.items()}})


def honest(body: bytes = BODY) -> Delivery:
    """As the Functions host hands it over: header names in lower case."""
    headers = {
        "content-type": "application/json",
        "x-ms-signature": f"Signature {text(sign(body))}",
        "x-ms-certificate-url": URL,
        "x-ms-signature-algorithm": "rsa-sha256",
    }
    return Delivery(headers, body, {URL: der(honest_leaf())}, pem(root(), honest_issuer()))


def served(file: Any, *trusted: x509.Certificate) -> Delivery:
    """Signed by the honest key, but this is what stands at the certificate's address."""
    content = der(file) if isinstance(file, x509.Certificate) else file
    return replace(honest(), network={URL: content}, trusted=pem(root(), *(trusted or (honest_issuer(),))))


def signed(signature: bytes | str) -> Delivery:
    return honest().having(x_ms_signature=f"Signature {signature if isinstance(signature, str) else text(signature)}")


def at(url: str) -> Delivery:
    """An honest event that names another certificate address."""
    return honest().having(x_ms_certificate_url=url)


def redirect(to: str) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(302, headers={"location": to}, stream=httpx.ByteStream(b""))


def fetching_its_issuer(address: str, **network: Any) -> Delivery:
    """The issuer is not in the bundle; the certificate says where to find it."""
    signer = leaf(NOT_CA, SIGNS, HOST_PURPOSE, points_to(address))
    return replace(honest(), network={URL: der(signer), **network.get("network", {})}, trusted=pem(root()))


def sha1_signed(one: x509.Certificate, issuer: str) -> x509.Certificate:
    """The same certificate under a signature that libraries no longer make."""
    sha256_with_rsa, sha1_with_rsa = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    signed_part = one.tbs_certificate_bytes.replace(sha256_with_rsa, sha1_with_rsa)
    file = der(one).replace(sha256_with_rsa, sha1_with_rsa)
    return x509.load_der_x509_certificate(file.removesuffix(one.signature) + sign(signed_part, issuer, SHA1))


def _twice_the_same_extension() -> bytes:
    strange = [(x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.2.3.{last}"), b"\x05\x00"), False) for last in (4, 5)]
    file = der(leaf(NOT_CA, SIGNS, HOST_PURPOSE, *strange))
    return file.replace(b"\x2a\x03\x05", b"\x2a\x03\x04")


def _name_of_bits() -> bytes:
    common_name = bytes([len(SIGNER)]) + SIGNER.encode()
    return der(honest_leaf()).replace(b"\x0c" + common_name, b"\x03" + common_name)


def _issued_by_a_leaf() -> Delivery:
    middle = issuer(NOT_CA, SIGNS, subject=SECOND, owner="second")
    return served(leaf(issued_by=(SECOND, key("second"))), middle)


def _too_deep_for_the_issuer() -> Delivery:
    below = certificate(SECOND, key("second").public_key(), ISSUER, key("issuer"), *authority())
    return served(leaf(issued_by=(SECOND, key("second"))), honest_issuer(), below)


def _long_chain() -> Delivery:
    names, chain = [ROOT, *(name(f"Test CA {level}") for level in range(6))], []
    keys = [key("root"), *(key(f"level {level % 2}") for level in range(6))]
    for upper, lower in zip(range(6), range(1, 7), strict=True):
        chain.append(certificate(names[lower], keys[lower].public_key(), names[upper], keys[upper], *authority()))
    return served(leaf(issued_by=(names[6], keys[6])), *chain)


def _not_for_this_host() -> Delivery:
    elsewhere = x509.NameConstraints([x509.DNSName("fabrikam.example")], None)
    signer = leaf(NOT_CA, SIGNS, HOST_PURPOSE, (x509.SubjectAlternativeName([x509.DNSName(SIGNER)]), False))
    return served(signer, issuer(*authority(), (elsewhere, True)))


def _mallory() -> Delivery:
    """Everything right, under a root of the attacker's own."""
    forged_root = certificate(ROOT, key("mallory").public_key(), ROOT, key("mallory"), *authority())
    forged = certificate(ISSUER, key("mallory 2").public_key(), ROOT, key("mallory"), *authority())
    signer = leaf(public_key=key("mallory 3").public_key(), issued_by=(ISSUER, key("mallory 2")))
    delivery = served(pem(signer, forged, forged_root))
    return delivery.having(x_ms_signature=text(sign(BODY, "mallory 3")))


def _elliptic() -> Delivery:
    own = ec.generate_private_key(ec.SECP256R1())
    delivery = served(leaf(public_key=own.public_key()))
    return delivery.having(x_ms_signature=text(own.sign(BODY, ec.ECDSA(hashes.SHA256())).ljust(256, b"\0")))


def _weak() -> Delivery:
    return served(leaf(public_key=key("weak", 1024).public_key())).having(x_ms_signature=text(b"\1" * 256))


BAD_HEADERS: dict[str, Callable[[], Delivery]] = {
    "no signature at all": lambda: honest().without("x-ms-signature"),
    "an empty signature header": lambda: honest().having(x_ms_signature=""),
    "the scheme without a signature": lambda: honest().having(x_ms_signature="Signature "),
    "a bearer token": lambda: honest().without("x-ms-signature").having(authorization="Bearer " + text(sign(BODY))),
    "a bare signature in Authorization": lambda: honest().without("x-ms-signature").having(authorization=text(sign(BODY))),
    "another scheme in x-ms-signature, a good one in Authorization": lambda: honest().having(
        x_ms_signature="Bearer " + text(sign(BODY)), authorization="Signature " + text(sign(BODY))
    ),
    "a signature that is not base64": lambda: signed("!" * 344),
    "a URL-safe signature": lambda: signed(base64.urlsafe_b64encode(b"\xff" * 256).decode()),
    "a signature without its padding": lambda: signed(text(sign(BODY)).rstrip("=")),
    "a signature with stray bits before its padding": lambda: signed(text(b"\0" * 256)[:-3] + "B=="),
    "a signature with a line break": lambda: signed(text(sign(BODY))[:76] + "\n" + text(sign(BODY))[76:]),
    "a signature followed by another": lambda: signed(text(sign(BODY)) + " " + text(sign(BODY))),
    "two signatures joined by a comma": lambda: signed(text(sign(BODY)) + ", Signature " + text(sign(BODY))),
    "a one-byte signature": lambda: signed(b"\0"),
    "a huge signature": lambda: signed(b"\0" * 100_000),
    "a signature in other letters": lambda: signed("Ⅷ" * 344),
    "a signature with a NUL": lambda: signed(text(sign(BODY))[:-1] + "\0"),
    "a signature of white space": lambda: signed(" \t "),
    "an algorithm with a NUL": lambda: honest().having(x_ms_signature_algorithm="rsa-sha256\0"),
    "a header given twice": lambda: replace(honest(), headers={**honest().headers, "X-MS-Signature": text(sign(b"{}"))}),
    "no algorithm": lambda: honest().without("x-ms-signature-algorithm"),
    "SHA-1": lambda: signed(sign(BODY, hash=SHA1)).having(x_ms_signature_algorithm="rsa-sha1"),
    "MD5": lambda: signed(sign(BODY, hash=MD5)).having(x_ms_signature_algorithm="rsa-md5"),
    "an algorithm called none": lambda: honest().having(x_ms_signature_algorithm="none"),
    "RSA with no hash": lambda: honest().having(x_ms_signature_algorithm="rsa-"),
    "a hash with no key type": lambda: honest().having(x_ms_signature_algorithm="sha256"),
    "an algorithm of three parts": lambda: honest().having(x_ms_signature_algorithm="rsa-sha256-sha1"),
    "a list of algorithms": lambda: honest().having(x_ms_signature_algorithm="rsa-sha256, rsa-sha1"),
    "HMAC": lambda: honest().having(x_ms_signature_algorithm="hmac-sha256"),
    "an algorithm in look-alike letters": lambda: honest().having(x_ms_signature_algorithm="rſa-ſha256"),
    "no certificate address": lambda: honest().without("x-ms-certificate-url"),
    "an oversized body": lambda: honest(b"{" + b" " * 262_144 + b"}"),
}

_ADDRESSES = {
    "plain http": f"http://{HOST}/cert/{SIGNER}.cer",
    "another host": f"https://evil.example/cert/{SIGNER}.cer",
    "another storage account": f"https://evil.blob.core.windows.net/cert/{SIGNER}.cer",
    "the host as a prefix": f"https://{HOST}.evil.example/cert/{SIGNER}.cer",
    "the host as a suffix": f"https://evil-{HOST}/cert/{SIGNER}.cer",
    "the host as user name": f"https://{HOST}@evil.example/cert/{SIGNER}.cer",
    "the host and path as user name": f"https://{HOST}/cert/@evil.example/{SIGNER}.cer",
    "a user name": f"https://user@{HOST}/cert/{SIGNER}.cer",
    "a user name and password": f"https://user:word@{HOST}/cert/{SIGNER}.cer",
    "the default port": f"https://{HOST}:443/cert/{SIGNER}.cer",
    "another port": f"https://{HOST}:8443/cert/{SIGNER}.cer",
    "an empty port": f"https://{HOST}:/cert/{SIGNER}.cer",
    "a trailing dot": f"https://{HOST}./cert/{SIGNER}.cer",
    "a query": f"{URL}?comp=list",
    "an empty query": f"{URL}?",
    "a query that hides the rest": f"{PREFIX}?x={SIGNER}.cer",
    "a fragment": f"{URL}#x.cer",
    "a percent escape": f"{PREFIX}%2e%2e%2fevil.cer",
    "an escaped letter": f"{PREFIX}%70cnotifications.microsoft.com.cer",
    "a backslash": f"{PREFIX}..\\evil.cer",
    "a backslash for a slash": f"https://{HOST}\\cert\\{SIGNER}.cer",
    "dot segments": f"{PREFIX}../evil/{SIGNER}.cer",
    "one dot segment": f"{PREFIX}./{SIGNER}.cer",
    "a doubled slash": f"{PREFIX}/{SIGNER}.cer",
    "a folder below": f"{PREFIX}evil/{SIGNER}.cer",
    "a container that begins the same": f"https://{HOST}/cert-evil/{SIGNER}.cer",
    "no file": PREFIX,
    "a file that is only an ending": f"{PREFIX}.cer",
    "another ending": f"{PREFIX}{SIGNER}.crt",
    "a second ending": f"{URL}.txt",
    "the ending in capitals": f"{PREFIX}{SIGNER}.CER",
    "a line break in the file name": f"{PREFIX}x\n.cer",
    "a line break in the host": f"https://3psostorageacct\n.blob.core.windows.net/cert/{SIGNER}.cer",
    "a tab": f"{PREFIX}\t{SIGNER}.cer",
    "a blank": f"{PREFIX}a b.cer",
    "a NUL": f"{PREFIX}{SIGNER}\0.cer",
    "a certificate address with a header behind it": f"{URL}\r\nHost: evil.example",
    "a very long name": f"{PREFIX}{'a' * 5000}.cer",
    "a look-alike letter": f"https://3psоstorageacct.blob.core.windows.net/cert/{SIGNER}.cer",
    "a full-width dot": f"https://3psostorageacct．blob.core.windows.net/cert/{SIGNER}.cer",
    "the metadata service": "http://169.254.169.254/metadata/instance.cer",
    "this machine": "https://127.0.0.1/cert/x.cer",
    "this machine, version 6": "https://[::1]/cert/x.cer",
    "a file address": "file:///etc/ssl/x.cer",
    "no scheme": f"//{HOST}/cert/{SIGNER}.cer",
    "a path": f"/cert/{SIGNER}.cer",
    "two addresses": f"{URL}, https://evil.example/x.cer",
    "a broken address": "https://[",
}
BAD_ADDRESSES: dict[str, Callable[[], Delivery]] = {title: functools.partial(at, url) for title, url in _ADDRESSES.items()}

BAD_SIGNATURES: dict[str, Callable[[], Delivery]] = {
    "a bad x-ms-signature, a good Authorization": lambda: honest().having(
        x_ms_signature=text(sign(b"{}")), authorization="Signature " + text(sign(BODY))
    ),
    "the signature of another body": lambda: signed(sign(BODY + b" ")),
    "the signature of no body": lambda: signed(sign(b"")),
    "a body changed on the way": lambda: replace(honest(), body=BODY.replace(b"0f6a1c3e", b"0f6a1c3f")),
    "a body with other white space": lambda: replace(honest(), body=BODY + b"\n"),
    "no body": lambda: replace(honest(), body=b""),
    "two byte order marks": lambda: replace(honest(), body=b"\xef\xbb\xbf" * 2 + BODY),
    "somebody else's key": lambda: signed(sign(BODY, "mallory")),
    "PSS padding": lambda: signed(
        key("signer").sign(BODY, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH), hashes.SHA256())
    ),
    "another hash than it says": lambda: signed(sign(BODY, hash=hashes.SHA512())),
    "a SHA-1 signature under a better name": lambda: signed(sign(BODY, hash=SHA1)),
    "zeros": lambda: signed(b"\0" * 256),
    "the number one": lambda: signed(b"\1".rjust(256, b"\0")),
    "a signature as long as another key's": lambda: signed(sign(BODY) + b"\0" * 256),
}

BAD_CERTIFICATES: dict[str, Callable[[], Delivery]] = {
    "expired": lambda: served(leaf(ends=timedelta(seconds=-1))),
    "not valid yet": lambda: served(leaf(starts=timedelta(seconds=1))),
    "self-signed": lambda: served(leaf(issued_by=(name(SIGNER), key("signer")))),
    "under a forged root with the right names": _mallory,
    "issuer unknown": lambda: served(leaf(), root()),
    "signed by another key than the issuer's": lambda: served(leaf(issued_by=(ISSUER, key("mallory")))),
    "issuer expired": lambda: served(leaf(), issuer(*authority(), ends=timedelta(seconds=-1))),
    "issuer not valid yet": lambda: served(leaf(), issuer(*authority(), starts=timedelta(seconds=1))),
    "issuer is no authority": lambda: served(leaf(), issuer(*authority(ca=False))),
    "issuer does not say it is an authority": lambda: served(leaf(), issuer((usage("key_cert_sign"), True))),
    "issuer may not sign certificates": lambda: served(leaf(), issuer(*authority(may=("digital_signature",)))),
    "issuer of a weak key": lambda: served(
        leaf(issued_by=(ISSUER, key("weak issuer", 1024))),
        certificate(ISSUER, key("weak issuer", 1024).public_key(), ROOT, key("root"), *authority(path_length=0)),
    ),
    "issuer for code signing": lambda: served(leaf(), issuer(*authority(), purpose(ExtendedKeyUsageOID.CODE_SIGNING))),
    "issuer signed with SHA-1": lambda: served(leaf(), sha1_signed(honest_issuer(), "root")),
    "issuer for other hosts only": _not_for_this_host,
    "issuer is another signer": _issued_by_a_leaf,
    "deeper than the issuer may go": _too_deep_for_the_issuer,
    "a chain without end": _long_chain,
    "root expired": lambda: replace(
        honest(),
        trusted=pem(
            certificate(ROOT, key("root").public_key(), ROOT, key("root"), *authority(), ends=timedelta(seconds=-1)), honest_issuer()
        ),
    ),
    "of another company": lambda: served(leaf(subject=name(SIGNER, organizations=("Fabrikam Inc",)))),
    "of no company": lambda: served(leaf(subject=name(SIGNER, organizations=()))),
    "of two companies": lambda: served(leaf(subject=name(SIGNER, organizations=("Fabrikam Inc", MICROSOFT)))),
    "of almost Microsoft": lambda: served(leaf(subject=name(SIGNER, organizations=("Microsoft Corporation Ltd",)))),
    "issuer of another company": lambda: served(
        leaf(issued_by=(name("Fabrikam CA", organizations=("Fabrikam Inc",)), key("second"))),
        issuer(*authority(), subject=name("Fabrikam CA", organizations=("Fabrikam Inc",)), owner="second"),
    ),
    "Microsoft's, for a customer's host": lambda: served(leaf(subject=name("contoso.azurewebsites.example"))),
    "the right name with a prefix": lambda: served(leaf(subject=name(f"evil.{SIGNER}"))),
    "the right name before a NUL": lambda: served(leaf(subject=name(f"{SIGNER}\0.evil.example"))),
    "two common names": lambda: served(leaf(subject=name("evil.example", SIGNER))),
    "no common name": lambda: served(
        leaf(NOT_CA, SIGNS, HOST_PURPOSE, (x509.SubjectAlternativeName([x509.DNSName(SIGNER)]), False), subject=name())
    ),
    "a wildcard": lambda: served(leaf(subject=name("*.microsoft.com"))),
    "an authority's": lambda: served(leaf(*authority(may=("key_cert_sign", "digital_signature")))),
    "not for signatures": lambda: served(leaf(NOT_CA, (usage("key_encipherment"), True), HOST_PURPOSE)),
    "for code signing": lambda: served(leaf(NOT_CA, SIGNS, purpose(ExtendedKeyUsageOID.CODE_SIGNING))),
    "for time stamps": lambda: served(leaf(NOT_CA, SIGNS, purpose(ExtendedKeyUsageOID.TIME_STAMPING))),
    "for OCSP answers": lambda: served(leaf(NOT_CA, SIGNS, purpose(ExtendedKeyUsageOID.OCSP_SIGNING))),
    "with a critical extension nobody knows": lambda: served(
        leaf(NOT_CA, SIGNS, HOST_PURPOSE, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True))
    ),
    "with one extension twice": lambda: served(_twice_the_same_extension()),
    "with a key usage that cannot be read": lambda: served(
        leaf(NOT_CA, HOST_PURPOSE, (x509.UnrecognizedExtension(x509.OID_KEY_USAGE, b"garbage"), False))
    ),
    "signed with SHA-1": lambda: served(sha1_signed(leaf(), "issuer")),
    "of a weak key": _weak,
    "of an elliptic key": _elliptic,
    "the root itself": lambda: served(root()),
    "the issuer itself": lambda: served(honest_issuer()),
}

BAD_FILES: dict[str, Callable[[], Delivery]] = {
    "an error page": lambda: served(b"<html><body>The specified blob does not exist.</body></html>"),
    "nothing": lambda: served(b""),
    "a cut certificate": lambda: served(der(honest_leaf())[:-1]),
    "a certificate and more": lambda: served(der(honest_leaf()) + b"\0"),
    "a PEM frame around garbage": lambda: served(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "a certificate whose name is not text": lambda: served(_name_of_bits()),
    "a public key": lambda: served(
        key("signer").public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    ),
    "too large": lambda: served(pem(honest_leaf()) + b"\n" * 70_000),
    "compressed": lambda: served(
        lambda: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(der(honest_leaf())))
    ),
    "not there": lambda: replace(honest(), network={}),
    "moved elsewhere": lambda: served(redirect("https://evil.example/x.cer")),
    "moved to the metadata service": lambda: served(redirect("http://169.254.169.254/metadata/identity")),
    "moved to plain http": lambda: served(redirect(URL.replace("https", "http"))),
}

BAD_ISSUER_ADDRESSES: dict[str, Callable[[], Delivery]] = {
    title: functools.partial(fetching_its_issuer, url)
    for title, url in {
        "on a stranger's host": "http://evil.example/pki/ca.crt",
        "on the metadata service": "http://169.254.169.254/metadata/ca.crt",
        "as user name": "http://www.microsoft.com@evil.example/pki/ca.crt",
        "as a prefix": "http://www.microsoft.com.evil.example/pki/ca.crt",
        "on another port": "http://www.microsoft.com:8080/pki/ca.crt",
        "outside the published folder": "http://www.microsoft.com/en-us/ca.crt",
        "by dot segments": "http://www.microsoft.com/pki/../ca.crt",
        "by escaped dot segments": "http://www.microsoft.com/pki/%2e%2e/ca.crt",
        "by a query": "http://www.microsoft.com/pki/ca?x=.crt",
        "in a directory service": "ldap://www.microsoft.com/pki/ca.crt",
        "in a file": "file:///pki/ca.crt",
    }.items()
} | {
    "where nothing is": lambda: fetching_its_issuer(ISSUER_URL),
    "where another authority is": lambda: fetching_its_issuer(
        ISSUER_URL, network={ISSUER_URL: der(issuer(subject=SECOND, owner="second"))}
    ),
    "where a forged one is": lambda: fetching_its_issuer(
        ISSUER_URL, network={ISSUER_URL: der(certificate(ISSUER, key("mallory").public_key(), ROOT, key("mallory"), *authority()))}
    ),
    "where a redirect is": lambda: fetching_its_issuer(ISSUER_URL, network={ISSUER_URL: redirect("http://evil.example/ca.crt")}),
    "where an expired one is": lambda: fetching_its_issuer(
        ISSUER_URL, network={ISSUER_URL: der(issuer(*authority(path_length=0), ends=timedelta(seconds=-1)))}
    ),
    "where one is that is no authority": lambda: fetching_its_issuer(ISSUER_URL, network={ISSUER_URL: der(issuer(*authority(ca=False)))}),
    "where something too large is": lambda: fetching_its_issuer(ISSUER_URL, network={ISSUER_URL: der(honest_issuer()) + b"\0" * 70_000}),
    "where the next issuer is said to be, without end": lambda: fetching_its_issuer(
        ISSUER_URL, network={ISSUER_URL: der(certificate(ISSUER, key("issuer").public_key(), SECOND, key("second"), points_to(ISSUER_URL)))}
    ),
    "where a page is": lambda: fetching_its_issuer(ISSUER_URL, network={ISSUER_URL: b"<html>"}),
}


def catalogue(*parts: tuple[str, dict[str, Callable[[], Delivery]]]) -> dict[str, Callable[[], Delivery]]:
    return {f"{part}: {title}": make for part, cases in parts for title, make in cases.items()}


REFUSED_UNSEEN = catalogue(("header", BAD_HEADERS), ("address", BAD_ADDRESSES))
"""Refused before anything is fetched."""
REFUSED_AFTER_A_LOOK = catalogue(
    ("signature", BAD_SIGNATURES), ("certificate", BAD_CERTIFICATES), ("file", BAD_FILES), ("issuer", BAD_ISSUER_ADDRESSES)
)
HOSTILE = REFUSED_UNSEEN | REFUSED_AFTER_A_LOOK
