"""One deal and the people around it: what tests about whole flows look at and do."""

from __future__ import annotations

from typing import Any

from tests.deals import DealWorld

Row = dict[str, Any]


class OneDeal:
    """A world that holds one deal, known by its opportunity's id; every hand's deed is followed until nothing is owed."""

    def __init__(self, w: DealWorld, opportunity_id: str) -> None:
        self.w, self.id = w, opportunity_id

    @classmethod
    def shared(cls, w: DealWorld | None = None, name: str = "Fabrikam data estate", **options: Any) -> OneDeal:
        """A seller's deal that was shared from Salesforce; `options` as in the simulator's `make_deal`."""
        w = w or DealWorld()
        deal = cls(w, w.make_deal(name, **options).opportunity)
        w.settle()
        return deal

    @classmethod
    def invited(cls, w: DealWorld | None = None, **content: Any) -> OneDeal:
        """A deal that Microsoft sent; `content` as in the simulator's `microsoft_invites`."""
        w = w or DealWorld()
        referral = w.sim.people.microsoft_invites(**content)
        return cls._arrived(w, referral["id"])

    @classmethod
    def from_portal(cls, w: DealWorld | None = None, **content: Any) -> OneDeal:
        """A deal that a colleague made in the portal; `content` as in the simulator's `portal_create_deal`."""
        w = w or DealWorld()
        referral = w.sim.people.portal_create_deal(**content)
        return cls._arrived(w, referral["id"])

    @classmethod
    def _arrived(cls, w: DealWorld, referral_id: str) -> OneDeal:
        w.settle()
        (opportunity,) = (one for one in w.opportunities() if one["Referral_Identifier__c"] == referral_id)
        return cls(w, str(opportunity["Id"]))

    # -- looking -----------------------------------------------------------------------------------------------------------------------

    @property
    def here(self) -> Row:
        return self.w.opportunity(self.id)

    @property
    def there(self) -> Row:
        """Our own referral; fails where the deal has none, or two."""
        carried = self.here["Referral_Identifier__c"]
        (referral,) = (one for one in self.w.referrals() if one["externalReferenceId"] == self.id or one["id"] == carried)
        return referral

    @property
    def microsofts(self) -> Row:
        (referral,) = (one for one in self.w.referrals(own=False) if one["engagementId"] == self.there["engagementId"])
        return referral

    @property
    def kind(self) -> str:
        """Private, partner-led or co-sell, as partner-center.md 5.1 tells them apart."""
        if any(one["engagementId"] == self.there["engagementId"] for one in self.w.referrals(own=False)):
            return "co-sell"
        return "partner-led" if self.visible else "private"

    @property
    def visible(self) -> bool:
        return bool(self.there["consent"]["consentToShareReferralWithMicrosoftSellers"])

    @property
    def solutions(self) -> list[str]:
        """Ids of the referral's solutions."""
        return [one["id"] for one in self.there["details"]["requirements"]["solutions"]]

    @property
    def audit(self) -> list[str]:
        """The entries of the audit field, newest first."""
        return str(self.here["Audit__c"] or "").split("\n")

    @property
    def parked(self) -> str:
        """Why the deal is parked; empty if it is not."""
        return "; ".join(self.w.parked().values())

    @property
    def explained(self) -> str:
        """Everything that status and history say about the deal."""
        state, name = self.w.world.state, f"sf-{self.id}"
        pair = state.pair(name)
        names = dict.fromkeys([name, pair.name if pair else name])
        return "\n".join([self.parked, *(one["text"] for name in names for one in state.history(name))])

    def children(self, name: str) -> list[Row]:
        """The rows of an object that hang on the opportunity."""
        parent = "Opportunity__c" if name.endswith("__c") else "OpportunityId"
        return [row for row in self.w.sim.salesforce.records(name) if row[parent] == self.id]

    # -- doing -------------------------------------------------------------------------------------------------------------------------

    def seller(self, **fields: Any) -> OneDeal:
        """The seller edits the opportunity."""
        self.w.seller_edits(self.id, **fields)
        self.w.settle()
        return self

    def portal(self, **changes: Any) -> OneDeal:
        """A colleague edits the referral; `__` stands for `/` in a path."""
        self.w.portal_edits(self.there["id"], {path.replace("__", "/"): value for path, value in changes.items()})
        self.w.settle()
        return self

    def microsoft(self, answer: str, **options: Any) -> OneDeal:
        """Microsoft `accepts`, `declines` or lets `expire`."""
        getattr(self.w.sim.people, f"microsoft_{answer}")(self.there["id"], **options)
        self.w.settle()
        return self

    def service(self, **values: Any) -> OneDeal:
        """Partner Center itself changes the referral, to values that no hand could enter."""
        self.w.sim.partner_center.save({**self.there, **values})
        self.w.settle()
        return self

    def adds_contact(self, first: str, last: str, **options: Any) -> Row:
        """A person becomes a contact of the deal. `options` are further fields of the contact."""
        email = f"{first}.{last}@fabrikam.example".lower()
        fields = {"FirstName": first, "LastName": last, "Email": email, "Phone": "+1 555 0177", "AccountId": self.here["AccountId"]}
        contact = self.w.sim.salesforce.person_creates("Contact", fields | options)
        self.w.sim.salesforce.person_creates("OpportunityContactRole", {"OpportunityId": self.id, "ContactId": contact})
        return self.w.sim.salesforce.record(contact)
