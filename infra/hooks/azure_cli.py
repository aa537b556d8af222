"""What the hooks share: the values of the azd environment, calls of `az`, and how a hook ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Callable  # noqa: UP035, hooks run on the Python at hand, 3.9 or newer


class Stop(Exception):
    """The deployment must not go on; the text says what to do."""


class AzFailed(Exception):
    """What `az` said when it failed."""


def value(name: str) -> str:
    """A value of the azd environment (`azd env set NAME VALUE`, or an output of the template); empty if not set."""
    return os.environ.get(name, "").strip()


def az(*arguments: str, timeout: float = 120) -> str:
    """What `az` prints. Raises `AzFailed` with its error, `Stop` where it is not installed."""
    program = shutil.which("az")
    if not program:
        raise Stop("the Azure CLI is not on the PATH: install it (https://aka.ms/azure-cli), then run `az login`")
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise AzFailed(f"no answer within {timeout:.0f} s") from None
    if done.returncode:
        raise AzFailed(done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout.strip()


def say(text: str) -> None:
    print(text, flush=True)


def run(hook: Callable[[], None]) -> None:
    """Runs a hook and ends the process: 0, or 1 with what to do."""
    try:
        hook()
    except Stop as reason:
        say(f"\nSTOPPED: {reason}")
        sys.exit(1)
    except AzFailed as error:
        say(f"\nSTOPPED: az failed: {error}")
        sys.exit(1)
