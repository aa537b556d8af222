"""The app's state in numbers, one log line a minute: what alerts and the workbook ask (docs/operations.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared import correlation
from shared.codecs import parse_instant
from shared.errors import TryLater
from shared.reporting import status
from shared.watching import OURS, PARTLY
from shared.world import World

OFTEN = 3  # a deal that failed this often in a row counts as an error


def pulse(world: World) -> dict[str, Any]:
    """Numbers only. -1 stands for what is not known."""
    found, now = status(world), world.clock.now()
    owed, calls, freshness = found["owed"], found["salesforce_api_calls"] or {}, found["freshness_seconds"] or {}
    expires = found["credentials"].get("partner_center_refresh_token_expires")
    sign_ins = found["credentials"]["sign_ins"]
    registration = str((found["registration"] or {}).get("state", ""))
    return {
        "owed": owed["count"],
        "oldest_owed_seconds": max(0, _seconds(owed["oldest_due"], now)) if owed["oldest_due"] else 0,
        "parked": found["parked"]["count"],
        "poison": _poisoned(world),
        "errors": sum(one["attempts"] >= OFTEN for one in owed["retrying"]),
        "last_write_seconds": _seconds(found["last_write"], now) if found["last_write"] else -1,
        "freshness_p50": freshness.get("p50", -1),
        "freshness_p95": freshness.get("p95", -1),
        "heartbeat_seconds": found["heartbeat"].get("seconds", -1),
        "heartbeat_lost": int(found["heartbeat"]["state"] == "lost"),
        "registration_ok": int(registration.startswith(OURS) and registration != PARTLY) if registration else -1,
        "signed_in": int(all(one["state"] == "ok" for one in sign_ins.values())) if sign_ins else -1,
        "refresh_token_days_left": max(0.0, round(-_seconds(expires, now) / 86_400, 1)) if expires else -1,
        "salesforce_api_percent": round(100 * calls["used"] / calls["limit"], 1) if calls.get("limit") else -1,
        "held": sum(bool(one["held_since"]) for one in found["brakes"].values()),
        "shadow": int(world.settings.shadow),
    }


def tell(world: World) -> None:
    """The line `cosell.status`."""
    correlation.tell("cosell.status", **pulse(world))


def _poisoned(world: World) -> int:
    try:
        return world.waker.poisoned()
    except TryLater:
        return -1


def _seconds(at: str, now: datetime) -> float:
    return round((now - parse_instant(at)).total_seconds(), 1)
