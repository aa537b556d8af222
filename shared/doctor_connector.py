"""The doctor's checks of what stands on this machine: settings, mapping file, versions, days on which credentials end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date

from shared import VERSION
from shared.doctor_report import MAPPER, OPERATOR, Check, Verdict
from shared.doctor_subject import Subject
from shared.mapping_check import against_schema

CONNECTOR = ("settings", "mode", "mapping", "versions", "credential expiries")

WARN_DAYS = 30
# Last day of each Python release's support (PEP 619, 664, 693, 719); the connector is tested on these.
PYTHONS = {(3, 11): date(2027, 10, 31), (3, 12): date(2028, 10, 31), (3, 13): date(2029, 10, 31)}


def connector_checks(subject: Subject, prefix: str = "") -> Iterator[Check]:
    """With a prefix, settings of other names than it (and those that every part needs) are left out."""
    yield from _settings(subject, prefix)
    if subject.settings.shadow:
        remedy = "set SYNC_MODE to live once the plans are what you want"
        yield Check("mode", "amber", "SYNC_MODE is shadow: everything is planned, nothing is written to either vendor", remedy, OPERATOR)
    else:
        yield Check("mode", "green", "live: both vendors are written to")
    yield from _mapping(subject)
    yield _versions(subject.clock.now().date())
    yield from _expiries(subject, prefix)


def _settings(subject: Subject, prefix: str) -> Iterator[Check]:
    shared_by_all = ("MAPPING_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CALL_TIMEOUT_SECONDS", "SYNC_MODE")
    faults = [one for one in subject.faults if one.startswith(prefix) or one.split()[0] in shared_by_all]
    for fault in faults:
        finding, _, remedy = fault.partition(": ")
        where = "in the app settings, or in local.settings.json on your machine"
        yield Check(
            "settings",
            "red",
            finding,
            f"{remedy}, {where}" if remedy else f"give {finding.split()[0]} a value that fits, {where}",
            OPERATOR,
        )
    if not faults:
        yield Check("settings", "green", "every setting that is needed is there, and none is mistyped")


def _mapping(subject: Subject) -> Iterator[Check]:
    if subject.mapping_fault:
        yield Check("mapping", "red", subject.mapping_fault, "correct the file named in MAPPING_FILE", MAPPER)
        return
    draft = subject.draft
    if draft is None:
        yield Check("mapping", "not checked", "the file that MAPPING_FILE names is not there")
        return
    found = [*draft.findings, *against_schema(draft)]
    for one in found:
        state: Verdict = "red" if one.level == "fault" else "amber"
        yield Check("mapping", state, f"{one.where}: {one.text}", one.remedy or "see `cosell mapping check`", MAPPER)
    if not found:
        yield Check("mapping", "green", "the mapping has no fault of its own")


def _versions(today: date) -> Check:
    running = sys.version_info[:2]
    name, ends = f"Python {running[0]}.{running[1]}", PYTHONS.get(running)
    finding = f"connector {VERSION}, {name}"
    if ends is None:
        return Check("versions", "amber", f"{finding}, on which the connector is not tested", "run it on Python 3.13", OPERATOR)
    if today > ends:
        return Check("versions", "amber", f"{finding}, whose support ended on {ends}", "run it on Python 3.13 or newer", OPERATOR)
    return Check("versions", "green", f"{finding}, supported until {ends}")


def _expiries(subject: Subject, prefix: str) -> Iterator[Check]:
    known = {name: day for name, day in subject.settings.credential_expiries.items() if name.startswith(prefix)}
    today = subject.clock.now().date()
    for name, day in sorted(known.items(), key=lambda one: one[1]):
        left = (day - today).days
        remedy = f"put a new {name} in place, then its day into CREDENTIAL_EXPIRIES"
        if left < 0:
            yield Check("credential expiries", "red", f"{name} ended on {day}", remedy, OPERATOR)
        elif left <= WARN_DAYS:
            yield Check("credential expiries", "amber", f"{name} ends on {day}, in {left} days", remedy, OPERATOR)
    if not known:
        yield Check("credential expiries", "not checked", "CREDENTIAL_EXPIRIES names no day on which a secret or a certificate ends")
    elif all((day - today).days > WARN_DAYS for day in known.values()):
        day, name = min((day, name) for name, day in known.items())
        yield Check("credential expiries", "green", f"the next to end is {name}, on {day}")
