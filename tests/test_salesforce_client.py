"""The Salesforce client: what its answers mean, what may become part of a query or a path, and how it signs in, writes and refuses."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import httpx
import pytest
import requests

from shared.clock import Clock
from shared.errors import AlreadyExists, ConnectorError, Gone, Misconfigured, Refused, ShadowMode, SignInFailed, TryLater, VersionConflict
from shared.salesforce import GraphRequest, Salesforce
from shared.salesforce_answers import DuplicateFound, decode_error, graph_ids, without_attributes
from shared.salesforce_login import REMEDIES, SalesforceLogin, Session, audience, decode_login_error
from shared.settings import Settings
from shared.soql import identifier, literal
from shared.transport import http_client, requests_session
from simulator import mount
from simulator.faults import Fault
from simulator.salesforce import DuplicateRule, Org
from simulator.salesforce.login import SCENARIOS
from simulator.simulator import Simulator
from tests.client_doubles import NOW, SETTINGS, Answers, SteppedClock, answer, settings

ID = "006RM000003kTzVYAU"
NEXT = "/services/data/v66.0/query/01g-2000"
INSTANCE = "https://fabrikam.my.salesforce.com"
KEY_RULE = DuplicateRule("Contact", ("Email",))


class Login:
    """A login that counts: every renewed session has another token."""

    def __init__(self) -> None:
        self.number = 1

    def session(self) -> Session:
        return Session(f"token-{self.number}", INSTANCE)

    def renew(self, old_token: str) -> Session:
        assert old_token == f"token-{self.number}"
        self.number += 1
        return self.session()


def client(vendor: Answers, given: Settings = SETTINGS, clock: SteppedClock | None = None) -> Salesforce:
    return Salesforce(given, Login(), clock or SteppedClock(), vendor.adapter())


class World:
    """The client and its login, on a simulated org."""

    def __init__(self, org: Org | None = None, private_key: bool = False, clock: Clock | None = None) -> None:
        self.simulator = Simulator(org=org)
        self.org = self.simulator.salesforce
        environment = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", **mount.environment(self.simulator, private_key)}
        given = Settings.from_environment(environment)
        self.login = SalesforceLogin(given, http_client(given, transport=mount.httpx_transport(self.simulator)), clock or Clock())
        self.client = Salesforce(given, self.login, clock or Clock(), mount.requests_adapter(self.simulator))


# what an error means


def body(code: str, message: str = "words", **more: Any) -> list[dict[str, Any]]:
    return [{"message": message, "errorCode": code, "fields": [], **more}]


@pytest.mark.parametrize(
    ("status", "given", "kind"),
    [
        (400, body("FIELD_CUSTOM_VALIDATION_EXCEPTION"), Refused),
        (400, body("REQUIRED_FIELD_MISSING"), Refused),
        (400, body("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"), Refused),
        (400, body("STRING_TOO_LONG"), Refused),
        (400, body("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"), Refused),
        (403, body("INSUFFICIENT_ACCESS_OR_READONLY"), Refused),
        (400, body("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"), Refused),
        (400, body("CANNOT_EXECUTE_FLOW_TRIGGER", "flow: UNABLE_TO_LOCK_ROW"), TryLater),
        # A dead id in a lookup is about that field; only a 404 is about the record itself.
        (400, body("INVALID_CROSS_REFERENCE_KEY"), Refused),
        (404, body("INVALID_CROSS_REFERENCE_KEY"), Gone),
        (404, body("ENTITY_IS_DELETED"), Gone),
        (404, [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}], Gone),
        (400, body("UNABLE_TO_LOCK_ROW"), TryLater),
        (500, body("UNABLE_TO_LOCK_ROW"), TryLater),
        (400, body("ENTITY_IS_LOCKED"), TryLater),
        (400, body("QUERY_TIMEOUT"), TryLater),
        (400, body("INVALID_QUERY_LOCATOR"), TryLater),
        (403, body("REQUEST_LIMIT_EXCEEDED"), TryLater),
        (503, "<html>maintenance</html>", TryLater),
        (502, "", TryLater),
        (500, None, TryLater),
        (429, [], TryLater),
        (401, body("INVALID_SESSION_ID"), SignInFailed),
        (401, "<html>", SignInFailed),
        (412, None, VersionConflict),
        (400, body("INVALID_FIELD"), Misconfigured),
        (400, body("INVALID_FIELD_FOR_INSERT_UPDATE"), Misconfigured),
        (400, body("MALFORMED_QUERY"), Misconfigured),
        (400, body("INVALID_TYPE"), Misconfigured),
        (403, body("API_DISABLED_FOR_ORG"), Misconfigured),
        (403, "<html>", Misconfigured),
        (410, body("UNSUPPORTED_API_VERSION"), Misconfigured),
        (302, "", Misconfigured),
        (300, ["/services/data/v66.0/sobjects/Account/001"], Refused),
        (400, body("DUPLICATE_VALUE"), AlreadyExists),
        (400, body("DUPLICATES_DETECTED"), DuplicateFound),
        (400, [{"statusCode": "UNABLE_TO_LOCK_ROW", "message": "x", "fields": []}], TryLater),
        (400, {"unexpected": "object"}, Refused),
        (400, ["text", 5, None], Refused),
        (400, [{"message": None, "errorCode": None}], Refused),
    ],
)
def test_every_answer_means_what_should_happen_next(status: int, given: Any, kind: type[ConnectorError]) -> None:
    error = decode_error(status, given, "updating Opportunity 006")
    assert type(error) is kind
    assert str(error).startswith(f"updating Opportunity 006: HTTP {status}")
    assert "<html>" not in str(error)


def test_a_refusal_carries_the_administrators_words_and_every_one_of_them() -> None:
    error = decode_error(400, [*body("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Bitte Datum prüfen"), *body("STRING_TOO_LONG", "Too long")])
    assert isinstance(error, Refused)
    assert (error.words, error.code) == ("Bitte Datum prüfen; Too long", "FIELD_CUSTOM_VALIDATION_EXCEPTION")


def test_the_daily_limit_waits_longer_than_a_busy_moment() -> None:
    daily = decode_error(403, body("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
    busy = decode_error(403, body("REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."))
    assert isinstance(daily, TryLater)
    assert isinstance(busy, TryLater)
    assert (daily.retry_after, busy.retry_after) == (3600.0, None)


def test_a_taken_key_names_the_record_that_has_it() -> None:
    error = decode_error(400, body("DUPLICATE_VALUE", f"duplicate value found: Co_sell_Key__c duplicates value on record with id: {ID}"))
    assert isinstance(error, AlreadyExists)
    assert error.record_id == ID
    hidden = decode_error(400, body("DUPLICATE_VALUE", "valeur en double"))
    assert isinstance(hidden, AlreadyExists)
    assert hidden.record_id is None


@pytest.mark.parametrize("key", ["duplicateResut", "duplicateResult"])
def test_a_duplicate_rule_names_the_one_certain_match_in_either_spelling(key: str) -> None:
    def found(*matches: tuple[str, float]) -> str | None:
        records = [{"matchConfidence": sure, "record": {"Id": record_id}} for record_id, sure in matches]
        error = decode_error(400, body("DUPLICATES_DETECTED", **{key: {"matchResults": [{"matchRecords": records}]}}))
        assert isinstance(error, DuplicateFound)
        return error.record_id

    assert found(("003A", 100.0)) == "003A"
    assert found(("003A", 80.0)) is None
    assert found(("003A", 100.0), ("003B", 100.0)) is None
    assert found() is None


def test_a_graph_that_failed_names_the_request_that_broke_it() -> None:
    halted = {"body": body("PROCESSING_HALTED"), "httpStatusCode": 400, "referenceId": "account"}
    culprit = {"body": body("STRING_TOO_LONG", "Name"), "httpStatusCode": 400, "referenceId": "contact"}
    for order in ([halted, culprit], [culprit, halted]):
        told = {"graphs": [{"graphId": "graph", "isSuccessful": False, "graphResponse": {"compositeResponse": order}}]}
        with pytest.raises(Refused, match=r"writing, contact: HTTP 400 STRING_TOO_LONG"):
            graph_ids(told, {"account": "Account", "contact": "Contact"}, "writing")


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"graphs": []},
        {"graphs": [{"isSuccessful": False, "graphResponse": {"compositeResponse": []}}]},
        {"graphs": [{"isSuccessful": True, "graphResponse": None}]},
        {"graphs": [{"isSuccessful": True, "graphResponse": {"compositeResponse": [{"referenceId": "other", "httpStatusCode": 201}]}}]},
    ],
)
def test_a_graph_whose_answer_is_incomplete_may_have_landed(told: dict[str, Any]) -> None:
    with pytest.raises(TryLater):
        graph_ids(told, {"account": "Account"}, "writing")


# what may become part of a query or a path


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("O'Brien", "'O\\'Brien'"),
        ("x' OR Name != '", "'x\\' OR Name != \\''"),
        ("back\\slash'", "'back\\\\slash\\''"),
        ('say "hi"\n\r\t\b\f', "'say \\\"hi\\\"\\n\\r\\t\\b\\f'"),
        ("50%_ Żółć 👍", "'50%_ Żółć 👍'"),
        ("", "''"),
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (Decimal("10000.10"), "10000.10"),
        (Decimal("1E+3"), "1000"),
        (date(2026, 11, 20), "2026-11-20"),
        (datetime(2026, 11, 20, 10, 0, tzinfo=timezone(timedelta(hours=2))), "2026-11-20T08:00:00Z"),
        (datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC), "2026-11-20T10:00:00.123Z"),
        (["a", "b'"], "('a', 'b\\'')"),
        ((1, None), "(1, null)"),
    ],
)
def test_a_value_becomes_a_literal_it_cannot_leave(value: Any, text: str) -> None:
    assert literal(value) == text


@pytest.mark.parametrize(
    "value", [[], (), set(), datetime(2026, 11, 20), Decimal("NaN"), Decimal("1E+999999"), 0.1, [["a"]], {"a": 1}, b"a"]
)
def test_a_value_without_a_literal_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        literal(value)


def test_salesforce_itself_reads_a_hostile_literal_as_text() -> None:
    world = World()
    hostile = "x' OR Name != '\\' \"%_\n#&+ ü"
    record_id = world.client.create("Account", {"Name": hostile})
    world.client.create("Account", {"Name": "another"})
    rows = world.client.query_all(f"SELECT Id FROM Account WHERE Name = {literal(hostile)}")
    assert rows == [{"Id": record_id}]


@pytest.mark.parametrize("name", ["", "a b", "Name,Id", "Id FROM User", "x'", "../x", "1a", "Account.", "ü", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a Salesforce"):
        identifier(name)
    salesforce = client(Answers())
    for call in (
        lambda: salesforce.create(name, {"Name": "x"}),
        lambda: salesforce.create("Account", {name: "x"}),
        lambda: salesforce.update(name, ID, {"Name": "x"}),
        lambda: salesforce.update("Account", ID, {name: "x"}),
        lambda: salesforce.describe(name),
        lambda: salesforce.graph([GraphRequest("account", "POST", name, {})]),
        lambda: salesforce.graph([GraphRequest(name, "POST", "Account", {})]),
    ):
        with pytest.raises(ValueError, match="not a"):
            call()


# An id that begins with //host would send the token there: simple-salesforce joins it as a URL.
@pytest.mark.parametrize("hostile", ["", "//evil.example/x", "006", f"{ID}/../..", f"{ID}?x", f"{ID}\n", "006RM000003kTz%"])
def test_an_id_that_is_none_reaches_no_address(hostile: str) -> None:
    with pytest.raises(Gone):
        client(Answers()).update("Opportunity", hostile, {"Name": "x"})
    if hostile:
        with pytest.raises(Gone):
            client(Answers()).graph([GraphRequest("deal", "PATCH", f"Opportunity/{hostile}", {})])


@pytest.mark.parametrize(
    "link",
    [f"https://evil.example{NEXT}", f"//evil.example{NEXT}", "/services/data/v66.0/query/../x", 5, None],
)
def test_a_next_page_leads_to_no_other_host(link: Any) -> None:
    vendor = Answers(answer(200, {"totalSize": 2, "done": False, "nextRecordsUrl": link, "records": [{"Id": ID}]}))
    with pytest.raises(TryLater, match="next page"):
        client(vendor).query_all("SELECT Id FROM Account")
    assert len(vendor.asked) == 1


# reading


def test_all_pages_are_read_and_nothing_of_salesforces_own_is_left_in_the_records() -> None:
    world = World(org=Org(page_size=2))
    names = [f"Customer {number}" for number in range(5)]
    for name in names:
        world.client.create("Account", {"Name": name})
    page = world.client.query("SELECT Name FROM Account ORDER BY Name")
    assert (page.records, page.done, page.total) == ([{"Name": "Customer 0"}, {"Name": "Customer 1"}], False, 5)
    assert world.client.query_all("SELECT Name FROM Account ORDER BY Name") == [{"Name": name} for name in names]


def test_attributes_go_at_every_depth_and_a_field_of_that_kind_does_not() -> None:
    record = {
        "attributes": {"type": "Opportunity"},
        "Account": {"attributes": {}, "Name": "A"},
        "Lines": {"records": [{"attributes": {}, "Id": "1"}]},
    }
    assert without_attributes(record) == {"Account": {"Name": "A"}, "Lines": {"records": [{"Id": "1"}]}}


def test_a_long_child_list_is_read_to_its_end() -> None:
    parent = {
        "Id": "1",
        "Lines": {"totalSize": 2, "done": False, "nextRecordsUrl": NEXT, "records": [{"Id": "a"}]},
    }
    vendor = Answers(
        answer(200, {"totalSize": 1, "done": True, "records": [parent, {"Id": "2", "Lines": None}]}),
        answer(200, {"totalSize": 2, "done": True, "records": [{"Id": "b"}]}),
    )
    records = client(vendor).query_all("SELECT Id, (SELECT Id FROM Lines) FROM Opportunity")
    assert [line["Id"] for line in records[0]["Lines"]["records"]] == ["a", "b"]


def test_deleted_records_are_seen_on_request() -> None:
    world = World()
    record_id = world.client.create("Account", {"Name": "Fabrikam"})
    world.org.person_deletes("Account", record_id)
    assert world.client.query_all("SELECT Id FROM Account") == []
    assert world.client.query_all("SELECT Id FROM Account WHERE IsDeleted = true", include_deleted=True) == [{"Id": record_id}]


def test_amounts_keep_every_digit_both_ways() -> None:
    vendor = Answers(answer(200, b'{"totalSize":1,"done":true,"records":[{"Amount":0.1,"Count":3}]}'), answer(204))
    salesforce = client(vendor)
    assert salesforce.query("SELECT Amount FROM Opportunity").records == [{"Amount": Decimal("0.1"), "Count": 3}]
    salesforce.update("Opportunity", ID, {"Amount": Decimal("12345678901234.10")})
    assert vendor.asked[1].content == b'{"Amount":12345678901234.10}'


def test_an_object_is_described_once_an_hour_and_its_absence_told_each_time() -> None:
    clock = SteppedClock()
    vendor = Answers(answer(200, {"name": "Account", "fields": []}), answer(200, {"name": "Account", "fields": [1]}))
    salesforce = client(vendor, clock=clock)
    first = salesforce.describe("Account")
    clock.advance(3600)
    assert salesforce.describe("Account") is first
    clock.advance(1)
    assert salesforce.describe("Account") == {"name": "Account", "fields": [1]}
    with pytest.raises(Gone):
        World(org=Org(team_selling=False)).client.describe("OpportunityTeamMember")


def test_the_clock_and_the_budget_are_read_from_every_answer_refusals_too() -> None:
    clock = SteppedClock()
    vendor = Answers(
        answer(
            404,
            body("NOT_FOUND"),
            Date="Fri, 20 Nov 2026 12:34:56 GMT",
            Sforce_Limit_Info="per-app-api-usage=1/2(appName=x); api-usage=18/15000",
        )
    )
    salesforce = client(vendor, clock=clock)
    assert (salesforce.server_time, salesforce.api_usage, salesforce.answered_at) == (None, None, None)
    with pytest.raises(Gone):
        salesforce.describe("Nothing__c")
    clock.advance(4)
    assert salesforce.server_time == datetime(2026, 11, 20, 12, 35, 0, tzinfo=UTC)
    assert salesforce.answered_at == datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)
    assert salesforce.api_usage == (18, 15000)


def test_a_thread_is_told_the_time_of_its_own_answer_and_not_of_anothers() -> None:
    vendor = Answers(
        answer(200, {"records": []}, Date="Fri, 20 Nov 2026 10:00:00 GMT"),
        answer(200, {"records": []}, Date="Fri, 20 Nov 2026 10:00:09 GMT"),
    )
    salesforce = client(vendor)
    salesforce.query("SELECT Id FROM Account")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(salesforce.query, "SELECT Id FROM Account").result(5)
    assert salesforce.answered_at == datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)


def test_rows_of_a_slow_answer_are_as_old_as_its_question(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 103.9])
    monkeypatch.setattr("requests.sessions.preferred_clock", lambda: next(ticks))
    salesforce = client(Answers(answer(200, {"records": []}, Date="Fri, 20 Nov 2026 10:00:09 GMT")))
    salesforce.query("SELECT Id FROM Account")
    assert salesforce.answered_at == datetime(2026, 11, 20, 10, 0, 6, tzinfo=UTC)


# writing


def deal(world: World) -> tuple[str, datetime]:
    """An opportunity and its LastModifiedDate."""
    record_id = world.client.create("Opportunity", {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31"})
    (row,) = world.client.query_all("SELECT LastModifiedDate FROM Opportunity")
    return record_id, datetime.fromisoformat(row["LastModifiedDate"].replace("+0000", "+00:00"))


def test_an_update_of_an_unchanged_record_is_written_and_of_a_changed_one_is_not() -> None:
    world = World()
    record_id, modified = deal(world)
    world.client.update("Opportunity", record_id, {"Amount": Decimal("10.50"), "NextStep": None}, unmodified_since=modified)
    world.simulator.clock.advance(5)
    world.org.person_edits("Opportunity", record_id, {"Name": "Renamed"})
    with pytest.raises(VersionConflict):
        world.client.update("Opportunity", record_id, {"Name": "Overwritten"}, unmodified_since=modified)
    assert world.client.query("SELECT Name, Amount FROM Opportunity").records == [{"Name": "Renamed", "Amount": Decimal("10.5")}]


def test_a_deleted_record_is_gone() -> None:
    world = World()
    record_id, _ = deal(world)
    world.org.person_deletes("Opportunity", record_id)
    with pytest.raises(Gone):
        world.client.update("Opportunity", record_id, {"Name": "x"})


def test_a_unique_key_makes_the_second_insert_find_the_first() -> None:
    world = World()
    fields = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31", "Co_sell_Key__c": "key-1"}
    first = world.client.create("Opportunity", fields)
    with pytest.raises(AlreadyExists) as caught:
        world.client.create("Opportunity", fields)
    # The message shows the short form of the id.
    assert caught.value.record_id == first[:15]
    other = world.client.create("Opportunity", {**fields, "Co_sell_Key__c": "key-2"})
    with pytest.raises(Refused, match="DUPLICATE_VALUE"):
        world.client.update("Opportunity", other, {"Co_sell_Key__c": "key-1"})


def test_a_duplicate_rule_tells_whom_it_matched() -> None:
    world = World(org=Org(duplicate_rules=(KEY_RULE,)))
    fields = {"LastName": "Moreau", "Email": "dana.moreau@fabrikam.example"}
    first = world.client.create("Contact", fields)
    with pytest.raises(DuplicateFound) as caught:
        world.client.create("Contact", fields)
    assert caught.value.record_id == first


ACCOUNT = GraphRequest("account", "POST", "Account", {"Name": "Fabrikam"})


def test_a_graph_writes_all_of_it_or_nothing() -> None:
    world = World()
    fields = {
        "Name": "Deal",
        "StageName": "Prospecting",
        "CloseDate": "2027-01-31",
        "AccountId": "@{account.id}",
        "Amount": Decimal("0.10"),
    }
    ids = world.client.graph([ACCOUNT, GraphRequest("opportunity", "POST", "Opportunity", fields)])
    assert world.client.query_all("SELECT Id, AccountId, Amount FROM Opportunity") == [
        {"Id": ids["opportunity"], "AccountId": ids["account"], "Amount": Decimal("0.1")}
    ]
    updated = world.client.graph([GraphRequest("again", "PATCH", f"Account/{ids['account']}", {"Name": "Fabrikam Ltd"})])
    assert updated == {"again": ids["account"]}
    with pytest.raises(Refused, match="opportunity: HTTP 400 REQUIRED_FIELD_MISSING"):
        world.client.graph([ACCOUNT, GraphRequest("opportunity", "POST", "Opportunity", {"Name": "No stage"})])
    assert [row["Name"] for row in world.client.query_all("SELECT Name FROM Account")] == ["Fabrikam Ltd"]


def test_a_taken_key_inside_a_graph_is_known_as_such() -> None:
    world = World()
    fields = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31", "Co_sell_Key__c": "key-1"}
    requests_of_a_deal = [ACCOUNT, GraphRequest("opportunity", "POST", "Opportunity", {**fields, "AccountId": "@{account.id}"})]
    world.client.graph(requests_of_a_deal)
    with pytest.raises(AlreadyExists):
        world.client.graph(requests_of_a_deal)
    assert len(world.client.query_all("SELECT Id FROM Account")) == 1


def test_references_of_a_graph_are_distinct() -> None:
    for given in ([], [ACCOUNT, ACCOUNT]):
        with pytest.raises(ValueError, match="reference of its own"):
            client(Answers()).graph(given)


def test_a_create_whose_answer_is_lost_is_not_repeated() -> None:
    world = World()
    world.simulator.faults.add(Fault("salesforce", "POST", "*/sobjects/*", cut="after"))
    with pytest.raises(TryLater):
        world.client.create("Account", {"Name": "Fabrikam"})
    assert len(world.client.query_all("SELECT Id FROM Account")) == 1


@pytest.mark.parametrize("garbled", [answer(200, b"<html>"), answer(201, b'{"id": "00'), answer(201, b"{}"), answer(201, b"[]")])
def test_a_create_whose_answer_cannot_be_read_may_have_landed(garbled: httpx.Response) -> None:
    with pytest.raises(TryLater):
        client(Answers(garbled)).create("Account", {"Name": "Fabrikam"})


def test_in_shadow_mode_reads_pass_and_writes_never_leave() -> None:
    vendor = Answers(answer(200, {"totalSize": 0, "done": True, "records": []}))
    salesforce = client(vendor, settings(sync_mode="shadow"))
    assert salesforce.query("SELECT Id FROM Account").records == []
    for write in (
        lambda: salesforce.create("Account", {"Name": "x"}),
        lambda: salesforce.update("Account", ID, {"Name": "x"}),
        lambda: salesforce.graph([ACCOUNT]),
    ):
        with pytest.raises(ShadowMode):
            write()
    assert len(vendor.asked) == 1


# what simple-salesforce gets wrong, and this client does not


def test_every_call_has_a_time_limit() -> None:
    vendor = Answers(answer(200, {"records": []}), answer(201, {"id": ID}), answer(204), answer(200, {"name": "x"}))
    adapter: Any = vendor.adapter()
    salesforce = Salesforce(settings(call_timeout_seconds=7.5), Login(), SteppedClock(), adapter)
    salesforce.query("SELECT Id FROM Account")
    salesforce.create("Account", {"Name": "x"})
    salesforce.update("Account", ID, {"Name": "x"})
    salesforce.describe("Account")
    assert adapter.timeouts == [7.5] * 4


def test_a_401_is_repeated_once_with_a_new_token_and_the_same_headers() -> None:
    for refusal in (answer(401, body("INVALID_SESSION_ID")), answer(401, b"<html>not JSON</html>"), answer(401)):
        vendor = Answers(refusal, answer(204))
        client(vendor).update("Opportunity", ID, {"Name": "x"}, unmodified_since=NOW)
        first, second = vendor.asked
        assert (first.headers["Authorization"], second.headers["Authorization"]) == ("Bearer token-1", "Bearer token-2")
        assert first.headers["If-Unmodified-Since"] == second.headers["If-Unmodified-Since"] == "Fri, 20 Nov 2026 10:00:00 GMT"
        assert first.content == second.content


def test_a_second_401_is_a_failed_sign_in_and_no_third_request() -> None:
    vendor = Answers(*[answer(401, body("INVALID_SESSION_ID"))] * 2)
    with pytest.raises(SignInFailed):
        client(vendor).query("SELECT Id FROM Account")
    assert len(vendor.asked) == 2


def test_a_session_that_moved_to_another_instance_is_followed_there() -> None:
    class Moving(Login):
        def session(self) -> Session:
            return Session(f"token-{self.number}", f"https://pod{self.number}.my.salesforce.com")

    vendor = Answers(answer(401), answer(200, {"records": []}))
    Salesforce(SETTINGS, Moving(), SteppedClock(), vendor.adapter()).query("SELECT Id FROM Account")
    assert [request.url.host for request in vendor.asked] == ["pod1.my.salesforce.com", "pod2.my.salesforce.com"]


def test_a_redirect_is_not_followed() -> None:
    vendor = Answers(answer(302, Location="https://evil.example/services/data"))
    with pytest.raises(Misconfigured, match="SALESFORCE_LOGIN_URL"):
        client(vendor).query("SELECT Id FROM Account")


def test_no_error_shows_a_token_or_a_querys_text() -> None:
    world = World()
    soql = "SELECT Id FROM Contact WHERE Email = 'dana.moreau@fabrikam.example'"
    for fault in (
        Fault("salesforce", "GET", cut="before"),
        Fault("salesforce", "GET", status=503),
        Fault("salesforce", "GET", html=True, status=200),
    ):
        world.simulator.faults.add(fault)
        with pytest.raises(TryLater) as caught:
            world.client.query(soql)
        # The libraries' own errors show the URL, and with it the query: a traceback must not follow them.
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "dana.moreau" not in str(caught.value)
        assert world.login.session().token not in str(caught.value)
    assert "!" not in repr(world.login.session())


def test_neither_the_environment_nor_netrc_can_change_trust_or_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/other.pem")
    seen: list[Any] = []

    class Keeps(requests.adapters.BaseAdapter):
        def send(self, request: Any, *_: Any, **options: Any) -> Any:
            seen.append(options["verify"])
            raise requests.ConnectionError

        def close(self) -> None: ...

    session = requests_session(settings(ca_bundle="/our/roots.pem"), lambda _: None, Keeps())
    with pytest.raises(requests.ConnectionError):
        session.get("https://fabrikam.my.salesforce.com/")
    assert seen == ["/our/roots.pem"]


def test_many_threads_work_side_by_side_on_one_login() -> None:
    world = World()
    barrier = threading.Barrier(6)

    def work(number: int) -> str:
        barrier.wait(5)
        return world.client.create("Account", {"Name": f"Customer {number}"})

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(work, range(6)))
    assert len(ids) == 6
    assert world.org.login.logins == 1


# signing in


@pytest.mark.parametrize("private_key", [False, True])
def test_both_ways_of_signing_in_are_accepted(private_key: bool) -> None:
    assert World(private_key=private_key).client.query_all("SELECT Id FROM Account") == []


def test_an_expired_session_is_renewed_by_one_thread_for_all() -> None:
    world = World()
    world.client.sign_in()
    world.org.login.end_sessions()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: world.client.query("SELECT Id FROM Account"), range(12)))
    assert world.org.login.logins == 2


def test_a_session_is_replaced_before_a_short_policy_would_end_it() -> None:
    clock = SteppedClock()
    world = World(clock=clock)
    world.client.sign_in()
    clock.advance(50 * 60 - 1)
    world.client.sign_in()
    assert world.org.login.logins == 1
    clock.advance(1)
    world.client.sign_in()
    assert world.org.login.logins == 2


def test_an_api_that_refuses_every_session_does_not_start_a_login_storm() -> None:
    clock = SteppedClock()
    world = World(clock=clock)
    world.simulator.faults.add(Fault("salesforce", "GET", status=401, count=1000))
    for _ in range(50):
        with pytest.raises(SignInFailed):
            world.client.query("SELECT Id FROM Account")
    assert world.org.login.logins == 5


def test_a_refused_login_is_not_repeated_within_a_minute() -> None:
    clock = SteppedClock()
    world = World(clock=clock)
    world.org.login.refuse_with = "inactive_user"
    for _ in range(3):
        with pytest.raises(SignInFailed, match="activate the integration user"):
            world.client.query("SELECT Id FROM Account")
    assert len([call for call in world.simulator.journal.calls("salesforce") if call.path.endswith("/token")]) == 1
    world.org.login.refuse_with = None
    clock.advance(60)
    world.client.sign_in()


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"login_rate"}))
def test_every_refusal_of_a_login_ends_with_what_to_do(scenario: str) -> None:
    error, description = SCENARIOS[scenario]
    told = decode_login_error(400, {"error": error, **({"error_description": description} if description else {})})
    assert isinstance(told, SignInFailed)
    assert error in str(told)
    assert any(str(told).endswith(remedy) for _, _, remedy in REMEDIES)


def test_too_many_logins_wait_an_hour() -> None:
    error, description = SCENARIOS["login_rate"]
    told = decode_login_error(400, {"error": error, "error_description": description})
    assert isinstance(told, TryLater)
    assert told.retry_after == 3600


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer(503, b"<html>"), TryLater),
        (answer(429), TryLater),
        (httpx.ReadTimeout("slow"), TryLater),
        (answer(200, b"<html>"), SignInFailed),
        (answer(200, {"access_token": "t"}), SignInFailed),
        (answer(200, {"access_token": "t", "instance_url": "http://fabrikam.my.salesforce.com"}), SignInFailed),
        (answer(200, {"access_token": "t", "instance_url": "https://user@evil.example"}), SignInFailed),
        (answer(400, ["not", "an", "object"]), SignInFailed),
    ],
)
def test_a_login_without_a_usable_session_is_an_error(given: Any, kind: type[ConnectorError]) -> None:
    vendor = Answers(given)
    with pytest.raises(kind) as caught:
        SalesforceLogin(SETTINGS, http_client(SETTINGS, transport=vendor.transport()), SteppedClock()).session()
    assert "consumer-secret" not in str(caught.value)


def test_the_assertion_is_short_lived_and_meant_for_the_login_service() -> None:
    import jwt

    world = World(private_key=True)
    world.client.sign_in()
    form = json.loads(json.dumps(dict(httpx.QueryParams(world.simulator.journal.calls("salesforce")[0].body.decode()))))
    claims = jwt.decode(form["assertion"], options={"verify_signature": False})
    assert claims["aud"] == "https://login.salesforce.com"
    assert timedelta() < datetime.fromtimestamp(claims["exp"], UTC) - datetime.now(UTC) <= timedelta(minutes=3)


def test_a_key_that_is_none_is_named_and_not_shown() -> None:
    given = settings(salesforce_private_key="-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", salesforce_username="u")
    with pytest.raises(Misconfigured, match="SALESFORCE_PRIVATE_KEY") as caught:
        SalesforceLogin(given, http_client(given, transport=Answers().transport()), SteppedClock()).session()
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    ("login_url", "expected"),
    [
        ("https://fabrikam.my.salesforce.com", "https://login.salesforce.com"),
        ("https://login.salesforce.com", "https://login.salesforce.com"),
        ("https://test.salesforce.com", "https://test.salesforce.com"),
        ("https://fabrikam--uat.sandbox.my.salesforce.com", "https://test.salesforce.com"),
    ],
)
def test_the_audience_follows_the_kind_of_org(login_url: str, expected: str) -> None:
    assert audience(login_url) == expected
