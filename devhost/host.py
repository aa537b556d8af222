"""The local host: one function app with its routes, timers and queues, alive."""

import asyncio
import hmac
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from azure.core.exceptions import AzureError

from devhost import routing, worker
from devhost.queues import POISON, Queue, QueueTrigger, messages_in
from devhost.settings import BadSettings, HostOptions, Resolver
from devhost.timers import Schedule, Timer, TimerStatus
from devhost.worker import Function, FunctionFailed, Result, TypedData

STORAGE = "AzureWebJobsStorage"
STOP_SECONDS = 10

log = logging.getLogger("devhost")

Event = dict[str, Any]


class Host:
    """An ASGI app that is a function app: mount it in a client for tests, or serve it on a port. Use it as `async with Host(...) as host`.

    `timers=False` and `queues=False` turn off what runs by itself; `run_timer` and `drain` then run it when told to.
    With `function_key`, functions above the level anonymous want it in `x-functions-key` or `?code=`; without, nobody is asked.
    `settings` (the environment, if not given) is for the names in bindings; the app itself reads the environment.
    `timer_status` is a file that remembers the timers' runs, so that one missed between two starts is made up for.
    """

    def __init__(
        self,
        app_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        timers: bool = True,
        queues: bool = True,
        function_key: str | None = None,
        timer_status: Path | None = None,
    ) -> None:
        self.routes: list[routing.Route] = []
        self.timers: dict[str, Timer] = {}
        self.queue_triggers: dict[str, QueueTrigger] = {}
        self._app_dir = app_dir
        self._settings = os.environ if settings is None else settings
        self._automatic = {Timer: timers, QueueTrigger: queues}
        self._function_key = function_key
        self._timer_status = TimerStatus(timer_status)
        self._outputs: dict[tuple[str, str], Queue] = {}
        self._queues: dict[tuple[str, str], Queue] = {}
        self._storage_threads = ThreadPoolExecutor(8, thread_name_prefix="devhost-storage")
        self._stop = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._started = 0
        self._running = 0

    async def start(self) -> None:
        """Load the app and begin its work; a host starts once. Raises LoadFailed, or BadSettings with all that is missing or wrong."""
        functions = await worker.load(self._app_dir)
        self._connect(functions)
        jobs: list[Timer | QueueTrigger] = [*self.timers.values(), *self.queue_triggers.values()]
        self._loops = [asyncio.create_task(job.keep_going(self._stop)) for job in jobs if self._automatic[type(job)]]

    async def stop(self) -> None:
        """Start nothing more, and let what runs come to its end, for ten seconds at most."""
        self._stop.set()
        tasks = self._loops + [task for trigger in self.queue_triggers.values() for task in trigger.running]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
        self._storage_threads.shutdown(wait=False)
        for queue in self._queues.values():
            queue.close()

    async def run_timer(self, name: str, past_due: bool = False) -> None:
        """Run one timer function now, whatever its schedule. Raises FunctionFailed, and KeyError for a name that is not a timer."""
        await self.timers[name].run(past_due)

    async def drain(self, seconds: float = 30) -> None:
        """Return once no queue holds a visible message and no function runs. Raises TimeoutError.

        Messages that are hidden for now (sent with a delay, or waiting for their next try) are not waited for.
        """
        async with asyncio.timeout(seconds):
            while True:
                busy, before = self._busy(), self._begun()
                for trigger in self.queue_triggers.values():
                    await trigger.poll()
                if not busy and self._begun() == before:
                    return
                await asyncio.sleep(0.01)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def __call__(self, scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]) -> None:
        """ASGI. Starting and stopping is the caller's business, so there is no lifespan."""
        if scope["type"] != "http":
            raise NotImplementedError(f"devhost serves http only, not {scope['type']}")
        status, headers, body = await self._answer(scope, receive)
        length = (b"content-length", str(len(body)).encode())
        headers = [header for header in headers if header[0] != b"content-length"] + ([] if status == 204 else [length])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Event, receive: Callable[[], Awaitable[Event]]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        found = routing.find(self.routes, scope["method"], scope["path"])
        if not found:
            return 404, [], b""
        route, params = found
        headers = dict(scope["headers"])
        if route.level != "anonymous" and not self._has_key(scope, headers):
            return 401, [], b""
        # The host reads a body only when it is told its length: a chunked one arrives empty.
        body = await _read(receive) if headers.get(b"content-length", b"0") != b"0" else b""
        trace_parent = headers.get(b"traceparent", b"").decode("latin-1") or None
        try:
            result = await self._invoke(route.function, routing.request_data(scope, body, params), trace_parent=trace_parent)
            return routing.response(result)
        except FunctionFailed as error:
            log.error("%s failed: %s", route.function.name, error)
            return 500, [], b""

    def _has_key(self, scope: Event, headers: dict[bytes, bytes]) -> bool:
        if self._function_key is None:
            return True
        in_query = parse_qs(scope["query_string"]).get(b"code", [b""])[0]
        given = headers.get(b"x-functions-key") or in_query
        return hmac.compare_digest(given, self._function_key.encode())

    async def _invoke(
        self, function: Function, value: TypedData, metadata: Mapping[str, TypedData] | None = None, trace_parent: str | None = None
    ) -> Result:
        self._started += 1
        self._running += 1
        try:
            result = await worker.invoke(function, value, metadata, trace_parent)
            # After the function and before the answer: a caller is told "done" only if the messages are stored.
            for name, output in result.outputs.items():
                for text in messages_in(output):
                    await self._outputs[function.name, name].send(text)
            return result
        except AzureError as error:
            raise FunctionFailed(f"its output could not be stored: {error}") from error
        finally:
            self._running -= 1

    def _busy(self) -> bool:
        return self._running > 0 or any(trigger.running for trigger in self.queue_triggers.values())

    def _begun(self) -> int:
        return self._started + sum(trigger.taken for trigger in self.queue_triggers.values())

    def _connect(self, functions: tuple[Function, ...]) -> None:
        options = HostOptions.read(self._app_dir, self._settings)
        resolver = Resolver(self._settings)
        faults: list[str] = []
        for function in functions:
            try:
                self._connect_function(function, options, resolver)
            except ValueError as error:
                faults.append(f"{function.name}: {error}")
        # What is missing may be why the rest looks wrong, so it goes first and alone.
        if faults := resolver.missing() or faults:
            raise BadSettings("the app cannot start:\n" + "\n".join(f"  {fault}" for fault in faults))

    def _connect_function(self, function: Function, options: HostOptions, resolver: Resolver) -> None:
        trigger = function.trigger
        kind = trigger["type"].lower()
        if kind == "httptrigger":
            template = resolver.text(trigger.get("route") or function.name, f"the route of {function.name}")
            self.routes.append(routing.Route.of(function, template, options.route_prefix))
        elif kind == "timertrigger":
            schedule = Schedule(resolver.text(trigger["schedule"], f"the schedule of {function.name}"))
            self.timers[function.name] = Timer(function, schedule, self._timer_status, self._invoke)
        elif kind == "queuetrigger":
            queue = self._queue(function, trigger, options, resolver)
            poison = None if queue.name.endswith(POISON) else self._queue(function, trigger, options, resolver, POISON)
            self.queue_triggers[function.name] = QueueTrigger(function, queue, poison, options, self._invoke)
        else:
            raise ValueError(f"devhost does not know the trigger {trigger['type']}")
        for name, output in function.outputs.items():
            if output["type"].lower() != "queue":
                raise ValueError(f"devhost does not know the output {output['type']}")
            self._outputs[function.name, name] = self._queue(function, output, options, resolver)

    def _queue(self, function: Function, binding: dict[str, Any], options: HostOptions, resolver: Resolver, suffix: str = "") -> Queue:
        name = resolver.text(binding["queueName"], f"the queue of {function.name}") + suffix
        connection = resolver.setting(binding.get("connection") or STORAGE, f"the connection of {function.name}")
        if (connection, name) not in self._queues:
            self._queues[connection, name] = Queue(connection, name, options.base64_messages, self._storage_threads)
        return self._queues[connection, name]


async def _read(receive: Callable[[], Awaitable[Event]]) -> bytes:
    body = b""
    while True:
        event = await receive()
        body += bytes(event.get("body", b""))
        if not event.get("more_body"):
            return body
