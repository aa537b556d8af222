"""A host on a port, in a thread of its own, for code that is not asynchronous."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from devhost.host import Host

ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Served:
    """A running host: its address, and the methods of Host for callers in any thread."""

    url: str
    host: Host
    loop: asyncio.AbstractEventLoop

    def run_timer(self, name: str) -> None:
        """See Host.run_timer."""
        self._wait(self.host.run_timer(name))

    def drain(self, seconds: float = 30) -> None:
        """See Host.drain."""
        self._wait(self.host.drain(seconds))

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result()


@contextmanager
def served(host: Host, port: int = 0) -> Iterator[Served]:
    """Start the host and serve it until the block ends; port 0 takes a free one.

    Raises what Host.start raises, and OSError for a port that is taken.
    """
    listener = listen(port)
    server = web_server(host)
    ready: Future[asyncio.AbstractEventLoop] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(host, server, listener, ready)), name="devhost", daemon=True)
    thread.start()
    try:
        yield Served(f"http://{ADDRESS}:{listener.getsockname()[1]}", host, ready.result())
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def listen(port: int) -> socket.socket:
    """A listening socket of this machine only."""
    return socket.create_server((ADDRESS, port))


def web_server(host: Host) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(host, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5))


async def _serve(host: Host, server: uvicorn.Server, listener: socket.socket, ready: Future[asyncio.AbstractEventLoop]) -> None:
    try:
        async with host:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            ready.set_result(asyncio.get_running_loop())
            await serving
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)
