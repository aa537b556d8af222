"""The probe's steps on Partner Center that need no deal of their own: lists, kinds of referrals, the registration."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from urllib.parse import quote, urlsplit

import httpx

from shared.partner_center_answers import canonical_keys
from shared.probe import Bench, Finding, Step, whole_seconds, words
from shared.probe_trial import body_of, trace_of
from shared.referral import list_at, value_at

SEEN = 500  # referrals looked at when their kinds are counted


def filters(bench: Bench) -> Iterator[Finding]:
    nobody = f"connector-{uuid.uuid4()}"
    answer = filtered_by(bench, f"externalReferenceId eq '{nobody}'")
    yield _filtered(answer, "reference_filter")
    tomorrow = whole_seconds(bench.clock.now() + timedelta(days=1))
    for name in ("updatedDateTime", "createdDateTime"):
        answer = filtered_by(bench, f"{name} ge {tomorrow}")
        found = _filtered(answer, "date_filter")
        if found.answer != "yes":
            yield Finding("date_filter", f"{name}: {found.answer}" if found.answer else "", found.why, found.trace)
            return
    yield Finding("date_filter", "yes", trace=trace_of(answer))


def _filtered(answer: httpx.Response, question: str) -> Finding:
    """Whether a filter that nothing fits was understood."""
    if answer.status_code == 400:
        return Finding(question, "no (400)", trace=trace_of(answer))
    if answer.status_code != 200:
        return Finding(question, why=f"HTTP {answer.status_code}", trace=trace_of(answer))
    # A service that does not know a filter may as well leave it out.
    return Finding(question, "ignored: every referral came back" if body_of(answer).get("value") else "yes", trace=trace_of(answer))


def paging(bench: Bench) -> Iterator[Finding]:
    answer = listed(bench, "")
    link = str(body_of(answer).get("@odata.nextLink") or "")
    if not link:
        yield Finding("next_link", why="fewer referrals than one page holds; ask again when there are more than 100")
        return
    parts = urlsplit(link)
    names = sorted({part.partition("=")[0] for part in parts.query.split("&")})
    following = listed(bench, f"?{parts.query}")
    works = "its query works on our address" if following.status_code == 200 else f"its query gives {following.status_code} on our address"
    yield Finding("next_link", f"{parts.scheme}://{parts.netloc}{parts.path} with {', '.join(names)}; {works}", trace=trace_of(answer))


def unknown_id(bench: Bench) -> Iterator[Finding]:
    answer = bench.partner_center.exchange("GET", f"/{uuid.uuid4()}", what="reading a referral that is not there")
    yield Finding("foreign_referral", f"{answer.status_code} for an id that is nobody's", trace=trace_of(answer))


def kinds(bench: Bench) -> Iterator[Finding]:
    seen = Counter(
        "/".join(
            [str(one.get("type")), str(one.get("qualification")), str(one.get("direction"))]
            + (["invited by Microsoft"] if value_at(one, "inviteContext/invitedBy/organizationId") == "msft" else [])
            + (["a source or an action of the marketplace"] if one.get("referralSource") or one.get("callToAction") else [])
        )
        for one in islice(bench.partner_center.all_referrals(), SEEN)
    )
    if not seen:
        yield Finding("marketplace_leads", why="the account sees no referral")
        return
    yield Finding("marketplace_leads", "; ".join(f"{number} {kind}" for kind, number in sorted(seen.items())))


def portal_link(bench: Bench) -> Iterator[Finding]:
    given = bench.ask("Open any deal in the portal and paste its address (Enter to leave this open): ")
    if not given:
        yield Finding("portal_link", why="no address was given")
        return
    link, number = re.subn(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "{id}", given.strip())
    if number != 1 or not link.startswith("https://") or urlsplit(link).hostname != "partner.microsoft.com":
        yield Finding("portal_link", why="an https address of partner.microsoft.com with exactly one referral id was expected")
        return
    yield Finding("portal_link", link, mapping={"referral": {"link": link}})


def registration(bench: Bench) -> Iterator[Finding]:
    answer = bench.partner_center.exchange("GET", what="reading the webhook registration", audience="webhooks")
    if answer.status_code not in (200, 404):
        yield Finding("registration", why=f"HTTP {answer.status_code}: {words(answer.content)}")
        return
    told = body_of(answer)
    if answer.status_code == 404 or not canonical_keys(told).get("WebhookUrl"):
        yield Finding("registration", f"{answer.status_code} where none exists", trace=trace_of(answer))
        return
    yield Finding("registration", f"200 with the keys {', '.join(sorted(told))}", trace=trace_of(answer))


def register_again(bench: Bench) -> Iterator[Finding]:
    """A second POST of our own registration, so that either answer leaves it as it is."""
    standing = bench.partner_center.registration()
    ours = bench.settings.webhook_callback_url
    if not standing or standing.get("WebhookUrl") != ours:
        yield Finding("second_registration", why="the registration is not ours (WEBHOOK_CALLBACK_URL): `cosell register` first")
        return
    body = {**standing, "WebhookEvents": standing.get("WebhookEvents", []), "SignatureTokenToMsSignatureHeader": True}
    answer = bench.partner_center.exchange("POST", what="registering a second time", audience="webhooks", body=body)
    yield Finding("second_registration", str(answer.status_code), trace=trace_of(answer))


def listed(bench: Bench, query: str) -> httpx.Response:
    return bench.partner_center.exchange("GET", query, what="listing referrals")


def filtered_by(bench: Bench, text: str) -> httpx.Response:
    return listed(bench, f"?$filter={quote(text, safe='')}")


def solution_of(bench: Bench) -> str:
    """The first solution that a visible referral names."""
    for one in islice(bench.partner_center.all_referrals(), SEEN):
        for solution in list_at(one, "details/requirements/solutions"):
            if solution.get("type") == "Name" and solution.get("id"):
                return str(solution["id"])
    return ""


READING = (
    Step(
        "filters",
        "which filters a list takes",
        ("reference_filter", "date_filter"),
        filters,
        decides="a filter that nothing fits: 400 is no, rows are 'ignored', none is yes",
    ),
    Step("paging", "the form of a next link", ("next_link",), paging, decides="reads one page, then the next by the link's query alone"),
    Step("unknown-id", "the answer for a foreign id", ("foreign_referral",), unknown_id, decides="reads a random id"),
    Step("kinds", "which kinds of referrals are returned", ("marketplace_leads",), kinds, decides=f"counts types among {SEEN} referrals"),
    Step(
        "portal-link",
        "the address of a deal in the portal",
        ("portal_link",),
        portal_link,
        needs="person",
        decides="a person pastes an address",
    ),
    Step("registration", "the webhook registration", ("registration",), registration, decides="status and keys of one read"),
)

REGISTERING = (
    Step(
        "register-again",
        "a second POST of the registration",
        ("second_registration",),
        register_again,
        ("POST our own registration again, as it stands",),
        decides="the status",
    ),
)
