"""The roots a signing certificate must chain to: those Microsoft uses, or those of `WEBHOOK_TRUSTED_ROOTS`."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.x509.oid import NameOID

from shared.errors import Misconfigured

# The roots of "Azure Certificate Authority details" (learn.microsoft.com/azure/security/fundamentals/azure-ca-details),
# as far as the public bundle of certifi still holds them.
ROOT_NAMES = (
    "DigiCert Global Root CA",
    "DigiCert Global Root G2",
    "DigiCert Global Root G3",
    "DigiCert TLS ECC P384 Root G5",
    "DigiCert TLS RSA4096 Root G5",
    "Microsoft ECC Root Certificate Authority 2017",
    "Microsoft RSA Root Certificate Authority 2017",
)


def trusted(path: str) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """The roots, and the intermediates that were put into the same file. Raises `Misconfigured` if there is no root."""
    if not path:
        return _public_roots(), []
    try:
        given = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise Misconfigured(f"WEBHOOK_TRUSTED_ROOTS must name a readable PEM file of certificates: {error}") from error
    roots = [certificate for certificate in given if certificate.subject == certificate.issuer]
    if not roots:
        raise Misconfigured("WEBHOOK_TRUSTED_ROOTS holds no root: at least one certificate must be signed by itself")
    return roots, [certificate for certificate in given if certificate not in roots]


def _public_roots() -> list[x509.Certificate]:
    """The roots Microsoft chains to, out of certifi's bundle, so that renewing the package renews them."""
    roots: list[x509.Certificate] = []
    for block in re.findall(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", certifi.contents(), re.DOTALL):
        try:
            der = base64.b64decode(block)
        except binascii.Error:
            continue
        # a name stands in the DER as it is read: only a handful of the bundle's certificates need parsing
        if any(name.encode() in der for name in ROOT_NAMES):
            root = x509.load_der_x509_certificate(der)
            if any(part.value in ROOT_NAMES for part in root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)):
                roots.append(root)
    if not roots:
        raise Misconfigured("certifi's bundle holds none of the roots Microsoft chains to: set WEBHOOK_TRUSTED_ROOTS to a PEM file of them")
    return roots
