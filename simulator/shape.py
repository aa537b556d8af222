"""Which fields a referral has, of which type, and which of them a client may set (partner-center.md section 3)."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


class Refusal(Exception):
    """An error answer of the referrals service (2.9)."""

    def __init__(self, status: int, code: str, message: str, target: str = "referral") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.target = status, code, message, target


def invalid(target: str, message: str) -> Refusal:
    return Refusal(400, "invalidRequest", message, target)


TEXT, NUMBER, FLAG, INSTANT, ANYTHING, IGNORED = "text", "number", "flag", "instant", "anything", "ignored"
Shape = Any  # a word above, a tuple of allowed texts, a list with the shape of its items, or a mapping of field names to shapes

ASSISTANCE = (
    "Unknown",
    "GeneralOrOther",
    "CustomerTechnicalArchitecture",
    "ProofOfConceptOrDemo",
    "QuotesOrLicensing",
    "PostSalesCustomerSuccess",
    "WorkloadSpecificValueProposition",
)
STAGES = ("Qualify", "Develop", "Propose", "Close", "10", "20", "40", "60", "80", "100")  # two vocabularies, unresolved (3.9)
MEMBER = {
    "firstName": TEXT,
    "lastName": TEXT,
    "phoneNumber": TEXT,
    "email": TEXT,
    "title": TEXT,
    "contactPreference": {"locale": TEXT, "disableNotifications": FLAG},
    "emailValidationStatus": IGNORED,
    "phoneValidationStatus": IGNORED,
}
ADDRESS = dict.fromkeys(("addressLine1", "addressLine2", "city", "state", "postalCode", "country", "region"), TEXT)
SOLUTION = {
    "id": TEXT,
    "name": TEXT,
    "type": ("None", "Category", "Name"),
    "publisherName": TEXT,
    "solutionType": ("1P", "3P"),
    "price": NUMBER,
    "quantity": NUMBER,
    "currency": TEXT,
    "closingDateTime": INSTANT,
}
READ_ONLY = (
    "id organizationId organizationName lastModifiedVia lastRunId createdDateTime updatedDateTime expirationDateTime acceptedDateTime "
    "closedDateTime referralSource callToAction eTag quality isSpam direction tags registrationStatus trackingInfo registrations links "
    "@odata.context"
)
FREE_TEXT = "engagementId name externalReferenceId statusReason campaignId mpnId referralProgram"
REFERRAL: Mapping[str, Shape] = {
    **dict.fromkeys(READ_ONLY.split(), IGNORED),
    **dict.fromkeys(FREE_TEXT.split(), TEXT),
    "status": ("None", "New", "Active", "Closed"),
    "substatus": ("None", "Pending", "Received", "Accepted", "Won", "Lost", "Declined", "Expired", "Error"),
    "qualification": ("None", "Direct", "MarketingQualified", "SalesQualified"),
    "type": ("Independent", "Shared"),
    "favorite": FLAG,
    "salesStage": STAGES,
    "target": [{"type": ("None", "BusinessProfileLocation", "SolutionProfile"), "id": TEXT}],
    "customerProfile": {"name": TEXT, "size": TEXT, "address": ADDRESS, "team": [MEMBER], "ids": ANYTHING, "isMatchingComplete": IGNORED},
    "consent": {
        "consentToToShareInfoWithOthers": FLAG,  # the doubled "To" is the service's own
        "consentToContact": FLAG,
        "consentToShareReferralWithMicrosoftSellers": FLAG,
        "consentToMicrosoftToContactSpecificPartners": FLAG,
    },
    "details": {
        **dict.fromkeys(("notes", "currency", "customerAction"), TEXT),
        "dealValue": NUMBER,
        "closingDateTime": INSTANT,
        "customerRequestedContact": FLAG,
        "requirements": {
            **{name: [{"id": TEXT}] for name in ("industries", "products", "services")},
            "solutions": [SOLUTION],
            "offers": ANYTHING,
            "additionalRequirements": {"iot": ANYTHING, "attributes": [{"type": TEXT, "id": TEXT}]},
        },
    },
    "team": [MEMBER],
    "inviteContext": {
        "notes": TEXT,
        "assistanceRequestCode": ASSISTANCE,
        "invitedBy": {"organizationId": TEXT, "organizationName": TEXT},
    },
}

# Answers name every field, most of them null (the contract lets nearly all be null).
LISTS = frozenset(
    {"target", "tags", "team", "registrations", "industries", "products", "services", "solutions", "offers", "attributes", "ids"}
)
DEFAULTS = {"favorite": False, "isSpam": False, "quality": "Unknown", "registrationStatus": "None"}


def _empty(name: str, shape: Shape) -> Any:
    if isinstance(shape, Mapping):
        return {key: _empty(key, inner) for key, inner in shape.items()}
    return [] if name in LISTS else DEFAULTS.get(name)


def blank() -> dict[str, Any]:
    """A referral with every field present."""
    record: dict[str, Any] = _empty("", {name: shape for name, shape in REFERRAL.items() if name not in ("links", "@odata.context")})
    record["trackingInfo"] = {"microsoftMsxId": None}
    return record


def merge(record: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with `values` laid over it, object by object; lists are replaced, and null stands for an empty object or list."""
    result = copy.deepcopy(record)
    for name, value in values.items():
        known = result.get(name)
        if value is None and isinstance(known, (dict, list)):
            continue
        result[name] = merge(known, value) if isinstance(value, Mapping) and isinstance(known, dict) else copy.deepcopy(value)
    return result


def bind(value: Any, shape: Shape, where: str = "", strict: bool = True) -> Any:
    """`value` with the contract's names and types, as a .NET service reads it: keys in any case, numbers also as text.

    Fields the service sets itself are left out. Raises `Refusal` for an unknown field (if `strict`) or a wrong type.
    """
    if value is None or shape == ANYTHING:
        return value
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            raise invalid(where, f"{where or 'The body'} must be an object.")
        names = {name.lower(): name for name in shape}
        result: dict[str, Any] = {}
        for key, inner in value.items():
            name = names.get(key.lower())
            if name is None and strict:
                raise invalid(f"{where}/{key}", f"The property '{key}' does not exist.")
            if name is not None and shape[name] != IGNORED:
                result[name] = bind(inner, shape[name], f"{where}/{name}", strict)
        return result
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise invalid(where, f"{where} must be an array.")
        return [bind_item(item, shape[0], f"{where}/{index}", strict) for index, item in enumerate(value)]
    return _scalar(value, shape, where)


def bind_item(value: Any, shape: Shape, where: str, strict: bool = True) -> Any:
    """One element of a list, with all its fields present."""
    if not isinstance(value, dict):
        raise invalid(where, f"{where} must be an object.")
    return merge(_empty("", shape), bind(value, shape, where, strict))


def _scalar(value: Any, shape: Shape, where: str) -> Any:
    if isinstance(shape, tuple):
        if value not in shape:
            raise invalid(where, f"'{value}' is not a value of {where}.")
        return value
    if shape == NUMBER:
        if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise invalid(where, f"{where} must be a number.")
        return int(value) if value == int(value) else value
    if shape == INSTANT:
        if not isinstance(value, str):
            raise invalid(where, f"{where} must be a date and time.")
        moment = instant(value)
        if moment is None:
            raise invalid(where, f"'{value}' is not a date and time with a zone.")
        return moment[:19] + ("" if not moment[19:].strip(".0") else moment[19:27]) + "Z"
    expected = bool if shape == FLAG else str
    if not isinstance(value, expected):
        raise invalid(where, f"{where} must be {'true or false' if shape == FLAG else 'a string'}.")
    return value


def instant(text: str) -> str | None:
    """A moment in UTC as text that sorts, with nine digits of fraction; None if it is not one with a zone."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", text)
    if not match:
        return None
    try:
        moment = datetime.fromisoformat(match[1] + ("+00:00" if match[3] == "Z" else match[3])).astimezone(UTC)
    except ValueError:
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{match[2] or '':0<9}"


def stamp(moment: datetime) -> str:
    """A time as the service prints it. The seventh digit is not zero, so that a client which cuts it off is found out."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}7Z"
