"""Credential foresight: which credential ends when, whether both sign-ins work, and who does what about it.

Looked at by the timer of `resume_owed_work` and remembered in the cursors table, so that `status` of every instance shows it and
the log says it once, not once an instance and minute. Dates and error codes are remembered, never a credential.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509

from shared.codecs import parse_instant
from shared.errors import ConnectorError, Gone, Misconfigured, Refused
from shared.refresh_tokens import SECRET_NAME
from shared.settings import Settings
from shared.state import stamp
from shared.world import World

log = logging.getLogger("cosell")

FLOW = "credentials"  # the row of the cursors table
# A sign-in whose access tokens are still good is cheap to look at; what only the vendor can tell is asked for this often.
EVERY = timedelta(minutes=15)
# Days left -> how loud the daily line is.
WARNINGS = ((7, logging.CRITICAL), (14, logging.ERROR), (30, logging.WARNING))

OPERATOR = "whoever runs the connector"
ENTRA = "an Entra application administrator"
REFERRALS = "a person with the Referrals admin role in Partner Center"
SALESFORCE = "a Salesforce administrator"

REFRESH_TOKEN = "Partner Center refresh token"  # noqa: S105, its name
VENDORS = {"partner_center": "Partner Center", "salesforce": "Salesforce"}

State = Literal["ok", "soon", "expired", "unknown"]


@dataclass(frozen=True)
class Credential:
    """One credential. `expires` is an ISO time; both it and `days_left` are None where nobody told us."""

    what: str
    expires: str | None
    days_left: int | None
    state: State
    who: str
    what_to_do: str


def known(world: World) -> list[Credential]:
    """Every credential the connector lives on, the next to end first and the unknown ones last. Asks nobody."""
    now, remembered = world.clock.now(), _remembered(world)
    found = list(_refresh_token(world, remembered, now))
    found += _of_the_settings(world.settings, now)
    for name, ends in remembered.get("vault", {}).items():
        if name != SECRET_NAME:
            todo = f"store a new version of the Key Vault secret {name} with a later expiry"
            found.append(_judged(f"Key Vault secret {name}", parse_instant(ends), now, OPERATOR, todo))
    return sorted(found, key=lambda one: (one.days_left is None, one.days_left, one.what))


def sign_ins(world: World) -> dict[str, dict[str, str]]:
    """By vendor: `{"state": "ok" or "refused", "since", "error"}`, as of the last look of any instance."""
    return dict(_remembered(world).get("sign_ins", {}))


def watch(world: World) -> None:
    """Looks, remembers, and tells the log: a refused sign-in once when it begins and once when it ends, an expiry once a day."""
    try:
        _watch(world)
    except ConnectorError as error:
        # Knowing is a help, not a need: deals go on, and the next look is a minute away.
        log.warning("the credentials could not be looked at: %s", error)


def _watch(world: World) -> None:
    now, before = world.clock.now(), _remembered(world)
    at = before.get("at")
    thorough = not at or now - parse_instant(str(at)) >= EVERY
    looked = {vendor: _looked(world, vendor, before.get("sign_ins", {}).get(vendor, {}), thorough) for vendor in VENDORS}
    ends = world.partner_center.credential_expires_at
    after = {
        "sign_ins": {vendor: one for vendor, one in looked.items() if one},
        "refresh_token": stamp(ends) if ends else before.get("refresh_token", ""),
        "vault": before.get("vault", {}),
        "warned": before.get("warned", ""),
    }
    today = f"{now:%Y-%m-%d}"
    daily = after["warned"] != today
    if daily:
        after |= {"warned": today, "vault": _vault(world, before)}
    # Told before it is remembered: rather twice than never.
    for vendor, one in looked.items():
        _tell_change(VENDORS[vendor], before.get("sign_ins", {}).get(vendor, {}), one)
    if thorough or daily or after["sign_ins"] != before.get("sign_ins"):
        world.state.succeeded(FLOW, after)
    if daily:
        _tell_expiries(known(world))


def _looked(world: World, vendor: str, before: dict[str, str], thorough: bool) -> dict[str, str]:
    """How the sign-in stands; as before where the vendor could not be asked."""
    try:
        if vendor == "partner_center":
            world.partner_center.sign_in()
            if thorough:
                # Only a real call meets the rules about multi-factor authentication and roles.
                next(iter(world.partner_center.all_referrals()), None)
        else:
            world.salesforce.sign_in()
            if thorough:
                world.salesforce.describe("Opportunity")
    except (Misconfigured, Refused, Gone) as error:
        if before.get("state") == "refused" and not thorough:
            return before
        since = before["since"] if before.get("state") == "refused" else stamp(world.clock.now())
        return {"state": "refused", "since": since, "error": str(error)}
    except ConnectorError:
        return before
    if before.get("state") == "refused" and not thorough:
        # Signing in alone does not prove that a call is let in; the next thorough look does.
        return before
    return before if before.get("state") == "ok" else {"state": "ok", "since": stamp(world.clock.now()), "error": ""}


def _vault(world: World, before: dict[str, Any]) -> dict[str, str]:
    try:
        return {name: stamp(ends) for name, ends in world.partner_center.credential_expiries().items()}
    except ConnectorError as error:
        # The identity needs no more than the one secret; listing is a right it may have.
        log.debug("the expiries of the vault's secrets cannot be read: %s", error)
        return dict(before.get("vault", {}))


def _tell_change(vendor: str, before: dict[str, str], now: dict[str, str]) -> None:
    if now.get("state") == "refused" and before.get("state") != "refused":
        log.critical("%s refuses our sign-in, nothing is synchronized with it until a person acts: %s", vendor, now["error"])
    elif now.get("state") == "ok" and before.get("state") == "refused":
        log.warning("%s takes our sign-in again", vendor)


def _tell_expiries(credentials: list[Credential]) -> None:
    for one in credentials:
        level = next((level for days, level in WARNINGS if one.days_left is not None and one.days_left <= days), None)
        if level is not None:
            when = f"expired on {one.expires}" if one.state == "expired" else f"expires in {one.days_left} days, on {one.expires}"
            log.log(level, "%s %s: %s: %s", one.what, when, one.who, one.what_to_do)


def _remembered(world: World) -> dict[str, Any]:
    return world.state.flows().get(FLOW, {})


def _refresh_token(world: World, remembered: dict[str, Any], now: datetime) -> Iterator[Credential]:
    ends = world.partner_center.credential_expires_at
    if ends is None and remembered.get("refresh_token"):
        ends = parse_instant(str(remembered["refresh_token"]))
    todo = "run `cosell login partner-center` and sign in with multi-factor authentication"
    if world.settings.partner_center_refresh_token:
        todo += " within 90 days of the last time; a token in the settings is not renewed and does not tell its age"
    yield _judged(REFRESH_TOKEN, ends, now, REFERRALS, todo)


def _of_the_settings(settings: Settings, now: datetime) -> Iterator[Credential]:
    told = dict(settings.credential_expiries)
    own = _certificate_ends(settings.salesforce_private_key)
    remedies = {
        "PARTNER_CENTER_CLIENT_SECRET": (ENTRA, "make a new client secret for the app", settings.partner_center_client_secret),
        "SALESFORCE_PRIVATE_KEY": (SALESFORCE, "upload a new certificate to the app in Salesforce", settings.salesforce_private_key),
    }
    for name, (who, todo, used) in remedies.items():
        day = told.pop(name, None)
        if used or day:
            certain = own if name == "SALESFORCE_PRIVATE_KEY" and own else _midnight(day) if day else None
            after = f"{todo}, put it into {name}" + (
                "" if certain == own and own else f", and its last day into CREDENTIAL_EXPIRIES ({name}=…)"
            )
            yield _judged(name, certain, now, who, after)
    for name, day in told.items():
        yield _judged(name, _midnight(day), now, OPERATOR, f"replace {name}, and put its new last day into CREDENTIAL_EXPIRIES")


def _midnight(day: Any) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _certificate_ends(pem: str) -> datetime | None:
    """The end of the certificate that may stand beside the private key."""
    if "BEGIN CERTIFICATE" not in pem:
        return None
    try:
        return min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(pem.encode()))
    except ValueError:
        return None


def _judged(what: str, ends: datetime | None, now: datetime, who: str, todo: str) -> Credential:
    if ends is None:
        return Credential(what, None, None, "unknown", who, todo)
    days = (ends - now) // timedelta(days=1)
    state: State = "expired" if ends <= now else "soon" if days <= WARNINGS[-1][0] else "ok"
    return Credential(what, stamp(ends), days, state, who, todo)
