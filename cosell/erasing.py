"""The command that removes a person's data from what the connector stores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from cosell.app import Context
from cosell.terminal import FINE, FOUND, Terminal, listed
from shared.erasing import Person, UnderWay, erased_texts
from shared.errors import Misconfigured
from shared.state import State
from shared.tables import NAMES, RowChanged, Stored

EXAMPLES = """\
erase --contact dana.moreau@fabrikam.example
erase --contact dana.moreau@fabrikam.example --apply
erase --contact dana.moreau@fabrikam.example --also Moreau --apply"""

TRIES = 10
PROGRESS = 5_000


def erase(context: Context) -> int:
    """Removes a person's data from everything the connector stores: links with their memory, history, owed work, cursors.

    The person is found by e-mail address, whatever its case. Where the address stands beside a name and a phone, those go too; a name that
    stands alone in a text is removed with --also. Memory keeps a keyed hash where the merge needs one, so that nothing is written to the
    vendors because of an erasure. History says that something was erased, not what.

    Not touched: the records in Salesforce and Partner Center, which the seller and the portal erase (first, or the next edit of such a
    deal may bring a text back), and the audit field in Salesforce. Logs hold no personal data. Shows what it would do; does it with --apply.
    """
    person = _person(context.arguments.contact, context.arguments.also or [])
    state, terminal, apply = context.world.state, context.terminal, bool(context.arguments.apply)
    found: Counter[str] = Counter()
    names: dict[str, None] = {}
    waiting: list[str] = []
    for table in NAMES:
        for stored in _standing(state, terminal, person, table):
            name = stored.key if table == "owed" else stored.partition
            if not _erased(state, person, table, stored, apply):
                waiting.append(name)
                continue
            found[table] += 1
            if table != "cursors":
                names[name] = None
    if apply:
        for name in names:
            state.record(name, "erased", "a person's data was erased on request")
    _tell(terminal, found, list(names), waiting, apply)
    return FOUND if waiting or (found and not apply) else FINE


def _person(contact: str, also: list[str]) -> Person:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", contact.strip()):
        raise Misconfigured(f"{contact[:80]!r} is not an e-mail address")
    short = [text for text in also if len(text.strip()) < 3]
    if short:
        raise Misconfigured(f"{short[0]!r} is too short to be removed wherever it stands; give three letters or more")
    return Person(contact.strip(), tuple(text.strip() for text in also))


def _standing(state: State, terminal: Terminal, person: Person, table: str) -> Iterator[Stored]:
    """The rows that hold something of the person, one at a time."""
    terminal.progress(f"looking through {table} …")
    for number, (stored, texts) in enumerate(state.texts(table), 1):
        if number % PROGRESS == 0:
            terminal.progress(f"{number} rows of {table} …")
        if any(person.stands_in(text) for text in texts.values()):
            yield stored


def _erased(state: State, person: Person, table: str, stored: Stored, apply: bool) -> bool:
    """Rewrites one row, or only tries to. False where the data is part of a write under way, or a worker leaves no moment for it."""
    for _ in range(TRIES):
        read = state.texts_again(table, stored)
        if read is None:
            return True
        current, texts = read
        try:
            rest = erased_texts(person, table, texts, owed=table == "links" and state.owed(stored.partition) is not None)
            if apply and rest != texts:
                state.rewrite(table, current, rest)
            return True
        except UnderWay:
            return False
        except RowChanged:
            continue
    return False


def _tell(terminal: Terminal, found: Counter[str], names: list[str], waiting: list[str], apply: bool) -> None:
    done = "erased" if apply else "would be erased"
    if found:
        terminal.say(f"{done}: " + ", ".join(f"{count} rows of {table}" for table, count in found.items()))
        terminal.say(listed("deals", names))
    elif not waiting:
        terminal.say("nothing of this person is stored here")
    if waiting:
        terminal.say(
            listed("not yet, because a write with this data is under way; run this again when `status` shows them settled", waiting)
        )
    terminal.say("the records in Salesforce and Partner Center, and the audit field there, are not touched: erase them where they stand")
    if found and not apply:
        terminal.say("nothing was erased; --apply does it")
    terminal.tell({"rows": dict(found), "deals": names, "waiting": waiting, "erased": apply})
