"""What a referral is made of: the paths a mapping may name, the kind of value that stands there, and whether a create may send it.

Sources are sections 3.1 to 3.8 of the reference on the Referrals API. Which paths a later change may touch is `referral.PATCHABLE`.
No length is documented by the service; the few given here are those of the fields in Microsoft's own Salesforce package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shared.referral import HELP_CODES

Kind = Literal["text", "number", "flag", "instant", "list"]


@dataclass(frozen=True)
class Place:
    """One path. `values` is a closed list; `length` the most characters that are known to come; `frozen` means never changed later."""

    kind: Kind
    sent: bool = True
    values: tuple[str, ...] = ()
    length: int = 0
    frozen: bool = False


_SET_BY_THE_SERVICE = (
    "engagementId organizationId organizationName businessProfileId referralSource callToAction quality dealSensitivity createdVia "
    "lastModifiedVia lastRunId eTag registrationStatus direction inviteContext/invitedBy/organizationId inviteContext/invitedMpnId "
    "inviteContext/invitedBy/organizationName trackingInfo/microsoftUSFedOpportunityId trackingInfo/microsoftUSFedLeadId "
    "trackingInfo/migratedPSCDealId trackingInfo/migratedPSCPartnerDealId details/incentiveLevel"
)
_ADDRESS = "addressLine1 addressLine2 city state postalCode country region"
_CONSENT = "consentToToShareInfoWithOthers consentToContact consentToMicrosoftToContactSpecificPartners"


def _places() -> Iterator[tuple[str, Place]]:
    yield from ((path, Place("text", sent=False)) for path in _SET_BY_THE_SERVICE.split())
    yield "id", Place("text", sent=False, length=36)
    yield "trackingInfo/microsoftMsxId", Place("text", sent=False, length=100)
    yield from ((f"{when}DateTime", Place("instant", sent=False)) for when in ("created", "updated", "expiration", "accepted", "closed"))
    yield from ((name, Place("flag", sent=False)) for name in ("isSpam", "favorite", "customerProfile/isMatchingComplete"))
    yield from ((name, Place("text")) for name in ("name", "externalReferenceId", "statusReason", "campaignId", "salesStage"))
    yield "referralProgram", Place("text", length=200)
    yield "mpnId", Place("text", frozen=True)
    yield "status", Place("text", values=("None", "New", "Active", "Closed"))
    yield "substatus", Place("text", values=("None", "Pending", "Received", "Accepted", "Won", "Lost", "Declined", "Expired", "Error"))
    yield "qualification", Place("text", values=("None", "Direct", "MarketingQualified", "SalesQualified"), frozen=True)
    yield "type", Place("text", values=("Independent", "Shared"), frozen=True)
    yield from ((f"customerProfile/{name}", Place("text", frozen=True)) for name in ("name", "size"))
    yield from ((f"customerProfile/address/{name}", Place("text", frozen=True)) for name in _ADDRESS.split())
    yield from (
        (name, Place("list")) for name in ("team", "customerProfile/team", "customerProfile/ids", "target", "registrations", "tags")
    )
    yield from ((f"consent/{name}", Place("flag", frozen=True)) for name in _CONSENT.split())
    yield "consent/consentToShareReferralWithMicrosoftSellers", Place("flag")
    yield from ((f"details/{name}", Place("text")) for name in ("notes", "currency", "customerAction"))
    yield "details/dealValue", Place("number")
    yield "details/closingDateTime", Place("instant")
    yield "details/customerRequestedContact", Place("flag")
    requirements = ("solutions", "industries", "products", "services", "offers", "salesPlays", "additionalRequirements/attributes")
    yield from ((f"details/requirements/{name}", Place("list")) for name in requirements)
    yield "inviteContext/notes", Place("text", frozen=True)
    yield "inviteContext/assistanceRequestCode", Place("text", values=("Unknown", *HELP_CODES.values()), frozen=True)


SCHEMA: dict[str, Place] = dict(_places())

# A deal cannot be without these: an emptied value cannot be sent (sections 3.1 and 3.6, and the bulk rules).
NEVER_EMPTY = frozenset({"name", "details/dealValue", "details/currency", "details/closingDateTime", "status", "substatus"})

# The types of mapping.toml by the kind of value they can read and write.
FITTING: dict[Kind, tuple[str, ...]] = {
    "text": ("text", "long_text", "title", "currency", "choice", "link", "status", "help", "answer"),
    "number": ("money",),
    "flag": ("one_way_flag",),
    "instant": ("date",),
    "list": ("solutions", "members"),
}
