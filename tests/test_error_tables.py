"""Every row of both vendors' error tables has one decided consequence, and in every one of them the edit arrives once the cause is gone.

The tables are those of Salesforce's "Status Codes and Error Responses" with what orgs were seen to answer, of its OAuth errors, and of
Partner Center's "REST error codes". First what each answer is taken for, then what becomes of a deal that meets it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from shared import polls, reconciling
from shared.codecs import parse_instant
from shared.errors import AlreadyExists, ConnectorError, Gone, Misconfigured, Refused, SignInFailed, TryLater, VersionConflict
from shared.flows import synchronize
from shared.partner_center_answers import InvalidRequest
from shared.partner_center_answers import decode_error as decode_partner_center
from shared.reporting import status
from shared.run import Outcome
from shared.salesforce_answers import CONFIGURATION, DuplicateFound
from shared.salesforce_answers import decode_error as decode_salesforce
from shared.salesforce_login import decode_login_error
from shared.sign_in import SignIn
from simulator.core import Host, Request, Response
from simulator.faults import Fault
from simulator.salesforce import DuplicateRule, Org, ValidationRule
from tests.client_doubles import SteppedClock
from tests.deals import DealWorld

HOUR = 3600.0


@dataclass(frozen=True)
class Means:
    """What an answer is taken for. `wait` is the vendor's wish or our own in seconds, `certain` that nothing was written."""

    kind: type[ConnectorError]
    wait: float | None = None
    certain: bool = False

    @classmethod
    def of(cls, error: ConnectorError) -> Means:
        return cls(type(error), getattr(error, "retry_after", None), getattr(error, "certain", False))


LATER = Means(TryLater)  # backs off from seconds to an hour
SLOWLY = Means(TryLater, HOUR)
TURNED_AWAY = Means(TryLater, None, certain=True)
BUDGET_SPENT = Means(TryLater, HOUR, certain=True)
PARK = Means(Refused)  # with the vendor's words, until the record changes
OPERATOR = Means(Misconfigured)
SIGN_IN = Means(SignInFailed)
PLAN_AGAIN = Means(VersionConflict)
GONE = Means(Gone)

# -- Salesforce ------------------------------------------------------------------------------------------------------------------------

SALESFORCE: list[tuple[int, str, str, Means]] = [
    (401, "INVALID_SESSION_ID", "Session expired or invalid", SIGN_IN),  # after the one renewal
    (401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE", SIGN_IN),
    (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", BUDGET_SPENT),
    (403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded.", TURNED_AWAY),
    (403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization", OPERATOR),
    (403, "API_CURRENTLY_DISABLED", "API is disabled for this User", OPERATOR),
    (400, "INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id", PARK),
    (403, "INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id", PARK),
    (400, "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", "insufficient access rights on cross-reference id", PARK),
    (403, "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", "insufficient access rights on cross-reference id", PARK),
    (400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "DealTrigger: System.NullPointerException", PARK),
    (400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "DealTrigger: first error: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access", LATER),
    (400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "DealTrigger: System.LimitException: Apex CPU time limit exceeded", LATER),
    (400, "CANNOT_EXECUTE_FLOW_TRIGGER", "The flow failed", PARK),
    (400, "CANNOT_EXECUTE_FLOW_TRIGGER", "The flow failed: UNABLE_TO_LOCK_ROW", LATER),
    (400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record or 1 records: 001", LATER),
    (500, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record or 1 records: 001", LATER),
    (400, "DUPLICATES_DETECTED", "Use one of these records?", Means(DuplicateFound)),
    (400, "DUPLICATE_VALUE", "duplicate value found: X__c duplicates value on record with id: 006RM000003kTzV", Means(AlreadyExists)),
    (400, "DUPLICATE_EXTERNAL_ID", "more than one record found for external id field", PARK),
    (400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", "Bitte Datum prüfen", PARK),
    (400, "REQUIRED_FIELD_MISSING", "Required fields are missing: [Region__c]", PARK),
    (400, "FIELD_INTEGRITY_EXCEPTION", "There's a problem with this state", PARK),
    (400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Stage: bad value for restricted picklist field: V", PARK),
    (400, "STRING_TOO_LONG", "Name: data value too large: V (max length=25)", PARK),
    (400, "NUMBER_OUTSIDE_VALID_RANGE", "Amount: value outside of valid range on numeric field", PARK),
    (400, "INVALID_TYPE_ON_FIELD_IN_RECORD", "Amount: value not of required type", PARK),
    (400, "INVALID_EMAIL_ADDRESS", "Email: invalid email address: x", PARK),
    (400, "JSON_PARSER_ERROR", "Cannot deserialize instance of currency", PARK),
    (400, "INVALID_FIELD", "No such column 'Foo__c' on entity 'Opportunity'", OPERATOR),
    (400, "INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: Amount", OPERATOR),
    # A dead id in a lookup is about that field; only a 404 is about the record itself.
    (400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", PARK),
    (404, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", GONE),
    (400, "MALFORMED_ID", "AccountId: id value of incorrect type: x", PARK),
    (404, "ENTITY_IS_DELETED", "entity is deleted", GONE),
    (404, "NOT_FOUND", "The requested resource does not exist", GONE),
    (400, "ENTITY_IS_LOCKED", "the entity is locked for editing", SLOWLY),
    (400, "INACTIVE_OWNER_OR_USER", "operation performed with inactive user", PARK),
    (400, "INVALID_TYPE", "sObject type 'XYZZY' is not supported", OPERATOR),
    (400, "MALFORMED_QUERY", "unexpected token: OR", OPERATOR),
    (400, "INVALID_QUERY_LOCATOR", "invalid query locator", LATER),
    (400, "QUERY_TIMEOUT", "Your query request was running for too long.", LATER),
    (400, "STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", OPERATOR),
    (403, "STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", OPERATOR),
    (400, "TXN_SECURITY_METERING_ERROR", "try again", LATER),
    (403, "TXN_SECURITY_METERING_ERROR", "try again", LATER),
    (400, "LIMIT_EXCEEDED", "limit exceeded", LATER),
    (403, "LIMIT_EXCEEDED", "limit exceeded", LATER),
    (503, "SERVER_UNAVAILABLE", "", LATER),
    (500, "UNKNOWN_EXCEPTION", "An unexpected error occurred. ErrorId: 1 (2)", LATER),
    (405, "METHOD_NOT_ALLOWED", "HTTP Method 'POST' not allowed", PARK),
]

# Every status Salesforce documents, where no code can be read.
SALESFORCE_STATUSES = {
    300: PARK,
    304: OPERATOR,
    400: PARK,
    401: SIGN_IN,
    403: OPERATOR,
    404: GONE,
    405: PARK,
    409: LATER,
    410: OPERATOR,
    412: PLAN_AGAIN,
    414: PARK,
    415: PARK,
    420: LATER,
    428: PARK,
    429: TURNED_AWAY,
    431: PARK,
    500: LATER,
    502: LATER,
    503: LATER,
}

UNREADABLE = ["<html><body>Down for maintenance</body></html>", "", None, [], {}, [None, "text", 5], [{"message": None, "errorCode": None}]]


@pytest.mark.parametrize(("code_status", "code", "words", "means"), SALESFORCE)
def test_every_code_of_salesforce_has_one_consequence(code_status: int, code: str, words: str, means: Means) -> None:
    for key in ("errorCode", "statusCode"):  # alone, and in a row of a composite answer
        error = decode_salesforce(code_status, [{"message": words, key: code, "fields": []}], "updating Opportunity 006")
        assert Means.of(error) == means
        assert words in str(error)
        assert f"HTTP {code_status} {code}" in str(error)
        if isinstance(error, Refused):
            assert error.words == words
        if isinstance(error, Misconfigured):
            assert len(str(error)) > len(f"updating Opportunity 006: HTTP {code_status} {code}: {words}. ")  # what to do about it


@pytest.mark.parametrize("given", UNREADABLE, ids=repr)
def test_every_status_of_salesforce_has_one_consequence_without_a_readable_body(given: Any) -> None:
    for number, means in SALESFORCE_STATUSES.items():
        error = decode_salesforce(number, given, "updating Opportunity 006")
        assert Means.of(error) == means, number
        assert str(error).startswith(f"updating Opportunity 006: HTTP {number}")
        assert "<html>" not in str(error)


def test_what_salesforce_says_of_a_query_does_not_repeat_what_was_asked_for() -> None:
    excerpt = "\nSELECT Id FROM Contact WHERE Email = 'dana.moreau@fabrikam.example' AND Foo__c = 1\n       ^\nERROR at Row:1:Column:8\n"
    for code in ("INVALID_FIELD", "MALFORMED_QUERY", "INVALID_QUERY_FILTER_OPERATOR"):
        error = decode_salesforce(400, coded(code, f"{excerpt}No such column 'Foo__c' on entity 'Contact'."))
        assert "dana.moreau" not in str(error)
        assert "ERROR at Row:1:Column:8\nNo such column 'Foo__c' on entity 'Contact'." in str(error)


def test_no_code_has_a_consequence_that_no_row_states() -> None:
    assert set(CONFIGURATION) <= {code for _, code, _, _ in SALESFORCE}


def test_of_several_errors_the_cause_decides_and_not_its_consequences() -> None:
    def told(*codes: str) -> Means:
        return Means.of(decode_salesforce(400, [{"errorCode": code, "message": code} for code in codes]))

    assert told("PROCESSING_HALTED", "UNABLE_TO_LOCK_ROW") == LATER
    assert told("ALL_OR_NONE_OPERATION_ROLLED_BACK", "FIELD_CUSTOM_VALIDATION_EXCEPTION") == PARK


LOGIN: list[tuple[str, str | None, Means]] = [
    ("invalid_grant", "user hasn't approved this consumer", SIGN_IN),
    ("invalid_grant", "audience is invalid", SIGN_IN),
    ("invalid_grant", "expired authorization code", SIGN_IN),
    ("invalid_grant", "expired access/refresh token", SIGN_IN),
    ("invalid_grant", "authentication failure", SIGN_IN),
    ("invalid_grant", "user is locked", SIGN_IN),
    ("invalid_grant", "inactive user", SIGN_IN),
    ("invalid_grant", "ip restricted", SIGN_IN),
    ("invalid_grant", "request not supported on this domain", SIGN_IN),
    ("invalid_grant", "no client credentials user enabled", SIGN_IN),
    ("invalid_grant", None, SIGN_IN),
    ("invalid_client", "invalid client credentials", SIGN_IN),
    ("invalid_client_id", "client identifier invalid", SIGN_IN),
    ("invalid_app_access", "user is not admin approved to access this app", SIGN_IN),
    ("unsupported_grant_type", "grant type not supported", SIGN_IN),
    ("rate_limit_exceeded", "login rate exceeded", SLOWLY),
]


@pytest.mark.parametrize(("error", "description", "means"), LOGIN)
def test_every_refusal_of_a_salesforce_login_has_one_consequence(error: str, description: str | None, means: Means) -> None:
    told = decode_login_error(400, {"error": error, **({"error_description": description} if description else {})})
    assert Means.of(told) == means
    assert error in str(told)


# -- Partner Center --------------------------------------------------------------------------------------------------------------------

PARTNER_CENTER = {
    400: Means(InvalidRequest),
    401: SIGN_IN,
    403: PARK,
    404: GONE,
    405: PARK,
    406: PARK,
    409: PLAN_AGAIN,
    410: GONE,
    411: PARK,
    412: PLAN_AGAIN,
    413: PARK,
    415: PARK,
    416: PARK,
    422: PARK,
    423: LATER,
    429: TURNED_AWAY,
    500: LATER,
    501: LATER,
    503: LATER,
    504: LATER,
    507: LATER,
    509: LATER,
}

WORDS = "The deal is closed."
REFERRALS = {"error": {"code": "invalidRequest", "message": "outer", "innerError": {"code": "closed", "message": WORDS}}}
SHAPES: dict[str, Any] = {
    "referrals": REFERRALS,
    "webhooks": {"code": "2032", "description": WORDS, "data": [], "source": "PartnerCenter"},
    "gateway": {"statusCode": 400, "message": WORDS},
    "HTML": "<html>Bad gateway</html>",
    "empty": "",
    "a list": [],
    "null": None,
}


def body(given: Any) -> bytes:
    return given.encode() if isinstance(given, str) else json.dumps(given).encode()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_status_of_partner_center_has_one_consequence_in_every_shape(shape: str) -> None:
    for number, means in PARTNER_CENTER.items():
        error = decode_partner_center(number, {}, body(SHAPES[shape]), "updating referral 1")
        assert Means.of(error) == means, number
        assert str(error).startswith(f"updating referral 1: HTTP {number}")
        assert "<html>" not in str(error)
        if shape in ("referrals", "webhooks", "gateway"):
            assert WORDS in str(error)
            if isinstance(error, Refused):
                assert error.words == WORDS


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({}, {"error": {"code": "accessDenied", "innerError": {"code": "insufficient_claims", "message": "Sign in again"}}}),
        ({"WWW-Authenticate": 'Bearer error="insufficient_claims", claims="eyJ9"'}, ""),
        ({}, {"error": {"code": "accessDenied", "message": "Multi-factor authentication is required."}}),
    ],
)
def test_a_403_about_the_sign_in_is_for_the_operator_and_not_for_the_seller(headers: dict[str, str], given: Any) -> None:
    error = decode_partner_center(403, headers, body(given))
    assert Means.of(error) == SIGN_IN
    assert "multi-factor" in str(error)


def test_the_vendors_wish_to_wait_goes_with_every_answer_that_may_carry_it() -> None:
    for number in (423, 429, 500, 503, 504):
        error = decode_partner_center(number, {"retry-after": "57"}, b"")
        assert isinstance(error, TryLater)
        assert error.retry_after == 57


def test_a_sign_in_that_must_wait_means_that_nothing_was_sent() -> None:
    def fetch() -> tuple[str, float]:
        raise TryLater("Entra is busy", 30)

    sign_in = SignIn(fetch, SteppedClock())
    for _ in range(2):  # asked, and remembered
        with pytest.raises(TryLater) as caught:
            sign_in.current()
        assert (caught.value.certain, caught.value.retry_after) == (True, 30)


# -- what becomes of a deal ------------------------------------------------------------------------------------------------------------


@dataclass
class Says(Fault):
    """A fault that answers with a body of its own, to calls whose own body matches `about`."""

    told: Any = ""
    said: tuple[tuple[str, str], ...] = ()
    about: bytes = b""

    def matches(self, request: Request) -> bool:
        return super().matches(request) and re.search(self.about, request.body) is not None

    def response(self) -> Response:
        waiting = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        kind = "text/html" if isinstance(self.told, str) else "application/json;charset=UTF-8"
        return Response(self.status, body(self.told), {"Content-Type": kind, **waiting, **dict(self.said)})


def coded(code: str, message: str = "words of the org") -> list[dict[str, Any]]:
    return [{"message": message, "errorCode": code, "fields": []}]


def error(code: str, message: str = "words of the service") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "target": "referral"}}


BASE = 50_000
HTML = "<html>maintenance</html>"
AMOUNT = b"Amount|dealValue"


def one_run(w: DealWorld) -> Outcome:
    """Everything that notices work does so, then one worker runs once."""
    w.deliver()
    w.poll()
    w.wakes.queued.clear()
    (name,) = w.owed()
    return synchronize(w.world, name)


class Agreed:
    """One deal in agreement, one hand that edits its amount on the far side of `vendor`, and the calls that carry it there."""

    def __init__(self, vendor: Host, org: Org | None = None) -> None:
        self.vendor, self.w = vendor, DealWorld(org=org)
        self.opportunity_id = self.w.make_deal().opportunity
        self.w.settle()
        self.referral_id = self.w.referrals()[0]["id"]
        self.pause(60)
        self.w.round()
        self.pause(60)
        self.began = self.w.position()

    def pause(self, seconds: float) -> None:
        self.w.sim.clock.advance(seconds)

    def meets(self, answer: int, told: Any = "", method: str | None = "PATCH", **more: Any) -> None:
        self.w.sim.faults.add(Says(self.vendor, method, status=answer, told=told, **more))

    def edit(self, value: int) -> None:
        """The edit that the vendor is to be told of."""
        if self.vendor == "partner_center":
            self.w.seller_edits(self.opportunity_id, Amount=value)
        else:
            self.w.portal_edits(self.referral_id, {"details/dealValue": value})
        self.pause(5)

    def meet(self) -> Outcome:
        """The edit is noticed and one worker carries it, once."""
        return one_run(self.w)

    @property
    def here(self) -> float:
        return float(self.w.opportunity(self.opportunity_id)["Amount"])

    @property
    def there(self) -> float:
        return float(self.w.sim.partner_center.records[self.referral_id]["details"]["dealValue"])

    @property
    def audit(self) -> str:
        return str(self.w.opportunity(self.opportunity_id)["Audit__c"])

    @property
    def name(self) -> str:
        return str(self.w.opportunity(self.opportunity_id)["Name"])

    def attempts(self) -> int:
        """Writes of the record at the vendor since the deal agreed, Audit entries left out."""
        calls = [call for call in self.w.sim.journal.calls(self.vendor, self.began) if call.method == "PATCH"]
        return sum(re.search(AMOUNT, call.body) is not None for call in calls)

    def retrying(self) -> dict[str, Any]:
        """What `status` says of the one deal that waits."""
        (one,) = status(self.w.world)["owed"]["retrying"]
        assert isinstance(one, dict)
        return one

    def wait(self) -> float:
        """Seconds until the next attempt."""
        return (parse_instant(self.retrying()["due"]) - self.w.clock.now()).total_seconds()

    def arrives(self, value: int) -> None:
        self.w.settle()
        assert (self.here, self.there) == (value, value)
        assert not self.w.parked()
        assert self.w.quiet() == []


@pytest.mark.parametrize(
    ("vendor", "answer", "told", "retry_after", "wait"),
    [
        ("partner_center", 423, "", None, None),
        ("partner_center", 429, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}, 57, 57),
        ("partner_center", 429, "", None, None),
        ("partner_center", 500, error("generalException"), None, None),
        ("partner_center", 500, "", None, None),
        ("partner_center", 501, "", None, None),
        ("partner_center", 503, HTML, None, None),
        ("partner_center", 503, error("serviceNotAvailable"), 90, 90),
        ("partner_center", 504, HTML, None, None),
        ("salesforce", 400, coded("UNABLE_TO_LOCK_ROW"), None, None),
        ("salesforce", 500, coded("UNABLE_TO_LOCK_ROW"), None, None),
        ("salesforce", 400, coded("CANNOT_EXECUTE_FLOW_TRIGGER", "UNABLE_TO_LOCK_ROW"), None, None),
        ("salesforce", 400, coded("ENTITY_IS_LOCKED"), None, HOUR),
        ("salesforce", 403, coded("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), None, HOUR),
        ("salesforce", 403, coded("REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."), None, None),
        ("salesforce", 409, "", None, None),
        ("salesforce", 420, HTML, None, None),
        ("salesforce", 429, [], None, None),
        ("salesforce", 500, "", None, None),
        ("salesforce", 502, HTML, None, None),
        ("salesforce", 503, HTML, None, None),
        ("salesforce", 503, coded("SERVER_UNAVAILABLE", ""), None, None),
    ],
)
def test_passing_trouble_makes_an_edit_late_and_never_loses_it(
    vendor: Host, answer: int, told: Any, retry_after: int | None, wait: float | None
) -> None:
    deal = Agreed(vendor)
    deal.meets(answer, told, count=2, retry_after=retry_after)
    deal.edit(61_000)
    deal.meet()
    assert f"HTTP {answer}" in deal.retrying()["reason"]
    waits = [deal.wait()]
    deal.pause(waits[0] - 1)
    deal.w.round()
    assert deal.attempts() == 1  # not before its time
    deal.pause(1)
    deal.w.round()
    assert deal.attempts() == 2
    waits.append(deal.wait())
    if wait:
        assert waits == [wait, wait]
    else:
        assert 1 <= waits[0] < waits[1] <= 6
    assert not deal.w.parked()
    assert "HTTP" not in deal.audit  # a seller can do nothing about it
    deal.pause(waits[1])
    deal.arrives(61_000)


@pytest.mark.parametrize("vendor", ["partner_center", "salesforce"])
@pytest.mark.parametrize(("answer", "told"), [(503, HTML), (500, ""), (429, "")])
def test_a_record_that_cannot_be_read_now_is_read_later(vendor: Host, answer: int, told: Any) -> None:
    deal = Agreed(vendor)
    path = "*/query/" if vendor == "salesforce" else f"*/{deal.referral_id}"
    deal.meets(answer, told, method="GET", path=path)
    deal.edit(61_000)
    deal.meet()
    assert f"HTTP {answer}" in deal.retrying()["reason"]
    assert deal.attempts() == 0
    deal.arrives(61_000)


@pytest.mark.parametrize(("vendor", "answer"), [("partner_center", 409), ("partner_center", 412), ("salesforce", 412)])
@pytest.mark.parametrize("told", ["", error("resourceModified"), HTML], ids=["empty", "JSON", "HTML"])
def test_a_record_that_changed_meanwhile_is_read_and_planned_again_at_once(vendor: Host, answer: int, told: Any) -> None:
    deal = Agreed(vendor)
    deal.meets(answer, told)
    deal.edit(61_000)
    deal.meet()
    assert (deal.here, deal.there, deal.attempts()) == (61_000, 61_000, 2)
    deal.arrives(61_000)


@pytest.mark.parametrize(
    ("vendor", "answer", "told", "words"),
    [
        ("partner_center", 400, error("invalidRequest", "The value is too large."), "The value is too large."),
        ("partner_center", 400, HTML, "HTTP 400"),
        ("partner_center", 403, error("accessDenied", "Only the owner may change this."), "Only the owner may change this."),
        ("partner_center", 404, error("itemNotFound", "Not here."), "Not here."),
        ("partner_center", 410, "", "HTTP 410"),
        ("partner_center", 413, "", "HTTP 413"),
        ("partner_center", 422, error("invalidRequest", "The deal is frozen."), "The deal is frozen."),
        ("salesforce", 400, coded("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Bitte Betrag prüfen"), "Bitte Betrag prüfen"),
        ("salesforce", 400, coded("STRING_TOO_LONG", "Name: data value too large"), "Name: data value too large"),
        ("salesforce", 400, coded("DUPLICATE_VALUE", "duplicate value found"), "duplicate value found"),
        ("salesforce", 400, coded("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "DealTrigger: no"), "DealTrigger: no"),
        ("salesforce", 403, coded("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights"), "insufficient access rights"),
        ("salesforce", 404, coded("ENTITY_IS_DELETED", "entity is deleted"), "entity is deleted"),
        ("salesforce", 400, HTML, "HTTP 400"),
        ("salesforce", 400, "", "HTTP 400"),
    ],
)
def test_a_refused_edit_is_parked_with_the_vendors_words_until_the_record_changes(vendor: Host, answer: int, told: Any, words: str) -> None:
    deal = Agreed(vendor)
    deal.meets(answer, told, about=AMOUNT, count=100)
    deal.edit(61_000)
    deal.meet()
    (reason,) = deal.w.parked().values()
    assert words in reason
    assert words in status(deal.w.world)["parked"]["deals"][0]["reason"]
    assert words in deal.audit
    assert deal.name.startswith("✗ ")
    deal.w.settle()
    asked = deal.attempts()
    assert asked <= 2  # once for each record that was seen to change: ours by the edit, the other by its ✗
    for _ in range(3):
        deal.pause(HOUR)
        deal.w.round(full=True)
    assert deal.attempts() == asked
    assert deal.audit.count(words) == 1
    deal.w.sim.faults.clear()
    deal.edit(62_000)
    deal.arrives(62_000)
    assert deal.name.startswith("✓ ")


def test_an_org_that_does_not_take_the_reason_either_still_tells_the_operator() -> None:
    deal = Agreed("salesforce")
    deal.meets(400, coded("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Nobody changes this deal"), count=3)
    deal.edit(61_000)
    deal.meet()
    assert "Nobody changes this deal" in status(deal.w.world)["parked"]["deals"][0]["reason"]
    deal.w.sim.faults.clear()
    deal.edit(62_000)
    deal.arrives(62_000)


def test_a_rule_of_the_org_parks_only_the_deal_that_breaks_it() -> None:
    deal = Agreed("salesforce", Org(validation_rules=(ValidationRule("Opportunity", "Amount > 70000", "Ask your manager first."),)))
    deal.edit(72_000)
    deal.meet()
    assert deal.here == BASE
    assert "Ask your manager first." in deal.audit
    deal.edit(61_000)
    deal.arrives(61_000)


@pytest.mark.parametrize(
    ("vendor", "answer", "told", "remedy", "said"),
    [
        ("partner_center", 401, error("unauthenticated"), "check the app's permissions", ()),
        ("partner_center", 401, "", "check the app's permissions", ()),
        ("partner_center", 403, error("insufficient_claims"), "multi-factor authentication", ()),
        ("partner_center", 403, "", "multi-factor authentication", (("WWW-Authenticate", 'Bearer error="insufficient_claims"'),)),
        ("partner_center", 302, "", "PARTNER_CENTER_API_URL", ()),
        ("salesforce", 401, coded("INVALID_SESSION_ID"), "check the integration user", ()),
        ("salesforce", 401, HTML, "check the integration user", ()),
        ("salesforce", 400, coded("INVALID_FIELD_FOR_INSERT_UPDATE"), "grant edit access", ()),
        ("salesforce", 400, coded("INVALID_FIELD"), "grant field access", ()),
        ("salesforce", 403, coded("STORAGE_LIMIT_EXCEEDED"), "out of storage", ()),
        ("salesforce", 403, coded("API_DISABLED_FOR_ORG"), "API Enabled", ()),
        ("salesforce", 403, HTML, "no API access", ()),
        ("salesforce", 410, coded("UNSUPPORTED_API_VERSION"), "SALESFORCE_API_VERSION", ()),
    ],
)
def test_what_only_the_operator_can_mend_is_told_to_the_operator_and_then_goes_on_by_itself(
    vendor: Host, answer: int, told: Any, remedy: str, said: tuple[tuple[str, str], ...]
) -> None:
    deal = Agreed(vendor)
    deal.meets(answer, told, count=2 if answer == 401 else 1, said=said)
    deal.edit(61_000)
    deal.meet()
    assert remedy in deal.retrying()["reason"]
    assert deal.wait() == 300
    assert not deal.w.parked()
    assert remedy not in deal.audit
    deal.pause(300)
    deal.arrives(61_000)


def test_a_token_that_expired_is_nobodys_trouble() -> None:
    for vendor in ("partner_center", "salesforce"):
        deal = Agreed(vendor)
        deal.meets(401, HTML)
        deal.edit(61_000)
        deal.meet()
        assert (deal.here, deal.there) == (61_000, 61_000)
        deal.arrives(61_000)


@pytest.mark.parametrize("answer", [404, 410])
def test_a_referral_that_cannot_be_seen_rests_and_is_found_again_by_the_sweep(answer: int) -> None:
    deal = Agreed("partner_center")
    deal.meets(answer, error("itemNotFound"), method="GET", path=f"*/{deal.referral_id}")
    deal.edit(61_000)
    deal.meet()
    assert deal.there == BASE
    assert not deal.w.owed()
    pair = deal.w.world.state.pair(f"sf-{deal.opportunity_id}")
    assert pair is not None
    assert f"HTTP {answer}" in pair.outcome
    deal.pause(60)
    reconciling.reconcile(deal.w.world)
    deal.arrives(61_000)


def test_an_opportunity_out_of_the_recycle_bin_is_synchronized_again() -> None:
    deal = Agreed("salesforce")
    deal.w.sim.salesforce.person_deletes("Opportunity", deal.opportunity_id)
    deal.edit(61_000)
    deal.w.settle()
    assert deal.attempts() == 0
    deal.w.sim.salesforce.person_undeletes("Opportunity", deal.opportunity_id)
    deal.arrives(61_000)


# -- creating --------------------------------------------------------------------------------------------------------------------------


class Creating:
    """A deal that exists on one side, and the one call that makes its other record at `vendor`."""

    def __init__(self, vendor: Host, org: Org | None = None) -> None:
        self.vendor, self.w = vendor, DealWorld(org=org)
        self.path = "*/graph" if vendor == "salesforce" else "*/referrals"
        if vendor == "salesforce":
            self.name = f"pc-{self.w.sim.people.portal_create_deal()['id']}"
        else:
            self.name = f"sf-{self.w.make_deal(How_can_Microsoft_help__c=None).opportunity}"
        self.pause(5)

    def pause(self, seconds: float) -> None:
        self.w.sim.clock.advance(seconds)

    def meets(self, answer: int, told: Any = "", **more: Any) -> None:
        self.w.sim.faults.add(Says(self.vendor, "POST", self.path, status=answer, told=told, **more))

    @property
    def claimed(self) -> bool:
        pair = self.w.world.state.pair(self.name)
        assert pair is not None
        return pair.create is not None

    def asked(self) -> int:
        calls = self.w.sim.journal.calls(self.vendor)
        return sum(call.method == "POST" and call.path.endswith(self.path[1:]) for call in calls)

    def made(self) -> int:
        return len(self.w.opportunities() if self.vendor == "salesforce" else self.w.referrals())


WITHOUT_KEY = Org(connector_package=False)


@pytest.mark.parametrize(
    ("vendor", "answer", "told", "retry_after"),
    [
        ("partner_center", 429, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}, 57),
        ("salesforce", 429, HTML, None),
        ("salesforce", 403, coded("REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."), None),
    ],
)
def test_a_create_that_was_turned_away_is_repeated_when_the_vendor_said_and_not_after_the_margin(
    vendor: Host, answer: int, told: Any, retry_after: int | None
) -> None:
    deal = Creating(vendor, WITHOUT_KEY)
    deal.meets(answer, told, retry_after=retry_after)
    one_run(deal.w)
    assert not deal.claimed
    (waiting,) = status(deal.w.world)["owed"]["retrying"]
    wait = (parse_instant(waiting["due"]) - deal.w.clock.now()).total_seconds()
    assert wait == retry_after if retry_after else wait < 10
    deal.pause(wait - 1)
    deal.w.round()
    assert deal.asked() == 1
    deal.pause(1)
    deal.w.round()
    assert (deal.asked(), deal.made()) == (2, 1)
    deal.w.settle()
    assert deal.made() == 1


@pytest.mark.parametrize("vendor", ["partner_center", "salesforce"])
def test_a_create_whose_token_could_not_be_renewed_was_never_sent(vendor: Host) -> None:
    deal = Creating(vendor, WITHOUT_KEY)
    deal.meets(401)
    token: Host = "salesforce" if vendor == "salesforce" else "entra"
    deal.w.sim.faults.add(Says(token, "POST", "*/token", status=503, told=HTML, skip=1))
    one_run(deal.w)
    assert (deal.claimed, deal.made()) == (False, 0)
    deal.w.settle()
    assert deal.made() == 1


@pytest.mark.parametrize("vendor", ["partner_center", "salesforce"])
@pytest.mark.parametrize(("answer", "told"), [(500, ""), (503, HTML), (504, "")])
def test_a_create_that_may_have_landed_keeps_its_claim_until_the_margin_is_over(vendor: Host, answer: int, told: Any) -> None:
    deal = Creating(vendor, WITHOUT_KEY)
    deal.meets(answer, told)
    one_run(deal.w)
    assert deal.claimed
    for _ in range(4):
        deal.pause(60)
        deal.w.round()
    assert deal.asked() == 1
    deal.pause(deal.w.settings.create_margin_seconds)
    deal.w.settle()
    assert deal.made() == 1


@pytest.mark.parametrize(
    ("vendor", "answer", "told", "words"),
    [
        ("partner_center", 400, error("invalidRequest", "Solution ID is required"), "Solution ID is required"),
        ("partner_center", 403, error("accessDenied", "No permission to create."), "No permission to create."),
        ("partner_center", 422, HTML, "HTTP 422"),
        ("salesforce", 400, coded("REQUIRED_FIELD_MISSING", "Required fields are missing: [Region__c]"), "[Region__c]"),
        ("salesforce", 400, coded("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"), "invalid cross reference id"),
    ],
)
def test_a_refused_create_is_parked_with_the_vendors_words_and_made_once_the_operator_retries(
    vendor: Host, answer: int, told: Any, words: str
) -> None:
    deal = Creating(vendor)
    deal.meets(answer, told)
    one_run(deal.w)
    assert words in deal.w.parked()[deal.name]
    assert not deal.claimed
    for _ in range(3):
        deal.pause(HOUR)
        deal.w.round(full=True)
    assert (deal.asked(), deal.made()) == (1, 0)
    assert deal.w.world.state.unpark(deal.name)
    deal.w.settle()
    assert deal.made() == 1
    assert not deal.w.parked()


def test_a_create_that_finds_its_key_taken_adopts_the_record_that_has_it() -> None:
    deal = Creating("salesforce")

    def somebody_is_quicker(_: Any) -> None:
        fields = {"Name": "Fabrikam", "StageName": "Prospecting", "CloseDate": "2027-01-31", "Sync_With_Partner_Center__c": True}
        deal.w.sim.salesforce.person_creates("Opportunity", {**fields, "Co_sell_Key__c": deal.name.removeprefix("pc-")})

    deal.w.sim.faults.add(Fault("salesforce", "POST", deal.path, action=somebody_is_quicker))
    deal.w.settle()
    assert (deal.asked(), deal.made()) == (1, 1)
    assert not deal.w.parked()


@pytest.mark.parametrize("version", ["56.0", "66.0"])
def test_the_one_record_a_duplicate_rule_names_for_certain_is_taken_in_either_spelling_of_its_answer(version: str) -> None:
    rule = DuplicateRule("Account", ("BillingCity",))
    w = DealWorld(org=Org(duplicate_rules=(rule,)), settings={"SALESFORCE_API_VERSION": version})
    standing = w.sim.salesforce.person_creates("Account", {"Name": "Fabrikam Incorporated", "BillingCity": "Redmond"})
    w.sim.people.portal_create_deal()
    w.settle()
    assert [one["AccountId"] for one in w.opportunities()] == [standing]
    assert not w.parked()


# -- polls and the sweep ---------------------------------------------------------------------------------------------------------------


@contextmanager
def fails(kind: type[ConnectorError]) -> Iterator[None]:
    with pytest.raises(kind):
        yield


@pytest.mark.parametrize(
    ("vendor", "poll", "answer", "told", "kind"),
    [
        ("partner_center", polls.poll_referrals, 429, "", TryLater),
        ("partner_center", polls.poll_referrals, 503, HTML, TryLater),
        ("partner_center", polls.poll_referrals, 403, error("accessDenied"), Refused),
        ("partner_center", polls.poll_referrals, 403, error("insufficient_claims"), SignInFailed),
        ("salesforce", polls.poll_opportunities, 503, HTML, TryLater),
        ("salesforce", polls.poll_opportunities, 400, coded("QUERY_TIMEOUT"), TryLater),
        ("salesforce", polls.poll_opportunities, 403, coded("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), TryLater),
        ("salesforce", polls.poll_opportunities, 400, coded("INVALID_FIELD"), Misconfigured),
        ("salesforce", polls.poll_solutions, 500, "", TryLater),
    ],
)
def test_a_poll_that_failed_begins_where_it_began(vendor: Host, poll: Callable[..., int], answer: int, told: Any, kind: Any) -> None:
    other: Host = "salesforce" if vendor == "partner_center" else "partner_center"
    deal = Agreed(other)
    deal.edit(61_000)
    deal.w.sim.webhooks.waiting.clear()
    cursors = {name: deal.w.world.state.cursor(name) for name in ("referrals", "opportunities", "solutions")}
    deal.w.sim.faults.add(Says(vendor, "GET", status=answer, told=told))
    with fails(kind):
        poll(deal.w.world)
    assert {name: deal.w.world.state.cursor(name) for name in cursors} == cursors
    deal.pause(2 * HOUR)
    deal.arrives(61_000)


def test_a_sweep_whose_cursor_expired_ends_without_a_certificate_and_the_next_one_begins_anew() -> None:
    w = DealWorld(org=Org(page_size=2))
    for number in range(3):
        w.make_deal(f"Deal {number}")
    w.settle()
    w.sim.clock.advance(60)
    forget = w.sim.salesforce.forget_cursors
    w.sim.faults.add(Fault("salesforce", "GET", "*/query/0r8*", action=lambda _: forget()))
    with pytest.raises(TryLater, match="INVALID_QUERY_LOCATOR"):
        reconciling.reconcile(w.world)
    assert "certificate" not in w.world.state.flows()
    assert reconciling.reconcile(w.world).in_agreement == 3


# -- trouble that does not end ---------------------------------------------------------------------------------------------------------


def test_a_wake_up_before_its_time_asks_nobody() -> None:
    deal = Agreed("partner_center")
    deal.meets(429, retry_after=57)
    deal.edit(61_000)
    deal.meet()
    asked = deal.w.position()
    for _ in range(3):  # queues deliver twice, and every poll may wake a deal
        synchronize(deal.w.world, f"sf-{deal.opportunity_id}")
    assert deal.w.position() == asked
    deal.pause(57)
    deal.arrives(61_000)


@pytest.mark.parametrize(
    ("answer", "retry_after", "reason"),
    [(409, None, "still moving"), (412, None, "still moving"), (429, 0, "HTTP 429"), (503, 0, "HTTP 503")],
)
def test_trouble_without_an_end_is_asked_about_less_and_less(answer: int, retry_after: int | None, reason: str) -> None:
    deal = Agreed("partner_center")
    deal.meets(answer, error("resourceModified"), count=1000, retry_after=retry_after)
    deal.edit(61_000)
    deal.meet()
    for _ in range(8):
        deal.pause(deal.wait())
        assert synchronize(deal.w.world, f"sf-{deal.opportunity_id}").kind == "later"
    assert deal.wait() > 120
    assert reason in deal.retrying()["reason"]
    deal.w.sim.faults.clear()
    deal.pause(HOUR)
    deal.arrives(61_000)


def test_a_right_that_was_taken_away_and_given_back_needs_no_hand() -> None:
    deal = Agreed("partner_center")
    deal.meets(403, error("accessDenied", "The user has no referrals role."), method="GET", path=f"*/{deal.referral_id}", count=100)
    deal.edit(61_000)
    deal.meet()
    deal.w.sim.faults.clear()
    deal.pause(25 * HOUR)
    reconciling.reconcile(deal.w.world)
    deal.arrives(61_000)


@pytest.mark.parametrize(("vendor", "told"), [("partner_center", error("itemNotFound")), ("salesforce", coded("NOT_FOUND"))])
def test_a_create_at_an_address_that_is_not_there_is_told_and_ends(vendor: Host, told: Any) -> None:
    deal = Creating(vendor)
    deal.meets(404, told)
    outcome = one_run(deal.w)
    assert outcome.kind in ("parked", "later")
    assert "HTTP 404" in outcome.text


def test_an_opportunity_deleted_while_it_is_written_ends_the_run() -> None:
    deal = Agreed("salesforce")
    delete = deal.w.sim.salesforce.person_deletes
    deal.w.sim.faults.add(Fault("salesforce", "PATCH", action=lambda _: delete("Opportunity", deal.opportunity_id)))
    deal.edit(61_000)
    assert deal.meet().kind in ("parked", "skipped")
    deal.w.sim.salesforce.person_undeletes("Opportunity", deal.opportunity_id)
    deal.edit(62_000)
    deal.arrives(62_000)
