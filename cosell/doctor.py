"""The command that examines everything the connector stands on, here or in the deployed app."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from urllib.parse import urlsplit

import httpx

from cosell.app import Context
from cosell.terminal import FINE, FOUND
from shared import doctor as examination
from shared.doctor_report import Check, Report, Verdict
from shared.errors import Misconfigured, TryLater

EXAMPLES = """\
doctor --settings local.settings.json
doctor salesforce --settings local.settings.json
doctor --app-url https://NAME.azurewebsites.net --test-event
doctor --json --strict"""

# The Functions front end gives an answer up after 230 seconds.
PATIENCE_SECONDS = 230.0

_STATES: tuple[Verdict, ...] = ("green", "amber", "red", "not checked")
_LOCAL = ("localhost", "127.0.0.1")


def doctor(context: Context) -> int:
    """Examines settings, storage, Key Vault, sign-ins, roles, registration, the Salesforce org, the mapping, clocks and versions.

    Every check is green, amber, red, or not checked with the reason; what is not green comes with a remedy and with who can
    apply it. Nothing is written to Partner Center or Salesforce; --test-event lets Partner Center send its own test event.
    `doctor salesforce` looks at the Salesforce part alone and needs only its settings.

    It examines from this machine. With --app-url (or COSELL_APP_URL) it asks the deployed app, whose identity, network
    and clock are the ones that count; the function key comes from --key or COSELL_APP_KEY.

    Exit code 1 where something is red, with --strict also where something is amber; 2 where the app could not be asked.
    """
    arguments, terminal = context.arguments, context.terminal
    environment = context.environment
    scope: examination.Scope = "salesforce" if arguments.part else "everything"
    url = arguments.app_url or environment.get("COSELL_APP_URL", "")
    if url:
        terminal.progress(f"asking {urlsplit(url).hostname} …")
        report = _asked(url, arguments.key or environment.get("COSELL_APP_KEY", ""), scope, arguments.test_event)
    else:
        terminal.progress("examining …")
        report = examination.examine(examination.subject_of(environment), scope, arguments.test_event)
        if not arguments.settings and any(check.name == "settings" and check.state == "red" for _, check in report.checks):
            terminal.progress("(a file such as local.settings.json is read with --settings FILE)")
    for line in _lines(report):
        terminal.say(line)
    terminal.tell(report.document())
    return FOUND if report.state == "red" or (arguments.strict and report.state == "amber") else FINE


def _asked(url: str, key: str, scope: examination.Scope, test_event: bool) -> Report:
    """The report of the deployed app. Raises `Misconfigured` and `TryLater`."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise Misconfigured(f"the address of the app must begin with https://, since the key goes there: {url}")
    if not key:
        raise Misconfigured("the app asks for a function key: give --key or COSELL_APP_KEY (the portal shows it under App keys)")
    parameters = ({"test_event": "true"} if test_event else {}) | ({"only": "salesforce"} if scope == "salesforce" else {})
    address = f"{parts.scheme}://{parts.netloc}/api/doctor"
    try:
        answer = httpx.get(address, params=parameters, headers={"x-functions-key": key}, timeout=PATIENCE_SECONDS)
    except httpx.RequestError as error:
        raise TryLater(f"{address} does not answer ({type(error).__name__}): see that the app runs and that this is its address") from error
    if answer.status_code in (401, 403):
        raise Misconfigured(f"{address} refuses the key (HTTP {answer.status_code}): take the function key, or the host key, of this app")
    if answer.status_code != 200:
        hint = "; an app that cannot start answers so: run the doctor here, with the app's settings" if answer.status_code >= 404 else ""
        raise TryLater(f"{address} answered HTTP {answer.status_code}{hint}")
    try:
        return Report.read(answer.json())
    except ValueError as error:
        raise Misconfigured(f"{address} did not answer with a report: is it this connector's app?") from error


def _lines(report: Report) -> Iterator[str]:
    wide = max((len(check.name) for _, check in report.checks), default=0)
    area = ""
    for of, rows in groupby(sorted(report.checks, key=lambda one: _order(report, one[0])), key=lambda one: one[0]):
        yield of if not area else f"\n{of}"
        area = of
        # What one trouble keeps from being checked is told in one line.
        for _, alike in groupby(
            (check for _, check in rows), key=lambda check: check.finding if check.state == "not checked" else id(check)
        ):
            first, *others = alike
            yield from _row(first, wide)
            if others:
                yield f"{' ' * (wide + 17)}nor are {', '.join(check.name for check in others)}"
    counted = [f"{report.count(state)} {state}" for state in _STATES if report.count(state)]
    yield f"\n{', '.join(counted)}"


def _order(report: Report, area: str) -> int:
    """Areas as they come first, so that each is told in one piece."""
    return next(number for number, (of, _) in enumerate(report.checks) if of == area)


def _row(check: Check, wide: int) -> Iterator[str]:
    indent = " " * (wide + 17)
    first, *rest = re.split(r"\s*\n\s*", check.finding.strip())
    yield f"  {check.state:<13}{check.name:<{wide}}  {first}"
    yield from (f"{indent}{line}" for line in rest)
    if check.remedy:
        yield f"{indent}remedy: {check.remedy}"
    if check.who:
        yield f"{indent}by: {check.who}"
