"""The org's rows: validated writes, stamps, the recycle bin, and transactions that leave nothing behind when they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from simulator.core import Clock
from simulator.salesforce import values
from simulator.salesforce.derived import derive
from simulator.salesforce.errors import Fault, Refusal, not_found, refusal
from simulator.salesforce.ids import make_id
from simulator.salesforce.org import DuplicateRule, Org, ValidationRule
from simulator.salesforce.query import Reader, attributes, no_such_column, stamp
from simulator.salesforce.schema import Field, ObjectType, Row, Schema
from simulator.salesforce.standard import FIELD_HISTORY

Answer = TypeVar("Answer")
DEEPEST_TRIGGER = 16
LONGEST_TRACKED = 255  # of a longer text the field history says that it changed, not what it was


@dataclass(frozen=True)
class Actor:
    """Who writes: the user, the schema that user sees, and whether duplicate alerts are waved through. `system` may write anything."""

    user_id: str
    schema: Schema
    allow_duplicates: bool = False
    system: bool = False


@dataclass
class Write:
    """What a trigger is told. Before the save it may change `new`; after it, it may call the store again."""

    object: str
    record_id: str
    old: Row | None
    new: Row | None
    actor: Actor


@dataclass(frozen=True)
class _Pending:
    """Rows of a long transaction: stamped, not committed before `due`, locked until then."""

    due: datetime
    rows: Mapping[tuple[str, str], Row]


class Store:
    """Rows are replaced, never changed in place, so that a reader's row stays what it was."""

    def __init__(self, org: Org, schema: Schema, clock: Clock, rules: Iterable[ValidationRule] = ()) -> None:
        self.schema, self._org, self._clock = schema, org, clock
        self.before: list[Callable[[Write], None]] = []
        self.after: list[Callable[[Write], None]] = []
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in schema.objects}
        self._keys: dict[tuple[str, str], dict[Any, set[str]]] = {}
        for kind in schema.objects.values():
            self._keys |= {(kind.name, field.name): {} for field in kind.fields.values() if field.indexed}
        self._deleted_with: dict[str, str] = {}
        self._journal: list[tuple[str, str, Row | None]] = []
        self._depth = self._triggers_running = 0
        self._pending: list[_Pending] = []
        self._locks: dict[str, datetime] = {}
        self._number = 100_000
        reader = Reader(self, schema)
        self._rules = [
            (rule, reader.test(schema.objects[rule.object], rule.condition) if isinstance(rule.condition, str) else rule.condition)
            for rule in rules
        ]

    # reading

    def now(self) -> datetime:
        return self._clock.now()

    def stamp(self) -> str:
        """This instant as records are stamped: whole seconds."""
        return stamp(self.now().replace(microsecond=0))

    def rows(self, name: str, deleted: bool = False) -> list[Row]:
        """Committed rows, oldest first; with those in the recycle bin if asked."""
        return [row for row in self._rows[name].values() if deleted or not row.get("IsDeleted")]

    def find(self, record_id: str) -> Row | None:
        """The row with this 18-character id, deleted or not."""
        kind = self.schema.of_id(record_id)
        return self._rows[kind.name].get(record_id) if kind else None

    def live(self, record_id: str) -> Row | None:
        row = self.find(record_id)
        return None if row is None or row.get("IsDeleted") else row

    def with_key(self, name: str, column: str, value: Any, deleted: bool = False) -> list[Row]:
        """Rows whose indexed field equals `value`, in the field's own sense of equal."""
        field = self.schema.objects[name].fields[column]
        rows = [self._rows[name][key] for key in sorted(self._keys[name, column].get(field.normal(value), ()))]
        return [row for row in rows if deleted or not row.get("IsDeleted")]

    # transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing. May be nested."""
        mark = len(self._journal)
        self._depth += 1
        try:
            yield
        except BaseException:
            self._roll_back(mark)
            raise
        finally:
            self._depth -= 1
            if not self._depth:
                self._journal.clear()

    def _roll_back(self, mark: int) -> None:
        while len(self._journal) > mark:
            name, record_id, row = self._journal.pop()
            self._place(name, record_id, row)

    def committed_later(self, seconds: float, action: Callable[[], Answer]) -> Answer:
        """Do `action` in a transaction that commits `seconds` from now: stamped now, seen then, its rows locked meanwhile."""
        self._depth += 1
        try:
            answer = action()
            touched = {(name, record_id): self._rows[name][record_id] for name, record_id, _ in self._journal}
        finally:
            self._roll_back(0)
            self._depth -= 1
        self._pending.append(_Pending(self.now() + timedelta(seconds=seconds), touched))
        return answer

    def settle(self) -> None:
        """Commit what is due. Called before every request."""
        now = self.now()
        for pending in [pending for pending in self._pending if pending.due <= now]:
            self._pending.remove(pending)
            for (name, record_id), row in pending.rows.items():
                self._place(name, record_id, row)

    def oldest_uncommitted(self) -> str | None:
        """The lowest stamp that may still appear."""
        stamped = (row.get("SystemModstamp") for pending in self._pending for row in pending.rows.values())
        return min((one for one in stamped if one), default=None)

    def next_id(self, prefix: str) -> str:
        """The id the next created row gets."""
        return make_id(prefix, self._number)

    def lock(self, record_id: str, seconds: float) -> None:
        """Somebody holds the row: writes to it fail with UNABLE_TO_LOCK_ROW."""
        self._locks[record_id] = self.now() + timedelta(seconds=seconds)

    def _check_lock(self, record_id: str) -> None:
        held = any((name, key) for pending in self._pending for name, key in pending.rows if key == record_id)
        if held or self._locks.get(record_id, self.now()) > self.now():
            message = f"unable to obtain exclusive access to this record or 1 records: {record_id}"
            raise refusal("UNABLE_TO_LOCK_ROW", message, status=self._org.lock_status)

    def _put(self, name: str, row: Row) -> None:
        self._journal.append((name, row["Id"], self._rows[name].get(row["Id"])))
        self._place(name, row["Id"], row)

    def _place(self, name: str, record_id: str, row: Row | None) -> None:
        old = self._rows[name].pop(record_id, None) if row is None else self._rows[name].get(record_id)
        if row is not None:
            self._rows[name][record_id] = row
        for (owner, column), index in self._keys.items():
            if owner != name:
                continue
            normal = self.schema.objects[name].fields[column].normal
            if old is not None:
                index.get(normal(old[column]), set()).discard(record_id)
            if row is not None and row[column] is not None:
                index.setdefault(normal(row[column]), set()).add(record_id)

    # writing

    def create(self, name: str, body: Mapping[str, Any], actor: Actor) -> str:
        """Insert a row; answers its id. Raises `Refusal` with every fault found."""
        kind = self.kind(name, actor)
        if not (kind.createable or actor.system):
            raise refusal("INVALID_TYPE_FOR_OPERATION", f"entity type {kind.name} does not support create", None)
        faults: list[Fault] = []
        sent = self._read(kind, body, actor, faults, creating=True)
        same = self._same_member(kind, sent)
        if same:
            self.update(name, same, {key: value for key, value in sent.items() if kind.fields[key].updateable}, actor)
            return same
        full = self.schema.objects[kind.name]
        new = {field.name: field.default for field in full.fields.values()}
        new |= {field.name: False for field in full.fields.values() if field.type == "boolean" and field.default is None}
        new |= {"Id": self.next_id(kind.prefix), "CreatedDate": self.stamp(), "CreatedById": actor.user_id}
        self._number += 1
        if "OwnerId" in new:
            new["OwnerId"] = actor.user_id
        if full.fields.get("Name") and full.fields["Name"].auto_number:
            new["Name"] = f"{self.now():%m%d%y}-{len(self._rows[kind.name]) + 1}"
        return self._save(full, None, new | sent, set(sent), actor, faults)

    def update(self, name: str, record_id: str, body: Mapping[str, Any], actor: Actor) -> None:
        """Change a row. Even a body that changes nothing is a save and moves the stamps."""
        kind = self.kind(name, actor)
        old = self.existing(kind, record_id)
        if not (kind.updateable or actor.system):
            raise refusal("INVALID_TYPE_FOR_OPERATION", f"entity type {kind.name} does not support update", None)
        if old.get("IsConverted") and not actor.system:
            raise refusal("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", [])
        faults: list[Fault] = []
        sent = self._read(kind, body, actor, faults, creating=False)
        self._save(self.schema.objects[kind.name], old, old | sent, set(sent), actor, faults)

    def delete(self, name: str, record_id: str, actor: Actor) -> None:
        """Into the recycle bin, with everything that cannot live without it."""
        kind = self.kind(name, actor)
        row = self.existing(kind, record_id)
        if not kind.deletable:
            raise refusal("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id", [])
        with self.transaction():
            self._bury(kind, row, record_id, actor)
            self._fire(self.after, Write(kind.name, record_id, row, None, actor))

    def undelete(self, name: str, record_id: str, actor: Actor) -> None:
        """Out of the recycle bin, with what went in beside it."""
        with self.transaction():
            for kind in self.schema.objects.values():
                for row in [row for row in self._rows[kind.name].values() if row.get("IsDeleted") and kind.recycled]:
                    if row["Id"] == record_id or self._deleted_with.get(row["Id"]) == record_id:
                        back = self._stamped({**row, "IsDeleted": False}, actor)
                        self._refuse_if(self._unique(kind, back))
                        self._put(kind.name, back)

    def touch(self, record_id: str) -> None:
        """A change made by the system: SystemModstamp moves, LastModifiedDate does not."""
        kind = self.schema.of_id(record_id)
        row = self.live(record_id)
        if kind and row:
            with self.transaction():
                self._put(kind.name, {**row, "SystemModstamp": self.stamp()})

    def kind(self, name: str, actor: Actor) -> ObjectType:
        found = actor.schema.object(name)
        if found is None:
            raise not_found()
        return found

    def existing(self, kind: ObjectType, record_id: str) -> Row:
        """The live row to write to, or the refusal that says how it is gone."""
        row = self._rows[kind.name].get(record_id)
        if row is None or (row.get("IsDeleted") and not kind.recycled):
            raise refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [], 404)
        if row.get("IsDeleted"):
            raise refusal("ENTITY_IS_DELETED", "entity is deleted", [], 404)
        return row

    def _read(self, kind: ObjectType, body: Mapping[str, Any], actor: Actor, faults: list[Fault], *, creating: bool) -> Row:
        sent: Row = {}
        refused = []
        for name, value in body.items():
            if name == "attributes":
                continue
            field = kind.field(name)
            if field is None:
                reference = kind.parent(name) if isinstance(value, Mapping) else None
                if reference is None:
                    raise refusal("INVALID_FIELD", no_such_column(name, f"sobject of type {kind.name}"), None)
                field, value = reference, self._by_foreign_key(reference, value, actor)
            if not (actor.system or (field.createable if creating else field.updateable)):
                refused.append(field.name)
                continue
            sent[field.name] = values.read(field, value, faults)
        if refused:
            message = (
                f"Unable to create/update fields: {', '.join(refused)}. Please check the security settings of this field and verify that "
                "it is read/write for your profile or permission set."
            )
            raise refusal("INVALID_FIELD_FOR_INSERT_UPDATE", message, refused)
        return sent

    def _by_foreign_key(self, reference: Field, value: Mapping[str, Any], actor: Actor) -> str:
        """`{"Account": {"Number__c": "42"}}`: the parent named by its external id."""
        kind = actor.schema.objects.get(reference.refers_to or "")
        names = [name for name in value if name != "attributes"]
        key = kind.field(names[0]) if kind and len(names) == 1 else None
        if kind is None or key is None or not key.external_id or not isinstance(value[names[0]], str):
            raise refusal("INVALID_FIELD", f"Foreign key external ID field not found on entity {reference.refers_to}", None)
        found = self.with_key(kind.name, key.name, value[names[0]])
        if len(found) != 1:
            message = f"Foreign key external ID: {value[names[0]]} not found for field {key.name} in entity {kind.name}"
            raise refusal("INVALID_FIELD", message, [])
        return str(found[0]["Id"])

    def _same_member(self, kind: ObjectType, sent: Row) -> str | None:
        """A team member who is there already is updated, not doubled."""
        if kind.name != "OpportunityTeamMember":
            return None
        members = self.with_key(kind.name, "OpportunityId", sent.get("OpportunityId"))
        return next((row["Id"] for row in members if row["UserId"] == sent.get("UserId")), None)

    def _save(self, kind: ObjectType, old: Row | None, new: Row, sent: set[str], actor: Actor, faults: list[Fault]) -> str:
        record_id: str = new["Id"]
        with self.transaction():
            self._check_lock(record_id)
            write = Write(kind.name, record_id, old, new, actor)
            self._fire(self.before, write)
            faults += derive(kind, new, old, sent, self._org, self.stamp())
            missing = [field.name for field in kind.fields.values() if field.required and new[field.name] is None]
            missing = [name for name in missing if name not in {field for fault in faults for field in fault.fields or ()}]
            if missing:
                faults.insert(0, Fault("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing))
            faults += self._references(kind, new, old)
            self._refuse_if(faults)
            self._refuse_if(self._broken_rules(kind, new, old))
            self._refuse_if(self._duplicates(kind, new, old, actor))
            self._refuse_if(self._unique(kind, new))
            write.new = self._stamped(new, actor)
            self._put(kind.name, write.new)
            self._track(kind, write.new, old, actor)
            self._primary_role(kind, write.new, old, actor)
            self._fire(self.after, write)
        return record_id

    def _stamped(self, row: Row, actor: Actor) -> Row:
        now = self.stamp()
        return {**row, "LastModifiedDate": now, "LastModifiedById": actor.user_id, "SystemModstamp": now}

    def _fire(self, triggers: list[Callable[[Write], None]], write: Write) -> None:
        if self._triggers_running >= DEEPEST_TRIGGER:
            raise refusal("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "maximum trigger depth exceeded", [])
        self._triggers_running += 1
        try:
            for trigger in triggers:
                trigger(write)
        finally:
            self._triggers_running -= 1

    @staticmethod
    def _refuse_if(faults: list[Fault]) -> None:
        if faults:
            raise Refusal(400, faults)

    # checks

    def _references(self, kind: ObjectType, new: Row, old: Row | None) -> list[Fault]:
        faults = []
        for field in kind.fields.values():
            value = new[field.name] if field.type == "reference" and (field.createable or field.updateable) else None
            if value is None or (old is not None and old[field.name] == value):
                continue
            target = self.live(value)
            if target is None or (found := self.schema.of_id(value)) is None or found.name != field.refers_to:
                faults.append(Fault("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [field.name]))
            elif field.name == "OwnerId" and not target["IsActive"]:
                message = f"operation performed with inactive user [{value}] as owner of {kind.name.lower()}"
                faults.append(Fault("INACTIVE_OWNER_OR_USER", message, [field.name]))
            elif field.lookup_filter and not field.lookup_filter(target, new):
                message = "Value does not exist or does not match filter criteria."
                faults.append(Fault("FIELD_FILTER_VALIDATION_EXCEPTION", message, [field.name]))
        return faults

    def _broken_rules(self, kind: ObjectType, new: Row, old: Row | None) -> list[Fault]:
        faults = []
        for rule, test in self._rules:
            broken = rule.object == kind.name and (test(new) if isinstance(rule.condition, str) else rule.condition(new, old))  # type: ignore[call-arg]
            if broken:
                faults.append(Fault("FIELD_CUSTOM_VALIDATION_EXCEPTION", rule.message, [rule.field] if rule.field else []))
        return faults

    def _duplicates(self, kind: ObjectType, new: Row, old: Row | None, actor: Actor) -> list[Fault]:
        """One fault per broken duplicate rule. An alert can be waved through; a blocking rule cannot."""
        faults = []
        for rule in self._org.duplicate_rules:
            if rule.object != kind.name or (rule.allow_save and actor.allow_duplicates):
                continue
            columns = [kind.fields[name] for name in rule.fields]
            wanted = [column.normal(new[column.name]) for column in columns]
            if None in wanted or (old is not None and all(old[column.name] == new[column.name] for column in columns)):
                continue
            rows = [row for row in self.rows(kind.name) if [column.normal(row[column.name]) for column in columns] == wanted]
            rows = [row for row in rows if row["Id"] != new["Id"]]
            if rows:
                faults.append(_duplicate_fault(rule, kind, rows))
        return faults

    def _unique(self, kind: ObjectType, new: Row) -> list[Fault]:
        faults = []
        for field in kind.fields.values():
            if not field.unique or new[field.name] is None:
                continue
            for other in self.with_key(kind.name, field.name, new[field.name]):
                if other["Id"] != new["Id"]:
                    # the id in this message has 15 characters
                    message = f"duplicate value found: {field.name} duplicates value on record with id: {other['Id'][:15]}"
                    faults.append(Fault("DUPLICATE_VALUE", message, []))
            for key, row in ((key, row) for pending in self._pending for (_, key), row in pending.rows.items() if key[:3] == kind.prefix):
                if key != new["Id"] and field.normal(row[field.name]) == field.normal(new[field.name]):
                    self._check_lock(key)
        return faults

    # what a save or delete does to other rows

    def _primary_role(self, kind: ObjectType, new: Row, old: Row | None, actor: Actor) -> None:
        """One primary contact per opportunity; ContactId at create makes it."""
        if kind.name == "Opportunity" and old is None and new["ContactId"]:
            role = {"OpportunityId": new["Id"], "ContactId": new["ContactId"], "IsPrimary": True}
            self.create("OpportunityContactRole", role, replace(actor, system=True, schema=self.schema))
        if kind.name == "OpportunityContactRole" and new["IsPrimary"]:
            for row in self.with_key(kind.name, "OpportunityId", new["OpportunityId"]):
                if row["IsPrimary"] and row["Id"] != new["Id"]:
                    self._put(kind.name, self._stamped({**row, "IsPrimary": False}, actor))

    def _track(self, kind: ObjectType, new: Row, old: Row | None, actor: Actor) -> None:
        """The field history of an opportunity: one entry for each tracked field that a save changed, without values where they are long."""
        if kind.name != "Opportunity" or FIELD_HISTORY not in self.schema.objects:
            return
        entries: list[tuple[str, Any, Any]] = [("created", None, None)]
        if old is not None:
            changed = [field for name, field in kind.fields.items() if name in self._org.tracked_fields and old[name] != new[name]]
            entries = [
                (one.name, old[one.name], new[one.name]) if one.length <= LONGEST_TRACKED else (one.name, None, None) for one in changed
            ]
        for name, before, after in entries:
            row = {"Id": self.next_id("017"), "IsDeleted": False, "OpportunityId": new["Id"], "CreatedDate": self.stamp()}
            self._number += 1
            self._put(FIELD_HISTORY, {**row, "CreatedById": actor.user_id, "Field": name, "OldValue": before, "NewValue": after})

    def _bury(self, kind: ObjectType, row: Row, root: str, actor: Actor) -> None:
        self._check_lock(row["Id"])
        for child_kind, reference in self.schema.children(kind.name):
            children = [child for child in self.rows(child_kind.name) if child[reference.name] == row["Id"]]
            if children and reference.parent_deleted == "restrict":
                message = f"Your attempt to delete {row['Name']} could not be completed because it is associated with {child_kind.plural}"
                raise refusal("DELETE_FAILED", message, [])
            for child in children:
                if reference.parent_deleted == "cascade":
                    self._bury(child_kind, child, root, actor)
                elif reference.updateable:
                    self._put(child_kind.name, {**child, reference.name: None})
        self._deleted_with[row["Id"]] = root
        self._put(kind.name, self._stamped({**row, "IsDeleted": True}, actor))


def _duplicate_fault(rule: DuplicateRule, kind: ObjectType, rows: list[Row]) -> Fault:
    """The recorded body. Its key is misspelt in the versions it was recorded in; `rest` corrects it for later ones."""
    matches = [
        {
            "additionalInformation": [],
            "fieldDiffs": [],
            "matchConfidence": 100.0,
            "record": {"attributes": attributes(kind, row["Id"], "66.0"), "Id": row["Id"]},
        }
        for row in rows
    ]
    result = {
        "allowSave": rule.allow_save,
        "duplicateRule": rule.name,
        "duplicateRuleEntityType": kind.name,
        "errorMessage": "Use one of these records?",
        "matchResults": [
            {
                "entityType": kind.name,
                "errors": [],
                "matchEngine": "ExactMatchEngine",
                "matchRecords": matches,
                "rule": f"{rule.name}_Match",
                "size": len(rows),
                "success": True,
            }
        ],
    }
    return Fault("DUPLICATES_DETECTED", "Use one of these records?", None, {"duplicateResut": result})
