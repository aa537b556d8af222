"""What people and Microsoft do to referrals without the API: the portal, invitations, answers (partner-center.md 5.4 and 5.5)."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from simulator import json_patch, rules
from simulator.core import Clock
from simulator.entra import TENANT_ID
from simulator.partner_center import ANSWER_WITHIN, MICROSOFT, ORGANIZATION, PartnerCenter, Record
from simulator.shape import REFERRAL, bind, blank, merge, stamp

CONTACT = {"firstName": "Sue", "lastName": "Smith", "phoneNumber": "+1 425 555 0100", "email": "sue.smith@fabrikam.example"}
MEMBER = {"firstName": "Ada", "lastName": "Jones", "phoneNumber": "+1 425 555 0101", "email": "ada.jones@contoso.example"}
SELLER = {"firstName": "Max", "lastName": "Muster", "phoneNumber": "+1 425 555 0102", "email": "max.muster@microsoft.example"}
SOLUTION = {"type": "Name", "id": "SOL-15974-MQF", "name": "Contoso Cloud Suite", "publisherName": "Contoso", "solutionType": "3P"}
ADDRESS = {"addressLine1": "One Fabrikam Way", "city": "Redmond", "state": "WA", "postalCode": "98052", "country": "US"}


class People:
    """Everybody but the connector. Changes are values by path, such as `{"details/dealValue": 5000}`; all raise `Refusal`."""

    def __init__(self, partner_center: PartnerCenter, clock: Clock, lock: threading.RLock) -> None:
        self._service, self._clock, self._lock = partner_center, clock, lock
        self._answers = 0

    def portal_create_deal(
        self, name: str = "Fabrikam cloud migration", *, visible: bool = False, help_code: str | None = None, **content: Any
    ) -> Record:
        """A person of the partner fills in "New deal": the own record. With `help_code` Microsoft's record is made as well.

        `content` as in `_deal` below.
        """
        body = self._deal(name, shared=bool(help_code), visible=visible or bool(help_code), **content)
        with self._lock:
            own = self._service.create(body)
            if help_code:
                target = [{"type": "BusinessProfileLocation", "id": rules.MICROSOFT}]
                connected = {"engagementId": own["engagementId"], "target": target, "inviteContext": {"assistanceRequestCode": help_code}}
                self._service.create({**body, **connected})
            return self._shown(own)

    def portal_edit(self, id: str, changes: Mapping[str, Any]) -> Record:
        """A person edits the partner's record. The portal can set fields the API does not offer, but keeps the rules."""
        with self._lock:
            before = self._record(id, TENANT_ID)
            after = self._edited(before, changes)
            rules.check_update(before, after, reason_required=False, error_may_close=True)
            return self._shown(self._service.save(after))

    def microsoft_edits(self, id: str, changes: Mapping[str, Any]) -> Record:
        """Microsoft changes its own record."""
        with self._lock:
            return self._shown(self._service.save(self._edited(self._record(id, rules.MICROSOFT), changes)))

    def microsoft_invites(self, name: str = "Fabrikam data platform", *, shared: bool = True, **content: Any) -> Record:
        """An inbound co-sell deal (a lead if not `shared`) to be answered within 14 days. Microsoft's own side of a deal is active already.

        `content` as in `_deal` below.
        """
        now = self._clock.now()
        with self._lock:
            record = merge(blank(), self._deal(name, shared=shared, visible=shared, team=(), **content))
            record = merge(record, {"engagementId": self._service.new_id(), "inviteContext": {"invitedBy": MICROSOFT}})
            arrival = {"direction": "Incoming", "status": "New", "substatus": "Pending", "expirationDateTime": stamp(now + ANSWER_WITHIN)}
            own = self._service.add(merge(record, {**ORGANIZATION, **arrival}))
            if shared:
                sent = {"direction": "Outgoing", "status": "Active", "substatus": "Accepted", "acceptedDateTime": stamp(now)}
                self._service.add(merge(record, {**MICROSOFT, **sent, "team": [SELLER], "trackingInfo": self._tracking()}))
            return self._shown(own)

    def microsoft_accepts(self, id: str, seller: Mapping[str, Any] = SELLER) -> Record:
        """A Microsoft seller takes the deal: `id` is Microsoft's record or the partner's in the same engagement."""
        return self._answer(id, {"status": "Active", "substatus": "Accepted", "team": [dict(seller)], "trackingInfo": self._tracking()})

    def microsoft_declines(self, id: str, reason: str = "No seller manages this customer") -> Record:
        return self._answer(id, {"status": "Closed", "substatus": "Declined", "statusReason": reason})

    def microsoft_expires(self, id: str) -> Record:
        """Nobody at Microsoft answered; happens by itself after 14 simulated days."""
        return self._answer(id, {"status": "Closed", "substatus": "Expired"})

    def microsoft_record(self, id: str) -> Record | None:
        """Microsoft's record in the engagement of referral `id`, if there is one; the newest if there are several."""
        with self._lock:
            found = self._service.engagement(self._service.records[id]["engagementId"], rules.MICROSOFT)
            return self._shown(found[-1]) if found else None

    def _answer(self, id: str, changes: Record) -> Record:
        with self._lock:
            found = self._service.engagement(self._service.records[id]["engagementId"], rules.MICROSOFT)
            waiting = [record for record in found if record["status"] == "New"]
            if not waiting:
                raise ValueError("Microsoft has nothing to answer in this engagement")
            return self._shown(self._service.save(merge(waiting[-1], changes)))

    def _shown(self, record: Record) -> Record:
        return copy.deepcopy(self._service.render(record))

    def _tracking(self) -> Record:
        self._answers += 1
        return {"microsoftMsxId": f"7-SIM{self._answers:07d}"}

    def _record(self, id: str, organization: str) -> Record:
        record = self._service.records[id]
        if record["organizationId"] != organization:
            raise ValueError(f"{id} is a record of {record['organizationName']}")
        return record

    def _edited(self, record: Record, changes: Mapping[str, Any]) -> Record:
        operations = [{"op": "replace", "path": "/" + path.strip("/"), "value": copy.deepcopy(value)} for path, value in changes.items()]
        return json_patch.apply(record, operations, paths=None)

    def _deal(
        self,
        name: str,
        *,
        shared: bool,
        visible: bool,
        customer: str = "Fabrikam",
        address: Mapping[str, Any] = ADDRESS,
        contact: Mapping[str, Any] | None = CONTACT,
        solutions: Sequence[Mapping[str, Any]] = (SOLUTION,),
        team: Sequence[Mapping[str, Any]] = (MEMBER,),
        deal_value: float = 50000,
        currency: str = "USD",
        closing: str = "",  # by default in 90 days
        notes: str | None = None,
    ) -> Record:
        intent = {"type": "CustomerMarketplaceIntent", "id": "HaveNotDecided"}
        requirements = {"solutions": list(solutions), "additionalRequirements": {"attributes": [intent]}}
        body = {
            "name": name,
            "type": "Shared" if shared else "Independent",
            "qualification": "SalesQualified",
            "customerProfile": {"name": customer, "address": address, "team": [contact] if contact else []},
            "consent": {
                "consentToToShareInfoWithOthers": True,
                "consentToContact": True,
                "consentToShareReferralWithMicrosoftSellers": visible,
            },
            "details": {
                "notes": notes,
                "dealValue": deal_value,
                "currency": currency,
                "closingDateTime": closing or f"{self._clock.now() + timedelta(days=90):%Y-%m-%d}T00:00:00Z",
                "requirements": requirements,
            },
            "team": list(team),
        }
        bound: Record = bind(body, REFERRAL)
        return bound
