"""A world in one process: the connector on the strict simulator, tables in memory, one clock for everybody, no sockets.

Tests about whole deals use `World` from here; tests about the deployed app use the development host and Azurite instead.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from shared import polls, receiving, reconciling
from shared.certificates import Certificates
from shared.clock import Clock
from shared.entra import Tokens
from shared.errors import TryLater
from shared.flows import synchronize
from shared.mapping import Mapping
from shared.org import Org
from shared.partner_center import PartnerCenter
from shared.refresh_tokens import SettingsRefreshToken
from shared.run import Outcome
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.state import State
from shared.tables import MemoryTables, Tables
from shared.transport import http_client
from shared.world import World
from simulator.certificates import Certificates as SignerCertificates
from simulator.core import Clock as VendorClock
from simulator.mount import environment, httpx_transport, requests_adapter
from simulator.salesforce import Deal
from simulator.salesforce import Org as OrgSwitches
from simulator.simulator import Simulator

START = datetime(2026, 11, 2, 9, 0, 0, tzinfo=UTC)
CALLBACK = "https://connector.contoso.example/api/partner-center-to-salesforce"
EVENTS = ["referral-created", "referral-updated", "related-referral-created", "related-referral-updated"]

_signer: SignerCertificates | None = None


class SharedClock(Clock):
    """The connector's clock, driven by the vendors': waiting moves time for everybody."""

    def __init__(self, vendors: VendorClock) -> None:
        self.vendors = vendors

    def now(self) -> datetime:
        return self.vendors.now()

    def monotonic(self) -> float:
        return self.vendors.now().timestamp()

    def sleep(self, seconds: float) -> None:
        self.vendors.advance(seconds)


class Wakes:
    """A queue of names with the time each is due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.queued: list[tuple[float, str]] = []

    def wake(self, name: str, delay: float = 0) -> None:
        self.queued.append((self._clock.monotonic() + delay, name))

    def waiting(self) -> int:
        return len(self.queued)

    def poisoned(self) -> int:
        return 0

    def take(self) -> list[str]:
        now = self._clock.monotonic()
        due = [name for at, name in self.queued if at <= now]
        self.queued = [(at, name) for at, name in self.queued if at > now]
        return due


class DealWorld:
    """The connector, both vendors, and the hands that drive them."""

    def __init__(
        self,
        org: OrgSwitches | None = None,
        overlay: dict[str, Any] | None = None,
        tables: Tables | None = None,
        settings: dict[str, str] | None = None,
        simulator: Simulator | None = None,
    ) -> None:
        global _signer
        _signer = _signer or SignerCertificates()
        self.sim = simulator or Simulator(VendorClock(START), seed=1, certificates=_signer, org=org)
        self.clock = SharedClock(self.sim.clock)
        values = environment(self.sim) | {"AzureWebJobsStorage": "in memory", "WEBHOOK_CALLBACK_URL": CALLBACK} | (settings or {})
        self.settings = Settings.from_environment(values)
        self.tables = tables or MemoryTables()
        self.wakes = Wakes(self.clock)
        self.mapping = load(overlay)
        self.world = self.new_worker()
        http = http_client(self.settings, transport=httpx_transport(self.sim))
        # The real time: the simulator's certificates are made when the tests start.
        self.certificates = Certificates(self.settings, http, Clock())
        self.world.partner_center.register(CALLBACK, EVENTS, replace=False)

    def new_worker(self) -> World:
        """A world of its own on the same state, as another instance of the app would have."""
        http = http_client(self.settings, transport=httpx_transport(self.sim))
        salesforce = Salesforce(self.settings, SalesforceLogin(self.settings, http, self.clock), self.clock, requests_adapter(self.sim))
        tokens = Tokens(self.settings, http, SettingsRefreshToken(self.settings), self.clock)
        partner_center = PartnerCenter(self.settings, http, tokens, self.clock)
        state = State(self.tables, self.clock)
        return World(self.settings, self.mapping, Org(salesforce, self.mapping), partner_center, salesforce, state, self.wakes, self.clock)

    # -- driving -----------------------------------------------------------------------------------------------------------------------

    def deliver(self) -> int:
        """Hands every event that is due to the app, through the real signature check."""

        def post(url: str, headers: Any, body: bytes) -> int:
            assert url == CALLBACK
            return receiving.partner_center_event(lambda: self.world, lambda: self.certificates, headers, body)[0]

        return self.sim.deliver(post)

    def work(self) -> list[Outcome]:
        """Takes every wake-up that is due, as the queue trigger would."""
        outcomes = []
        while names := self.wakes.take():
            outcomes += [synchronize(self.world, name) for name in names]
        return outcomes

    def poll(self) -> None:
        """Every timer but the full sweep; one whose vendor cannot answer fails alone."""
        for timer in (polls.poll_opportunities, polls.poll_solutions, polls.poll_leads, polls.poll_referrals, polls.resume_owed_work):
            with contextlib.suppress(TryLater):
                timer(self.world)

    def round(self, full: bool = False) -> None:
        """One round of everything that starts work."""
        self.deliver()
        self.work()
        self.poll()
        if full:
            reconciling.reconcile(self.world)
        self.work()

    def settle(self, rounds: int = 12) -> None:
        """Rounds until nothing is owed but what is parked."""
        for _ in range(rounds):
            self.sim.clock.advance(5)
            self.round()
            if not self.owed() and not self.wakes.queued:
                return
            self.sim.clock.advance(60)
        raise AssertionError(f"still owed after {rounds} rounds: {self.owed()}")

    def quiet(self) -> list[str]:
        """Another full round of every timer; the mutating calls it made, which should be none."""
        self.sim.clock.advance(30)
        before = self.sim.journal.position()
        self.round(full=True)
        self.round()
        return self.mutations(before)

    # -- looking -----------------------------------------------------------------------------------------------------------------------

    def owed(self) -> dict[str, str]:
        return {one.name: one.reason for one in self.world.state.all_owed() if not one.parked}

    def parked(self) -> dict[str, str]:
        return {one.name: one.parked for one in self.world.state.all_owed() if one.parked}

    def mutations(self, since: int = 0) -> list[str]:
        return [f"{call.host} {call.method} {call.path}" for call in self.sim.journal.calls(since=since) if call.mutating]

    def position(self) -> int:
        return self.sim.journal.position()

    def opportunities(self) -> list[dict[str, Any]]:
        return self.sim.salesforce.records("Opportunity")

    def opportunity(self, record_id: str) -> dict[str, Any]:
        return self.sim.salesforce.record(record_id)

    def referrals(self, own: bool = True) -> list[dict[str, Any]]:
        return [one for one in self.sim.partner_center.records.values() if (one["organizationId"] != "msft") == own]

    def make_deal(self, name: str = "Fabrikam data estate", **options: Any) -> Deal:
        return self.sim.salesforce.make_deal(name, **options)

    def seller_edits(self, record_id: str, **fields: Any) -> None:
        self.sim.salesforce.person_edits("Opportunity", record_id, fields)

    def portal_edits(self, referral_id: str, changes: dict[str, Any]) -> None:
        self.sim.people.portal_edit(referral_id, changes)


def load(overlay: dict[str, Any] | None) -> Mapping:
    """The shipped mapping with an overlay given as a dictionary."""
    import tomllib

    from shared.mapping_file import SHIPPED, laid_over

    return Mapping.compile(laid_over(tomllib.loads(SHIPPED.read_text(encoding="utf-8")), overlay or {}))
