"""The command that moves over from Microsoft's solution."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from cosell import environment_variables
from cosell.app import Context
from cosell.deals import start
from cosell.terminal import FINE, FOUND, Terminal, listed
from shared import mapping_file
from shared.adopting import Match, Survey, survey
from shared.errors import Misconfigured
from shared.mapping import SIDE_NAMES, Mapping
from shared.run import wake
from shared.soql import identifier
from shared.state import Pair
from shared.world import World

EXAMPLES = """\
adopt
adopt --json > survey.json
adopt --apply
adopt --environment-variables variables.json > mine.toml"""


def adopt(context: Context) -> int:
    """Moves over from Microsoft's Power Automate solution. Its fields have the same names, so the links it made are taken over.

    Reads both sides and shows what pairs up, what the two records of a deal disagree about and what would be written,
    what is doubled, and what is only here or only there. With --apply the pairs are taken over: what agrees is remembered,
    the rest is owed and meets by the first-meeting rules. No record is created by this command, and no value is lost: an
    empty field takes the other's value, otherwise the field's winner stands and history keeps the other.
    """
    if context.arguments.environment_variables:
        return _translate(context, context.arguments.environment_variables)
    world, terminal = context.world, context.terminal
    found = _survey(world, terminal)
    waiting = [pair for pair in found.standing if not pair.checked_at and pair.referral_id and pair.opportunity_id]
    _show(terminal, found)
    if not context.arguments.apply:
        terminal.tell(_document(found))
        if found.matches:
            terminal.say("nothing was taken over; --apply does it")
        return FOUND if found.matches or found.doubled else FINE
    taken, failed = _take_over(world, terminal, found.matches)
    for pair in waiting:  # a former --apply was interrupted between the row and its mark
        world.state.mark(pair.name)
        wake(world, pair.name)
    terminal.say(f"taken over: {taken}" + (f"; {len(failed)} not" if failed else ""))
    for text in failed:
        terminal.say(f"  {text}")
    terminal.tell({**_document(found), "taken_over": taken, "failed": failed})
    return FOUND if found.doubled or failed else FINE


def _survey(world: World, terminal: Terminal) -> Survey:
    shape = world.org.shape
    mapping = shape.mapping
    terminal.progress("reading the referrals …")
    referrals = []
    for number, one in enumerate(world.partner_center.all_referrals(), 1):
        referrals.append(one)
        if number % 1000 == 0:
            terminal.progress(f"{number} referrals …")
    terminal.progress(f"{len(referrals)} referrals; reading the opportunities …")
    sync, carried = identifier(mapping.opportunity.sync_field), identifier(mapping.by_name["referral_id"].salesforce)
    scope = f"{sync} = TRUE OR {carried} != NULL"
    opportunities = world.salesforce.query_all(f"SELECT {', '.join(shape.columns)} FROM Opportunity WHERE {scope}")
    terminal.progress(f"{len(opportunities)} opportunities; comparing …")
    return survey(mapping, referrals, opportunities, [one for one in world.state.links() if isinstance(one, Pair)])


def _take_over(world: World, terminal: Terminal, matches: tuple[Match, ...]) -> tuple[int, list[str]]:
    taken, failed = 0, []
    for number, match in enumerate(matches, 1):
        try:
            start(world, match.pair, None, f"taken over from Microsoft's solution: {match.plan}")
            taken += 1
        except Misconfigured as error:
            failed.append(str(error))
        if number % 100 == 0:
            terminal.progress(f"{number} of {len(matches)} …")
    return taken, failed


def _show(terminal: Terminal, found: Survey) -> None:
    agreeing = [match for match in found.matches if not match.plan.writes]
    terminal.say(f"pairs to take over: {len(found.matches)}, of which {len(agreeing)} agree")
    for match in found.matches:
        if match.plan.writes or match.plan.notes:
            terminal.say(f"  {' and '.join(match.names)}")
            terminal.say("\n".join(f"    {line}" for line in str(match.plan).splitlines()))
    for title, lines in (
        ("doubled or contradicting, for a person to decide", found.doubled),
        ("only in Salesforce; a referral is made for each once the functions run", found.only_in_salesforce),
        ("only in Partner Center; co-sell deals become opportunities once the functions run", found.only_in_partner_center),
        ("left alone", found.left_alone),
    ):
        if lines:
            terminal.say(listed(title, list(lines)))
    if found.standing:
        terminal.say(f"known already: {len(found.standing)}")


def _document(found: Survey) -> dict[str, Any]:
    return {
        "pairs": [
            {
                "referral": match.pair.referral_id,
                "opportunity": match.pair.opportunity_id,
                "writes": [
                    {"to": SIDE_NAMES[one.side], "field": one.field, "old": one.old, "new": one.new, "why": one.why}
                    for one in match.plan.changes
                ],
                "left_alone": list(match.plan.notes),
            }
            for match in found.matches
        ],
        "doubled": list(found.doubled),
        "only_in_salesforce": list(found.only_in_salesforce),
        "only_in_partner_center": list(found.only_in_partner_center),
        "left_alone": list(found.left_alone),
        "known_already": len(found.standing),
    }


def _translate(context: Context, named: str) -> int:
    try:
        text = sys.stdin.read() if named == "-" else Path(named).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the file {named} cannot be read: {error}") from error
    values = environment_variables.read(text)
    shipped = mapping_file.read_toml(mapping_file.SHIPPED)
    overlay = environment_variables.overlay(values, shipped["switches"])
    tree = mapping_file.laid_over(shipped, tomllib.loads(overlay))
    Mapping.compile(tree)
    context.terminal.say(overlay.rstrip("\n"))
    context.terminal.tell({"overlay": overlay, "switches": tree["switches"]})
    unknown = [name for name in values if name.startswith("msft_") and name not in environment_variables.SWITCHES]
    for name in unknown:
        context.terminal.progress(f"not translated: {name}")
    return FOUND if unknown else FINE
