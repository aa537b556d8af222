"""Workers that stop before every call they make, so that a test can say in which order things happen and who dies when."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from shared.flows import synchronize
from shared.tables import MemoryTables
from shared.world import World
from simulator.core import Request, Response
from tests.deals import DealWorld

_current = threading.local()


class Killed(BaseException):
    """The process is gone: no handler of the app may see this as an error of its own."""


class Untold(Exception):
    """A test's script does not fit what the worker does: the test is wrong, which is no statement about the connector."""


class Worker:
    """One run of a flow, `synchronize` if not told otherwise, in a thread of its own, one call at a time."""

    def __init__(self, world: World, name: str, flow: Callable[[World, str], Any] = synchronize) -> None:
        self.about_to: str | None = None  # the call it stands before; None once it has ended
        self.done: list[str] = []
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(lambda: flow(world, name),), daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def _run(self, work: Callable[[], Any]) -> None:
        _current.worker = self
        try:
            work()
        except Killed:
            pass
        except BaseException as error:
            self._error = error
        self.about_to = None
        self._stopped.release()

    def gate(self, call: str) -> None:
        self.about_to = call
        self._stopped.release()
        self._go.acquire()
        if self._killed:
            raise Killed
        self.done.append(call)

    def step(self) -> None:
        """Makes the call it stands before and stops before the next one."""
        assert self.about_to is not None, "the worker has ended"
        self._go.release()
        self._stopped.acquire()
        if self._error:
            raise self._error

    def until(self, call: str) -> Worker:
        """Goes on until it stands before a call whose description matches the pattern."""
        while self.about_to is not None and not re.search(call, self.about_to):
            self.step()
        if self.about_to is None:
            raise Untold(f"ended without {call!r}: {self.done}")
        return self

    def past(self, call: str) -> Worker:
        self.until(call).step()
        return self

    def finish(self) -> Worker:
        while self.about_to is not None:
            self.step()
        return self

    def kill(self) -> None:
        """Dies where it stands: the call it is about to make is never made."""
        if self.about_to is not None:
            self._killed = True
            self.step()


def gate(call: str) -> None:
    worker = getattr(_current, "worker", None)
    if worker is not None:
        worker.gate(call)


class GatedTables(MemoryTables):
    """Tables whose every operation a worker stops before."""

    def get(self, table: str, partition: str, key: str) -> Any:
        gate(f"get {table}")
        return super().get(table, partition, key)

    def insert(self, table: str, partition: str, key: str, row: Any) -> str:
        gate(f"insert {table}")
        return super().insert(table, partition, key, row)

    def replace(self, table: str, partition: str, key: str, row: Any, etag: str) -> str:
        gate(f"replace {table}")
        return super().replace(table, partition, key, row, etag)

    def merge(self, table: str, partition: str, key: str, row: Any) -> str:
        gate(f"merge {table}")
        return super().merge(table, partition, key, row)

    def delete(self, table: str, partition: str, key: str, etag: str) -> None:
        gate(f"delete {table}")
        super().delete(table, partition, key, etag)


class Interleaved(DealWorld):
    """A deal world in which several workers run step by step. Driving it from the test itself runs straight through."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"tables": GatedTables(), **options})
        answer = self.sim.handle

        def gated(request: Request) -> Response:
            if "/oauth2/" not in request.path and request.host in ("partner_center", "salesforce") and "describe" not in request.path:
                gate(f"{request.method} {request.host} {request.path.rsplit('/', 1)[0]}")
            return answer(request)

        self.sim.handle = gated  # type: ignore[method-assign]

    def worker(self, name: str) -> Worker:
        """Another instance of the app that takes a wake-up for a name, stopped before its first call."""
        return Worker(self.new_worker(), name)
