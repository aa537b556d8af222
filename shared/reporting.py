"""What the operator sees: `health` for a probe, `status` for a person and a machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from shared.errors import ConnectorError
from shared.state import Pair
from shared.world import World

log = logging.getLogger("cosell")

LISTED = 200  # parked deals named one by one


def health(world: World) -> dict[str, bool]:
    """Whether storage and both sign-ins work; no details, because strangers may ask."""

    def works(check: Callable[[], object]) -> bool:
        try:
            check()
        except ConnectorError:
            return False
        return True

    return {
        "storage": works(lambda: world.state.owed("health")),
        "partner_center": works(lambda: world.partner_center.sign_in()),
        "salesforce": works(lambda: world.salesforce.sign_in()),
    }


def status(world: World) -> dict[str, Any]:
    """Pairs in agreement, owed and parked work with reasons, and when each flow last ended well."""
    owed = list(world.state.all_owed())
    parked = [one for one in owed if one.parked]
    flows = world.state.flows()
    certificate = flows.pop("certificate", {})
    usage = world.salesforce.api_usage
    return {
        "mode": world.settings.sync_mode,
        "pairs": {"in_agreement": certificate.get("in_agreement"), "as_of": certificate.get("at"), "certificate": certificate},
        "owed": {
            "count": len(owed) - len(parked),
            "oldest_due": min((one.due for one in owed if not one.parked), default=None),
            "retrying": [
                {"name": one.name, "reason": one.reason, "attempts": one.attempts, "due": one.due}
                for one in owed
                if one.reason and not one.parked
            ][:LISTED],
        },
        "parked": {"count": len(parked), "deals": [{"name": one.name, "reason": one.parked} for one in parked[:LISTED]]},
        "flows": flows,
        "salesforce_api_calls": {"used": usage[0], "limit": usage[1]} if usage else None,
        "pair_count": sum(isinstance(link, Pair) for link in world.state.links()) if certificate == {} else None,
    }


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
