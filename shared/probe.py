"""The script that settles the open questions on a real tenant: its steps in order, and how they are run.

The steps are in `probe_partner_center.py`, `probe_events.py`, `probe_deals.py` and `probe_salesforce.py`; the words of the questions in
docs/open-questions.md. Every answer is stored the moment it is known, every test record before anything else is done with it, so a run that
is cut off is resumed by the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared import tenant
from shared.certificates import Certificates
from shared.clock import Clock
from shared.errors import ConnectorError, SignInFailed
from shared.mapping import Mapping as FieldMapping
from shared.partner_center import PartnerCenter
from shared.salesforce import Salesforce
from shared.settings import Settings
from shared.tenant import Answer, Tenant

CUSTOMER = "Contoso connector test"
REASON = "Test referral"  # the portal's coded reason for a deal closed as error
REFERENCE = "connector-test"  # externalReferenceId of every test referral, by which lost ones are found

# Questions that only a person, or days of watching, can settle; docs/first-hour-on-a-real-tenant.md says how.
BY_HAND = (
    "rate_limits",
    "event_retries",
    "mfa_error",
    "device_code",
    "redirect_port",
    "amr_claim",
    "atomic_condition",
    "field_history",
    "transaction_delay",
    "products_amount",
    "lock_status",
    "package_rules",
    "session_lifetime",
    "login_errors",
    "app_policies",
    "app_certificate",
    "flow_formulas",
    "message_query",
    "quick_action",
    "column_names",
    "fy_values",
    "version_guard",
    "package_removal",
    "default_stages",
    "default_cosell_only",
    "audit_form",
    "failure_mark",
    "declined_on_hold",
    "notes_place",
)


@dataclass(frozen=True)
class Finding:
    """What a step saw of one question. Without an `answer` it is still open, and `why` says what is missing."""

    question: str
    answer: str = ""
    why: str = ""
    trace: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """A Partner Center event as it arrived somewhere."""

    headers: Mapping[str, str]
    body: bytes


class Notebook:
    """The answers file, written with every change."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self.tenant: Tenant = tenant.read(path)

    def settle(self, step: str, found: Finding) -> Answer:
        at = self._clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = Answer(found.question, found.answer[:400], step, at, found.trace[:80], dict(found.settings), dict(found.mapping))
        self._save(replace(self.tenant, answers={**self.tenant.answers, found.question: answer}))
        return answer

    def owe(self, record: str) -> None:
        """A test record that has to be cleaned up, as `referral ID` or `Opportunity ID`."""
        self._save(replace(self.tenant, leftovers=tuple(dict.fromkeys((*self.tenant.leftovers, record)))))

    def cleaned(self, record: str) -> None:
        self._save(replace(self.tenant, leftovers=tuple(one for one in self.tenant.leftovers if one != record)))

    def _save(self, changed: Tenant) -> None:
        if changed != self.tenant:
            tenant.write(self.path, changed)
            self.tenant = changed


@dataclass
class Bench:
    """What steps work with. `ask` puts a question to the person at the terminal; None where nothing was answered, or nobody is there."""

    settings: Settings
    mapping: FieldMapping
    partner_center: PartnerCenter
    salesforce: Salesforce
    clock: Clock
    notebook: Notebook
    certificates: Callable[[Settings], Certificates]
    ask: Callable[[str], str | None] = lambda text: None
    attended: bool = False
    progress: Callable[[str], None] = lambda text: None
    solution: str = ""
    email: str = ""
    events: tuple[Event, ...] = ()
    microsoft: bool = False
    close_opportunity: bool = False
    apply: bool = False
    deal: str = ""
    """The test referral that stands open in this run."""

    def left(self, kind: str) -> list[str]:
        """Ids of the test records of a kind that are not cleaned up."""
        return [one.partition(" ")[2] for one in self.notebook.tenant.leftovers if one.startswith(f"{kind} ")]


@dataclass(frozen=True)
class Step:
    """One step. `sends` are the calls that write, in words; a step without them only reads."""

    name: str
    title: str
    settles: tuple[str, ...]
    run: Callable[[Bench], Iterator[Finding]]
    sends: tuple[str, ...] = ()
    needs: str = ""
    """Without which the step is left out: `person` at the terminal, or the option `involve-microsoft` or `event`."""
    decides: str = ""

    def offered(self, bench: Bench) -> bool:
        return {"": True, "person": bench.attended, "involve-microsoft": bench.microsoft, "event": bool(bench.events)}[self.needs]


@dataclass(frozen=True)
class Outcome:
    """What came of a step: `settled`, `shown` (it writes, and was only shown), `skipped`, `open`."""

    step: Step
    kind: str
    answers: tuple[Answer, ...] = ()
    why: tuple[str, ...] = ()


def run(steps: Sequence[Step], bench: Bench, again: Iterable[str] = ()) -> Iterator[Outcome]:
    """Runs what is not settled yet, in order. A step that fails leaves its questions open and does not stop the others.

    Raises `SignInFailed` where nothing more can be asked.
    """
    wanted = set(again)
    for step in steps:
        known = [bench.notebook.tenant.answers[one] for one in step.settles if one in bench.notebook.tenant.answers]
        if len(known) == len(step.settles) and not wanted & {step.name, *step.settles}:
            yield Outcome(step, "skipped", tuple(known), ("settled already",))
        elif not step.offered(bench):
            yield Outcome(
                step, "skipped", why=("needs a person: run it in a terminal" if step.needs == "person" else f"give --{step.needs}",)
            )
        elif step.sends and not bench.apply:
            yield Outcome(step, "shown")
        else:
            yield carry_out(step, bench)


def carry_out(step: Step, bench: Bench) -> Outcome:
    answers: list[Answer] = []
    why: list[str] = []
    try:
        for found in step.run(bench):
            if found.answer:
                answers.append(bench.notebook.settle(step.name, found))
            else:
                why.append(f"{found.question}: {found.why}")
    except SignInFailed:
        raise
    except ConnectorError as error:
        why.append(str(error))
    except (LookupError, TypeError, ValueError) as error:
        # What the vendor answers is the question here; an answer that nobody foresaw must not end the script.
        why.append(f"an answer had a form that was not foreseen ({type(error).__name__}: {str(error)[:80]})")
    return Outcome(step, "open" if why else "settled", tuple(answers), tuple(why))


def words(content: bytes) -> str:
    """The beginning of an answer's text, fit for one line. Test records alone are quoted in it."""
    text = content.decode("utf-8", "replace")
    plain = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return re.sub(r"[^\s\"'<>]+@[^\s\"'<>]+", "[address]", plain)[:200]


def whole_seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
