"""The REST API: which URL does what to the store (salesforce.md 2 to 5, 8). Composite requests are next door."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, unquote

from simulator.core import Clock
from simulator.salesforce.describe import describe, summarize
from simulator.salesforce.errors import Fault, Refusal, not_found, refusal
from simulator.salesforce.ids import canonical
from simulator.salesforce.org import Org
from simulator.salesforce.query import Bound, Cursor, Reader, attributes, moment, no_such_column, stamp
from simulator.salesforce.records import Actor, Store
from simulator.salesforce.schema import ObjectType, Row

NEWEST, OLDEST, OLDEST_EVER = 68, 31, 21
SEASONS = ("Spring", "Summer", "Winter")  # versions divisible by three came in spring; the winter release is named for the next year
SMALLEST_BATCH, LARGEST_BATCH = 200, 2000
UPDATED_DAYS, DELETED_DAYS = 30, 15
COVERAGE_LAG = timedelta(seconds=60)
MISSPELT_UNTIL = 56
"""Last version in which DUPLICATES_DETECTED was seen with `duplicateResut`."""


@dataclass(frozen=True)
class Call:
    """One request to a resource, whether it came alone or inside a composite."""

    method: str
    path: tuple[str, ...]
    """Decoded segments after the version."""
    version: str
    actor: Actor
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def base(self) -> str:
        return f"/services/data/v{self.version}"

    def record(self) -> dict[str, Any]:
        """The body, which must be one JSON object."""
        if not isinstance(self.body, dict):
            raise refusal("JSON_PARSER_ERROR", "The HTTP entity body is required, but this request has no entity body.", None)
        return self.body

    def allow(self, *methods: str) -> None:
        if self.method not in methods:
            message = f"HTTP Method '{self.method}' not allowed. Allowed are {','.join(methods)}"
            raise refusal("METHOD_NOT_ALLOWED", message, None, 405)


@dataclass(frozen=True)
class Answer:
    """What a resource answers; `body` None is no body at all."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def split_url(url: str) -> tuple[str, tuple[str, ...], dict[str, str]] | None:
    """Version, decoded segments and parameters of a data URL; None if it is none."""
    path, _, query = url.partition("?")
    match = re.fullmatch(r"/services/data/v(\d+\.\d)(/.*)?", path)
    if match is None:
        return None
    segments = [unquote(segment) for segment in (match[2] or "").split("/")[1:]]
    while segments and not segments[-1]:
        segments.pop()
    return match[1], tuple(segments), dict(parse_qsl(query, keep_blank_values=True))


def versions() -> list[dict[str, str]]:
    """GET /services/data: oldest first."""

    def label(number: int) -> str:
        season = SEASONS[number % 3]
        return f"{season} '{number // 3 + (5 if season == 'Winter' else 4)}"

    return [
        {"label": label(number), "url": f"/services/data/v{number}.0", "version": f"{number}.0"} for number in range(OLDEST, NEWEST + 1)
    ]


def check_version(version: str) -> None:
    number, minor = version.split(".")
    if OLDEST_EVER <= int(number) < OLDEST:
        raise refusal("UNSUPPORTED_API_VERSION", f"API version {version} is retired", None, 410)
    if minor != "0" or not OLDEST <= int(number) <= NEWEST:
        raise not_found()


class Resources:
    """Single requests. Raises `Refusal` for everything that is not a success."""

    def __init__(self, store: Store, org: Org, clock: Clock) -> None:
        self._store, self._org, self._clock = store, org, clock
        self._cursors: dict[str, tuple[Cursor, datetime, bool, int]] = {}
        self._numbers = itertools.count(1)
        self._made = clock.now().replace(microsecond=0)

    def forget_cursors(self) -> None:
        """Every query locator expires."""
        self._cursors.clear()

    def answer(self, call: Call) -> Answer:
        match call.path:
            case ():
                call.allow("GET")
                names = ("limits", "query", "queryAll", "sobjects", "composite")
                return Answer(200, {name: f"{call.base}/{name}" for name in names})
            case ("query" | "queryAll" as name,):
                call.allow("GET")
                return self._query(call, deleted=name == "queryAll")
            case ("query" | "queryAll", locator):
                call.allow("GET")
                return self._next_page(call, locator)
            case ("sobjects",):
                call.allow("GET")
                kinds = call.actor.schema.objects.values()
                listed = {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [summarize(kind, call.version) for kind in kinds]}
                return self._unless_modified(call, self._made, Answer(200, listed))
            case ("sobjects", name, *rest):
                return self._object(call, self._store.kind(name, call.actor), rest)
        raise not_found()

    def _object(self, call: Call, kind: ObjectType, rest: list[str]) -> Answer:
        match rest:
            case []:
                call.allow("GET", "HEAD", "POST")
                return self._create(call, kind) if call.method == "POST" else self._basics(call, kind)
            case ["describe"]:
                call.allow("GET", "HEAD")
                return self._unless_modified(call, self._made, Answer(200, describe(kind, call.actor.schema, call.version)))
            case ["updated" | "deleted" as what]:
                call.allow("GET", "HEAD")
                return self._replicated(call, kind, what)
            case ["Id" | "id"] if call.method == "POST":
                return self._create(call, kind)
            case [text] | ["Id" | "id", text]:
                call.allow("GET", "HEAD", "PATCH", "DELETE")
                record_id = canonical(text)
                if record_id is None:
                    # anything else in this place is read as the name of an external id field
                    raise _no_such_key(text)
                return self._record(call, kind, record_id, upsert=len(rest) == 2)
            case [name, value]:
                call.allow("GET", "HEAD", "PATCH", "DELETE")
                return self._by_key(call, kind, name, value)
        raise not_found()

    # records

    def _create(self, call: Call, kind: ObjectType) -> Answer:
        body = call.record()
        if any(name.lower() == "id" for name in body):
            raise refusal("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an insert call", ["Id"])
        return self._created(call, kind, self._store.create(kind.name, body, call.actor))

    def _created(self, call: Call, kind: ObjectType, record_id: str, **extra: Any) -> Answer:
        location = {"Location": f"{call.base}/sobjects/{kind.name}/{record_id}"}
        return Answer(201, {"id": record_id, "success": True, "errors": [], **extra}, location)

    def _record(self, call: Call, kind: ObjectType, record_id: str, upsert: bool = False) -> Answer:
        if call.method == "PATCH":
            body = call.record()
            if any(name.lower() == "id" for name in body):
                raise refusal("INVALID_FIELD", "The Id field should not be specified in the sobject data.", None)
            self._check_condition(call, kind, self._store.existing(kind, record_id))
            self._store.update(kind.name, record_id, body, call.actor)
            if upsert and float(call.version) >= 46:
                return Answer(200, {"id": record_id, "success": True, "errors": [], "created": False})
            return Answer(204)
        if call.method == "DELETE":
            self._store.delete(kind.name, record_id, call.actor)
            return Answer(204)
        row = self._store.live(record_id)
        if row is None or record_id[:3] != kind.prefix:
            raise not_found()
        return self._shown(call, kind, row)

    def _shown(self, call: Call, kind: ObjectType, row: Row) -> Answer:
        names = list(kind.fields)
        if "fields" in call.parameters:
            names = ["Id"]
            for name in call.parameters["fields"].split(","):
                found = kind.field(name.strip())
                if found is None:
                    raise refusal("INVALID_FIELD", no_such_column(name.strip(), f"entity '{kind.name}'"), None)
                names.append(found.name)
        shown = {"attributes": attributes(kind, row["Id"], call.version), **{name: row[name] for name in names}}
        modified = moment(row["LastModifiedDate"])
        tag = {"ETag": etag(row)} if kind.name == "Account" else {}
        return self._unless_modified(call, modified, Answer(200, shown, tag))

    def _by_key(self, call: Call, kind: ObjectType, name: str, value: str) -> Answer:
        key = kind.field(name)
        if key is None or not key.external_id:
            raise _no_such_key(name)
        rows = self._store.with_key(kind.name, key.name, value)
        if len(rows) > 1:
            return Answer(300, [attributes(kind, row["Id"], call.version)["url"] for row in rows])
        if call.method != "PATCH":
            if not rows:
                raise not_found()
            return self._record(call, kind, rows[0]["Id"])
        body = call.record()
        if any(field.lower() in (key.name.lower(), "id") for field in body):
            raise refusal("INVALID_FIELD", f"The {key.name} field should not be specified in the sobject data.", None)
        if rows:
            return self._record(call, kind, rows[0]["Id"], upsert=True)
        if call.parameters.get("updateOnly", "").lower() == "true":
            raise not_found()
        record_id = self._store.create(kind.name, {**body, key.name: value}, call.actor)
        return self._created(call, kind, record_id, **({"created": True} if float(call.version) >= 46 else {}))

    def _check_condition(self, call: Call, kind: ObjectType, row: Row) -> None:
        """If-Unmodified-Since, to the second; If-Match on Account alone. The body of a 412 is undocumented, so there is none."""
        since = call.headers.get("if-unmodified-since")
        if since is not None and moment(row["LastModifiedDate"]) > _http_date(since):
            raise Refusal(412, [])
        wanted = call.headers.get("if-match")
        if wanted is not None and kind.name == "Account" and wanted not in ("*", etag(row)):
            raise Refusal(412, [])

    def _unless_modified(self, call: Call, modified: datetime, answer: Answer) -> Answer:
        headers = {**answer.headers, "Last-Modified": format_datetime(modified, usegmt=True)}
        since = call.headers.get("if-modified-since")
        if since is not None and modified <= _http_date(since):
            return Answer(304, None, headers)
        return replace(answer, headers=headers)

    def _basics(self, call: Call, kind: ObjectType) -> Answer:
        return Answer(200, {"objectDescribe": summarize(kind, call.version), "recentItems": []})

    def _replicated(self, call: Call, kind: ObjectType, what: str) -> Answer:
        """Ids updated or deleted in a window. Seconds are cut off, and the last minute is not covered yet."""
        if not all(text in kind.fields for text in ("SystemModstamp", "IsDeleted")):
            raise not_found()
        start, end = (_minute(call.parameters.get(name)) for name in ("start", "end"))
        now = self._clock.now()
        if start >= end or start < now - timedelta(days=UPDATED_DAYS if what == "updated" else DELETED_DAYS):
            raise refusal("INVALID_REPLICATION_DATE", "startDate before org replication enabled date or not before endDate", None)
        low, high = stamp(start), stamp(end)
        deleted = what == "deleted"
        rows = [row for row in self._store.rows(kind.name, deleted=True) if row["IsDeleted"] == deleted]
        rows = [row for row in rows if low <= row["SystemModstamp"] < high]
        limits = [end, _cut(now - COVERAGE_LAG)]
        uncommitted = self._store.oldest_uncommitted()
        covered = stamp(min([*limits, _cut(moment(uncommitted))] if uncommitted else limits))
        if not deleted:
            return Answer(200, {"ids": [row["Id"] for row in rows], "latestDateCovered": covered})
        listed = [{"deletedDate": row["SystemModstamp"], "id": row["Id"]} for row in rows]
        earliest = stamp(_cut(now - timedelta(days=DELETED_DAYS)))
        return Answer(200, {"deletedRecords": listed, "earliestDateAvailable": earliest, "latestDateCovered": covered})

    # queries

    def _query(self, call: Call, deleted: bool) -> Answer:
        if "q" not in call.parameters:
            raise refusal("MALFORMED_QUERY", "SOQL statements cannot be empty or null", None)
        cursor = Reader(self._store, call.actor.schema, deleted).run(call.parameters["q"])
        size = self._org.page_size
        wish = re.search(r"batchSize=(\d+)", call.headers.get("sforce-query-options", ""), re.IGNORECASE)
        if wish:
            size = min(size, max(SMALLEST_BATCH, min(int(wish[1]), LARGEST_BATCH)))
        return Answer(200, self._page(call, cursor, 0, size, deleted))

    def _page(self, call: Call, cursor: Cursor, offset: int, size: int, deleted: bool, locator: str | None = None) -> dict[str, Any]:
        """Rows of the snapshot as they are now; what was deleted since is left out."""
        bound = cursor.bound
        if bound.query.counts or cursor.records is not None:
            return {"totalSize": cursor.total, "done": True, "records": cursor.records or []}
        reader = Reader(self._store, call.actor.schema, deleted)

        def children(inner: Bound, rows: list[Row]) -> dict[str, Any]:
            return self._page(call, Cursor(inner, rows), 0, size, deleted)

        cut = cursor.rows[offset : offset + size] if cursor.rows else []
        current = [self._store.find(row["Id"]) for row in cut]
        kept = [row for row in current if row is not None and (deleted or not row.get("IsDeleted"))]
        answer: dict[str, Any] = {"totalSize": cursor.total, "done": offset + size >= cursor.total}
        if not answer["done"]:
            if locator is None:
                locator = canonical(f"0r8Ws{next(self._numbers):010d}")
                self._cursors[str(locator)] = (cursor, self._clock.now(), deleted, size)
            answer["nextRecordsUrl"] = f"{call.base}/query/{locator}-{offset + size}"
        answer["records"] = [reader.record(bound.kind, row, bound.shape, children, call.version) for row in kept]
        return answer

    def _next_page(self, call: Call, text: str) -> Answer:
        locator, _, offset = text.rpartition("-")
        cursor, made, deleted, size = self._cursors.get(locator, (None, None, False, 0))
        alive = made is not None and self._clock.now() - made <= timedelta(seconds=self._org.locator_seconds)
        if cursor is None or not alive or not re.fullmatch(r"[0-9]{1,9}", offset) or int(offset) > cursor.total:
            raise refusal("INVALID_QUERY_LOCATOR", "invalid query locator", None)
        return Answer(200, self._page(call, cursor, int(offset), size, deleted, locator))


def etag(row: Row) -> str:
    """Of an Account."""
    return f'"{sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:32]}"'


def error_body(refused: Refusal, version: str | None = None) -> Any:
    """The array that answers a refused request; None where there is no body."""
    entries = [fault.entry() for fault in refused.faults]
    if version and float(version) > MISSPELT_UNTIL:
        entries = [{("duplicateResult" if key == "duplicateResut" else key): value for key, value in entry.items()} for entry in entries]
    return entries or None


def _no_such_key(name: str) -> Refusal:
    return not_found(f"Provided external ID field does not exist or is not accessible: {name}")


def _http_date(text: str) -> datetime:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        raise Refusal(400, [Fault("INVALID_HEADER", f"not an HTTP date: {text}", None)]) from None


def _cut(when: datetime) -> datetime:
    return when.replace(second=0, microsecond=0)


def _minute(text: str | None) -> datetime:
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise refusal("INVALID_REPLICATION_DATE", f"not a date with a zone: {text}", None)
    return _cut(parsed.astimezone(UTC))
