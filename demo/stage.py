"""Everything the connector needs, running on this machine: storage, both vendors, and the function app on a port."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from devhost.azurite import Azurite
from devhost.host import STORAGE, Host
from devhost.served import Served, served
from devhost.settings import read_values
from simulator.core import Call
from simulator.core import Host as VendorHost
from simulator.server import Running, serve
from simulator.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
EVERY_SECOND = "* * * * * *"
CALLBACK = "/api/partner-center-to-salesforce"
LONGEST_WAIT = 30.0


class StoryFailed(Exception):
    """Something did not happen as promised; the message says what was expected and what was seen."""


@dataclass(frozen=True)
class Seen:
    """The calls that reached the vendors between an act and the rest that followed."""

    began: datetime
    calls: list[Call]

    def writes(self, host: VendorHost) -> list[Call]:
        return [call for call in self.calls if call.mutating and call.host == host]

    def reads(self, host: VendorHost) -> list[Call]:
        return [call for call in self.calls if not call.mutating and call.host == host and "/oauth2/" not in call.path]

    def seconds(self, call: Call) -> float:
        """From the act to the vendor's answer to this call."""
        return (call.at - self.began).total_seconds()


@dataclass(frozen=True)
class Stage:
    """What runs, and the few things a story does with it. Sellers and the portal are reached through `sim`."""

    vendors: Running
    app: Served
    http: httpx.Client

    @property
    def sim(self) -> Simulator:
        return self.vendors.simulator

    @property
    def page(self) -> str:
        """Where a person can watch and edit both sides in a browser."""
        return f"{self.vendors.urls['control']}/"

    def register(self) -> dict[str, Any]:
        """Asks the app to register its webhook with Partner Center, as an operator does; what it answered."""
        answer = self.http.post("/api/webhook-registration", json={"callback_url": self.app.url + CALLBACK})
        if answer.status_code != 200:
            raise StoryFailed(f"the webhook could not be registered: {answer.status_code} {answer.text}")
        registered: dict[str, Any] = answer.json()
        return registered

    def status(self) -> dict[str, Any]:
        """What the app tells its operator; costs no call to a vendor."""
        answer = self.http.get("/api/status")
        if answer.status_code != 200:
            raise StoryFailed(f"the app cannot tell its status: {answer.status_code} {answer.text}")
        told: dict[str, Any] = answer.json()
        return told

    def seller_edits(self, opportunity_id: str, **fields: Any) -> None:
        """A seller's edit; raises the simulator's refusal as the page in Salesforce would."""
        with self.sim.lock:
            self.sim.salesforce.person_edits("Opportunity", opportunity_id, fields)

    def act(self, action: Callable[[], object], until: Callable[[], bool], what: str) -> Seen:
        """Does something to a record, waits until `until` holds and nothing is left to do, and says which calls that took."""
        position, began = self.sim.journal.position(), self.sim.clock.now()
        action()
        self.wait(until, what)
        self.rest()
        return Seen(began, self.sim.journal.calls(since=position))

    def run_every_timer(self, first: Callable[[], object] = lambda: None) -> Seen:
        """Another round of every timer and the rest that follows; what is done `first` is found by that round, whatever the schedules."""

        def round_of_timers() -> None:
            first()
            for name in self.app.host.timers:
                self.app.run_timer(name)

        return self.act(round_of_timers, lambda: True, "")

    def rest(self) -> None:
        """Returns once every event is delivered, nothing is owed and no function runs. What is parked stands in the way of a story."""

        def nothing_left() -> bool:
            if self.sim.webhooks.waiting and not self.sim.webhooks.conduct.hold:
                return False
            self.app.drain(LONGEST_WAIT)
            told = self.status()
            if told["parked"]["count"]:
                raise StoryFailed(f"the connector put a deal aside: {told['parked']['deals']}")
            return bool(told["owed"]["count"] == 0)

        self.wait(nothing_left, "nothing left to do", locked=False)

    def wait(self, until: Callable[[], bool], what: str, locked: bool = True) -> None:
        """Raises StoryFailed if `until` does not come true in half a minute."""
        end = time.monotonic() + LONGEST_WAIT
        while True:
            with self.sim.lock if locked else contextlib.nullcontext():
                if until():
                    return
            if time.monotonic() > end:
                raise StoryFailed(f"waited {LONGEST_WAIT:.0f} s in vain for this: {what}. The app says: {self.status()['owed']}")
            time.sleep(0.05)


@contextlib.contextmanager
def on_stage(settings: dict[str, str] | None = None, alive: bool = True) -> Iterator[Stage]:
    """Starts it all on free ports and ends it all again, whatever happens. `settings` go on top of the defaults.

    If not `alive`, timers and queues do nothing by themselves: a timer runs when told to, and queues are worked off by `rest`.

    The app reads its settings from the environment of this process, which is put back afterwards.
    """
    before = dict(os.environ)
    with contextlib.ExitStack() as stack:
        stack.callback(_put_back, before)
        storage = stack.enter_context(Azurite()).connection_string
        vendors = stack.enter_context(serve(Simulator()))
        os.environ.update(read_values(ROOT / "local.settings.sample.json"))
        os.environ.update(vendors.environment(private_key=True))
        os.environ.update({STORAGE: storage, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **(settings or {})})
        app = stack.enter_context(served(Host(ROOT, timers=alive, queues=alive)))
        http = stack.enter_context(httpx.Client(base_url=app.url, timeout=60, trust_env=False))
        yield Stage(vendors, app, http)


def _put_back(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
