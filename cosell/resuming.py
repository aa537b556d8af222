"""`cosell resume`: shows what the brakes keep back, and lets it go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cosell.app import Context
from cosell.deals import document, show
from cosell.rehearsal import rehearse
from cosell.terminal import FINE, FOUND
from shared import reporting
from shared.brakes import DIRECTIONS
from shared.errors import ConnectorError
from shared.mapping_file import Side
from shared.state import Owed

EXAMPLES = """\
resume
resume --direction to-partner-center
resume --direction to-partner-center --apply"""

SHOWN = 3


def resume(context: Context) -> int:
    """Shows how many deals the brakes hold, since when and why, and what would be written for a few of them. Lets them go with --apply.

    More writes in one direction within an hour than BRAKE_WRITES_PER_HOUR, and than BRAKE_SHARE_PERCENT of all pairs, hold that direction:
    a mass update or a wrong mapping must not rewrite every deal. Look at the examples first. Where they are wrong, mend the mapping or take
    the edits back before you resume; deals are planned anew on what the records then say.
    """
    world, terminal = context.world, context.terminal
    named = context.arguments.direction
    sides: list[Side] = [side for side, direction in DIRECTIONS.items() if named in (None, direction)]
    owed = list(world.state.all_owed())
    found = reporting.brakes(world, owed)
    waiting = {side: [one for one in owed if side in one.held] for side in sides}
    # A direction that is open again may have deals left where an earlier resume was stopped half-way.
    concerned = [side for side in sides if waiting[side] or found[DIRECTIONS[side]]["held_since"]]
    told: dict[str, Any] = {}
    for side in concerned:
        direction = DIRECTIONS[side]
        terminal.say(told_of(direction, found[direction]))
        told[direction] = {**found[direction], "examples": _examples(context, waiting[side])}
    for side, number in (world.brakes.release(concerned) if context.arguments.apply else {}).items():
        told[DIRECTIONS[side]]["released"] = number
        terminal.say(f"{DIRECTIONS[side]}: released {number} deals; they are due now and taken up within a minute")
    terminal.tell(told)
    if not concerned:
        terminal.say("nothing is held")
        return FINE
    if not context.arguments.apply:
        terminal.say("nothing was changed; --apply lets them go")
        return FOUND
    return FINE


def told_of(direction: str, brake: dict[str, Any]) -> str:
    """One direction in a line."""
    deals = f"{brake['waiting']} deals wait"
    if not brake["held_since"]:
        return f"{direction}: not held, {brake['writes']} of {brake['limit']} writes within an hour" + (
            f"; {deals}" if brake["waiting"] else ""
        )
    return f"{direction}: held since {brake['held_since']}, {brake['writes']} writes where {brake['limit']} are allowed; {deals}"


def _examples(context: Context, waiting: Sequence[Owed]) -> list[dict[str, Any]]:
    """What would be written for some of the deals, spread over all that wait."""
    world = context.world
    open_ = replace(world, settings=replace(world.settings, brake_writes_per_hour=0))
    step = max(1, len(waiting) // SHOWN)
    told = []
    for one in waiting[::step][:SHOWN]:
        context.terminal.progress(f"planning {one.name} …")
        try:
            rehearsal = rehearse(open_, one.name)
        except ConnectorError as error:
            told.append({"name": one.name, "error": str(error)})
            context.terminal.say(f"{one.name}: cannot be planned now: {error}")
            continue
        show(context.terminal, rehearsal)
        told.append({"name": one.name, **document(rehearsal)})
    return told
