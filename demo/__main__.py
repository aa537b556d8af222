"""`python -m demo`: every scenario live, narrated, on this machine; it ends by itself, with 1 if a promise was not kept."""

from __future__ import annotations

import argparse
import collections
import logging
import signal
import sys
import threading
import time
from contextlib import suppress

from demo.stage import EVERY_SECOND, Stage, StoryFailed, on_stage
from demo.stories import STORIES
from demo.telling import Teller
from devhost.azurite import AzuriteFailed
from devhost.settings import BadSettings
from devhost.worker import FunctionFailed, LoadFailed

TEACH = """\
Starts storage (Azurite), a strict simulator of Partner Center and Salesforce over HTTPS, and the real function app on Microsoft's
worker library; registers the webhook; then tells what happens to a deal that begins in Salesforce, to one that begins in Partner Center,
to invitations that are accepted and declined, and to solutions that come and go. After each story every timer runs again, and nothing may be written. No account is needed, nothing leaves this machine.

examples:
  python -m demo                           all stories, under a minute
  python -m demo accept solutions          some of them
  python -m demo --stay                    afterwards keep everything running: edit either side in a browser and watch it arrive
  python -m demo --verbose 2>demo.log      with the app's own log
"""

log_lines: collections.deque[str] = collections.deque(maxlen=25)


def main() -> int:
    options = arguments()
    listen_to_the_app(options.verbose)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that everything is stopped
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that has no check mark
    started = time.monotonic()
    try:
        # The Salesforce polls run every second here, every 15 by default; everything else is as shipped.
        with on_stage({"SALESFORCE_POLL_SCHEDULE": EVERY_SECOND, "SOLUTIONS_POLL_SCHEDULE": EVERY_SECOND}) as stage:
            tell = Teller()
            introduce(stage, tell, time.monotonic() - started)
            began = time.monotonic()
            for number, (name, story) in enumerate(STORIES.items(), 1):
                if not options.story or name in options.story:
                    tell.title(f"Scenario {number}: {story.__doc__}")
                    story(stage, tell)
            print(f"\nEverything arrived as promised, and then it was quiet. {time.monotonic() - began:.0f} s in all.", flush=True)
            if options.stay:
                stay(stage)
    except (StoryFailed, AzuriteFailed, BadSettings, LoadFailed, FunctionFailed) as error:
        print(f"\nNot as promised: {error}", flush=True)
        if log_lines and not options.verbose:
            print("\nThe last lines of the log:\n" + "\n".join(log_lines), file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
        return 130
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m demo", description=TEACH, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("story", nargs="*", help=f"which to tell: {', '.join(STORIES)} (default: all)")
    parser.add_argument("--stay", action="store_true", help="keep everything running after the stories, until Ctrl-C")
    parser.add_argument("--verbose", action="store_true", help="show the app's log on standard error")
    options = parser.parse_args()
    if unknown := [name for name in options.story if name not in STORIES]:
        parser.error(f"there is no story {', '.join(unknown)}; there are {', '.join(STORIES)}")
    return options


def listen_to_the_app(verbose: bool) -> None:
    """The log goes to standard error if asked for; else its end is kept for the case that something fails."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log_lines.append(self.format(record))

    handler: logging.Handler = logging.StreamHandler() if verbose else Keep()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S", handlers=[handler]
    )
    for noisy in ("azure", "azure.core", "azure.functions", "httpx", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def introduce(stage: Stage, tell: Teller, seconds: float) -> None:
    print("One deal, both ways: Microsoft Partner Center and Salesforce kept in agreement\n", flush=True)
    registered = stage.register()
    rows = [
        ("the connector", f"the function app on Microsoft's Python worker library, {stage.app.url}"),
        ("storage", "Azurite, Microsoft's storage emulator: tables and queues"),
        ("the vendors", "a strict simulator of Partner Center and Salesforce, over HTTPS"),
        ("the webhook", f"registered just now for {', '.join(registered['now']['events'])}"),
        ("polling", "Salesforce is asked every second here (every 15 by default)"),
        ("to watch", f"{stage.page} shows both records side by side (accept the certificate: it was made just now)"),
    ]
    tell.facts(rows, indent=2)
    print(f"\nAll of it was up after {seconds:.1f} s. Times below count from the click to the other side's answer.", flush=True)


def stay(stage: Stage) -> None:
    """Until Ctrl-C. Each write the app makes is told, so that a person sees in the terminal what arrives in the browser."""
    print(f"\nStill running. Open {stage.page} and edit either side; Ctrl-C ends it. Writes to the vendors:\n", flush=True)
    position = stage.sim.journal.position()
    with suppress(KeyboardInterrupt):
        while True:
            threading.Event().wait(0.5)
            calls = stage.sim.journal.calls(since=position)
            position += len(calls)
            for call in (one for one in calls if one.mutating):
                print(f"  {call.at:%H:%M:%S}  {call.host:14}  {call.method:5}  {call.status}  {call.body.decode()[:200]}", flush=True)
    print("\nStopped.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
