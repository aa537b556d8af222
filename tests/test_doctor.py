"""The doctor is green where all is well, and where something is broken exactly the right check says so, with what to do and who does it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue import QueueServiceClient

from shared import composition, doctor, mapping_draft
from shared.clock import Clock
from shared.doctor_connector import CONNECTOR, connector_checks
from shared.doctor_partner_center import PARTNER_CENTER
from shared.doctor_report import Check, Report
from shared.doctor_salesforce import SALESFORCE
from shared.doctor_salesforce import SETTINGS as SALESFORCE_SETTINGS
from shared.doctor_solutions import SOLUTIONS
from shared.doctor_storage import SETTINGS as STORAGE_SETTINGS
from shared.doctor_storage import STORAGE, Storage, storage_checks
from shared.doctor_subject import Subject, Unchecked
from shared.entra import Tokens
from shared.errors import SignInFailed, TryLater
from shared.partner_center import PartnerCenter
from shared.refresh_tokens import KeyVaultRefreshToken
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.state import State
from shared.tables import MemoryTables, Row
from shared.transport import http_client
from simulator.faults import Fault
from simulator.mount import httpx_transport, requests_adapter
from simulator.salesforce import Org, Stage
from simulator.salesforce.org import STAGES
from simulator.salesforce.schema import text
from tests.deals import CALLBACK, EVENTS, DealWorld
from tests.test_settings import COMPLETE

MARK = "Northwind Confidential"
CATALOGUE = ("SOL-10001-CON", "SOL-10002-CON", "SOL-20001-MSF")  # every solution of the simulated org


@dataclass
class Queue:
    """The wake-up queue, as the doctor sees it."""

    poison: int = 0
    fails: Exception | None = None
    proofs: int = 0

    def prove(self) -> None:
        self.proofs += 1
        if self.fails:
            raise self.fails

    def waiting(self) -> int:
        return 0

    def poisoned(self) -> int:
        return self.poison


@dataclass
class Clinic:
    """A world with one agreed deal, all timers run, and the doctor in front of it."""

    w: DealWorld
    queue: Queue = field(default_factory=Queue)
    faults: tuple[str, ...] = ()
    clock: Clock | None = None
    mapping_fault: str = ""
    partner_center: Callable[[Settings, httpx.Client, Clock], PartnerCenter] = composition.partner_center_of
    broken_storage: Exception | None = None

    def subject(self) -> Subject:
        settings, clock = self.w.settings, self.clock or self.w.clock
        http = http_client(settings, transport=httpx_transport(self.w.sim))
        login = SalesforceLogin(settings, http, clock)
        salesforce = Salesforce(settings, login, clock, requests_adapter(self.w.sim))
        draft = None if self.mapping_fault else mapping_draft.read(settings.mapping_file or None)
        partner_center = self.partner_center(settings, http, clock)
        return Subject(settings, self.faults, clock, http, login, salesforce, partner_center, draft, self.mapping_fault)

    def storage(self, settings: Settings, clock: Clock) -> Storage:
        if self.broken_storage:
            raise self.broken_storage
        return Storage(State(self.w.tables, clock), self.queue)

    def examine(self, scope: doctor.Scope = "everything", test_event: bool = False) -> Report:
        return doctor.examine(self.subject(), scope, test_event, self.storage, seconds=20)

    def with_settings(self, **changes: Any) -> None:
        self.w.settings = replace(self.w.settings, **changes)


def clinic(org: Org | None = None, share: bool = True, **settings: str) -> Clinic:
    w = DealWorld(org=org, settings=settings)
    if share:
        w.make_deal(MARK, customer=MARK, solutions=CATALOGUE)
        w.settle()
    for timer in ("resume_owed_work", "reconcile"):
        w.world.state.succeeded(timer)
    return Clinic(w)


def wrong(report: Report) -> dict[str, list[str]]:
    """What is neither green nor unchecked: area and name, with the state of each of its rows."""
    found: dict[str, list[str]] = {}
    for area, check in report.checks:
        if check.state in ("amber", "red"):
            found.setdefault(f"{area}: {check.name}", []).append(check.state)
    return found


def rows(report: Report, name: str) -> list[Check]:
    return [check for area, check in report.checks if f"{area}: {check.name}" == name]


# -- where all is well -----------------------------------------------------------------------------------------------------------------


def test_a_sound_connector_is_green_in_every_check() -> None:
    report = clinic().examine(test_event=False)
    assert wrong(report) == {}
    assert report.state == "green"
    assert [check.name for _, check in report.checks] == [*CONNECTOR, *STORAGE, *PARTNER_CENTER, *SALESFORCE, *SOLUTIONS]
    unchecked = [check.name for _, check in report.checks if check.state == "not checked"]
    assert unchecked == ["credential expiries", "consent", "test event"]


def test_the_salesforce_part_needs_nothing_but_salesforce() -> None:
    c = clinic()
    c.faults = ("AzureWebJobsStorage is not set: give one", "PARTNER_CENTER_TENANT_ID is not set: give it")
    before = c.w.position()
    report = c.examine("salesforce")
    assert wrong(report) == {}
    assert {area for area, _ in report.checks} == {"connector", "Salesforce"}
    assert {call.host for call in c.w.sim.journal.calls(since=before)} == {"salesforce"}
    assert c.queue.proofs == 0


def test_a_setting_that_every_part_needs_is_told_in_the_salesforce_part_too() -> None:
    c = clinic(share=False)
    c.faults = ("CALL_TIMEOUT_SECONDS must be a number of seconds from 0.1 to 120",)
    assert wrong(c.examine("salesforce")) == {CO + "settings": ["red"]}


def test_a_plain_run_writes_to_no_vendor_and_leaves_storage_as_it_was() -> None:
    c = clinic()
    before, rows_before = c.w.position(), content(c.w.tables)
    c.examine()
    assert c.w.mutations(before) == []
    assert content(c.w.tables) == rows_before


def content(tables: Any) -> dict[str, list[Any]]:
    return {
        name: [(one.partition, one.key, one.row, one.etag) for one in tables.list(name)] for name in ("links", "owed", "history", "cursors")
    }


def test_nothing_of_a_deal_and_no_secret_is_told() -> None:
    c = clinic()
    c.w.sim.people.portal_create_deal(f"{MARK} two", customer=MARK)
    c.w.make_deal(f"{MARK} three", customer=MARK, country="Portugal")
    c.w.round()
    c.w.sim.clock.advance(3600)
    for _ in range(2):
        told = json.dumps(c.examine().document())
        for secret in (MARK, "Moreau", c.w.settings.partner_center_client_secret, c.w.settings.partner_center_refresh_token):
            assert secret not in told
        assert c.w.settings.salesforce_client_secret not in told
        # And once more with everything refused.
        c.w.sim.entra.revoke()
        c.w.sim.salesforce.login.refuse_with = "client_secret"


# -- what is broken ---------------------------------------------------------------------------------------------------------------------


def lacking(*names: str, **more: Any) -> Org:
    return Org(hidden_fields=frozenset(names), **more)


def read_only(*names: str) -> Org:
    return Org(read_only_fields=frozenset(names))


# the org; the check that has to speak with its states; words of the finding; words of the remedy; who
ORGS: dict[str, tuple[Org, str, list[str], str, str, str]] = {
    "a field is missing": (
        lacking("Opportunity.Audit__c"),
        "Salesforce: fields",
        ["red"],
        "Opportunity has no field Audit__c",
        "permission set",
        "Salesforce administrator",
    ),
    "two fields of two objects are hidden": (
        lacking("Opportunity.Referral_Link__c", "Contact.Email"),
        "Salesforce: fields",
        ["red", "red"],
        "Contact has no field Email",
        "permission set",
        "Salesforce administrator",
    ),
    "a field that a seller's wish travels by is missing": (
        lacking("Opportunity.How_can_Microsoft_help__c"),
        "Salesforce: fields",
        ["amber"],
        "How_can_Microsoft_help__c",
        "install the package",
        "Salesforce administrator",
    ),
    "only Microsoft's package is there": (
        Org(connector_package=False),
        "Salesforce: fields",
        ["amber", "amber", "amber", "amber"],
        "Co_sell_Key__c",
        "the connector's own package",
        "Salesforce administrator",
    ),
    "a field may not be edited": (
        read_only("Opportunity.Referral_Identifier__c"),
        "Salesforce: permissions",
        ["red"],
        "Referral_Identifier__c is read-only",
        "let the permission set edit it",
        "Salesforce administrator",
    ),
    "a solution row may not name its solution": (
        read_only("Microsoft_Solutions__c.Solution__c"),
        "Salesforce: permissions",
        ["red"],
        "Microsoft_Solutions__c.Solution__c is read-only",
        "permission set",
        "Salesforce administrator",
    ),
    "contacts may not be made with a phone": (
        read_only("Contact.Phone"),
        "Salesforce: permissions",
        ["red"],
        "Contact.Phone is read-only",
        "permission set",
        "Salesforce administrator",
    ),
    "the solutions object is missing": (
        lacking("Microsoft_Solutions__c"),
        "Salesforce: objects",
        ["red"],
        "does not see Microsoft_Solutions__c",
        "install the package",
        "Salesforce administrator",
    ),
    "an open stage is not mapped": (
        Org(stages=(*STAGES, Stage("Legal Review", 80))),
        "Salesforce: stages",
        ["amber"],
        "'Legal Review' is not mapped",
        'add "Legal Review" to [stages] active',
        "whoever keeps the mapping",
    ),
    "a stage of the mapping is not in the org": (
        Org(stages=tuple(one for one in STAGES if one.name != "On Hold")),
        "Salesforce: stages",
        ["red"],
        "no stage 'On Hold'",
        "add the stage to the org",
        "whoever keeps the mapping",
    ),
    "Team Selling is off": (
        Org(team_selling=False),
        "Salesforce: features",
        ["amber"],
        "Team Selling",
        "enable Team Selling",
        "Salesforce administrator",
    ),
    "there is one currency and nobody says which": (
        Org(multi_currency=False),
        "Salesforce: features",
        ["red"],
        "single-currency org",
        'company_currency = "EUR"',
        "whoever keeps the mapping",
    ),
    "the org demands a field that nothing fills": (
        Org(extra_fields={"Opportunity": (text("Region__c", nillable=False),)}),
        "Salesforce: mapping and org",
        ["red"],
        "requires Opportunity.Region__c",
        "[create.Opportunity]",
        "whoever keeps the mapping",
    ),
    "the API calls are spent": (
        Org(daily_requests=5),
        "Salesforce: API calls",
        ["red"],
        "are spent",
        "System Overview",
        "Salesforce administrator",
    ),
}


@pytest.mark.parametrize("case", ORGS.values(), ids=ORGS.keys())
def test_an_org_that_lacks_something_is_told_exactly_that(case: tuple[Org, str, list[str], str, str, str]) -> None:
    org, check, states, words, remedy, who = case
    report = clinic(org, share=False).examine("salesforce")
    assert wrong(report) == {check: states}
    (row,) = [one for one in rows(report, check) if words in one.finding]
    assert remedy in row.remedy
    assert who in row.who


# a row of the simulator's table of refusals -> words of the remedy, who
SIGN_INS = {
    "client_secret": ("SALESFORCE_CLIENT_SECRET or SALESFORCE_CLIENT_ID is wrong", "whoever runs the connector"),
    "not_approved": ("'Admin approved users' and a permission set", "Salesforce administrator"),
    "no_execution_user": ("name an execution user", "Salesforce administrator"),
    "user_locked": ("unlock the integration user", "Salesforce administrator"),
    "expired_assertion": ("correct this machine's clock", "Salesforce administrator"),
    "no_description": ("check SALESFORCE_USERNAME", "Salesforce administrator"),
    "login_rate": ("run it again in a few minutes", "whoever runs the connector"),
}


@pytest.mark.parametrize(("refusal", "expected"), SIGN_INS.items(), ids=SIGN_INS.keys())
def test_a_refused_sign_in_to_salesforce_is_one_red_row_and_what_follows_is_not_checked(refusal: str, expected: tuple[str, str]) -> None:
    c = clinic(share=False)
    c.w.sim.salesforce.login.refuse_with = refusal
    report = c.examine("salesforce")
    assert wrong(report) == {"Salesforce: sign-in": ["red"]}
    (row,) = rows(report, "Salesforce: sign-in")
    assert (expected[0] in row.remedy, row.who) == (True, row.who)
    assert expected[1] in row.who
    later = SALESFORCE[SALESFORCE.index("sign-in") + 1 :]
    states = {check.name: (check.state, check.finding) for area, check in report.checks if area == "Salesforce"}
    assert {name: states[name] for name in later} == dict.fromkeys(later, ("not checked", "nobody is signed in to Salesforce"))


@dataclass(frozen=True)
class Broken:
    """What somebody did to a sound connector, and what the doctor has to say."""

    does: Callable[[Clinic], Any]
    says: dict[str, list[str]]
    finding: str
    remedy: str
    who: str


class Elsewhen(Clock):
    """A machine whose clock is wrong; how long things take it tells right."""

    def __init__(self, clock: Clock, off: timedelta) -> None:
        self._clock, self._off = clock, off

    def now(self) -> Any:
        return self._clock.now() + self._off

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


def _clock(seconds: float) -> Callable[[Clinic], None]:
    return lambda c: setattr(c, "clock", Elsewhen(c.w.clock, timedelta(seconds=seconds)))


def _register(url: str = CALLBACK, events: list[str] = EVENTS) -> Callable[[Clinic], Any]:
    return lambda c: c.w.world.partner_center.register(url, events, replace=True)


def _solution(identifier: str) -> Callable[[Clinic], Any]:
    fields = {"Name": "Another", "Solution_Identifier__c": identifier}
    return lambda c: c.w.sim.salesforce.person_creates("Microsoft_Solution_Detail__c", fields)


def _parks(c: Clinic) -> None:
    c.w.make_deal("Portuguese", country="Portugal")
    c.w.round()
    for timer in ("resume_owed_work", "reconcile"):
        c.w.world.state.succeeded(timer)


def _held(c: Clinic) -> None:
    state = c.w.world.state
    state.mark("sf-006000000000001AAA")
    owed = state.owed("sf-006000000000001AAA")
    assert owed is not None
    state.hold(owed, "held", ["salesforce"])


def _late(c: Clinic) -> None:
    c.w.world.state.mark("sf-006000000000001AAA")
    c.w.sim.clock.advance(1200)
    c.w.world.state.succeeded("resume_owed_work")


def _storage(status: int) -> TryLater:
    error = TryLater(f"Table Storage answered {status}")
    error.__cause__ = HttpResponseError("refused")
    error.__cause__.status_code = status
    return error


def _spend(c: Clinic) -> None:
    crm = c.w.sim.salesforce
    crm.org = replace(crm.org, daily_requests=200)
    while crm.api_usage < 165:
        c.w.world.salesforce.query("SELECT Id FROM User LIMIT 1")


def _unswept(c: Clinic) -> None:
    c.w.sim.clock.advance(30 * 3600)
    c.w.world.state.succeeded("resume_owed_work")


class Refusing(MemoryTables):
    """A table service that lets nobody in."""

    def get(self, table: str, partition: str, key: str) -> Any:
        raise _storage(403)

    def merge(self, table: str, partition: str, key: str, row: Row) -> str:
        raise _storage(403)


class _Vaulted:
    """A Key Vault that answers as told."""

    def __init__(self, status: int, stored_days_ago: int = 0) -> None:
        self.status, self.days = status, stored_days_ago

    def __call__(self, settings: Settings, http: httpx.Client, clock: Clock) -> PartnerCenter:
        at = int((clock.now() - timedelta(days=self.days)).timestamp())
        secret = {"value": settings.partner_center_refresh_token, "attributes": {"updated": at}}

        def vault(request: httpx.Request) -> httpx.Response:
            # It may be read, never written: so the age of what is stored stays.
            return httpx.Response(self.status, json=secret) if request.method == "GET" else httpx.Response(403)

        client = httpx.Client(transport=httpx.MockTransport(vault))
        vaulted = replace(settings, key_vault_uri="https://contoso.vault.azure.net")
        refresh = KeyVaultRefreshToken(vaulted, client, clock, lambda: "token of the identity")
        return PartnerCenter(settings, http, Tokens(settings, http, refresh, clock), clock)


def _vault(status: int, days: int = 0) -> Callable[[Clinic], None]:
    def apply(c: Clinic) -> None:
        c.partner_center = _Vaulted(status, days)

    return apply


def _no_identity(c: Clinic) -> None:
    def refused() -> str:
        raise SignInFailed("the managed identity 5c7c3a5e could not sign in: assign it to the function app")

    def build(settings: Settings, http: httpx.Client, clock: Clock) -> PartnerCenter:
        return PartnerCenter(settings, http, Tokens(settings, http, KeyVaultRefreshToken(settings, http, clock, refused), clock), clock)

    c.partner_center = build


def _without_token(does: Callable[[Clinic], None]) -> Callable[[Clinic], None]:
    def apply(c: Clinic) -> None:
        does(c)
        token = c.w.settings.partner_center_refresh_token
        c.with_settings(partner_center_refresh_token="", key_vault_uri="https://contoso.vault.azure.net")
        inner = c.partner_center
        c.partner_center = lambda settings, http, clock: inner(replace(settings, partner_center_refresh_token=token), http, clock)

    return apply


PC, SF, ST, CO = "Partner Center: ", "Salesforce: ", "storage: ", "connector: "
BOTH_SIGN_INS = {PC + "sign-in for referrals": ["red"], PC + "sign-in for webhooks": ["red"]}

BROKEN = {
    "a setting is missing": Broken(
        lambda c: setattr(c, "faults", ("SALESFORCE_PUSH_SECRET is not set: give a long random text",)),
        {CO + "settings": ["red"]},
        "SALESFORCE_PUSH_SECRET is not set",
        "give a long random text",
        "whoever runs",
    ),
    "a setting is mistyped": Broken(
        lambda c: setattr(c, "faults", ("LEASE_SECONDS must be a number of seconds from 1 to 3600",)),
        {CO + "settings": ["red"]},
        "LEASE_SECONDS must be",
        "give LEASE_SECONDS a value that fits",
        "whoever runs",
    ),
    "shadow mode": Broken(
        lambda c: c.with_settings(sync_mode="shadow"), {CO + "mode": ["amber"]}, "shadow", "set SYNC_MODE to live", "whoever runs"
    ),
    "the mapping is not TOML": Broken(
        lambda c: setattr(c, "mapping_fault", "the mapping file mine.toml is not valid TOML: line 3"),
        {CO + "mapping": ["red"]},
        "is not valid TOML",
        "MAPPING_FILE",
        "whoever keeps the mapping",
    ),
    "a certificate ended": Broken(
        lambda c: c.with_settings(credential_expiries={"SALESFORCE_PRIVATE_KEY": date(2026, 11, 1)}),
        {CO + "credential expiries": ["red"]},
        "SALESFORCE_PRIVATE_KEY ended on 2026-11-01",
        "put a new SALESFORCE_PRIVATE_KEY in place",
        "whoever runs",
    ),
    "a secret ends soon": Broken(
        lambda c: c.with_settings(credential_expiries={"PARTNER_CENTER_CLIENT_SECRET": date(2026, 11, 20)}),
        {CO + "credential expiries": ["amber"]},
        "in 18 days",
        "PARTNER_CENTER_CLIENT_SECRET",
        "whoever runs",
    ),
    "the tables refuse the identity": Broken(
        lambda c: setattr(c.w, "tables", Refusing()),
        {ST + "tables": ["red"]},
        "the storage account refuses",
        "Storage Table Data Contributor",
        "Azure",
    ),
    "the queue refuses the identity": Broken(
        lambda c: setattr(c.queue, "fails", _storage(403)), {ST + "queue": ["red"]}, "refuses", "Storage Queue Data Contributor", "Azure"
    ),
    "the storage account is not reachable": Broken(
        lambda c: setattr(c.queue, "fails", TryLater("the storage queue cannot be reached (ServiceRequestError)")),
        {ST + "queue": ["red"]},
        "cannot be reached",
        "that Azurite runs",
        "Azure",
    ),
    "the connection string is none": Broken(
        lambda c: setattr(c, "broken_storage", ValueError("unable to parse")),
        {ST + "tables": ["red"]},
        "not a connection string",
        "copy the connection string again",
        "whoever runs",
    ),
    "poison messages": Broken(
        lambda c: setattr(c.queue, "poison", 3), {ST + "poison messages": ["amber"]}, "about 3", "nothing is lost", "whoever runs"
    ),
    "a deal is parked": Broken(_parks, {ST + "work": ["amber"]}, "parked: 1", "cosell status", "whoever runs"),
    "a brake holds": Broken(_held, {ST + "work": ["amber"]}, "wait for a brake: 1", "cosell resume", "whoever runs"),
    "the worker stands still": Broken(_late, {ST + "work": ["red"]}, "due for more than 15 minutes: 1", "queue trigger", "whoever runs"),
    "the timers stand still": Broken(
        lambda c: c.w.sim.clock.advance(7200),
        {ST + "timers": ["red"]},
        "resume_owed_work last ended well",
        "function app runs",
        "whoever runs",
    ),
    "the full sweep is missing": Broken(
        _unswept, {ST + "timers": ["amber"]}, "reconcile last ended well", "its log for errors of this function", "whoever runs"
    ),
    "the client secret expired": Broken(
        lambda c: c.with_settings(partner_center_client_secret="an old one"),
        BOTH_SIGN_INS,
        "AADSTS7000215",
        "the client secret is wrong",
        "Entra administrator",
    ),
    "the consent was withdrawn": Broken(
        lambda c: c.w.sim.entra.revoke(), BOTH_SIGN_INS, "AADSTS50173", "signs in once more", "Referrals admin"
    ),
    "multi-factor authentication is missing": Broken(
        lambda c: setattr(c.w.sim.entra, "mfa_required", True), BOTH_SIGN_INS, "AADSTS50076", "multi-factor", "Referrals admin"
    ),
    "one of the two audiences has no consent": Broken(
        lambda c: c.w.sim.faults.add(Fault("entra", "POST", status=503, skip=1)),
        {PC + "sign-in for webhooks": ["red"]},
        "HTTP 503",
        "run it again",
        "whoever runs",
    ),
    "the user has no role": Broken(
        lambda c: setattr(c.w.sim.entra.user, "role", "none"),
        {PC + "role and referrals": ["red"]},
        "may not read referrals",
        "the role Referrals admin",
        "global admin",
    ),
    "the token tells of no second factor": Broken(
        lambda c: setattr(c.w.sim.entra.user, "mfa", False),
        {PC + "role and referrals": ["red"]},
        "HTTP 403",
        "multi-factor authentication",
        "Referrals admin",
    ),
    "the user is on no team": Broken(
        lambda c: setattr(c.w.sim.entra.user, "role", "user"),
        {PC + "role and referrals": ["amber"], PC + "co-sell solutions": ["amber"]},
        "no referral is visible",
        "compare with the referrals page",
        "Referrals admin",
    ),
    "nothing is registered": Broken(
        lambda c: setattr(c.w.sim.webhooks, "registration", None),
        {PC + "registration": ["red"]},
        "nothing is registered",
        "cosell register --apply",
        "whoever runs",
    ),
    "another system has the registration": Broken(
        _register("https://fabrikam.example/hook?code=their-key"),
        {PC + "registration": ["red"]},
        "another address has the registration: https://fabrikam.example/hook",
        "--overwrite",
        "whoever runs",
    ),
    "an event is missing": Broken(
        _register(events=EVENTS[:3]), {PC + "registration": ["amber"]}, "lacks related-referral-updated", "--overwrite", "whoever runs"
    ),
    "the vault does not hold the token": Broken(
        _without_token(_vault(404)), {PC + "Key Vault": ["red"]}, "no such secret", "cosell login partner-center", "Azure"
    ),
    "the vault does not answer": Broken(
        _without_token(_vault(503)), {PC + "Key Vault": ["red"]}, "HTTP 503", "check KEY_VAULT_URI", "Azure"
    ),
    "there is no managed identity here": Broken(
        _without_token(_no_identity), {PC + "Key Vault": ["red"]}, "the managed identity", "ask the deployed app with --app-url", "Azure"
    ),
    "the vault refuses the identity": Broken(
        _without_token(_vault(403)), {PC + "Key Vault": ["red"]}, "HTTP 403", "Key Vault Secrets Officer", "Azure"
    ),
    "the vault takes no renewal": Broken(
        _without_token(_vault(200, 40)), {PC + "consent": ["amber"]}, "not renewed for 40 days", "let the identity write", "whoever runs"
    ),
    "the consent ends soon": Broken(
        _without_token(_vault(200, 80)), {PC + "consent": ["red"]}, "ends on 2026-11-12", "cosell login partner-center", "Referrals admin"
    ),
    "the clock is a minute off": Broken(
        _clock(60), {PC + "clock": ["amber"], SF + "clock": ["amber"]}, "60 seconds ahead", "NTP", "whoever runs"
    ),
    "the clock is ten minutes off": Broken(
        _clock(-600), {PC + "clock": ["red"], SF + "clock": ["red"]}, "600 seconds behind", "NTP", "whoever runs"
    ),
    "the address of Salesforce is wrong": Broken(
        lambda c: c.with_settings(salesforce_login_url="https://contosso.my.salesforce.com"),
        {SF + "address": ["red"]},
        "connection failed",
        "check SALESFORCE_LOGIN_URL",
        "whoever runs",
    ),
    "the address is that of the pages": Broken(
        lambda c: c.with_settings(salesforce_login_url="https://contoso.lightning.force.com"),
        {SF + "address": ["red"]},
        "takes no sign-in",
        "My Domain",
        "whoever runs",
    ),
    "it is another org": Broken(
        lambda c: c.with_settings(salesforce_org_id="00D000000000001AAA"),
        {SF + "org": ["red"]},
        "SALESFORCE_ORG_ID names 00D000000000001",
        "correct SALESFORCE_LOGIN_URL",
        "whoever runs",
    ),
    "the org does not know the API version": Broken(
        lambda c: c.with_settings(salesforce_api_version="77.0"),
        {SF + "API version": ["red"]},
        "31.0 to 68.0",
        "leave SALESFORCE_API_VERSION empty",
        "whoever runs",
    ),
    "the API calls are nearly spent": Broken(
        _spend, {SF + "API calls": ["amber"]}, "of 200 API calls", "System Overview", "Salesforce administrator"
    ),
    "a solution was never on a referral": Broken(
        _solution("SOL-77777-NEW"), {PC + "co-sell solutions": ["amber"]}, "SOL-77777-NEW", "Co-sell ready", "marketplace"
    ),
    "a solution is doubled": Broken(
        _solution("SOL-10001-CON"), {SF + "solution catalogue": ["amber"]}, "more than once: SOL-10001-CON", "keep one", "administrator"
    ),
    "a solution's id would turn a terminal's line around": Broken(
        _solution("SOL-1\u202e2"),
        {SF + "solution catalogue": ["amber"], PC + "co-sell solutions": ["amber"]},
        "'SOL-1\\u202e2'",
        "",
        "",
    ),
    "a solution's id is a name": Broken(
        _solution("Data estate"),
        {SF + "solution catalogue": ["amber"], PC + "co-sell solutions": ["amber"]},
        "not of the form",
        "copy the id",
        "administrator",
    ),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_connector_is_told_exactly_what_is_wrong(case: Broken) -> None:
    c = clinic()
    case.does(c)
    report = c.examine()
    assert wrong(report) == case.says
    assert report.state == ("red" if ["red"] in case.says.values() else "amber")
    told = [row for name in case.says for row in rows(report, name) if case.finding in row.finding]
    assert told, [row.finding for name in case.says for row in rows(report, name)]
    for row in told:
        assert case.remedy in row.remedy
        assert case.who in row.who
    for row in (row for name in case.says for row in rows(report, name)):
        assert row.remedy
        assert row.who
    assert "their-key" not in json.dumps(report.document())


# -- the test event ---------------------------------------------------------------------------------------------------------------------


class Delivering(Elsewhen):
    """Whoever waits gives the events time to arrive."""

    def __init__(self, w: DealWorld, post: Callable[[], object]) -> None:
        super().__init__(w.clock, timedelta())
        self._post = post

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._post()


def _event(c: Clinic) -> Check:
    report = c.examine(test_event=True)
    assert not {"role and referrals", "registration"} & {name.partition(": ")[2] for name in wrong(report)}
    (row,) = rows(report, PC + "test event")
    return row


def test_the_test_event_goes_there_and_back() -> None:
    c = clinic()
    _register(events=["test-created", *EVENTS])(c)
    c.clock = Delivering(c.w, c.w.deliver)
    before = c.w.position()
    assert _event(c).state == "green"
    assert c.w.mutations(before) == ["webhooks POST /webhooks/v1/registration/validationEvents"], "and nothing else is sent"


@pytest.mark.parametrize(
    ("status", "state", "words"), [(401, "red", "Unauthorized"), (None, "amber", "30 seconds")], ids=["refused here", "never delivered"]
)
def test_a_test_event_that_does_not_arrive_says_how_it_ended(status: int | None, state: str, words: str) -> None:
    c = clinic()
    _register(events=["test-created", *EVENTS])(c)
    c.w.sim.webhooks.conduct.first_retry = 0.001
    c.clock = Delivering(c.w, lambda: c.w.sim.deliver(lambda *_: status) if status else None)
    row = _event(c)
    assert (row.state, words in row.finding) == (state, True), row
    assert row.remedy


def test_a_third_test_event_within_a_minute_is_amber_and_says_why() -> None:
    c = clinic()
    _register(events=["test-created", *EVENTS])(c)
    for _ in range(2):
        c.w.world.partner_center.send_validation_event()
    row = _event(c)
    assert (row.state, "two requests a minute" in row.finding) == ("amber", True), row


@pytest.mark.parametrize("events", [["test-created", *EVENTS], EVENTS], ids=["somebody else's address", "not registered for"])
def test_no_test_event_is_asked_for_where_it_would_not_come_to_us(events: list[str]) -> None:
    c = clinic()
    foreign = "test-created" in events
    _register("https://fabrikam.example/hook" if foreign else CALLBACK, events)(c)
    before = c.w.position()
    (row,) = rows(c.examine(test_event=True), PC + "test event")
    assert row.state == ("not checked" if foreign else "amber")
    assert c.w.mutations(before) == []


def test_in_shadow_mode_no_test_event_is_sent() -> None:
    c = clinic()
    _register(events=["test-created", *EVENTS])(c)
    c.with_settings(sync_mode="shadow")
    before = c.w.position()
    assert _event(c).state == "amber"
    assert c.w.mutations(before) == []


@pytest.mark.parametrize("url", ["", "https://fabrikam.example/hook"], ids=["nothing registered", "somebody else registered"])
def test_in_shadow_mode_a_registration_that_is_not_ours_stops_no_deployment(url: str) -> None:
    c = clinic()
    if url:
        _register(url)(c)
    else:
        c.w.sim.webhooks.registration = None
    assert rows(c.examine(), PC + "registration")[0].state == "red"
    c.with_settings(sync_mode="shadow")
    (row,) = rows(c.examine(), PC + "registration")
    assert (row.state, "SYNC_MODE is live" in row.remedy) == ("amber", True)


# -- one trouble does not hide another --------------------------------------------------------------------------------------------------


def test_two_vendors_and_storage_broken_at_once_are_all_told() -> None:
    c = clinic()
    c.w.sim.entra.revoke()
    c.w.sim.salesforce.login.refuse_with = "user_locked"
    c.queue.fails = _storage(403)
    assert wrong(c.examine()) == {ST + "queue": ["red"], **BOTH_SIGN_INS, SF + "sign-in": ["red"]}


def test_many_things_missing_in_one_org_are_each_named() -> None:
    org = Org(
        hidden_fields=frozenset({"Opportunity.Audit__c", "Microsoft_Solutions__c"}),
        read_only_fields=frozenset({"Opportunity.Referral_Link__c"}),
        team_selling=False,
        stages=(*STAGES, Stage("Legal Review", 80)),
    )
    assert wrong(clinic(org, share=False).examine("salesforce")) == {
        SF + "objects": ["red"],
        SF + "fields": ["red"],
        SF + "permissions": ["red"],
        SF + "stages": ["amber"],
        SF + "features": ["amber"],
    }


def test_a_part_that_does_not_answer_is_cut_short_and_said() -> None:
    c, release = clinic(), threading.Event()
    c.queue.prove = release.wait  # type: ignore[method-assign, assignment]
    try:
        report = doctor.examine(c.subject(), "everything", False, c.storage, seconds=2)
    finally:
        release.set()
    told = {check.name: (check.state, check.finding) for area, check in report.checks if area == "storage"}
    late = "there was no answer within 2 seconds"
    assert told["tables"][0] == "green", "what was found before then is kept"
    assert told["time"] == ("red", late)
    assert [told[name] for name in ("queue", "poison messages", "work", "timers")] == [("not checked", late)] * 4
    assert report.state == "red"


def test_a_fault_of_the_doctor_itself_is_one_red_row_that_quotes_no_record() -> None:
    c = clinic()

    def broken(settings: Settings, http: httpx.Client, clock: Clock) -> PartnerCenter:
        client = composition.partner_center_of(settings, http, clock)
        client.all_referrals = lambda: [{"details": {"requirements": {"solutions": 5}}, MARK: MARK}][0][MARK + "!"]  # type: ignore[method-assign]
        return client

    c.partner_center = broken
    report = c.examine()
    assert wrong(report) == {PC + "doctor": ["red"]}
    assert MARK not in json.dumps(report.document())
    assert {check.state for area, check in report.checks if area in ("storage", "Salesforce")} == {"green"}


# -- from the settings ------------------------------------------------------------------------------------------------------------------


def test_without_any_setting_each_that_is_missing_is_named_and_nobody_is_called() -> None:
    report = doctor.examine(doctor.subject_of({}))
    (*missing,) = rows(report, CO + "settings")
    assert {row.finding.split()[0] for row in missing} == {
        "AzureWebJobsStorage",
        "PARTNER_CENTER_TENANT_ID",
        "PARTNER_CENTER_CLIENT_ID",
        "PARTNER_CENTER_FEDERATED_IDENTITY_CLIENT_ID",
        "KEY_VAULT_URI",
        "SALESFORCE_LOGIN_URL",
        "SALESFORCE_CLIENT_ID",
        "SALESFORCE_PRIVATE_KEY",
    }
    assert all(row.remedy and row.who for row in missing)
    others = {check.state for area, check in report.checks if area != "connector"}
    assert others == {"not checked"}
    assert {name for name, states in wrong(report).items() if "red" in states} == {CO + "settings"}


def test_a_file_that_is_not_there_is_the_finding_and_not_the_remedy() -> None:
    report = doctor.examine(doctor.subject_of({"WEBHOOK_TRUSTED_ROOTS": "absent.pem"}))
    (row,) = [one for one in rows(report, CO + "settings") if one.finding.startswith("WEBHOOK_TRUSTED_ROOTS")]
    assert "absent.pem" in row.finding
    assert row.remedy.startswith("give WEBHOOK_TRUSTED_ROOTS a value that fits")


def test_a_mistyped_setting_of_another_part_stops_no_part(tmp_path: Path) -> None:
    wrong_mapping = tmp_path / "mine.toml"
    wrong_mapping.write_text("[switches]\nactiv_stage = 'Discovery'\n", encoding="utf-8")
    garbage = tmp_path / "roots.pem"
    garbage.write_text("no certificate", encoding="utf-8")
    subject = doctor.subject_of({**COMPLETE, "MAPPING_FILE": str(wrong_mapping), "SYNC_MODE": "rehearsal", "SSL_CERT_FILE": str(garbage)})
    found = list(connector_checks(subject))
    red = [(check.name, check.finding) for check in found if check.state == "red"]
    assert [name for name, _ in red] == ["settings", "settings", "mapping"]
    assert "SYNC_MODE must be live or shadow" in red[0][1]
    assert "SSL_CERT_FILE" in red[1][1]
    assert "mine.toml:2" in red[2][1]
    for needed in (SALESFORCE_SETTINGS, STORAGE_SETTINGS):
        subject.needs(needed)


@pytest.mark.parametrize("parameters", [{"test_event": "yes"}, {"only": "storage"}, {"everything": "true"}], ids=str)
def test_the_function_refuses_parameters_it_does_not_know(parameters: dict[str, str]) -> None:
    status, body = doctor.answer(parameters)
    assert status == 400
    assert next(iter(parameters)) in body["error"]


def test_a_report_survives_the_way_through_json() -> None:
    report = clinic(share=False).examine()
    assert Report.read(json.loads(json.dumps(report.document()))) == report
    for nonsense in ({}, [], {"checks": [{"area": "storage"}]}, {"checks": [7]}, None):
        with pytest.raises(ValueError, match="not a doctor's report"):
            Report.read(nonsense)


# -- on Azure's own tables and queue ----------------------------------------------------------------------------------------------------


def test_real_storage_is_proved_and_left_as_it_was(azurite: str) -> None:
    settings = Settings(storage=azurite)
    storage, subject = Storage.of(settings, Clock()), replace(clinic(share=False).subject(), settings=settings, clock=Clock())
    service = QueueServiceClient.from_connection_string(azurite, api_version="2023-11-03")
    before = content(storage.state.tables)
    found = {check.name: check for check in storage_checks(subject, lambda *_: storage)}
    assert {name: found[name].state for name in ("tables", "queue", "poison messages")} == dict.fromkeys(
        ("tables", "queue", "poison messages"), "green"
    )
    assert content(storage.state.tables) == before
    assert storage.queue.waiting() == 0
    poison = service.get_queue_client("synchronize-deal-poison")
    poison.create_queue()
    try:
        poison.send_message("sf-006000000000001AAA")
        found = {check.name: check for check in storage_checks(subject, lambda *_: storage)}
        assert (found["poison messages"].state, "about 1" in found["poison messages"].finding) == ("amber", True)
    finally:
        poison.delete_queue()


def test_a_storage_account_that_is_not_there_is_red_with_a_remedy() -> None:
    nobody = "AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;QueueEndpoint=http://127.0.0.1:9/a"
    subject = replace(clinic(share=False).subject(), settings=Settings(storage=nobody))
    checks = storage_checks(subject, Storage.of)
    found = [next(checks), next(checks)]
    assert [(check.name, check.state) for check in found] == [("tables", "red"), ("queue", "red")]
    assert all("that Azurite runs" in check.remedy for check in found)
    with pytest.raises(Unchecked):
        next(checks)


# -- the page ---------------------------------------------------------------------------------------------------------------------------


def test_the_page_lists_every_check_in_the_order_of_the_report() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([A-Za-z ]+) \| `([^`]+)` \|", page, re.MULTILINE)
    parts = {"connector": CONNECTOR, "storage": STORAGE, "Partner Center": PARTNER_CENTER, "Salesforce": SALESFORCE}
    expected = [(area, name) for area, names in parts.items() for name in names]
    assert listed == [*expected, *(("Partner Center", name) for name in SOLUTIONS)]
    answered = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert answered == [str(number) for number in range(1, 23)]
    named = set(re.findall(r"[Cc]hecks? ((?:`[^`]+`(?:, | and | or )?)+)", page))
    assert {one for text in named for one in re.findall(r"`([^`]+)`", text)} <= {name for _, name in expected} | set(SOLUTIONS)
