"""What is wrong with a mapping although it compiles, by the referral's schema and Partner Center's rules. Pure; the org is `org_check.py`'s."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from shared.mapping import FieldRow, Mapping
from shared.mapping_draft import Draft, Finding, suggestion
from shared.referral import PATCHABLE
from shared.referral_schema import FITTING, NEVER_EMPTY, SCHEMA, Place


def against_schema(draft: Draft) -> list[Finding]:
    """What the referral's schema and Partner Center's rules say about every row, and what the tables say about each other."""
    if draft.mapping is None:
        return []
    found = [one for row in draft.rows for one in _row(draft, row)]
    return [*found, *_stages(draft, draft.mapping), *_tables(draft, draft.mapping), *_constants(draft, draft.mapping)]


def _row(draft: Draft, row: FieldRow) -> Iterator[Finding]:
    place = None if row.of == "attribute" else SCHEMA.get(row.partner_center)
    there = draft.where("fields", row.name, "partner_center")
    if row.of != "attribute" and place is None:
        yield Finding(there, f"a referral has no {row.partner_center!r}", suggestion(row.partner_center, SCHEMA))
    if place and row.type not in FITTING[place.kind]:
        fitting = " or ".join(f'"{name}"' for name in FITTING[place.kind][:3])
        where = draft.where("fields", row.name, "type")
        yield Finding(
            where, f"{row.partner_center!r} holds {_ARTICLE[place.kind]}, which type {row.type!r} cannot read", f"use type = {fitting}"
        )
    if row.of == "attribute" and row.type not in ("text", "choice"):
        yield Finding(draft.where("fields", row.name, "type"), "an attribute holds a text", 'use type = "text" or "choice"')
    yield from _reach(draft, row, place)
    yield from _without_effect(draft, row)
    if row.clearing and row.partner_center in NEVER_EMPTY and not row.of:
        text = f"{row.partner_center!r} can never be empty in Partner Center, so an emptied value cannot travel"
        yield Finding(draft.where("fields", row.name, "clearing"), text, "leave clearing out")
    if place and place.values and row.type == "choice":
        for mine, theirs in row.values.items():
            if theirs not in place.values:
                text = f"Partner Center knows no {theirs!r} (for {mine!r})"
                yield Finding(draft.where("fields", row.name, "values"), text, suggestion(theirs, place.values))


_ARTICLE = {"text": "a text", "number": "a number", "flag": "yes or no", "instant": "a time", "list": "a list"}


def _reach(draft: Draft, row: FieldRow, place: Place | None) -> Iterator[Finding]:
    """Whether anything can travel the ways the row asks for."""
    where = draft.where("fields", row.name, "direction")
    if not row.on_create and not row.on_update:
        yield Finding(
            where, "travels neither with new records nor with later changes", "set on_create or on_update to true, or drop = true"
        )
    if row.travels_to("partner_center") and row.type != "help":
        if row.of == "microsoft":
            yield Finding(where, "Microsoft's referral can be read, never written", 'use direction = "to_salesforce"')
        elif place and not place.sent and f"/{row.partner_center}" not in PATCHABLE:
            yield Finding(where, f"Partner Center sets {row.partner_center!r} itself", 'use direction = "to_salesforce"')
    if row.direction == "both" and not row.on_update:
        yield Finding(where, "without on_update nobody ever wins: the field travels with new records only", "", "warning")
    if place and place.frozen and row.travels_to("salesforce") and row.on_update and row.type != "help" and row.of != "microsoft":
        text = (
            f"Partner Center freezes {row.partner_center!r} when a deal is made: on_update would only overwrite what sellers correct here"
        )
        yield Finding(draft.where("fields", row.name, "on_update"), text, "use on_update = false", "warning")


def _without_effect(draft: Draft, row: FieldRow) -> Iterator[Finding]:
    if row.values and row.type != "choice":
        yield Finding(draft.where("fields", row.name, "values"), f"values have no effect on type {row.type!r}", 'use type = "choice"')
    if row.default and not (row.of == "attribute" and row.on_create and row.travels_to("partner_center")):
        text = "a default is used for an attribute of a new referral only"
        yield Finding(draft.where("fields", row.name, "default"), text, "use a constant under [create.Referral] or [create.Opportunity]")


def _stages(draft: Draft, mapping: Mapping) -> Iterator[Finding]:
    for switch in ("on_hold_stage", "won_stage", "lost_stage"):
        stage = getattr(mapping.switches, switch)
        if stage in draft.tree["stages"]["active"]:
            text = f"{stage!r} is the {switch}; listed as an active stage too it would mean two statuses"
            where = draft.where("stages", "active") if draft.stated("stages", "active") else draft.where("switches", switch)
            yield Finding(where, text, "take it out of one of the two")


def _tables(draft: Draft, mapping: Mapping) -> Iterator[Finding]:
    known = set(mapping.by_name)
    for kind, names in mapping.required.items():
        for name in names:
            if name not in known:
                yield Finding(draft.where("required", kind), f"{name!r} is not a field of this mapping", suggestion(name, known))
    if mapping.accounts.match == "external_id" and not mapping.accounts.external_id_field:
        text = 'match = "external_id" needs the field that holds the customer\'s id'
        yield Finding(draft.where("accounts", "match"), text, 'add external_id_field = "Your_Field__c" under [accounts]')
    for name in _placeholders(mapping.audit_line):
        if name not in ("time", "text"):
            yield Finding(draft.where("audit", "line"), f"{{{name}}} stands for nothing here", "use {time} and {text}")


def _constants(draft: Draft, mapping: Mapping) -> Iterator[Finding]:
    for table in ("Opportunity", "Account", "Contact", "Lead", "Referral"):
        for key, value in getattr(mapping.create, table).items():
            where = draft.where("create", table, key)
            for name in _placeholders(value):
                if name not in mapping.by_name:
                    yield Finding(where, f"{{{name}}} is not a field of this mapping", suggestion(name, mapping.by_name))
            if table == "Referral":
                yield from _referral_constant(where, key, value)


def _referral_constant(where: str, path: str, value: Any) -> Iterator[Finding]:
    place = SCHEMA.get(path)
    if place is None:
        yield Finding(where, f"a referral has no {path!r}", suggestion(path, SCHEMA))
    elif not place.sent:
        yield Finding(where, f"Partner Center sets {path!r} itself", "take the line out")
    elif not _fits(value, place):
        text = f"{path!r} knows no {value!r}" if place.values else f"{path!r} holds {_ARTICLE[place.kind]}, not {value!r}"
        yield Finding(where, text, f"one of {', '.join(place.values)}" if place.values else "give a value of that kind")


def _fits(value: Any, place: Place) -> bool:
    if isinstance(value, str) and "{" in value:
        return place.kind in ("text", "instant")
    if place.kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if place.kind == "flag":
        return isinstance(value, bool)
    if place.kind == "list":
        return isinstance(value, list)
    return isinstance(value, str) and (not place.values or value in place.values)


def _placeholders(value: Any) -> list[str]:
    return re.findall(r"\{([a-z_]+)\}", value) if isinstance(value, str) else []
