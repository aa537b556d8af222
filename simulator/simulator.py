"""The simulator as one object: a request in, a response out, no sockets, no threads of its own.

`server.py` puts HTTPS in front of it, `mount.py` puts it inside a client, `control.py` offers the methods below under /_sim.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import format_datetime
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator.certificates import Certificates
from simulator.control import Control
from simulator.core import Call, Clock, ConnectionCut, Host, Journal, Request, Response
from simulator.entra import TENANT_ID, Entra
from simulator.faults import Fault, Faults
from simulator.partner_center import PartnerCenter, Record
from simulator.people import People
from simulator.salesforce import App, Org, Salesforce
from simulator.webhooks import Webhooks

Post = Callable[[str, Mapping[str, str], bytes], int]

SALESFORCE_CLIENT_ID = "simulated-consumer-key"
SALESFORCE_CLIENT_SECRET = "simulated-consumer-secret"


@functools.cache
def salesforce_key() -> rsa.RSAPrivateKey:
    """The key whose public half Salesforce knows, for the JWT bearer flow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def _public_key() -> bytes:
    return salesforce_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Handler(Protocol):
    """One host."""

    def handle(self, request: Request) -> Response: ...


class Simulator:
    """Both vendors, Entra, and the people at either end. Safe to call from several threads; one call is done at a time.

    What sellers do is asked of `salesforce`, which has no lock of its own: hold `lock` for it where another thread may be calling.
    """

    def __init__(
        self, clock: Clock | None = None, seed: int | None = None, certificates: Certificates | None = None, org: Org | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.lock = threading.RLock()
        self.journal = Journal()
        self.faults = Faults()
        self.entra = Entra(self.clock)
        self.certificates = certificates or Certificates()
        self.webhooks = Webhooks(self.clock, self.entra, self.certificates)
        self.partner_center = PartnerCenter(self.clock, self.entra, self._changed, seed)
        self.salesforce = Salesforce(self.clock, org)
        username = self.salesforce.login.username
        self.salesforce.login.register(App(SALESFORCE_CLIENT_ID, username, _public_key(), SALESFORCE_CLIENT_SECRET))
        self.people = People(self.partner_center, self.clock, self.lock)
        self.control = Control(self)

    def handle(self, request: Request) -> Response:
        """Answers one request. Raises `ConnectionCut` where a fault ends the connection."""
        fault = self.faults.take(request)
        pause = self.pause(request, fault)
        if pause:
            time.sleep(pause)
        return self.answer(request, fault)

    def pause(self, request: Request, fault: Fault | None) -> float:
        """Seconds this call has to wait, so that a server can wait in its own way."""
        return self.faults.latency.get(request.host, 0.0) + (fault.delay if fault else 0.0)

    def answer(self, request: Request, fault: Fault | None = None) -> Response:
        """Answers without waiting; `fault` is what `faults.take` said."""
        if fault and fault.action:
            fault.action(request)
        with self.lock:
            if fault and fault.cut == "before":
                self._note(request, 0)
                raise ConnectionCut
            self.partner_center.expire_due()
            response = fault.response() if fault and fault.status else self._dispatch(request)
            self._note(request, response.status)
            now = self.clock.now()
        if fault and fault.afterwards:
            fault.afterwards(request)
        if fault and fault.cut == "after":
            raise ConnectionCut
        return Response(response.status, response.body, {"Date": format_datetime(now, usegmt=True), **response.headers})

    def _dispatch(self, request: Request) -> Response:
        hosts: dict[Host, Handler] = {
            "entra": self.entra,
            "partner_center": self.partner_center,
            "webhooks": self.webhooks,
            "certificates": self.certificates,
            "salesforce": self.salesforce,
            "control": self.control,
        }
        return hosts[request.host].handle(request)

    def _note(self, request: Request, status: int) -> None:
        if request.host != "control":
            at = self.clock.now()
            self.journal.add(Call(request.host, request.method, request.path, request.query, status, at, request.headers, request.body))

    def _changed(self, record: Record, created: bool) -> None:
        word = "created" if created else "updated"
        own = self.partner_center.engagement(record["engagementId"], TENANT_ID)
        if record["organizationId"] == TENANT_ID:
            self.webhooks.emit(f"referral-{word}", record["id"])
        elif own:
            self.webhooks.emit(f"related-referral-{word}", own[0]["id"] if self.webhooks.conduct.related_names_own else record["id"])

    def deliver(self, post: Post, limit: int | None = None) -> int:
        """Hands the events that are due to `post(url, headers, body) -> status` and says how many attempts that were.

        An OSError from `post` is an attempt without an answer; other exceptions are the caller's own and pass.
        """
        attempts = 0
        while limit is None or attempts < limit:
            with self.lock:
                self.partner_center.expire_due()
                delivery = self.webhooks.take()
                headers = self.webhooks.headers(delivery) if delivery else {}
            if delivery is None:
                break
            status = 0
            try:
                status = post(delivery.url, headers, delivery.body)
            except (OSError, ConnectionCut):
                status = 0
            finally:
                with self.lock:
                    self.webhooks.settle(delivery, status)
            attempts += 1
        return attempts

    def advance(self, seconds: float) -> None:
        """Moves the clock of both vendors on."""
        with self.lock:
            self.clock.advance(seconds)
            self.partner_center.expire_due()

    def referrals(self) -> list[Record]:
        """The partner's own records, oldest first."""
        with self.lock:
            return [record for record in self.partner_center.records.values() if record["organizationId"] == TENANT_ID]

    def referral(self, id: str) -> Record:
        """Any record, by id."""
        return self.partner_center.records[id]

    def state(self) -> dict[str, Any]:
        """Everything there is, as JSON-ready values."""
        with self.lock:
            registration = self.webhooks.registration
            return {
                "now": self.clock.now().isoformat(),
                "referrals": [self.partner_center.render(record) for record in self.partner_center.records.values()],
                "registration": registration,
                "events_waiting": len(self.webhooks.waiting),
                "opportunities": self.salesforce.records("Opportunity"),
                "leads": self.salesforce.records("Lead"),
            }
