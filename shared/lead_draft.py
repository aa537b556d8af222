"""What a new lead is made of: the fields of a Salesforce lead for a referral that nobody accepted yet. Pure."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from datetime import datetime
from typing import Any

from shared.creating import filled
from shared.mapping import Mapping, Record
from shared.referral import list_at, section_at
from shared.writing import audit_text


def draft_lead(
    mapping: Mapping, referral: Dict[str, Any], there: Record, owner_id: str | None, known_fields: frozenset[str], now: datetime
) -> dict[str, Any]:
    """The fields of a new lead, without those the org does not have (`known_fields` are the ones it has)."""
    own, customer = mapping.leads, section_at(referral, "customerProfile")
    person: Dict[str, Any] = next(iter(list_at(customer, "team")), {})
    address = section_at(customer, "address")
    company = _text(customer.get("name"), 255) or _text(there.values.get("title"), 255) or "Partner Center"
    email = _text(person.get("email"), 80)
    listed = "CountryCode" in known_fields  # state and country picklists: the codes have fields of their own (salesforce 10.2)
    fields = {
        # Salesforce requires these two.
        "LastName": _text(person.get("lastName"), 80) or email.partition("@")[0] or company[:80],
        "Company": company,
        "FirstName": _text(person.get("firstName"), 40),
        "Email": email,
        "Phone": _text(person.get("phoneNumber"), 40),
        "Street": "\n".join(_text(address.get(line), 120) for line in ("addressLine1", "addressLine2") if address.get(line)),
        "City": _text(address.get("city"), 40),
        "StateCode" if listed else "State": _text(address.get("state"), 80),
        "PostalCode": _text(address.get("postalCode"), 20),
        "CountryCode" if listed else "Country": _text(address.get("country"), 80),
        "Description": there.values.get("notes"),
        "Status": own.default_status,
        "OwnerId": owner_id,
        own.program_field: _text(referral.get("referralProgram"), 200),
        **{name: filled(constant, there.values) for name, constant in mapping.create.Lead.items()},
        own.identifier_field: str(referral["id"]).lower(),
        own.key_field: str(referral["id"]).lower(),
        own.link_field: mapping.link.replace("{id}", str(referral["id"])),
        own.audit_field: audit_text(mapping, now, "created from Partner Center", None),
        own.sync_field: True,
    }
    optional = {own.program_field, own.key_field, own.link_field}
    return {name: value for name, value in fields.items() if value not in (None, "") and (name in known_fields or name not in optional)}


def _text(raw: Any, length: int) -> str:
    return str(raw or "").strip()[:length].strip()
