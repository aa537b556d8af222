"""Marked values through whole flows and their troubles, then a search of everything the connector wrote.

Secrets may stand nowhere. Values of deals and people may stand only where `ALLOWED` says, and never in a log, an answer for strangers,
a queue message or a cursor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shared import flows, receiving, reporting
from shared.errors import ConnectorError
from shared.planning import Plan
from shared.settings import Settings
from shared.tables import AzureTables
from shared.waking import WakeQueue
from simulator.certificates import Certificates as SignerCertificates
from simulator.core import Clock as VendorClock
from simulator.core import ConnectionCut, Request, Response
from simulator.entra import CLIENT_SECRET
from simulator.mount import environment
from simulator.people import SELLER
from simulator.simulator import SALESFORCE_CLIENT_SECRET, Simulator
from tests.deals import DealWorld
from tests.one_deal import OneDeal

PUSH_SECRET = "taintpushsecret0123456789abcdef"
WRONG_PUSH_SECRET = "taintwrongpushsecret0123456789"

# What people are, and what a deal is.
PEOPLE = {
    "contact's first name": "Taintfirst",
    "contact's last name": "Taintlast",
    "contact's address": "taintfirst.taintlast@taintcustomer.example",
    "contact's phone": "+1 555 7771",
    "later contact": "taintnoor",
    "invited contact": "taintinvited",
    "seller's last name": "Sousa",
    "seller's address": "taintseller@contoso.example",
    "seller's phone": "+1 555 7772",
    "customer": "Taintcustomer",
    "Microsoft's seller's address": "taintmicrosoft@microsoft.example",
}
DEAL = {
    "deal's name": "Taintdeal",
    "notes": "Taintnotes",
    "amount": "771234.56",
    "invited deal's name": "Taintinvitation",
    "Microsoft's seller": "Tainta Taintmicrosoft",
}

# Where the values of a deal may stand: memory and what is announced, and what was done and why. Nobody else's business.
ALLOWED = {"deal": {"links", "history"}, "people": set(), "quoted": {"links", "history", "owed"}}


class Traces:
    """A world and everything it wrote."""

    def __init__(self, caplog: pytest.LogCaptureFixture, **options: Any) -> None:
        caplog.set_level(logging.DEBUG, logger="cosell")
        logging.getLogger("httpx").setLevel(logging.WARNING)  # as the app does
        logging.getLogger("azure").setLevel(logging.WARNING)
        self._caplog = caplog
        settings = {"SALESFORCE_PUSH_SECRET": PUSH_SECRET, **options.pop("settings", {})}
        self.w = DealWorld(settings=settings, **options)
        self.answers: list[str] = []
        self.sent_tokens: set[str] = set()
        handle = self.w.sim.handle

        def heard(request: Request) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
            self.sent_tokens |= {token} if token else set()
            form = request.form() if "/oauth2/" in request.path else {}
            self.sent_tokens |= {
                form[name] for name in ("refresh_token", "client_secret", "assertion", "client_assertion") if form.get(name)
            }
            return self.trouble(request, handle)

        self.trouble: Callable[[Request, Callable[[Request], Response]], Response] = lambda request, go: go(request)
        self.w.sim.handle = heard  # type: ignore[method-assign]

    @property
    def secrets(self) -> set[str]:
        issued = set(self.w.sim.entra.refresh_tokens)
        return {CLIENT_SECRET, SALESFORCE_CLIENT_SECRET, PUSH_SECRET, WRONG_PUSH_SECRET} | issued | self.sent_tokens

    def answer(self, given: tuple[int, Any]) -> None:
        self.answers.append(json.dumps(given, default=str, ensure_ascii=False))

    def logs(self) -> str:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")  # with tracebacks, as the host writes them
        return "\n".join(formatter.format(record) for record in self._caplog.records)

    def tables(self) -> dict[str, str]:
        return {
            table: "\n".join(json.dumps([one.partition, one.key, one.row], ensure_ascii=False) for one in self.w.tables.list(table))
            for table in ("links", "owed", "cursors", "history")
        }

    def everything(self) -> dict[str, str]:
        queue = "\n".join(name for _, name in self.w.wakes.queued)
        health = json.dumps(reporting.health_answer(lambda: self.w.world))
        return {**self.tables(), "logs": self.logs(), "answers": "\n".join(self.answers), "queue": queue, "health": health}

    def where(self, values: dict[str, str]) -> dict[str, set[str]]:
        """Each value with the places it was found in, whatever its case; and none that was found nowhere."""
        places = {place: text.lower() for place, text in self.everything().items()}
        found = {name: {place for place, text in places.items() if value.lower() in text} for name, value in values.items()}
        return {name: places for name, places in found.items() if places}

    def leaked(self) -> dict[str, set[str]]:
        return {secret[:12]: places for secret, places in self.where({one: one for one in self.secrets if len(one) > 8}).items()}


@pytest.fixture
def traces(caplog: pytest.LogCaptureFixture) -> Traces:
    return Traces(caplog)


def tainted_deal(traces: Traces) -> OneDeal:
    """A deal of marked values through both directions, a conflict, people who join, and Microsoft's answer."""
    w = traces.w
    for user in w.sim.salesforce.records("User"):
        if user["FirstName"] == "Ana":
            seller = {"Email": PEOPLE["seller's address"], "Phone": PEOPLE["seller's phone"]}
            w.sim.salesforce.person_edits("User", user["Id"], seller)
    deal = OneDeal.shared(
        w,
        "Taintdeal",
        customer="Taintcustomer",
        contact=("Taintfirst", "Taintlast"),
        Amount=771_234.56,
        Description="Taintnotes of the first call",
        Referral_visible_to_Microsoft_sellers__c=False,
        How_can_Microsoft_help__c=None,
    )
    deal.adds_contact("Taintnoor", "Haddad", Phone=PEOPLE["contact's phone"])
    deal.seller(Description="Taintnotes of the second call", NextStep="contact added")
    deal.portal(details__notes="Taintnotes from the portal")
    w.seller_edits(deal.id, Description="Taintnotes one")
    deal.portal(details__notes="Taintnotes two")
    deal.seller(How_can_Microsoft_help__c="General or Other")
    seller = {**SELLER, "firstName": "Tainta", "lastName": "Taintmicrosoft", "email": PEOPLE["Microsoft's seller's address"]}
    deal.microsoft("accepts", seller=seller)
    return deal


def invited(traces: Traces) -> None:
    person = {
        "firstName": "Taintinvited",
        "lastName": "Taintlast",
        "phoneNumber": "+1 555 7771",
        "email": "taintinvited@taintcustomer.example",
    }
    traces.w.sim.people.microsoft_invites("Taintinvitation", customer="Taintcustomer", contact=person, notes="Taintnotes by Microsoft")
    traces.w.settle()


def test_ordinary_flows_keep_people_out_of_everything_and_deals_in_links_and_history(traces: Traces) -> None:
    deal = tainted_deal(traces)
    invited(traces)
    reached = str(traces.w.sim.partner_center.records) + str(traces.w.opportunities()) + str(traces.w.sim.salesforce.records("Contact"))
    assert not [name for name, value in (PEOPLE | DEAL).items() if value.lower() not in reached.lower()], "the taint has to travel"
    traces.answer(reporting.status_answer(lambda: traces.w.world))
    traces.w.quiet()
    assert traces.leaked() == {}
    assert traces.where(PEOPLE) == {}
    assert traces.where(DEAL) == dict.fromkeys(DEAL, ALLOWED["deal"])
    assert deal.id in traces.logs(), "the log tells of the deal, by its id"


# -- troubles --------------------------------------------------------------------------------------------------------------------------


def _echo(request: Request) -> str:
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"{headers}\n\n{request.query}\n{request.body.decode('utf-8', 'replace')}"


def _page(status: int) -> Callable[[Request], Response]:
    return lambda request: Response(
        status, f"<html><body><pre>{_echo(request)}</pre></body></html>".encode(), {"Content-Type": "text/html"}
    )


def _words(status: int) -> Callable[[Request], Response]:
    def answered(request: Request) -> Response:
        if "/oauth2/" in request.path:
            return Response.of(status, {"error": "invalid_request", "error_description": _echo(request)})
        if request.host == "salesforce":
            return Response.of(status, [{"errorCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "message": _echo(request)}])
        return Response.of(status, {"error": {"code": "invalidRequest", "message": _echo(request)}})

    return answered


def _cut(request: Request) -> Response:
    raise ConnectionCut


TROUBLES: dict[str, Callable[[Request], Response]] = {
    "a page of 500 that echoes the request": _page(500),
    "a page of 401 that echoes the request": _page(401),
    "a page of 403 that echoes the request": _page(403),
    "words of 400 that echo the request": _words(400),
    "words of 403 that echo the request": _words(403),
    "words of 404 that echo the request": _words(404),
    "words of 409 that echo the request": _words(409),
    "words of 503 that echo the request": _words(503),
    "a redirect that echoes the request": lambda request: Response(
        302, _echo(request).encode(), {"Location": "https://example.com/?" + _echo(request)[:80].replace("\n", "")}
    ),
    "a cut connection": _cut,
}


@pytest.mark.parametrize("host", ["partner_center", "salesforce", "entra"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_trouble_writes_a_secret_anywhere_or_a_value_into_the_log(traces: Traces, host: str, trouble: str) -> None:
    deal = tainted_deal(traces)
    given = TROUBLES[trouble]

    def troubled(request: Request, go: Callable[[Request], Response]) -> Response:
        return given(request) if request.host == host and (host == "entra" or request.method != "GET") else go(request)

    traces.w.sim.clock.advance(3 * 3600)  # tokens have run out: the next call signs in
    traces.trouble = troubled
    traces.w.seller_edits(deal.id, Description="Taintnotes three")
    traces.w.portal_edits(deal.there["id"], {"details/closingDateTime": "2027-05-31T00:00:00Z"})
    deal.adds_contact("Taintthird", "Haddad")
    traces.w.make_deal("Taintdeal", customer="Taintcustomer", contact=("Taintfirst", "Taintlast"), Description="Taintnotes")
    for _ in range(3):
        traces.w.sim.clock.advance(90)
        try:
            traces.w.round()
        except ConnectorError as error:
            logging.getLogger("azure.functions").error("a timer failed", exc_info=error)  # the host logs what a function raises
    traces.answer(receiving.webhook_registration(lambda: traces.w.world, b"{}"))
    found = traces.everything()
    assert traces.leaked() == {}
    for place in ("logs", "queue", "cursors", "health"):
        standing = [name for name, value in (PEOPLE | DEAL).items() if value.lower() in found[place].lower()]
        assert standing == [], f"{place} hold {standing}:\n{found[place][-3000:]}"


def test_what_a_vendor_quotes_stands_where_the_operator_reads_it_and_nowhere_else(traces: Traces) -> None:
    deal = tainted_deal(traces)
    traces.trouble = lambda request, go: (
        _words(400)(request) if request.method == "PATCH" and request.host == "partner_center" else go(request)
    )
    deal.adds_contact("Taintfourth", "Haddad")
    deal.seller(Description="Taintnotes three")
    assert "taintnotes three" in deal.parked.lower()
    assert set().union(*traces.where({"notes": "Taintnotes three"}).values()) == ALLOWED["quoted"]


def test_a_person_stands_in_the_pairs_row_while_a_write_of_them_is_under_way_and_no_longer(traces: Traces) -> None:
    deal = OneDeal.shared(traces.w, How_can_Microsoft_help__c=None, Referral_visible_to_Microsoft_sellers__c=False)
    traces.trouble = lambda request, go: _page(503)(request) if request.method == "PATCH" else go(request)
    joined = {"address": "taintfifth.haddad@fabrikam.example", "name": "Taintfifth"}
    deal.adds_contact("Taintfifth", "Haddad")
    traces.w.seller_edits(deal.id, NextStep="contact added")
    traces.w.sim.clock.advance(60)
    traces.w.round()
    assert traces.where(joined) == {"address": {"links"}, "name": {"links"}}
    traces.trouble = lambda request, go: go(request)
    traces.w.settle()
    assert traces.where(joined) == {}
    assert "taintfifth" in str(deal.there).lower()


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_query_that_names_people_and_fails_is_logged_without_them(traces: Traces, status: int) -> None:
    asked = []

    def troubled(request: Request, go: Callable[[Request], Response]) -> Response:
        query = request.parameters().get("q", "")
        if "FROM Account " not in query and "FROM User " not in query:
            return go(request)
        asked.append(query)
        return Response.of(
            status, [{"errorCode": "MALFORMED_QUERY", "message": f"{query}\nAuthorization: {request.headers['authorization']}"}]
        )

    traces.trouble = troubled
    person = {
        "firstName": "Taintinvited",
        "lastName": "Taintlast",
        "phoneNumber": "+1 555 7771",
        "email": "taintinvited@taintcustomer.example",
    }
    traces.w.sim.people.microsoft_invites("Taintinvitation", customer="Taintcustomer", contact=person, notes="Taintnotes by Microsoft")
    traces.w.sim.clock.advance(60)
    traces.w.round()
    assert "Taintcustomer" in str(asked), "the query names the customer"
    assert traces.leaked() == {}
    assert "logs" not in set().union(*traces.where(PEOPLE | DEAL).values())


def test_an_exception_that_quotes_a_record_is_logged_without_its_message(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    deal = tainted_deal(traces)

    def breaks(*_: Any) -> Plan:
        raise ValueError(f"{DEAL['notes']} could not be understood, nor {PEOPLE['customer']}")

    with monkeypatch.context() as patch:
        patch.setattr(flows, "plan_pair", breaks)
        traces.w.seller_edits(deal.id, Description="Taintnotes four")
        traces.w.sim.clock.advance(60)
        traces.w.round()
    assert "unexpected ValueError" in traces.logs()
    assert "breaks" in traces.logs(), "the trace says where"
    assert traces.where(PEOPLE) == {}
    assert "logs" not in traces.where(DEAL)["notes"]


def test_shadow_mode_tells_its_plans_in_history_and_not_in_the_log(traces: Traces) -> None:
    deal = tainted_deal(traces)
    live = traces.w.world
    traces.w.world = replace(live, settings=replace(live.settings, sync_mode="shadow"))
    traces.w.seller_edits(deal.id, Amount=888_123.45)
    traces.w.sim.clock.advance(60)
    traces.w.round()
    assert "888123.45" in traces.tables()["history"]
    assert "888123.45" not in traces.logs()
    assert "logs" not in set().union(*traces.where(PEOPLE | DEAL).values())


# -- who may ask -----------------------------------------------------------------------------------------------------------------------


def test_pushes_and_events_are_answered_without_what_they_carried(traces: Traces) -> None:
    for secret, body in (
        (WRONG_PUSH_SECRET, b'{"ids": ["006Ws0000000Q1UIAU"]}'),
        (PUSH_SECRET, b'{"ids": ["Taintdeal"]}'),
        (PUSH_SECRET, b'{"ids": ["006Ws0000000Q1UIAU"]}'),
        (PUSH_SECRET, b"Taintnotes"),
    ):
        traces.answer(receiving.salesforce_push(lambda: traces.w.world, {"x-cosell-secret": secret}, body))
    for headers in ({"Authorization": f"Signature {PUSH_SECRET}"}, {"x-ms-signature": f"Signature {WRONG_PUSH_SECRET}"}, {}):
        traces.answer(
            receiving.partner_center_event(lambda: traces.w.world, lambda: traces.w.certificates, headers, b'{"EventName": "Taintdeal"}')
        )
    assert traces.leaked() == {}
    assert "taint" not in traces.logs().lower()
    assert json.loads(traces.everything()["health"])[1] == {"status": "ok"}


# -- keys and storage ------------------------------------------------------------------------------------------------------------------


def test_the_private_key_and_what_it_signs_stay_out(caplog: pytest.LogCaptureFixture) -> None:
    sim = Simulator(VendorClock(datetime.now(UTC).replace(microsecond=0)), seed=1, certificates=SignerCertificates())
    key = environment(sim, private_key=True)["SALESFORCE_PRIVATE_KEY"]
    traces = Traces(caplog, simulator=sim, settings={"SALESFORCE_PRIVATE_KEY": key, "SALESFORCE_CLIENT_SECRET": ""})
    OneDeal.shared(traces.w)
    for status in (400, 500):
        traces.w.sim.clock.advance(3 * 3600)
        traces.trouble = lambda request, go, s=status: _words(s)(request) if "/oauth2/" in request.path else _page(401)(request)  # type: ignore[misc]
        traces.w.world.state.mark("sf-006Ws0000000Q1UIAU")
        outcomes = flows.synchronize(traces.w.new_worker(), "sf-006Ws0000000Q1UIAU")
        assert outcomes.kind == "later"
    pieces = {line: line for line in key.split("\\n") if len(line) > 40}
    assert any(one.count(".") == 2 for one in traces.sent_tokens), "a signed assertion was sent"
    assert traces.where(pieces) == {}
    assert traces.leaked() == {}


STORAGE_KEY = "dGFpbnRzdG9yYWdla2V5dGFpbnRzdG9yYWdla2V5dGFpbnRzdG9yYWdla2V5"
SIGNATURE = "taintsharedaccesssignature"
STORAGES = {
    "account key": f"DefaultEndpointsProtocol=http;AccountName=contoso;AccountKey={STORAGE_KEY};"
    "TableEndpoint=http://127.0.0.1:9/contoso;QueueEndpoint=http://127.0.0.1:9/contoso",
    "shared access signature": f"TableEndpoint=http://127.0.0.1:9/contoso;QueueEndpoint=http://127.0.0.1:9/contoso;"
    f"SharedAccessSignature=sv=2024-11-04&ss=tq&srt=sco&sp=rwdl&sig={SIGNATURE}",
}


@pytest.fixture
def storage_logs(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.DEBUG, logger="cosell")
    logging.getLogger("azure").setLevel(logging.WARNING)
    return lambda: "\n".join(logging.Formatter().format(record) for record in caplog.records)


@pytest.mark.parametrize("kind", STORAGES)
def test_storage_that_cannot_be_reached_is_told_without_its_key(kind: str, storage_logs: Callable[[], str]) -> None:
    settings = Settings(storage=STORAGES[kind])
    told = []
    for attempt in (
        lambda: AzureTables(settings).get("owed", "00", "pc-1"),
        lambda: list(AzureTables(settings).list("owed")),
        lambda: WakeQueue(settings).wake("pc-1"),
    ):
        with pytest.raises(ConnectorError) as caught:
            attempt()
        chain: list[str] = []
        error: BaseException | None = caught.value
        while error is not None:
            chain.append(str(error))
            error = error.__cause__ or error.__context__
        told += chain
    text = "\n".join([*told, storage_logs()])
    assert STORAGE_KEY not in text
    assert SIGNATURE not in text
