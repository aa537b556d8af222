"""The command that registers for Partner Center's events."""

from __future__ import annotations

import json
from dataclasses import asdict

from cosell.app import Context
from cosell.terminal import FINE, FOUND
from shared import registration
from shared.errors import Misconfigured
from shared.notifications import REFERRAL_EVENTS, TEST_EVENT
from shared.validation import validate

EXAMPLES = """\
register
register --callback-url https://NAME.azurewebsites.net/api/partner-center-to-salesforce --overwrite --apply
register --validate --apply"""


def register(context: Context) -> int:
    """Registers the connector's address for Partner Center's referral events. Shows what would change hands; does it with --apply.

    A partner tenant has one registration for all its systems. Other systems' events are kept, and a registration
    that exists is only replaced with --overwrite. With --validate the registration includes Partner Center's test event, which the
    heartbeat needs, and one is asked for at once.
    """
    world, terminal = context.world, context.terminal
    url = context.arguments.callback_url or world.settings.webhook_callback_url
    if not url:
        raise Misconfigured("where should the events go? give --callback-url, or set WEBHOOK_CALLBACK_URL")
    overwrite = context.arguments.overwrite
    # Through the request, so that an address is judged here as it is by the function.
    registration.RegistrationRequest.read(json.dumps({"callback_url": url}).encode())
    events = (*REFERRAL_EVENTS, TEST_EVENT) if context.arguments.validate else None
    current, supported = world.partner_center.registration(), world.partner_center.supported_events()
    plan = registration.plan_registration(current, supported, url, events, overwrite)
    terminal.say(str(plan))
    if plan.action == "none" and not (context.arguments.validate and context.arguments.apply):
        terminal.tell({"plan": asdict(plan)})
        return FINE
    if plan.action == "refused" or not context.arguments.apply:
        terminal.tell({"plan": asdict(plan)})
        terminal.say("nothing was registered; " + ("--overwrite allows it" if plan.action == "refused" else "--apply does it"))
        return FOUND
    terminal.progress("registering …")
    done = registration.register(world.partner_center, world.settings, url, events, overwrite)
    terminal.say(f"registered: {', '.join(done['now']['events'])}")
    if context.arguments.validate:
        terminal.progress("waiting for the test event …")
        done["validation"] = validate(world.partner_center, world.clock)
        terminal.say(f"test event: {done['validation']['status']}: {done['validation']['why']}")
    terminal.tell({"plan": asdict(plan), "done": done})
    return FINE if done.get("validation", {}).get("status", "delivered") == "delivered" else FOUND
