"""The threat model tells of every field that leaves the company."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shared.mapping import PARTNER_CENTER
from tests.deals import DealWorld
from tests.hostile_events import HOSTILE
from tests.one_deal import OneDeal

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "security.md").read_text(encoding="utf-8")


def fields_told() -> set[str]:
    section = PAGE.split("\n## What Microsoft can see of a deal\n", 1)[1].split("\n## ", 1)[0]
    return {name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}


def test_every_field_that_travels_to_partner_center_is_told_and_no_other() -> None:
    mapping = DealWorld().mapping
    assert fields_told() == {row.name for row in mapping.fields if row.travels_to(PARTNER_CENTER)}


# Where each part of a new referral comes from: a field of the page, the customer's row, or a constant without content.
SENT = {
    "name": "title",
    "externalReferenceId": "external_reference",
    "customerProfile/name": "customer",
    "customerProfile/address": "customer",
    "customerProfile/team": "contacts",
    "consent": "contacts",
    "details/notes": "notes",
    "details/dealValue": "deal_value",
    "details/currency": "currency",
    "details/closingDateTime": "close_date",
    "details/requirements": "solutions",
    "team": "team",
    "target": "solutions",
    "type": "help",
    "inviteContext": "help",
    "qualification": "",
    "engagementId": "",
}


def paths(body: dict[str, Any]) -> set[str]:
    found = set()
    for key, value in body.items():
        found |= {f"{key}/{inner}" for inner in value} if key in ("customerProfile", "details") else {key}
    return found


def test_a_new_referral_holds_nothing_the_page_does_not_tell_of() -> None:
    import json

    deal = OneDeal.shared()
    created = [call for call in deal.w.sim.journal.calls("partner_center") if call.method == "POST"]
    assert len(created) == 2, "ours and Microsoft's"
    sent = set().union(*(paths(json.loads(call.body)) for call in created))
    assert sent - set(SENT) == set()
    assert {where for where in SENT.values() if where} <= fields_told() | {"customer"}


def test_the_number_of_hostile_requests_is_the_true_one() -> None:
    (told,) = re.findall(r"catalogue of (\d+) deliveries", PAGE)
    assert int(told) == len(HOSTILE)
