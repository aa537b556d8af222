"""One instance of the app in a process of its own, with a clock that may be wrong and times short enough for many stories.

It is forked from a process that has imported everything already, so that a killed instance is back in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.data.tables
import azure.storage.queue
import httpx
import jwt
import msal
import requests
import simple_salesforce

from chaos.planted import BUGS
from devhost.host import Host
from devhost.served import served
from devhost.worker import FunctionFailed
from shared import composition, creation, polls, receiving, reconciling, watching  # noqa: F401 - imported before the fork
from shared.clock import Clock

PRELOADED = (azure.data.tables, azure.storage.queue, jwt, msal, simple_salesforce)
ROOT = Path(__file__).resolve().parent.parent

# A claim is good for a minute in the product; nobody wants to wait that long here. The margin of the settings comes on top.
CLAIM_SECONDS = 5.0


def live(name: str, settings: dict[str, str], skew: float, jumped: Any, pipe: Any, bug: str, log: str) -> None:
    """Runs until the pipe or the parent ends. Runs every timer once, but those whose names come down the pipe, and answers with failures."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends everybody
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(settings)
    logging.basicConfig(filename=log, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True)
    for noisy in ("azure", "azure.core", "httpx", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    Clock.now = lambda self: datetime.now(UTC) + timedelta(seconds=skew + jumped.value)  # type: ignore[method-assign]
    Clock.monotonic = lambda self: time.monotonic() + jumped.value  # type: ignore[method-assign]
    creation.CLAIM_SECONDS = CLAIM_SECONDS
    _sign(httpx.Client, name)
    _sign(requests.Session, name)
    if bug:
        BUGS[bug](setattr)
    with served(Host(ROOT)) as app:
        pipe.send(app.url)
        with contextlib.suppress(EOFError, OSError):
            while True:
                left_out = pipe.recv()
                failed = []
                for timer in (name for name in app.host.timers if name not in left_out):
                    try:
                        app.run_timer(timer)
                    except FunctionFailed as error:
                        failed.append(f"{timer}: {str(error).splitlines()[0]}")
                pipe.send(failed)
    os._exit(0)


def _sign(client: type[Any], name: str) -> None:
    """Every request says whose it is, so that a fault can kill its sender."""
    begin = client.__init__

    def __init__(self: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807
        begin(self, *arguments, **options)
        self.headers["X-Instance"] = name

    client.__init__ = __init__


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)
