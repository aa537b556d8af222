"""One deal and the people around it: its records in the simulator, what they hold, who edited them having seen what."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from chaos.checking import Edits, plain
from chaos.story import Side
from shared.pairing import opportunity_name, referral_name
from simulator.core import Call
from simulator.salesforce import Refusal as SalesforceRefusal
from simulator.shape import Refusal
from simulator.simulator import Simulator

FIRST_DAY = date(2030, 1, 1)
# Neutral name -> where it stands in Salesforce, and in Partner Center.
FIELDS = {
    "deal_value": ("Amount", "details/dealValue"),
    "notes": ("Description", "details/notes"),
    "close_date": ("CloseDate", "details/closingDateTime"),
}


@dataclass
class Deal:
    """Ids of both records, as far as they are known, and every edit with what it saw."""

    sim: Simulator
    opportunity: str = ""
    referral: str = ""
    asks_microsoft: bool = False
    names: set[str] = field(default_factory=set)  # everything a call about this deal may mention
    edits: dict[str, Edits] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    # -- beginnings --------------------------------------------------------------------------------------------------------------------

    def saved_by_seller(self, help_code: str | None) -> None:
        """Ready to be shared, and not shared yet."""
        number = next(_numbers)
        with self.sim.lock:
            made = self.sim.salesforce.make_deal(
                f"Fabrikam story {number}",
                customer=f"Fabrikam {number}",
                sync=False,
                Amount=100_000,
                Description=f"begin {number}",
                CloseDate=FIRST_DAY.isoformat(),
                How_can_Microsoft_help__c=help_code,
            )
        self.asks_microsoft = bool(help_code)
        self._begins(f"begin {number}")
        self._is(opportunity=made.opportunity)

    def shared_by_seller(self) -> None:
        with self.sim.lock:
            self.sim.salesforce.person_edits("Opportunity", self.opportunity, {"Sync_With_Partner_Center__c": True})

    def made_in_partner_center(self, invited: bool) -> None:
        """By a colleague in the portal, or as an invitation by Microsoft that nobody has accepted yet."""
        number = next(_numbers)
        make = self.sim.people.microsoft_invites if invited else self.sim.people.portal_create_deal
        self._begins(f"begin {number}")
        with self.sim.lock:
            closing = f"{FIRST_DAY}T00:00:00Z"
            name, customer = f"Northwind story {number}", f"Northwind {number}"
            made = make(name, customer=customer, deal_value=100_000, notes=f"begin {number}", closing=closing)
            self._is(referral=made["id"])

    def accepted_in_portal(self) -> None:
        with self.sim.lock:
            self.sim.people.portal_edit(self.referral, {"status": "Active", "substatus": "Accepted"})

    def closed_by_seller(self) -> None:
        with self.sim.lock:
            self.sim.salesforce.person_edits("Opportunity", self.opportunity, {"StageName": "Closed Won"})

    def _begins(self, notes: str) -> None:
        bases = {"deal_value": "100000", "notes": notes, "close_date": FIRST_DAY.isoformat()}
        self.edits = {name: Edits(base) for name, base in bases.items()}

    def _is(self, opportunity: str = "", referral: str = "") -> None:
        if opportunity:
            self.opportunity = opportunity
            self.names |= {opportunity, opportunity_name(opportunity)}
        if referral:
            self.referral = referral
            self.names |= {referral, referral_name(referral)}

    def find(self) -> None:
        """The other record, once it is there."""
        if self.opportunity and self.referral:
            return
        with self.sim.lock:
            if self.opportunity:
                self._is(referral=next((one["id"] for one in self._referrals()), ""))
            elif self.referral:
                self._is(opportunity=next((one["Id"] for one in self._opportunities()), ""))

    def is_whole(self) -> bool:
        """Whether both records are there."""
        self.find()
        return bool(self.opportunity and self.referral)

    # -- edits -------------------------------------------------------------------------------------------------------------------------

    def edit(self, side: Side, name: str, late: float = 0.0) -> bool:
        """A person's edit with a value nobody else gives; False where the record is not there yet or cannot be saved now."""
        self.find()
        if not (self.opportunity if side == "salesforce" else self.referral):
            return False
        with self.sim.lock:
            if late and self._saved_this_second():
                return False  # a second save in one second, seen late: W2, which is provoked elsewhere
            before, number = self.values(side)[name], next(_numbers)
            value = {"deal_value": str(200_000 + number), "notes": f"edit {number}"}.get(name) or (
                FIRST_DAY + timedelta(number)
            ).isoformat()
            raw: Any = int(value) if name == "deal_value" else value
            column, path = FIELDS[name]
            try:
                if side == "salesforce":
                    self.sim.salesforce.person_edits("Opportunity", self.opportunity, {column: raw}, visible_after=late)
                else:
                    self.sim.people.portal_edit(self.referral, {path: f"{raw}T00:00:00Z" if name == "close_date" else raw})
            except SalesforceRefusal as refused:
                if "exclusive access" not in str(refused):
                    raise
                return False  # somebody's transaction holds the row: the page would wait
            except Refusal as refused:
                self.log.append(f"Partner Center refused a person's edit of {name}: {refused}")
                return True
            self.edits[name].add(side, value, before)
            words = f", visible {late} s later" if late else ""
            self.log.append(f"{self.sim.clock.now():%H:%M:%S.%f}  {side} {name}: {before} -> {value}{words}")
        return True

    def _saved_this_second(self) -> bool:
        saved = str(self.sim.salesforce.record(self.opportunity)["LastModifiedDate"])
        return saved[:19] == f"{self.sim.clock.now():%Y-%m-%dT%H:%M:%S}"

    # -- what is there -----------------------------------------------------------------------------------------------------------------

    def values(self, side: Side) -> dict[str, str]:
        if not (self.opportunity if side == "salesforce" else self.referral):
            return {}
        with self.sim.lock:
            if side == "salesforce":
                record = self.sim.salesforce.record(self.opportunity)
                return {name: plain(name, record[column]) for name, (column, _) in FIELDS.items()}
            details = self.sim.partner_center.records[self.referral]["details"]
            return {name: plain(name, details[path.removeprefix("details/")]) for name, (_, path) in FIELDS.items()}

    def records(self) -> dict[str, int]:
        """How many records there are of the deal, by what they are."""
        with self.sim.lock:
            referrals = self._referrals()
            found = {"referral": len(referrals), "opportunity": len(self._opportunities())}
            if self.asks_microsoft and referrals:
                found["Microsoft's referral"] = len(self.sim.partner_center.engagement(referrals[0]["engagementId"], "msft"))
        return found

    def _referrals(self) -> list[dict[str, Any]]:
        return [
            one
            for one in self.sim.partner_center.records.values()
            if one["organizationId"] != "msft"
            and (one["id"] == self.referral or (self.opportunity and one["externalReferenceId"] == self.opportunity))
        ]

    def _opportunities(self) -> list[dict[str, Any]]:
        return [
            one
            for one in self.sim.salesforce.records("Opportunity")
            if one["Id"] == self.opportunity or (self.referral and self.referral in (one["Referral_Identifier__c"], one["Co_sell_Key__c"]))
        ]

    def about(self, call: Call) -> bool:
        text = call.path + call.body.decode("utf-8", "replace")
        return any(name in text for name in self.names)


def written(calls: Iterable[Call], side: Side) -> Counter[tuple[str, str]]:
    """Values that updates put on a side, by field."""
    counted: Counter[tuple[str, str]] = Counter()
    for call in calls:
        if call.host != side or call.method != "PATCH" or not 200 <= call.status < 300:
            continue
        body = json.loads(call.body)
        if side == "partner_center":
            given = {one["path"].strip("/"): one.get("value") for one in body}
            for parent in [name for name, value in given.items() if isinstance(value, dict)]:
                given |= {f"{parent}/{name}": value for name, value in given[parent].items()}
        else:
            given = body
        for name, places in FIELDS.items():
            place = places[side == "partner_center"]
            if place in given:
                counted[name, plain(name, given[place])] += 1
    return counted


_numbers = itertools.count(1)
