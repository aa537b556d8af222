"""The certificate events are signed with: a root of our own, a leaf that names Microsoft (partner-center.md 6.7)."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulator.core import Request, Response

SIGNER = "pcnotifications-dispatch.microsoft.com"


@functools.cache
def _key(purpose: str, number: int) -> rsa.RSAPrivateKey:
    """One key per purpose and process: making them is slow, and a test makes many simulators."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Microsoft Corporation"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


@functools.cache
def _certificate(common_name: str, issuer: str, number: int, authority: bool) -> x509.Certificate:
    key, signer, now = _key(common_name, number), _key(issuer, 0), datetime.now(UTC)
    usage = dict.fromkeys(("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=730))
        .not_valid_after(now + timedelta(days=1825))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_encipherment=not authority, key_cert_sign=authority, crl_sign=authority, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not authority:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        names = x509.SubjectAlternativeName([x509.DNSName(common_name)])
        builder = builder.add_extension(usages, critical=False).add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


class Certificates:
    """The signer and the place its certificate is downloaded from. `url` is where clients reach that place."""

    ROOT, INTERMEDIATE = "Simulated Root CA", "Simulated TLS Issuing CA"

    def __init__(self, url: str = "https://certificates.sim.test/cert/", intermediate: bool = False) -> None:
        self.url = f"{url}{SIGNER}.cer"
        self._issuer = self.INTERMEDIATE if intermediate else self.ROOT
        self._number = 1

    @property
    def leaf(self) -> x509.Certificate:
        return _certificate(SIGNER, self._issuer, self._number, False)

    def rotate(self) -> None:
        """A new key and certificate at the old address."""
        self._number += 1

    def roots_pem(self) -> str:
        """What a client trusts: the root, and the issuer between if there is one (a client fetches no intermediates)."""
        chain = [_certificate(self.ROOT, self.ROOT, 0, True)]
        if self._issuer == self.INTERMEDIATE:
            chain.append(_certificate(self.INTERMEDIATE, self.ROOT, 0, True))
        return "".join(certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate in chain)

    def sign(self, body: bytes) -> bytes:
        return _key(SIGNER, self._number).sign(body, padding.PKCS1v15(), hashes.SHA256())

    def handle(self, request: Request) -> Response:
        if request.method != "GET" or request.path != f"/cert/{SIGNER}.cer":
            return Response(404)
        body = self.leaf.public_bytes(serialization.Encoding.DER)
        return Response(200, body, {"Content-Type": "application/pkix-cert"})
