"""Wake-ups: a storage queue whose messages are record names and nothing else."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from shared.errors import TryLater
from shared.identity import credential
from shared.settings import Settings

QUEUE = "synchronize-deal"

# An API version that every storage service and emulator in use knows; nothing newer is needed.
_API_VERSION = "2023-11-03"
_LIVES_SECONDS = 7 * 24 * 3600


class WakeQueue:
    """The queue that starts `synchronize_deal`, in the account of `AzureWebJobsStorage`. Made on first use."""

    def __init__(self, settings: Settings) -> None:
        from azure.storage.queue import QueueServiceClient, TextBase64EncodePolicy

        limits: dict[str, Any] = {"connection_timeout": 5, "read_timeout": 10, "retry_total": 2, "api_version": _API_VERSION}
        # The library waits 15 seconds before its first repetition; an event's answer waits with it.
        limits |= {"initial_backoff": 0.2, "increment_base": 2, "random_jitter_range": 0.2}
        if settings.storage:
            service = QueueServiceClient.from_connection_string(settings.storage, **limits)
        else:
            own = credential(settings.storage_client_id)
            service = QueueServiceClient(settings.storage_queue_uri, credential=own, **limits)
        # The Functions host reads base64 unless told otherwise; a message that does not decode ends as poison.
        self._queue = service.get_queue_client(QUEUE, message_encode_policy=TextBase64EncodePolicy())
        self._poison = service.get_queue_client(f"{QUEUE}-poison")
        self._ready = False
        self._lock = threading.Lock()

    def wake(self, name: str, delay: float = 0) -> None:
        """Sends one wake-up, seen after `delay` seconds. Raises `TryLater`."""
        self._call(lambda: self._queue.send_message(name, visibility_timeout=int(delay), time_to_live=_LIVES_SECONDS))

    def waiting(self) -> int:
        return int(self._call(lambda: self._queue.get_queue_properties()).approximate_message_count or 0)

    def poisoned(self) -> int:
        """About how many wake-ups the host gave up on; 0 where it never did."""
        from azure.core.exceptions import ResourceNotFoundError

        def count() -> int:
            try:
                return int(self._poison.get_queue_properties().approximate_message_count or 0)
            except ResourceNotFoundError:
                return 0

        return int(self._call(count))

    def prove(self) -> None:
        """Proves that wake-ups can be sent: sends one that nobody sees, and takes it back. Raises `TryLater`."""

        def there_and_back() -> None:
            # Should the way back fail, it ends by itself, a second after it could have been seen.
            self._queue.delete_message(self._queue.send_message("doctor", visibility_timeout=60, time_to_live=61))

        self._call(there_and_back)

    def _call(self, operation: Any) -> Any:
        from azure.core.exceptions import AzureError, ResourceExistsError

        try:
            with self._lock:
                if not self._ready:
                    with contextlib.suppress(ResourceExistsError):
                        self._queue.create_queue()
                    self._ready = True
            return operation()
        except AzureError as error:
            raise TryLater(f"the storage queue cannot be reached ({type(error).__name__})") from error
