"""Salesforce's REST API, as calls the connector makes: queries, conditional updates, inserts and atomic graphs.

simple-salesforce (1.12) stays behind this class, reached only through `restful`, in direct mode, on a session of ours.
Its known defects cannot bite so: without `SFType` no endless login loop, no floats, no hidden `api_usage`, no call without a
time limit, no status for a result; without a login of its own no dropped headers on the repeat, no crash on a 401 that is not
JSON, no stale token or instance; with ids and names checked before they enter a path, no token to another host and no
mis-encoded segment; literals come from `soql`, not `format_soql`; `bulk`, `updated` and `query_all` of the library are not used.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared import correlation, wire
from shared.clock import Clock
from shared.errors import AlreadyExists, Gone, Refused, TryLater
from shared.pacing import Pause
from shared.salesforce_answers import DuplicateFound, Page, decode_error, graph_ids
from shared.salesforce_login import Session
from shared.settings import Settings
from shared.soql import identifier
from shared.transport import requests_session, retry_after

if TYPE_CHECKING:
    import requests
    from requests.adapters import BaseAdapter
    from simple_salesforce.api import Salesforce as Library

__all__ = ["DuplicateFound", "GraphRequest", "Page", "Salesforce", "decode_error"]

DESCRIBE_SECONDS = 3600.0
# From this share of the daily calls on, a description of the org may be older.
SAVING_SHARE = 0.8
# After an answer that a limit is reached, all calls pause: shortly where too many ran at once, longer where the day's are used up.
BUSY_SECONDS, SPENT_SECONDS = 1.0, 300.0

_ID = re.compile(r"[a-zA-Z0-9]{15}|[a-zA-Z0-9]{18}")
_REFERENCE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NEXT = re.compile(r"/services/data/v\d+\.\d/((?:query|queryAll)/[A-Za-z0-9-]+)")


class Login(Protocol):
    """What `SalesforceLogin` is to this client."""

    def session(self) -> Session: ...

    def renew(self, old_token: str) -> Session: ...


@dataclass(frozen=True)
class GraphRequest:
    """One write of a graph. `path` is an object ("Contact") or a record ("Account/001…"); the body's values may name the
    id of an earlier one as "@{reference.id}"."""

    reference: str
    method: Literal["POST", "PATCH"]
    path: str
    body: Mapping[str, Any]


class _Expired(Exception):
    """A 401: the session has to be renewed."""


class Salesforce:
    """One org, for any number of threads: each has its own client and connection, all share the login's token.

    Every method raises `TryLater`, `SignInFailed`, `Misconfigured`, `Refused` (with the vendor's words) or `Gone`.
    """

    def __init__(self, settings: Settings, login: Login, clock: Clock, adapter: BaseAdapter | None = None) -> None:
        self._settings = settings
        self._login = login
        self._clock = clock
        self._adapter = adapter
        self._threads = threading.local()
        self._described: dict[str, tuple[float, dict[str, Any]]] = {}
        self._seen_time: tuple[datetime, float] | None = None
        self._usage: tuple[int, int] | None = None
        self._usage_at: datetime | None = None
        self._pause = Pause("Salesforce", clock)
        self.calls: Counter[str] = Counter()  # answered, by the function that made them

    # reading

    def query(self, soql: str, include_deleted: bool = False) -> Page:
        """The first page; its size is Salesforce's choice, so only `done` tells the end."""
        return Page.of(self._call("GET", "queryAll/" if include_deleted else "query/", params={"q": soql}, what="querying") or {})

    def query_all(self, soql: str, include_deleted: bool = False) -> list[dict[str, Any]]:
        """The records of all pages, with the further pages of their child lists."""
        return list(self.each(soql, include_deleted))

    def each(self, soql: str, include_deleted: bool = False) -> Iterator[dict[str, Any]]:
        """The same, one after another: no more than a page is in memory."""
        page = self.query(soql, include_deleted)
        while True:
            for record in page.records:
                for child in record.values():
                    while isinstance(child, dict) and child.get("done") is False:
                        more = self._next_page(child.get("nextRecordsUrl"))
                        child["records"] += more.records
                        child["done"], child["nextRecordsUrl"] = more.done, more.next_url
                yield record
            if page.done:
                return
            page = self._next_page(page.next_url)

    def describe(self, sobject: str) -> dict[str, Any]:
        """The object as the integration user sees it, so also a check of its rights; at most an hour old, older while
        calls are saved. Do not change it.

        Raises `Gone` when the object is absent or hidden (Team Selling off, package not installed).
        """
        name = identifier(sobject)
        known = self._described.get(name)
        old = known is not None and self._clock.monotonic() - known[0] > DESCRIBE_SECONDS
        if known is None or (old and not self._saving):
            answer = self._call("GET", f"sobjects/{name}/describe", what=f"describing {name}") or {}
            known = self._described[name] = (self._clock.monotonic(), answer)
        return known[1]

    # writing: never repeated here, except once after a 401

    def update(self, sobject: str, record_id: str, fields: Mapping[str, Any], unmodified_since: datetime | None = None) -> None:
        """Change the given fields of one record; None clears.

        With `unmodified_since` (the LastModifiedDate read, whole seconds) raises `VersionConflict` when it changed since.
        """
        headers = {}
        if unmodified_since is not None:
            headers["If-Unmodified-Since"] = format_datetime(unmodified_since.astimezone(UTC), usegmt=True)
        name = identifier(sobject)
        what = f"updating {name} {record_id}"
        try:
            self._call("PATCH", f"sobjects/{name}/{_record_id(record_id)}", body=_fields(fields), headers=headers, what=what)
        except AlreadyExists as error:
            # A unique value that another record has: for an update that is a refusal, there is nothing to adopt.
            raise Refused(str(error), code="DUPLICATE_VALUE") from error

    def create(self, sobject: str, fields: Mapping[str, Any]) -> str:
        """The id of the new record.

        Raises `AlreadyExists` when a unique key is taken and `DuplicateFound` when a duplicate rule of the org objects.
        """
        name = identifier(sobject)
        answer = self._call("POST", f"sobjects/{name}", body=_fields(fields), what=f"creating {name}")
        if not isinstance(answer, dict) or not answer.get("id"):
            raise TryLater(f"creating {name}: Salesforce answered without an id")
        return str(answer["id"])

    def graph(self, requests: Sequence[GraphRequest]) -> dict[str, str]:
        """Several writes as one: record ids by reference, or the error of the request that broke it and nothing written."""
        version = self._settings.salesforce_api_version
        nodes = []
        for request in requests:
            path = _graph_path(request.path)
            if not _REFERENCE.fullmatch(request.reference):
                raise ValueError(f"not a reference: {request.reference[:80]!r}")
            url = f"/services/data/v{version}/sobjects/{path}"
            nodes.append({"method": request.method, "url": url, "referenceId": request.reference, "body": _fields(request.body)})
        paths = {request.reference: request.path for request in requests}
        if len(paths) != len(requests) or not requests:
            raise ValueError("a graph has at least one request, each with a reference of its own")
        what = f"writing {', '.join(paths)}"
        body = {"graphs": [{"graphId": "graph", "compositeRequest": nodes}]}
        return graph_ids(self._call("POST", "composite/graph", body=body, what=what) or {}, paths, what)

    # the answer itself, for whoever asks what Salesforce answers (`probe.py`)

    def exchange(
        self,
        method: str,
        path: str,
        *,
        what: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        """One call and its answer, a refusal too; `path` follows the API version. Raises `TryLater` for a 429 and a 5xx, which answer nothing."""
        import requests

        self._pause.check(what)
        session = self._login.session()
        self._client(session)
        sent = {
            "Authorization": f"Bearer {session.token}",
            "Content-Type": "application/json",
            "Sforce-Auto-Assign": "FALSE",
            **(headers or {}),
        }
        url = f"{session.instance_url}/services/data/v{self._settings.salesforce_api_version}/{path}"
        content = wire.dumps(body) if body is not None else None
        try:
            answer: requests.Response = self._threads.http.request(
                method, url, params=params, data=content, headers=sent, allow_redirects=False
            )
        except requests.exceptions.RequestException as error:
            raise TryLater(f"{what}: the connection failed or the answer was cut ({type(error).__name__})") from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise TryLater(f"{what}: Salesforce answered HTTP {answer.status_code}", retry_after(answer.headers))
        return answer

    # what the last answer told

    @property
    def server_time(self) -> datetime | None:
        """Salesforce's clock now (whole seconds at best), from the Date of its last answer; None before the first."""
        if self._seen_time is None:
            return None
        date, seen = self._seen_time
        return date + timedelta(seconds=self._clock.monotonic() - seen)

    @property
    def answered_at(self) -> datetime | None:
        """When what this thread last read was so, by Salesforce's own clock, in whole seconds and never too late.

        Date is stamped when an answer leaves; after a slow query that is long after its rows were read.
        """
        at: datetime | None = getattr(self._threads, "answered_at", None)
        return at

    def sign_in(self) -> None:
        """Proves that the login works. Raises what it would raise for a real call."""
        self._login.session()

    @property
    def user_id(self) -> str:
        """The integration user, as the sign-in named it; empty where it did not."""
        return self._login.session().user_id

    @property
    def api_usage(self) -> tuple[int, int] | None:
        """Requests used and allowed in the org's rolling 24 hours, as of the last answer."""
        return self._usage

    @property
    def api_usage_at(self) -> datetime | None:
        """When that answer came, by our clock."""
        return self._usage_at

    def ask_usage(self) -> None:
        """One cheap call, for what its answer says of the usage."""
        self.query("SELECT Id FROM Opportunity LIMIT 1")

    @property
    def _saving(self) -> bool:
        return self._usage is not None and self._usage[0] >= self._usage[1] * SAVING_SHARE

    def _observe(self, response: requests.Response) -> None:
        self.calls[correlation.flow()] += 1
        try:
            date = parsedate_to_datetime(response.headers.get("Date", "")).astimezone(UTC)
            self._seen_time = (date, self._clock.monotonic())
            self._threads.answered_at = date - timedelta(seconds=int(response.elapsed.total_seconds()))
        except ValueError:
            pass
        usage = re.search(r"(?:^|[;, ])api-usage=(\d+)/(\d+)", response.headers.get("Sforce-Limit-Info", ""))
        if usage:
            self._usage, self._usage_at = (int(usage[1]), int(usage[2])), self._clock.now()
        wait = retry_after(response.headers)
        if response.status_code in (429, 503) and wait:
            self._pause.ask(wait)

    # how every call goes

    def _next_page(self, next_url: object) -> Page:
        # Only the path of a known form is used, so that a page cannot send us, and the token, to another host.
        locator = _NEXT.fullmatch(str(next_url))
        if not locator:
            raise TryLater("querying: Salesforce named a next page that is not one of its own")
        return Page.of(self._call("GET", locator[1], what="querying the next page") or {})

    def _call(
        self,
        method: str,
        path: str,
        *,
        what: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        self._pause.check(what)
        session = self._login.session()
        try:
            return self._send(session, method, path, params, body, headers, what)
        except _Expired:
            session = self._login.renew(session.token)
        try:
            return self._send(session, method, path, params, body, headers, what)
        except _Expired:
            raise decode_error(401, None, what) from None

    def _send(
        self, session: Session, method: str, path: str, params: dict[str, str] | None, body: Any, headers: dict[str, str] | None, what: str
    ) -> Any:
        import requests
        from simple_salesforce.exceptions import SalesforceError

        # Auto-assignment would hand new accounts to whoever a rule names; X-PrettyPrint only makes answers longer.
        sent = {"Sforce-Auto-Assign": "FALSE", "X-PrettyPrint": None, **(headers or {})}
        content = wire.dumps(body) if body is not None else None
        # The libraries' own errors carry the URL, and a query's text is in it: they are not chained into ours.
        try:
            return self._client(session).restful(path, params=params, method=method, data=content, headers=sent, allow_redirects=False)
        except SalesforceError as error:
            if error.status == 401:
                raise _Expired from None
            told = decode_error(error.status, error.content, what)
            if isinstance(told, TryLater) and told.certain:
                self._pause.ask(min(told.retry_after or BUSY_SECONDS, SPENT_SECONDS))
            raise told from None
        except requests.exceptions.Timeout as error:
            raise TryLater(f"{what}: no answer within the time limit ({type(error).__name__})") from None
        except (requests.exceptions.RequestException, ValueError, ArithmeticError, RecursionError, TypeError) as error:
            # An answer that is not JSON, which requests and the library report in several ways, numbers and nesting beyond all measure
            # among them.
            raise TryLater(f"{what}: the connection failed or the answer was cut ({type(error).__name__})") from None

    def _client(self, session: Session) -> Library:
        from simple_salesforce.api import Salesforce as Library

        if getattr(self._threads, "session", None) != session:
            if not hasattr(self._threads, "http"):
                self._threads.http = requests_session(self._settings, self._observe, self._adapter)
            # Built anew for every token: the library keeps the address of the instance it started with.
            self._threads.client = Library(
                session_id=session.token,
                instance_url=session.instance_url,
                session=self._threads.http,
                version=self._settings.salesforce_api_version,
                parse_float=Decimal,
                object_pairs_hook=dict,
            )
            self._threads.session = session
        client: Library = self._threads.client
        return client


def _record_id(record_id: str) -> str:
    if not _ID.fullmatch(record_id):
        raise Gone(f"{record_id[:60]!r} is not a Salesforce record id, so there is no such record")
    return record_id


def _graph_path(path: str) -> str:
    name, _, record_id = path.partition("/")
    return f"{identifier(name)}/{_record_id(record_id)}" if record_id else identifier(name)


def _fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {identifier(name): value for name, value in fields.items()}
