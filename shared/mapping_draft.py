"""A mapping on its way to being right: compiled as far as it goes, with every finding about it.

Every finding says where it stands, what is wrong there and what to do. `fault`s end in records that are refused or left alone for good;
`warning`s are things that work but may not be what was meant.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from shared import mapping_file
from shared.errors import Misconfigured
from shared.mapping import FieldRow, Mapping
from shared.mapping_file import SHIPPED, Source

Level = Literal["fault", "warning"]
About = Literal["mapping", "object", "field", "right", "feature", "stage"]

_REPORTED = re.compile(r"(?P<place>(?:\S+:\d+ )?\[[^\]]*\])(?: (?P<key>[^\s:]+): |: | )(?P<text>.*)", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """One thing to correct, or to think about."""

    where: str
    """`file:line [table] key`"""
    text: str
    remedy: str = ""
    level: Level = "fault"
    about: About = "mapping"
    """What has to be corrected: the file, or what the org lacks, forbids or has switched off."""

    def __str__(self) -> str:
        lead = "warning: " if self.level == "warning" else ""
        return f"{self.where}: {lead}{self.text}" + (f"\n    remedy: {self.remedy}" if self.remedy else "")

    @property
    def file_line_key(self) -> tuple[str, int | None, str]:
        """The same place for a machine: file, line, `table.key`."""
        found = re.match(r"(?:(\S+):(\d+) )?\[([^\]]*)\](?: (.*))?$", self.where)
        if not found:
            return "", None, self.where
        file, line, table, key = found.groups()
        return file or "", int(line) if line else None, ".".join(part for part in (table, key) if part)


@dataclass(frozen=True)
class Draft:
    """A mapping as far as it can be used, where it is stated, and what stood in the way."""

    mapping: Mapping | None
    tree: Dict[str, Any]
    stated_tree: Dict[str, Any]
    source: Source
    findings: tuple[Finding, ...]
    set_aside: tuple[FieldRow, ...] = ()
    """Rows in good form that the mapping could not take."""

    @property
    def rows(self) -> tuple[FieldRow, ...]:
        """Every field that can be looked at, whatever else is wrong with it."""
        return (*(self.mapping.fields if self.mapping else ()), *self.set_aside)

    def where(self, *location: str) -> str:
        return self.source.where(*location)

    def where_placed(self, name: str) -> str:
        """Where a field's place in Salesforce is stated: the switch, where the row names one."""
        switch = str(self.tree["fields"].get(name, {}).get("salesforce", "")).strip("{}")
        table = next((one for one in ("switches", "opportunity") if switch in self.tree[one]), "")
        return self.where(table, switch) if table else self.where("fields", name, "salesforce")

    def stated(self, *location: str) -> bool:
        """Whether the operator's own file says this, rather than the shipped one."""
        found: Any = self.stated_tree
        for part in location:
            if not isinstance(found, Dict) or part not in found:
                return False
            found = found[part]
        return True


def read(overlay: str | Path | None = None) -> Draft:
    """Compiles the mapping. What is faulty in an overlay is set aside, so that it does not hide what is wrong elsewhere.

    Raises `Misconfigured` for a file that cannot be read or is not TOML.
    """
    shipped = mapping_file.read_toml(SHIPPED)
    stated = mapping_file.read_toml(Path(overlay)) if overlay else {}
    usable = copy.deepcopy(stated)
    source = Source(SHIPPED, *([Path(overlay)] if overlay else []))
    found: dict[str, Finding] = {}
    mapping: Mapping | None = None
    while mapping is None:
        try:
            mapping = Mapping.compile(mapping_file.laid_over(shipped, usable), source)
        except Misconfigured as error:
            new = {str(one): one for one in _reported(str(error), shipped)}
            found |= {text: one for text, one in new.items() if text not in found}
            moved = [_set_aside(usable, shipped, one) for one in new.values()]
            if not any(moved):
                break
    tree = mapping_file.laid_over(shipped, usable)
    standing = mapping.by_name if mapping else {}
    aside = [_alone(name, row, tree) for name, row in stated.get("fields", {}).items() if name not in standing]
    return Draft(mapping, tree, stated, source, tuple(found.values()), tuple(row for row in aside if row))


def _alone(name: str, stated: Any, tree: Dict[str, Any]) -> FieldRow | None:
    """A row of the overlay by itself; None where its form is wrong, or where it is dropped."""
    try:
        row = mapping_file.Row.model_validate(stated)
    except ValidationError:
        return None
    known = {**tree["switches"], **tree["opportunity"]}
    place = str(known.get(row.salesforce[1:-1], "")) if row.salesforce.startswith("{") else row.salesforce
    kind, _, path = row.partner_center.rpartition(":")
    rest = (row.clearing, row.optional, kind, row.on_create, row.on_update, row.values, row.default, row.label)
    return None if row.drop else FieldRow(name, path, place, row.type, row.direction, row.winner or "salesforce", *rest)


def _reported(report: str, shipped: Dict[str, Any]) -> Iterator[Finding]:
    """The findings in the loader's own report, with its library's words put into ours."""
    for line in re.split(r"\n {2}- ", report)[1:]:
        found = _REPORTED.fullmatch(line)
        if found is None:
            yield Finding("[]", line)
            continue
        text, _, remedy = found["text"].partition("; ")
        one = Finding(f"{found['place']} {found['key']}" if found["key"] else found["place"], text, remedy)
        yield _in_our_words(one, shipped)


def _in_our_words(one: Finding, shipped: Dict[str, Any]) -> Finding:
    _, _, dotted = one.file_line_key
    *parents, key = dotted.split(".")
    given = re.search(r" \(given: (.*)\)$", one.text)
    if one.text.startswith("Extra inputs"):
        known: Any = mapping_file.Row.model_fields if parents[:1] == ["fields"] else shipped
        for part in parents if parents[:1] != ["fields"] else ():
            known = known.get(part, {})
        return replace(one, text=f"nothing is called {key!r} here", remedy=suggestion(key, known) or "take it out")
    if one.text.startswith("Field required"):
        remedy = f"add {key} = …; `cosell mapping guide` tells what may stand there"
        return replace(one, text="a field of your own needs it", remedy=remedy)
    if one.text.startswith("String should match pattern") and given:
        if key == "partner_center":
            return replace(one, text=f"{given[1]} is not a path into a referral", remedy='such as "details/dealValue"')
        if key in ("salesforce", "object", "relationship", "detail_relationship") or key.endswith(("_field", "_object")):
            remedy = "give the name the API uses, such as Deal_Value__c, not the label"
            return replace(one, text=f"{given[1]} is not the API name of a field", remedy=remedy)
    return one


def _set_aside(stated: dict[str, Any], shipped: Dict[str, Any], one: Finding) -> bool:
    """Takes a faulty place out of the overlay: the key where the shipped file has its own, otherwise the field or table. False: not there."""
    _, _, dotted = one.file_line_key
    parts = dotted.split(".")
    if parts[0] == "fields" and len(parts) > 1:
        name, key = parts[1], ".".join(parts[2:3])
        row = stated.get("fields", {}).get(name)
        if isinstance(row, dict) and key in row and name in shipped["fields"]:
            del row[key]
            return True
        return bool(row is not None and stated["fields"].pop(name, None) is not None)
    for depth in range(len(parts), 0, -1):
        *parents, last = parts[:depth]
        table: Any = stated
        for part in parents:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and last in table:
            del table[last]
            return True
    return False


def suggestion(name: str, known: Iterable[str]) -> str:
    """A remedy for a name nobody knows: the nearest one, or the whole list where it is short."""
    listed = sorted(known)
    near = get_close_matches(name, listed, n=2, cutoff=0.6) or [one for one in listed if one.lower() == name.lower()]
    likeness = [SequenceMatcher(None, name, one).ratio() for one in near]
    near = [one for one, ratio in zip(near, likeness, strict=True) if ratio > max(likeness) - 0.1]
    if near:
        return f"did you mean {' or '.join(repr(one) for one in near)}?"
    return f"one of {', '.join(listed)}" if 0 < len(listed) <= 12 else ""
