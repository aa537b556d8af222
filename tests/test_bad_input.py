"""Whatever arrives is answered, nothing is lost, and no worker crashes: one bad record is one bad record."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from shared import receiving
from shared.errors import Misconfigured, TryLater
from shared.notifications import MAXIMUM_BODY
from shared.pairing import opportunity_name, referral_name
from shared.tables import MemoryTables
from simulator.faults import Fault
from tests.deals import DealWorld

ID = "0f6a1c3e-7b52-4d0e-9a55-1c2d3e4f5a6b"
SECRET = {"x-cosell-secret": "a shared secret"}


class Trusting:
    """Certificates that believe everybody: what is tested here comes after the signature (see test_notifications.py)."""

    def authenticate(self, headers: Any, raw: bytes) -> None: ...


def body(**changes: Any) -> bytes:
    event = {
        "EventName": "referral-updated",
        "ResourceUri": f"https://api.partnercenter.microsoft.com/engagements/v1/referrals/{ID}",
        "ResourceName": "referral",
        "AuditUri": None,
        "ResourceChangeUtcDate": "2026-11-02T08:59:58.5485487+00:00",
    }
    return json.dumps(event | changes).encode()


@pytest.fixture(scope="module")
def quiet_world() -> DealWorld:
    """For requests that must leave nothing behind."""
    return DealWorld()


# -- events ----------------------------------------------------------------------------------------------------------------------------

NOT_EVENTS: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "empty"),
    ("blanks", b"  \n", "empty"),
    ("not JSON", b"EventName=referral-updated", "not JSON"),
    ("half of it", body()[:-20], "not JSON"),
    ("not UTF-8", b"\xff\xfe{}", "not UTF-8"),
    ("a list", b"[]", "JSON array"),
    ("null", b"null", "JSON null"),
    ("an endless nesting", b"[" * 200_000, "not JSON"),
    ("over 256 KiB", b" " * (MAXIMUM_BODY + 1), "larger than"),
    ("no event", b"{}", "EventName"),
    ("an event that is no name", body(EventName={"$ne": None}), "EventName"),
    ("an event name of a megabyte's beginning", body(EventName="x" * 5_000), "EventName"),
    ("no resource", body(ResourceUri=None), "ResourceUri"),
    ("a resource that is an object", body(ResourceUri={}), "ResourceUri"),
    ("an id that is no GUID", body(ResourceUri="https://api.partnercenter.microsoft.com/engagements/v1/referrals/42"), "GUID"),
    ("another kind of resource", body(ResourceUri=f"https://api.partnercenter.microsoft.com/v1/invoices/{ID}"), "GUID"),
    ("an address that is none", body(ResourceUri="http://[::1"), "ResourceUri"),
]


@pytest.mark.parametrize(("name", "raw", "words"), NOT_EVENTS, ids=[name for name, *_ in NOT_EVENTS])
def test_a_body_that_is_no_event_is_refused_in_words(quiet_world: DealWorld, name: str, raw: bytes, words: str) -> None:
    status, answer = receiving.partner_center_event(lambda: quiet_world.world, Trusting, {}, raw)
    assert (status, words in answer["error"]) == (400, True), answer
    assert len(json.dumps(answer)) < 1_000, "a stranger's text is not sent back whole"
    assert quiet_world.owed() == {}


@pytest.mark.parametrize("name", ["invoice-ready", "referral-archived", "test-created", "TEST-CREATED"])
def test_an_event_that_asks_for_no_work_is_accepted_and_marks_nothing(quiet_world: DealWorld, name: str) -> None:
    status, answer = receiving.partner_center_event(lambda: quiet_world.world, Trusting, {}, body(EventName=name))
    assert status == 200
    assert answer["accepted"] is False
    assert quiet_world.owed() == {}


def test_only_the_id_of_a_resource_is_used_whatever_host_it_names() -> None:
    """Documentation itself prints a host the API does not answer on (partner-center 6.6); no sender chooses what we call."""
    w = DealWorld()
    since = w.position()
    uri = f"https://evil.example/x/referrals/{ID.upper()}?y=1"
    assert receiving.partner_center_event(lambda: w.world, Trusting, {}, body(ResourceUri=uri))[0] == 200
    assert list(w.owed()) == [referral_name(ID)]
    assert w.sim.journal.calls(since=since) == [], "no vendor is called"


class Unreachable(MemoryTables):
    def merge(self, *_: Any, **__: Any) -> str:
        raise TryLater("Table Storage cannot be reached")


def test_what_cannot_be_stored_is_answered_503_so_that_it_comes_again() -> None:
    w = DealWorld(tables=Unreachable(), settings={"SALESFORCE_PUSH_SECRET": SECRET["x-cosell-secret"]})
    assert receiving.partner_center_event(lambda: w.world, Trusting, {}, body())[0] == 503
    assert receiving.salesforce_push(lambda: w.world, SECRET, b'{"ids": ["006Ws0000000Q1UIAU"]}')[0] == 503


def test_an_app_that_is_not_configured_answers_503() -> None:
    def nothing() -> Any:
        raise Misconfigured("PARTNER_CENTER_TENANT_ID is not set")

    for status, answer in (
        receiving.partner_center_event(nothing, nothing, {}, body()),
        receiving.partner_center_event(nothing, Trusting, {}, body()),
        receiving.salesforce_push(nothing, {}, b"{}"),
    ):
        assert status == 503
        assert "TENANT" not in str(answer), "strangers learn nothing"


# -- pushes ----------------------------------------------------------------------------------------------------------------------------

NOT_PUSHES: list[Any] = [
    ("without the secret", {}, b'{"ids":["006Ws0000000Q1UIAU"]}', 401),
    ("with another secret", {"X-Cosell-Secret": "guess"}, b'{"ids":["006Ws0000000Q1UIAU"]}', 401),
    ("with a secret beyond ASCII", {"x-cosell-secret": "ключ"}, b"{}", 401),
    ("nothing", SECRET, b"", 400),
    ("not JSON", SECRET, b"ids=1", 400),
    ("not UTF-8", SECRET, b"\xff", 400),
    ("a list", SECRET, b'["006Ws0000000Q1UIAU"]', 400),
    ("null", SECRET, b"null", 400),
    ("no ids", SECRET, b'{"ids": null}', 400),
    ("an empty list", SECRET, b'{"ids": []}', 400),
    ("ids as an object", SECRET, b'{"ids": {}}', 400),
    ("ids that are none", SECRET, b'{"ids": ["006Ws0000000Q1UIAU", 5, null, {}, "001Ws0000000Q1UIAU", "006\' OR Name != \'"]}', 400),
    ("more than a transaction holds", SECRET, json.dumps({"ids": ["006Ws0000000Q1UIAU"] * 201}).encode(), 400),
    ("over 256 KiB", SECRET, b" " * (MAXIMUM_BODY + 1), 400),
    ("an endless nesting", SECRET, b"[" * 200_000, 400),
]


@pytest.mark.parametrize(("name", "headers", "raw", "status"), NOT_PUSHES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_push_that_is_none_is_refused_and_marks_nothing(name: str, headers: dict[str, str], raw: bytes, status: int) -> None:
    w = DealWorld(settings={"SALESFORCE_PUSH_SECRET": SECRET["x-cosell-secret"]})
    answered, answer = receiving.salesforce_push(lambda: w.world, headers, raw)
    assert (answered, bool(answer["error"])) == (status, True)
    assert w.owed() == {}


def test_pushes_are_off_without_a_secret(quiet_world: DealWorld) -> None:
    for headers in ({}, {"x-cosell-secret": ""}):
        assert receiving.salesforce_push(lambda: quiet_world.world, headers, b'{"ids":["006Ws0000000Q1UIAU"]}')[0] == 401


def test_a_push_marks_each_opportunity_once_by_its_long_id() -> None:
    w = DealWorld(settings={"SALESFORCE_PUSH_SECRET": SECRET["x-cosell-secret"]})
    raw = json.dumps({"ids": ["006Ws0000000Q1UIAU", "006Ws0000000Q1U"]}).encode()
    assert receiving.salesforce_push(lambda: w.world, SECRET, raw)[0] == 200
    assert list(w.owed()) == [opportunity_name("006Ws0000000Q1U")] == ["sf-006Ws0000000Q1UIAU"]


# -- wake-ups --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "pc-", f"pc-{ID.upper()}", f"pc-{ID}\n", "sf-006Ws0000000Q1U", "sf-001Ws0000000Q1UIAU", "pc-' or 1 eq 1", "x" * 70_000]
)
def test_a_wake_up_that_is_no_record_name_is_recognised(text: str) -> None:
    assert not receiving.is_record_name(text)
    assert receiving.is_record_name(f"pc-{ID}")


# -- referrals -------------------------------------------------------------------------------------------------------------------------


def altered(w: DealWorld, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """An invitation from Microsoft whose record then is what the test makes of it, whatever the service would allow."""
    referral_id: str = w.sim.people.microsoft_invites()["id"]
    record = w.sim.partner_center.records[referral_id]
    w.sim.partner_center.records[referral_id] = change(record)
    return referral_id


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: {name: value for name, value in record.items() if name not in names}


def having(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: {**record, **values}


def within(section: str, **values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: {**record, section: {**record[section], **values}}


def all_null(record: dict[str, Any]) -> dict[str, Any]:
    kept = ("id", "engagementId", "organizationId", "organizationName", "createdDateTime", "updatedDateTime", "eTag", "type")
    return {name: value if name in kept else None for name, value in record.items()}


def nulls_inside(record: dict[str, Any]) -> dict[str, Any]:
    emptied = {name: dict.fromkeys(value) for name, value in record.items() if isinstance(value, dict)}
    return {**record, **emptied}


@dataclass(frozen=True)
class BadReferral:
    name: str
    change: Callable[[dict[str, Any]], dict[str, Any]]
    parked: str = ""  # the words of the reason; empty: an opportunity is made
    says: str = ""  # words in the deal's history


REFERRALS: list[Any] = [
    BadReferral("null everywhere", all_null, parked="status null/None is not known"),
    BadReferral("null in every section", nulls_inside),
    BadReferral("without its customer", without("customerProfile")),
    BadReferral("without details", without("details")),
    BadReferral(
        "without consent, team, context and tracking", without("consent", "team", "inviteContext", "trackingInfo", "target", "links")
    ),
    BadReferral("a status of the future", having(status="Dormant", substatus="Sleeping"), parked="status Dormant/Sleeping is not known"),
    BadReferral("a substatus of the future", having(substatus="Engaged"), parked="status New/Engaged is not known"),
    BadReferral("unknown enum values", having(qualification="Telepathic", direction="Sideways", quality=7, salesStage="??")),
    BadReferral("a field nobody knows", having(quantumState={"spin": [1, None]})),
    BadReferral("an amount that is text", within("details", dealValue="a lot"), says="not an amount"),
    BadReferral("a currency that is none", within("details", currency="dollars"), says="not a currency code"),
    BadReferral("a closing date of seven digits", within("details", closingDateTime="2027-01-31T00:00:00.0000000Z")),
    BadReferral("a closing date that is none", within("details", closingDateTime="soon"), says="not a date"),
    BadReferral("requirements that are a list", within("details", requirements=[])),
    BadReferral("solutions that are an object", within("details", requirements={"solutions": {}})),
    BadReferral(
        "solutions of all sorts",
        within("details", requirements={"solutions": [None, "x", {}, {"id": None}, {"id": "SOL-1", "name": None}]}),
    ),
    *[BadReferral(f"ids as {ids}", within("customerProfile", ids=ids)) for ids in ({}, [], [{"profileType": "Duns", "id": "795986822"}])],
    BadReferral("a team that is an object", within("customerProfile", team={"0": {}})),
    BadReferral("people who are null", within("customerProfile", team=[None, {}, {"firstName": None, "lastName": None, "email": None}])),
    BadReferral("an address that is a list", within("customerProfile", address=["1 Harbour Road"])),
    BadReferral("a customer that is text", having(customerProfile="Fabrikam")),
    BadReferral("a closing date at the end of time", within("details", closingDateTime="9999-12-31T23:59:59-05:00"), says="not a"),
    BadReferral("a name as long as a book", having(name="✓ " + "本" * 4_000)),
    BadReferral("a name of marks only", having(name="✓ ❌")),
    BadReferral("notes as long as a book, right to left", within("details", notes="\u05e2\u05e1\u05e7\u05d4 😀\r\n" * 5_000)),
    BadReferral("a reference to nothing of ours", having(externalReferenceId={"id": 1}), says="not a record of this Salesforce org"),
]


@pytest.mark.parametrize("bad", REFERRALS, ids=lambda one: one.name)
def test_a_bad_referral_is_made_the_best_of_or_parked_in_words(bad: BadReferral) -> None:
    w = DealWorld()
    good = w.sim.people.portal_create_deal("A good deal")["id"]
    referral_id = altered(w, bad.change)
    w.settle()
    made = {one["Referral_Identifier__c"]: one for one in w.opportunities()}
    assert good in made, "one bad record is one bad record"
    history = [one["text"] for name in (referral_name(referral_id),) for one in w.world.state.history(name)]
    if bad.parked:
        assert bad.parked in w.parked()[referral_name(referral_id)]
        assert referral_id not in made
    elif "externalReferenceId" in bad.name or "reference" in bad.name:
        assert referral_id not in made
        assert w.parked() == {}
    else:
        assert w.parked() == {}
        assert made[referral_id]["StageName"] == "On Hold"
        assert made[referral_id]["CloseDate"]
    assert [text for text in history if bad.says in text], history
    assert w.quiet() == []


def mended() -> tuple[DealWorld, str]:
    """An invitation that was parked for its unknown status, which Partner Center then corrects."""
    w = DealWorld()
    referral_id = altered(w, having(status="Dormant"))
    w.settle()
    assert w.opportunities() == []
    w.sim.partner_center.save({**w.sim.partner_center.records[referral_id], "status": "New"})
    w.settle()
    return w, referral_id


def test_a_parked_referral_becomes_an_opportunity_once_it_is_mended() -> None:
    w, referral_id = mended()
    assert [one["Referral_Identifier__c"] for one in w.opportunities()] == [referral_id]
    assert referral_name(referral_id) not in w.parked()


def test_nothing_of_a_mended_deal_stays_parked() -> None:
    w, _ = mended()
    assert w.parked() == {}


# -- a deal in agreement that turns bad ------------------------------------------------------------------------------------------------


def linked(**options: Any) -> tuple[DealWorld, str, str]:
    w = DealWorld(**options)
    opportunity_id = w.make_deal().opportunity
    w.settle()
    w.quiet()
    return w, opportunity_id, w.referrals()[0]["id"]


def test_a_stage_the_mapping_does_not_know_is_said_and_the_other_fields_still_travel() -> None:
    w, opportunity_id, referral_id = linked()
    w.seller_edits(opportunity_id, StageName="Daydreaming", Amount=61_000)
    w.settle()
    referral = w.sim.partner_center.records[referral_id]
    assert (referral["details"]["dealValue"], referral["status"]) == (61_000, "Active")
    told = "\n".join(one["text"] for one in w.world.state.history(opportunity_name(opportunity_id)))
    assert "stage 'Daydreaming' is not mapped; list it under [stages] in the mapping" in told
    assert w.quiet() == []
    w.seller_edits(opportunity_id, StageName="Closed Won")
    w.settle()
    assert w.sim.partner_center.records[referral_id]["substatus"] == "Won", "a known stage travels again"


def test_an_opportunity_in_an_unmapped_stage_is_shared_and_the_stage_is_said() -> None:
    w = DealWorld()
    opportunity_id = w.make_deal(StageName="Daydreaming").opportunity
    w.settle()
    assert [one["status"] for one in w.referrals()] == ["Active"]
    assert w.opportunity(opportunity_id)["StageName"] == "Daydreaming"
    told = "\n".join(one["text"] for one in w.world.state.history(opportunity_name(opportunity_id)))
    assert "stage 'Daydreaming' is not mapped" in told
    assert w.quiet() == []
    w.seller_edits(opportunity_id, StageName="Closed Won")
    w.settle()
    assert [one["substatus"] for one in w.referrals()] == ["Won"]


@pytest.mark.parametrize(
    "change",
    [
        within("details", dealValue="a lot"),
        within("details", dealValue=None, closingDateTime=None),
        within("details", currency={}),
        within("details", closingDateTime="soon"),
        having(status="Dormant"),
        having(name={}),
        without("customerProfile", "team", "inviteContext", "target", "trackingInfo"),
    ],
    ids=["amount", "no amount", "currency", "closing date", "status", "name", "sections"],
)
def test_a_linked_referral_that_turns_bad_spoils_nothing_in_salesforce(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    w, opportunity_id, referral_id = linked()
    before = w.opportunity(opportunity_id)
    service = w.sim.partner_center
    externally_known = service.records[referral_id]["externalReferenceId"]
    service.records[referral_id] = {**change(service.records[referral_id]), "eTag": '"another"', "externalReferenceId": externally_known}
    w.world.state.mark(referral_name(referral_id))
    w.settle()
    after = w.opportunity(opportunity_id)
    kept = ("Amount", "CurrencyIsoCode", "CloseDate", "StageName", "Name", "Referral_Identifier__c")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert w.parked() == {}


def test_text_that_vendors_find_hard_travels_unharmed_both_ways() -> None:
    w, opportunity_id, referral_id = linked()
    name = "👩\u200d💻 Ünïcode <b>&amp;</b> 'quotes\" \\ \u0635\u0641\u0642\u0629"
    notes = "one\r\ntwo\ttab <script>alert(1)</script> \u202eright to left\u202c 😀" + "漢" * 31_900
    w.seller_edits(opportunity_id, Name=name, Description=notes)
    w.settle()
    referral = w.sim.partner_center.records[referral_id]
    assert referral["name"] == name
    assert referral["details"]["notes"] == notes.replace("\r\n", "\n")
    w.portal_edits(referral_id, {"name": f"{name} 2", "details/notes": f"back\n{notes[:100]}"})
    w.settle()
    assert w.opportunity(opportunity_id)["Name"] == f"✓ {name} 2"
    assert w.quiet() == []


def test_an_opportunity_deleted_between_the_two_creates_stops_the_deal_and_not_the_worker() -> None:
    w = DealWorld()
    w.sim.faults.add(Fault(host="partner_center", method="POST", status=503, skip=1, count=99))
    opportunity_id = w.make_deal().opportunity
    w.round()
    assert len(w.referrals()) == 1
    w.sim.salesforce.person_deletes("Opportunity", opportunity_id)
    w.sim.faults.clear()
    w.settle()
    assert w.referrals(own=False) == [], "Microsoft is not asked about a deal that is gone"
    assert w.quiet() == []


# -- mapping ---------------------------------------------------------------------------------------------------------------------------


def test_a_mapping_that_names_a_field_the_org_lacks_stops_the_run_and_names_it() -> None:
    w = DealWorld(overlay={"fields": {"notes": {"salesforce": "Partner_Notes__c"}, "deal_value": {"salesforce": "Total__c"}}})
    deal = w.make_deal()
    with pytest.raises(Misconfigured, match=r"Partner_Notes__c, Total__c"):
        w.poll()
    w.world.state.mark(opportunity_name(deal.opportunity))
    w.wakes.wake(opportunity_name(deal.opportunity))
    (outcome,) = w.work()
    assert outcome.kind == "later", "owed until the mapping is mended"
    assert "Total__c" in outcome.text
