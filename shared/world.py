"""Everything a flow may touch, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from shared.brakes import Brakes
from shared.budgets import SalesforceBudget
from shared.clock import Clock
from shared.mapping import Mapping
from shared.org import Org
from shared.partner_center import PartnerCenter
from shared.salesforce import Salesforce
from shared.settings import Settings
from shared.spending import Spending
from shared.state import State


class Waker(Protocol):
    """Sends the wake-up for a record name. Losing one costs time, never data."""

    def wake(self, name: str, delay: float = 0) -> None: ...

    def waiting(self) -> int:
        """About how many wake-ups are on their way."""
        ...

    def poisoned(self) -> int:
        """About how many wake-ups were given up on."""
        ...


@dataclass(frozen=True)
class World:
    """The two vendors, what is remembered, how to be woken, and the time."""

    settings: Settings
    mapping: Mapping
    org: Org
    partner_center: PartnerCenter
    salesforce: Salesforce
    state: State
    waker: Waker
    clock: Clock
    spending: Spending = field(default_factory=Spending)

    @cached_property
    def brakes(self) -> Brakes:
        """What this process counts of its writes; a copy of the world counts anew."""
        return Brakes(self.settings, self.state, self.clock)

    @cached_property
    def budget(self) -> SalesforceBudget:
        """What may still be asked of Salesforce today."""
        return SalesforceBudget(self.salesforce, self.state, self.clock)
