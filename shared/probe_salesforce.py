"""The probe's steps on the Salesforce org: what is asked of it, with a test opportunity that no connector takes up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared import wire
from shared.codecs import parse_instant
from shared.errors import Gone, Refused
from shared.probe import CUSTOMER, Bench, Finding, Step, words
from shared.salesforce_login import DOMAINS
from shared.soql import identifier, literal

if TYPE_CHECKING:
    import requests

ROUNDS = 5


def trial_opportunity(bench: Bench) -> dict[str, Any]:
    """The fields of the test opportunity. The switch that hands a deal to the connector stays off."""
    described = {one["name"] for one in bench.salesforce.describe("Opportunity")["fields"]}
    mapping = bench.mapping
    constants = {name: value for name, value in mapping.create.Opportunity.items() if not (isinstance(value, str) and "{" in value)}
    fields = {
        "Name": CUSTOMER,
        "StageName": mapping.switches.active_stage,
        "CloseDate": f"{bench.clock.now() + timedelta(days=30):%Y-%m-%d}",
        "Amount": 15000,
        mapping.opportunity.sync_field: False,
        **constants,
    }
    return {name: value for name, value in fields.items() if name in described}


def org(bench: Bench) -> Iterator[Finding]:
    limits = bench.salesforce.exchange("GET", "limits", what="reading the limits")
    host = urlsplit(str(limits.url)).hostname or ""
    edition = _edition(bench)
    domain = next((one for one in DOMAINS if host.endswith(one)), "")
    yield Finding("instance_domain", domain or f"{host.partition('.')[2]}, the host that gave the token", trace=edition)
    usage = bench.salesforce.api_usage
    yield Finding("api_usage", f"told with every answer; {usage[1]} a day" if usage else "not told", trace=edition)
    fields = {one["name"]: one for one in bench.salesforce.describe("Opportunity")["fields"]}
    key = fields.get(bench.mapping.opportunity.key_field)
    if key is None:
        yield Finding("key_case", why="the org has no key field: install the connector's package")
    else:
        yield Finding("key_case", "case-sensitive" if key.get("caseSensitive") else "not case-sensitive", trace=edition)
    account = {one["name"] for one in bench.salesforce.describe("Account")["fields"]}
    yield Finding("country_picklists", "on" if "BillingCountryCode" in account else "off", trace=edition)


def opportunity(bench: Bench) -> Iterator[Finding]:
    edition = _edition(bench)
    made = bench.salesforce.create("Opportunity", trial_opportunity(bench))
    bench.notebook.owe(f"Opportunity {made}")
    text = _read(bench, made)
    number = re.search(rb'"Amount"\s*:\s*([0-9.]+)', text)
    if number:
        yield Finding("number_form", number[1].decode(), trace=edition)
    roles = _record(text).get("OpportunityContactRoles")
    yield Finding("empty_subquery", "null" if roles is None else "empty", trace=edition)

    bench.clock.sleep(2)
    before = _record(_read(bench, made))["LastModifiedDate"]
    _update(bench, made, {"Name": CUSTOMER})
    after = _record(_read(bench, made))["LastModifiedDate"]
    yield Finding("idle_write", "yes" if after != before else "no", trace=edition)

    _update(bench, made, {"NextStep": ""})
    yield Finding("empty_text", "null" if _record(_read(bench, made)).get("NextStep") is None else "empty text", trace=edition)

    apart = []
    for turn in range(ROUNDS):
        answer = _update(bench, made, {"NextStep": f"turn {turn}"})
        stamped = parse_instant(str(_record(_read(bench, made))["LastModifiedDate"]))
        apart.append(abs((parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC) - stamped).total_seconds()))
        bench.clock.sleep(1)
    whole = "whole seconds" if stamped.microsecond == 0 else "fractions of a second"
    yield Finding("clocks", f"at most {max(apart):.0f} s apart in {ROUNDS} writes; LastModifiedDate in {whole}", trace=edition)
    yield _stale(bench, made, stamped, edition)


def _stale(bench: Bench, made: str, stamped: datetime, edition: str) -> Finding:
    headers = {"If-Unmodified-Since": format_datetime(stamped - timedelta(hours=1), usegmt=True)}
    answer = _send(bench, made, {"NextStep": "stale"}, headers)
    written = _record(_read(bench, made)).get("NextStep") == "stale"
    if answer.status_code == 412 and not written:
        return Finding("stale_update", f"412, nothing written; body: {words(answer.content) or 'none'}", trace=edition)
    if not written:
        return Finding("stale_update", why=f"HTTP {answer.status_code}, nothing written: {words(answer.content)}")
    return Finding("stale_update", f"NOT HONOURED: HTTP {answer.status_code}, written; do not go live", trace=edition)


def duplicates(bench: Bench) -> Iterator[Finding]:
    """Two accounts of one name, in an org whose duplicate rules block that."""
    for _ in (1, 2):
        answer = bench.salesforce.exchange("POST", "sobjects/Account", what="creating a test account", body={"Name": CUSTOMER})
        if answer.status_code == 201:
            bench.notebook.owe(f"Account {wire.loads(answer.content)['id']}")
            continue
        found = re.search(rb'"(duplicateResu?l?t)"', answer.content)
        if found:
            yield Finding("duplicate_shape", found[1].decode(), trace=_edition(bench))
        else:
            yield Finding("duplicate_shape", why=f"the account was refused, HTTP {answer.status_code}: {words(answer.content)}")
        break
    else:
        yield Finding("duplicate_shape", why="no duplicate rule of the org blocks two accounts of one name")
    for text in clean(bench, "Account"):
        yield Finding("duplicate_shape", why=text)


def clean(bench: Bench, *kinds: str) -> Iterator[str]:
    """Removes the test records of the kinds, also those whose creation got no answer; says what could not be removed."""
    for kind in kinds or ("Account", "Opportunity"):
        closed = " AND IsClosed = FALSE" if kind == "Opportunity" else ""
        for one in bench.salesforce.query_all(f"SELECT Id FROM {identifier(kind)} WHERE Name = {literal(CUSTOMER)}{closed}"):
            bench.notebook.owe(f"{kind} {one['Id']}")
        for record_id in bench.left(kind):
            try:
                answer = _remove(bench, kind, record_id)
            except Gone as error:
                yield str(error)
                continue
            if answer is None or answer.status_code in (200, 204, 404):
                bench.notebook.cleaned(f"{kind} {record_id}")
            else:
                yield f"{kind} {record_id} could not be removed, HTTP {answer.status_code}: {words(answer.content)}; remove it by hand"


def _remove(bench: Bench, kind: str, record_id: str) -> requests.Response | None:
    path = f"sobjects/{kind}/{record_id}"
    standing = bench.salesforce.exchange("GET", path, what="reading a test record")
    if standing.status_code == 404:
        return None
    if standing.status_code == 200 and wire.loads(standing.content).get("Name") != CUSTOMER:
        raise Gone(f"{kind} {record_id} is no test record and is left alone; take it out of {bench.notebook.path}")
    if kind == "Opportunity" and bench.close_opportunity:
        return bench.salesforce.exchange("PATCH", path, what="closing it", body={"StageName": bench.mapping.switches.lost_stage})
    return bench.salesforce.exchange("DELETE", path, what="deleting a test record")


def _read(bench: Bench, record_id: str) -> bytes:
    described = {one["name"] for one in bench.salesforce.describe("Opportunity")["fields"]}
    names = ", ".join(identifier(name) for name in ("Id", "LastModifiedDate", "NextStep", "Amount") if name in described)
    soql = f"SELECT {names}, (SELECT Id FROM OpportunityContactRoles) FROM Opportunity WHERE Id = {literal(record_id)}"
    answer = bench.salesforce.exchange("GET", "query", params={"q": soql}, what="reading the test opportunity")
    return _accepted(answer, "reading the test opportunity").content


def _record(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = wire.loads(text)["records"][0]
    return found


def _update(bench: Bench, record_id: str, fields: dict[str, Any]) -> requests.Response:
    return _accepted(_send(bench, record_id, fields), "updating the test opportunity")


def _send(bench: Bench, record_id: str, fields: dict[str, Any], headers: dict[str, str] | None = None) -> requests.Response:
    path = f"sobjects/Opportunity/{record_id}"
    return bench.salesforce.exchange("PATCH", path, what="updating the test opportunity", body=fields, headers=headers)


def _accepted(answer: requests.Response, what: str) -> requests.Response:
    if answer.status_code not in (200, 204):
        raise Refused(f"{what}: HTTP {answer.status_code}: {words(answer.content)}")
    return answer


def _edition(bench: Bench) -> str:
    found = bench.salesforce.query_all("SELECT OrganizationType, IsSandbox FROM Organization")
    if not found:
        return ""
    return f"{found[0].get('OrganizationType')}{', sandbox' if found[0].get('IsSandbox') else ''}"


READING = (
    Step(
        "org",
        "what the org is",
        ("instance_domain", "api_usage", "key_case", "country_picklists"),
        org,
        decides="the instance's host, the usage header, descriptions of Opportunity and Account",
    ),
)

WRITING = (
    Step(
        "opportunity",
        "reads and conditional writes",
        ("number_form", "empty_subquery", "idle_write", "empty_text", "clocks", "stale_update"),
        opportunity,
        (
            f"POST a test opportunity, then PATCH its NextStep {ROUNDS + 1} times and its name once",
            "PATCH it with an If-Unmodified-Since of before",
        ),
        decides="reads it back after each",
    ),
    Step(
        "duplicates",
        "the answer of a duplicate rule",
        ("duplicate_shape",),
        duplicates,
        ("POST two test accounts of one name", "DELETE what was made"),
        decides="the key in the refusal; where nothing is refused it stays open",
    ),
)
