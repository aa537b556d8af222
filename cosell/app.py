"""The command line: which commands there are, where they get their settings, how their errors are told."""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from cosell.terminal import TROUBLE, Terminal
from shared.brakes import DIRECTIONS
from shared.errors import ConnectorError, Misconfigured
from shared.settings import Settings
from shared.world import World


@dataclass
class Context:
    """What a command works with."""

    arguments: argparse.Namespace
    terminal: Terminal
    given: World | None = None
    _built: World | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The settings: those of the file named by --settings, and over them the environment, as the Functions host has it."""
        named = getattr(self.arguments, "settings", None)
        return {**(_settings_file(Path(named)) if named else {}), **os.environ}

    @property
    def world(self) -> World:
        """The connector's parts, built when first asked for. Raises `Misconfigured`."""
        if self.given is not None:
            return self.given
        if self._built is None:
            from shared.composition import build

            try:
                self._built, _ = build(Settings.from_environment(self.environment))
            except Misconfigured as error:
                hint = "" if self.arguments.settings else "\n(a file such as local.settings.json is read with --settings FILE)"
                raise Misconfigured(f"{error}{hint}") from error
        return self._built

    @property
    def mapping_file(self) -> str | None:
        """The overlay in use: the one named on the command line, else the one of the setting MAPPING_FILE."""
        named = getattr(self.arguments, "file", None)
        if named:
            return str(named)
        return self.given.settings.mapping_file or None if self.given else Settings.mapping_named_in(self.environment)


Command = Callable[[Context], int]


def main(argv: Sequence[str] | None = None, world: World | None = None, out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Runs one command. Returns 0 where all is well, 1 where something was found, 2 for wrong usage or trouble."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without ✓ or → still gets the rest
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as stopped:  # --help, or wrong usage, which argparse has told
        return int(stopped.code or 0)
    terminal = Terminal(out, err, arguments.json)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.CRITICAL, stream=terminal.err, format="%(levelname)s %(message)s"
    )
    run: Command = arguments.run
    try:
        return run(Context(arguments, terminal, world))
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not complain while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        terminal.progress("interrupted")
        return 130
    except ConnectorError as error:
        return _trouble(terminal, arguments, str(error) or type(error).__name__)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error}"
        return _trouble(terminal, arguments, text if arguments.debug else f"{text}\n(--debug shows where)")


def _trouble(terminal: Terminal, arguments: argparse.Namespace, text: str) -> int:
    if arguments.debug:
        traceback.print_exc(file=terminal.err)
    terminal.progress(f"cosell: {text}")
    terminal.tell({"error": text})
    return TROUBLE


def _settings_file(path: Path) -> dict[str, str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))["Values"]
        return {str(name): str(value) for name, value in values.items()}
    except OSError as error:
        raise Misconfigured(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = 'is not of the form of local.settings.json: {"Values": {"NAME": "value", …}}'
        raise Misconfigured(f"the settings file {path} {text} ({type(error).__name__})") from error


# -- the commands and their help -------------------------------------------------------------------------------------------------------

OVERVIEW = """\
The co-sell connector from a terminal. Commands that write show what they would do first, and do it with --apply.

exit codes: 0 all is well; 1 something was found: faults, differences, parked deals; 2 wrong usage or trouble
"""


def parser() -> argparse.ArgumentParser:
    from cosell import adopting, deals, doctor, erasing, login, mapping, probing, registering, resuming, undoing

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--settings", metavar="FILE", help="read settings from a file such as local.settings.json; the environment wins")
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--debug", action="store_true", help="show the log, and where an error came from")

    top = argparse.ArgumentParser(prog="cosell", description=OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        to: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Command, words: str, text: str, examples: str
    ) -> argparse.ArgumentParser:
        """A command whose help ends in examples."""
        made = to.add_parser(
            name,
            parents=[common],
            help=words,
            description=inspect.cleandoc(text),
            epilog="examples:\n" + "\n".join(f"  python -m cosell {line}" for line in examples.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        return made

    text = "Checks the mapping, shows it as a guide, or tries it on a real record."
    group = commands.add_parser("mapping", help="check, explain and try the field mapping", description=text)
    mappings = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    made = command(mappings, "check", mapping.check, "find every fault of a mapping", mapping.check.__doc__ or "", mapping.CHECK_EXAMPLES)
    made.add_argument(
        "file", nargs="?", metavar="FILE", help="overlay to check; default: the one of MAPPING_FILE, else the shipped mapping"
    )
    made.add_argument("--offline", action="store_true", help="do not ask the Salesforce org")
    made.add_argument("--strict", action="store_true", help="warnings count as faults")

    made = command(mappings, "guide", mapping.guide, "print the field mapping guide", mapping.guide.__doc__ or "", mapping.GUIDE_EXAMPLES)
    made.add_argument("file", nargs="?", metavar="FILE", help="overlay to show; default: the shipped mapping")
    made.add_argument("--write", action="store_true", help="write docs/mapping.md")

    made = command(mappings, "try", mapping.attempt, "show the plan for a record", mapping.attempt.__doc__ or "", mapping.TRY_EXAMPLES)
    made.add_argument("file", nargs="?", metavar="FILE", help="overlay to try; default: the one of MAPPING_FILE, else the shipped mapping")
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--opportunity", metavar="ID", help="a Salesforce opportunity")
    which.add_argument("--referral", metavar="ID", help="a Partner Center referral")

    made = command(commands, "plan", deals.plan, "show what the next run would do", deals.plan.__doc__ or "", deals.PLAN_EXAMPLES)
    _name(made)
    made = command(commands, "sync", deals.sync, "bring one deal into agreement", deals.sync.__doc__ or "", deals.SYNC_EXAMPLES)
    _name(made)
    _apply(made)
    command(commands, "status", deals.status, "what is in agreement, owed and parked", deals.status.__doc__ or "", deals.STATUS_EXAMPLES)
    made = command(commands, "history", deals.history, "what was done to a deal", deals.history.__doc__ or "", deals.HISTORY_EXAMPLES)
    _name(made)
    made.add_argument("--limit", type=_count, default=20, metavar="N", help="entries to show, newest first (default 20)")
    made = command(commands, "retry", deals.retry, "try a parked deal again", deals.retry.__doc__ or "", deals.RETRY_EXAMPLES)
    which = made.add_mutually_exclusive_group(required=True)
    _name(which, nargs="?")
    which.add_argument("--all-parked", action="store_true", help="every parked deal")
    made = command(commands, "undo", undoing.undo, "take the connector's writes back", undoing.undo.__doc__ or "", undoing.EXAMPLES)
    _name(made, nargs="?")
    made.add_argument("--entry", metavar="AT", help="the write of this time, as `history` shows it; default: the last one")
    made.add_argument("--all", action="store_true", help="every deal's writes of a period")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--since", metavar="TIME", help="all writes since then")
    which.add_argument("--hour", action="store_true", help="all writes of the last hour")
    made.add_argument("--until", metavar="TIME", help="and no later ones; default: now")
    made.add_argument("--field", action="append", metavar="FIELD", help="this field of the mapping alone; may be repeated")
    _apply(made)
    about = resuming.resume.__doc__ or ""
    made = command(commands, "resume", resuming.resume, "let changes go that a brake holds", about, resuming.EXAMPLES)
    made.add_argument("--direction", choices=list(DIRECTIONS.values()), help="one direction; default: both")
    _apply(made)
    made = command(commands, "erase", erasing.erase, "remove a person's data", erasing.erase.__doc__ or "", erasing.EXAMPLES)
    made.add_argument("--contact", required=True, metavar="E-MAIL", help="the person's e-mail address")
    made.add_argument("--also", action="append", metavar="TEXT", help="a name or number to be removed wherever it stands; may be repeated")
    _apply(made)
    made = command(commands, "link", deals.link, "make two existing records one deal", deals.link.__doc__ or "", deals.LINK_EXAMPLES)
    made.add_argument("--referral", required=True, metavar="ID", help="the Partner Center referral")
    made.add_argument("--opportunity", required=True, metavar="ID", help="the Salesforce opportunity")
    _apply(made)

    about = registering.register.__doc__ or ""
    made = command(commands, "register", registering.register, "register for Partner Center's events", about, registering.EXAMPLES)
    made.add_argument("--callback-url", metavar="URL", help="where the events go; default: WEBHOOK_CALLBACK_URL")
    made.add_argument("--overwrite", action="store_true", help="replace a registration that exists; other systems' events are kept")
    made.add_argument("--validate", action="store_true", help="include the test event, and have one sent; with --apply")
    _apply(made)

    text = "Signs in for the first time, and tells what is wrong with a sign-in."
    group = commands.add_parser("login", help="sign in to Partner Center or Salesforce", description=text)
    logins = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    about = login.partner_center.__doc__ or ""
    made = command(logins, "partner-center", login.partner_center, "get and store the refresh token", about, login.PARTNER_CENTER_EXAMPLES)
    made.add_argument("--key-vault", metavar="URI", help="store the token in this Key Vault; default: the one of KEY_VAULT_URI")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--browser", action="store_true", help="sign in with this machine's browser (the default)")
    which.add_argument("--device-code", action="store_true", help="sign in on any device, with a code")
    made.add_argument("--port", type=int, default=login.PORT, metavar="N", help=f"where the browser comes back to (default {login.PORT})")
    about = login.salesforce.__doc__ or ""
    command(logins, "salesforce", login.salesforce, "try the sign-in to Salesforce", about, login.SALESFORCE_EXAMPLES)

    made = command(commands, "doctor", doctor.doctor, "examine everything, with remedies", doctor.doctor.__doc__ or "", doctor.EXAMPLES)
    made.add_argument("part", nargs="?", choices=["salesforce"], metavar="salesforce", help="the Salesforce part alone")
    made.add_argument("--test-event", action="store_true", help="have Partner Center send its test event, and wait for it")
    made.add_argument("--app-url", metavar="URL", help="ask the deployed app, https://NAME.azurewebsites.net; default: COSELL_APP_URL")
    made.add_argument("--key", metavar="KEY", help="its function key; better in COSELL_APP_KEY, where no process list shows it")
    made.add_argument("--strict", action="store_true", help="amber counts as found, too")

    about = probing.probe.__doc__ or ""
    made = command(commands, "probe", probing.probe, "settle open questions on the real tenant", about, probing.EXAMPLES)
    made.add_argument("part", nargs="?", choices=list(probing.STEPS), help="one vendor; default: both")
    made.add_argument("--answers", metavar="FILE", help=f"the answers; default: the file of MAPPING_FILE, else {probing.ANSWERS}")
    made.add_argument("--again", action="append", metavar="NAME", help="repeat this step, or the step of this question; may be repeated")
    made.add_argument("--solution", metavar="ID", help="the solution of test deals; default: one that a visible referral names")
    made.add_argument("--team-email", metavar="E-MAIL", help="the team member of test deals, where an invented one is refused")
    made.add_argument("--event", action="append", metavar="FILE", help="a captured event, headers and body; may be repeated")
    made.add_argument(
        "--involve-microsoft", action="store_true", help="also ask Microsoft for help with a test deal: somebody there sees it"
    )
    made.add_argument("--close-opportunity", action="store_true", help="close the test opportunity as lost, where it is not to be deleted")
    made.add_argument("--record", nargs=2, metavar=("QUESTION", "ANSWER"), help="store an answer that a person found")
    made.add_argument("--setting", action="append", metavar="NAME=VALUE", help="with --record: a setting that follows from it")
    _apply(made)

    about = adopting.adopt.__doc__ or ""
    made = command(commands, "adopt", adopting.adopt, "move over from Microsoft's solution", about, adopting.EXAMPLES)
    which = made.add_mutually_exclusive_group()
    which.add_argument("--apply", action="store_true", help="do it; without, it is only shown")
    which.add_argument("--environment-variables", metavar="FILE", help="translate the solution's environment variables into an overlay")
    return top


def _name(made: argparse._ActionsContainer, **options: str) -> None:
    words = "an opportunity's id, a referral's id, or a record name such as sf-006… and pc-…"
    made.add_argument("name", metavar="NAME", help=words, **options)  # type: ignore[arg-type]


def _apply(made: argparse.ArgumentParser) -> None:
    made.add_argument("--apply", action="store_true", help="do it; without, it is only shown")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
