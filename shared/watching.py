"""Watches the webhook registration: there is one per tenant, so another system can take our events over without a word."""

from __future__ import annotations

import logging
from datetime import timedelta

from shared import polls
from shared.codecs import parse_instant
from shared.errors import ConnectorError
from shared.notifications import REFERRAL_EVENTS
from shared.registration import register, registered
from shared.world import World

log = logging.getLogger("cosell")

EVERY = timedelta(minutes=15)
OURS, PARTLY, NONE, ELSEWHERE = "ours", "ours, but events are missing", "not registered", "taken over by another address"


def watch_registration(world: World) -> str:
    """What the registration is like, looked up at most every quarter of an hour; empty where our own address is not known.

    With WEBHOOK_TAKE_BACK on, a registration that somebody else took over is taken back and the gap is swept at once.
    """
    ours = world.settings.webhook_callback_url
    if not ours:
        return ""
    known = world.state.flows().get("registration", {})
    if known and world.clock.now() - parse_instant(str(known["at"])) < EVERY:
        return str(known.get("state", ""))
    try:
        state = _look(world, ours)
    except ConnectorError as error:
        # Knowing is a help, not a need: deals go on, and the next look is a minute away.
        log.warning("the webhook registration could not be looked up: %s", error)
        return ""
    world.state.succeeded("registration", {"state": state})
    return state


def _look(world: World, ours: str) -> str:
    url, events = registered(world.partner_center.registration())
    if url == ours:
        return OURS if set(REFERRAL_EVENTS) <= set(events) else PARTLY
    state = NONE if url is None else ELSEWHERE
    if state == ELSEWHERE:
        log.error("another system took over the webhook registration: events do not arrive here; see `status`")
        if world.settings.webhook_take_back and not world.settings.shadow:
            register(world.partner_center, world.settings, ours, None, overwrite=True)
            polls.poll_referrals(world)
            log.error("the webhook registration was taken back (WEBHOOK_TAKE_BACK)")
            return f"{OURS} (taken back)"
    return state
