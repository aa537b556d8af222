"""Removing a person's data from what the connector stores. Pure: a row's texts in, the same texts without the person out.

A person is found by e-mail address, whatever its case. Where the address stands in a structure, the name and the phone beside it go as
well; in a text the address alone does. Memory must go on telling whether a value is still the same, or the next run would write it:
it keeps a keyed hash of a value that held the address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shared.people import pseudonym
from shared.planning import RESTING, erased
from shared.undoing import ERASED

# Keys of a person in either vendor's spelling, without case.
_BESIDE = frozenset({"name", "firstname", "lastname", "phone", "phonenumber", "mobilephone", "email", "username"})


class UnderWay(Exception):
    """The data is part of a write that may be on its way, which has to be settled first."""


@dataclass(frozen=True)
class Person:
    """Whose data goes: the address, and further texts such as a name that stand alone somewhere."""

    email: str
    also: tuple[str, ...] = ()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        address = rf"(?<![\w.+-]){re.escape(self.email)}(?![\w-]|\.\w)"
        others = [rf"(?<!\w){re.escape(text)}(?!\w)" for text in self.also]
        return re.compile("|".join([address, *others]), re.IGNORECASE)

    def stands_in(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def out_of(self, value: Any) -> Any:
        """A JSON value without the person."""
        if isinstance(value, str):
            return self._pattern.sub(ERASED, value)
        if isinstance(value, list):
            return [self.out_of(one) for one in value]
        if isinstance(value, Dict):
            is_it = any(isinstance(one, str) and one.strip().lower() == self.email.lower() for one in value.values())
            return {
                key: ERASED if is_it and key.lower() in _BESIDE and isinstance(one, str) and one else self.out_of(one)
                for key, one in value.items()
            }
        return value


def erased_texts(person: Person, table: str, texts: Dict[str, str], owed: bool) -> dict[str, str]:
    """A row's texts without the person; the same texts where there is nothing of them. `owed`: work is waiting for this deal.

    Raises `UnderWay`.
    """
    found = [name for name, text in texts.items() if person.stands_in(text)]
    if not found:
        return dict(texts)
    rest = dict(texts)
    deal = texts.get("opportunity_id", "")
    for name in found:
        if table == "links" and name in ("announced", "create"):
            if owed:
                raise UnderWay
            rest |= _unannounced(person, texts) if name == "announced" else {"create": _claim(person, texts["create"], deal)}
        elif table == "links" and name == "memory":
            memory = json.loads(texts["memory"])
            rest["memory"] = _json({field: _remembered(person, field, value, deal) for field, value in memory.items()})
        elif table == "links" and name == "wishes":
            wishes = json.loads(texts["wishes"])  # what is erased is not put back into a record
            rest["wishes"] = _json({field: wish for field, wish in wishes.items() if not person.stands_in(_json(wish))})
        else:
            rest[name] = _out_of_text(person, texts[name])
    return rest


def _remembered(person: Person, field: str, value: Any, deal: str) -> Any:
    if not person.stands_in(_json(value)):
        return value
    if field == RESTING:
        return {name: _remembered(person, name, one, deal) for name, one in value.items()}
    if isinstance(value, list):  # addresses that an earlier version remembered
        return [pseudonym(deal, one) if isinstance(one, str) and person.stands_in(one) else one for one in value]
    return erased(deal, value)


def _claim(person: Person, text: str, deal: str) -> str:
    claim = json.loads(text)
    attempts = [claim["sent"], *claim.get("earlier", ())]
    sent, *earlier = ({name: _remembered(person, name, value, deal) for name, value in one.items()} for one in attempts)
    return _json({**claim, "sent": sent, "earlier": earlier})


def _unannounced(person: Person, texts: Dict[str, str]) -> dict[str, str]:
    """Without announcements of the person's data. Nobody works on the deal, so what became of them is merely not known."""
    announced = json.loads(texts["announced"])
    gone = {side: one for side, one in announced.items() if person.stands_in(_json(one)) or person.stands_in(one["body"])}
    unsure = {name for one in gone.values() for name, value in one["fields"].items() if not value.get("undo")}
    kept = {side: one for side, one in announced.items() if side not in gone}
    unsure |= set(json.loads(texts.get("unsure") or "[]"))
    return {"announced": _json(kept) if kept else "", "unsure": _json(sorted(unsure)) if unsure else ""}


def _out_of_text(person: Person, text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return _json(person.out_of(value)) if isinstance(value, (dict, list)) else str(person.out_of(text))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
