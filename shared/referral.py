"""What Partner Center means by a referral: its statuses, its kinds, and which of its parts may be changed when. Pure.

Sources are sections of the reference on the Referrals API; each rule names its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MICROSOFT = "msft"  # organizationId of Microsoft's own records (3.1)

# JSON Patch paths the service takes: the list of Microsoft's own connector (2.6), and /name, which the portal can change.
PATCHABLE = frozenset(
    {
        "/campaignId",
        "/consent/consentToShareReferralWithMicrosoftSellers",
        "/customerProfile/team",
        "/customerProfile/team/-",
        "/details/closingDateTime",
        "/details/currency",
        "/details/dealValue",
        "/details/notes",
        "/details/requirements/solutions",
        "/details/requirements/solutions/-",
        "/externalReferenceId",
        "/name",
        "/referralProgram",
        "/salesStage",
        "/status",
        "/statusReason",
        "/substatus",
        "/team",
        "/team/-",
    }
)

# The help a seller can ask for, by the picklist's value (connector-facts 3.6).
HELP_CODES = {
    "Workload Specific Value Proposition": "WorkloadSpecificValueProposition",
    "Customer Technical Architecture": "CustomerTechnicalArchitecture",
    "Proof Of Concept or Demo": "ProofOfConceptOrDemo",
    "Quotes or Licensing": "QuotesOrLicensing",
    "Post Sales Customer Success": "PostSalesCustomerSuccess",
    "General or Other": "GeneralOrOther",
}

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def is_guid(text: object) -> bool:
    return isinstance(text, str) and _GUID.fullmatch(text) is not None


def value_at(record: Mapping[str, Any] | None, path: str) -> Any:
    """The value at a slash-separated path, or None where any part of it is missing."""
    value: Any = record
    for part in path.split("/"):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def section_at(record: Mapping[str, Any] | None, path: str) -> Mapping[str, Any]:
    """The object at a path; empty where it is missing, null or of another shape."""
    value = value_at(record, path)
    return value if isinstance(value, Mapping) else {}


def list_at(record: Mapping[str, Any] | None, path: str) -> list[Mapping[str, Any]]:
    """The objects of the list at a path; none where it is missing, null or of another shape."""
    value = value_at(record, path)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def holds(record: Mapping[str, Any], path: str) -> bool:
    """Whether the last key of the path is there, even with null: JSON Patch `replace` needs its target."""
    parent, _, key = path.rpartition("/")
    container = value_at(record, parent) if parent else record
    return isinstance(container, Mapping) and key in container


def is_microsofts(record: Mapping[str, Any]) -> bool:
    return str(record.get("organizationId") or "").lower() == MICROSOFT


def is_closed(record: Mapping[str, Any]) -> bool:
    """Closed is final: the service takes no further change (section 4)."""
    return str(record.get("status") or "").lower() == "closed"


def is_cosell(record: Mapping[str, Any]) -> bool:
    """Whether this is a co-sell deal rather than a lead (2.3): `Shared`, or sales-qualified by somebody other than Microsoft."""
    if str(record.get("type") or "") == "Shared":
        return True
    invited_by = value_at(record, "inviteContext/invitedBy/organizationId")
    qualification = str(record.get("qualification") or "")
    if qualification in ("SalesQualified", "None", ""):
        return str(invited_by or "").lower() != MICROSOFT
    return False
