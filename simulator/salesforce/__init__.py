"""Salesforce, played strictly: the REST subset a co-sell connector uses, on an org that can be set up, edited by people and disturbed.

`Salesforce(clock).handle(request)` answers one request. What an org is stands in `schema`, `standard` and `packages`; how it refuses, in
`values` and `records`; how it is asked, in `soql`, `query`, `rest`, `composite` and `login`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar
from urllib.parse import unquote

from simulator.core import Clock, Request, Response
from simulator.salesforce.composite import Composite
from simulator.salesforce.errors import Refusal, not_found, refusal
from simulator.salesforce.ids import canonical
from simulator.salesforce.login import App, Login
from simulator.salesforce.org import DuplicateRule, Org, Stage, ValidationRule
from simulator.salesforce.packages import PACKAGE_RULES, build_schema
from simulator.salesforce.people import Deal, People
from simulator.salesforce.records import Actor, Store, Write
from simulator.salesforce.rest import Answer, Call, Resources, check_version, error_body, split_url, versions
from simulator.salesforce.schema import Row

__all__ = ["App", "Deal", "DuplicateRule", "Org", "Refusal", "Salesforce", "Stage", "ValidationRule", "Write", "refusal"]

Answered = TypeVar("Answered")
LONGEST_URL = 16_384
DAY = timedelta(hours=24)


class Salesforce:
    """One org behind one My Domain host. Not thread-safe: whoever calls it holds a lock."""

    def __init__(self, clock: Clock, org: Org | None = None) -> None:
        self.clock, self.org = clock, org or Org()
        package_rules = PACKAGE_RULES if self.org.microsoft_package and self.org.package_rules else ()
        self.store = Store(self.org, build_schema(self.org), clock, (*self.org.validation_rules, *package_rules))
        self._people = People(self.store, self.org)
        self.integration_user_id = self._people.integration_user_id
        user = self.store.live(self.integration_user_id) or {}
        self.login = Login(clock, self.org, self._people.organization_id, self.integration_user_id, user["Username"])
        self._api = Actor(self.integration_user_id, self.store.schema.seen_with(self.org.hidden_fields, self.org.read_only_fields))
        self._resources = Resources(self.store, self.org, clock)
        self._composite = Composite(self.store, self._resources, self.org)
        self._used: deque[Any] = deque()
        if self.org.microsoft_package and self.org.package_trigger:
            self.store.after.append(self._count_solutions)

    # over HTTP

    def handle(self, request: Request) -> Response:
        """Answer one request; `Date` is this world's clock."""
        self.store.settle()
        response = self._answer(request)
        return Response(
            response.status, response.body, {**response.headers, "Date": format_datetime(self.clock.now().astimezone(UTC), usegmt=True)}
        )

    def _answer(self, request: Request) -> Response:
        path = unquote(request.path).rstrip("/")
        if len(request.path) + len(request.query) > LONGEST_URL:
            return Response(414, b"<html><body>URI Too Long</body></html>", {"Content-Type": "text/html"})
        if path == "/services/oauth2/token":
            return self.login.token(request) if request.method == "POST" else Response(405)
        if path == "/services/data":
            return Response.of(200, versions())
        limit, version = {}, None
        try:
            self.login.check(request)
            if path == "/services/oauth2/userinfo":
                return Response.of(200, self.login.userinfo())
            limit = self._spend()
            parts = split_url(f"{request.path}?{request.query}")
            if parts is None:
                raise not_found()
            version = parts[0]
            check_version(version)
            answer = self._resource(self._call(request, *parts))
        except Refusal as refused:
            answer = Answer(refused.status, error_body(refused, version))
        if answer.body is None:
            return Response(answer.status, b"", {**answer.headers, **limit})
        return Response.of(answer.status, answer.body, {**answer.headers, **limit})

    def _call(self, request: Request, version: str, path: tuple[str, ...], parameters: dict[str, str]) -> Call:
        method = request.method.upper()
        if method == "POST" and "_HttpMethod" in parameters:
            method = parameters["_HttpMethod"].upper()
        body = None
        if request.body and method in ("POST", "PATCH", "PUT"):
            if not request.headers.get("content-type", "").lower().startswith("application/json"):
                raise refusal("UNSUPPORTED_MEDIA_TYPE", "Content-Type must be application/json", None, 415)
            try:
                body = request.json()
                json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
            except ValueError as fault:
                raise refusal("JSON_PARSER_ERROR", str(fault), None) from None
        waved = re.search(r"allowSave\s*=\s*true", request.headers.get("sforce-duplicate-rule-header", ""), re.IGNORECASE)
        actor = Actor(self._api.user_id, self._api.schema, allow_duplicates=bool(waved))
        return Call(method, path, version, actor, parameters, request.headers, body)

    def _resource(self, call: Call) -> Answer:
        if call.path == ("limits",):
            call.allow("GET")
            limit = self.org.daily_requests
            return Answer(200, {"DailyApiRequests": {"Max": limit, "Remaining": max(0, limit - self.api_usage)}})
        part = self._composite if call.path[:1] == ("composite",) else self._resources
        return part.answer(call)

    @property
    def api_usage(self) -> int:
        """Calls in the last 24 hours."""
        while self._used and self.clock.now() - self._used[0] > DAY:
            self._used.popleft()
        return len(self._used)

    def _spend(self) -> dict[str, str]:
        if self.api_usage >= self.org.daily_requests:
            raise refusal("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", None, 403)
        self._used.append(self.clock.now())
        return {"Sforce-Limit-Info": f"api-usage={len(self._used)}/{self.org.daily_requests}"}

    def forget_cursors(self) -> None:
        """Every query locator expires."""
        self._resources.forget_cursors()

    # by hand

    def person_creates(self, name: str, fields: Mapping[str, Any], by: str | None = None, visible_after: float = 0) -> str:
        """A person's new record; its id. With `visible_after`, in a transaction that commits so many seconds later."""
        return self._by_hand(lambda: self._people.create(name, fields, by), visible_after)

    def person_edits(self, name: str, record_id: str, fields: Mapping[str, Any], by: str | None = None, visible_after: float = 0) -> None:
        """A person's edit; raises `Refusal` as the page would. See `person_creates`."""
        self._by_hand(lambda: self.store.update(name, _id(record_id), fields, self._people.actor(by)), visible_after)

    def person_deletes(self, name: str, record_id: str, by: str | None = None, visible_after: float = 0) -> None:
        self._by_hand(lambda: self.store.delete(name, _id(record_id), self._people.actor(by)), visible_after)

    def person_undeletes(self, name: str, record_id: str, by: str | None = None) -> None:
        self._by_hand(lambda: self.store.undelete(name, _id(record_id), self._people.actor(by)), 0)

    def person_converts_lead(self, lead_id: str, by: str | None = None, opportunity: str | bool = True) -> str | None:
        """A person converts a lead; the opportunity's id. See `People.convert_lead`."""
        target = _id(opportunity) if isinstance(opportunity, str) else opportunity
        return self._by_hand(lambda: self._people.convert_lead(_id(lead_id), by, target), 0)

    def _by_hand(self, action: Callable[[], Answered], visible_after: float) -> Answered:
        self.store.settle()
        return self.store.committed_later(visible_after, action) if visible_after else action()

    def make_deal(self, name: str = "Fabrikam data estate", **options: Any) -> Deal:
        """A deal ready to be shared; see `People.make_deal`."""
        self.store.settle()
        return self._people.make_deal(name, **options)

    def records(self, name: str, deleted: bool = False) -> list[Row]:
        """Copies of an object's rows, oldest first."""
        self.store.settle()
        return [dict(row) for row in self.store.rows(name, deleted)]

    def record(self, record_id: str) -> Row:
        """A copy of one row, also a deleted one. Raises LookupError."""
        self.store.settle()
        row = self.store.find(_id(record_id))
        if row is None:
            raise LookupError(record_id)
        return dict(row)

    def _count_solutions(self, write: Write) -> None:
        """Microsoft's 2025 trigger (connector-facts 2.10): under the name of whoever added or removed the line."""
        if write.object != "Microsoft_Solutions__c" or (write.old is not None and write.new is not None):
            return
        line = write.new or write.old or {}
        lines = [row for row in self.store.rows(write.object) if row["Opportunity__c"] == line["Opportunity__c"]]
        fields: dict[str, Any] = {"Solution_Count__c": len(lines)}
        if not lines:
            fields["Sync_With_Partner_Center__c"] = False
        if self.store.live(line["Opportunity__c"]):
            self.store.update("Opportunity", line["Opportunity__c"], fields, Actor(write.actor.user_id, self.store.schema, system=True))


def _id(text: str) -> str:
    found = canonical(text)
    if found is None:
        raise LookupError(f"not an id: {text}")
    return found
