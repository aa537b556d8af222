"""The command that settles open questions on a real tenant."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from cosell.app import Context
from cosell.terminal import FINE, FOUND, Terminal
from shared import probe_deals, probe_events, probe_partner_center, probe_salesforce, probe_trial, tenant
from shared.certificates import Certificates
from shared.clock import Clock
from shared.errors import ConnectorError, Misconfigured, TryLater
from shared.notifications import MAXIMUM_BODY
from shared.probe import BY_HAND, Bench, Event, Finding, Notebook, Outcome, Step, run
from shared.settings import READERS, Settings
from shared.transport import http_client

EXAMPLES = """\
probe --settings local.settings.probe.json
probe --settings local.settings.probe.json --solution SOL-12345-ABC --apply
probe --settings local.settings.probe.json --event captured.json
probe partner-center --settings local.settings.probe.json --again create --apply
probe --answers tenant.toml --record rate_limits 429-after-120-a-minute --setting PARTNER_CENTER_CALLS_PER_MINUTE=100"""

ANSWERS = "tenant.toml"
SECOND_TRY_SECONDS, LONGEST_WAIT_SECONDS = 10.0, 120.0

STEPS: dict[str, tuple[Step, ...]] = {
    "partner-center": (
        *probe_partner_center.READING,
        *probe_events.STEPS,
        *probe_deals.STEPS,
        *probe_partner_center.REGISTERING,
    ),
    "salesforce": (*probe_salesforce.READING, *probe_salesforce.WRITING),
}


def probe(context: Context) -> int:
    """Settles the open questions about both vendors on the real ones, step by step, and writes the answers into one file.

    Steps that only read run at once. Steps that write are shown first and run with --apply: on private test deals of the customer
    "Contoso connector test", which are closed as error ("Test referral") at the end, and on a test opportunity, which is deleted. What could
    not be cleaned up is named with its id, and tried again by the next run.

    Every answer is stored when it is known, so a run may be cut off at any time; the next one skips what is settled (--again repeats it).
    The file is the overlay that MAPPING_FILE names, else tenant.toml: the answers stand at its end and take effect from there, in the mapping
    and the settings, where neither the overlay's own lines nor the environment say otherwise.

    In a terminal some steps ask a person to do something in the portal; elsewhere they are left open.
    Exit code 1 where a step could not settle its questions or a test record is left.
    """
    arguments, terminal = context.arguments, context.terminal
    overlay = context.mapping_file
    path = Path(arguments.answers or overlay or ANSWERS)
    notebook = Notebook(path, context.given.clock if context.given else Clock())
    if arguments.record:
        return _record(context, notebook)
    if arguments.setting:
        raise Misconfigured("--setting goes with --record QUESTION ANSWER")
    parts = [arguments.part] if arguments.part else list(STEPS)
    steps = [step for part in parts for step in STEPS[part]]
    known = {name for part in STEPS.values() for step in part for name in (step.name, *step.settles)}
    unknown = [name for name in arguments.again or () if name not in known]
    if unknown:
        raise Misconfigured(f"{unknown[0]!r} is no step and no question; steps are {', '.join(step.name for step in steps)}")
    bench = _bench(context, notebook)
    # A sign-in that fails is said here, or every step would say the same.
    if "partner-center" in parts:
        bench.partner_center.sign_in()
    if "salesforce" in parts:
        bench.salesforce.sign_in()
    if "partner-center" in parts and not bench.solution:
        bench.solution = probe_partner_center.solution_of(bench)

    outcomes: list[Outcome] = []
    left: list[str] = []
    try:
        for outcome in run(steps, bench, arguments.again or ()):
            outcomes.append(outcome)
            _say(terminal, outcome)
    finally:
        if arguments.apply:
            left = _clean(bench, parts)
    if any(one.kind == "shown" for one in outcomes):
        _show_records(terminal, bench, parts)
        terminal.say("nothing was written; --apply runs these steps")
    _say_file(context, notebook, overlay)
    untold = [one for one in notebook.tenant.leftovers if not any(one in text for text in left)]
    for text in (*left, *untold):
        terminal.say(f"not cleaned up: {text}")
    terminal.tell(_document(outcomes, notebook))
    return FOUND if notebook.tenant.leftovers or any(one.kind == "open" for one in outcomes) else FINE


def _bench(context: Context, notebook: Notebook) -> Bench:
    arguments, terminal, world = context.arguments, context.terminal, context.world
    if arguments.apply and world.settings.shadow:
        raise Misconfigured(
            "SYNC_MODE is shadow in the settings of this command, so nothing can be written: give it settings of its own with SYNC_MODE=live; "
            "the deployed app stays in shadow mode"
        )
    return Bench(
        settings=world.settings,
        mapping=world.mapping,
        partner_center=world.partner_center,
        salesforce=world.salesforce,
        clock=world.clock,
        notebook=notebook,
        certificates=_certificates,
        ask=_asking(terminal),
        attended=_attended(terminal),
        progress=terminal.progress,
        solution=arguments.solution or "",
        email=arguments.team_email or "",
        events=tuple(_event(Path(name)) for name in arguments.event or ()),
        microsoft=arguments.involve_microsoft,
        close_opportunity=arguments.close_opportunity,
        apply=arguments.apply,
    )


def _certificates(settings: Settings) -> Certificates:
    return Certificates(settings, http_client(settings), Clock())


def _attended(terminal: Terminal) -> bool:
    return sys.stdin.isatty() and not terminal.as_json


def _asking(terminal: Terminal) -> Callable[[str], str | None]:
    def ask(text: str) -> str | None:
        if not _attended(terminal):
            return None
        print(text, end="", file=terminal.err, flush=True)
        return sys.stdin.readline().strip() or None

    return ask


def _event(path: Path) -> Event:
    """A captured event: `{"headers": {…}, "body": "the exact text"}`."""
    try:
        if path.stat().st_size > 4 * MAXIMUM_BODY:
            raise ValueError("too large")
        given = json.loads(path.read_text(encoding="utf-8"))
        return Event({str(name): str(value) for name, value in given["headers"].items()}, given["body"].encode())
    except OSError as error:
        raise Misconfigured(f"the event file {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f'the event file {path} is not of the form {{"headers": {{…}}, "body": "the exact text"}}') from error


def _record(context: Context, notebook: Notebook) -> int:
    """An answer a person found."""
    question, text = context.arguments.record
    questions = {one for part in STEPS.values() for step in part for one in step.settles} | set(BY_HAND)
    if question not in questions:
        raise Misconfigured(f"{question!r} is no question; docs/open-questions.md names them: {', '.join(sorted(questions))}")
    settings: dict[str, str] = {}
    for given in context.arguments.setting or ():
        name, _, value = given.partition("=")
        if name not in tenant.ANSWERABLE:
            raise Misconfigured(f"no answer gives {name[:60]}; those that can be given are {', '.join(sorted(tenant.ANSWERABLE))}")
        try:
            READERS[name][1](value)
        except ValueError as error:
            raise Misconfigured(f"{name} {error}") from error
        settings[name] = value
    notebook.settle("by hand", Finding(question, text, settings=settings))
    context.terminal.say(f"{question}: {text}")
    _say_file(context, notebook, context.mapping_file)
    context.terminal.tell(_document([], notebook))
    return FINE


def _clean(bench: Bench, parts: list[str]) -> list[str]:
    """Closes or removes what the steps left. What goes wrong here is told, and hides no other error."""
    told: list[str] = []
    cleaners = {"partner-center": probe_trial.clean, "salesforce": probe_salesforce.clean}
    for part in parts:
        for last in (False, True):
            try:
                told += list(cleaners[part](bench))
                break
            except TryLater as error:
                if last:
                    told.append(str(error))
                else:
                    bench.progress(f"{error}; cleaning up is tried once more …")
                    bench.clock.sleep(min(error.retry_after or SECOND_TRY_SECONDS, LONGEST_WAIT_SECONDS))
            except ConnectorError as error:
                told.append(str(error))
                break
    return told


# -- what is said ----------------------------------------------------------------------------------------------------------------------


def _say(terminal: Terminal, outcome: Outcome) -> None:
    step = outcome.step
    words = {"settled": "", "shown": "would send", "skipped": ", ".join(outcome.why), "open": "not settled"}[outcome.kind]
    terminal.say(f"{step.name}: {step.title}" + (f" ({words})" if words else ""))
    for answer in outcome.answers if outcome.kind != "skipped" else ():
        terminal.say(f"  {answer.question}: {answer.answer}")
    for line in step.sends if outcome.kind == "shown" else outcome.why if outcome.kind == "open" else ():
        terminal.say(f"  {line}")


def _show_records(terminal: Terminal, bench: Bench, parts: list[str]) -> None:
    if "partner-center" in parts:
        terminal.say("the test deal:")
        terminal.say(json.dumps(probe_trial.trial_referral(bench, probe_trial.INTENT), ensure_ascii=False, indent=2))
        if not bench.solution:
            terminal.say("no referral names a solution to test with: give --solution SOL-…")
    if "salesforce" in parts:
        terminal.say("the test opportunity:")
        terminal.say(json.dumps(probe_salesforce.trial_opportunity(bench), ensure_ascii=False, indent=2, default=str))


def _say_file(context: Context, notebook: Notebook, overlay: str | None) -> None:
    """Where the answers are, and which of them cannot take effect."""
    terminal, path = context.terminal, notebook.path
    if not notebook.tenant.answers:
        return
    terminal.say(f"{len(notebook.tenant.answers)} answers in {path}")
    if not overlay or Path(overlay).resolve() != path.resolve():
        terminal.say(f"they take effect when MAPPING_FILE names it: MAPPING_FILE={path}")
    environment: dict[str, str] = {} if context.given else context.environment
    for name, value in notebook.tenant.settings.items():
        stated = environment.get(name, "").strip()
        if stated and stated != value:
            terminal.say(f"{name}={value} does not take effect: the environment says {stated}; take that out, or set it to this value")
        elif not stated:
            terminal.say(f"{name}={value}")


def _document(outcomes: list[Outcome], notebook: Notebook) -> dict[str, Any]:
    return {
        "steps": [{"step": one.step.name, "result": one.kind, "why": list(one.why)} for one in outcomes],
        "answers": {name: asdict(one) for name, one in notebook.tenant.answers.items()},
        "settings": notebook.tenant.settings,
        "mapping": notebook.tenant.mapping,
        "left": list(notebook.tenant.leftovers),
        "file": str(notebook.path),
        "open": sorted(
            {*BY_HAND, *chain.from_iterable(step.settles for part in STEPS.values() for step in part)} - set(notebook.tenant.answers)
        ),
    }
