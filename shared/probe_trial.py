"""The probe's test deal: what it is made of, the calls on it, and its end.

It is private (nobody at Microsoft sees it), belongs to a customer that does not exist, and is closed as error.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx

from shared import wire
from shared.errors import Gone, Misconfigured, Refused
from shared.probe import CUSTOMER, REASON, REFERENCE, Bench, Finding, words
from shared.referral import is_microsofts, value_at

FINE = (200, 201, 202, 204)

INTENT = {"type": "CustomerMarketplaceIntent", "id": "HaveNotDecided"}
CONTACT = {"firstName": "Connector", "lastName": "Test", "phoneNumber": "+1 425 555 0100", "email": "connector.test@contoso.example"}


def trial_referral(bench: Bench, *attributes: dict[str, str]) -> dict[str, Any]:
    """The body of a test deal: private, of the smallest value, plainly named."""
    member = {**CONTACT, "email": bench.email or CONTACT["email"]}
    return {
        "name": "Connector test, please ignore",
        "externalReferenceId": REFERENCE,
        "type": "Independent",
        "qualification": "SalesQualified",
        "customerProfile": {
            "name": CUSTOMER,
            "address": {"addressLine1": "1 Test Street", "city": "Redmond", "state": "WA", "postalCode": "98052", "country": "US"},
            "team": [CONTACT],
        },
        "consent": {
            "consentToToShareInfoWithOthers": True,
            "consentToContact": True,
            "consentToShareReferralWithMicrosoftSellers": False,
        },
        "details": {
            "notes": "A test of a connector. It is closed as error when the test is over.",
            "dealValue": 1,
            "currency": "USD",
            "closingDateTime": f"{bench.clock.now() + timedelta(days=30):%Y-%m-%d}T00:00:00Z",
            "requirements": {
                "solutions": [{"type": "Name", "id": bench.solution}],
                "additionalRequirements": {"attributes": list(attributes)},
            },
        },
        "team": [member],
        "target": [],
    }


def post(bench: Bench, body: dict[str, Any], request_id: str, ours: bool = True) -> httpx.Response:
    if not bench.solution:
        raise Misconfigured("no referral names a solution to test with: give --solution SOL-…")
    answer = bench.partner_center.exchange("POST", what="creating a test deal", body=body, request_id=request_id)
    if answer.status_code in FINE and ours:
        bench.notebook.owe(f"referral {body_of(answer)['id']}")
    return answer


def patch(bench: Bench, referral_id: str, *changes: tuple[str, Any], etag: str = "") -> httpx.Response:
    etag = etag or str(bench.partner_center.referral(referral_id).get("eTag"))
    body = [{"op": "replace", "path": path, "value": value} for path, value in changes]
    headers, ids = {"If-Match": etag}, str(uuid.uuid4())
    return bench.partner_center.exchange(
        "PATCH", f"/{referral_id}", what="patching a test deal", body=body, headers=headers, request_id=ids
    )


def open_deal(bench: Bench) -> str:
    """The open test deal, made when it is first needed."""
    if not bench.deal:
        answer = post(bench, trial_referral(bench, INTENT), str(uuid.uuid4()))
        if answer.status_code not in FINE:
            raise Refused(f"the test deal was refused, HTTP {answer.status_code}: {words(answer.content)}")
        bench.deal = str(body_of(answer)["id"])
    return bench.deal


def body_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = wire.loads(answer.content) if answer.content else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def trace_of(answer: httpx.Response | None) -> str:
    found = answer.headers.get("request-id", "") if answer is not None else ""
    return f"request-id {found}" if found else ""


def close_as_error(bench: Bench) -> Iterator[Finding]:
    """Cleans up every test deal, which settles whether that can be done over the API. Lost ones are looked for, too."""
    for one in bench.partner_center.by_external_reference(REFERENCE, bench.clock.now() - timedelta(days=2)):
        if one.get("status") != "Closed" and is_trial(one):
            bench.notebook.owe(f"referral {one['id']}")
    refused: httpx.Response | None = None
    accepted: httpx.Response | None = None
    for referral_id in bench.left("referral"):
        try:
            record = bench.partner_center.referral(referral_id)
        except Gone:
            bench.notebook.cleaned(f"referral {referral_id}")
            continue
        if not is_trial(record):
            yield Finding(
                "error_substatus", why=f"referral {referral_id} is no test deal and is left alone; take it out of {bench.notebook.path}"
            )
            continue
        if record.get("status") != "Closed":
            answer = patch(bench, referral_id, ("/status", "Closed"), ("/substatus", "Error"), ("/statusReason", REASON))
            if answer.status_code in FINE:
                accepted, record = answer, bench.partner_center.referral(referral_id)
            else:
                refused = answer
                record = _closed_by_hand(bench, referral_id, record)
        if record.get("status") != "Closed":
            yield Finding(
                "error_substatus", why=f"close referral {referral_id} in the portal: Close as error, {REASON}; then run this again"
            )
            continue
        bench.notebook.cleaned(f"referral {referral_id}")
        way = (
            "accepted over the API" if accepted else f"refused over the API ({refused.status_code})" if refused else "closed in the portal"
        )
        if str(record.get("substatus")) != "Lost":
            yield Finding("error_substatus", f"{way}; reads as {record.get('substatus')}", trace=trace_of(accepted or refused))
    bench.deal = ""


def clean(bench: Bench) -> Iterator[str]:
    """Closes the test deals that are left, without a person; says what could not be closed."""
    yield from (one.why for one in close_as_error(replace(bench, ask=lambda text: None)) if one.why)


def is_trial(record: Mapping[str, Any]) -> bool:
    return value_at(record, "customerProfile/name") == CUSTOMER and not is_microsofts(record)


def _closed_by_hand(bench: Bench, referral_id: str, record: dict[str, Any]) -> dict[str, Any]:
    address = bench.mapping.link.replace("{id}", referral_id)
    done = bench.ask(f"The API refuses it: open {address}, close the deal as error with the reason '{REASON}', then type ok: ")
    return bench.partner_center.referral(referral_id) if done else record
