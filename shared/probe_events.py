"""The probe's steps on Partner Center's events: the test event to the deployed app, and events that were captured.

An event that was captured is believed as far as its signature goes: what it says changes a setting only when it is proved Microsoft's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from shared import notifications, wire
from shared.errors import ConnectorError, Gone, Refused
from shared.notifications import BadSignature, NotAnEvent
from shared.probe import Bench, Event, Finding, Step
from shared.referral import is_microsofts
from shared.settings import Settings
from shared.validation import validate

SIGNERS = ".microsoft.com"


def send_test_event(bench: Bench) -> Iterator[Finding]:
    """Partner Center's own event to the app; it answers 200 only to a signature it could prove."""
    standing = bench.partner_center.registration()
    if not standing or standing.get("WebhookUrl") != bench.settings.webhook_callback_url:
        why = "the registered address is not ours (WEBHOOK_CALLBACK_URL): `cosell register --validate` first"
    else:
        result = validate(bench.partner_center, bench.clock)
        if result["status"] == "delivered":
            yield Finding("signature_form", "one of those the app takes")
            yield Finding("certificate", "as set")
            return
        attempts = "".join(f"; {one['code'] or one['message']} at {one['at']}" for one in result["attempts"])
        why = f"{result['why']}{attempts}. The app's log says why it refuses, a captured event (--event) what was sent"
    yield Finding("signature_form", why=why)
    yield Finding("certificate", why=why)


def captured(bench: Bench) -> Iterator[Finding]:
    for event in bench.events:
        try:
            yield from _signed(bench, event)
            yield from _named(bench, event)
        except (BadSignature, NotAnEvent) as error:
            yield Finding("certificate", why=str(error))


def _signed(bench: Bench, event: Event) -> Iterator[Finding]:
    headers = {name.lower(): value for name, value in event.headers.items()}
    claimed = notifications.signature(headers)
    prefix, _, file = claimed.certificate_url.rpartition("/")
    prefix, signer = f"{prefix}/", file.removesuffix(".cer")
    if urlsplit(prefix).scheme != "https" or not signer.lower().endswith(SIGNERS):
        raise BadSignature("its certificate is not one of a name under microsoft.com at an https address")
    delivered = Settings()
    names = delivered.webhook_signer_names
    known = signer.lower() in {one.lower() for one in names}
    tried = replace(bench.settings, webhook_certificate_url_prefix=prefix, webhook_signer_names=names if known else (*names, signer))
    bench.certificates(tried).authenticate(headers, event.body)
    carrier = "x-ms-signature" if headers.get("x-ms-signature") else "Authorization"
    form = "Signature <base64>" if " " in headers.get(carrier.lower(), "").strip() else "bare base64"
    yield Finding("signature_form", f"{form} in {carrier}")
    changed = {}
    if prefix != delivered.webhook_certificate_url_prefix:
        changed["WEBHOOK_CERTIFICATE_URL_PREFIX"] = prefix
    if not known:
        changed["WEBHOOK_SIGNER_NAMES"] = ",".join(tried.webhook_signer_names)
    yield Finding("certificate", f"{signer} under {prefix}, chain and signature proved", settings=changed)


def _named(bench: Bench, event: Event) -> Iterator[Finding]:
    told = notifications.parse(event.body)
    if told.referral_id is None:
        return
    values = {name.lower(): value for name, value in wire.loads(event.body).items()}
    address = urlsplit(str(values["resourceuri"]))
    yield Finding("event_address", f"{address.scheme}://{address.netloc}{address.path.rpartition('/')[0]}/ID")
    if not told.name.startswith("related-"):
        return
    try:
        record = bench.partner_center.referral(told.referral_id)
    except (Gone, Refused) as error:
        yield Finding("event_record", f"a record we may not read ({type(error).__name__})")
        return
    except ConnectorError as error:
        yield Finding("event_record", why=str(error))
        return
    yield Finding("event_record", "Microsoft's" if is_microsofts(record) else "ours")


STEPS = (
    Step(
        "test-event",
        "Partner Center's test event to the registered address",
        ("signature_form", "certificate"),
        send_test_event,
        ("POST validationEvents: Partner Center sends its test event",),
        decides="the address answered 200, which the app does for a proved signature alone",
    ),
    Step(
        "captured-event",
        "an event as it arrived",
        ("signature_form", "certificate", "event_address", "event_record"),
        captured,
        needs="event",
        decides="proves the signature, then reads the referral it names",
    ),
)
