"""Rows with ETags: Azure Table Storage, and the same in memory. Nothing here knows what the rows mean."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.errors import ConnectorError, TryLater
from shared.identity import credential
from shared.settings import Settings

Row = dict[str, Any]

NAMES = ("links", "owed", "cursors", "history")
BATCH = 100  # operations in one transaction (Table Storage)


class RowExists(ConnectorError):
    """An insert met a row with the same key."""


class RowChanged(ConnectorError):
    """The row changed, or went, since its ETag was read: the compare-and-set failed and nothing was written."""


@dataclass(frozen=True)
class Stored:
    """A row as it stands, with the ETag a conditional write needs."""

    partition: str
    key: str
    row: Row
    etag: str


class Tables(Protocol):
    """The few operations the connector's state stands on. Each may raise `TryLater` when storage is out of reach."""

    def get(self, table: str, partition: str, key: str) -> Stored | None: ...

    def insert(self, table: str, partition: str, key: str, row: Row) -> str:
        """The new ETag; raises `RowExists`."""
        ...

    def replace(self, table: str, partition: str, key: str, row: Row, etag: str) -> str:
        """The new ETag; raises `RowChanged` unless the row still has `etag`."""
        ...

    def merge(self, table: str, partition: str, key: str, row: Row) -> str:
        """Upserts: sets the given columns and leaves the others alone. The new ETag."""
        ...

    def delete(self, table: str, partition: str, key: str, etag: str) -> None:
        """Raises `RowChanged` when the row no longer has `etag`; a row that is gone already does not matter."""
        ...

    def list(
        self,
        table: str,
        partition: str | None = None,
        *,
        before: tuple[str, str] | None = None,
        keys: tuple[str, str] | None = None,
        after: str = "",
        columns: Sequence[str] | None = None,
    ) -> Iterator[Stored]:
        """Rows of one partition in key order, or of all, partition by partition.

        With `before`, those whose text column is less or equal to the value; with `keys`, those between two keys, both included;
        with `after`, those of later partitions than this. `columns` are the only ones to be read: none of them for the keys alone.
        """
        ...

    def merge_many(self, table: str, partition: str, rows: Sequence[tuple[str, Row]]) -> None:
        """Upserts many rows of one partition; not atomic as a whole."""
        ...

    def delete_many(self, table: str, partition: str, keys: Sequence[str]) -> None:
        """Deletes many rows of one partition whatever their ETag; rows that are gone do not matter."""
        ...


class MemoryTables:
    """Tables that live as long as the object; for tests and dry runs."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], tuple[Row, str]] = {}
        self._versions = itertools.count(1)
        self._lock = threading.RLock()

    def _put(self, at: tuple[str, str, str], row: Row) -> str:
        etag = str(next(self._versions))
        self._rows[at] = ({key: value for key, value in row.items() if value is not None}, etag)
        return etag

    def get(self, table: str, partition: str, key: str) -> Stored | None:
        with self._lock:
            found = self._rows.get((table, partition, key))
            return Stored(partition, key, dict(found[0]), found[1]) if found else None

    def insert(self, table: str, partition: str, key: str, row: Row) -> str:
        with self._lock:
            if (table, partition, key) in self._rows:
                raise RowExists(f"{table}: {key} exists")
            return self._put((table, partition, key), row)

    def _expect(self, table: str, partition: str, key: str, etag: str) -> None:
        found = self._rows.get((table, partition, key))
        if found is None or found[1] != etag:
            raise RowChanged(f"{table}: {key} changed")

    def replace(self, table: str, partition: str, key: str, row: Row, etag: str) -> str:
        with self._lock:
            self._expect(table, partition, key, etag)
            return self._put((table, partition, key), row)

    def merge(self, table: str, partition: str, key: str, row: Row) -> str:
        with self._lock:
            found = self._rows.get((table, partition, key))
            return self._put((table, partition, key), {**(found[0] if found else {}), **row})

    def delete(self, table: str, partition: str, key: str, etag: str) -> None:
        with self._lock:
            if (table, partition, key) in self._rows:
                self._expect(table, partition, key, etag)
                del self._rows[table, partition, key]

    def list(
        self,
        table: str,
        partition: str | None = None,
        *,
        before: tuple[str, str] | None = None,
        keys: tuple[str, str] | None = None,
        after: str = "",
        columns: Sequence[str] | None = None,
    ) -> Iterator[Stored]:
        with self._lock:
            rows = ((at, value) for at, value in self._rows.items() if at[0] == table and partition in (None, at[1]) and at[1] > after)
            found = sorted(rows, key=lambda pair: pair[0])
        for (_, found_partition, key), (row, etag) in found:
            if (before is None or str(row.get(before[0], "")) <= before[1]) and (keys is None or keys[0] <= key <= keys[1]):
                yield Stored(found_partition, key, {name: value for name, value in row.items() if columns is None or name in columns}, etag)

    def merge_many(self, table: str, partition: str, rows: Sequence[tuple[str, Row]]) -> None:
        for key, row in rows:
            self.merge(table, partition, key, row)

    def delete_many(self, table: str, partition: str, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._rows.pop((table, partition, key), None)


class AzureTables:
    """Azure Table Storage (or Azurite) of the account in `AzureWebJobsStorage`. Makes its tables on first use."""

    def __init__(self, settings: Settings) -> None:
        from azure.core.exceptions import AzureError
        from azure.data.tables import TableServiceClient

        self._error = AzureError
        # Short limits and few tries: the worker has its own backoff, and an event is better refused than held.
        limits: dict[str, Any] = {"connection_timeout": 5, "read_timeout": 15, "retry_total": 3, "retry_backoff_factor": 0.2}
        if settings.storage:
            self._service = TableServiceClient.from_connection_string(settings.storage, **limits)
        else:
            own = credential(settings.storage_client_id)
            self._service = TableServiceClient(settings.storage_table_uri, credential=own, **limits)
        self._clients = {name: self._service.get_table_client(name) for name in NAMES}
        self._ready = False
        self._lock = threading.Lock()

    def _client(self, table: str) -> Any:
        if not self._ready:
            with self._lock:
                if not self._ready:
                    for name in NAMES:
                        self._call(lambda name=name: self._service.create_table_if_not_exists(name))
                    self._ready = True
        return self._clients[table]

    def _call(self, operation: Any) -> Any:
        """The operation's result, with storage's errors turned into ours."""
        from azure.core.exceptions import HttpResponseError

        try:
            return operation()
        except HttpResponseError as error:
            status = error.status_code
            if status == 409:
                raise RowExists("the row exists") from error
            if status == 412:
                raise RowChanged("the row changed since it was read") from error
            if status == 404:
                raise RowChanged("the row is gone") from error
            # Whoever could not sign in got no answer at all.
            words = f"answered {status}" if status else f"cannot be reached ({type(error).__name__})"
            raise TryLater(f"Table Storage {words}") from error
        except self._error as error:
            raise TryLater(f"Table Storage cannot be reached ({type(error).__name__})") from error

    def get(self, table: str, partition: str, key: str) -> Stored | None:
        try:
            entity = self._call(lambda: self._client(table).get_entity(partition, key))
        except RowChanged:
            return None
        return _stored(entity)

    def insert(self, table: str, partition: str, key: str, row: Row) -> str:
        answer = self._call(lambda: self._client(table).create_entity(_entity(partition, key, row)))
        return str(answer["etag"])

    def replace(self, table: str, partition: str, key: str, row: Row, etag: str) -> str:
        from azure.core import MatchConditions
        from azure.data.tables import UpdateMode

        answer = self._call(
            lambda: self._client(table).update_entity(
                _entity(partition, key, row), mode=UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
            )
        )
        return str(answer["etag"])

    def merge(self, table: str, partition: str, key: str, row: Row) -> str:
        from azure.data.tables import UpdateMode

        answer = self._call(lambda: self._client(table).upsert_entity(_entity(partition, key, row), mode=UpdateMode.MERGE))
        return str(answer["etag"])

    def delete(self, table: str, partition: str, key: str, etag: str) -> None:
        from azure.core import MatchConditions

        client = self._client(table)
        # The SDK swallows a 404 here; a row that is gone was cleared by somebody who read it as it was.
        self._call(lambda: client.delete_entity(partition, key, etag=etag, match_condition=MatchConditions.IfNotModified))

    def list(
        self,
        table: str,
        partition: str | None = None,
        *,
        before: tuple[str, str] | None = None,
        keys: tuple[str, str] | None = None,
        after: str = "",
        columns: Sequence[str] | None = None,
    ) -> Iterator[Stored]:
        parts: list[str] = []
        parameters: dict[str, Any] = {}
        if partition is not None:
            parts.append("PartitionKey eq @partition")
            parameters["partition"] = partition
        if before is not None:
            parts.append(f"{before[0]} le @before")
            parameters["before"] = before[1]
        if keys is not None:
            parts.append("RowKey ge @first and RowKey le @last")
            parameters |= {"first": keys[0], "last": keys[1]}
        if after:
            parts.append("PartitionKey gt @after")
            parameters["after"] = after
        client = self._client(table)
        select = None if columns is None else ["PartitionKey", "RowKey", *columns]
        pages = (
            client.query_entities(" and ".join(parts), parameters=parameters, select=select)
            if parts
            else client.list_entities(select=select)
        )
        iterator = iter(pages)
        while True:
            entity = self._call(lambda: next(iterator, None))
            if entity is None:
                return
            yield _stored(entity)

    def merge_many(self, table: str, partition: str, rows: Sequence[tuple[str, Row]]) -> None:
        for chunk in _chunks(rows, BATCH):
            operations = [("upsert", _entity(partition, key, row), {"mode": "merge"}) for key, row in chunk]
            self._call(lambda operations=operations: self._client(table).submit_transaction(operations))

    def delete_many(self, table: str, partition: str, keys: Sequence[str]) -> None:
        for chunk in _chunks(keys, BATCH):
            try:
                operations = [("delete", _entity(partition, key, {})) for key in chunk]
                self._call(lambda operations=operations: self._client(table).submit_transaction(operations))
            except RowChanged:  # one of them is gone already, so the transaction as a whole was refused
                for key in chunk:
                    self._call(lambda key=key: self._client(table).delete_entity(partition, key))


def _entity(partition: str, key: str, row: Row) -> Row:
    return {"PartitionKey": partition, "RowKey": key, **{name: value for name, value in row.items() if value is not None}}


def _stored(entity: Any) -> Stored:
    row = {key: value for key, value in entity.items() if key not in ("PartitionKey", "RowKey")}
    return Stored(entity["PartitionKey"], entity["RowKey"], row, entity.metadata["etag"])


def _chunks(rows: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
