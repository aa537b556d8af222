"""A proxy in front of the storage emulator that can refuse, lose, hold up and repeat single operations."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

SLOW = 2.0  # seconds
_KEYS = re.compile(r"/(\w+)\(PartitionKey='([^']*)',RowKey='([^']*)'\)")
_METHODS = {"GET": "get", "POST": "insert", "PUT": "replace", "PATCH": "merge", "DELETE": "delete"}
_ERROR = b"<?xml version='1.0' encoding='utf-8'?><Error><Code>%s</Code><Message>This is the proxy.</Message></Error>"

Service = Literal["table", "queue"]


@dataclass(frozen=True)
class Operation:
    """One request to storage, as far as a fault needs to know it."""

    service: Service
    method: str
    path: str  # decoded, with the query
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def name(self) -> str:
        """Such as `replace links`; `message` for one put into a queue."""
        if self.service == "queue":
            return "message" if self.method == "POST" and "/messages" in self.path else f"{self.method} queue"
        table = re.match(r"/[^/]+/(\$?\w+)", self.path)
        return f"{_METHODS.get(self.method, self.method)} {table[1] if table else ''}"

    @property
    def instance(self) -> str:
        return self.headers.get("x-instance", "")

    @property
    def row(self) -> tuple[str, str, str] | None:
        """Table, partition and row key of an operation on one row."""
        found = _KEYS.search(self.path)
        return (found[1], found[2], found[3]) if found else None

    def mentions(self, names: set[str]) -> bool:
        text = self.path + self.body.decode("utf-8", "replace")
        if self.service == "queue" and (told := re.search(rb"<MessageText>([^<]*)</MessageText>", self.body)):
            with contextlib.suppress(ValueError):
                text = base64.b64decode(told[1]).decode("utf-8", "replace")
        return any(name in text for name in names)


@dataclass
class StorageFault:
    """What happens to the next `count` operations of a name that mention one of `names`, after `skip` went through."""

    operation: str
    names: set[str]
    kind: str
    count: int = 1
    skip: int = 0
    action: Callable[[Operation], None] | None = None  # runs before the operation is done, or after it for kinds that end in "after"

    def takes(self, operation: Operation) -> bool:
        if not self.count or operation.name != self.operation or not operation.mentions(self.names):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.count -= 1
        return True


class Proxy:
    """Listens for both services on ports of its own; `connection_string` leads through it."""

    def __init__(self, connection_string: str) -> None:
        parts = dict(part.partition("=")[::2] for part in connection_string.split(";") if part)
        self._behind = {"table": parts["TableEndpoint"], "queue": parts["QueueEndpoint"]}
        self._parts = parts
        self._faults: list[StorageFault] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self.connection_string = ""

    def add(self, fault: StorageFault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(ready,), name="storage proxy", daemon=True)
        thread.start()
        ready.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(5)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        parts = dict(self._parts)
        for service, endpoint in self._behind.items():
            server = self._loop.run_until_complete(asyncio.start_server(self._serving(service), "127.0.0.1", 0))  # type: ignore[arg-type]
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{urlsplit(endpoint).path}"
            parts[f"{service.capitalize()}Endpoint"] = address
        self.connection_string = ";".join(f"{name}={value}" for name, value in parts.items())
        ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def _serving(self, service: Service) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], asyncio.Future[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            behind = urlsplit(self._behind[service])
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                upstream = await asyncio.open_connection(behind.hostname, behind.port)
                try:
                    while await self._relay(service, reader, writer, *upstream):
                        pass
                finally:
                    upstream[1].close()
                    writer.close()

        return serve  # type: ignore[return-value]

    async def _relay(
        self,
        service: Service,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_storage: asyncio.StreamReader,
        to_storage: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; False once the connection has ended."""
        head, body = await _message(reader)
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        operation = Operation(service, method, unquote(target), headers, body)
        with self._lock:
            fault = next((one for one in self._faults if one.takes(operation)), None)
        kind = fault.kind if fault else ""

        async def forward(content: bytes = body) -> bytes:
            to_storage.write(_with_length(head, content) if content is not body else head + content)
            return b"".join(await _message(from_storage, method))

        after = kind.endswith("after")
        if fault and fault.action and not after:
            await asyncio.to_thread(fault.action, operation)
        if kind in ("cut before", "killed before"):
            writer.transport.abort()
            return False
        if kind in ("500", "503"):
            writer.write(_answer(int(kind), b"ServerBusy" if kind == "503" else b"InternalError"))
            return True
        if kind in ("slow", "late"):
            await asyncio.sleep(SLOW)
        if kind == "lost":
            writer.write(_answer(201, b""))
            return True
        if kind == "doubled":
            await forward()
        if kind == "poisoned":
            body_ = re.sub(rb"(<MessageText>)[^<]*", rb"\1not what was sent, not even base64", body)
            writer.write(await forward(body_))
            return True
        answer = await forward()
        if fault and fault.action and after:
            await asyncio.to_thread(fault.action, operation)
        if after:
            writer.transport.abort()
            return False
        writer.write(answer)
        await writer.drain()
        return True


async def _message(reader: asyncio.StreamReader, method: str = "") -> tuple[bytes, bytes]:
    """Head and body of one HTTP message, as they came."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    status = re.match(rb"HTTP/1\.1 (\d+)", head)
    if status and (int(status[1]) in (204, 304) or method == "HEAD"):
        return head, b""
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while True:
            size = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(size, 16) + 2)
            body += size + chunk
            if int(size, 16) == 0:
                return head, body
    length = re.search(rb"content-length: *(\d+)", lower)
    return head, await reader.readexactly(int(length[1])) if length else b""


def _with_length(head: bytes, body: bytes) -> bytes:
    return re.sub(rb"(?i)content-length: *\d+", b"Content-Length: %d" % len(body), head) + body


def _answer(status: int, code: bytes) -> bytes:
    body = _ERROR % code if code else b""
    extra = b"x-ms-error-code: %s\r\n" % code if code else b""
    return b"HTTP/1.1 %d -\r\nContent-Type: application/xml\r\n%sContent-Length: %d\r\n\r\n" % (status, extra, len(body)) + body
