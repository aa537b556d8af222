"""Nothing in the package belongs to one org: no ids, people, hosts, keys or secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.salesforce_package.tree import Finding, Package

HOSTS = re.compile(
    r"(?:.*\.)?(?:example|example\.(?:com|org|net)|invalid)"
    r"|soap\.sforce\.com|www\.w3\.org|(?:login|test)\.salesforce\.com|(?:partner|learn|www)\.microsoft\.com|localhost"
)
_ID = re.compile(r"\b(?:0|a)[0-9A-Za-z]{14}(?:[0-9A-Z]{3})?\b")
_URL = re.compile(r"https?://([^/\s\"'<>:&]+)")
_BARE_HOST = re.compile(r"\b[\w.-]+\.(?:my\.salesforce\.com|lightning\.force\.com|azurewebsites\.net|onmicrosoft\.com)\b")
_MAIL = re.compile(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)")
_KEY = re.compile(r"-----BEGIN [A-Z ]+-----|\b3MVG9[\w.]{10,}|\b00D[0-9A-Za-z]{12,15}![\w.]+|\bMII[A-Za-z0-9+/]{40,}")
# Elements that hold something of one org's own, and must be absent or empty in what is shipped.
_PRIVATE = re.compile(
    r"<(consumerKey|consumerSecret|password|authToken|clientCredentialsFlowUser|runningUser|certificate)>\s*([^<\s][^<]*)<"
)


def findings(package: Package) -> Iterator[Finding]:
    for path in package.files:
        shown = path.relative_to(package.root).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            yield Finding(shown, "not UTF-8 text")
            continue
        yield from (Finding(shown, fault) for fault in dict.fromkeys(_faults(text)))


def _faults(text: str) -> Iterator[str]:
    yield from ("it holds a key or a session" for _ in _KEY.finditer(text))
    yield from (f"it holds {found}, which looks like the id of a record" for found in _ID.findall(text) if re.search(r"\d", found[3:]))
    for host in (*_URL.findall(text), *_BARE_HOST.findall(text)):
        if not HOSTS.fullmatch(host.lower()):
            yield f"it names the host {host}"
    yield from (f"it holds an address at {host}" for host in _MAIL.findall(text) if not HOSTS.fullmatch(host.lower()))
    for name, value in _PRIVATE.findall(text):
        if not HOSTS.fullmatch(value.rpartition("@")[2].lower()):
            yield f"{name} belongs to one org and must be left out"
