"""The probe's steps on a test deal: what is sent, and how the answer is told from what comes back."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from shared.creating import microsofts_referral
from shared.probe import REASON, Bench, Finding, Step, words
from shared.probe_trial import CONTACT, FINE, INTENT, body_of, close_as_error, open_deal, patch, post, trace_of, trial_referral
from shared.referral import is_microsofts, list_at, value_at
from shared.settings import Settings

LONGEST_WAIT_SECONDS = 600
# What was seen once may take longer another time.
SAFETY = 10
HELP = "GeneralOrOther"


def create(bench: Bench) -> Iterator[Finding]:
    """The test deal. It is posted without any attribute first, which tells what is demanded, and then twice with one id."""
    began = bench.clock.now()
    request_id = str(uuid.uuid4())
    body = trial_referral(bench)
    answer = post(bench, body, request_id)
    demanded, needs = "none", {}
    if answer.status_code == 400:
        # An attempt of its own: what was refused must not be taken for it.
        refusal, request_id, body = words(answer.content), str(uuid.uuid4()), trial_referral(bench, INTENT)
        answer = post(bench, body, request_id)
        demanded = "purchase intent"
        if answer.status_code not in FINE:
            told = refusal + words(answer.content)
            fields = [
                name
                for name, key in (("solution_area", "SolutionArea"), ("solution_play", "SolutionPlay"), ("partner_role", "PartnerRole"))
                if re.search(key, told.replace(" ", ""), re.IGNORECASE)
            ]
            if fields:
                needs = {"required": {"IP Co-sell": fields}}
                yield Finding("required_fields", f"also {', '.join(fields)}", trace=trace_of(answer), mapping=needs)
    if answer.status_code not in FINE:
        why = f"the test deal was refused, HTTP {answer.status_code}: {words(answer.content)}"
        for question in ("repeated_create", "create_status", "list_delay", *(() if needs else ("required_fields",))):
            yield Finding(question, why=why)
        return
    bench.deal = str(body_of(answer)["id"])
    yield Finding("required_fields", demanded, trace=trace_of(answer))
    yield Finding("create_status", str(answer.status_code), trace=trace_of(answer))
    yield _delay(bench, began)
    again = post(bench, body, request_id)
    if again.status_code in FINE:
        yield Finding("repeated_create", "yes" if body_of(again)["id"] == bench.deal else "no", trace=trace_of(again))
    else:
        yield Finding("repeated_create", f"refused ({again.status_code})", trace=trace_of(again))


def _delay(bench: Bench, began: datetime) -> Finding:
    """How long until the new deal is listed. A margin is only ever made longer: one quick listing promises nothing."""
    created = bench.clock.now()
    waited = 0.0
    while waited <= LONGEST_WAIT_SECONDS:
        if any(one.get("id") == bench.deal for one in bench.partner_center.changed_since(began - timedelta(minutes=5))):
            return Finding("list_delay", f"{round(waited)} s", settings=_longer(waited))
        bench.progress(f"not listed after {round(waited)} s …")
        bench.clock.sleep(1 if waited < 60 else 10)
        waited = (bench.clock.now() - created).total_seconds()
    return Finding("list_delay", f"more than {LONGEST_WAIT_SECONDS} s", settings=_longer(waited))


def _longer(seconds: float) -> dict[str, str]:
    needed = math.ceil(seconds * SAFETY / 60) * 60
    default = Settings()
    delivered = {
        "CREATE_MARGIN_SECONDS": default.create_margin_seconds,
        "PARTNER_CENTER_POLL_OVERLAP_SECONDS": default.partner_center_poll_overlap_seconds,
    }
    return {name: str(needed) for name, standing in delivered.items() if needed > standing}


def people(bench: Bench) -> Iterator[Finding]:
    silent = {**CONTACT, "phoneNumber": ""}
    answer = patch(bench, open_deal(bench), ("/customerProfile/team", [silent]))
    answered = "no" if answer.status_code in FINE else "yes" if answer.status_code == 400 else ""
    if answered == "no":
        patch(bench, open_deal(bench), ("/customerProfile/team", [CONTACT]))
    yield Finding("complete_people", answered, f"HTTP {answer.status_code}: {words(answer.content)}", trace_of(answer))


# Paths beyond the published list, with what a deal shows there.
BEYOND = (
    "/name",
    "/favorite",
    "/details/requirements/additionalRequirements/attributes",
    "/qualification",
    "/customerProfile/name",
    "/details/customerAction",
)


def paths(bench: Bench) -> Iterator[Finding]:
    taken: list[str] = []
    refused: list[str] = []
    for path in BEYOND:
        record = bench.partner_center.referral(open_deal(bench))
        standing = value_at(record, path.strip("/"))
        value = True if path == "/favorite" else standing if standing is not None else "Connector test"
        answer = patch(bench, open_deal(bench), (path, value))
        (taken if answer.status_code in FINE else refused).append(path)
    yield Finding("patch_paths", f"taken: {', '.join(taken) or 'none'}; refused: {', '.join(refused) or 'none'}", trace=trace_of(answer))


def deal_value(bench: Bench) -> Iterator[Finding]:
    forms = []
    for form, value in (("number", 2), ("text", "3")):
        answer = patch(bench, open_deal(bench), ("/details/dealValue", value))
        if answer.status_code in FINE and value_at(bench.partner_center.referral(open_deal(bench)), "details/dealValue") == int(value):
            forms.append(form)
    yield Finding("deal_value_form", " and ".join(forms) or "neither number nor text", trace=trace_of(answer))


def entries(bench: Bench) -> Iterator[Finding]:
    """Two members replaced by one; then the solutions as they were read, unknown keys and all."""
    record = bench.partner_center.referral(open_deal(bench))
    one = list_at(record, "team")[:1]
    patch(bench, open_deal(bench), ("/team", [*one, {**CONTACT, "email": f"second.{CONTACT['email']}"}]))
    patch(bench, open_deal(bench), ("/team", one))
    left = len(list_at(bench.partner_center.referral(open_deal(bench)), "team"))
    solutions = list_at(record, "details/requirements/solutions")
    answer = patch(bench, open_deal(bench), ("/details/requirements/solutions", solutions))
    after = list_at(bench.partner_center.referral(open_deal(bench)), "details/requirements/solutions")
    replaced = "replaced as a whole" if left == 1 else f"not replaced: {left} entries stand where one was sent"
    kept = "entries come back as sent" if after == solutions else f"entries sent back as read give HTTP {answer.status_code} and differ"
    yield Finding("list_entries", f"{replaced}; {kept}", trace=trace_of(answer))


def lengths(bench: Bench) -> Iterator[Finding]:
    told = []
    for path, most in (("/name", 300), ("/details/notes", 40_000)):
        answer = patch(bench, open_deal(bench), (path, "x" * most))
        kept = len(str(value_at(bench.partner_center.referral(open_deal(bench)), path.strip("/")) or ""))
        result = f"{kept} of {most} characters kept" if answer.status_code in FINE else f"{most} characters refused ({answer.status_code})"
        told.append(f"{path.rpartition('/')[2]}: {result}")
    yield Finding("lengths", "; ".join(told), trace=trace_of(answer))


def refusals(bench: Bench) -> Iterator[Finding]:
    stale = patch(bench, open_deal(bench), ("/details/notes", "stale"), etag='"00000000-0000-0000-0000-000000000000"')
    transition = patch(bench, open_deal(bench), ("/status", "New"), ("/substatus", "Pending"))
    path = patch(bench, open_deal(bench), ("/details/noSuchField", "x"))
    value = patch(bench, open_deal(bench), ("/details/dealValue", -1))
    told = f"stale eTag {stale.status_code}, bad transition {transition.status_code}, unknown path {path.status_code}"
    yield Finding("error_codes", f"{told}, bad value {value.status_code}", trace=trace_of(stale))


def portal_fields(bench: Bench) -> Iterator[Finding]:
    address = bench.mapping.link.replace("{id}", open_deal(bench))
    done = bench.ask(f"Open {address}, fill purchase intent, solution area, solution play and partner role, save, then type ok: ")
    if not done:
        yield Finding("attributes", why="they were not filled in")
        return
    found = list_at(bench.partner_center.referral(open_deal(bench)), "details/requirements/additionalRequirements/attributes")
    names = sorted(str(one.get("type")) for one in found)
    yield Finding("attributes", f"attributes of the types {', '.join(names)}" if names else "not among the attributes")


def ask_microsoft(bench: Bench) -> Iterator[Finding]:
    """Somebody at Microsoft sees this deal, so it is done on request alone."""
    answer = patch(bench, open_deal(bench), ("/consent/consentToShareReferralWithMicrosoftSellers", True))
    if answer.status_code not in FINE:
        yield Finding("independent_upgrade", why=f"the deal could not be shown to Microsoft: {words(answer.content)}")
        return
    record = bench.partner_center.referral(open_deal(bench))
    body = microsofts_referral(trial_referral(bench, INTENT), str(record["engagementId"]), HELP)
    body["consent"] = {**body["consent"], "consentToShareReferralWithMicrosoftSellers": True}
    answer = post(bench, body, str(uuid.uuid4()), ours=False)
    if answer.status_code not in FINE:
        yield Finding("independent_upgrade", f"no ({answer.status_code}): {words(answer.content)}", trace=trace_of(answer))
        yield Finding("second_record", why="Microsoft was not asked; see independent_upgrade")
        return
    yield Finding("independent_upgrade", "yes", trace=trace_of(answer))
    together = bench.partner_center.engagement(str(record["engagementId"]))
    theirs = [one for one in together if is_microsofts(one)]
    holders = [
        "Microsoft's" if is_microsofts(one) else "ours"
        for one in together
        if value_at(one, "inviteContext/assistanceRequestCode") not in (None, "", "Unknown")
    ]
    made = f"{len(theirs)} record of Microsoft's" if theirs else "no record of Microsoft's"
    yield Finding("second_record", f"{made}; the code stands in {' and '.join(holders) or 'none'}", trace=trace_of(answer))


def lose(bench: Bench) -> Iterator[Finding]:
    """A deal of its own, closed as lost: without a reason, then with the mapping's."""
    made = post(bench, trial_referral(bench, INTENT), str(uuid.uuid4()))
    if made.status_code not in FINE:
        for question in ("lost_reason", "closed_status"):
            yield Finding(question, why=f"the test deal was refused, HTTP {made.status_code}: {words(made.content)}")
        return
    deal, reason = str(body_of(made)["id"]), bench.mapping.lost_reason
    closed = (("/status", "Closed"), ("/substatus", "Lost"))
    bare = patch(bench, deal, *closed)
    answer = bare
    if bare.status_code not in FINE:
        answer = patch(bench, deal, *closed, ("/statusReason", reason or REASON))
        accepted = "is accepted" if answer.status_code in FINE else f"is refused ({answer.status_code}): {words(answer.content)}"
        yield Finding("lost_reason", f"yes ({bare.status_code} without); {reason or REASON!r} {accepted}", trace=trace_of(bare))
    else:
        yield Finding("lost_reason", "no", trace=trace_of(bare))
    if answer.status_code not in FINE:
        yield Finding("closed_status", why="the deal could not be closed as lost")
        return
    bench.notebook.cleaned(f"referral {deal}")
    late = patch(bench, deal, ("/details/notes", "after closing"))
    yield Finding("closed_status", str(late.status_code), trace=trace_of(late))


_DEAL = "POST a private test deal, where none stands open"

STEPS = (
    Step(
        "create",
        "what a create demands, answers and repeats",
        ("required_fields", "create_status", "list_delay", "repeated_create"),
        create,
        (
            "POST the test deal without attributes; where refused, again with the purchase intent",
            "list the referrals until it is there",
            "POST it a second time with the same MS-RequestId",
        ),
        decides="400 or not; the status; seconds until listed; the same id or another",
    ),
    Step(
        "people",
        "whether a contact needs all four fields",
        ("complete_people",),
        people,
        (_DEAL, "PATCH /customerProfile/team to a contact without a phone"),
        decides="400 is yes",
    ),
    Step(
        "paths", "paths beyond the published list", ("patch_paths",), paths, (_DEAL, f"PATCH {', '.join(BEYOND)}"), decides="status of each"
    ),
    Step(
        "deal-value",
        "the form of a deal value",
        ("deal_value_form",),
        deal_value,
        (_DEAL, 'PATCH /details/dealValue to 2, then to "3"'),
        decides="accepted, and read back the same",
    ),
    Step(
        "entries",
        "how lists are patched",
        ("list_entries",),
        entries,
        (_DEAL, "PATCH /team to two members, to one", "PATCH /details/requirements/solutions to what was read"),
        decides="reads them back",
    ),
    Step(
        "lengths",
        "greatest lengths",
        ("lengths",),
        lengths,
        (_DEAL, "PATCH /name to 300 and /details/notes to 40,000 characters"),
        decides="refused, or how much is read back",
    ),
    Step(
        "refusals",
        "which status says what",
        ("error_codes",),
        refusals,
        (_DEAL, "PATCH with a stale eTag, from Active to New, an unknown path, a negative value: all are to be refused"),
        decides="the status of each",
    ),
    Step(
        "portal-fields",
        "where intent, area, play and role stand",
        ("attributes",),
        portal_fields,
        (_DEAL, "a person fills them in the portal"),
        "person",
        decides="the types of the attributes that are read then",
    ),
    Step(
        "ask-microsoft",
        "a second record, and an upgrade",
        ("independent_upgrade", "second_record"),
        ask_microsoft,
        (
            _DEAL,
            "PATCH consentToShareReferralWithMicrosoftSellers to true",
            "POST the connected referral: somebody at Microsoft sees it; it cannot be taken back, and expires unanswered after 14 days",
        ),
        needs="involve-microsoft",
        decides="accepted; which record of the engagement has the code",
    ),
    Step(
        "lose",
        "closing as lost, and a closed deal",
        ("lost_reason", "closed_status"),
        lose,
        ("POST a second test deal", "PATCH it to Closed / Lost without a reason, then with the mapping's", "PATCH its notes after that"),
        decides="the status of each",
    ),
    Step(
        "close-as-error",
        "cleaning up",
        ("error_substatus",),
        close_as_error,
        (f"PATCH every test deal to Closed / Error, reason '{REASON}'; where refused, a person does it in the portal",),
        decides="the status, and the substatus that is read then",
    ),
)
