"""The mapping held against one Salesforce org: every field and every stage. Pure.

What else the connector needs there is `org_needs.py`'s, what it has to be allowed `org_rights.py`'s.
Describe answers what can be known beforehand; validation rules, triggers and lookup filters show themselves on a record alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.codecs import LONG_TEXT_LENGTH
from shared.mapping import FieldRow, Mapping
from shared.mapping_draft import Draft, Finding, suggestion
from shared.org_needs import needs
from shared.org_rights import rights
from shared.org_view import TEXTS, Described, View, absent, values_of
from shared.referral import HELP_CODES
from shared.referral_schema import SCHEMA

_READS: dict[str, frozenset[str]] = {
    "text": TEXTS | {"id", "reference"},
    "long_text": TEXTS,
    "title": frozenset({"string", "textarea"}),
    "money": frozenset({"currency", "double", "int", "percent"}),
    "currency": frozenset({"picklist", "string"}),
    "date": frozenset({"date", "datetime"}),
    "one_way_flag": frozenset({"boolean"}),
    "choice": frozenset({"picklist", "string", "combobox"}),
    "link": frozenset({"url", "string", "textarea"}),
    "status": frozenset({"picklist"}),
    "help": frozenset({"picklist", "string"}),
}
# A date is written as a day, which a datetime field refuses; a reference takes ids, which no referral holds.
_READ_ONLY_TYPES: dict[str, frozenset[str]] = {"date": frozenset({"datetime"}), "text": frozenset({"id", "reference"})}
_CLIPPED = {"text": 255, "choice": 255, "long_text": LONG_TEXT_LENGTH}


def against_org(draft: Draft, view: View) -> list[Finding]:
    """Every place where the mapping and this org do not fit."""
    mapping = draft.mapping
    if mapping is None:
        return []
    if view.objects.get("Opportunity") is None:
        text = "the integration user does not see Opportunity"
        return [Finding("[opportunity]", text, "assign it the integration permission set", about="object")]
    found = [one for row in draft.rows if row.salesforce for one in _row(draft, view, row)]
    found += _stages(draft, view, mapping)
    found += needs(draft, view, mapping)
    found += rights(draft, view, mapping)
    return found


# -- one field -------------------------------------------------------------------------------------------------------------------------


def _row(draft: Draft, view: View, row: FieldRow) -> Iterator[Finding]:
    where = draft.where_placed(row.name)
    described = view.field("Opportunity", row.salesforce)
    if "." in row.salesforce:
        described, fault = _related(view, row.salesforce, where)
        # An optional field that nobody asked for by name is simply left out.
        if fault and (not row.optional or draft.stated("fields", row.name)):
            yield fault
    elif described is None:
        if row.name == "currency" and not draft.mapping.opportunity.company_currency:  # type: ignore[union-attr]
            text = f"Opportunity has no field {row.salesforce}, so this is a single-currency org whose currency nobody stated"
            remedy = 'give the ISO 4217 code: company_currency = "EUR"'
            yield Finding(draft.where("opportunity", "company_currency"), text, remedy, about="feature")
        elif not row.optional or draft.stated("fields", row.name):
            yield absent(view, "Opportunity", row.salesforce, where)
    if described is None:
        return
    kind = str(described.get("type"))
    if kind not in _READS.get(row.type, frozenset({kind})):
        yield Finding(where, f"{row.salesforce} is a {kind} field, which type {row.type!r} cannot read", _type_for(kind))
        return
    yield from _writable(draft, row, described, kind, where)
    yield from _lengths(row, described, where)
    yield from _picklist(draft, row, described)
    if row.name in ("referral_id", "referral_key") and not described.get("filterable", True):
        yield Finding(where, f"{row.salesforce} cannot be searched, and deals are found by it", "use a text field marked External ID")


def _related(view: View, place: str, where: str) -> tuple[Described | None, Finding | None]:
    """The field at the end of `Solution_Area__r.Name`."""
    relation, _, name = place.partition(".")
    own = view.fields["Opportunity"]
    known = {str(one.get("relationshipName")): one for one in own.values() if one.get("relationshipName")}
    if relation not in known:
        return None, Finding(where, f"Opportunity has no relationship {relation}", suggestion(relation, known), about="field")
    for target in known[relation].get("referenceTo") or []:
        if view.objects.get(str(target)) is None:
            remedy = "let its permission set read the object"
            return None, Finding(where, f"the integration user does not see {target}", remedy, about="object")
        if (found := view.field(str(target), name)) is not None:
            return found, None
        return None, absent(view, str(target), name, where)
    return None, None


def _type_for(kind: str) -> str:
    fitting = [
        f'"{name}"' for name, kinds in _READS.items() if kind in kinds and name not in ("title", "link", "status", "help", "currency")
    ]
    return f"use type = {' or '.join(fitting)}, or another field" if fitting else "map another field"


def _writable(draft: Draft, row: FieldRow, described: Described, kind: str, where: str) -> Iterator[Finding]:
    """`StageName` and the like can be written, a formula cannot, and neither can what the permission set only shows."""
    if not row.travels_to("salesforce"):
        return
    wanted = [("on_create", "createable", "new records"), ("on_update", "updateable", "later changes")]
    refused = [words for ours, theirs, words in wanted if getattr(row, ours) and not described.get(theirs, True)]
    if refused:
        reason = "a formula" if described.get("calculated") else "read-only for the integration user"
        text = f"{row.salesforce} is {reason}, so {' and '.join(refused)} cannot reach it"
        remedy = 'use direction = "to_partner_center"' if row.direction == "both" else "map a field that can be written"
        if reason == "a formula":
            yield Finding(where, text, remedy)
        else:
            yield Finding(where, text, f"let the permission set edit it, or {remedy}", about="right")
    if kind in _READ_ONLY_TYPES.get(row.type, frozenset()):
        yield Finding(
            where, f"{row.salesforce} is a {kind} field and refuses what type {row.type!r} writes", 'use direction = "to_partner_center"'
        )


def _lengths(row: FieldRow, described: Described, where: str) -> Iterator[Finding]:
    holds = int(described.get("length") or 0)
    keeps = _CLIPPED.get(row.type, 0)
    if not holds or not keeps or described.get("type") in ("picklist", "reference", "id"):
        return
    place = None if row.of == "attribute" else SCHEMA.get(row.partner_center)
    comes = min(keeps, place.length) if place and place.length else keeps
    if row.travels_to("salesforce") and holds < comes:
        text = f"{row.salesforce} holds {holds} characters; a longer value from Partner Center would be refused and park the deal"
        yield Finding(where, text, f"make the field longer (up to {comes} can come), or map a longer one", "warning")
    if row.travels_to("partner_center") and holds > keeps and row.type == "text":
        text = f"{row.salesforce} holds {holds} characters, of which type 'text' carries {keeps}"
        yield Finding(where, text, 'use type = "long_text"', "warning")


def _picklist(draft: Draft, row: FieldRow, described: Described) -> Iterator[Finding]:
    if described.get("type") != "picklist" or row.type == "status":
        return
    offered = values_of(described)
    where = draft.where("fields", row.name, "values")
    if row.type == "choice":
        for value in row.values:
            if value not in offered:
                text = f"{row.salesforce} has no value {value!r}"
                yield Finding(where, text, suggestion(value, offered), "fault" if described.get("restrictedPicklist") else "warning")
        for value in offered:
            if value not in row.values:
                text = f"{row.salesforce} value {value!r} is not mapped: a deal that has it keeps this field to itself"
                yield Finding(where, text, f'add "{value}" = "…" to values', "warning")
    elif row.type == "help":
        for value in offered:
            if value not in HELP_CODES:
                text = f"{row.salesforce} value {value!r} is not a help that Partner Center knows"
                yield Finding(draft.where_placed(row.name), text, suggestion(value, HELP_CODES), "warning")
    elif row.type == "text" and row.travels_to("salesforce") and described.get("restrictedPicklist"):
        text = f"{row.salesforce} is a restricted picklist: a value from Partner Center that is not in it would be refused"
        yield Finding(draft.where("fields", row.name, "type"), text, 'use type = "choice" with values', "warning")


# -- stages ----------------------------------------------------------------------------------------------------------------------------


def _stages(draft: Draft, view: View, mapping: Mapping) -> Iterator[Finding]:
    """Each of the four must be of its kind, since a closed stage cannot be left: no deal could be accepted, or go on, from there."""
    stages = {str(one["ApiName"]): one for one in view.stages}
    for switch, closed, won in (
        ("active_stage", False, False),
        ("on_hold_stage", False, False),
        ("won_stage", True, True),
        ("lost_stage", True, False),
    ):
        name, where = getattr(mapping.switches, switch), draft.where("switches", switch)
        fitting = [one for one, stage in stages.items() if (bool(stage["IsClosed"]), bool(stage["IsWon"])) == (closed, won)]
        if name not in stages:
            near = suggestion(name, stages)
            remedy = near if near.startswith("did") else f"name one of {', '.join(fitting)}; or add the stage to the org"
            yield Finding(where, f"the org has no stage {name!r}", remedy, about="stage")
        elif name not in fitting:
            kind = "closed as won" if closed and won else "closed as lost" if closed else "open"
            is_now = "won" if stages[name]["IsWon"] else "closed" if stages[name]["IsClosed"] else "open"
            text = f"stage {name!r} is {is_now} in this org, the {switch} has to be {kind}"
            remedy = f"name one of {', '.join(fitting)}" if fitting else "add such a stage to the org"
            yield Finding(where, text, remedy, about="stage")
    where = draft.where("stages", "active")
    for name in mapping.active_stages - {mapping.switches.active_stage}:
        if name in stages and stages[name]["IsClosed"]:
            text = f"stage {name!r} is closed in this org: no deal can be active in it"
            yield Finding(where, text, "take it out of the list", about="stage")
        elif name not in stages and draft.stated("stages", "active"):
            yield Finding(where, f"the org has no stage {name!r}", suggestion(name, stages), "warning", about="stage")
    known = mapping.active_stages | {getattr(mapping.switches, f"{one}_stage") for one in ("on_hold", "won", "lost")}
    unmapped = [name for name, one in stages.items() if not one["IsClosed"] and name not in known]
    for name in unmapped:
        text = f"the org's open stage {name!r} is not mapped: the status of a deal in it does not travel"
        yield Finding(where, text, f'add "{name}" to [stages] active', "warning", about="stage")
