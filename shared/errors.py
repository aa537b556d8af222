"""What can go wrong, named by what should happen next."""

from __future__ import annotations

import re

# What signs a request, wherever a vendor or a gateway quotes it: the header, a token by itself, a field of a sign-in.
_SIGNS = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[^\s\"',;<>]{20,}"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"
    r"|\b00D\w{12,15}![\w.]+"
    r"|(?i:\b(?:client_secret|refresh_token|access_token|assertion|client_assertion|sig|secret)(?:=|\"?\s*:\s*\"?))[^\s\"'&;,<>]{8,}"
)


def without_tokens(text: str) -> str:
    """The text with whatever signs a request taken out: messages are stored, logged and shown."""
    return _SIGNS.sub("[secret]", text)


def without_words(text: str) -> str:
    """A message up to what the vendor said, which may quote the record: what the log may have of it."""
    return re.sub(r"(HTTP \d{3}(?: [\w.-]+)?):.*", r"\1", text, flags=re.DOTALL)


class ConnectorError(Exception):
    """Base of everything the connector raises on purpose. The message finishes the diagnosis for a person, and holds no secret."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_tokens(message))


class TryLater(ConnectorError):
    """The vendor or the network is not able to answer now (429, 5xx, time-out, cut connection).

    A write that ends so may or may not have landed, unless `certain`: then it certainly did not (429: turned away at the gate).
    `retry_after` is the vendor's own wish in seconds, if it said one.
    """

    def __init__(self, message: str, retry_after: float | None = None, certain: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.certain = certain


class Refused(ConnectorError):
    """The vendor will not accept this record as it is. `words` are the vendor's own, for the seller."""

    def __init__(self, message: str, words: str = "", code: str = "") -> None:
        super().__init__(message)
        self.words = without_tokens(words or message)
        self.code = code


class Misconfigured(ConnectorError):
    """A person has to change a setting, a permission or the mapping; the message says which and how."""


class SignInFailed(Misconfigured):
    """A login was refused for good: expired or revoked consent, missing MFA, wrong secret."""


class Gone(ConnectorError):
    """The record does not exist, was deleted, or is not visible to us."""


class VersionConflict(ConnectorError):
    """The record changed since it was read (412, 409): nothing was written. Read again and plan again."""


class AlreadyExists(ConnectorError):
    """A create was refused because a record with the unique key is there."""

    def __init__(self, message: str, record_id: str | None = None) -> None:
        super().__init__(message)
        self.record_id = record_id


class ShadowMode(ConnectorError):
    """A write was about to leave for a vendor although SYNC_MODE is shadow; nothing was sent."""
