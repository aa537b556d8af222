"""`cosell probe`: what it answers is so, what it made is gone afterwards, and what it stored takes effect."""

from __future__ import annotations

import io
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cosell import probing
from cosell.app import main
from cosell.probing import STEPS
from shared import tenant
from shared.certificates import Certificates
from shared.clock import Clock
from shared.errors import Misconfigured
from shared.mapping import Mapping
from shared.probe import BY_HAND, CUSTOMER, Bench, Event, Notebook, Step, carry_out
from shared.settings import Settings
from shared.tenant import ANSWERABLE, MARK, Answer, Tenant
from shared.transport import http_client
from simulator import odata
from simulator.faults import Fault
from simulator.mount import httpx_transport
from simulator.salesforce import DuplicateRule, Org
from tests.deals import CALLBACK, EVENTS, DealWorld

DOCS = Path(__file__).resolve().parent.parent / "docs"
SOLUTION = "SOL-10001-CON"


def run(w: DealWorld, path: Path, *argv: str) -> tuple[int, str]:
    out = io.StringIO()
    code = main(["probe", "--answers", str(path), *argv], w.world, out, out)
    return code, out.getvalue()


def apply(w: DealWorld, path: Path, *argv: str) -> tuple[int, str]:
    return run(w, path, "--solution", SOLUTION, "--apply", *argv)


def answers(path: Path) -> dict[str, str]:
    return {name: one.answer for name, one in tenant.read(path).answers.items()}


def trials(w: DealWorld) -> list[dict[str, Any]]:
    return [one for one in w.referrals() if one["customerProfile"]["name"] == CUSTOMER]


def bench(w: DealWorld, path: Path, **values: Any) -> Bench:
    def certificates(settings: Settings) -> Certificates:
        return Certificates(settings, http_client(settings, transport=httpx_transport(w.sim)), Clock())

    world = w.world
    notebook = Notebook(path, w.clock)
    made = Bench(
        w.settings, w.mapping, world.partner_center, world.salesforce, w.clock, notebook, certificates, apply=True, solution=SOLUTION
    )
    return replace(made, **values)


def step(name: str) -> Step:
    return next(one for part in STEPS.values() for one in part if one.name == name)


# -- the answer is the switch ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "question", "answer"),
    [
        ({"honour_request_id": False}, "repeated_create", "no"),
        ({"honour_request_id": True}, "repeated_create", "yes"),
        ({"external_reference_filterable": True}, "reference_filter", "yes"),
        ({"external_reference_filterable": False}, "reference_filter", r"no \(400\)"),
        ({"created_status": 200}, "create_status", "200"),
        ({"created_status": 201}, "create_status", "201"),
        ({"closed_status": 400}, "closed_status", "400"),
        ({"closed_status": 409}, "closed_status", "409"),
        ({"reason_required": True}, "lost_reason", r"yes \(400 without\); 'Others' is accepted"),
        ({"reason_required": False}, "lost_reason", "no"),
        ({"marketplace_intent_required": True}, "required_fields", "purchase intent"),
        ({"marketplace_intent_required": False}, "required_fields", "none"),
        ({"independent_may_ask": True}, "independent_upgrade", "yes"),
        ({"independent_may_ask": True}, "second_record", "1 record of Microsoft's; the code stands in Microsoft's"),
        ({"independent_may_ask": False}, "independent_upgrade", r"no \(400\): .*shared referral.*"),
        ({"every_path": False}, "patch_paths", "taken: /name, .*; refused: /qualification, /customerProfile/name, .*"),
        ({"every_path": True}, "patch_paths", "taken: .*/qualification, /customerProfile/name.*"),
        ({"list_lag": 0}, "list_delay", "0 s"),
        ({"list_lag": 120}, "list_delay", "12[0-9] s|1[3-9][0-9] s"),
        ({"error_may_close": True}, "error_substatus", "accepted over the API; reads as Error"),
        ({"page_size": 1}, "next_link", r"https://.*/v1.0/engagements/referrals with \$skiptoken; its query works on our address"),
        (
            {"page_size": 1, "odd_links": True},
            "next_link",
            r"http://api.partner.microsoft.com/v1.0/referrals with \$skiptoken; its query works on our address",
        ),
    ],
)
def test_the_answer_is_what_the_tenant_does(tmp_path: Path, switches: dict[str, Any], question: str, answer: str) -> None:
    w = DealWorld()
    for name, value in switches.items():
        setattr(w.sim.partner_center.switches, name, value)
    for _ in range(2):
        w.sim.people.portal_create_deal()
    apply(w, tmp_path / "tenant.toml", "partner-center", "--involve-microsoft")
    told = answers(tmp_path / "tenant.toml")
    assert re.fullmatch(answer, told[question]), told[question]


@pytest.mark.parametrize(
    ("org", "settings", "question", "answer"),
    [
        (Org(), {}, "key_case", "not case-sensitive"),
        (Org(), {}, "stale_update", "412, nothing written; body: none"),
        (Org(state_and_country_picklists=True), {}, "country_picklists", "on"),
        (Org(), {}, "country_picklists", "off"),
        (Org(), {}, "idle_write", "yes"),
        (Org(), {}, "empty_text", "null"),
        (Org(), {}, "empty_subquery", "null"),
        (Org(), {}, "number_form", "15000.0"),
        (Org(daily_requests=15_000), {}, "api_usage", "told with every answer; 15000 a day"),
        (Org(duplicate_rules=(DuplicateRule("Account", ("Name",)),)), {}, "duplicate_shape", "duplicateResult"),
        (
            Org(duplicate_rules=(DuplicateRule("Account", ("Name",)),)),
            {"SALESFORCE_API_VERSION": "56.0"},
            "duplicate_shape",
            "duplicateResut",
        ),
    ],
)
def test_the_answer_is_what_the_org_does(tmp_path: Path, org: Org, settings: dict[str, str], question: str, answer: str) -> None:
    w = DealWorld(org=org, settings=settings)
    run(w, tmp_path / "tenant.toml", "salesforce", "--apply")
    assert answers(tmp_path / "tenant.toml")[question] == answer
    assert w.opportunities() == []
    assert w.sim.salesforce.records("Account") == []


def test_an_org_that_ignores_the_condition_of_a_write_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    w = DealWorld()
    honest = w.world.salesforce.exchange
    monkeypatch.setattr(w.world.salesforce, "exchange", lambda *given, **options: honest(*given, **{**options, "headers": None}))
    run(w, tmp_path / "tenant.toml", "salesforce", "--apply")
    assert answers(tmp_path / "tenant.toml")["stale_update"].startswith("NOT HONOURED: HTTP 204, written")


def test_a_filter_that_is_ignored_is_not_taken_for_one_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    w = DealWorld()
    w.sim.people.portal_create_deal()
    monkeypatch.setattr(odata, "predicate", lambda *given: lambda record: True)
    run(w, tmp_path / "tenant.toml", "partner-center")
    assert answers(tmp_path / "tenant.toml")["reference_filter"] == "ignored: every referral came back"


# -- what it does to the tenant --------------------------------------------------------------------------------------------------------


def test_without_apply_it_only_reads_and_shows_what_it_would_send(tmp_path: Path) -> None:
    w = DealWorld(settings={"SYNC_MODE": "live"})
    w.sim.people.portal_create_deal()
    position = w.position()
    code, shown = run(w, tmp_path / "tenant.toml")
    assert w.mutations(position) == []
    assert CUSTOMER in shown
    assert "PATCH it to Closed / Lost without a reason" in shown
    assert "nothing was written" in shown
    assert "reference_filter" in answers(tmp_path / "tenant.toml")
    assert code == 1, "paging could not be settled on one page"


def test_nothing_is_left_where_the_tenant_lets_everything_be_cleaned_up(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.error_may_close = True
    deal = w.make_deal()
    w.settle()
    theirs = {one["id"]: one["eTag"] for one in w.referrals()}
    stands = w.opportunity(deal.opportunity)["SystemModstamp"]
    apply(w, tmp_path / "tenant.toml", "--involve-microsoft")
    assert {one["status"] for one in trials(w)} == {"Closed"}
    assert {(one["substatus"], one["statusReason"]) for one in trials(w)} == {("Error", "Test referral"), ("Lost", "Others")}
    assert [one["Id"] for one in w.opportunities()] == [deal.opportunity]
    assert tenant.read(tmp_path / "tenant.toml").leftovers == ()
    assert {one["id"]: one["eTag"] for one in w.referrals() if one["id"] in theirs} == theirs, "no deal of anybody else was touched"
    assert w.opportunity(deal.opportunity)["SystemModstamp"] == stands


def test_what_the_api_will_not_close_is_named_and_settled_when_a_person_closed_it(tmp_path: Path) -> None:
    w = DealWorld()
    path = tmp_path / "tenant.toml"
    code, shown = apply(w, path, "partner-center")
    left = [one["id"] for one in trials(w) if one["status"] != "Closed"]
    assert code == 1
    assert left
    assert sorted(tenant.read(path).leftovers) == sorted(f"referral {one}" for one in left)
    assert all(f"close referral {one} in the portal" in shown for one in left)
    for one in left:
        w.portal_edits(one, {"status": "Closed", "substatus": "Error", "statusReason": "Test referral"})
    position = w.position()
    apply(w, path, "partner-center")
    assert tenant.read(path).leftovers == ()
    assert answers(path)["error_substatus"] == "closed in the portal; reads as Error"
    assert [one for one in w.mutations(position) if "validationEvents" not in one] == [], "and nothing is tried a second time"


def test_a_run_that_is_cut_off_loses_no_test_deal(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.error_may_close = True
    w.sim.faults.add(Fault("partner_center", "POST", cut="after", skip=1))
    path = tmp_path / "tenant.toml"
    apply(w, path, "partner-center")
    assert trials(w)
    assert {one["status"] for one in trials(w)} == {"Closed"}
    assert tenant.read(path).leftovers == ()


@pytest.mark.parametrize("record", ["Opportunity", "Account"])
def test_a_test_record_whose_creation_got_no_answer_is_removed(tmp_path: Path, record: str) -> None:
    w = DealWorld()
    w.sim.faults.add(Fault("salesforce", "POST", path=f"*/sobjects/{record}", cut="after"))
    run(w, tmp_path / "tenant.toml", "salesforce", "--apply")
    assert w.sim.salesforce.records(record) == []


def test_a_test_deal_that_is_not_listed_yet_is_closed_by_its_id(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.error_may_close = True
    w.sim.partner_center.switches.list_lag = 7200
    apply(w, tmp_path / "tenant.toml", "partner-center")
    assert answers(tmp_path / "tenant.toml")["list_delay"] == "more than 600 s"
    assert {one["status"] for one in trials(w)} == {"Closed"}


def test_an_answer_of_a_service_in_trouble_answers_nothing(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.error_may_close = True
    path = tmp_path / "tenant.toml"
    w.sim.faults.add(Fault("partner_center", "PATCH", status=503, retry_after=90, skip=6))
    w.sim.faults.add(Fault("salesforce", "PATCH", status=503, skip=7))
    apply(w, path)
    first = answers(path)
    assert not {"stale_update"} & set(first)
    assert not any(code in text for text in first.values() for code in ("503", "429"))
    assert {one["status"] for one in trials(w)} == {"Closed"}, "and cleaning up waited"
    assert w.opportunities() == []
    apply(w, path)
    assert {"stale_update", "error_codes", "deal_value_form", "patch_paths"} <= set(answers(path))


def test_a_second_run_asks_for_nothing_that_is_settled(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.error_may_close = True
    path = tmp_path / "tenant.toml"
    w.sim.people.portal_create_deal()
    apply(w, path, "--involve-microsoft")
    before, made = answers(path), len(trials(w))
    apply(w, path)
    assert (answers(path), len(trials(w))) == (before, made)
    w.sim.partner_center.switches.created_status = 201
    apply(w, path, "--again", "create_status")
    assert answers(path)["create_status"] == "201"
    assert len(trials(w)) > made


def test_a_record_that_is_no_test_record_is_never_touched_whatever_the_file_says(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.error_may_close = True
    deal = w.make_deal()
    w.settle()
    real = w.referrals()[0]
    path = tmp_path / "tenant.toml"
    tenant.write(path, Tenant({}, (f"referral {real['id']}", f"Opportunity {deal.opportunity}", f"Account {deal.account}")))
    _, shown = apply(w, path)
    assert w.sim.referral(real["id"])["eTag"] == real["eTag"]
    assert w.opportunity(deal.opportunity)["Name"]
    assert w.sim.salesforce.record(deal.account)["Name"]
    assert shown.count("is left alone") >= 3


def test_a_test_opportunity_can_be_closed_instead_of_deleted(tmp_path: Path) -> None:
    w = DealWorld()
    run(w, tmp_path / "tenant.toml", "salesforce", "--apply", "--close-opportunity")
    assert [(one["Name"], one["StageName"]) for one in w.opportunities()] == [(CUSTOMER, "Closed Lost")]
    assert tenant.read(tmp_path / "tenant.toml").leftovers == ()


def test_shadow_mode_of_its_own_settings_is_said_at_once(tmp_path: Path) -> None:
    w = DealWorld()
    w.world = replace(w.world, settings=replace(w.settings, sync_mode="shadow"))
    code, shown = apply(w, tmp_path / "tenant.toml")
    assert code == 2
    assert "SYNC_MODE is shadow" in shown
    assert run(w, tmp_path / "tenant.toml")[0] == 1, "reading works"


def test_a_sign_in_that_fails_is_said_once(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.faults.add(Fault("salesforce", path="/services/oauth2/token", status=400))
    code, shown = run(w, tmp_path / "tenant.toml")
    assert code == 2
    assert len(shown.splitlines()) == 1


def test_the_file_holds_no_person(tmp_path: Path) -> None:
    w = DealWorld()
    w.make_deal()
    w.settle()
    apply(w, tmp_path / "tenant.toml", "--team-email", "someone@contoso.example")
    text = (tmp_path / "tenant.toml").read_text()
    assert "@" not in text
    assert "Fabrikam" not in text


# -- a person at the terminal ----------------------------------------------------------------------------------------------------------


def test_the_pasted_address_becomes_the_link_of_the_mapping(tmp_path: Path) -> None:
    w = DealWorld()
    pasted = "https://partner.microsoft.com/dashboard/v2/referrals/cosell/3F2504E0-4F89-41D3-9A0C-0305E82C3301/details"
    found = carry_out(step("portal-link"), bench(w, tmp_path / "tenant.toml", ask=lambda text: pasted))
    assert found.kind == "settled"
    assert Mapping.load(tmp_path / "tenant.toml").link == "https://partner.microsoft.com/dashboard/v2/referrals/cosell/{id}/details"


@pytest.mark.parametrize(
    "pasted", ["https://partner.example/3f2504e0-4f89-41d3-9a0c-0305e82c3301", "https://partner.microsoft.com/", "hello"]
)
def test_an_address_that_is_no_deals_changes_nothing(tmp_path: Path, pasted: str) -> None:
    found = carry_out(step("portal-link"), bench(DealWorld(), tmp_path / "tenant.toml", ask=lambda text: pasted))
    assert found.kind == "open"
    assert not (tmp_path / "tenant.toml").exists()


def test_a_person_closes_what_the_api_will_not(tmp_path: Path) -> None:
    w = DealWorld()

    def person(text: str) -> str:
        for one in trials(w):
            if one["id"] in text and one["status"] != "Closed":
                w.portal_edits(one["id"], {"status": "Closed", "substatus": "Error", "statusReason": "Test referral"})
        return "ok"

    one = bench(w, tmp_path / "tenant.toml", ask=person)
    carry_out(step("deal-value"), one)
    assert carry_out(step("close-as-error"), one).kind == "settled"
    assert answers(tmp_path / "tenant.toml")["error_substatus"] == "refused over the API (400); reads as Error"
    assert one.notebook.tenant.leftovers == ()


# -- events ----------------------------------------------------------------------------------------------------------------------------


def capture(w: DealWorld) -> Event:
    """The newest event of the simulator, as it would arrive."""
    seen: list[Event] = []

    def post(url: str, headers: Any, body: bytes) -> int:
        seen.append(Event(dict(headers), body))
        return 200

    w.sim.deliver(post)
    return seen[-1]


@pytest.mark.parametrize(("names_own", "answer"), [(False, "Microsoft's"), (True, "ours")])
def test_a_captured_event_tells_whose_record_it_names(tmp_path: Path, names_own: bool, answer: str) -> None:
    w = DealWorld()
    w.sim.webhooks.conduct.related_names_own = names_own
    made = w.sim.people.portal_create_deal(help_code="GeneralOrOther")
    w.sim.people.microsoft_accepts(made["id"])
    found = carry_out(step("captured-event"), bench(w, tmp_path / "tenant.toml", events=(capture(w),)))
    assert found.kind == "settled", found.why
    told = answers(tmp_path / "tenant.toml")
    assert told["event_record"] == answer
    assert told["event_address"] == "https://api.partnercenter.microsoft.com/engagements/v1/referrals/ID"
    assert told["signature_form"] == "Signature <base64> in x-ms-signature"
    # What an event proves takes effect where the environment does not say otherwise.
    given = tenant.read(tmp_path / "tenant.toml").settings
    assert given == {"WEBHOOK_CERTIFICATE_URL_PREFIX": w.settings.webhook_certificate_url_prefix}


def test_an_event_that_is_not_proved_changes_nothing(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.people.portal_create_deal()
    event = capture(w)
    for forged in (
        replace(event, body=event.body.replace(b"created", b"updated")),
        replace(event, headers={**event.headers, "X-MS-Certificate-Url": "https://contoso.example/cert/signer.contoso.example.cer"}),
    ):
        found = carry_out(step("captured-event"), bench(w, tmp_path / "tenant.toml", events=(forged,)))
        assert found.kind == "open"
        assert found.answers == ()


def test_the_test_event_confirms_what_the_app_proved(tmp_path: Path) -> None:
    w = DealWorld()
    w.world.partner_center.register(CALLBACK, [*EVENTS, "test-created"], replace=True)
    one = bench(w, tmp_path / "tenant.toml", clock=Delivering(w.deliver, w))
    assert carry_out(step("test-event"), one).kind == "settled"
    assert answers(tmp_path / "tenant.toml") == {"signature_form": "one of those the app takes", "certificate": "as set"}


def test_a_test_event_that_another_system_took_proves_nothing(tmp_path: Path) -> None:
    w = DealWorld()
    w.world.partner_center.register("https://other.contoso.example/hook", ["test-created"], replace=True)
    one = bench(w, tmp_path / "tenant.toml", clock=Delivering(lambda: w.sim.deliver(lambda *event: 200), w))
    found = carry_out(step("test-event"), one)
    assert (found.kind, found.answers) == ("open", ())


class Delivering(Clock):
    """While somebody waits, events arrive."""

    def __init__(self, deliver: Callable[[], int], w: DealWorld) -> None:
        self._deliver, self._w = deliver, w

    def now(self) -> Any:
        return self._w.clock.now()

    def monotonic(self) -> float:
        return self._w.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._w.clock.sleep(seconds)
        self._deliver()


# -- answers take effect ---------------------------------------------------------------------------------------------------------------


def test_a_slow_listing_makes_the_margins_longer_and_the_environment_wins(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.list_lag = 120
    path = tmp_path / "tenant.toml"
    apply(w, path, "partner-center")
    settings = Settings.examined({"MAPPING_FILE": str(path)})[0]
    assert settings.create_margin_seconds == settings.partner_center_poll_overlap_seconds >= 1200
    stated = Settings.examined({"MAPPING_FILE": str(path), "CREATE_MARGIN_SECONDS": "900"})[0]
    assert (stated.create_margin_seconds, stated.partner_center_poll_overlap_seconds >= 1200) == (900, True)
    assert Settings.examined({})[0].create_margin_seconds == 600


def test_a_quick_listing_shortens_no_margin(tmp_path: Path) -> None:
    w = DealWorld()
    w.sim.partner_center.switches.list_lag = 20
    apply(w, tmp_path / "tenant.toml", "partner-center")
    assert answers(tmp_path / "tenant.toml")["list_delay"].startswith("2")
    assert tenant.read(tmp_path / "tenant.toml").settings == {}


def test_the_overlays_own_lines_stay_and_win(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    own = '# ours\n[switches]\nactive_stage = "Discovery"   # agreed in May\n\n[required]\n"Services Co-sell" = []\n'
    path.write_text(own)
    book = Notebook(path, Clock())
    answer = Answer("x", "y", "create", mapping={"required": {"IP Co-sell": ["solution_area"], "Services Co-sell": ["partner_role"]}})
    tenant.write(path, Tenant({"required_fields": answer}))
    tenant.write(path, Tenant({"required_fields": answer}, ("referral 1",)))
    assert path.read_text().partition(MARK)[0].rstrip() == own.rstrip()
    mapping = Mapping.load(path)
    assert mapping.required == {"IP Co-sell": ("solution_area",), "Services Co-sell": ()}
    assert mapping.switches.active_stage == "Discovery"
    assert book.path == path
    assert tenant.read(path).answers["required_fields"].mapping == answer.mapping


def test_what_is_written_is_read_back_whatever_the_words(tmp_path: Path) -> None:
    hostile = 'quote " backslash \\ line\nend \t \x7f \u2028 [tenant] = {} # שלום 👍'
    given = Tenant({"a_b": Answer("a_b", hostile, "step", trace=hostile, mapping={"required": {"IP Co-sell": ["x"]}})}, (hostile,))
    tenant.write(tmp_path / "tenant.toml", given)
    assert tenant.read(tmp_path / "tenant.toml") == given


@pytest.mark.parametrize(
    "text",
    [
        '[tenant.answers.x]\nanswer = "y"\nstep = "z"\nsettings = { SALESFORCE_CLIENT_SECRET = "s" }',
        '[tenant.answers.x]\nanswer = "y"\nstep = "z"\nsettings = { PARTNER_CENTER_API_URL = "https://contoso.example" }',
        '[tenant.answers.x]\nanswer = "y"\nstep = "z"\nmapping = { create = { Lead = {} } }',
        '[tenant.answers.x]\nanswer = 3\nstep = "z"',
        '[tenant]\nanswers = "none"',
        '[tenant.answers.x]\nanswer = "y"\nstep = "z"\nsettings = { CREATE_MARGIN_SECONDS = 5 }',
    ],
)
def test_what_no_answer_can_be_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tenant.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=r"\[tenant\]"):
        Mapping.load(path)
    with pytest.raises(Misconfigured, match=r"\[tenant\]"):
        Settings.refuse_wrong_values({"MAPPING_FILE": str(path)})


def test_a_person_records_an_answer_with_the_setting_that_follows(tmp_path: Path) -> None:
    w, path = DealWorld(), tmp_path / "tenant.toml"
    told = ("--record", "rate_limits", "429 after 120 calls")
    assert run(w, path, *told, "--setting", "PARTNER_CENTER_CALLS_PER_MINUTE=100")[0] == 0
    assert Settings.examined({"MAPPING_FILE": str(path)})[0].partner_center_calls_per_minute == 100
    assert run(w, path, *told, "--setting", "PARTNER_CENTER_CALLS_PER_MINUTE=many")[0] == 2
    assert run(w, path, *told, "--setting", "SALESFORCE_CLIENT_SECRET=x")[0] == 2
    assert run(w, path, "--record", "no_such_question", "x")[0] == 2


def test_every_setting_an_answer_gives_is_a_setting() -> None:
    from shared.settings import READERS

    assert set(READERS) >= ANSWERABLE


# -- the documents say the same --------------------------------------------------------------------------------------------------------


def rows() -> Iterator[tuple[str, str]]:
    """Question id and step of every row of the open questions."""
    for line in (DOCS / "open-questions.md").read_text(encoding="utf-8").splitlines():
        cells = [one.strip() for one in line.split(" | ")] if line.startswith("| ") else []
        if cells and not cells[0].startswith("| question") and not set(cells[0]) <= set("|- "):
            found = re.fullmatch(r"`(\w+)`, (?:step `([\w-]+)`|by hand) \|", cells[-1])
            assert found, f"the last column names the question and its step: {line[:80]}"
            yield found[1], found[2] or "by hand"


def test_every_open_question_has_its_step() -> None:
    steps = {question: one.name for part in STEPS.values() for one in reversed(part) for question in one.settles}
    assert dict(rows()) == steps | dict.fromkeys(BY_HAND, "by hand")
    assert len(list(rows())) == len(dict(rows()))


def test_the_first_hour_names_every_question_and_every_step_in_order() -> None:
    page = (DOCS / "first-hour-on-a-real-tenant.md").read_text(encoding="utf-8")
    missing = [question for question, _ in rows() if f"`{question}`" not in page]
    assert missing == []
    for part in STEPS.values():
        rows_of_steps = [page.index(f"| `{one.name}` | {one.title} | {', '.join(f'`{name}`' for name in one.settles)} | ") for one in part]
        assert rows_of_steps == sorted(rows_of_steps)
    assert [one.name for part in STEPS.values() for one in part if f" | {one.decides} |\n" not in page] == []


def test_the_catcher_of_the_document_catches_an_event_as_the_probe_reads_it(tmp_path: Path) -> None:
    page = (DOCS / "first-hour-on-a-real-tenant.md").read_text(encoding="utf-8")
    (tmp_path / "catch.py").write_text(page.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    catcher = subprocess.Popen([sys.executable, "catch.py", "202", str(port)], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        w = DealWorld()
        w.sim.people.portal_create_deal()
        event = capture(w)
        transport = httpx.HTTPTransport(retries=8)  # while it starts
        with httpx.Client(transport=transport, timeout=20, trust_env=False) as client:
            answer = client.post(f"http://127.0.0.1:{port}/", content=event.body, headers=dict(event.headers))
        assert answer.status_code == 202
    finally:
        catcher.terminate()
        catcher.wait(10)
    caught = probing._event(tmp_path / "event-1.json")
    assert caught.body == event.body
    found = carry_out(step("captured-event"), bench(w, tmp_path / "tenant.toml", events=(caught,)))
    assert "certificate" in {one.question for one in found.answers}
