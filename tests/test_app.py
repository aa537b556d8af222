"""The deployed app as a whole: function_app.py on Microsoft's worker library, Azurite, the strict simulator over HTTPS, signed events.

Timers run when a test says so, the queue trigger by itself, and both vendors' clock is the connector's, so that waiting costs no time.
"""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueClient, TextBase64EncodePolicy

from cosell.app import main as cosell
from devhost.azurite import Azurite
from devhost.host import STORAGE, Host
from devhost.served import Served, served
from devhost.settings import read_values
from shared import composition
from simulator.core import Call, ConnectionCut
from simulator.core import Host as VendorHost
from simulator.faults import Fault
from simulator.server import serve
from simulator.simulator import Simulator
from tests.deals import SharedClock

ROOT = Path(__file__).resolve().parent.parent
KEY = {"x-functions-key": "the-key-of-the-app"}
PUSH = {"x-cosell-secret": "shared with the org"}
EVENT = "/api/partner-center-to-salesforce"
QUEUE = "synchronize-deal"
NOBODY = "AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;QueueEndpoint=http://127.0.0.1:9/a"
CHECK = "✓"
SECRETS = ("PARTNER_CENTER_CLIENT_SECRET", "PARTNER_CENTER_REFRESH_TOKEN", "SALESFORCE_PRIVATE_KEY", "SALESFORCE_PUSH_SECRET")
VENDORS: tuple[VendorHost, ...] = ("partner_center", "webhooks", "salesforce")


@dataclass(frozen=True)
class Product:
    """The running app, both vendors, and the hands that drive them."""

    app: Served
    sim: Simulator
    http: httpx.Client
    storage: str

    def deliver(self) -> int:
        """Posts every event that is due to its address, signed. The number of attempts."""

        def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
            try:
                return httpx.post(url, headers=dict(headers), content=body, timeout=30, trust_env=False).status_code
            except httpx.TransportError as error:
                raise ConnectionCut from error

        return self.sim.deliver(post)

    def run(self, *timers: str, parked: int = 0) -> None:
        for name in timers:
            self.app.run_timer(name)
        self.settle(parked)

    def settle(self, parked: int = 0) -> None:
        """Returns once no event is on its way and nothing is owed but what is parked; what has to wait gets the time it waits for."""
        for _ in range(20):
            self.sim.advance(5)
            self.deliver()
            self.app.drain()
            status = self.status()
            assert status["parked"]["count"] <= parked, status["parked"]["deals"]
            if not status["owed"]["count"] and not self.sim.webhooks.waiting:
                return
            self.sim.advance(60)
            self.app.run_timer("resume_owed_work")
        raise AssertionError(f"still owed: {self.status()['owed']}")

    def status(self) -> dict[str, Any]:
        answer = self.http.get("/api/status", headers=KEY)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def during(self, action: Callable[[], object]) -> list[Call]:
        """The calls that reached a vendor while something was done; certificate downloads and sign-ins are none."""
        position = self.sim.journal.position()
        action()
        calls = self.sim.journal.calls(since=position)
        return [call for call in calls if call.host in VENDORS and "/oauth2/" not in call.path]

    def writes_during(self, action: Callable[[], object]) -> list[Call]:
        return [call for call in self.during(action) if call.mutating]

    def writes_of_every_timer(self) -> list[str]:
        """What a further two rounds of every timer write, the full sweep included: nothing, when all is in agreement."""
        timers = [*self.app.host.timers]
        assert len(timers) == 6
        writes = self.writes_during(lambda: self.run(*timers)) + self.writes_during(lambda: self.run(*timers))
        return [f"{call.host} {call.method} {call.path} {call.body.decode()}" for call in writes]

    def opportunity(self, referral_id: str) -> dict[str, Any]:
        """The only opportunity of a referral."""
        found = [one for one in self.sim.salesforce.records("Opportunity") if one["Referral_Identifier__c"] == referral_id]
        assert len(found) == 1
        return dict(found[0])

    def children(self, name: str, opportunity_id: str, field: str = "OpportunityId") -> list[dict[str, Any]]:
        return [dict(row) for row in self.sim.salesforce.records(name) if row[field] == opportunity_id]

    def later(self, days: int) -> str:
        return (self.sim.clock.now() + timedelta(days=days)).date().isoformat()

    def queue(self, suffix: str = "") -> QueueClient:
        return QueueClient.from_connection_string(self.storage, QUEUE + suffix, message_encode_policy=TextBase64EncodePolicy())

    def poisoned(self) -> int:
        try:
            return self.queue("-poison").get_queue_properties().approximate_message_count or 0
        except ResourceNotFoundError:
            return 0


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """One host, one simulator and one Azurite for the file: the names of the app's tables are fixed, so a shared Azurite will not do."""
    simulator = Simulator()
    with pytest.MonkeyPatch.context() as patch, Azurite() as azurite, serve(simulator, deliver=False) as vendors:
        settings = read_values(ROOT / "local.settings.sample.json") | vendors.environment(private_key=True)
        settings |= {STORAGE: azurite.connection_string, "SALESFORCE_PUSH_SECRET": PUSH["x-cosell-secret"]}
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(composition, "Clock", lambda: SharedClock(simulator.clock))
        patch.setattr(composition, "_built", None)
        host = Host(ROOT, timers=False, function_key=KEY["x-functions-key"])
        with served(host) as app, httpx.Client(base_url=app.url, timeout=60, trust_env=False) as http:
            patch.setenv("WEBHOOK_CALLBACK_URL", app.url + EVENT)
            product = Product(app, simulator, http, azurite.connection_string)
            product.queue().create_queue()  # for the tests that wake the worker by hand; the app makes its own at its first wake-up
            registered = http.post("/api/webhook-registration", headers=KEY)
            assert (registered.status_code, registered.json()["action"]) == (200, "create"), registered.text
            yield product


@pytest.fixture
def other_settings(product: Product, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the app start afresh with other settings, until the test ends."""

    def start_with(**settings: str) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(composition, "_built", None)

    return start_with


def patches(call: Call) -> dict[str, Any]:
    """{path: value} of a JSON Patch."""
    return {operation["path"]: operation["value"] for operation in json.loads(call.body)}


# --- scenario 1: Salesforce first ---


def test_a_deal_shared_in_salesforce_becomes_one_cosell_referral_and_each_edit_one_patch(product: Product) -> None:
    sim, crm = product.sim, product.sim.salesforce
    deal = crm.make_deal("Fabrikam data estate")

    writes = product.writes_during(lambda: product.run("salesforce_opportunity_to_partner_center"))
    to_partner_center = [call for call in writes if call.host == "partner_center"]
    ours, microsofts = (json.loads(call.body) for call in to_partner_center)
    referral = next(one for one in sim.referrals() if one["externalReferenceId"] == deal.opportunity)
    assert [call.method for call in to_partner_center] == ["POST", "POST"]
    assert ours["externalReferenceId"] == deal.opportunity
    assert microsofts["engagementId"] == referral["engagementId"]
    assert microsofts["inviteContext"]["assistanceRequestCode"] == "GeneralOrOther"
    assert [call.method for call in writes if call.host == "salesforce"] == ["PATCH"]
    opportunity = crm.record(deal.opportunity)
    assert opportunity["Name"] == f"{CHECK} Fabrikam data estate"
    assert opportunity["Referral_Identifier__c"] == referral["id"]
    assert referral["id"] in opportunity["Referral_Link__c"]
    assert "synchronized with Partner Center" in opportunity["Audit__c"]

    closing = product.later(30)
    for fields, expected in (
        ({"Amount": 62_500}, {"/details/dealValue": 62_500}),
        ({"CloseDate": closing}, {"/details/closingDateTime": f"{closing}T00:00:00Z"}),
        ({"Description": "The finance reports first."}, {"/details/notes": "The finance reports first."}),
        ({"Name": f"{CHECK} Fabrikam data estate, phase one"}, {"/name": "Fabrikam data estate, phase one"}),
        ({"StageName": "Closed Won"}, {"/status": "Closed", "/substatus": "Won"}),
    ):
        version = sim.referral(referral["id"])["eTag"]
        crm.person_edits("Opportunity", deal.opportunity, fields)
        (call,) = product.writes_during(lambda: product.run("salesforce_opportunity_to_partner_center"))
        assert (call.host, call.method, call.headers["if-match"], patches(call)) == ("partner_center", "PATCH", version, expected)
        assert sim.referral(referral["id"])["eTag"] != version

    assert product.writes_of_every_timer() == []


def test_a_solution_added_in_salesforce_reaches_the_referral(product: Product) -> None:
    crm = product.sim.salesforce
    deal = crm.make_deal("Fabrikam migration")
    product.run("salesforce_opportunity_to_partner_center")
    detail = next(row["Id"] for row in crm.records("Microsoft_Solution_Detail__c") if row["Solution_Identifier__c"] == "SOL-10002-CON")

    crm.person_creates("Microsoft_Solutions__c", {"Opportunity__c": deal.opportunity, "Solution__c": detail, "Quantity__c": 1})
    (call,) = product.writes_during(lambda: product.run("salesforce_solutions_to_partner_center"))

    assert (call.host, list(patches(call))) == ("partner_center", ["/details/requirements/solutions"])
    referral = product.sim.referral(crm.record(deal.opportunity)["Referral_Identifier__c"])
    assert [one["id"] for one in referral["details"]["requirements"]["solutions"]] == ["SOL-10001-CON", "SOL-10002-CON"]


def test_microsofts_answer_arrives_in_salesforce(product: Product) -> None:
    crm = product.sim.salesforce
    deal = crm.make_deal("Fabrikam analytics")
    product.run("salesforce_opportunity_to_partner_center")

    answered = product.sim.people.microsoft_accepts(crm.record(deal.opportunity)["Referral_Identifier__c"])
    (call,) = product.writes_during(product.settle)

    assert (call.host, call.method) == ("salesforce", "PATCH")
    assert crm.record(deal.opportunity)["Microsoft_CRM_Identifier__c"] == answered["trackingInfo"]["microsoftMsxId"]


# --- scenario 2: Partner Center first ---


def test_a_deal_made_in_partner_center_becomes_one_opportunity_though_its_events_come_thrice_and_out_of_order(product: Product) -> None:
    sim, crm = product.sim, product.sim.salesforce
    conduct = sim.webhooks.conduct
    conduct.duplicates, conduct.reorder = 2, True
    try:
        referral = sim.people.portal_create_deal("Northwind cloud migration", customer="Northwind", help_code="QuotesOrLicensing")
        sim.people.portal_edit(referral["id"], {"details/dealValue": 66_000})
        assert [event.name for event in sim.webhooks.waiting].count("referral-created") == 3

        writes = product.writes_during(product.settle)
        opportunity = product.opportunity(referral["id"])
        assert [(call.host, call.method) for call in writes] == [("salesforce", "POST"), ("partner_center", "PATCH")]
        assert patches(writes[1]) == {"/externalReferenceId": opportunity["Id"]}
        assert sim.referral(referral["id"])["externalReferenceId"] == opportunity["Id"]
        shown = {name: opportunity[name] for name in ("Name", "StageName", "Amount", "CurrencyIsoCode", "Sync_With_Partner_Center__c")}
        assert shown == {
            "Name": f"{CHECK} Northwind cloud migration",
            "StageName": "Qualification",
            "Amount": 66_000,
            "CurrencyIsoCode": "USD",
            "Sync_With_Partner_Center__c": True,
        }
        assert referral["id"] in opportunity["Referral_Link__c"]
        assert "created from Partner Center" in opportunity["Audit__c"]
        assert crm.record(opportunity["AccountId"])["Name"] == "Northwind"
        (role,) = product.children("OpportunityContactRole", opportunity["Id"])
        assert crm.record(role["ContactId"])["Email"] == "sue.smith@fabrikam.example"
        (row,) = product.children("Microsoft_Solutions__c", opportunity["Id"], "Opportunity__c")
        assert crm.record(row["Solution__c"])["Solution_Identifier__c"] == "SOL-15974-MQF"

        closing = product.later(45)
        for changes, field, value in (
            ({"details/dealValue": 71_000}, "Amount", 71_000),
            ({"details/closingDateTime": f"{closing}T00:00:00Z"}, "CloseDate", closing),
            ({"details/notes": "They want to move before the summer."}, "Description", "They want to move before the summer."),
            ({"name": "Northwind wave one"}, "Name", f"{CHECK} Northwind wave one"),
        ):
            sim.people.portal_edit(referral["id"], changes)
            (call,) = product.writes_during(product.settle)
            sent = json.loads(call.body)
            assert (call.host, call.method, "if-unmodified-since" in call.headers) == ("salesforce", "PATCH", True)
            assert set(sent) - {"Audit__c", "Co_sell_Token__c", "Co_sell_Last_Synced__c"} == {field}
            assert product.opportunity(referral["id"])[field] == value
    finally:
        conduct.duplicates, conduct.reorder = 0, False

    assert product.writes_of_every_timer() == []


def test_a_deal_whose_event_was_lost_is_found_by_the_catch_up(product: Product) -> None:
    product.sim.webhooks.conduct.drop = True
    try:
        referral = product.sim.people.portal_create_deal("Northwind lost event")
    finally:
        product.sim.webhooks.conduct.drop = False
    product.run("partner_center_catch_up")
    assert product.opportunity(referral["id"])["Name"] == f"{CHECK} Northwind lost event"


# --- the event endpoint ---


def signed_event(product: Product, body: bytes) -> dict[str, str]:
    """The headers Partner Center would send with this body."""
    product.sim.webhooks.emit("referral-updated", "00000000-0000-0000-0000-000000000000")
    delivery = product.sim.webhooks.waiting.pop()
    delivery.body = body
    return product.sim.webhooks.headers(delivery)


def event_body(**changes: Any) -> bytes:
    uri = "https://api.partnercenter.microsoft.com/engagements/v1/referrals/00000000-0000-4000-8000-00000000dead"
    event = {"EventName": "referral-updated", "ResourceUri": uri, "ResourceName": "referral", "AuditUri": None}
    return json.dumps({**event, "ResourceChangeUtcDate": "2026-11-02T09:00:00+00:00", **changes}).encode()


def test_an_event_without_a_good_signature_is_refused_with_401(product: Product) -> None:
    body = event_body()
    headers = signed_event(product, body)
    unsigned = {name: value for name, value in headers.items() if name != "x-ms-signature"}
    answers: list[int] = []

    def send() -> None:
        answers.append(product.http.post(EVENT, content=body, headers=unsigned).status_code)
        answers.append(product.http.post(EVENT, content=body.replace(b"dead", b"beef"), headers=headers).status_code)
        product.app.drain()

    assert product.during(send) == []
    assert answers == [401, 401]
    assert product.status()["owed"]["count"] == 0


def test_a_signed_body_that_is_not_an_event_is_refused_with_400(product: Product) -> None:
    bodies = {
        "no JSON": b"<html>",
        "no object": b"[]",
        "no GUID": event_body(ResourceUri="https://api.partnercenter.microsoft.com/engagements/v1/referrals/../secrets"),
        "too large": event_body(Padding="x" * 262_144),
        "empty": b"",
    }
    answers: dict[str, int] = {}

    def send() -> None:
        for name, body in bodies.items():
            answers[name] = product.http.post(EVENT, content=body, headers=signed_event(product, body)).status_code
        chunked = product.http.post(EVENT, content=iter([event_body()]), headers=signed_event(product, event_body()))
        answers["without a length"] = chunked.status_code
        product.app.drain()

    assert product.during(send) == []
    assert answers == dict.fromkeys([*bodies, "without a length"], 400)
    assert product.status()["owed"]["count"] == 0


def test_an_event_that_cannot_be_stored_is_answered_with_503_and_arrives_when_it_is_sent_again(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    referral = product.sim.people.portal_create_deal("Northwind while storage is away")
    with monkeypatch.context() as away:
        away.setenv(STORAGE, NOBODY)
        away.setattr(composition, "_built", None)
        assert product.during(product.deliver) == []
        (delivery,) = product.sim.webhooks.waiting
        assert [status for status, _ in delivery.answers] == [503]
    product.settle()
    assert product.opportunity(referral["id"])["Name"] == f"{CHECK} Northwind while storage is away"


def test_an_event_is_answered_without_a_call_to_either_vendor(product: Product) -> None:
    referral = product.sim.people.portal_create_deal("Northwind, vendors away")
    vendors_back = threading.Event()
    for host in VENDORS:
        # The worker is woken at once; its calls hang here, so that any call answered before would be the endpoint's own.
        product.sim.faults.add(Fault(host=host, count=100, action=lambda _: vendors_back.wait(5) and None))
    try:
        assert product.during(product.deliver) == []
        (delivery,) = list(product.sim.webhooks.finished)[-1:]
        assert [status for status, _ in delivery.answers] == [200]
    finally:
        product.sim.faults.clear()
        vendors_back.set()
    product.settle()
    assert product.opportunity(referral["id"])["Name"] == f"{CHECK} Northwind, vendors away"


def test_an_event_about_a_referral_nobody_can_see_is_accepted_and_laid_to_rest(product: Product) -> None:
    body = event_body()
    answer = product.http.post(EVENT, content=body, headers=signed_event(product, body))
    assert (answer.status_code, answer.json()) == (200, {"accepted": True})
    assert product.writes_during(product.settle) == []


# --- wake-ups ---


def test_a_wake_up_that_is_not_a_record_name_is_dropped_and_poisons_nothing(product: Product) -> None:
    def send() -> None:
        for text in ("not a name", '{"id": 1}', "pc-../../secrets", "sf-001000000000000AAA", "\x00"):
            product.queue().send_message(text)
        product.app.drain()

    assert product.during(send) == []
    assert (product.queue().get_queue_properties().approximate_message_count, product.poisoned()) == (0, 0)


def test_a_wake_up_for_a_name_with_nothing_owed_asks_no_vendor(product: Product) -> None:
    deal = product.sim.salesforce.make_deal("Fabrikam, unmarked")

    def send() -> None:
        product.queue().send_message(f"sf-{deal.opportunity}")
        product.app.drain()

    assert product.during(send) == []
    assert product.poisoned() == 0


# --- the push from Salesforce ---


def test_a_push_with_the_shared_secret_shares_a_deal_without_any_poll(product: Product) -> None:
    deal = product.sim.salesforce.make_deal("Fabrikam, pushed")
    answer = product.http.post("/api/salesforce-changes", headers=PUSH, json={"ids": [deal.opportunity]})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1})
    product.settle()
    assert product.sim.salesforce.record(deal.opportunity)["Referral_Identifier__c"]


def test_a_push_with_another_secret_or_none_is_refused(product: Product) -> None:
    ids = {"ids": [product.sim.salesforce.make_deal("Fabrikam, not pushed").opportunity]}
    answers = [product.http.post("/api/salesforce-changes", headers=headers, json=ids) for headers in ({"x-cosell-secret": "a guess"}, {})]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert product.status()["owed"]["count"] == 0


def test_pushes_are_off_until_a_secret_is_set(product: Product, other_settings: Callable[..., None]) -> None:
    other_settings(SALESFORCE_PUSH_SECRET="")
    ids = {"ids": [product.sim.salesforce.make_deal("Fabrikam, push off").opportunity]}
    assert product.http.post("/api/salesforce-changes", headers={"x-cosell-secret": ""}, json=ids).status_code == 401


# --- registration ---


def test_registration_keeps_other_systems_events_and_takes_nothing_over_unasked(product: Product) -> None:
    webhooks, here = product.sim.webhooks, product.app.url + EVENT
    own = webhooks.registration
    assert own is not None
    other = {**own, "WebhookUrl": "https://billing.contoso.example/events", "WebhookEvents": ["invoice-ready"]}
    webhooks.registration = other

    def register(**request: Any) -> Any:
        answer = product.http.post("/api/webhook-registration", headers=KEY, json=request)
        assert answer.status_code == 200, answer.text
        return answer.json()

    refused = register(overwrite=False)
    assert (refused["action"], refused["now"]) == ("refused", refused["before"])
    assert refused["would_change"]["changed_hands"] == ["invoice-ready"]
    assert webhooks.registration == other

    replaced = register(overwrite=True)
    assert replaced["before"] == {"url": other["WebhookUrl"], "events": ["invoice-ready"]}
    assert replaced["now"] == {"url": here, "events": ["invoice-ready", *own["WebhookEvents"]]}
    assert replaced["changed_hands"] == [{"event": "invoice-ready", "from": other["WebhookUrl"], "to": here}]
    assert webhooks.registration == {**own, "WebhookEvents": ["invoice-ready", *own["WebhookEvents"]]}
    assert own["SignatureTokenToMsSignatureHeader"] is True

    assert product.writes_during(lambda: register(overwrite=True)) == []


# --- for the operator ---


def test_what_is_not_for_strangers_needs_the_function_key(product: Product) -> None:
    asked = [product.http.get("/api/status"), product.http.post("/api/webhook-registration"), product.http.get("/api/health")]
    assert [answer.status_code for answer in asked] == [401, 401, 200]


def test_health_says_ok_and_no_more(product: Product) -> None:
    answer = product.http.get("/api/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({STORAGE: NOBODY}, id="no storage"),
        pytest.param({"SALESFORCE_CLIENT_ID": "unknown"}, id="no sign-in to Salesforce"),
        pytest.param({"PARTNER_CENTER_REFRESH_TOKEN": "expired"}, id="no sign-in to Partner Center"),
        pytest.param({"SALESFORCE_LOGIN_URL": ""}, id="a setting is missing"),
    ],
)
def test_health_says_failing_and_no_more(product: Product, other_settings: Callable[..., None], settings: dict[str, str]) -> None:
    other_settings(**settings)
    answer = product.http.get("/api/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "failing"})


def test_the_doctor_examines_the_deployed_app_and_the_command_line_tells_the_same(product: Product) -> None:
    assert product.http.get("/api/doctor").status_code == 401
    product.run("resume_owed_work", "reconcile")
    answers: list[httpx.Response] = []
    assert product.writes_during(lambda: answers.append(product.http.get("/api/doctor", headers=KEY))) == []
    told, out = answers[0].json(), io.StringIO()
    assert [one for one in told["checks"] if one["state"] == "red"] == []
    assert {one["area"] for one in told["checks"] if one["state"] == "green"} == {"connector", "storage", "Partner Center", "Salesforce"}
    assert [name for name in SECRETS if os.environ[name] in answers[0].text] == []
    assert cosell(["doctor", "--app-url", product.app.url, "--key", KEY["x-functions-key"], "--json"], out=out) == 0
    assert [(one["name"], one["state"]) for one in json.loads(out.getvalue())["checks"]] == [
        (one["name"], one["state"]) for one in told["checks"]
    ]


def test_the_doctor_of_an_app_that_lacks_a_setting_names_it_and_checks_the_rest(
    product: Product, other_settings: Callable[..., None]
) -> None:
    other_settings(SALESFORCE_LOGIN_URL="")
    told = product.http.get("/api/doctor", headers=KEY).json()["checks"]
    assert [one["finding"] for one in told if one["state"] == "red"] == ["SALESFORCE_LOGIN_URL is not set"]
    assert {one["state"] for one in told if one["area"] == "Salesforce"} == {"not checked"}
    assert {one["state"] for one in told if one["name"] in ("tables", "queue", "registration")} == {"green"}


def test_status_tells_agreement_owed_parked_and_every_flow(product: Product) -> None:
    crm = product.sim.salesforce
    crm.make_deal("Fabrikam, healthy")
    incomplete = crm.make_deal("Fabrikam, no amount yet", Amount=None)
    timers = product.app.host.timers
    product.run(*timers, parked=1)
    product.run("reconcile", parked=1)  # the sweep of the first round met deals that were still in flight

    told = product.status()
    assert told["mode"] == "live"
    assert told["pairs"]["in_agreement"] == sum(bool(one["Referral_Identifier__c"]) for one in crm.records("Opportunity"))
    assert told["owed"] == {"count": 0, "oldest_due": None, "retrying": []}
    assert told["parked"] == {
        "count": 1,
        "deals": [{"name": f"sf-{incomplete.opportunity}", "reason": "the opportunity needs a deal value"}],
    }
    assert set(timers) <= set(told["flows"])
    assert all(flow["at"] for flow in told["flows"].values())
    assert told["salesforce_api_calls"]["limit"] > told["salesforce_api_calls"]["used"] > 0
    seen = crm.record(incomplete.opportunity)
    assert seen["Name"].startswith("✗")
    assert "needs a deal value" in seen["Audit__c"]

    crm.person_edits("Opportunity", incomplete.opportunity, {"Amount": 12_000})
    product.run("salesforce_opportunity_to_partner_center")
    assert crm.record(incomplete.opportunity)["Name"] == f"{CHECK} Fabrikam, no amount yet"


# --- what it keeps to itself ---


def test_secrets_stand_neither_in_the_log_nor_in_storage_and_people_not_in_the_log(
    product: Product, caplog: pytest.LogCaptureFixture
) -> None:
    crm, sim = product.sim.salesforce, product.sim
    with caplog.at_level(logging.INFO):
        caplog.clear()
        deal = crm.make_deal("Adatum data estate", contact=("Dana", "Moreau"))
        incomplete = crm.make_deal("Adatum, no amount yet", Amount=None)
        there = sim.people.portal_create_deal("Adatum from the portal", help_code="QuotesOrLicensing")
        product.run(*product.app.host.timers, parked=1)
        person = {
            "AccountId": deal.account,
            "FirstName": "Femi",
            "LastName": "Adeyemi",
            "Email": "femi@adatum.example",
            "Phone": "+1 555 0177",
        }
        role = {"OpportunityId": deal.opportunity, "ContactId": crm.person_creates("Contact", person), "Role": "Evaluator"}
        crm.person_creates("OpportunityContactRole", role)
        crm.person_edits("Opportunity", deal.opportunity, {"Amount": 1})
        crm.person_edits("Opportunity", incomplete.opportunity, {"Amount": 1})
        product.http.post(EVENT, content=b"{}", headers={"x-ms-signature": "Signature AAAA"})
        product.run(*product.app.host.timers)
        log = "\n".join(record.getMessage() + str(record.exc_info or "") for record in caplog.records if record.name == "cosell")
    with TableServiceClient.from_connection_string(product.storage) as tables:
        stored = "\n".join(str(dict(row)) for one in tables.list_tables() for row in tables.get_table_client(one.name).list_entities())

    assert deal.opportunity in log
    assert there["id"] in log
    assert deal.opportunity in stored
    secrets = [os.environ[name] for name in SECRETS] + [KEY["x-functions-key"], "simulated.", "PRIVATE KEY"]
    people = ["Moreau", "dana.moreau", "+1 555", "Adeyemi", "femi", "Smith", "sue.smith", "+1 425", "Sousa", "ana.sousa"]
    assert [word for word in secrets if word in log or word in stored] == []
    assert [word for word in people if word in log] == []


# --- shadow mode ---


def test_shadow_mode_writes_to_neither_vendor_says_what_it_would_and_loses_none_of_it(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim, crm = product.sim, product.sim.salesforce
    linked = crm.make_deal("Fabrikam, linked")
    product.run("salesforce_opportunity_to_partner_center")
    referral_id = crm.record(linked.opportunity)["Referral_Identifier__c"]

    with monkeypatch.context() as shadow:
        shadow.setenv("SYNC_MODE", "shadow")
        shadow.setattr(composition, "_built", None)
        crm.person_edits("Opportunity", linked.opportunity, {"Amount": 77_000})
        sim.people.portal_edit(referral_id, {"details/notes": "Seen in the portal."})
        from_salesforce = crm.make_deal("Fabrikam, new").opportunity
        from_partner_center = sim.people.portal_create_deal("Northwind, new")["id"]

        assert product.writes_during(lambda: product.run(*product.app.host.timers)) == []
        assert product.status()["mode"] == "shadow"
        names = {"edits": f"sf-{linked.opportunity}", "a referral": f"sf-{from_salesforce}", "an opportunity": f"pc-{from_partner_center}"}
        said = {what: next(composition.world().state.history(name))["text"] for what, name in names.items()}
        assert all("shadow mode" in text for text in said.values())
        assert "deal value 50000 → 77000, changed in Salesforce" in said["edits"]
        assert "notes updated, changed in Partner Center" in said["edits"]
        assert "the referral would be created" in said["a referral"]
        assert "the opportunity would be created" in said["an opportunity"]

    sim.advance(25 * 3600)  # a pair that nobody looked at for a day is looked at by the full sweep
    product.run("reconcile")
    assert sim.referral(referral_id)["details"]["dealValue"] == 77_000
    assert crm.record(linked.opportunity)["Description"] == "Seen in the portal."
    assert crm.record(from_salesforce)["Name"] == f"{CHECK} Fabrikam, new"
    assert product.opportunity(from_partner_center)["Name"] == f"{CHECK} Northwind, new"
