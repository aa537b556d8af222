"""`python -m devhost`: run the function app on this machine, without `func`."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from devhost.azurite import Azurite, AzuriteFailed
from devhost.host import STORAGE, Host
from devhost.served import ADDRESS, listen, web_server
from devhost.settings import BadSettings, read_values
from devhost.worker import LoadFailed

EPILOG = """\
examples:
  python -m devhost --azurite              storage of its own, in memory: every start begins empty
  python -m devhost --storage .azurite     storage of its own, kept in that folder
  python -m devhost                        storage as AzureWebJobsStorage says
  curl http://127.0.0.1:7071/api/health    ask the app how it is

App settings come from local.settings.json, or else from local.settings.sample.json; what the environment already holds wins.
The functions run in Microsoft's own worker library; routes, timers, queues, retries and the poison queue behave as in Azure.
With Azure Functions Core Tools installed, `func start` runs the same folder.
"""


def main() -> int:
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
    for noisy in ("azure.core", "azure.functions", "httpx", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # unwinds, so that Azurite is stopped too
    app_dir = options.app.resolve()
    try:
        values = read_values(options.settings or first_existing(app_dir / "local.settings.json", app_dir / "local.settings.sample.json"))
        with contextlib.ExitStack() as stack:
            if options.azurite or options.storage:
                os.environ[STORAGE] = stack.enter_context(Azurite(options.storage)).connection_string
            for name, value in values.items():
                if value:  # an empty SSL_CERT_FILE would trust nobody
                    os.environ.setdefault(name, value)
            os.chdir(app_dir)
            status = options.storage / "timers.json" if options.storage else None
            asyncio.run(run(Host(app_dir, function_key=options.key, timer_status=status), options.port))
    except (BadSettings, LoadFailed, AzuriteFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"port {options.port} cannot be used: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m devhost", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=7071, help="port on this machine (default 7071, as `func` has it)")
    storage = parser.add_mutually_exclusive_group()
    storage.add_argument("--azurite", action="store_true", help="start a storage emulator that forgets everything at the end")
    storage.add_argument("--storage", type=lambda text: Path(text).resolve(), metavar="DIR", help="start one that keeps its data in DIR")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="app settings, in the form of local.settings.json")
    parser.add_argument("--key", help="ask for this function key, as Azure would (default: ask for none, as `func` does)")
    parser.add_argument("--app", type=Path, default=Path(), metavar="DIR", help="folder of function_app.py (default: this one)")
    return parser.parse_args()


def first_existing(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[-1])


async def run(host: Host, port: int) -> None:
    with listen(port) as listener:
        async with host:
            print("\n".join(overview(host, port)), flush=True)
            await web_server(host).serve(sockets=[listener])


def overview(host: Host, port: int) -> list[str]:
    """What runs, one line for each function."""
    routes = [
        (route.function.name, ",".join(sorted(route.methods)) or "any", f"http://{ADDRESS}:{port}{route.template}") for route in host.routes
    ]
    now = datetime.now(UTC)
    timers = [
        (timer.name, "timer", f"{timer.schedule.expression}, next {timer.schedule.next(now):%H:%M:%S} UTC")
        for timer in host.timers.values()
    ]
    queues = [(trigger.name, "queue", trigger.queue.name) for trigger in host.queue_triggers.values()]
    rows = routes + timers + queues
    width = max(len(name) for name, _, _ in rows)
    return ["", *(f"  {name:{width}}  {kind:5}  {detail}" for name, kind, detail in rows), "", "Ctrl-C stops it.", ""]


if __name__ == "__main__":
    sys.exit(main())
