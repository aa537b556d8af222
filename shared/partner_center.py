"""Partner Center's referrals and webhook registration, as calls the connector makes. Vendor facts: Microsoft's
"Referrals API" and "Partner Center webhooks" pages; how its answers are decoded is in `partner_center_answers.py`.

Records are the vendor's own dictionaries. Nothing is retried here except once after a 401: whoever calls has the backoff.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlsplit

import httpx

from shared import correlation, wire
from shared.clock import Clock
from shared.errors import ConnectorError, Gone, TryLater
from shared.pacing import LIST_PATIENCE_SECONDS, PATIENCE_SECONDS, Pace, Pause
from shared.partner_center_answers import InvalidRequest, canonical_keys, decode_error
from shared.referral import PATCHABLE, is_guid
from shared.settings import Settings
from shared.transport import network_errors

__all__ = ["PartnerCenter", "check_patch", "decode_error"]

Audience = Literal["referrals", "webhooks"]
Referral = dict[str, Any]


class TokenSource(Protocol):
    """What `entra.Tokens` is to this client."""

    def token(self, audience: Audience) -> str: ...

    @property
    def expires_at(self) -> datetime | None: ...

    def expiries(self) -> dict[str, datetime]: ...

    def forget(self, audience: Audience, refused: str | None = None) -> None: ...


def check_patch(operations: list[dict[str, Any]]) -> None:
    """Raises ValueError for a JSON Patch the service would refuse or half understand: another operation than `add` and
    `replace`, another path than its own, or a status without its substatus, since it checks the two as one transition."""
    paths = [operation["path"] for operation in operations]
    refused = sorted(set(paths) - PATCHABLE)
    if refused:
        raise ValueError(f"Partner Center has no patch for {', '.join(refused)}")
    if any(operation["op"] not in ("add", "replace") for operation in operations):
        raise ValueError("Partner Center knows no other patch than add and replace")
    if ("/status" in paths) != ("/substatus" in paths):
        raise ValueError("status and substatus are patched together")


def odata_literal(value: str) -> str:
    """An OData string literal."""
    return "'" + value.replace("'", "''") + "'"


class PartnerCenter:
    """The referrals and webhooks services for one partner tenant; safe to share between threads.

    Every method raises `TryLater`, `SignInFailed`, `Refused` (with the vendor's words) or `Gone`.
    """

    def __init__(self, settings: Settings, http: httpx.Client, tokens: TokenSource, clock: Clock) -> None:
        self._referrals = f"{settings.partner_center_api_url}/v1.0/engagements/referrals"
        self._registration = f"{settings.partner_center_webhooks_url}/webhooks/v1/registration"
        self._http = http
        self._tokens = tokens
        self._clock = clock
        self._seen_time: tuple[datetime, float] | None = None
        self._pace = Pace("Partner Center", settings.partner_center_calls_per_minute, clock)
        self._pauses: dict[Audience, Pause] = {one: Pause("Partner Center", clock) for one in ("referrals", "webhooks")}
        self.calls: Counter[str] = Counter()  # answered, by the function that made them
        # Whether this tenant filters on externalReferenceId is not documented; a refusal is remembered for the process.
        self._filters_external_reference = True

    # referrals

    def referral(self, referral_id: str) -> Referral:
        """One referral with its eTag."""
        return self._record("GET", self._referral_url(referral_id), what=f"reading referral {referral_id}")

    def engagement(self, engagement_id: str) -> list[Referral]:
        """Every referral of the engagement we may see: ours, and Microsoft's (`organizationId` msft) when there is one."""
        return list(self._list({"$filter": f"engagementId eq {odata_literal(_guid(engagement_id))}"}))

    def by_external_reference(self, record_id: str, created_since: datetime | None) -> list[Referral]:
        """Referrals that carry our record's id. `created_since` bounds the search where the tenant cannot filter on it."""
        if self._filters_external_reference:
            try:
                return list(self._list({"$filter": f"externalReferenceId eq {odata_literal(record_id)}"}))
            except InvalidRequest:
                self._filters_external_reference = False
        query = {"$filter": f"createdDateTime ge {_instant(created_since)}"} if created_since else {}
        return [referral for referral in self._list(query) if referral.get("externalReferenceId") == record_id]

    def changed_since(self, since: datetime) -> Iterator[Referral]:
        """Referrals updated at or after that time (whole seconds, rounded down), oldest first."""
        return self._list({"$filter": f"updatedDateTime ge {_instant(since)}", "$orderby": "updatedDateTime"})

    def all_referrals(self) -> Iterator[Referral]:
        """Every referral the account may see."""
        return self._list({})

    def create_referral(self, body: Referral, request_id: str) -> Referral:
        """The created referral. `request_id` is a GUID kept for one logical create, over all its attempts."""
        return self._record("POST", self._referrals, body=body, request_id=request_id, what="creating the referral")

    def patch_referral(self, referral_id: str, operations: list[dict[str, Any]], etag: str, request_id: str) -> None:
        """Change one referral if it is still the one read; raises `VersionConflict` when it is not (nothing was written).

        `etag` is the body's `eTag` as it stands, quotes included.
        """
        check_patch(operations)
        if not etag:
            raise ValueError("a patch is conditional: it needs the eTag of the referral it was planned on")
        if not (etag.isascii() and etag.isprintable()):
            raise TryLater(f"updating referral {referral_id}: Partner Center gave it an eTag that no header can hold", certain=True)
        url = self._referral_url(referral_id)
        self._call(
            "PATCH", url, body=operations, headers={"If-Match": etag}, request_id=request_id, what=f"updating referral {referral_id}"
        )

    def sign_in(self, audience: Audience = "referrals") -> None:
        """Proves that the sign-in works. Raises what it would raise for a real call."""
        self._tokens.token(audience)

    @property
    def credential_expires_at(self) -> datetime | None:
        """When the user's consent dies at the latest, where that is known."""
        return self._tokens.expires_at

    def credential_expiries(self) -> dict[str, datetime]:
        """When the secrets kept beside that consent end, by name."""
        return self._tokens.expiries()

    @property
    def server_time(self) -> datetime | None:
        """The referrals service's clock now (whole seconds at best), from the Date of its last answer; None before the first."""
        if self._seen_time is None:
            return None
        date, seen = self._seen_time
        return date + timedelta(seconds=self._clock.monotonic() - seen)

    # webhooks: one registration per partner tenant, shared with every other system of the partner

    def registration(self) -> dict[str, Any] | None:
        """`WebhookUrl`, `WebhookEvents` and whatever else the service tells; None when nothing is registered."""
        try:
            answer = self._call("GET", self._registration, audience="webhooks", what="reading the webhook registration")
        except Gone:
            return None
        found = canonical_keys(answer) if isinstance(answer, dict) else {}
        return found if found.get("WebhookUrl") else None

    def supported_events(self) -> list[str]:
        """Event names a registration may ask for."""
        answer = self._call("GET", f"{self._registration}/events", audience="webhooks", what="listing the webhook events")
        return [str(name) for name in answer or []]

    def register(self, url: str, events: list[str], replace: bool) -> dict[str, Any]:
        """What is registered now. `replace` is for a tenant that has a registration: it takes the place of all of it."""
        # The signature goes to x-ms-signature: gateways, App Service among them, eat the Authorization header of an event.
        body = {"WebhookUrl": url, "WebhookEvents": events, "SignatureTokenToMsSignatureHeader": True}
        method = "PUT" if replace else "POST"
        return canonical_keys(self._record(method, self._registration, body=body, audience="webhooks", what="registering the webhook"))

    def send_validation_event(self) -> str:
        """Ask for a `test-created` event (two a minute at most); the correlation id to ask about it with."""
        url = f"{self._registration}/validationEvents"
        answer = canonical_keys(self._record("POST", url, audience="webhooks", what="asking for a validation event"))
        return str(answer.get("CorrelationId", ""))

    def validation_result(self, correlation_id: str) -> dict[str, Any]:
        """How the delivery of a validation event went; kept for seven days."""
        url = f"{self._registration}/validationEvents/{_guid(correlation_id)}"
        return self._record("GET", url, audience="webhooks", what="reading the validation result")

    # the answer itself, for whoever asks what the service answers (`probe.py`)

    def exchange(self, method: str, path: str = "", *, what: str, audience: Audience = "referrals", **options: Any) -> httpx.Response:
        """One call and its answer, a refusal too; `path` follows the address of the referrals, or of the registration; options as of `_send`.

        Raises `TryLater` for a 429 and a 5xx, which answer nothing.
        """
        url = (self._referrals if audience == "referrals" else self._registration) + path
        response = self._send(method, url, what=what, audience=audience, **options)
        if response.status_code == 429 or response.status_code >= 500:
            raise self._error(response, what, audience)
        return response

    # how every call goes

    def _referral_url(self, referral_id: str) -> str:
        return f"{self._referrals}/{_guid(referral_id)}"

    def _list(self, query: dict[str, str]) -> Iterator[Referral]:
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        asked: set[str] = set()
        while text not in asked:
            asked.add(text)
            url = f"{self._referrals}?{text}" if text else self._referrals
            page = self._record("GET", url, what="listing referrals", patience=LIST_PATIENCE_SECONDS)
            yield from page.get("value") or []
            next_link = page.get("@odata.nextLink")
            if not next_link:
                return
            # Documented next links are http and lack a path segment: only their query is used, as it stands, on our own address.
            text = _query(str(next_link))
        raise TryLater("listing referrals: Partner Center's pages repeat themselves")

    def _record(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        answer = self._call(method, url, **options)
        if not isinstance(answer, dict):
            raise TryLater(f"{options['what']}: Partner Center answered without a record")
        return answer

    def _call(self, method: str, url: str, *, what: str, audience: Audience = "referrals", **options: Any) -> Any:
        response = self._send(method, url, what=what, audience=audience, **options)
        if response.status_code not in (200, 201, 202, 204):
            raise self._error(response, what, audience)
        try:
            return wire.loads(response.content) if response.content else None
        except ValueError as error:
            raise TryLater(f"{what}: Partner Center's answer is not JSON") from error

    def _error(self, response: httpx.Response, what: str, audience: Audience) -> ConnectorError:
        error = decode_error(response.status_code, response.headers, response.content, what=what)
        if response.status_code in (429, 503) and isinstance(error, TryLater) and error.retry_after:
            self._pauses[audience].ask(error.retry_after)
        return error

    def _send(
        self,
        method: str,
        url: str,
        *,
        what: str,
        audience: Audience = "referrals",
        body: Any = None,
        headers: dict[str, str] | None = None,
        request_id: str | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> httpx.Response:
        self._pauses[audience].check(what)
        self._pace.take(what, write=method != "GET", patience=patience)
        content = wire.dumps(body) if body is not None else b""
        # The correlation id is the trace of what led to this call, so that Microsoft's support and our log speak of the same.
        ids = {"client-request-id": str(uuid.uuid4()), "MS-CorrelationId": correlation.correlation_id()}
        sent = {"Accept": "application/json", **ids, **(headers or {})}
        if request_id:
            sent["MS-RequestId"] = request_id
        if content:
            sent["Content-Type"] = "application/json"
        for attempt in (1, 2):
            token = self._tokens.token(audience)
            with network_errors(what):
                response = self._http.request(method, url, content=content, headers={**sent, "Authorization": f"Bearer {token}"})
            self.calls[correlation.flow()] += 1
            if audience == "referrals":
                self._note_time(response.headers.get("Date", ""))
            if response.status_code != 401:
                break
            if attempt == 1:
                # Nothing was done with the request, so repeating even a write is safe.
                self._tokens.forget(audience, token)
        return response

    def _note_time(self, date: str) -> None:
        try:
            self._seen_time = (parsedate_to_datetime(date).astimezone(UTC), self._clock.monotonic())
        except ValueError:
            return


def _query(link: str) -> str:
    """The query of a next link, if it is one an address can hold."""
    with contextlib.suppress(ValueError):
        text = urlsplit(link).query
        if text.isascii() and text.isprintable():
            return text
    raise TryLater("listing referrals: Partner Center named a next page that cannot be asked for")


def _guid(value: str) -> str:
    if not is_guid(value):
        raise Gone(f"{value[:60]!r} is not a Partner Center id, so there is no such record")
    return value


def _instant(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a datetime needs a zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
