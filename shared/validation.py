"""Tries the webhook registration out: Partner Center sends a `test-created` event, and tells how each attempt to deliver it went.

Vendor source: "Validation events" on the "Partner Center webhooks" page of Microsoft's developer documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from shared.clock import Clock
from shared.codecs import parse_instant
from shared.errors import ConnectorError, Gone, TryLater
from shared.partner_center_answers import canonical_keys
from shared.state import stamp

if TYPE_CHECKING:
    from shared.partner_center import PartnerCenter

Status = Literal["delivered", "failed", "late", "not asked"]

PATIENCE = 30.0  # seconds, for an HTTP caller who waits
PAUSE = 2.0
# Names of HTTP statuses; that the address's answer is told by name is seen in the documented sample alone.
_TAKEN = frozenset({"ok", "created", "accepted", "nocontent", "200", "201", "202", "204"})


def validate(partner_center: PartnerCenter, clock: Clock) -> dict[str, Any]:
    """Asks for a validation event and waits for its result, about half a minute at most. Never raises for a vendor's failure.

    `status` is `delivered`, `failed`, `late` (no final result yet) or `not asked`; `attempts` has one `{code, message, at}` for each
    delivery so far, with the answer of the registered address.
    """
    begun = clock.monotonic()
    try:
        correlation_id = partner_center.send_validation_event()
    except TryLater as error:
        # 429 is turned away at the gate and says when to come again.
        limit = "; Partner Center takes two requests a minute" if error.certain and error.retry_after is not None else ""
        return not_asked(f"{error}{limit}")
    except ConnectorError as error:
        return not_asked(str(error))
    result: Mapping[str, Any] = {}
    trouble = ""
    while clock.monotonic() - begun < PATIENCE:
        clock.sleep(PAUSE)
        try:
            result, trouble = canonical_keys(partner_center.validation_result(correlation_id)), ""
        except (TryLater, Gone) as error:
            # The result may not be there yet.
            trouble = str(error)
            continue
        except ConnectorError as error:
            return _outcome("late", result, str(error))
        attempts = _attempts(result)
        if any(one["code"].lower() in _TAKEN for one in attempts):
            return _outcome("delivered", result, "the registered address took the event")
        if str(result.get("Status")).lower() == "completed":
            return _outcome("failed", result, "the registered address did not take the event")
    word = f"Partner Center's status is {result['Status']!r}" if result.get("Status") else "Partner Center has no result"
    return _outcome("late", result, trouble or f"{word} after {PATIENCE:.0f} seconds; it may still be delivered")


def not_asked(why: str) -> dict[str, Any]:
    """The report where no event was asked for."""
    return _outcome("not asked", {}, why)


def _outcome(status: Status, result: Mapping[str, Any], why: str) -> dict[str, Any]:
    return {"status": status, "attempts": _attempts(result), "why": why}


def _attempts(result: Mapping[str, Any]) -> list[dict[str, str]]:
    found = []
    for one in result.get("Results") or []:
        entry = canonical_keys(one) if isinstance(one, Mapping) else {}
        message = str(entry.get("ResponseMessage") or ("no answer from the address" if entry.get("SystemError") else ""))
        found.append({"code": str(entry.get("ResponseCode") or ""), "message": message, "at": _instant(entry.get("DateTimeUtc"))})
    return found


def _instant(raw: Any) -> str:
    """The attempt's time in UTC; the vendor leaves the zone out."""
    try:
        return stamp(parse_instant(str(raw)))
    except ValueError:
        return str(raw or "")
