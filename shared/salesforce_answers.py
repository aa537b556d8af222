"""What Salesforce's answers mean: error codes, pages of records, and the results of a composite graph. Pure functions.

Codes and statuses decide, never the message: Salesforce translates messages into the user's language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import AlreadyExists, ConnectorError, Gone, Misconfigured, Refused, SignInFailed, TryLater, VersionConflict

# Codes of rows that failed only because another row of the same request did.
CONSEQUENCES = frozenset({"PROCESSING_HALTED", "ALL_OR_NONE_OPERATION_ROLLED_BACK"})

TRANSIENT = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "SERVER_UNAVAILABLE",
        "UNKNOWN_EXCEPTION",
        "QUERY_TIMEOUT",
        "REQUEST_RUNNING_TOO_LONG",
        "TXN_SECURITY_METERING_ERROR",
        "LIMIT_EXCEEDED",
        # A query's cursor is gone: the next run starts the query anew.
        "INVALID_QUERY_LOCATOR",
    }
)

# code -> what a person does about it
CONFIGURATION = {
    "API_DISABLED_FOR_ORG": "this edition or user has no API access: give the integration user the API Enabled permission",
    "API_CURRENTLY_DISABLED": "API access is switched off for the org or the user",
    "INVALID_FIELD": "the mapping names a field the integration user cannot see: correct the name or grant field access",
    "INVALID_FIELD_FOR_INSERT_UPDATE": "the mapping writes a field the integration user may only read: grant edit access",
    "INVALID_TYPE": "the object is missing or hidden from the integration user: install the package or grant object access",
    "MALFORMED_QUERY": "the query is not valid SOQL: check the names in the mapping",
    "STORAGE_LIMIT_EXCEEDED": "the org is out of storage",
}

# A trigger or flow reports under its own code what stopped it: the lock it could not have, or a limit another moment may not reach.
PASSING = ("UNABLE_TO_LOCK_ROW", "System.LimitException")

# An hour: the daily request budget comes back slowly, and an approval lock waits for a person.
SLOW_SECONDS = 3600.0

# What is said of a query begins with its text, and that may hold people's names and addresses.
_EXCERPT = re.compile(r"\A.*\n *\^ *\n", re.DOTALL)
_RECORD_ID = re.compile(r"\b[a-zA-Z0-9]{18}\b|\b[a-zA-Z0-9]{15}\b")


class DuplicateFound(Refused):
    """A duplicate rule stopped a create. `record_id` is the one record it matched for certain, if there is exactly one;
    `reference` says which request of a graph it was."""

    reference = ""

    def __init__(self, message: str, words: str, record_id: str | None) -> None:
        super().__init__(message, words, "DUPLICATES_DETECTED")
        self.record_id = record_id


@dataclass(frozen=True)
class Page:
    """One page of a query. `total` counts all pages; `next_url` is None on the last."""

    records: list[dict[str, Any]]
    done: bool
    total: int
    next_url: str | None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Page:
        done = bool(answer.get("done", True))
        records = [without_attributes(record) for record in answer.get("records") or []]
        return cls(records, done, int(answer.get("totalSize", len(records))), None if done else answer.get("nextRecordsUrl"))


def without_attributes(value: Any) -> Any:
    """The record without the `attributes` Salesforce adds to it, to its parents and to its children."""
    if isinstance(value, dict):
        return {key: without_attributes(item) for key, item in value.items() if key != "attributes"}
    if isinstance(value, list):
        return [without_attributes(item) for item in value]
    return value


def decode_error(status: int, body: Any, what: str = "Salesforce") -> ConnectorError:
    """The error an answer stands for; `body` is the parsed JSON, or the text of what was not JSON."""
    errors = [entry for entry in body if isinstance(entry, dict)] if isinstance(body, list) else []
    # Top-level errors say errorCode, rows of composite answers statusCode.
    codes = [str(entry.get("errorCode") or entry.get("statusCode") or "") for entry in errors]
    culprit = next((index for index, code in enumerate(codes) if code not in CONSEQUENCES), 0)
    code = codes[culprit] if codes else ""
    told = (_EXCERPT.sub("", str(entry["message"])).strip() for entry in errors if entry.get("message"))
    words = "; ".join(dict.fromkeys(told))[:1024]
    message = f"{what}: HTTP {status}" + (f" {code}" if code else "") + (f": {words}" if words else "")

    if status == 401:
        return SignInFailed(f"{message}. The session was renewed once and refused again: check the integration user and the app's policies")
    if status == 412:
        return VersionConflict(message)
    if code in CONFIGURATION:
        return Misconfigured(f"{message}. {CONFIGURATION[code]}")
    if code == "REQUEST_LIMIT_EXCEEDED" or status == 429:
        return TryLater(message, SLOW_SECONDS if "TotalRequests" in words else None, certain=True)
    if code == "ENTITY_IS_LOCKED":
        return TryLater(message, SLOW_SECONDS)
    if code in TRANSIENT or status in (408, 409, 420) or status >= 500 or any(name in words for name in PASSING):
        return TryLater(message)
    if code == "DUPLICATE_VALUE":
        found = _RECORD_ID.findall(words)
        return AlreadyExists(message, found[-1] if found else None)
    if code == "DUPLICATES_DETECTED":
        return DuplicateFound(message, words, _certain_match(errors[culprit]))
    if status == 404:
        return Gone(message)
    if status == 410:
        return Misconfigured(f"{message}. Salesforce no longer has this API version: set SALESFORCE_API_VERSION to a newer one")
    if 300 < status < 400:
        return Misconfigured(f"{message}. Salesforce does not redirect API calls: check SALESFORCE_LOGIN_URL")
    if status == 403 and not code.startswith("INSUFFICIENT_ACCESS"):
        return Misconfigured(f"{message}. The integration user or its network address has no API access")
    return Refused(message, words, code)


def graph_ids(answer: Mapping[str, Any], requests: Mapping[str, str], what: str) -> dict[str, str]:
    """Record id by reference of a graph that was written; raises the error of the request that broke it otherwise.

    `requests` has the path of every reference: an update answers without a body, so its id is the path's.
    """
    graph = (answer.get("graphs") or [{}])[0]
    results = {str(result.get("referenceId")): result for result in (graph.get("graphResponse") or {}).get("compositeResponse") or []}
    if graph.get("isSuccessful") is True and results.keys() >= requests.keys():
        return {
            reference: str((results[reference].get("body") or {}).get("id") or path.rpartition("/")[2])
            for reference, path in requests.items()
        }
    failed = {reference: result for reference, result in results.items() if int(result.get("httpStatusCode") or 500) >= 300}
    for reference, result in failed.items():
        if not _is_consequence(result.get("body")):
            error = decode_error(int(result["httpStatusCode"]), result.get("body"), f"{what}, {reference}")
            if isinstance(error, DuplicateFound):
                error.reference = reference
            raise error
    raise TryLater(f"{what}: Salesforce did not say which record it refused")


def _is_consequence(body: Any) -> bool:
    return (
        isinstance(body, list) and bool(body) and all(isinstance(entry, dict) and entry.get("errorCode") in CONSEQUENCES for entry in body)
    )


def _certain_match(error: Mapping[str, Any]) -> str | None:
    # API versions up to 56 at least spell the key "duplicateResut".
    result = error.get("duplicateResult") or error.get("duplicateResut") or {}
    matches = [record for rule in result.get("matchResults") or [] for record in rule.get("matchRecords") or []]
    ids = {match["record"]["Id"] for match in matches if match.get("matchConfidence") == 100 and (match.get("record") or {}).get("Id")}
    return str(ids.pop()) if len(ids) == 1 and len(matches) == 1 else None
