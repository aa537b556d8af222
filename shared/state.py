"""What the connector remembers between runs: pairs and aliases, owed work, history, and the cursors of the polls.

Times are ISO texts in UTC with milliseconds, so that they sort as text. Rows are described in `docs/protocol.md`, section 2.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import uuid
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from shared.clock import Clock
from shared.codecs import Value
from shared.correlation import trace_id, trace_parent
from shared.mapping_file import Side
from shared.planning import Announced, Announcement, Known
from shared.tables import Row, RowChanged, RowExists, Stored, Tables
from shared.undoing import Wish

NEVER = "9999-12-31T00:00:00.000Z"  # due of a row that waits for a person
HELD = "9999-06-30T00:00:00.000Z"  # due of a row that waits until an operator releases the brake
_COLUMN = 30_000  # characters of one text column; Table Storage holds 32,768 UTF-16 units
_BUCKETS = 64
_LATENCIES = 64


def stamp(time: datetime) -> str:
    """A time as the text the tables keep."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Owed:
    """Work to do for one record name. It is the truth; a queue message only wakes somebody who looks."""

    name: str
    due: str
    etag: str
    attempts: int = 0
    reason: str = ""
    parked: str = ""
    refused: str = ""
    microsoft_id: str = ""  # Microsoft's record of the deal changed
    held: tuple[Side, ...] = ()  # directions in which the brake keeps this deal's changes back
    released: tuple[Side, ...] = ()  # directions in which an operator lets them go, whatever else is counted
    trace: str = ""  # of whoever marked it last


@dataclass(frozen=True)
class Create:
    """A create under way: which record, since when, and what was put into its body."""

    step: str  # "referral", "microsoft", "opportunity" or "lead"
    attempt: int
    request_id: str
    sent: Dict[str, Value]
    deadline: str
    first_claim: str
    earlier: tuple[Dict[str, Value], ...] = ()  # what earlier attempts put in: any of them may be the one that landed

    def landed(self, values: Dict[str, Value]) -> dict[str, Value]:
        """What the attempt that landed had put in, judged by what the record holds; an edit since then shows the latest."""
        attempts = [self.sent, *self.earlier]
        return {
            name: next((one[name] for one in attempts if name in one and one[name] == values.get(name)), sent)
            for name, sent in (self.earlier[0] if self.earlier else self.sent).items()
        }


@dataclass(frozen=True)
class Pair:
    """One deal. `name` is the record it began with; `known` is the memory of the merge."""

    name: str
    etag: str = ""
    referral_id: str = ""
    engagement_id: str = ""
    opportunity_id: str = ""
    microsoft_id: str = ""
    lead_id: str = ""  # the Salesforce lead this deal still is; emptied once an opportunity took its place
    help_code: str = ""
    known: Known = field(default_factory=Known)
    create: Create | None = None
    next_step: str = ""  # the create that must follow this one
    lease_until: str = ""
    holder: str = ""
    checked_at: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class Alias:
    """The other record of a deal; everything about it stands in the pair's row."""

    name: str
    pair: str


class State:
    """The four tables, in the connector's words. Compare-and-set failures surface as `RowChanged`."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self.tables = tables
        self._clock = clock

    # -- owed work ---------------------------------------------------------------------------------------------------------------------

    def mark(self, name: str, microsoft_id: str = "") -> None:
        """Marks a record as owed, now. Marking twice is marking once; what is parked stays parked until somebody looks.

        `microsoft_id` says that Microsoft's record of the deal is to be read as well.
        """
        told = {"microsoft_id": microsoft_id, "trace": trace_parent()}
        row = {"due": stamp(self._clock.now())} | {column: value for column, value in told.items() if value}
        self.tables.merge("owed", _bucket(name), name, row)

    def mark_many(self, names: Iterable[str]) -> None:
        """Marks many records, a hundred in one call."""
        row = {"due": stamp(self._clock.now())} | ({"trace": trace_parent()} if trace_parent() else {})
        buckets: dict[str, list[tuple[str, Row]]] = {}
        for name in names:
            buckets.setdefault(_bucket(name), []).append((name, row))
        for bucket, rows in buckets.items():
            self.tables.merge_many("owed", bucket, rows)

    def owed(self, name: str) -> Owed | None:
        stored = self.tables.get("owed", _bucket(name), name)
        return _owed(stored) if stored else None

    def clear(self, owed: Owed) -> bool:
        """Clears the row unless it was marked again since it was read [N3, N4]. False: it was, and runs again."""
        try:
            self.tables.delete("owed", _bucket(owed.name), owed.name, owed.etag)
        except RowChanged:
            return False
        return True

    def postpone(self, owed: Owed, due: datetime, reason: str, attempts: int) -> bool:
        """Sets the row due later unless it was marked again."""
        return self._rewrite(replace(owed, due=stamp(due), reason=reason, attempts=attempts, parked="", refused="", held=()))

    def park(self, owed: Owed, reason: str, refused: str, sides: Iterable[Side] = ()) -> bool:
        """Puts the row aside until the record's mapped content (`refused` is its hash) or an operator changes something.

        `sides` are those for which something of the deal waits for the brake besides.
        """
        held = tuple(sorted(set(sides)))
        due = HELD if held else NEVER
        return self._rewrite(replace(owed, due=due, reason=reason, parked=reason, refused=refused, held=held, released=()))

    def hold(self, owed: Owed, reason: str, sides: Iterable[Side]) -> bool:
        """Puts the row aside until the brake is released for one of these sides, or the deal is marked again."""
        return self._rewrite(replace(owed, due=HELD, reason=reason, attempts=0, held=tuple(sorted(set(sides))), released=()))

    def owe_held(self, name: str, reason: str, sides: Iterable[Side]) -> None:
        """Owes a name that waits for the brake from the start. What is owed already is left as it is: it will be looked at."""
        with contextlib.suppress(RowExists):
            row = {"due": HELD, "held": ",".join(sorted(set(sides)))} | _packed({"reason": reason})
            self.tables.insert("owed", _bucket(name), name, row)

    def release(self, side: Side, passes: Iterable[Side]) -> int:
        """Makes every deal that is held in a direction due, and lets what it writes in `passes` go. The number of deals."""
        now, passes, found = stamp(self._clock.now()), set(passes), 0
        rows: dict[str, list[tuple[str, Row]]] = {}
        for stored in self.tables.list("owed", before=("due", HELD)):
            owed = _owed(stored)
            if side in owed.held:
                rest = [one for one in owed.held if one != side]
                row = {"due": now, "held": ",".join(rest), "released": ",".join(sorted({*owed.released, *passes} - {*rest}))}
                rows.setdefault(stored.partition, []).append((owed.name, row))
                found += 1
        for partition, changed in rows.items():
            self.tables.merge_many("owed", partition, changed)
        return found

    def unpark(self, name: str) -> bool:
        """An operator's retry: forgets why the record was parked and makes it due. False where nothing is parked."""
        owed = self.owed(name)
        if owed is None or not owed.parked:
            return False
        return self._rewrite(replace(owed, due=stamp(self._clock.now()), parked="", refused="", attempts=0))

    def _rewrite(self, owed: Owed) -> bool:
        plain = {"due": owed.due, "attempts": owed.attempts, "refused": owed.refused, "microsoft_id": owed.microsoft_id}
        plain |= {"held": ",".join(owed.held), "released": ",".join(owed.released), "trace": owed.trace}
        row = _packed({"reason": owed.reason, "parked": owed.parked}) | plain
        try:
            self.tables.replace("owed", _bucket(owed.name), owed.name, row, owed.etag)
        except RowChanged:
            return False
        return True

    def due(self) -> Iterator[Owed]:
        """Every owed row whose time has come."""
        return (_owed(stored) for stored in self.tables.list("owed", before=("due", stamp(self._clock.now()))))

    def all_owed(self) -> Iterator[Owed]:
        return (_owed(stored) for stored in self.tables.list("owed"))

    # -- pairs and aliases -------------------------------------------------------------------------------------------------------------

    def link(self, name: str) -> Pair | Alias | None:
        stored = self.tables.get("links", name, "link")
        if stored is None:
            return None
        return _link(stored)

    def pair(self, name: str) -> Pair | None:
        """The pair a name belongs to, following an alias once."""
        found = self.link(name)
        if isinstance(found, Alias):
            found = self.link(found.pair)
        return found if isinstance(found, Pair) else None

    def start_pair(self, pair: Pair) -> Pair:
        """Inserts a new pair. Raises `RowExists` where the name already stands for something."""
        return replace(pair, etag=self.tables.insert("links", pair.name, "link", _pair_row(pair)))

    def save(self, pair: Pair) -> Pair:
        """The compare-and-set every run ends in [N5, N12]. Raises `RowChanged` when somebody else was quicker."""
        return replace(pair, etag=self.tables.replace("links", pair.name, "link", _pair_row(pair), pair.etag))

    def alias(self, name: str, pair: str) -> None:
        """Makes sure that the other record's name leads to the pair. A name that already stands for something keeps its meaning."""
        if name == pair:
            return
        with contextlib.suppress(RowExists):
            self.tables.insert("links", name, "link", {"kind": "alias", "pair": pair})

    def links(self) -> Iterator[Pair | Alias]:
        """Every link, for the full sweep; never on the path of a deal."""
        return (_link(stored) for stored in self.tables.list("links"))

    # -- history -----------------------------------------------------------------------------------------------------------------------

    def record(self, pair: str, kind: str, text: str, details: Any = None) -> None:
        """Appends what is about to happen (or was decided) to the pair's history, newest first."""
        now = self._clock.now()
        newest_first = f"{_newest_first(now)}-{uuid.uuid4().hex[:8]}"
        row = {"at": stamp(now), "kind": kind, "trace": trace_id()} | _packed(
            {"text": text, "details": _json(details) if details is not None else ""}
        )
        self.tables.insert("history", pair, newest_first, row)

    def history(self, pair: str) -> Iterator[dict[str, Any]]:
        """The pair's history, newest first: `{at, kind, text, trace, details}`."""
        return (_entry(stored.row) for stored in self.tables.list("history", pair))

    def history_of_all(self, since: datetime, until: datetime) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Each name with its history of a period, newest first; never on the path of a deal."""
        rows = self.tables.list("history", keys=(_newest_first(until), f"{_newest_first(since)}~"))
        for name, found in itertools.groupby(rows, key=lambda stored: stored.partition):
            yield name, [_entry(stored.row) for stored in found]

    def history_keys(self, until: datetime, after: str = "") -> Iterator[tuple[str, str]]:
        """Name and key of every entry up to a time, of the names that sort after `after`; values are not read."""
        rows = self.tables.list("history", keys=(_newest_first(until), "~"), after=after, columns=())
        return ((stored.partition, stored.key) for stored in rows)

    def forget_history(self, name: str, keys: Sequence[str]) -> None:
        self.tables.delete_many("history", name, keys)

    # -- whatever is stored ------------------------------------------------------------------------------------------------------------

    def texts(self, table: str) -> Iterator[tuple[Stored, dict[str, str]]]:
        """Every row of a table with its texts, each in one piece; for an erasure, never on the path of a deal."""
        return ((stored, _texts(stored.row)) for stored in self.tables.list(table))

    def texts_again(self, table: str, stored: Stored) -> tuple[Stored, dict[str, str]] | None:
        """The same of one row as it is now; None where it is gone."""
        again = self.tables.get(table, stored.partition, stored.key)
        return (again, _texts(again.row)) if again else None

    def rewrite(self, table: str, stored: Stored, texts: Dict[str, str]) -> None:
        """Puts other texts into a row. Raises `RowChanged` when it changed since it was read."""
        rest = {name: value for name, value in stored.row.items() if not isinstance(value, str)}
        self.tables.replace(table, stored.partition, stored.key, rest | _packed(texts), stored.etag)

    # -- cursors -----------------------------------------------------------------------------------------------------------------------

    def cursor(self, poll: str) -> str:
        """Up to where a poll has marked everything; empty before its first run."""
        stored = self.tables.get("cursors", poll, "cursor")
        return str(stored.row.get("at", "")) if stored else ""

    def move_cursor(self, poll: str, at: str) -> None:
        """Only after every row before `at` was marked [N33]. A cursor set back merely repeats marks."""
        self.tables.merge("cursors", poll, "cursor", {"at": at})

    def succeeded(self, flow: str, details: Dict[str, Any] | None = None, at: str = "") -> None:
        """Remembers when a flow last ended well (now, unless told otherwise), for `status`."""
        self.tables.merge("cursors", "flows", flow, {"at": at or stamp(self._clock.now()), "details": json.dumps(details or {})})

    def flows(self) -> dict[str, dict[str, Any]]:
        return {
            one.key: {"at": one.row.get("at", ""), **json.loads(one.row.get("details") or "{}")}
            for one in self.tables.list("cursors", "flows")
        }

    def flow(self, flow: str) -> dict[str, Any]:
        """When one flow last ended well and what it found; empty if it never did."""
        stored = self.tables.get("cursors", "flows", flow)
        return {"at": stored.row.get("at", ""), **json.loads(stored.row.get("details") or "{}")} if stored else {}

    def failing(self, vendor: Side) -> None:
        """A poll of the vendor failed: remembers since when, until one ends well."""
        if not self.failing_since(vendor):
            self.tables.merge("cursors", "failing", vendor, {"since": stamp(self._clock.now())})

    def answering(self, vendor: Side) -> None:
        if self.failing_since(vendor):
            self.tables.merge("cursors", "failing", vendor, {"since": ""})

    def failing_since(self, vendor: Side) -> str:
        """Since when every poll of the vendor failed; empty where the last one ended well."""
        stored = self.tables.get("cursors", "failing", vendor)
        return str(stored.row.get("since") or "") if stored else ""

    def took(self, owed: float, edited: float | None = None) -> None:
        """Remembers how long a change was owed before it was written, and how long ago it was made, among the last few."""
        slot = f"{random.randrange(_LATENCIES):02d}"  # noqa: S311 - which sample is dropped guards nothing
        row = {"seconds": round(max(owed, 0.0), 3)} | ({"edited": round(max(edited, 0.0), 3)} if edited is not None else {})
        self.tables.merge("cursors", "latencies", slot, {**row, "at": stamp(self._clock.now())})

    def latencies(self) -> list[Row]:
        """Recent writes: `at`, `seconds` since the mark, and, where known, since the edit itself (`edited`)."""
        return [one.row for one in self.tables.list("cursors", "latencies")]

    def keep_calls(self, day: str, process: str, calls: Dict[str, int]) -> None:
        """A process' calls of a day, `{vendor_function: count}`; each process has a row of its own."""
        self.tables.merge("cursors", f"calls-{day}", process, dict(calls))

    def calls_kept(self, day: str) -> Iterator[Row]:
        return (one.row for one in self.tables.list("cursors", f"calls-{day}"))

    def seen(self, poll: str) -> dict[str, str]:
        """The rows of a poll's window that were marked already: record id -> stamp and content hash."""
        return {stored.key: str(stored.row.get("content", "")) for stored in self.tables.list("cursors", f"{poll}-seen")}

    def remember_seen(self, poll: str, rows: Sequence[tuple[str, str]]) -> None:
        self.tables.merge_many("cursors", f"{poll}-seen", [(key, {"content": content}) for key, content in rows])

    def forget_seen(self, poll: str, keys: Iterable[str]) -> None:
        self.tables.delete_many("cursors", f"{poll}-seen", list(keys))


_PLAIN = (
    "referral_id",
    "engagement_id",
    "opportunity_id",
    "microsoft_id",
    "lead_id",
    "help_code",
    "next_step",
    "lease_until",
    "holder",
    "checked_at",
)  # columns of a pair that are texts as they are


# -- rows ------------------------------------------------------------------------------------------------------------------------------


def _bucket(name: str) -> str:
    return f"{int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % _BUCKETS:02d}"


def _json(value: Any) -> str:
    """JSON with its letters as they are: escaped, a long note in many a language would outgrow the row."""
    return json.dumps(value, ensure_ascii=False, default=dict)


def _packed(texts: Dict[str, str]) -> Row:
    """Texts as columns; a long one goes on in `name_1`, `name_2` …"""
    row: Row = {}
    for name, text in texts.items():
        pieces = [text[start : start + _COLUMN // 2] for start in range(0, len(text), _COLUMN // 2)] or [""]
        for number, piece in enumerate(pieces):
            row[name if number == 0 else f"{name}_{number}"] = piece
    return row


def _unpacked(row: Row, name: str) -> str:
    text, number = str(row.get(name) or ""), 1
    while f"{name}_{number}" in row:
        text += str(row[f"{name}_{number}"])
        number += 1
    return text


def _texts(row: Row) -> dict[str, str]:
    pieces = {name for name in row if "_" in name and name.rpartition("_")[2].isdigit() and name.rpartition("_")[0] in row}
    return {name: _unpacked(row, name) for name, value in row.items() if isinstance(value, str) and name not in pieces}


def _newest_first(at: datetime) -> str:
    """A key by which later times sort first."""
    return f"{10**17 - int(at.timestamp() * 1_000_000):017d}"


def _entry(row: Row) -> dict[str, Any]:
    details = _unpacked(row, "details")
    return {
        "at": row.get("at", ""),
        "kind": row.get("kind", ""),
        "text": _unpacked(row, "text"),
        "trace": row.get("trace", ""),
        "details": json.loads(details) if details else None,
    }


def _owed(stored: Stored) -> Owed:
    row = stored.row
    return Owed(
        stored.key,
        str(row.get("due", "")),
        stored.etag,
        int(row.get("attempts", 0)),
        _unpacked(row, "reason"),
        _unpacked(row, "parked"),
        str(row.get("refused", "")),
        str(row.get("microsoft_id", "")),
        _sides(row.get("held")),
        _sides(row.get("released")),
        str(row.get("trace", "")),
    )


def _sides(text: Any) -> tuple[Side, ...]:
    sides: tuple[Side, ...] = ("partner_center", "salesforce")
    return tuple(side for side in sides if side in str(text or "").split(","))


def _pair_row(pair: Pair) -> Row:
    announced = {
        side: {
            "version": one.version,
            "token": one.token,
            "fields": {name: vars(value) for name, value in one.fields.items()},
            "body": one.body,
        }
        for side, one in pair.known.announced.items()
    }
    texts = {
        "memory": _json(dict(pair.known.memory)),
        "announced": _json(announced) if announced else "",
        "create": _json(vars(pair.create)) if pair.create else "",
        "unsure": _json(sorted(pair.known.unsure)) if pair.known.unsure else "",
        "wishes": _json({name: vars(wish) for name, wish in pair.known.wishes.items()}) if pair.known.wishes else "",
        "outcome": pair.outcome,
    }
    plain = {name: getattr(pair, name) for name in _PLAIN}
    return {"kind": "pair"} | plain | _packed(texts)


def _link(stored: Stored) -> Pair | Alias:
    row = stored.row
    if row.get("kind") == "alias":
        return Alias(stored.partition, str(row["pair"]))
    announced: dict[Side, Announcement] = {
        side: Announcement(
            one["version"],
            one["token"],
            {name: Announced(**value) for name, value in one["fields"].items()},
            one["body"],
        )
        for side, one in json.loads(_unpacked(row, "announced") or "{}").items()
    }
    create = json.loads(_unpacked(row, "create") or "null")
    known = Known(
        json.loads(_unpacked(row, "memory") or "{}"),
        announced,
        frozenset(json.loads(_unpacked(row, "unsure") or "[]")),
        {name: Wish(**wish) for name, wish in json.loads(_unpacked(row, "wishes") or "{}").items()},
    )
    plain = {name: str(row.get(name) or "") for name in _PLAIN}
    return Pair(
        name=stored.partition,
        etag=stored.etag,
        known=known,
        create=Create(**{**create, "earlier": tuple(create.get("earlier", ()))}) if create else None,
        outcome=_unpacked(row, "outcome"),
        **plain,
    )
