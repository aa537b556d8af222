"""The doctor's checks of Partner Center: the vault, both sign-ins, the role, the registration, its own test event, its clock."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from shared.doctor_report import AZURE_ADMIN, ENTRA_ADMIN, OPERATOR, REFERRALS_ADMIN, Check, told
from shared.doctor_subject import Seen, Subject, Unchecked
from shared.entra import REMEDIES, Audience
from shared.errors import ConnectorError, Misconfigured, SignInFailed, TryLater
from shared.notifications import REFERRAL_EVENTS, TEST_EVENT
from shared.refresh_tokens import LIFE, ROTATE_AFTER, SECRET_NAME
from shared.registration import registered
from shared.validation import PATIENCE, validate

PARTNER_CENTER = (
    "Key Vault",
    "sign-in for referrals",
    "sign-in for webhooks",
    "consent",
    "role and referrals",
    "registration",
    "test event",
    "clock",
)
SETTINGS = (
    "PARTNER_CENTER_TENANT_ID",
    "PARTNER_CENTER_CLIENT_ID",
    "PARTNER_CENTER_CLIENT_SECRET",
    "PARTNER_CENTER_FEDERATED_IDENTITY_CLIENT_ID",
    "PARTNER_CENTER_REFRESH_TOKEN",
    "KEY_VAULT_URI",
    "PARTNER_CENTER_AUTHORITY",
    "PARTNER_CENTER_API_URL",
    "PARTNER_CENTER_WEBHOOKS_URL",
)
REFERRALS_READ = 300  # three pages: enough to see the role, little enough for the largest tenant
AGAIN = "run it again in a few minutes; if it stays so, check the network and the PARTNER_CENTER_* addresses"
WARN = timedelta(days=14)
SKEW_AMBER, SKEW_RED = timedelta(seconds=30), timedelta(minutes=5)

# Entra's numbers for what an administrator of the app mends, not the person who signed in.
_OF_THE_APP = {REMEDIES[code] for code in (65001, 70021, 90002, 500011, 700016, 700212, 700213, 7000215, 7000222)}


def partner_center_checks(subject: Subject, seen: Seen, test_event: bool) -> Iterator[Check]:
    subject.needs(SETTINGS)
    refused = yield from _signs_in(subject)
    yield _consent(subject)
    if "referrals" not in refused:
        yield _referrals(subject, seen)
    if "webhooks" not in refused:
        url, events, check = _registration(subject)
        yield check
        yield _test_event(subject, url, events, test_event)
    yield clock_check("Partner Center", subject.clock.now(), subject.partner_center.server_time)


# -- signing in ------------------------------------------------------------------------------------------------------------------------


def _vault_remedy(error: ConnectorError) -> str:
    """What mends an error of the vault; empty for any other. It is asked before Entra, so an identity that cannot sign in stops there."""
    if "the managed identity" in str(error):
        return "assign the identity to the function app; no other machine has it, so ask the deployed app with --app-url"
    if f"the secret {SECRET_NAME}" not in str(error):
        return ""
    if isinstance(error, TryLater):
        return "run it again in a few minutes; if it stays so, check KEY_VAULT_URI and the network rules of the vault"
    return "put the token of `cosell login partner-center` there; the identity needs the role Key Vault Secrets Officer"


def _signs_in(subject: Subject) -> Generator[Check, None, set[Audience]]:
    """A row for the vault and one for each audience; returns the audiences there is no token for."""
    refusals: dict[Audience, ConnectorError] = {}
    audiences: tuple[Audience, ...] = ("referrals", "webhooks")
    for audience in audiences:
        try:
            subject.partner_center.sign_in(audience)
        except ConnectorError as error:
            refusals[audience] = error
    vaulted = not subject.settings.partner_center_refresh_token
    unread = next((one for one in refusals.values() if vaulted and _vault_remedy(one)), None)
    if unread:
        yield Check("Key Vault", "red", str(unread), _vault_remedy(unread), AZURE_ADMIN)
        raise Unchecked("the refresh token could not be read from Key Vault")
    unused = "not used: the refresh token stands in PARTNER_CENTER_REFRESH_TOKEN, which is for your machine only"
    yield Check("Key Vault", "green", f"the secret {SECRET_NAME} can be read" if vaulted else unused)
    for audience in audiences:
        name = f"sign-in for {audience}"
        if audience in refusals:
            yield _refused(name, refusals[audience])
        else:
            yield Check(name, "green", f"Entra gives a token for the {audience} service")
    if len(refusals) == len(audiences):
        raise Unchecked("there is no token for Partner Center")
    return set(refusals)


def _refused(name: str, error: ConnectorError) -> Check:
    if not isinstance(error, SignInFailed):
        return Check(name, "red", str(error), AGAIN, OPERATOR)
    finding, remedy = told(error, REMEDIES.values(), "check the PARTNER_CENTER_* settings; `cosell login partner-center` signs in anew")
    return Check(name, "red", finding, remedy, ENTRA_ADMIN if remedy in _OF_THE_APP else REFERRALS_ADMIN)


def _consent(subject: Subject) -> Check:
    ends = subject.partner_center.credential_expires_at
    if ends is None:
        return Check("consent", "not checked", "a refresh token in the settings does not say its age; it ends 90 days after its last use")
    left = ends - subject.clock.now()
    remedy = "sign in again (`cosell login partner-center`), which stores a new refresh token"
    if left < WARN:
        return Check("consent", "red", f"the stored refresh token ends on {ends.date()}", remedy, REFERRALS_ADMIN)
    if left < LIFE - 2 * ROTATE_AFTER:
        text = f"the stored refresh token was not renewed for {(LIFE - left).days} days; it ends on {ends.date()}"
        return Check("consent", "amber", text, "let the identity write the secret: role Key Vault Secrets Officer on the vault", OPERATOR)
    return Check("consent", "green", f"the stored refresh token is good until {ends.date()}, and renewed before")


# -- what the signed-in user may see ---------------------------------------------------------------------------------------------------


def _referrals(subject: Subject, seen: Seen) -> Check:
    name = "role and referrals"
    try:
        read = list(islice(subject.partner_center.all_referrals(), REFERRALS_READ + 1))
    except SignInFailed as error:
        remedy = "sign in again with multi-factor authentication: `cosell login partner-center`"
        return Check(name, "red", str(error), remedy, REFERRALS_ADMIN)
    except (TryLater, Misconfigured) as error:
        return Check(name, "red", str(error), AGAIN, OPERATOR)
    except ConnectorError as error:
        return Check(name, "red", f"the signed-in user may not read referrals: {error}", _ROLE, "a global admin of the partner tenant")
    seen.every_referral = len(read) <= REFERRALS_READ
    seen.on_referrals = frozenset(_solution_ids(read))
    if not read:
        text = "no referral is visible: there is none yet, or the signed-in user has the role Referrals user and is on no deal's team"
        return Check(name, "amber", text, f"compare with the referrals page of Partner Center; {_ROLE}", REFERRALS_ADMIN)
    number = str(len(read)) if seen.every_referral else f"more than {REFERRALS_READ}"
    # No call tells the role: whoever is not an admin is shown fewer deals, without a word.
    text = f"{number} referrals are visible; the referrals page of Partner Center shows an admin as many"
    return Check(name, "green", text)


_ROLE = "give the signed-in user the role Referrals admin for every location, then sign in again"


def _solution_ids(referrals: list[dict[str, Any]]) -> Iterator[str]:
    for referral in referrals:
        details = referral.get("details")
        requirements = details.get("requirements") if isinstance(details, Mapping) else None
        for one in (requirements.get("solutions") if isinstance(requirements, Mapping) else None) or ():
            if isinstance(one, Mapping) and one.get("id"):
                yield str(one["id"]).strip()


# -- events ----------------------------------------------------------------------------------------------------------------------------


def _registration(subject: Subject) -> tuple[str | None, tuple[str, ...], Check]:
    name, register = "registration", "`cosell register --apply`"
    try:
        current = subject.partner_center.registration()
    except ConnectorError as error:
        return None, (), Check(name, "red", str(error), AGAIN, OPERATOR)
    url, events = registered(current)
    ours = subject.settings.webhook_callback_url
    if subject.settings.shadow and url != ours:
        # There is one registration per tenant, and it belongs to whoever writes.
        text = "the events do not come here, as it should be in shadow mode: changes are found by the timers alone"
        return url, events, Check(name, "amber", text, f"{register}, once SYNC_MODE is live", OPERATOR)
    if url is None:
        text = "nothing is registered: no event arrives, changes are found by the timers alone"
        return url, events, Check(name, "red", text, register, OPERATOR)
    if not ours:
        text = f"events go to {url.partition('?')[0]}; whether that is this app is not known here: WEBHOOK_CALLBACK_URL is not set"
        return url, events, Check(name, "not checked", text)
    if url != ours:
        # Addresses may hold a key in their query, and this one is another system's.
        text = f"another address has the registration: {url.partition('?')[0]}"
        remedy = f"agree with its owner, then {register} --overwrite; there is one registration per partner tenant"
        return url, events, Check(name, "red", text, remedy, OPERATOR)
    missing = [one for one in REFERRAL_EVENTS if one not in events]
    if missing:
        text = f"the registration is ours but lacks {', '.join(missing)}"
        return url, events, Check(name, "amber", text, f"{register} --overwrite; other systems' events are kept", OPERATOR)
    flag = {key.lower(): value for key, value in (current or {}).items()}.get("signaturetokentomssignatureheader")
    if flag is not None and str(flag).lower() == "false":
        text = "signatures are sent in the Authorization header, which gateways take away"
        return url, events, Check(name, "amber", text, f"{register} --overwrite asks for x-ms-signature", OPERATOR)
    return url, events, Check(name, "green", "ours, with all four referral events")


def _test_event(subject: Subject, url: str | None, events: tuple[str, ...], wanted: bool) -> Check:
    name, ours = "test event", subject.settings.webhook_callback_url
    if not wanted:
        return Check(name, "not checked", "it sends an event, so it has to be asked for: --test-event, or ?test_event=true")
    if not url or url != ours:
        return Check(name, "not checked", "the registration is not known to be ours, and no event is sent to anybody else")
    if TEST_EVENT not in events:
        remedy = 'POST /api/webhook-registration with {"overwrite": true, "validate": true} adds it'
        return Check(name, "amber", f"{TEST_EVENT} is not among the registered events", remedy, OPERATOR)
    result = validate(subject.partner_center, subject.clock)
    status, why = result["status"], str(result["why"])
    if status == "delivered":
        return Check(name, "green", "Partner Center sent its test event and this app took it")
    if status == "failed":
        codes = ", ".join(one["code"] or one["message"] for one in result["attempts"]) or "no answer"
        remedy = "see that the app answers at WEBHOOK_CALLBACK_URL from outside; 401 is a signature that did not fit (WEBHOOK_* settings)"
        return Check(name, "red", f"{why}: {codes}", remedy, OPERATOR)
    if status == "late":
        return Check(name, "amber", why, f"run it again in a minute; {PATIENCE:.0f} seconds were not enough", OPERATOR)
    return Check(name, "amber", f"no test event was sent: {why}", "run it again in a minute", OPERATOR)


# -- clocks ----------------------------------------------------------------------------------------------------------------------------


def clock_check(vendor: str, ours: datetime, theirs: datetime | None) -> Check:
    """This machine's clock against the Date of a vendor's answer, which has whole seconds."""
    if theirs is None:
        return Check("clock", "not checked", f"{vendor} has told no time")
    apart = abs(ours - theirs)
    if apart <= SKEW_AMBER:
        return Check("clock", "green", f"this machine and {vendor} agree about the time within {SKEW_AMBER.seconds} seconds")
    text = f"this machine's clock is {apart.total_seconds():.0f} seconds {'ahead of' if ours > theirs else 'behind'} {vendor}'s"
    return Check("clock", "red" if apart > SKEW_RED else "amber", text, "let this machine take its time from the network (NTP)", OPERATOR)
