"""What the operator sees: `health` for a probe, `status` for a person and a machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from shared import VERSION, credentials
from shared.brakes import DIRECTIONS
from shared.budgets import FLOW as BUDGET
from shared.codecs import parse_instant
from shared.errors import ConnectorError
from shared.heartbeat import state_of
from shared.mapping_file import Side
from shared.spending import spent_today
from shared.state import Owed
from shared.world import World

log = logging.getLogger("cosell")

LISTED = 200  # parked deals named one by one
FAILING_AFTER = timedelta(minutes=5)  # a vendor that did not answer one poll may answer the next


def health(world: World) -> dict[str, bool]:
    """Whether storage and both sign-ins work and both vendors answer their polls; no details, because strangers may ask.

    No vendor's data is asked for here. A brake that holds is no illness: the app does what it was told to, and nothing is to be restarted.
    """

    def works(check: Callable[[], object]) -> bool:
        try:
            check()
        except ConnectorError:
            return False
        return True

    def answers(side: Side) -> bool:
        try:
            since = world.state.failing_since(side)
        except ConnectorError:
            return True  # storage fails, and is told as such
        return not since or world.clock.now() - parse_instant(since) < FAILING_AFTER

    return {
        "storage": works(lambda: world.state.owed("health")),
        "partner_center": works(lambda: world.partner_center.sign_in()) and answers("partner_center"),
        "salesforce": works(lambda: world.salesforce.sign_in()) and answers("salesforce"),
    }


def status(world: World) -> dict[str, Any]:
    """Pairs in agreement, owed and parked work with reasons, each flow's last success, latencies, calls, registration, credentials."""
    owed = list(world.state.all_owed())
    parked = [one for one in owed if one.parked]
    going = [one for one in owed if not one.parked and not one.held]
    retrying = [one for one in going if one.reason]
    flows = world.state.flows()
    certificate, registration = flows.pop("certificate", {}), flows.pop("registration", {})
    writes = world.state.latencies()
    for name in ("heartbeat", "test_event", credentials.FLOW):
        flows.pop(name, None)
    calls = max((one for one in flows.values() if "salesforce_api_calls" in one), key=lambda one: str(one["at"]), default={})
    flows.pop(BUDGET, None)
    known = credentials.known(world)
    refresh_token = next((one.expires for one in known if one.what == credentials.REFRESH_TOKEN), None)
    return {
        "version": VERSION,
        "mode": world.settings.sync_mode,
        "org": _org(world),
        "pairs": certificate,
        "owed": {
            "count": len(going),
            "oldest_due": min((one.due for one in going), default=None),
            "retrying": [{"name": one.name, "reason": one.reason, "attempts": one.attempts, "due": one.due} for one in retrying[:LISTED]],
        },
        "parked": {"count": len(parked), "deals": [{"name": one.name, "reason": one.parked} for one in parked[:LISTED]]},
        "brakes": brakes(world, owed),
        "salesforce_budget": world.budget.report(),
        "flows": {name: {key: value for key, value in one.items() if key != "salesforce_api_calls"} for name, one in flows.items()},
        "latency_seconds": _percentiles([one.get("seconds") for one in writes]),
        "freshness_seconds": _percentiles([one.get("edited") for one in writes]),
        "last_write": max((str(one.get("at")) for one in writes), default=None),
        "calls_today": spent_today(world),
        "heartbeat": state_of(world),
        "salesforce_api_calls": calls.get("salesforce_api_calls"),
        "registration": registration or None,
        "credentials": {
            "partner_center_refresh_token_expires": refresh_token,
            "list": [asdict(one) for one in known],
            "sign_ins": credentials.sign_ins(world),
        },
    }


def brakes(world: World, owed: Sequence[Owed]) -> dict[str, dict[str, Any]]:
    """By direction: since when the brake holds it (None where it does not), writes within an hour, their limit, and deals that wait."""
    found = {}
    for side, direction in DIRECTIONS.items():
        brake = world.brakes.look(side)
        waiting = sum(side in one.held for one in owed)
        found[direction] = {"held_since": brake.held_since or None, "writes": brake.writes, "limit": brake.limit, "waiting": waiting}
    return found


def _org(world: World) -> dict[str, Any]:
    """What the org lacks of the mapping; what is wrong where it cannot be used at all."""
    try:
        return {"warnings": list(world.org.shape.warnings)}
    except ConnectorError as error:
        return {"error": str(error)}


def _percentiles(raw: list[Any]) -> dict[str, float] | None:
    values = sorted(float(one) for one in raw if one is not None)
    if not values:
        return None
    return {f"p{share}": values[min(len(values) - 1, len(values) * share // 100)] for share in (50, 95)} | {"samples": len(values)}


def health_answer(world: Callable[[], World]) -> tuple[int, dict[str, Any]]:
    """200 or 503."""
    try:
        parts = health(world())
    except ConnectorError as error:
        log.error("the app cannot start: %s", error)
        parts = {}
    well = bool(parts) and all(parts.values())
    if not well:
        log.error("not healthy: %s", ", ".join(name for name, works in parts.items() if not works) or "settings")
    return (200, {"status": "ok"}) if well else (503, {"status": "failing"})


def status_answer(world: Callable[[], World]) -> tuple[int, dict[str, Any]]:
    """200, or 503 with what must be changed."""
    try:
        return 200, status(world())
    except ConnectorError as error:
        return 503, {"error": str(error)}
