"""Queue triggers and queue outputs, with the retries, the poison queue and the encodings of Azure."""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.queue import QueueClient, QueueMessage

from devhost.settings import HostOptions
from devhost.worker import Function, FunctionFailed, TypedData

# A message being worked on is hidden for this long. Azure renews that lease and ends what runs past functionTimeout; devhost does neither.
LEASE_SECONDS = 600
FIRST_POLLING_INTERVAL = 0.1
POISON = "-poison"

Invoke = Callable[[Function, TypedData, dict[str, TypedData]], Awaitable[Any]]

log = logging.getLogger("devhost.queues")


class Queue:
    """One storage queue. The calls block, so they run on the threads of `executor`."""

    def __init__(self, connection_string: str, name: str, encoded: bool, executor: Executor) -> None:
        self.name = name
        # Messages are coded here and not by the SDK's policies, which lose a whole batch over one message that does not decode.
        # No retries in the SDK: its first one waits 15 seconds, and polling is a retry already.
        self._client = QueueClient.from_connection_string(connection_string, name, retry_total=0)
        self._encoded = encoded
        self._executor = executor

    async def send(self, text: str) -> None:
        """Add a message; the queue is created where it is missing."""
        await self.add(base64.b64encode(text.encode()).decode() if self._encoded else text)

    async def add(self, content: str) -> None:
        """Add a message as it is stored."""
        try:
            await self._call(self._client.send_message, content)
        except ResourceNotFoundError:
            await self._call(self._client.create_queue)
            await self._call(self._client.send_message, content)

    async def take(self, most: int) -> list[QueueMessage]:
        """Lease up to so many messages; none from a queue that does not exist yet."""
        try:
            messages = self._client.receive_messages(messages_per_page=most, max_messages=most, visibility_timeout=LEASE_SECONDS)
            taken: list[QueueMessage] = await self._call(list, messages)
            return taken
        except ResourceNotFoundError:
            return []

    async def release(self, message: QueueMessage, seconds: int) -> None:
        await self._call(lambda: self._client.update_message(message, visibility_timeout=seconds))

    async def delete(self, message: QueueMessage) -> None:
        await self._call(self._client.delete_message, message)

    def text(self, message: QueueMessage) -> str:
        """The message as the function sees it. Raises ValueError if it is not base64."""
        if not self._encoded:
            return str(message.content)
        return base64.b64decode(message.content, validate=True).decode(errors="replace")

    def close(self) -> None:
        self._client.close()

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


class QueueTrigger:
    """One queue function: takes messages, runs the function on each, and decides what becomes of them.

    A message that fails is released after `visibility_timeout`; at `max_dequeue_count` it goes to `<queue>-poison`. A message that fails
    on a poison queue itself stays hidden for the rest of its lease, so it comes back every ten minutes.
    """

    def __init__(self, function: Function, queue: Queue, poison: Queue | None, options: HostOptions, invoke: Invoke) -> None:
        self.name = function.name
        self.queue = queue
        self.running: set[asyncio.Task[None]] = set()
        self.taken = 0
        self._function = function
        self._invoke = invoke
        self._poison = poison
        self._options = options
        self._one_poll_at_a_time = asyncio.Lock()

    async def poll(self) -> int:
        """Take a batch as soon as there is room for one and start work on it; the number of messages taken."""
        async with self._one_poll_at_a_time:
            while len(self.running) > self._options.new_batch_threshold:
                await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
            messages = await self.queue.take(self._options.batch_size)
            self.taken += len(messages)
            for message in messages:
                task = asyncio.create_task(self._work_on(message))
                self.running.add(task)
                task.add_done_callback(self.running.discard)
            return len(messages)

    async def keep_going(self, stop: asyncio.Event) -> None:
        """Poll until `stop`, more and more rarely while there is nothing, and while storage does not answer."""
        interval = FIRST_POLLING_INTERVAL
        while not stop.is_set():
            try:
                found = await self.poll()
            except AzureError as error:
                log.error("%s: the queue %s cannot be read: %s", self.name, self.queue.name, error)
                found = 0
            if found:
                interval = FIRST_POLLING_INTERVAL
                continue
            # Not cancelled from outside: a poll given up midway would leave its messages hidden for the whole lease.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), interval)
            interval = min(interval * 2, self._options.max_polling_interval)

    async def _work_on(self, message: QueueMessage) -> None:
        try:
            await self._run_or_put_aside(message)
        except ResourceNotFoundError:
            log.warning("%s: message %s was changed by somebody else meanwhile", self.name, message.id)
        except AzureError as error:
            log.error("%s: message %s could not be settled: %s", self.name, message.id, error)

    async def _run_or_put_aside(self, message: QueueMessage) -> None:
        tries = message.dequeue_count or 0
        try:
            text = self.queue.text(message)
        except ValueError:
            await self._give_up(message, "it is not base64")
            return
        if tries > self._options.max_dequeue_count:
            await self._give_up(message, f"it was taken {tries} times")
            return
        try:
            await self._invoke(self._function, TypedData(string=text), metadata(message, text))
        except FunctionFailed as error:
            log.error("%s failed on message %s, try %d: %s", self.name, message.id, tries, error)
            if tries >= self._options.max_dequeue_count or self._poison is None:
                await self._give_up(message, f"it failed {tries} times")
            else:
                await self.queue.release(message, self._options.visibility_timeout)
        else:
            await self.queue.delete(message)

    async def _give_up(self, message: QueueMessage, why: str) -> None:
        if self._poison is None:
            log.warning("%s: message %s stays hidden until its lease ends: %s", self.name, message.id, why)
            return
        log.warning("%s: message %s goes to %s: %s", self.name, message.id, self._poison.name, why)
        await self._poison.add(message.content)
        await self.queue.delete(message)


def metadata(message: QueueMessage, text: str) -> dict[str, TypedData]:
    """The trigger metadata of a message. As in Azure, the keys of a JSON payload hide it.

    `{"id": 1}` changes the id that the function sees: the match ignores case.
    """
    stamps = {"InsertionTime": message.inserted_on, "ExpirationTime": message.expires_on, "NextVisibleTime": message.next_visible_on}
    known: dict[str, TypedData] = {
        "Id": TypedData(string=str(message.id)),
        "PopReceipt": TypedData(string=message.pop_receipt),
        "DequeueCount": TypedData(json=str(message.dequeue_count)),
        **{name: TypedData(json=json.dumps(stamp.isoformat())) for name, stamp in stamps.items() if stamp},
    }
    try:
        payload = json.loads(text)
    except ValueError:
        return known
    names = {name.lower(): name for name in known}
    for key, value in payload.items() if isinstance(payload, dict) else ():
        known[names.get(key.lower()) or key] = TypedData(string=value) if isinstance(value, str) else TypedData(json=json.dumps(value))
    return known


def messages_in(output: TypedData) -> list[str]:
    """The messages that a queue output makes of what the function set, rewritten as Azure rewrites them.

    Text that is a JSON array becomes one message per element; a JSON object is written out again, indented.
    """
    text = output.bytes.decode() if output.WhichOneof("data") == "bytes" else next(iter(vars(output).values()))
    try:
        content = json.loads(text)
    except ValueError:
        return [text]
    if isinstance(content, list):
        return [element if isinstance(element, str) else json.dumps(element, indent=2) for element in content]
    return [json.dumps(content, indent=2) if isinstance(content, dict) else text]
