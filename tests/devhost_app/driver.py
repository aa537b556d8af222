"""Serves the sample app in a process of its own, since a process can hold only one app. Prints its address; `/_` tells it what to do."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from devhost.host import Host
from devhost.served import served

HERE = Path(__file__).parent


class Driven(Host):
    """A host that also answers `/_/timer`, `/_/drain` and `/_/seen`."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if not scope["path"].startswith("/_/"):
            return await super().__call__(scope, receive, send)
        import function_app

        if scope["path"] == "/_/timer":
            await self.run_timer("tick", past_due=True)
        if scope["path"] == "/_/drain":
            await self.drain()
        body = json.dumps({"messages": function_app.messages, "ticks": function_app.ticks}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    with served(Driven(HERE, timers=False, queues=False, function_key=os.environ["FUNCTION_KEY"])) as app:
        print(app.url, flush=True)
        sys.stdin.read()
