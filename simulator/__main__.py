"""`python -m simulator`: Partner Center, Entra and Salesforce on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from pathlib import Path

from simulator.server import serve
from simulator.simulator import Simulator

TEACH = """\
Plays Microsoft Partner Center (referrals and webhooks), Entra ID and Salesforce over HTTPS on 127.0.0.1: strictly, with a memory,
with no account anywhere. Open the page it prints to see both records of every deal side by side and to edit either; accept the
browser's warning, the certificate is made at start.

The connector needs the settings it prints (or --env FILE, in KEY=VALUE lines). From another process:

  curl -k -X POST CONTROL/_sim/portal_create_deal -d '{"name": "Fabrikam migration", "help_code": "QuotesOrLicensing"}'
  curl -k -X POST CONTROL/_sim/microsoft_accepts -d '{"id": "..."}'
  curl -k -X POST CONTROL/_sim/fault -d '{"host": "partner_center", "status": 429, "retry_after": 2, "count": 3}'
  curl -k -X POST CONTROL/_sim/conduct -d '{"duplicates": 2, "reorder": true}'
  curl -k CONTROL/_sim/state
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=TEACH, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="first of six ports in a row; default: free ones")
    parser.add_argument("--env", type=Path, help="write the connector's settings to this file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # ends the server and removes its files
    with serve(Simulator(), arguments.port) as running, contextlib.suppress(KeyboardInterrupt):
        text = "".join(f"{name}={value}\n" for name, value in running.environment().items())
        if arguments.env:
            arguments.env.write_text(text)
        print(text)
        print(f"Open {running.urls['control']}/ in a browser. Ctrl-C ends it.", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
