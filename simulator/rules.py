"""What Partner Center lets a partner do with a deal: required fields, the status machine, freezing (partner-center.md 2.5, 3.2, 4, 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from simulator.shape import Refusal, invalid

Record = Mapping[str, Any]
MICROSOFT = "msft"

# Reading [I] of the documented table: Expired is the service's, Won and Lost need an accepted deal, Closed leads nowhere (3.2).
TRANSITIONS = {
    ("New", "Pending"): {("New", "Received"), ("Active", "Accepted"), ("Closed", "Declined")},
    ("New", "Received"): {("Active", "Accepted"), ("Closed", "Declined")},
    ("Active", "Accepted"): {("Closed", "Won"), ("Closed", "Lost")},
}


def asks_microsoft(record: Record) -> bool:
    """Whether this is the connected referral, addressed to Microsoft (3.8)."""
    return any(target["type"] == "BusinessProfileLocation" and target["id"] == MICROSOFT for target in record["target"] or ())


def wants_help(record: Record) -> bool:
    return record["inviteContext"]["assistanceRequestCode"] not in (None, "Unknown")


def is_shared(record: Record) -> bool:
    """Whether Microsoft sellers see it."""
    return bool(record["consent"]["consentToShareReferralWithMicrosoftSellers"])


def check_create(record: Record, marketplace_intent: bool) -> None:
    """Raises `Refusal` if a new referral lacks what portal, bulk template or connector guide call required (2.5, Appendix B)."""
    customer = record["customerProfile"]
    for path in ("type", "name", "customerProfile/name", "customerProfile/address/addressLine1", "customerProfile/address/city"):
        _require(record, path)
    if not re.fullmatch("[A-Z]{2}", customer["address"]["country"] or ""):
        raise invalid("customerProfile/address/country", "Country must be an ISO 3166-1 alpha-2 code.")
    for consent in ("consentToToShareInfoWithOthers", "consentToContact"):
        if record["consent"][consent] is not True:
            raise invalid(f"consent/{consent}", "Consent to share contacts is required.")
    if asks_microsoft(record):
        if not wants_help(record):
            raise invalid("inviteContext/assistanceRequestCode", "An assistance request code is required.")
    elif not record["team"]:
        raise invalid("team", "At least one team member is required.")
    if (wants_help(record) or asks_microsoft(record)) and not customer["team"]:
        raise invalid("customerProfile/team", "Customer contact is required when help from Microsoft is selected.")
    attributes = record["details"]["requirements"]["additionalRequirements"]["attributes"] or ()
    if marketplace_intent and not any(attribute["type"] == "CustomerMarketplaceIntent" for attribute in attributes):
        raise invalid("details/requirements/additionalRequirements/attributes", "CustomerMarketplaceIntent is required.")
    check_content(record)


def check_content(record: Record) -> None:
    """Raises `Refusal` if an open deal, new or changed, does not hold together."""
    details = record["details"]
    for path in ("name", "details/dealValue", "details/currency", "details/closingDateTime"):
        _require(record, path)
    if details["dealValue"] < 0:
        raise invalid("details/dealValue", "The deal value can not be negative.")
    if not re.fullmatch("[A-Z]{3}", details["currency"]):
        raise invalid("details/currency", "Currency must be an ISO 4217 code.")
    solutions = details["requirements"]["solutions"]
    if not solutions or not all(solution.get("id") for solution in solutions):
        raise invalid("details/requirements/solutions", "Solution ID is required.")
    if len(solutions) > 50:
        raise invalid("details/requirements/solutions", "At most 50 solutions.")
    for path, people in (("team", record["team"] or ()), ("customerProfile/team", record["customerProfile"]["team"] or ())):
        if len(people) > 50:
            raise invalid(path, "At most 50 members.")
        for person in people:
            missing = [name for name in ("firstName", "lastName", "phoneNumber", "email") if not person.get(name)]
            if missing:
                raise invalid(path, f"A member needs {', '.join(missing)}.")


def _require(record: Record, path: str) -> None:
    value: Any = record
    for name in path.split("/"):
        value = value[name]
    if value is None or value == "":
        raise invalid(path, f"{path} is required.")


def check_update(before: Record, after: Record, reason_required: bool, closed_status: int = 400, error_may_close: bool = False) -> None:
    """Raises `Refusal` if the partner may not turn `before` into `after`. "Close as error" is the portal's; the API's only if switched on (3.2)."""
    if before["status"] == "Closed":
        code = "invalidRequest" if closed_status == 400 else "resourceModified"
        raise Refusal(closed_status, code, "A closed referral can not be changed.", "status")
    old, new = (before["status"], before["substatus"]), (after["status"], after["substatus"])
    closes_as_error = error_may_close and new == ("Closed", "Error") and old[0] != "Closed"
    if new != old and new not in TRANSITIONS[old] and not closes_as_error:
        raise invalid("substatus", f"A referral can not go from {old[0]}/{old[1]} to {new[0]}/{new[1]}.")
    if reason_required and new in (("Closed", "Lost"), ("Closed", "Declined")) and not after["statusReason"]:
        raise invalid("statusReason", f"A reason is required when a referral is {new[1].lower()}.")
    if is_shared(before):
        if not is_shared(after):
            raise invalid("consent/consentToShareReferralWithMicrosoftSellers", "Visibility to Microsoft sellers can not be withdrawn.")
        if after["customerProfile"]["team"] != before["customerProfile"]["team"]:
            raise invalid("customerProfile/team", "The customer contact is frozen once the deal is shared with Microsoft.")
    check_content(after)
