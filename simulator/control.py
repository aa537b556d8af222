"""The control host: what a test or a demo in another process may ask of the simulator, as JSON under /_sim.

`POST /_sim/<operation>` with a JSON object of arguments; `GET /_sim/state`, `GET /_sim/calls?since=0`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from simulator import pages
from simulator.core import Call, Request, Response
from simulator.faults import Fault
from simulator.salesforce import Refusal as SalesforceRefusal
from simulator.shape import Refusal

if TYPE_CHECKING:
    from simulator.simulator import Simulator


class Control:
    """Answers the control host. Nothing here goes through the vendors' own checks of tokens, faults or journal."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def handle(self, request: Request) -> Response:
        # The page acts by plain forms, so a page of another site could, too; a browser names the origin of every POST.
        origin = request.headers.get("origin", "")
        if request.method == "POST" and origin and origin.partition("://")[2] != request.headers.get("host"):
            return Response.of(403, {"error": "requests from another origin are refused"})
        if not request.path.startswith("/_sim/"):
            return pages.handle(self._simulator, request)
        operation = request.path.removeprefix("/_sim/")
        try:
            if request.method == "GET":
                return Response.of(200, self._read(operation, request))
            arguments = request.json() if request.body else {}
            return Response.of(200, self._do(operation, arguments))
        except LookupError as error:
            return Response.of(404, {"error": f"not found: {error}"})
        except (Refusal, SalesforceRefusal, TypeError, ValueError, AttributeError) as error:
            return Response.of(400, {"error": str(error)})

    def _read(self, operation: str, request: Request) -> Any:
        if operation == "state":
            return self._simulator.state()
        if operation == "calls":
            since = int(request.parameters().get("since", 0))
            return {
                "position": self._simulator.journal.position(),
                "calls": [_shown(c) for c in self._simulator.journal.calls(since=since)],
            }
        raise LookupError(operation)

    def _do(self, operation: str, arguments: dict[str, Any]) -> Any:
        sim = self._simulator
        operations = {
            name: getattr(sim.people, name)
            for name in (
                "portal_create_deal",
                "portal_edit",
                "microsoft_edits",
                "microsoft_invites",
                "microsoft_accepts",
                "microsoft_declines",
                "microsoft_expires",
            )
        }
        operations |= {
            "make_opportunity": lambda **options: dataclasses.asdict(sim.salesforce.make_deal(**options)),
            "seller_creates": sim.salesforce.person_creates,
            "seller_edits": sim.salesforce.person_edits,
            "seller_deletes": sim.salesforce.person_deletes,
            "advance": sim.advance,
            "fault": lambda **fault: sim.faults.add(Fault(**fault)) and None,
            "clear_faults": sim.faults.clear,
            "latency": sim.faults.latency.update,
            "conduct": lambda **values: _switch(sim.webhooks.conduct, values),
            "partner_center": lambda **values: _switch(sim.partner_center.switches, values),
            "revoke_tokens": sim.entra.revoke,
            "rotate_certificate": sim.certificates.rotate,
        }
        if operation not in operations:
            raise LookupError(operation)
        return operations[operation](**arguments)


def _switch(switches: Any, values: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(switches)}
    if not set(values) <= known:
        raise ValueError(f"known switches: {', '.join(sorted(known))}")
    for name, value in values.items():
        setattr(switches, name, value)
    return dataclasses.asdict(switches)


def _shown(call: Call) -> dict[str, Any]:
    """A call without its headers, which hold tokens."""
    return {
        "host": call.host,
        "method": call.method,
        "path": call.path,
        "query": call.query,
        "status": call.status,
        "at": call.at.isoformat(),
        "mutating": call.mutating,
        "body": call.body.decode("utf-8", "replace") if call.host in ("partner_center", "webhooks") else "",
    }
