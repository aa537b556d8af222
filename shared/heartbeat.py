"""Measures the real path: Partner Center is asked for its test event, and its arrival at our address is timed.

Vendor source: "Validation events" on the "Partner Center webhooks" page of Microsoft's developer documentation; two a minute at most, and
only for a registration that includes `test-created`.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from shared.codecs import parse_instant
from shared.errors import ConnectorError
from shared.notifications import TEST_EVENT
from shared.registration import registered
from shared.state import stamp
from shared.world import World

log = logging.getLogger("cosell")

LOST_AFTER = timedelta(minutes=5)
OFF, NOT_REGISTERED, WAITING, ARRIVED, LOST = "off", "the registration does not include test-created", "waiting", "arrived", "lost"


def beat(world: World) -> None:
    """Asks for a test event when it is time, and says once when one did not arrive. Failing to ask is told by the next `status`."""
    every = timedelta(minutes=world.settings.heartbeat_minutes)
    # A stranger's registration gets no event of ours, and in shadow mode nothing is sent.
    if not every or world.settings.shadow or not world.settings.webhook_callback_url:
        return
    now = world.clock.now()
    last = world.state.flow("heartbeat")
    if last and now - parse_instant(str(last["at"])) < every:
        if last.get("state") == WAITING and state_of(world)["state"] == LOST:
            log.error("the test event that Partner Center was asked for did not arrive: events may not reach this app; run `cosell doctor`")
            world.state.succeeded("heartbeat", {**last, "state": LOST}, at=str(last["at"]))
        return
    try:
        url, events = registered(world.partner_center.registration())
        if url != world.settings.webhook_callback_url:
            return
        if TEST_EVENT not in events:
            world.state.succeeded("heartbeat", {"state": NOT_REGISTERED})
            return
        asked = world.clock.now()
        world.partner_center.send_validation_event()
        world.state.succeeded("heartbeat", {"state": WAITING, "asked": stamp(asked)})
    except ConnectorError as error:
        log.warning("no test event could be asked for: %s", error)


def arrived(world: World) -> None:
    """A test event came in, signed. Whoever asked for it, it proves the path."""
    world.state.succeeded("test_event")


def state_of(world: World) -> dict[str, Any]:
    """`state`, when it was asked for, and the seconds it took."""
    if not world.settings.heartbeat_minutes:
        return {"state": OFF}
    asked, came = world.state.flow("heartbeat"), str(world.state.flow("test_event").get("at", ""))
    since = str(asked.get("asked", ""))
    if not since:
        return {"state": asked.get("state", "not asked yet")}
    if came >= since:
        return {"state": ARRIVED, "asked": since, "seconds": (parse_instant(came) - parse_instant(since)).total_seconds()}
    lost = world.clock.now() - parse_instant(since) > LOST_AFTER
    return {"state": LOST if lost else WAITING, "asked": since}
