"""The referrals API of Partner Center: list, read, create, patch (partner-center.md sections 2 to 5).

Holds the records of one partner and, of the same engagements, Microsoft's. What people do to them without the API is in `people.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from simulator import json_patch, odata, rules
from simulator.core import Clock, Request, Response
from simulator.entra import REFERRALS, TENANT_ID, Entra, User
from simulator.shape import REFERRAL, Refusal, bind, blank, instant, invalid, merge, stamp

ROOT = "/v1.0/engagements/referrals"
ORGANIZATION = {"organizationId": TENANT_ID, "organizationName": "Contoso"}
MICROSOFT = {"organizationId": rules.MICROSOFT, "organizationName": "Microsoft"}
ANSWER_WITHIN = timedelta(days=14)

Record = dict[str, Any]


@dataclass
class Switches:
    """Where documentation leaves the real service open. Defaults are the stricter reading."""

    page_size: int = 100
    odd_links: bool = False  # nextLink over http and without /engagements, `links` with the typo, as printed (2.1, 2.4)
    external_reference_filterable: bool = True
    honour_request_id: bool = False  # a repeated MS-RequestId on POST answers with the first referral
    strict_fields: bool = True  # 400 for an unknown field on create
    every_path: bool = False  # PATCH of any writable field
    marketplace_intent_required: bool = True
    reason_required: bool = True  # statusReason with Lost and Declined
    independent_may_ask: bool = True  # Microsoft may be invited to a referral of type Independent
    created_status: int = 200
    closed_status: int = 400
    error_may_close: bool = False  # substatus Error over the API; the portal has it
    list_lag: float = 0.0  # seconds until a new referral is listed


class PartnerCenter:
    """The service. `changed(record, created)` is told of every write, by whomever."""

    def __init__(self, clock: Clock, entra: Entra, changed: Callable[[Record, bool], None], seed: int | None = None) -> None:
        self._clock, self._entra, self._changed = clock, entra, changed
        self._ids = random.Random(seed)
        self._writes = 0
        self._created_by: dict[str, str] = {}  # MS-RequestId -> referral
        self._engagements: dict[str, list[str]] = {}  # engagement -> referrals, oldest first
        self._unanswered: set[str] = set()
        self.records: dict[str, Record] = {}
        self.switches = Switches()

    def handle(self, request: Request) -> Response:
        try:
            response = self._route(request)
        except Refusal as refusal:
            error = {"code": refusal.code, "message": refusal.message[:1024], "target": refusal.target.strip("/")}
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
            response = Response.of(
                refusal.status, {"error": {**error, "innerError": {"code": refusal.code, "message": refusal.message}}}, headers
            )
        traces = {name: request.headers[name] for name in ("client-request-id", "ms-correlationid") if name in request.headers}
        headers = {"request-id": self.new_id(), "timestamp": stamp(self._clock.now()), **traces, **response.headers}
        return Response(response.status, response.body, headers)

    def _route(self, request: Request) -> Response:
        user = self._caller(request)
        collection, _, id = request.path.rstrip("/").partition(f"{ROOT}/")
        if collection not in ("", ROOT) or request.path.rstrip("/") in ("", "/"):
            raise Refusal(404, "itemNotFound", "No such resource.")
        match request.method, id:
            case "GET", "":
                return Response.of(200, self._list(request, user))
            case "POST", "":
                return self._create(request)
            case "GET", _:
                return self._answer(200, self._visible(id, user), request)
            case "PATCH", _ if id:
                return self._patch(request, self._visible(id, user))
        raise Refusal(405, "invalidRequest", f"{request.method} is not supported.")

    def _caller(self, request: Request) -> User:
        token = self._entra.authenticate(request, REFERRALS)
        if token is None:
            raise Refusal(401, "unauthenticated", "The access token is missing, expired or for another audience.")
        if token.user is None:
            raise Refusal(403, "accessDenied", "Only App+User access is supported.")
        if not token.user.mfa:
            raise Refusal(403, "accessDenied", "Multi-factor authentication is required.", "insufficient_claims")
        if token.user.role == "none":
            raise Refusal(403, "accessDenied", "The user has no referrals role.")
        return token.user

    def _sees(self, user: User, record: Record) -> bool:
        """Own deals (a plain user: those whose team names them) and Microsoft's records of the same engagements (1.4, 5.3)."""
        if user.role == "admin":
            return True
        own = self.engagement(record["engagementId"], TENANT_ID)
        return any(member["email"] == user.email for mine in own for member in mine["team"])

    def _visible(self, id: str, user: User) -> Record:
        record = self.records.get(id.lower())
        if record is None:
            raise Refusal(404, "itemNotFound", "The referral was not found.")
        if not self._sees(user, record):
            raise Refusal(403, "accessDenied", "Unauthorized referral access.")
        return record

    def engagement(self, id: str, organization: str) -> list[Record]:
        """The referrals one party has in an engagement, oldest first."""
        together = [self.records[referral] for referral in self._engagements.get(id, ())]
        return [record for record in together if record["organizationId"] == organization]

    def _list(self, request: Request, user: User) -> dict[str, Any]:
        options = _page_options(request.parameters())
        refused = frozenset() if self.switches.external_reference_filterable else frozenset({"externalReferenceId"})
        selects = odata.predicate(options["$filter"], refused) if options["$filter"] else lambda record: True
        fields = [name.strip() for name in options["$select"].split(",")] if options["$select"] else None
        if fields and not set(fields) <= set(REFERRAL):
            raise invalid("$select", "Could not find a property to select.")
        listed = stamp(self._clock.now() - timedelta(seconds=self.switches.list_lag))
        found = [r for r in self.records.values() if r["createdDateTime"] <= listed and self._sees(user, r) and selects(r)]
        found.sort(key=lambda record: record["id"])  # the service promises no order of its own
        for name, descending in reversed(odata.ordering(options["$orderby"]) if options["$orderby"] else []):
            found.sort(key=lambda record: instant(record[name]) or "", reverse=descending)
        # By position: a row that moves between two pages is skipped or seen twice, as with any offset.
        rows = found[options["skip"] :][: options["left"]]
        page = rows[: self.switches.page_size]
        shown = [self.render(record) for record in page]
        answer: dict[str, Any] = {
            "@odata.context": f"{REFERRALS}/v1.0/engagements/$metadata#Referrals",
            "@odata.count": len(page),
            "value": [{name: record[name] for name in fields} for record in shown] if fields else shown,
        }
        if len(rows) > len(page):
            rest = {**options, "skip": options["skip"] + len(page), "left": options["left"] - len(page)}
            token = base64.urlsafe_b64encode(json.dumps(rest).encode()).decode().replace("=", "%3D")
            base = "http://api.partner.microsoft.com/v1.0/referrals" if self.switches.odd_links else f"{REFERRALS}{ROOT}"
            answer["@odata.nextLink"] = f"{base}?$skiptoken={token}"
        return answer

    def _create(self, request: Request) -> Response:
        body = _json(request)
        request_id = request.headers.get("ms-requestid", "")
        if self.switches.honour_request_id and request_id in self._created_by:
            return self._answer(self.switches.created_status, self.records[self._created_by[request_id]], request)
        record = self.create(bind(body, REFERRAL, strict=self.switches.strict_fields))
        if request_id:
            self._created_by[request_id] = record["id"]
        return self._answer(self.switches.created_status, record, request)

    def create(self, values: Mapping[str, Any]) -> Record:
        """A new deal of the partner, or Microsoft's connected referral if the target is `msft`. Raises `Refusal`."""
        given = merge(blank(), values)
        for name in ("customerProfile", "consent", "details"):
            if not isinstance(values.get(name), dict):
                raise invalid(name, f"{name} is required.")
        rules.check_create(given, self.switches.marketplace_intent_required)
        connected = rules.asks_microsoft(given)
        now = self._clock.now()
        effects: Record = {
            **ORGANIZATION,
            "direction": "Outgoing",
            "status": "Active",
            "substatus": "Accepted",
            "acceptedDateTime": stamp(now),
        }
        effects["engagementId"] = self.new_id()
        if connected:
            effects = {**MICROSOFT, "direction": "Incoming", "status": "New", "substatus": "Pending", "team": []}
            effects |= {"engagementId": self._connect(given["engagementId"]), "expirationDateTime": stamp(now + ANSWER_WITHIN)}
        elif given["engagementId"]:
            raise invalid("engagementId", "An engagement is extended by a referral with another target.")
        record = merge(given, effects)
        if not record["inviteContext"]["invitedBy"]["organizationId"]:
            record["inviteContext"]["invitedBy"] = dict(ORGANIZATION)
        return self.add(record)

    def _connect(self, engagement: str | None) -> str:
        own = next(iter(self.engagement((engagement or "").lower(), TENANT_ID)), None)
        if own is None:
            raise invalid("engagementId", "The engagement of the connected referral was not found.")
        if own["status"] == "Closed" or not rules.is_shared(own):
            raise invalid("engagementId", "Microsoft can only be invited to an open referral that its sellers may see.")
        if own["type"] != "Shared" and not self.switches.independent_may_ask:
            raise invalid("type", "Microsoft can only be invited to a shared referral.")
        return str(own["engagementId"])

    def _patch(self, request: Request, record: Record) -> Response:
        if record["organizationId"] != TENANT_ID:
            raise Refusal(403, "accessDenied", "The referral belongs to another organization.")
        condition = request.headers.get("if-match", "*")
        if condition not in ("*", record["eTag"]):
            raise Refusal(412, "preconditionFailed", "The eTag does not match.", "eTag")
        patched = json_patch.apply(record, _json(request), None if self.switches.every_path else json_patch.PATHS)
        rules.check_update(record, patched, self.switches.reason_required, self.switches.closed_status, self.switches.error_may_close)
        record = self.save(patched)
        if "return=representation" in request.headers.get("prefer", ""):
            return self._answer(200, record, request)
        return Response(204, b"", {"ETag": record["eTag"]})

    def add(self, record: Record) -> Record:
        """Stores a new record of any party."""
        record = {**record, "id": self.new_id(), "createdDateTime": stamp(self._clock.now())}
        self._engagements.setdefault(record["engagementId"], []).append(record["id"])
        return self._store(record, created=True)

    def save(self, record: Record) -> Record:
        """Stores a changed record, with the times its status asks for. A write that changes nothing is a write: new eTag, new event."""
        before, now = self.records[record["id"]], stamp(self._clock.now())
        if (before["status"], record["status"]) == ("New", "Active"):
            record = {**record, "acceptedDateTime": now, "expirationDateTime": None}
        if before["status"] != "Closed" == record["status"]:
            record = {**record, "closedDateTime": now}
        return self._store(record, created=False)

    def _store(self, record: Record, created: bool) -> Record:
        now = self._clock.now()
        self._writes += 1
        # The form of Azure Cosmos DB, its own quotes included (2.10).
        tag = f'"{0x84000000 + self._writes:08x}-0000-0100-0000-{int(now.timestamp()):08x}0000"'
        record = {**record, "updatedDateTime": stamp(now), "eTag": tag}
        self.records[record["id"]] = record
        (self._unanswered.add if record["status"] == "New" else self._unanswered.discard)(record["id"])
        self._changed(record, created)
        return record

    def expire_due(self) -> None:
        """Closes what nobody answered in time (5.4); called before every answer."""
        now = stamp(self._clock.now())
        for record in [self.records[id] for id in self._unanswered]:
            if (record["expirationDateTime"] or now) < now:
                self.save({**record, "status": "Closed", "substatus": "Expired"})

    def render(self, record: Record) -> Record:
        """The record as clients see it; not a copy."""
        word = "engagments" if self.switches.odd_links else "engagements"
        base = f"{REFERRALS}/v1.0/{word}/referrals"
        links = {
            "relatedReferrals": {"uri": f"{base}?$filter=engagementId eq {record['engagementId']}", "method": "GET"},
            "self": {"uri": f"{base}/{record['id']}", "method": "GET"},
        }
        return {**record, "links": links}

    def _answer(self, status: int, record: Record, request: Request) -> Response:
        body = {"@odata.context": f"{REFERRALS}/v1.0/engagements/$metadata#Referrals/$entity", **self.render(record)}
        return Response.of(status, body, {"ETag": record["eTag"]})

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))


def _page_options(parameters: Mapping[str, str]) -> dict[str, Any]:
    """What a list call asks for. A $skiptoken holds all of it, so options beside it are ignored."""
    if "$skiptoken" in parameters:
        try:
            return dict(json.loads(base64.urlsafe_b64decode(parameters["$skiptoken"])))
        except (ValueError, binascii.Error):
            raise invalid("$skiptoken", "The skip token is not valid.") from None
    known = {"$filter", "$orderby", "$select", "$top", "$skip", "$count"}
    if not set(parameters) <= known:
        raise invalid("query", f"Unknown query options: {', '.join(sorted(set(parameters) - known))}.")
    numbers = {}
    for name, default in (("$top", "1000000"), ("$skip", "0")):
        text = parameters.get(name, default)
        if not text.isascii() or not text.isdigit():
            raise invalid(name, f"{name} must be a whole number.")
        numbers[name] = int(text)
    texts = {name: parameters.get(name, "") for name in ("$filter", "$orderby", "$select")}
    return {**texts, "skip": numbers["$skip"], "left": numbers["$top"]}


def _json(request: Request) -> Any:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in ("application/json", "application/json-patch+json"):
        raise Refusal(415, "invalidRequest", "The media type must be application/json.")
    try:
        return request.json()
    except ValueError:
        raise invalid("referral", "The body is not JSON.") from None
