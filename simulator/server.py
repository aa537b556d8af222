"""HTTPS in front of the simulator: one free port per host on 127.0.0.1, a certificate authority made at start."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import httpx
import trustme
import uvicorn

from simulator import mount
from simulator.core import ConnectionCut, Host, Request
from simulator.simulator import Simulator

HOSTS: tuple[Host, ...] = get_args(Host)
DELIVERIES_AT_ONCE = 4


@dataclass(frozen=True)
class Running:
    """A simulator that listens."""

    simulator: Simulator
    urls: Mapping[Host, str]
    ca_file: str
    roots_file: str

    def environment(self, private_key: bool = False) -> dict[str, str]:
        """The settings a connector in another process needs, the certificate authority included; see `mount.environment`."""
        ca = {"SSL_CERT_FILE": self.ca_file, "REQUESTS_CA_BUNDLE": self.ca_file}
        return {**mount.settings(self.simulator, self.urls, self.roots_file, private_key), **ca}


@contextlib.contextmanager
def serve(simulator: Simulator, port: int = 0, deliver: bool = True) -> Iterator[Running]:
    """Serves until the block ends: on `port` and the five after it, or on free ports; delivers events unless told not to."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        authority = trustme.CA()
        ca_file, key_file, roots_file = (str(Path(folder) / name) for name in ("ca.pem", "server.pem", "roots.pem"))
        authority.cert_pem.write_to_path(ca_file)
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(key_file)
        Path(roots_file).write_text(simulator.certificates.roots_pem())
        sockets = [stack.enter_context(_listen(port + number if port else 0)) for number in range(len(HOSTS))]
        ports: dict[int, Host] = {bound.getsockname()[1]: host for bound, host in zip(sockets, HOSTS, strict=True)}
        urls: dict[Host, str] = {host: f"https://127.0.0.1:{number}" for number, host in ports.items()}
        running = Running(simulator, urls, ca_file, roots_file)
        running.environment()  # from now on the simulator names these addresses
        config = uvicorn.Config(
            _App(simulator, ports),
            ssl_certfile=key_file,
            log_level="warning",
            access_log=False,
            lifespan="off",
            date_header=False,  # the simulator's clock speaks
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, name="simulator", daemon=True)
        thread.start()
        stack.callback(_stop, server, thread)
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the simulator's server did not start")
            time.sleep(0.01)
        if deliver:
            stack.enter_context(_delivering(simulator, ca_file))
        yield running


def _listen(port: int) -> socket.socket:
    # The protocol is named because asyncio turns Nagle's algorithm off only then; with it, every answer takes 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _stop(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = server.force_exit = True
    for connection in list(server.server_state.connections):
        # A TLS connection that a client keeps alive would hold up the end for half a minute.
        connection.loop.call_soon_threadsafe(connection.transport.abort)
    thread.join(10)


@contextlib.contextmanager
def _delivering(simulator: Simulator, ca_file: str) -> Iterator[None]:
    """Posts due events in the background, a few at once, as separate senders would."""
    ended = threading.Event()

    def send(client: httpx.Client) -> None:
        def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
            try:
                return client.post(url, headers=dict(headers), content=body).status_code
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise ConnectionError(str(error)) from error

        while not ended.is_set():
            if not simulator.deliver(post, limit=1):
                ended.wait(0.05)

    context = ssl.create_default_context(cafile=ca_file)
    with httpx.Client(verify=context, timeout=30, trust_env=False) as client, ThreadPoolExecutor(DELIVERIES_AT_ONCE) as pool:
        for _ in range(DELIVERIES_AT_ONCE):
            pool.submit(send, client)
        try:
            yield
        finally:
            ended.set()


class _App:
    """The ASGI shell: which port was called says which host was meant."""

    def __init__(self, simulator: Simulator, ports: Mapping[int, Host]) -> None:
        self._simulator, self._ports = simulator, ports

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, query = scope["raw_path"].decode("ascii"), scope["query_string"].decode("ascii")
        request = Request(self._ports[scope["server"][1]], scope["method"], path, query, headers, body)
        fault = self._simulator.faults.take(request)
        await asyncio.sleep(self._simulator.pause(request, fault))
        try:
            # In a thread, because an action of a fault, or a sleeping test that holds the lock, must not stop the other calls.
            answer = await asyncio.to_thread(self._simulator.answer, request, fault)
        except ConnectionCut:
            # ASGI has no word for it; uvicorn's request cycle, which `receive` belongs to, knows the connection.
            receive.__self__.transport.abort()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        fields.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body})
