"""The Salesforce simulator against recorded answers, the published grammar of SOQL, and the refusals a connector must survive."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from simple_salesforce import Salesforce as Client
from simple_salesforce.exceptions import SalesforceExpiredSession

from simulator.core import Clock, Request, Response
from simulator.salesforce import App, DuplicateRule, Org, Refusal, Salesforce, ValidationRule, Write, refusal
from simulator.salesforce.ids import canonical, make_id, with_checksum
from simulator.salesforce.login import JWT_BEARER, SCENARIOS
from simulator.salesforce.schema import text

SAMPLES = Path(__file__).parent / "samples" / "salesforce"
START = datetime(2027, 1, 5, 12, tzinfo=UTC)
SECRET = App("contoso-connector", "integration@contoso.example", secret="not-a-real-secret")
OPPORTUNITY = {"Name": "Fabrikam data estate", "StageName": "Prospecting", "CloseDate": "2027-06-30"}


class Caller:
    """The integration user, signed in."""

    def __init__(self, org: Org | None = None) -> None:
        self.clock = Clock(START)
        self.sf = Salesforce(self.clock, org)
        self.sf.login.register(SECRET)
        self.token = self.sign_in().json()["access_token"]

    def sign_in(self, **form: str) -> Response:
        form = form or {"grant_type": "client_credentials", "client_id": SECRET.client_id, "client_secret": SECRET.secret or ""}
        return self.sf.handle(Request("salesforce", "POST", "/services/oauth2/token", body=urlencode(form).encode()))

    def __call__(self, method: str, path: str, body: Any = None, version: str = "66.0", **headers: str) -> Response:
        path, _, query = path.partition("?")
        sent = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = b"" if body is None else json.dumps(body).encode()
        return self.sf.handle(Request("salesforce", method, f"/services/data/v{version}{path}", query, sent, content))

    def ask(self, soql: str, resource: str = "query") -> Response:
        return self("GET", f"/{resource}?q={quote(soql)}")

    def query(self, soql: str, resource: str = "query") -> Any:
        answer = self.ask(soql, resource)
        assert answer.status == 200, answer.json()
        return answer.json()

    def ids(self, soql: str, resource: str = "query") -> list[str]:
        return [record["Id"] for record in self.query(soql, resource)["records"]]

    def create(self, name: str, **fields: Any) -> str:
        answer = self("POST", f"/sobjects/{name}", fields)
        assert answer.status == 201, answer.json()
        return str(answer.json()["id"])

    def opportunity(self, **fields: Any) -> str:
        return self.create("Opportunity", **{**OPPORTUNITY, **fields})


@pytest.fixture
def org() -> Caller:
    return Caller()


def codes(answer: Response) -> list[str]:
    return [entry["errorCode"] for entry in answer.json()]


def refused(answer: Response, status: int, *expected: str) -> None:
    assert (answer.status, codes(answer)) == (status, list(expected))


def http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def sample(name: str) -> Any:
    recorded = json.loads((SAMPLES / name).read_text())
    return (recorded["interactions"][0] if "interactions" in recorded else recorded)["response"]


# the recorded answers


def replay_missing(org: Caller) -> Response:
    return org("GET", f"/sobjects/Account/{make_id('001', 7)}")


def replay_second_delete(org: Caller) -> Response:
    contact = org.create("Contact", LastName="Moreau")
    org("DELETE", f"/sobjects/Contact/{contact}")
    return org("DELETE", f"/sobjects/Contact/{contact}")


def replay_composite_error(org: Caller) -> Response:
    item = {"method": "GET", "url": "/services/data/v66.0/sobjects/Foo", "referenceId": "CCI__RefId__0__"}
    return org("POST", "/composite", {"compositeRequest": [item]})


def replay_composite_queries(org: Caller) -> Response:
    url = "/services/data/v66.0/query?q=SELECT Id FROM Account LIMIT 1"
    return org("POST", "/composite", {"compositeRequest": [{"method": "GET", "url": url, "referenceId": name} for name in ("one", "two")]})


def replay_query(org: Caller) -> Response:
    org.create("Contact", LastName="Moreau", Email="dana@fabrikam.example")
    return org.ask("select Id, SystemModstamp, LastModifiedById, Email from Contact")


def replay_update(org: Caller) -> Response:
    return org("PATCH", f"/sobjects/Opportunity/{org.opportunity()}", {"NextStep": "Call"})


def replay_upsert(org: Caller, times: int, version: str) -> Response:
    answers = [org("PATCH", "/sobjects/Opportunity/Referral_Identifier__c/a%3A1", OPPORTUNITY, version) for _ in range(times)]
    return answers[-1]


def replay_collection(org: Caller) -> Response:
    return org("POST", "/composite/sobjects", {"allOrNone": False, "records": [{"attributes": {"type": "Account"}, "Name": "Fabrikam"}]})


REPLAYS: dict[str, Callable[[Caller], Response]] = {
    "restforce-01_post_201_sobjects_Contact.json": lambda org: org("POST", "/sobjects/Contact", {"LastName": "Moreau"}),
    "restforce-06_get_200_query_q_select_Id_ID_ID_Email_from_Cont.json": replay_query,
    "restforce-07_delete_204_sobjects_Contact_ID.json": lambda org: org("DELETE", f"/sobjects/Account/{org.create('Account', Name='A')}"),
    "restforce-12_delete_404_sobjects_ID__c_ID.json": replay_second_delete,
    "restforce-16_patch_204_sobjects_CustomObject__c_ID.json": replay_update,
    "restforce-18_patch_201_sobjects_CustomObject__c_ID__c_CustomOb.json": lambda org: replay_upsert(org, 1, "45.0"),
    "restforce-19_patch_204_sobjects_CustomObject__c_ID__c_CustomOb.json": lambda org: replay_upsert(org, 2, "45.0"),
    "grouparoo-02_post_200_composite_sobjects.json": replay_collection,
    "grouparoo-10_get_404_sobjects_Account_ID.json": replay_missing,
    "TestCompositeParallelSalesforce.test_errors.json": replay_composite_error,
    "TestCompositeParallelSalesforce.test_reference_ids.json": replay_composite_queries,
}


def shape(value: Any) -> Any:
    """Keys in order and types of values; codes and messages of errors as they are."""
    if isinstance(value, list):
        return [shape(part) for part in value]
    if isinstance(value, dict):
        return [(key, part if key in ("errorCode", "message") else shape(part)) for key, part in value.items()]
    return type(value).__name__


@pytest.mark.parametrize("name", REPLAYS)
def test_an_answer_has_the_shape_of_the_recorded_one(org: Caller, name: str) -> None:
    recorded, answer = sample(name), REPLAYS[name](org)
    assert answer.status == recorded["status"]
    assert shape(answer.json() if answer.body else None) == shape(recorded["body"])
    assert {"Date", "Sforce-Limit-Info", "Location"} & set(recorded["headers"]) <= set(answer.headers)


def test_a_record_shows_its_fields_in_the_recorded_order(org: Caller) -> None:
    recorded = sample("grouparoo-04_get_200_sobjects_Account_ID.json")
    answer = org("GET", f"/sobjects/Account/{org.create('Account', Name='Fabrikam')}")
    ours, theirs = list(answer.json()), list(recorded["body"])
    standard = [key for key in ours if key != "CurrencyIsoCode"]
    assert standard[:8] == theirs[:8]
    assert set(standard) <= set(theirs)
    assert {"ETag", "Last-Modified", "Sforce-Limit-Info"} <= set(answer.headers) & set(recorded["headers"])


@pytest.mark.parametrize("name", ["Opportunity", "OpportunityContactRole"])
def test_a_describe_agrees_with_the_recorded_one(name: str) -> None:
    recorded = sample(f"GET_sobjects_{name}_describe.json")["body"]
    ours = Caller(Org(multi_currency=False))("GET", f"/sobjects/{name}/describe").json()
    always = {"associateEntityType", "associateParentEntity", "sobjectDescribeOption"}  # not in every version
    assert set(recorded) - always <= set(ours)
    assert ours["keyPrefix"] == recorded["keyPrefix"]
    assert shape(ours["recordTypeInfos"]) == shape(recorded["recordTypeInfos"])
    theirs = {field["name"]: field for field in recorded["fields"]}
    compared = ("type", "soapType", "length", "precision", "scale", "digits", "nillable", "createable", "updateable", "filterable")
    compared += (
        "sortable",
        "groupable",
        "referenceTo",
        "relationshipName",
        "restrictedPicklist",
        "defaultedOnCreate",
        "nameField",
        "idLookup",
    )
    standard = [field for field in ours["fields"] if not field["custom"]]
    assert len(standard) >= len(theirs) - 3
    for field in standard:
        assert set(field) == set(theirs[field["name"]])
        assert {key: field[key] for key in compared} == {key: theirs[field["name"]][key] for key in compared}, field["name"]
    known = {(child["childSObject"], child["field"], child["relationshipName"]) for child in recorded["childRelationships"]}
    if name == "Opportunity":
        assert ("OpportunityContactRole", "OpportunityId", "OpportunityContactRoles") in known
        children = {(child["childSObject"], child["relationshipName"]) for child in ours["childRelationships"]}
        assert ("Microsoft_Solutions__c", "Opportunity_To_Microsoft_Solutions__r") in children


def test_an_id_of_15_characters_becomes_the_recorded_18() -> None:
    texts = [path.read_text() for path in SAMPLES.glob("*.json")]
    recorded = {word for text in texts for word in json.dumps(json.loads(text)).replace("/", '"').split('"') if len(word) == 18}
    recorded = {word for word in recorded if word[:3] in ("001", "003", "005", "00D", "a00", "a01", "0TO", "012") and word.isalnum()}
    assert len(recorded) >= 8
    assert all(with_checksum(word[:15]) == word for word in recorded)
    assert canonical("0014S000007NxmlQAD") is None  # wrong check characters
    assert canonical("0014S000007Nxml") == "0014S000007NxmlQAC"


# signing in


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def assertion(key: rsa.RSAPrivateKey, **claims: Any) -> dict[str, str]:
    expiry = int((START + timedelta(minutes=2)).timestamp())
    full = {"iss": "jwt-app", "sub": SECRET.username, "aud": "https://login.salesforce.com", "exp": expiry, **claims}
    return {"grant_type": JWT_BEARER, "assertion": jwt.encode(full, key, "RS256")}


def trusted(org: Caller, key: rsa.RSAPrivateKey) -> Caller:
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    org.sf.login.register(App("jwt-app", SECRET.username, public_key=pem))
    return org


def test_a_signed_assertion_gets_a_session_without_an_expiry(org: Caller, key: rsa.RSAPrivateKey) -> None:
    answer = trusted(org, key).sign_in(**assertion(key))
    assert answer.status == 200
    assert set(answer.json()) == {"access_token", "instance_url", "id", "token_type", "scope"}
    assert answer.json()["id"].endswith(f"/{org.sf.integration_user_id}")
    assert answer.headers["Cache-Control"] == "no-cache, no-store"
    assert "Sforce-Limit-Info" not in answer.headers


def test_a_secret_gets_the_recorded_token_answer(org: Caller) -> None:
    assert set(org.sign_in().json()) == set(sample("restforce-00_post_200_host_services_oauth_token.json")["body"])


@pytest.mark.parametrize(
    ("claims", "scenario"),
    [
        ({"aud": "https://contoso.my.salesforce.com"}, "audience"),
        ({"exp": int(START.timestamp())}, "expired_assertion"),
        ({"exp": int(START.timestamp() + 100) * 1000}, "expired_assertion"),
        ({"exp": int(START.timestamp()) + 600}, "expired_assertion"),
        ({"sub": "somebody@contoso.example"}, "not_approved"),
        ({"iss": "another-app"}, "client_id"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(org: Caller, key: rsa.RSAPrivateKey, claims: dict[str, Any], scenario: str) -> None:
    answer = trusted(org, key).sign_in(**assertion(key, **claims))
    error, description = SCENARIOS[scenario]
    assert (answer.status, answer.json()) == (400, {"error": error, "error_description": description})


def test_an_assertion_signed_with_another_key_is_refused(org: Caller, key: rsa.RSAPrivateKey) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert trusted(org, key).sign_in(**assertion(other)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_known_refusal_of_a_sign_in_can_be_played(org: Caller, scenario: str) -> None:
    org.sf.login.refuse_with = scenario
    answer = org.sign_in()
    assert (answer.status, answer.json()["error"]) == (400, SCENARIOS[scenario][0])
    assert org.sf.login.logins == 1


def test_a_session_ends_after_two_idle_hours_and_slides_with_use(org: Caller) -> None:
    for _ in range(3):
        org.clock.advance(3600)
        assert org("GET", "/limits").status == 200
    org.clock.advance(7201)
    answer = org("GET", "/limits")
    refused(answer, 401, "INVALID_SESSION_ID")
    assert "fields" not in answer.json()[0]
    assert "Sforce-Limit-Info" not in answer.headers


def test_a_revoked_session_is_refused_and_no_header_is_another_fault(org: Caller) -> None:
    org.sf.login.end_sessions()
    refused(org("GET", "/sobjects"), 401, "INVALID_SESSION_ID")
    refused(org("GET", "/sobjects", authorization=""), 401, "INVALID_AUTH_HEADER")


# SOQL

ACCEPTED = [
    "SELECT Id FROM Account WHERE NOT (Name = 'a')",
    "SELECT Id FROM Account WHERE NOT Name = 'a'",
    "SELECT Id FROM Account WHERE (NOT Name = 'a') AND (NOT (Name = 'b'))",
    "SELECT Id FROM Account WHERE Name = 'b' OR (Name = 'a' AND Name = 'c')",
    "SELECT Id FROM Account WHERE ((Name = 'b'))",
    "SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00:00Z",
    "SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00:00.123456Z",
    "SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00:00+00:00",
    "SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00:00.000+0000",
    "SELECT Id FROM Account WHERE Name = null AND Name != NULL",
    "SELECT Id FROM Account WHERE Name = 'it\\'s'",
    "SELECT Id FROM Account a WHERE a.Name = 'x'",
    "SELECT Id FROM Account WHERE AnnualRevenue = +5",
    "SELECT Id FROM Account WHERE Name IN ('a', null)",
    "SELECT Id, (SELECT Id FROM Contacts WHERE LastName = 'x' ORDER BY LastName LIMIT 2) FROM Account",
    "SELECT Id FROM Account WHERE Id IN (SELECT AccountId FROM Contact) AND Name = 'b'",
    "SELECT Id FROM Account FOR VIEW",
    "SELECT Id FROM Account WHERE Name = ''",
    "SELECT Id FROM Account WHERE Name='a'AND Name='b'",
    "SELECT Id FROM Account ORDER BY Name NULLS LAST, Id DESC LIMIT 5 OFFSET 5",
    "SELECT Id FROM Account WHERE Name <> 'b' LIMIT 0",
    "SELECT Id FROM Opportunity WHERE CloseDate = LAST_N_DAYS:3",
    "SELECT COUNT(Id) c FROM Account",
    "select id from account where name like 'a%'",
]
REFUSED = [
    ("SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'", "unexpected token: OR"),
    ("SELECT Id FROM Account WHERE NOT Name = 'a' AND Name = 'b'", "unexpected token: AND"),
    ("SELECT Id FROM Account WHERE Name = 'b' AND NOT (Name = 'a')", "unexpected token: NOT"),
    ("SELECT Id FROM Account WHERE NOT NOT Name = 'a'", "unexpected token: NOT"),
    ("SELECT Id FROM Account WHERE Name NOT LIKE 'b'", "unexpected token"),
    ("SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00:00", "unexpected token: T00"),
    ("SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00Z", "unexpected token: T00"),
    ('SELECT Id FROM Account WHERE Name = "a"', "no viable alternative at character '\"'"),
    ("SELECT Id FROM Account WHERE Name = 'a", "no viable alternative at character"),
    ("SELECT Id FROM Account WHERE Name IN ()", "unexpected token: )"),
    ("SELECT Id FROM Account WHERE Name IN :names", "unexpected token: :"),
    ("SELECT Id FROM Account ALL ROWS", "unexpected token: ROWS"),
    ("SELECT Id FROM Account LIMIT 5 ORDER BY Id", "unexpected token: ORDER"),
    ("SELECT Id FROM Account OFFSET 5 LIMIT 5", "unexpected token: LIMIT"),
    ("SELECT Id FROM Account WHERE Name = 'a\\qb'", "Illegal character sequence"),
    ("SELECT Id FROM Account WHERE Name == 'b'", "unexpected token: ="),
    ("SELECT COUNT(), Id FROM Account", "unexpected token: ,"),
    ("SELECT Id,FROM Account", "unexpected token: FROM"),
    ("SELECT Id FROM Account FOR UPDATE", "unexpected token: UPDATE"),
    ("SELECT Id FROM Account -- all", "no viable alternative at character '-'"),
    ("SELECT Id FROM Account WHERE AnnualRevenue = 5.", "no viable alternative at character '.'"),
    ("SELECT * FROM Account", "no viable alternative at character '*'"),
    ("", "unexpected token: <EOF>"),
]


@pytest.mark.parametrize("soql", ACCEPTED)
def test_soql_that_the_published_grammar_accepts(org: Caller, soql: str) -> None:
    assert org.query(soql)["done"]


@pytest.mark.parametrize(("soql", "message"), REFUSED)
def test_soql_that_the_published_grammar_refuses(org: Caller, soql: str, message: str) -> None:
    answer = org.ask(soql)
    refused(answer, 400, "MALFORMED_QUERY")
    assert message in answer.json()[0]["message"]


@pytest.mark.parametrize(
    ("soql", "code", "message"),
    [
        ("SELECT Foo FROM Account", "INVALID_FIELD", "No such column 'Foo' on entity 'Account'"),
        ("SELECT Id, id FROM Account", "MALFORMED_QUERY", "duplicate field selected: id"),
        ("SELECT Id FROM XYZZY", "INVALID_TYPE", "sObject type 'XYZZY' is not supported"),
        ("SELECT Acount.Name FROM Opportunity", "INVALID_FIELD", "Didn't understand relationship 'Acount' in field path"),
        ("SELECT Id, (SELECT Id FROM Nobody) FROM Account", "INVALID_TYPE", "Didn't understand relationship 'Nobody' in FROM part"),
        ("SELECT Id FROM Opportunity WHERE Description = 'x'", "INVALID_FIELD", "'Description' can not be filtered"),
        ("SELECT Id FROM Opportunity WHERE Audit__c LIKE 'x%'", "INVALID_FIELD", "'Audit__c' can not be filtered"),
        ("SELECT Id FROM Opportunity ORDER BY Description", "INVALID_FIELD", "'Description' can not be sorted"),
        ("SELECT Id FROM Opportunity WHERE CreatedDate > '2026-01-01T00:00:00Z'", "INVALID_FIELD", "should not be enclosed in quotes"),
        ("SELECT Id FROM Opportunity WHERE CreatedDate > 2026-01-01", "INVALID_FIELD", "must be of type datetime"),
        ("SELECT Id FROM Opportunity WHERE Name = 5", "INVALID_FIELD", "should be enclosed in quotes"),
        ("SELECT Id FROM Opportunity WHERE Id = 'foo'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: foo"),
        ("SELECT Id FROM Opportunity OFFSET 3000", "NUMBER_OUTSIDE_VALID_RANGE", "2000"),
    ],
)
def test_soql_about_what_is_not_there_is_refused_with_its_code(org: Caller, soql: str, code: str, message: str) -> None:
    answer = org.ask(soql)
    refused(answer, 400, code)
    assert message in answer.json()[0]["message"]


def test_a_soql_error_starts_with_an_empty_line_and_a_caret(org: Caller) -> None:
    answer = org.ask("SELECT Foo FROM Account")
    assert answer.json()[0]["message"].startswith("\nSELECT Foo FROM Account\n       ^\nERROR at Row:1:Column:8\nNo such column")


def test_null_is_unequal_sorts_first_and_is_below_nothing(org: Caller) -> None:
    a, b, none = (org.opportunity(NextStep=step) for step in ("Alpha", "beta", None))
    assert set(org.ids("SELECT Id FROM Opportunity WHERE NextStep != 'alpha'")) == {b, none}
    assert org.ids("SELECT Id FROM Opportunity WHERE NextStep < 'zz' ORDER BY NextStep") == [a, b]
    assert org.ids("SELECT Id FROM Opportunity ORDER BY NextStep") == [none, a, b]
    assert org.ids("SELECT Id FROM Opportunity ORDER BY NextStep DESC NULLS LAST") == [b, a, none]
    assert org.ids("SELECT Id FROM Opportunity WHERE NextStep = null") == [none]
    assert org.ids("SELECT Id FROM Opportunity WHERE NextStep LIKE '_LPH%'") == [a]


def test_a_query_reaches_parents_and_children_and_says_null_for_none(org: Caller) -> None:
    deal = org.sf.make_deal()
    soql = (
        "select Id, account.Name, Owner.Email, (SELECT Solution__r.Solution_Identifier__c FROM Opportunity_To_Microsoft_Solutions__r), "
        "(SELECT Id FROM OpportunityTeamMembers), Solution_Area__r.Name, Partner_Role__r.Name FROM opportunity "
        "WHERE Account.BillingCountry = 'US'"
    )
    (record,) = org.query(soql)["records"]
    keys = ["attributes", "Id", "Account", "Owner", "Opportunity_To_Microsoft_Solutions__r", "OpportunityTeamMembers", "Solution_Area__r"]
    assert list(record) == [*keys, "Partner_Role__r"]
    assert record["Account"]["attributes"]["type"] == "Account"
    assert record["Owner"]["Email"] == "ana.sousa@contoso.example"
    lines = record["Opportunity_To_Microsoft_Solutions__r"]
    assert (lines["totalSize"], lines["done"]) == (1, True)
    assert lines["records"][0]["Solution__r"]["Solution_Identifier__c"] == "SOL-10001-CON"
    assert record["OpportunityTeamMembers"] is None
    assert record["Partner_Role__r"] is None
    joined = "SELECT Id FROM Opportunity WHERE Id IN (SELECT OpportunityId FROM OpportunityContactRole WHERE ContactId = '{}')"
    assert org.ids(joined.replace("{}", deal.contact[:15])) == [deal.opportunity]


def test_pages_have_their_own_size_and_locators_expire() -> None:
    org = Caller(Org(page_size=2))
    expected = {org.create("Account", Name=f"Fabrikam {number}") for number in range(5)}
    page = org.query("SELECT Id FROM Account")
    seen = {record["Id"] for record in page["records"]}
    sizes = [len(page["records"])]
    while not page["done"]:
        assert page["totalSize"] == 5
        page = org("GET", page["nextRecordsUrl"].removeprefix("/services/data/v66.0")).json()
        sizes.append(len(page["records"]))
        seen |= {record["Id"] for record in page["records"]}
    assert (sizes, seen, "nextRecordsUrl" in page) == ([2, 2, 1], expected, False)
    lost = org.query("SELECT Id FROM Account")["nextRecordsUrl"].removeprefix("/services/data/v66.0")
    org.sf.forget_cursors()
    refused(org("GET", lost), 400, "INVALID_QUERY_LOCATOR")


def test_count_gives_a_total_and_no_records(org: Caller) -> None:
    org.opportunity()
    assert org.query("SELECT COUNT() FROM Opportunity") == {"totalSize": 1, "done": True, "records": []}
    assert org.query("SELECT COUNT(Id) c FROM Opportunity")["records"] == [{"attributes": {"type": "AggregateResult"}, "c": 1}]


# writing records


def test_several_faults_of_one_record_come_at_once(org: Caller) -> None:
    answer = org("POST", "/sobjects/Opportunity/", {"Name": "n" * 121, "CurrencyIsoCode": "XXX", "Amount": 1e17, "AccountId": "42"})
    refused(
        answer,
        400,
        "REQUIRED_FIELD_MISSING",
        "STRING_TOO_LONG",
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "NUMBER_OUTSIDE_VALID_RANGE",
        "MALFORMED_ID",
    )
    assert answer.json()[0]["message"] == "Required fields are missing: [StageName, CloseDate]"
    assert answer.json()[0]["fields"] == ["StageName", "CloseDate"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Amount": "banana"}, "JSON_PARSER_ERROR"),
        ({"Name": 5}, "JSON_PARSER_ERROR"),
        ({"CloseDate": "30/06/2027"}, "JSON_PARSER_ERROR"),
        ({"IsPrivate": "true"}, "JSON_PARSER_ERROR"),
        ({"IsClosed": True}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ({"Nmae": "x"}, "INVALID_FIELD"),
        ({"Id": make_id("006", 1)}, "INVALID_FIELD"),
        ({"Name": None}, "REQUIRED_FIELD_MISSING"),
        ({"Name": "  "}, "REQUIRED_FIELD_MISSING"),
        ({"AccountId": make_id("001", 1)}, "INVALID_CROSS_REFERENCE_KEY"),
        ({"How_can_Microsoft_help__c": "general or other"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        ({"ForecastCategoryName": "Perhaps"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        ({"ContactId": make_id("003", 1)}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
    ],
)
def test_an_update_is_refused_with_its_code_and_changes_nothing(org: Caller, fields: dict[str, Any], code: str) -> None:
    record_id = org.opportunity()
    before = org.sf.record(record_id)
    org.clock.advance(5)
    refused(org("PATCH", f"/sobjects/Opportunity/{record_id}", fields), 400, code)
    assert org.sf.record(record_id) == before


def test_a_stage_the_table_does_not_know_is_stored_unless_the_picklist_is_restricted() -> None:
    lenient, strict = Caller(), Caller(Org(restricted_picklists=frozenset({"Opportunity.StageName"})))
    row = lenient.sf.record(lenient.opportunity(StageName="Handshake"))
    assert (row["StageName"], row["IsClosed"], row["IsWon"]) == ("Handshake", False, False)
    answer = strict("POST", "/sobjects/Opportunity", {**OPPORTUNITY, "StageName": "Handshake"})
    assert answer.json()[0]["message"] == "Stage: bad value for restricted picklist field: Handshake"


def test_the_stage_decides_closed_won_probability_and_forecast(org: Caller) -> None:
    record_id = org.opportunity(Amount=1000)
    org("PATCH", f"/sobjects/Opportunity/{record_id}", {"StageName": "Closed Won"})
    row = org.sf.record(record_id)
    assert (row["IsClosed"], row["IsWon"], row["Probability"], row["ForecastCategoryName"]) == (True, True, 100.0, "Closed")
    assert row["ExpectedRevenue"] == 1000.0
    org("PATCH", f"/sobjects/Opportunity/{record_id}", {"StageName": "On Hold", "Probability": 33})
    assert (org.sf.record(record_id)["IsClosed"], org.sf.record(record_id)["Probability"]) == (False, 33.0)


def test_null_clears_absent_keeps_and_text_is_trimmed(org: Caller) -> None:
    record_id = org.opportunity(NextStep="  Call  ", Description="Notes", Amount=10.005)
    assert org.sf.record(record_id)["NextStep"] == "Call"
    assert math.isclose(org.sf.record(record_id)["Amount"], 10.01)
    org("PATCH", f"/sobjects/Opportunity/{record_id}", {"NextStep": None, "Description": ""})
    row = org.sf.record(record_id)
    assert (row["NextStep"], row["Description"], row["Amount"]) == (None, None, 10.01)


def test_a_write_that_changes_nothing_still_moves_the_stamps(org: Caller) -> None:
    record_id = org.opportunity()
    org.clock.advance(1.9)
    org("PATCH", f"/sobjects/Opportunity/{record_id}", {"Name": OPPORTUNITY["Name"]})
    row = org.sf.record(record_id)
    assert (row["LastModifiedDate"], row["SystemModstamp"]) == ("2027-01-05T12:00:01.000+0000",) * 2
    assert row["LastModifiedById"] == org.sf.integration_user_id


def test_gone_is_told_in_three_ways(org: Caller) -> None:
    never, deleted = make_id("006", 1), org.opportunity()
    assert org("DELETE", f"/sobjects/Opportunity/{deleted}").status == 204
    for record_id in (never, deleted):
        refused(org("GET", f"/sobjects/Opportunity/{record_id}"), 404, "NOT_FOUND")
    refused(org("PATCH", f"/sobjects/Opportunity/{never}", {"Name": "x"}), 404, "INVALID_CROSS_REFERENCE_KEY")
    refused(org("PATCH", f"/sobjects/Opportunity/{deleted}", {"Name": "x"}), 404, "ENTITY_IS_DELETED")
    refused(org("DELETE", f"/sobjects/Opportunity/{deleted}"), 404, "ENTITY_IS_DELETED")
    refused(org("GET", "/sobjects/Account/123"), 404, "NOT_FOUND")
    refused(org("POST", "/sobjects/Nothing", {}), 404, "NOT_FOUND")


def test_deleting_takes_the_children_along_and_undeleting_brings_them_back(org: Caller) -> None:
    deal = org.sf.make_deal()
    org("DELETE", f"/sobjects/Opportunity/{deal.opportunity}")
    lines = "SELECT Id FROM Microsoft_Solutions__c"
    assert (org.ids(lines), org.ids(lines + " WHERE IsDeleted = true", "queryAll")) == ([], list(deal.solutions))
    org.sf.person_undeletes("Opportunity", deal.opportunity)
    assert org.ids(lines) == list(deal.solutions)
    refused(org("DELETE", f"/sobjects/Microsoft_Solution_Detail__c/{deal.details[0]}"), 400, "DELETE_FAILED")


def test_two_inserts_of_one_key_make_one_record_and_name_the_winner(org: Caller) -> None:
    first = org.opportunity(Co_sell_Key__c="pc-1")
    answer = org("POST", "/sobjects/Opportunity", {**OPPORTUNITY, "Co_sell_Key__c": "PC-1"})
    refused(answer, 400, "DUPLICATE_VALUE")
    assert answer.json()[0]["message"] == f"duplicate value found: Co_sell_Key__c duplicates value on record with id: {first[:15]}"
    assert len(org.sf.records("Opportunity")) == 1


def test_an_upsert_creates_updates_and_refuses_by_the_table(org: Caller) -> None:
    url = "/sobjects/Opportunity/Co_sell_Key__c/pc-1"
    refused(org("PATCH", f"{url}?updateOnly=true", OPPORTUNITY), 404, "NOT_FOUND")
    created = org("PATCH", url, OPPORTUNITY)
    assert (created.status, created.json()["created"], "Location" in created.headers) == (201, True, True)
    updated = org("PATCH", url, {"Amount": 5})
    assert (updated.status, updated.json()["created"], updated.json()["id"]) == (200, False, created.json()["id"])
    assert org("PATCH", url, {"Amount": 5}, version="45.0").status == 204
    refused(org("PATCH", url, {"Co_sell_Key__c": "pc-1"}), 400, "INVALID_FIELD")
    refused(org("PATCH", "/sobjects/Opportunity/Name/x", OPPORTUNITY), 404, "NOT_FOUND")
    assert org("GET", url).json()["Amount"] == 5.0


def test_a_key_that_is_not_unique_answers_300_once_two_records_carry_it(org: Caller) -> None:
    ids = [org.opportunity(Referral_Identifier__c="r-1") for _ in range(2)]
    answer = org("PATCH", "/sobjects/Opportunity/Referral_Identifier__c/r-1", {"Amount": 1})
    assert answer.status == 300
    assert [url.rsplit("/", 1)[1] for url in answer.json()] == ids
    assert [row["Amount"] for row in org.sf.records("Opportunity")] == [None, None]


def test_one_contact_role_is_primary_and_a_contact_given_at_create_becomes_it(org: Caller) -> None:
    contact = org.create("Contact", LastName="Moreau")
    record_id = org.opportunity(ContactId=contact)
    org.create("OpportunityContactRole", OpportunityId=record_id, ContactId=contact, IsPrimary=True)
    assert [row["IsPrimary"] for row in org.sf.records("OpportunityContactRole")] == [False, True]


def test_a_team_member_is_updated_not_doubled_and_leaves_no_trace_in_the_recycle_bin(org: Caller) -> None:
    record_id, seller = org.opportunity(), org.sf.records("User")[1]["Id"]
    ids = {
        org.create("OpportunityTeamMember", OpportunityId=record_id, UserId=seller, TeamMemberRole=role)
        for role in ("Sales Rep", "Manager")
    }
    assert [row["TeamMemberRole"] for row in org.sf.records("OpportunityTeamMember")] == ["Manager"]
    (member,) = ids
    org.clock.advance(60)
    org("DELETE", f"/sobjects/OpportunityTeamMember/{member}")
    assert org.ids("SELECT Id FROM OpportunityTeamMember", "queryAll") == []
    window = "start=2027-01-05T11:00:00Z&end=2027-01-05T13:00:00Z"
    deleted = org("GET", f"/sobjects/OpportunityTeamMember/deleted/?{window}").json()
    assert [entry["id"] for entry in deleted["deletedRecords"]] == [member]


def test_a_solution_line_leaves_the_opportunity_alone_unless_the_package_trigger_is_on() -> None:
    quiet, counting = Caller(), Caller(Org(package_trigger=True))
    for org, expected in ((quiet, (0.0, True)), (counting, (0.0, False))):
        deal = org.sf.make_deal()
        before = org.sf.record(deal.opportunity)
        org.clock.advance(5)
        org("DELETE", f"/sobjects/Microsoft_Solutions__c/{deal.solutions[0]}")
        after = org.sf.record(deal.opportunity)
        assert (after["Solution_Count__c"], after["Sync_With_Partner_Center__c"]) == expected
        assert (after == before) is (org is quiet)


# conditional requests


def test_a_patch_is_refused_when_the_record_changed_a_second_later_but_not_within_the_second(org: Caller) -> None:
    record_id = org.opportunity()
    url, read = f"/sobjects/Opportunity/{record_id}", http_date(START)
    org.clock.advance(0.7)
    org.sf.person_edits("Opportunity", record_id, {"Amount": 1})
    assert org("PATCH", url, {"NextStep": "slips through"}, if_unmodified_since=read).status == 204
    org.clock.advance(0.5)
    org.sf.person_edits("Opportunity", record_id, {"Amount": 2})
    answer = org("PATCH", url, {"Amount": 3}, if_unmodified_since=read)
    assert (answer.status, org.sf.record(record_id)["Amount"]) == (412, 2.0)
    assert org("PATCH", url, {}, if_unmodified_since="yesterday").status == 400


def test_a_get_answers_304_when_nothing_changed_since(org: Caller) -> None:
    url = f"/sobjects/Opportunity/{org.opportunity()}"
    modified = org("GET", url).headers["Last-Modified"]
    assert (org("GET", url, if_modified_since=modified).status, org("GET", url).status) == (304, 200)
    describe = "/sobjects/Opportunity/describe"
    assert org("GET", describe, if_modified_since=org("GET", describe).headers["Last-Modified"]).status == 304


def test_an_account_has_an_etag_and_a_stale_one_is_refused(org: Caller) -> None:
    url = f"/sobjects/Account/{org.create('Account', Name='Fabrikam')}"
    tag = org("GET", url).headers["ETag"]
    assert org("PATCH", url, {"Phone": "1"}, if_match=tag).status == 204
    assert org("PATCH", url, {"Phone": "2"}, if_match=tag).status == 412


# people, triggers, time


def test_a_persons_edit_carries_their_name_and_the_same_checks(org: Caller) -> None:
    record_id = org.sf.person_creates("Opportunity", OPPORTUNITY)
    org.clock.advance(2)
    org.sf.person_edits("Opportunity", record_id[:15], {"Amount": 5}, by="ben.okafor@contoso.example")
    users = {user["Id"]: user["Name"] for user in org.sf.records("User")}
    row = org.sf.record(record_id)
    assert (users[row["CreatedById"]], users[row["LastModifiedById"]]) == ("Ana Sousa", "Ben Okafor")
    with pytest.raises(Refusal, match="STRING_TOO_LONG"):
        org.sf.person_edits("Opportunity", record_id, {"Name": "n" * 121})
    org.sf.person_deletes("Opportunity", record_id)
    assert org.sf.records("Opportunity") == []


def test_a_slow_transaction_is_stamped_first_and_seen_later_and_holds_its_row(org: Caller) -> None:
    record_id = org.opportunity()
    org.clock.advance(10)
    org.sf.person_edits("Opportunity", record_id, {"Amount": 5}, visible_after=60)
    soql = "SELECT Amount, SystemModstamp FROM Opportunity"
    assert org.query(soql)["records"][0]["Amount"] is None
    refused(org("PATCH", f"/sobjects/Opportunity/{record_id}", {"NextStep": "x"}), 400, "UNABLE_TO_LOCK_ROW")
    window = "start=2027-01-05T11:00:00Z&end=2027-01-05T13:00:00Z"
    assert org("GET", f"/sobjects/Opportunity/updated?{window}").json()["latestDateCovered"] == "2027-01-05T11:59:00.000+0000"
    org.clock.advance(60)
    (record,) = org.query(soql)["records"]
    assert (record["Amount"], record["SystemModstamp"]) == (5.0, "2027-01-05T12:00:10.000+0000")
    assert org("PATCH", f"/sobjects/Opportunity/{record_id}", {"NextStep": "x"}).status == 204


def test_a_trigger_may_change_the_row_being_saved_and_a_failing_one_undoes_it(org: Caller) -> None:
    def normalise(write: Write) -> None:
        assert write.new is not None
        write.new["NextStep"] = "set by trigger"

    def fail(write: Write) -> None:
        raise refusal("CANNOT_EXECUTE_FLOW_TRIGGER", "flow failed")

    org.sf.store.before.append(normalise)
    record_id = org.opportunity()
    assert org.sf.record(record_id)["NextStep"] == "set by trigger"
    org.sf.store.after.append(fail)
    refused(org("DELETE", f"/sobjects/Opportunity/{record_id}"), 400, "CANNOT_EXECUTE_FLOW_TRIGGER")
    org.sf.store.after.clear()
    assert org("GET", f"/sobjects/Opportunity/{record_id}").status == 200


def test_a_system_change_moves_only_the_system_stamp(org: Caller) -> None:
    record_id = org.opportunity()
    org.clock.advance(5)
    org.sf.store.touch(record_id)
    row = org.sf.record(record_id)
    assert (row["LastModifiedDate"][17:19], row["SystemModstamp"][17:19]) == ("00", "05")


def test_updated_lists_a_window_cut_to_minutes_and_covers_less_than_now(org: Caller) -> None:
    record_id = org.opportunity()
    org.clock.advance(150)
    url = "/sobjects/Opportunity/updated/?start=2027-01-05T11:59:59Z&end=2027-01-05T12:30:00Z"
    assert org("GET", url).json() == {"ids": [record_id], "latestDateCovered": "2027-01-05T12:01:00.000+0000"}
    refused(
        org("GET", "/sobjects/Opportunity/updated/?start=2027-01-05T12:30:00Z&end=2027-01-05T12:00:00Z"), 400, "INVALID_REPLICATION_DATE"
    )


# composite and collections


def node(method: str, path: str, reference: str, body: Mapping[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    made = {"method": method, "url": f"/services/data/v66.0/sobjects/{path}", "referenceId": reference}
    return {**made, **({"body": body} if body is not None else {}), **({"httpHeaders": headers} if headers else {})}


def graph(org: Caller, *nodes: dict[str, Any]) -> tuple[bool, list[tuple[int, Any]]]:
    answer = org("POST", "/composite/graph", {"graphs": [{"graphId": "deal", "compositeRequest": list(nodes)}]})
    assert answer.status == 200, answer.json()
    (only,) = answer.json()["graphs"]
    parts = only["graphResponse"]["compositeResponse"]
    return only["isSuccessful"], [(part["httpStatusCode"], part["body"]) for part in parts]


def test_a_graph_makes_a_deal_whose_parts_refer_to_each_other(org: Caller) -> None:
    fine, parts = graph(
        org,
        node("POST", "Account", "account", {"Name": "Fabrikam", "BillingCountry": "US"}),
        node("POST", "Contact", "contact", {"LastName": "Moreau", "AccountId": "@{account.id}"}),
        node("POST", "Opportunity", "deal", {**OPPORTUNITY, "AccountId": "@{account.id}"}),
        node("POST", "OpportunityContactRole", "role", {"OpportunityId": "@{deal.id}", "ContactId": "@{contact.id}"}),
        node("PATCH", "Opportunity/@{deal.id}", "edit", {"Amount": 5}),
    )
    assert fine
    assert [status for status, _ in parts] == [201, 201, 201, 201, 204]
    role = org.sf.records("OpportunityContactRole")[0]
    assert (role["OpportunityId"], role["ContactId"]) == (parts[2][1]["id"], parts[1][1]["id"])
    assert org.sf.record(parts[2][1]["id"])["Amount"] == 5.0


def test_a_graph_with_one_refusal_leaves_nothing_and_names_the_culprit(org: Caller) -> None:
    nodes = [node("POST", "Account", "account", {"Name": "Fabrikam"}), node("POST", "Contact", "contact", {"AccountId": "@{account.id}"})]
    fine, parts = graph(org, *nodes, node("POST", "Account", "another", {"Name": "Tailspin"}))
    assert not fine
    assert [(status, body[0]["errorCode"]) for status, body in parts] == [
        (400, "PROCESSING_HALTED"),
        (400, "REQUIRED_FIELD_MISSING"),
        (400, "PROCESSING_HALTED"),
    ]
    assert org.sf.records("Account") == []


def test_a_condition_inside_a_graph_holds_for_the_whole_graph(org: Caller) -> None:
    record_id = org.opportunity()
    org.clock.advance(5)
    stale = {"If-Unmodified-Since": http_date(START - timedelta(seconds=1))}
    fine, parts = graph(
        org, node("POST", "Account", "a", {"Name": "x"}), node("PATCH", f"Opportunity/{record_id}", "b", {"Amount": 1}, **stale)
    )
    assert (fine, parts[1], org.sf.records("Account")) == (False, (412, None), [])


def test_a_graph_takes_records_only(org: Caller) -> None:
    item = {"method": "GET", "url": "/services/data/v66.0/query?q=SELECT Id FROM Account", "referenceId": "q"}
    fine, parts = graph(org, item)
    assert (fine, parts[0][0]) == (False, 400)


def test_a_composite_keeps_what_succeeded_unless_told_all_or_none(org: Caller) -> None:
    items = [node("POST", "Account", "good", {"Name": "Fabrikam"}), node("POST", "Account", "bad", {})]
    loose = org("POST", "/composite", {"compositeRequest": items}).json()["compositeResponse"]
    assert ([part["httpStatusCode"] for part in loose], len(org.sf.records("Account"))) == ([201, 400], 1)
    strict = org("POST", "/composite", {"allOrNone": True, "compositeRequest": items}).json()["compositeResponse"]
    assert ([part["body"][0]["errorCode"] for part in strict], len(org.sf.records("Account"))) == (
        ["PROCESSING_HALTED", "REQUIRED_FIELD_MISSING"],
        1,
    )
    found = {"method": "GET", "url": "/services/data/v66.0/query?q=SELECT Id FROM Account", "referenceId": "found"}
    edit = node("PATCH", "Account/@{found.records[0].Id}", "edit", {"Phone": "1"})
    answer = org("POST", "/composite", {"compositeRequest": [found, edit]})
    assert [part["httpStatusCode"] for part in answer.json()["compositeResponse"]] == [200, 204]


def test_a_collection_answers_row_by_row_and_a_failed_row_has_no_id(org: Caller) -> None:
    rows = [{"attributes": {"type": "Account"}, "Name": name} for name in ("Fabrikam", None)]
    loose = org("POST", "/composite/sobjects", {"allOrNone": False, "records": rows}).json()
    assert [row["success"] for row in loose] == [True, False]
    assert set(loose[1]) == {"success", "errors"}
    assert set(loose[1]["errors"][0]) == {"statusCode", "message", "fields"}
    strict = org("POST", "/composite/sobjects", {"allOrNone": True, "records": rows}).json()
    assert [row["errors"][0]["statusCode"] for row in strict] == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]
    assert len(org.sf.records("Account")) == 1
    keyed = [{"attributes": {"type": "Opportunity"}, "Co_sell_Key__c": "k", **OPPORTUNITY}]
    for created in (True, False):
        answer = org("PATCH", "/composite/sobjects/Opportunity/Co_sell_Key__c", {"records": keyed}).json()
        assert answer[0]["created"] is created
    ids = ",".join([loose[0]["id"], make_id("001", 1)])
    assert [row["success"] for row in org("DELETE", f"/composite/sobjects?ids={ids}").json()] == [True, False]
    refused(org("POST", "/composite/sobjects", {"records": rows * 101}), 400, "EXCEEDED_ID_LIMIT")


# what an org can be


@pytest.mark.parametrize(
    ("org", "name", "field"),
    [
        (Org(multi_currency=False), "Opportunity", "CurrencyIsoCode"),
        (Org(connector_package=False), "Opportunity", "Co_sell_Key__c"),
        (Org(microsoft_package=False), "Opportunity", "Referral_Identifier__c"),
        (Org(hidden_fields=frozenset({"Opportunity.Amount"})), "Opportunity", "Amount"),
        (Org(), "Account", "BillingCountryCode"),
        (Org(), "Account", "IsPersonAccount"),
    ],
)
def test_a_field_of_a_feature_that_is_off_is_absent_everywhere(org: Org, name: str, field: str) -> None:
    caller = Caller(org)
    assert field not in {entry["name"] for entry in caller("GET", f"/sobjects/{name}/describe").json()["fields"]}
    refused(caller.ask(" ".join(("SELECT", field, "FROM", name))), 400, "INVALID_FIELD")
    refused(caller("POST", f"/sobjects/{name}", {field: None}), 400, "INVALID_FIELD")


@pytest.mark.parametrize(
    ("org", "name"),
    [
        (Org(team_selling=False), "OpportunityTeamMember"),
        (Org(microsoft_package=False), "Microsoft_Solutions__c"),
        (Org(hidden_fields=frozenset({"Contact"})), "Contact"),
    ],
)
def test_an_object_of_a_feature_that_is_off_is_absent_everywhere(org: Org, name: str) -> None:
    caller = Caller(org)
    refused(caller("GET", f"/sobjects/{name}/describe"), 404, "NOT_FOUND")
    refused(caller.ask(" ".join(("SELECT Id FROM", name))), 400, "INVALID_TYPE")
    assert name not in {entry["name"] for entry in caller("GET", "/sobjects").json()["sobjects"]}


def test_a_field_the_integration_user_may_only_read_is_refused_by_name() -> None:
    org = Caller(Org(read_only_fields=frozenset({"Opportunity.Amount"})))
    answer = org("PATCH", f"/sobjects/Opportunity/{org.opportunity()}", {"Amount": 1})
    refused(answer, 400, "INVALID_FIELD_FOR_INSERT_UPDATE")
    assert answer.json()[0]["fields"] == ["Amount"]
    org.sf.person_edits("Opportunity", org.sf.records("Opportunity")[0]["Id"], {"Amount": 1})


def test_an_administrators_required_field_and_rules_are_told_in_their_words() -> None:
    rule = ValidationRule("Opportunity", "StageName = 'Closed Won' AND Amount = null", "A won deal needs an amount.", "Amount")
    org = Caller(Org(extra_fields={"Account": (text("Segment__c", 40, nillable=False),)}, validation_rules=(rule,)))
    assert org("POST", "/sobjects/Account", {"Name": "x"}).json()[0]["fields"] == ["Segment__c"]
    answer = org("PATCH", f"/sobjects/Opportunity/{org.opportunity()}", {"StageName": "Closed Won"})
    assert answer.json() == [
        {"message": "A won deal needs an amount.", "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "fields": ["Amount"]}
    ]


def test_the_connector_may_set_the_cosell_type_together_with_the_identifier() -> None:
    org = Caller(Org(package_rules=True))
    url = f"/sobjects/Opportunity/{org.sf.make_deal(sync=False).opportunity}"
    role = org.sf.records("Partner_Role__c")[0]["Id"]
    services = {"Co_sell_Type__c": "Services Co-sell", "Partner_Role__c": role}
    assert org("PATCH", url, services).json()[0]["message"] == "Co-sell type cannot be updated after creation."
    assert org("PATCH", url, {**services, "Referral_Identifier__c": "r"}).status == 204


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize(("version", "spelling"), [("56.0", "duplicateResut"), ("66.0", "duplicateResult")])
def test_a_duplicate_rule_names_its_matches_and_only_an_alert_can_be_waved_through(allow: bool, version: str, spelling: str) -> None:
    org = Caller(Org(duplicate_rules=(DuplicateRule("Contact", ("Email",), allow_save=allow),)))
    body = {"LastName": "Moreau", "Email": "dana@fabrikam.example"}
    first = org.create("Contact", **body)
    answer = org("POST", "/sobjects/Contact", body, version)
    refused(answer, 400, "DUPLICATES_DETECTED")
    (entry,) = answer.json()
    assert (entry[spelling]["allowSave"], entry[spelling]["matchResults"][0]["matchRecords"][0]["record"]["Id"]) == (allow, first)
    waved = org("POST", "/sobjects/Contact", body, version, sforce_duplicate_rule_header="allowSave=true")
    assert waved.status == (201 if allow else 400)


def test_country_picklists_take_a_code_or_the_exact_name_and_a_state_needs_its_country() -> None:
    org = Caller(Org(state_and_country_picklists=True))
    row = org.sf.record(org.create("Account", Name="x", BillingCountryCode="US", BillingState="Washington"))
    assert (row["BillingCountry"], row["BillingStateCode"], row["BillingAddress"]["countryCode"]) == ("United States", "WA", "US")
    for wrong in ({"BillingCountry": "US"}, {"BillingState": "Washington"}, {"BillingCountryCode": "DE", "BillingState": "Washington"}):
        refused(org("POST", "/sobjects/Account", {"Name": "x", **wrong}), 400, "FIELD_INTEGRITY_EXCEPTION")


def test_a_person_account_has_a_name_made_of_two_and_is_told_apart() -> None:
    org = Caller(Org(person_accounts=True))
    row = org.sf.record(org.create("Account", FirstName="Dana", LastName="Moreau"))
    assert (row["IsPersonAccount"], row["Name"]) == (True, "Dana Moreau")
    assert org.ids("SELECT Id FROM Account WHERE IsPersonAccount = false") == []


def test_an_inactive_owner_is_refused(org: Caller) -> None:
    ben = next(user for user in org.sf.records("User") if user["FirstName"] == "Ben")
    org.sf.person_edits("User", ben["Id"], {"IsActive": False})
    refused(org("POST", "/sobjects/Opportunity", {**OPPORTUNITY, "OwnerId": ben["Id"]}), 400, "INACTIVE_OWNER_OR_USER")


# the edges of HTTP


def test_the_daily_budget_is_counted_told_and_enforced() -> None:
    org = Caller(Org(daily_requests=2))
    usage = [org("GET", "/sobjects").headers["Sforce-Limit-Info"], org("GET", "/sobjects/Nothing").headers["Sforce-Limit-Info"]]
    assert usage == ["api-usage=1/2", "api-usage=2/2"]
    answer = org("GET", "/sobjects")
    refused(answer, 403, "REQUEST_LIMIT_EXCEEDED")
    assert "Retry-After" not in answer.headers
    org.clock.advance(86_401)
    org.token = org.sign_in().json()["access_token"]
    assert org("GET", "/limits").json()["DailyApiRequests"] == {"Max": 2, "Remaining": 1}


@pytest.mark.parametrize(
    ("method", "path", "version", "status", "code"),
    [
        ("GET", "/sobjects/Account", "1.0", 404, "NOT_FOUND"),
        ("GET", "/sobjects/Account", "29.0", 410, "UNSUPPORTED_API_VERSION"),
        ("PUT", "/sobjects/Account", "66.0", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/nothing", "66.0", 404, "NOT_FOUND"),
        ("GET", "/query", "66.0", 400, "MALFORMED_QUERY"),
        ("POST", "/sobjects/Account", "66.0", 400, "JSON_PARSER_ERROR"),
    ],
)
def test_a_request_for_nothing_we_have_is_an_array_of_errors(
    org: Caller, method: str, path: str, version: str, status: int, code: str
) -> None:
    refused(org(method, path, version=version), status, code)


def test_a_body_must_be_json_and_say_so(org: Caller) -> None:
    refused(org("POST", "/sobjects/Account", {"Name": "x"}, content_type="text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE")
    request = Request(
        "salesforce",
        "POST",
        "/services/data/v66.0/sobjects/Account",
        "",
        {"authorization": f"Bearer {org.token}", "content-type": "application/json"},
        b"{",
    )
    refused(org.sf.handle(request), 400, "JSON_PARSER_ERROR")
    assert org("GET", f"/query?q={'x' * 17_000}").status == 414


def test_versions_are_listed_without_a_login(org: Caller) -> None:
    listed = org.sf.handle(Request("salesforce", "GET", "/services/data")).json()
    assert listed[0]["version"] == "31.0"
    assert listed[-1] == {"label": "Winter '27", "url": "/services/data/v68.0", "version": "68.0"}


# the library the connector uses


class InProcess(requests.adapters.BaseAdapter):
    """Carries simple-salesforce's requests to the simulator."""

    def __init__(self, org: Caller) -> None:
        super().__init__()
        self.org = org

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        answer = self.org.sf.handle(Request("salesforce", request.method or "", parts.path, parts.query, headers, body))
        response = requests.Response()
        response.status_code, response.url, response.request, response._content = answer.status, request.url or "", request, answer.body
        response.headers.update(answer.headers)
        return response

    def close(self) -> None:
        pass


def test_simple_salesforce_can_talk_to_it(org: Caller) -> None:
    session = requests.Session()
    session.mount("https://", InProcess(org))
    client = Client(session_id=org.token, instance_url=org.sf.login.instance_url, session=session, version="66.0")
    deal = org.sf.make_deal()
    assert client.query_all("SELECT Id, Account.Name FROM Opportunity")["records"][0]["Id"] == deal.opportunity
    created = client.Opportunity.create({**OPPORTUNITY, "Co_sell_Key__c": "pc-9"})
    assert client.Opportunity.get_by_custom_id("Co_sell_Key__c", "pc-9")["Id"] == created["id"]
    assert client.Opportunity.update(created["id"], {"Amount": 5}) == 204
    window = (START - timedelta(hours=1), START + timedelta(hours=1))
    assert set(client.Opportunity.updated(*window)["ids"]) == {deal.opportunity, created["id"]}
    body = {"graphs": [{"graphId": "1", "compositeRequest": [node("PATCH", f"Opportunity/{created['id']}", "a", {"Amount": 6})]}]}
    assert client.restful("composite/graph", method="POST", json=body)["graphs"][0]["isSuccessful"]
    assert client.api_usage["api-usage"].used > 0
    org.sf.login.end_sessions()
    with pytest.raises(SalesforceExpiredSession):
        client.query("SELECT Id FROM Account")


# field history


def test_field_history_tells_each_tracked_change_and_of_a_long_text_no_value() -> None:
    org = Caller(Org(tracked_fields=frozenset({"Amount", "Description"})))
    record_id = org.opportunity(Amount=1)
    org("PATCH", f"/sobjects/Opportunity/{record_id}", {"Amount": 2, "Description": "new", "NextStep": "call"})
    org.sf.person_edits("Opportunity", record_id, {"Amount": 3})
    org("PATCH", f"/sobjects/Opportunity/{record_id}", {"Amount": 3})
    rows = org.query(f"SELECT Field, OldValue, NewValue, CreatedById FROM OpportunityFieldHistory WHERE OpportunityId = '{record_id}'")
    told = [(row["Field"], row["OldValue"], row["NewValue"], row["CreatedById"] == org.sf.integration_user_id) for row in rows["records"]]
    wanted = [("created", None, None, True), ("Amount", 1.0, 2.0, True), ("Description", None, None, True), ("Amount", 2.0, 3.0, False)]
    assert sorted(map(str, told)) == sorted(map(str, wanted))
    refused(org.ask("SELECT Id FROM OpportunityFieldHistory WHERE OldValue = '1'"), 400, "INVALID_FIELD")


def test_without_a_tracked_field_there_is_no_field_history(org: Caller) -> None:
    refused(org.ask("SELECT Id FROM OpportunityFieldHistory"), 400, "INVALID_TYPE")
    assert org("GET", "/sobjects/OpportunityFieldHistory/describe").status == 404
