"""Partner Center's webhooks: the registration, signed events, delivery with retries (partner-center.md section 6)."""

from __future__ import annotations

import base64
import http
import json
import re
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from simulator.certificates import Certificates
from simulator.core import Clock, Request, Response
from simulator.entra import TENANT_ID, WEBHOOKS, Entra

ROOT = "/webhooks/v1/registration"
REFERRAL_EVENTS = ("referral-created", "referral-updated", "related-referral-created", "related-referral-updated")
EVENTS = ("test-created", *REFERRAL_EVENTS, "subscription-updated", "invoice-ready", "usagerecords-thresholdExceeded")
ATTEMPTS = 10
VALIDATIONS_PER_MINUTE = 2
VALIDATION_KEPT = timedelta(days=7)


@dataclass
class Delivery:
    """One event on its way to one address. `answers` holds the status of each attempt so far, 0 for none."""

    url: str
    body: bytes
    in_x_header: bool
    due: datetime
    name: str
    validation: str = ""
    answers: list[tuple[int, datetime]] = field(default_factory=list)
    state: str = "waiting"  # or "under way", "delivered", "given up"


@dataclass
class Conduct:
    """How delivery misbehaves, and what the documentation leaves open."""

    duplicates: int = 0  # further copies of each event
    drop: bool = False  # events are lost for good
    delay: float = 0.0  # seconds before the first attempt
    reorder: bool = False  # the newest due event goes first
    hold: bool = False  # nothing is delivered
    first_retry: float = 5.0  # seconds; doubles with each further attempt ([?], 6.5)
    related_names_own: bool = False  # a related event carries the id of the partner's record, not Microsoft's ([?], 6.3)


class Error(Exception):
    """An error answer in this host's shape (2.9)."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status, self.code, self.description = status, code, description


class Webhooks:
    """One registration per tenant, and the queue behind it."""

    def __init__(self, clock: Clock, entra: Entra, certificates: Certificates) -> None:
        self._clock, self._entra, self._certificates = clock, entra, certificates
        self.registration: dict[str, Any] | None = None
        self.conduct = Conduct()
        self.waiting: list[Delivery] = []
        self.finished: deque[Delivery] = deque(maxlen=1000)
        self._validations: dict[str, tuple[datetime, Delivery]] = {}

    def handle(self, request: Request) -> Response:
        try:
            response = self._route(request)
        except Error as error:
            body = {"code": error.code, "description": error.description, "data": [], "source": "PartnerCenter"}
            response = Response.of(error.status, body)
        traces = {name: request.headers[name.lower()] for name in ("MS-CorrelationId", "MS-RequestId") if name.lower() in request.headers}
        return Response(response.status, response.body, {**response.headers, **traces})

    def _route(self, request: Request) -> Response:
        if self._entra.authenticate(request, WEBHOOKS) is None:
            raise Error(401, "401", "Access denied")
        now, path = self._clock.now(), request.path.rstrip("/")
        match request.method, path.removeprefix(ROOT) if path.startswith(ROOT) else None:
            case "GET", "/events":
                return Response.of(200, list(EVENTS))
            case "GET", "" if self.registration:
                return Response.of(200, {name: self.registration[name] for name in ("WebhookUrl", "WebhookEvents")})
            case ("PUT", "") | ("GET", "") if not self.registration:
                raise Error(404, "404", "There is no registration")
            case (("POST" | "PUT"), ""):
                if request.method == "POST" and self.registration:
                    raise Error(409, "409", "A registration exists; update it with PUT")
                self.registration = {"SubscriberId": TENANT_ID, **_registration(request)}
                return Response.of(200, {name: self.registration[name] for name in ("SubscriberId", "WebhookUrl", "WebhookEvents")})
            case "POST", "/validationEvents":
                return self._validate(now)
            case "GET", str(rest) if rest.startswith("/validationEvents/"):
                at, delivery = self._validations.get(rest.rpartition("/")[2], (now - VALIDATION_KEPT, None))
                if delivery is None or at + VALIDATION_KEPT <= now:
                    raise Error(404, "404", "There is no such validation event")
                return Response.of(200, _validation_result(delivery))
            case _, None:
                raise Error(404, "404", "There is no such resource")
        raise Error(405, "405", "The method is not supported")

    def _validate(self, now: datetime) -> Response:
        if self.registration is None or "test-created" not in self.registration["WebhookEvents"]:
            raise Error(400, "400", "The tenant is not registered for test-created")
        recent = [at for at, _ in self._validations.values() if at > now - timedelta(minutes=1)]
        if len(recent) >= VALIDATIONS_PER_MINUTE:
            wait = 60 - int((now - min(recent)).total_seconds())
            message = f"Rate limit is exceeded. Try again in {wait} seconds."
            return Response.of(429, {"statusCode": 429, "message": message}, {"Retry-After": str(wait)})
        id = str(uuid.uuid4())
        delivery = self._queue("test-created", "http://localhost:16722/v1/webhooks/registration/test", "test")
        delivery.validation = id
        self._validations[id] = (now, delivery)
        return Response.of(200, {"correlationId": id})

    def emit(self, name: str, referral_id: str) -> None:
        """Queues a referral event, if the tenant asked for it. The address in it is the documented one, not the API's (6.6)."""
        if self.registration is None or name not in self.registration["WebhookEvents"] or self.conduct.drop:
            return
        for _ in range(1 + self.conduct.duplicates):
            self._queue(name, f"https://api.partnercenter.microsoft.com/engagements/v1/referrals/{referral_id}", "referral")

    def _queue(self, name: str, uri: str, resource: str) -> Delivery:
        assert self.registration is not None
        now = self._clock.now()
        body = {
            "EventName": name,
            "ResourceUri": uri,
            "ResourceName": resource,
            "AuditUri": None,
            "ResourceChangeUtcDate": f"{now:%Y-%m-%dT%H:%M:%S.%f}0+00:00",
        }
        due = now + timedelta(seconds=self.conduct.delay)
        text = json.dumps(body, separators=(",", ":")).encode()
        signed_apart = self.registration["SignatureTokenToMsSignatureHeader"]
        delivery = Delivery(self.registration["WebhookUrl"], text, signed_apart, due, name)
        self.waiting.append(delivery)
        return delivery

    def take(self) -> Delivery | None:
        """A delivery that is due, now under way; give its outcome to `settle`."""
        now = self._clock.now()
        due = [delivery for delivery in self.waiting if delivery.due <= now] if not self.conduct.hold else []
        if not due:
            return None
        delivery = due[-1] if self.conduct.reorder else min(due, key=lambda delivery: delivery.due)
        delivery.state = "under way"
        self.waiting.remove(delivery)
        return delivery

    def headers(self, delivery: Delivery) -> dict[str, str]:
        signature = "Signature " + base64.b64encode(self._certificates.sign(delivery.body)).decode()
        return {
            "Content-Type": "application/json",
            "x-ms-signature" if delivery.in_x_header else "Authorization": signature,
            "X-MS-Certificate-Url": self._certificates.url,
            "X-MS-Signature-Algorithm": "rsa-sha256",
        }

    def settle(self, delivery: Delivery, status: int) -> None:
        """Notes an attempt's answer; plans the next one, or gives up after ten."""
        now = self._clock.now()
        delivery.answers.append((status, now))
        if 200 <= status < 300 or len(delivery.answers) >= ATTEMPTS:
            delivery.state = "delivered" if 200 <= status < 300 else "given up"
            self.finished.append(delivery)
            return
        delivery.state = "waiting"
        delivery.due = now + timedelta(seconds=self.conduct.first_retry * 2 ** (len(delivery.answers) - 1))
        self.waiting.append(delivery)


def _registration(request: Request) -> dict[str, Any]:
    """The body of POST and PUT with the documented names; their case differs between sources (6.2)."""
    try:
        given = request.json()
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Error(400, "400", "The body must be a JSON object")
    body = {key.lower(): value for key, value in given.items()}
    url, events = body.get("webhookurl"), body.get("webhookevents")
    if not isinstance(url, str) or not re.match(r"https?://[^/?#\s]+", url):
        raise Error(400, "400", "WebhookUrl must be an absolute address")
    if not isinstance(events, list) or not events or not all(event in EVENTS for event in events):
        raise Error(400, "400", "WebhookEvents must name known events")
    flag = body.get("signaturetokentomssignatureheader", False)
    return {"WebhookUrl": url, "WebhookEvents": events, "SignatureTokenToMsSignatureHeader": str(flag).lower() == "true"}


def _validation_result(delivery: Delivery) -> dict[str, Any]:
    results = [
        {
            "responseCode": http.HTTPStatus(status).phrase.replace(" ", "") if status else "",
            "responseMessage": "",
            "systemError": not status,
            "dateTimeUtc": f"{at:%Y-%m-%dT%H:%M:%S.%f}0",
        }
        for status, at in delivery.answers
    ]
    done = delivery.state in ("delivered", "given up")
    return {
        "correlationId": delivery.validation,
        "partnerId": TENANT_ID,
        "status": "completed" if done else "pending",
        "callbackUrl": delivery.url,
        "results": results,
    }
