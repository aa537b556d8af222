"""What arrives over HTTP: events, pushes and the request to register. Each answer is a status and a JSON body.

An event or a push only marks a record as owed: no vendor is called, no link is looked up, nothing is de-duplicated, because marking
twice is marking once. The mark is durable before the answer is 200.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from shared import heartbeat, outbound_messages
from shared.certificates import Certificates
from shared.errors import ConnectorError, Refused, TryLater
from shared.notifications import MAXIMUM_BODY, TEST_EVENT, BadSignature, NotAnEvent, parse
from shared.pairing import is_lead_id, is_opportunity_id, lead_name, opportunity_name, referral_name
from shared.run import wake
from shared.world import World

log = logging.getLogger("cosell")

Answer = tuple[int, dict[str, Any]]

_NAME = re.compile(r"pc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|sf-(006|00Q)[a-zA-Z0-9]{15}")
MOST_IDS = 200  # of one push; Salesforce sends at most this many records in one transaction


def is_record_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def partner_center_event(
    world: Callable[[], World], certificates: Callable[[], Certificates], headers: Mapping[str, str], raw: bytes
) -> Answer:
    """200 marked (or nothing to do), 400 not an event, 401 signature, 503 could not be stored."""
    if len(raw) > MAXIMUM_BODY:
        return 400, {"error": f"the body is larger than {MAXIMUM_BODY} bytes"}
    if not raw:
        return 400, {"error": "the body is empty; send it with a Content-Length"}
    try:
        certificates().authenticate(headers, raw)
        event = parse(raw)
        if event.name.lower() == TEST_EVENT:
            heartbeat.arrived(world())
        if event.referral_id is None:
            return 200, {"accepted": False, "reason": f"{event.name[:100]} asks for no work"}
        whole = world()
        name = referral_name(event.referral_id)
        whole.state.mark(name)
    except BadSignature as error:
        log.warning("an event was refused: %s", error)
        return 401, {"error": "the signature is missing or wrong"}
    except NotAnEvent as error:
        return 400, {"error": str(error)}
    except ConnectorError as error:
        log.error("an event could not be stored: %s", error)
        return 503, {"error": "the event could not be stored; send it again"}
    wake(whole, name)
    return 200, {"accepted": True}


def salesforce_push(world: Callable[[], World], headers: Mapping[str, str], raw: bytes, secret: str = "") -> tuple[int, Any]:
    """Ids of what changed: JSON `{"ids": [...]}` with the shared secret in `x-cosell-secret`, or an outbound message.

    An outbound message can carry no header: its address has the secret (`?secret=`), and its answer is XML. With SALESFORCE_ORG_ID set,
    the message, or `organization_id` beside the ids, has to name that org.
    """
    try:
        whole = world()
    except ConnectorError as error:
        log.error("a push could not be stored: %s", error)
        return 503, {"error": "the push could not be stored; send it again"}
    known = whole.settings.salesforce_push_secret
    given = next((value for name, value in headers.items() if name.lower() == "x-cosell-secret"), secret)
    if not known or not hmac.compare_digest(given.encode(), known.encode()):
        return 401, {"error": "the shared secret is missing or wrong, or pushes are off"}
    if len(raw) > MAXIMUM_BODY:
        return 400, {"error": f"the body is larger than {MAXIMUM_BODY} bytes"}
    try:
        push = outbound_messages.parse(raw) if outbound_messages.looks_like_one(raw) else _json_push(raw)
    except outbound_messages.NotAMessage as error:
        return 400, {"error": str(error)}
    org = whole.settings.salesforce_org_id
    if org and push.organization_id[:15] != org[:15]:
        log.warning("a push of another org was refused")
        return 401, {"error": "the push does not name the org that is expected here"}
    from_message = outbound_messages.looks_like_one(raw)
    ids = [one for one in push.ids if is_opportunity_id(one) or is_lead_id(one)]
    # The id of a solution row says nothing here, its opportunity's does; a sender of JSON named each id on purpose.
    wrong = [] if from_message else [one for one in push.ids if one not in ids]
    if wrong or not ids or len(ids) > MOST_IDS:
        return 400, {"error": f"give 1 to {MOST_IDS} ids of opportunities or leads", "neither": [str(one)[:40] for one in wrong[:10]]}
    try:
        names = list(dict.fromkeys(opportunity_name(one) if is_opportunity_id(one) else lead_name(one) for one in ids))
        for name in names:
            whole.state.mark(name)
    except TryLater as error:
        log.error("a push could not be stored: %s", error)
        return 503, {"error": "the push could not be stored; send it again"}
    for name in names:
        wake(whole, name)
    return 200, outbound_messages.ACKNOWLEDGED if from_message else {"accepted": len(names)}


def _json_push(raw: bytes) -> outbound_messages.OutboundMessage:
    try:
        body = json.loads(raw)
        ids, org = body["ids"], body.get("organization_id", "")
        assert isinstance(ids, list)
        assert isinstance(org, str)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError):
        raise outbound_messages.NotAMessage('the body must be {"ids": ["006…"]}') from None
    return outbound_messages.OutboundMessage(org, tuple(ids))


def webhook_registration(world: Callable[[], World], raw: bytes) -> Answer:
    """Registers the callback, tried out where asked: 200 with before, now and what changed hands; 400 with every fault."""
    from shared.notifications import REFERRAL_EVENTS, TEST_EVENT
    from shared.registration import BadRequest, RegistrationRequest, register
    from shared.validation import not_asked, validate

    try:
        request = RegistrationRequest.read(raw)
    except BadRequest as error:
        return 400, {"error": str(error)}
    try:
        whole = world()
        events = [*(request.events or REFERRAL_EVENTS), TEST_EVENT] if request.try_out else request.events
        answer = register(whole.partner_center, whole.settings, request.callback_url, events, request.overwrite)
        if request.try_out and whole.settings.shadow:
            answer["validation"] = not_asked("shadow mode, nothing was sent")
        elif request.try_out and answer["action"] == "refused":
            # What is registered may be another system's address: no event is sent there.
            answer["validation"] = not_asked("nothing was registered, so there is nothing of ours to try out")
        elif request.try_out:
            answer["validation"] = validate(whole.partner_center, whole.clock)
    except (Refused, BadRequest) as error:
        return 400, {"error": str(error)}
    except TryLater as error:
        return 503, {"error": str(error)}
    except ConnectorError as error:
        return 500, {"error": str(error)}
    return 200, answer
