"""What the doctor examines, and what its parts hand to one another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from shared.clock import Clock
from shared.mapping_draft import Draft
from shared.partner_center import PartnerCenter
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings


class Unchecked(Exception):
    """The rest of a part's checks cannot be made; the message is why."""


@dataclass(frozen=True)
class Subject:
    """The settings as far as they can be used, with every fault of theirs, and the connector's own clients upon them."""

    settings: Settings
    faults: tuple[str, ...]
    clock: Clock
    http: httpx.Client
    login: SalesforceLogin
    salesforce: Salesforce
    partner_center: PartnerCenter
    draft: Draft | None
    mapping_fault: str = ""

    def needs(self, names: Iterable[str]) -> None:
        """Raises `Unchecked` where one of these settings is missing or wrong."""
        wanted = set(names)
        for fault in self.faults:
            name = fault.split()[0]
            if name in wanted:
                raise Unchecked(f"the setting {name} is missing or wrong")


@dataclass
class Seen:
    """What one part saw that another needs: solution ids."""

    on_referrals: frozenset[str] | None = None
    every_referral: bool = False
    catalogue: tuple[str, ...] | None = None
