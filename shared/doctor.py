"""The doctor: one look at everything the connector stands on, each finding with its remedy and with who can apply it.

It reads. The one thing it may send is Partner Center's own test event, when asked for; in storage it writes a row and a wake-up of its own
and takes both back. What is checked stands in `doctor_connector.py`, `doctor_storage.py`, `doctor_partner_center.py`,
`doctor_salesforce.py` and `doctor_solutions.py`. Checks that do not depend on each other all run, side by side, and none holds the report
up beyond its time limit.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from shared import composition, mapping_draft
from shared.clock import Clock
from shared.doctor_connector import CONNECTOR, connector_checks
from shared.doctor_partner_center import PARTNER_CENTER, partner_center_checks
from shared.doctor_report import OPERATOR, Area, Check, Report
from shared.doctor_salesforce import SALESFORCE, salesforce_checks
from shared.doctor_solutions import SOLUTIONS, solution_checks
from shared.doctor_storage import STORAGE, Storage, storage_checks
from shared.doctor_subject import Seen, Subject, Unchecked
from shared.errors import Misconfigured
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.transport import http_client

log = logging.getLogger("cosell")

Scope = Literal["everything", "salesforce"]

LIMIT_SECONDS = 90.0  # for the whole report; every single call has a limit of its own (CALL_TIMEOUT_SECONDS)


@dataclass(frozen=True)
class _Part:
    """Checks that follow one another; `names` are all of them, so that none is left out in silence."""

    area: Area
    names: tuple[str, ...]
    run: Callable[[], Iterator[Check]]
    done: list[Check] = field(default_factory=list)


def subject_of(environment: Mapping[str, str] | None = None) -> Subject:
    """What there is to examine, as far as the settings go; None reads the app's own."""
    settings, faults = Settings.examined(environment)
    clock = composition.Clock()
    try:
        http = http_client(settings)
    except (OSError, ssl.SSLError) as error:
        faults.append(f"SSL_CERT_FILE or REQUESTS_CA_BUNDLE names a file without usable certificates ({type(error).__name__})")
        settings = replace(settings, ca_bundle="")
        http = http_client(settings)
    login = SalesforceLogin(settings, http, clock)
    salesforce, partner_center = Salesforce(settings, login, clock), composition.partner_center_of(settings, http, clock)
    draft, mapping_fault = None, ""
    try:
        if not any(fault.startswith("MAPPING_FILE ") for fault in faults):
            draft = mapping_draft.read(settings.mapping_file or None)
    except Misconfigured as error:
        mapping_fault = str(error)
    return Subject(settings, tuple(faults), clock, http, login, salesforce, partner_center, draft, mapping_fault)


def examine(
    subject: Subject,
    scope: Scope = "everything",
    test_event: bool = False,
    storage: Callable[[Settings, Clock], Storage] = Storage.of,
    seconds: float = LIMIT_SECONDS,
) -> Report:
    """Every check of the scope. Never raises: what stands in the way of a check is said in its row."""
    seen = Seen()
    parts = [
        _Part("connector", CONNECTOR, lambda: connector_checks(subject, "SALESFORCE_" if scope == "salesforce" else "")),
        _Part("Salesforce", SALESFORCE, lambda: salesforce_checks(subject, seen)),
    ]
    if scope == "everything":
        parts.insert(1, _Part("storage", STORAGE, lambda: storage_checks(subject, storage)))
        parts.insert(2, _Part("Partner Center", PARTNER_CENTER, lambda: partner_center_checks(subject, seen, test_event)))
    _side_by_side(parts, seconds)
    if scope == "everything":
        parts.append(_Part("Partner Center", SOLUTIONS, lambda: solution_checks(seen)))
        _side_by_side(parts[-1:], seconds)
    return Report(tuple((part.area, check) for part in parts for check in part.done))


def _side_by_side(parts: list[_Part], seconds: float) -> None:
    """Runs the parts, each in a thread that nobody waits for longer than the limit."""
    threads = [threading.Thread(target=_run, args=(part,), name=f"doctor {part.area}", daemon=True) for part in parts]
    until = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for number, (part, thread) in enumerate(zip(parts, threads, strict=True)):
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            late = f"there was no answer within {seconds:g} seconds"
            # A copy: the thread may still be adding to its own list.
            parts[number] = replace(part, done=[*part.done, Check("time", "red", late, "look at the network, then run it again", OPERATOR)])
            _fill(parts[number], late)


def _run(part: _Part) -> None:
    reason = "an earlier check of this part stands in its way"
    try:
        for check in part.run():
            part.done.append(check)
    except Unchecked as error:
        reason = str(error)
    except Exception as error:
        # Without its message, which may quote a record.
        log.error("the doctor met an unexpected %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        reason = f"the doctor itself failed (unexpected {type(error).__name__})"
        part.done.append(Check("doctor", "red", reason, "report it, with what the log says", OPERATOR))
    _fill(part, reason)


def _fill(part: _Part, reason: str) -> None:
    told = {check.name for check in part.done}
    part.done.extend(Check(name, "not checked", reason) for name in part.names if name not in told)


def answer(parameters: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """The report as the function gives it, always 200: a report of a broken connector is an answer. 400 for parameters it does not know."""
    known = {"test_event": ("true", "false"), "only": ("salesforce",)}
    wrong = [name for name, value in parameters.items() if name != "code" and value not in known.get(name, ())]
    if wrong:
        return 400, {"error": f"not understood: {', '.join(sorted(wrong))[:200]}; there are test_event=true and only=salesforce"}
    scope: Scope = "salesforce" if "only" in parameters else "everything"
    subject = subject_of()
    with subject.http:
        return 200, examine(subject, scope, parameters.get("test_event") == "true").document()
