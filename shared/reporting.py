"""What the operator sees: `health` for a probe, `status` for a person and a machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from shared import VERSION
from shared.errors import ConnectorError
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
    """Pairs in agreement, owed and parked work with reasons, each flow's last success, latencies, calls, registration, credentials."""
    owed = list(world.state.all_owed())
    parked = [one for one in owed if one.parked]
    retrying = [one for one in owed if one.reason and not one.parked]
    flows = world.state.flows()
    certificate, registration = flows.pop("certificate", {}), flows.pop("registration", {})
    calls = max((one for one in flows.values() if "salesforce_api_calls" in one), key=lambda one: str(one["at"]), default={})
    expiry = world.partner_center.credential_expires_at
    return {
        "version": VERSION,
        "mode": world.settings.sync_mode,
        "org": _org(world),
        "pairs": certificate,
        "owed": {
            "count": len(owed) - len(parked),
            "oldest_due": min((one.due for one in owed if not one.parked), default=None),
            "retrying": [{"name": one.name, "reason": one.reason, "attempts": one.attempts, "due": one.due} for one in retrying[:LISTED]],
        },
        "parked": {"count": len(parked), "deals": [{"name": one.name, "reason": one.parked} for one in parked[:LISTED]]},
        "flows": {name: {key: value for key, value in one.items() if key != "salesforce_api_calls"} for name, one in flows.items()},
        "latency_seconds": _percentiles(world.state.latencies()),
        "salesforce_api_calls": calls.get("salesforce_api_calls"),
        "registration": registration or None,
        "credentials": {"partner_center_refresh_token_expires": expiry.isoformat() if expiry else None},
    }


def _org(world: World) -> dict[str, Any]:
    """What the org lacks of the mapping; what is wrong where it cannot be used at all."""
    try:
        return {"warnings": list(world.org.shape.warnings)}
    except ConnectorError as error:
        return {"error": str(error)}


def _percentiles(values: list[float]) -> dict[str, float] | None:
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
