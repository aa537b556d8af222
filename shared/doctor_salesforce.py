"""The doctor's checks of the Salesforce org: sign-in, version, objects, fields, rights, stages, features, API calls, its clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from shared import wire
from shared.doctor_partner_center import clock_check
from shared.doctor_report import MAPPER, OPERATOR, SALESFORCE_ADMIN, Check, Verdict, shown, told
from shared.doctor_subject import Seen, Subject, Unchecked
from shared.errors import ConnectorError, Gone, Misconfigured, SignInFailed, TryLater
from shared.mapping import Mapping, base_field
from shared.mapping_draft import About, Finding
from shared.org_check import against_org
from shared.org_view import TEAM_MEMBER, View, look
from shared.people import TEAM_MEMBERS
from shared.referral import is_guid
from shared.salesforce_login import REMEDIES, Session
from shared.soql import identifier
from shared.transport import network_errors

SALESFORCE = (
    "address",
    "clock",
    "sign-in",
    "org",
    "API version",
    "objects",
    "fields",
    "permissions",
    "stages",
    "features",
    "mapping and org",
    "solution catalogue",
    "API calls",
)
SETTINGS = ("SALESFORCE_LOGIN_URL", "SALESFORCE_CLIENT_ID", "SALESFORCE_USERNAME", "SALESFORCE_PRIVATE_KEY", "SALESFORCE_CLIENT_SECRET")
INSTALL = "install the package, assign the integration permission set (docs/install-salesforce.md)"
AGAIN = "run it again in a few minutes; if it stays so, check SALESFORCE_LOGIN_URL and the network"
BUDGET_AMBER, BUDGET_RED = 80, 95  # percent of the org's daily calls
CATALOGUE_READ = 2000

_SOLUTION_ID = re.compile(r"SOL-[0-9]+-[A-Za-z]+")
_OF_THE_SETTINGS = {remedy for error, _, remedy in REMEDIES if error in ("invalid_client_id", "invalid_client")}


def salesforce_checks(subject: Subject, seen: Seen) -> Iterator[Check]:
    subject.needs(SETTINGS)
    yield from _address(subject)
    session = None
    try:
        session = subject.login.session()
    except ConnectorError as error:
        yield _refused(error)
        raise Unchecked("nobody is signed in to Salesforce") from None
    yield Check("sign-in", "green", "Salesforce takes the integration user's sign-in")
    yield _org(subject, session)
    version = _version(subject, session)
    yield version
    if version.state == "red":
        raise Unchecked("the org does not know the API version")
    try:
        yield from _fits(subject)
        yield from _catalogue(subject, seen)
    except ConnectorError as error:
        yield _unanswered(error)
        raise Unchecked("Salesforce did not answer") from None
    yield _calls(subject)


# -- signing in ------------------------------------------------------------------------------------------------------------------------


def _address(subject: Subject) -> Iterator[Check]:
    url = subject.settings.salesforce_login_url
    host = urlsplit(url).hostname or ""
    if host.endswith(".lightning.force.com"):
        remedy = "give the My Domain address, https://NAME.my.salesforce.com"
        yield Check("address", "red", f"SALESFORCE_LOGIN_URL {host} is the address of the pages, which takes no sign-in", remedy, OPERATOR)
        raise Unchecked("SALESFORCE_LOGIN_URL is not an address to sign in at")
    try:
        answer = _get(subject, f"{url}/services/data", "looking at SALESFORCE_LOGIN_URL")
    except TryLater as error:
        remedy = "check SALESFORCE_LOGIN_URL for a slip, and that this machine reaches it"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            remedy = "where a proxy inspects traffic, name the file of its certificate authority in REQUESTS_CA_BUNDLE"
        yield Check("address", "red", str(error), remedy, OPERATOR)
        raise Unchecked("SALESFORCE_LOGIN_URL does not answer") from None
    yield Check("address", "green", f"{host} answers")
    yield clock_check("Salesforce", subject.clock.now(), _date(answer))


def _get(subject: Subject, url: str, what: str) -> httpx.Response:
    with network_errors(what):
        return subject.http.get(url, headers={"Accept": "application/json"})


def _date(answer: httpx.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).astimezone(UTC)
    except ValueError:
        return None


def _refused(error: ConnectorError) -> Check:
    if isinstance(error, TryLater):
        return Check("sign-in", "red", str(error), AGAIN, OPERATOR)
    if not isinstance(error, SignInFailed):
        return Check("sign-in", "red", str(error), "put the private key that belongs to the app's certificate into the setting", OPERATOR)
    otherwise = "check SALESFORCE_LOGIN_URL and the app's settings"
    finding, remedy = told(error, [*(remedy for *_, remedy in REMEDIES), otherwise], otherwise)
    return Check("sign-in", "red", finding, remedy, OPERATOR if remedy in _OF_THE_SETTINGS else SALESFORCE_ADMIN)


def _org(subject: Subject, session: Session) -> Check:
    wanted, host = subject.settings.salesforce_org_id, urlsplit(session.instance_url).hostname
    # An opaque token begins with the org's id; one in JWT form does not.
    found = session.token.partition("!")[0]
    if not re.fullmatch(r"00D[A-Za-z0-9]{12}", found):
        return Check("org", "not checked", f"the token from {host} does not tell which org it is for")
    if wanted and wanted[:15] != found:
        remedy = "correct SALESFORCE_LOGIN_URL and its credentials, or SALESFORCE_ORG_ID"
        return Check("org", "red", f"this is the org {found} at {host}, SALESFORCE_ORG_ID names {wanted[:15]}", remedy, OPERATOR)
    return Check("org", "green", f"org {found} at {host}" + ("" if wanted else "; SALESFORCE_ORG_ID is not set, so it was not compared"))


def _version(subject: Subject, session: Session) -> Check:
    ours = subject.settings.salesforce_api_version
    try:
        answer = _get(subject, f"{session.instance_url}/services/data", "listing the API versions")
        known = [str(one["version"]) for one in wire.loads(answer.content)]
    except (TryLater, ValueError, TypeError, KeyError):
        return Check("API version", "not checked", "Salesforce did not list its API versions")
    if ours not in known:
        text = f"the org does not offer API version {ours}; it offers {f'{known[0]} to {known[-1]}' if known else 'none'}"
        return Check("API version", "red", text, "leave SALESFORCE_API_VERSION empty, or name one of these", OPERATOR)
    return Check("API version", "green", f"{ours}; the org offers {known[0]} to {known[-1]}")


# -- the org against the mapping -------------------------------------------------------------------------------------------------------


def _fits(subject: Subject) -> Iterator[Check]:
    draft = subject.draft
    if draft is None or draft.mapping is None:
        for name in ("objects", "fields", "permissions", "stages", "features", "mapping and org"):
            yield Check(name, "not checked", "the mapping cannot be read")
        return
    view = look(subject.salesforce, draft)
    found = list(dict.fromkeys(against_org(draft, view)))
    if view.objects.get("Opportunity") is None:
        yield from _of("objects", found, "object", "", INSTALL)
        raise Unchecked("the integration user does not see Opportunity")
    warnings, without = _done_without(draft.mapping, view, found)
    found += warnings
    yield from _of("objects", found, "object", "every object and related list the connector needs is there", INSTALL)
    there = "every field the connector needs is there" + (f"; it does without {', '.join(without)}" if without else "")
    yield from _of("fields", found, "field", there, INSTALL)
    yield from _of("permissions", found, "right", "the integration user may write what the connector writes", INSTALL)
    mapped = "each stage of the mapping is in the org, and each open stage of the org is mapped"
    yield from _of("stages", found, "stage", mapped, "see [stages] and [switches] of the mapping")
    yield from _features(draft.mapping, view, found)
    yield from _of("mapping and org", found, "mapping", "types, lengths and picklists fit", "see `cosell mapping check`")


def _of(name: str, found: Iterable[Finding], about: About, well: str, otherwise: str) -> Iterator[Check]:
    rows = [one for one in found if one.about == about]
    # A mapping that says something else mends most of them, a missing right or object only an administrator.
    who = MAPPER if about in ("mapping", "stage", "feature") else SALESFORCE_ADMIN
    for one in rows:
        state: Verdict = "red" if one.level == "fault" else "amber"
        where = f" ({one.where})" if about in ("mapping", "stage", "feature") else ""
        yield Check(name, state, f"{one.text}{where}", one.remedy or otherwise, who)
    if not rows:
        yield Check(name, "green", well)


def _done_without(mapping: Mapping, view: View, found: list[Finding]) -> tuple[list[Finding], list[str]]:
    """Fields the mapping can do without: a warning where a seller's word does not travel, else only their names."""
    rows = mapping.solutions
    reported = " ".join(one.text for one in found)
    warnings, names = [], []
    for row in mapping.fields:
        name = base_field(row.salesforce)
        if not row.optional or not name or row.name == "currency" or name in reported or view.field("Opportunity", name) is not None:
            continue
        names.append(name)
        if row.travels_to("partner_center"):
            text = f"Opportunity has no field {name}, so {row.label} does not travel"
            warnings.append(Finding("", text, INSTALL, "warning", "field"))
    names += [name for name in (rows.type_field, rows.publisher_field) if view.field(rows.detail_object, name) is None]
    return warnings, [name for name in names if name and name not in reported]


def _features(mapping: Mapping, view: View, found: list[Finding]) -> Iterator[Check]:
    told_of = [*_of("features", [one for one in found if one.about == "feature"], "feature", "", "")]
    faults = [check for check in told_of if check.state != "green"]
    children = {str(one.get("relationshipName")) for one in (view.objects["Opportunity"] or {}).get("childRelationships") or []}
    if mapping.people.opportunity_team and (view.objects.get(TEAM_MEMBER) is None or TEAM_MEMBERS not in children):
        text = "Team Selling (opportunity teams) is off, or hidden: a deal's team stays its owner, in both directions"
        remedy = "Setup, Opportunity Team Settings: enable Team Selling; or set opportunity_team = false under [people] in the mapping"
        faults.append(Check("features", "amber", text, remedy, SALESFORCE_ADMIN))
    yield from faults
    if not faults:
        several = view.field("Opportunity", mapping.switches.currency_field) is not None
        currency = "several currencies" if several else f"one currency, {mapping.opportunity.company_currency}"
        notes = next((row.salesforce for row in mapping.fields if row.name == "notes"), "")
        unneeded = f"; the Notes feature is not needed, notes travel in {notes}" if notes else ""
        teams = "opportunity teams" if mapping.people.opportunity_team else "no opportunity teams, as the mapping says"
        yield Check("features", "green", f"{teams}, {currency}{unneeded}")


def _catalogue(subject: Subject, seen: Seen) -> Iterator[Check]:
    draft, name = subject.draft, "solution catalogue"
    if draft is None or draft.mapping is None:
        yield Check(name, "not checked", "the mapping cannot be read")
        return
    rows = draft.mapping.solutions
    field = identifier(rows.identifier_field)
    try:
        described = subject.salesforce.describe(rows.detail_object)
    except Gone:
        described = {}
    if field not in {str(one["name"]) for one in described.get("fields") or []}:
        yield Check(name, "not checked", f"{rows.detail_object}.{field} is not visible")
        return
    query = f"SELECT {field} FROM {identifier(rows.detail_object)} ORDER BY {field} LIMIT {CATALOGUE_READ}"
    listed = [str(one.get(field) or "").strip() for one in subject.salesforce.query_all(query)]
    seen.catalogue = tuple(dict.fromkeys(one for one in listed if one))
    odd = [one for one in seen.catalogue if not _SOLUTION_ID.fullmatch(one) and not is_guid(one)]
    twice = sorted({one for one in listed if one and listed.count(one) > 1})
    if not listed:
        remedy = f"add a {rows.detail_object} for each co-sell-ready solution, with its id from Partner Center"
        yield Check(name, "amber", "there is no solution to choose, and no deal is shared without one", remedy, SALESFORCE_ADMIN)
    if odd:
        text = f"not of the form of a solution id (SOL-12345-ABC or a GUID): {shown(odd)}"
        yield Check(name, "amber", text, "copy the id from the co-sell solutions page of Partner Center", SALESFORCE_ADMIN)
    if twice:
        yield Check(name, "amber", f"listed more than once: {shown(twice)}", "keep one of each", SALESFORCE_ADMIN)
    if listed and not odd and not twice:
        yield Check(name, "green", f"{len(listed)} solutions can be chosen")


# -- the budget ------------------------------------------------------------------------------------------------------------------------


def _unanswered(error: ConnectorError) -> Check:
    if "REQUEST_LIMIT_EXCEEDED" in str(error):
        return Check("API calls", "red", f"the org's API calls of the last 24 hours are spent: {error}", _SPARE, SALESFORCE_ADMIN)
    if isinstance(error, Misconfigured):
        return Check("objects", "red", str(error), INSTALL, SALESFORCE_ADMIN)
    return Check("objects", "red", str(error), AGAIN, OPERATOR)


_SPARE = "see which app spends them (Setup, System Overview, API usage), or buy more; longer poll schedules spend fewer"


def _calls(subject: Subject) -> Check:
    usage = subject.salesforce.api_usage
    if usage is None:
        return Check("API calls", "not checked", "Salesforce did not tell how many calls were made")
    used, limit = usage
    share = 100 * used // limit if limit else 100
    text = f"{used} of {limit} API calls of the last 24 hours are used, by all apps of the org ({share} %)"
    if share < BUDGET_AMBER:
        return Check("API calls", "green", text)
    return Check("API calls", "red" if share >= BUDGET_RED else "amber", text, _SPARE, SALESFORCE_ADMIN)
