"""The field mapping guide, `docs/mapping.md`: written from the rows the connector itself reads, so that it cannot say something else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosell.guide_words import EXAMPLES, FIELDS, INTRODUCTION, STATUS_TABLE, TYPES
from shared import mapping_file
from shared.mapping import FieldRow, Mapping
from shared.mapping_file import SHIPPED
from shared.referral import HELP_CODES

PAGE = SHIPPED.parent / "docs" / "mapping.md"

_ARROWS = {"both": "↔", "to_salesforce": "→", "to_partner_center": "←"}
_WINNERS = {"salesforce": "Salesforce", "partner_center": "Partner Center"}


def page(overlay: str | None = None) -> str:
    """The whole guide, for the shipped mapping or with an overlay's differences. Raises `Misconfigured`."""
    mapping = Mapping.load(overlay)
    tree = mapping_file.read_toml(SHIPPED)
    if overlay:
        tree = mapping_file.laid_over(tree, mapping_file.read_toml(Path(overlay)))
    parts = [INTRODUCTION, _at_a_glance(mapping), *(_field(row, mapping) for row in mapping.fields), STATUS_TABLE, _help_table()]
    parts += [*_tables(tree), *_examples()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _at_a_glance(mapping: Mapping) -> str:
    lines = [
        "## Fields at a glance",
        "",
        "| field | Partner Center | | Salesforce | winner | new records | later changes |",
        "| --- | --- | :-: | --- | --- | :-: | :-: |",
    ]
    for row in mapping.fields:
        winner = _WINNERS[row.winner] if row.direction == "both" else "–"
        cells = [f"[{row.label}](#{_anchor(row)})", f"`{_place_there(row)}`", _ARROWS[row.direction], _place_here(row, mapping), winner]
        lines.append(_line(*cells, _when(row.on_create), _when(row.on_update)))
    return "\n".join([*lines, "", "## Field by field"])


def _field(row: FieldRow, mapping: Mapping) -> str:
    facts = [f"Partner Center: `{_place_there(row)}`{_WHOSE.get(row.of, '')}. Salesforce: {_place_here(row, mapping)}.", _travels(row)]
    if row.travels_to("salesforce") or row.travels_to("partner_center"):
        facts.append(_emptied(row))
    if row.optional:
        facts.append("Left out where the org has no such field.")
    if row.default:
        facts.append(f"Where Salesforce holds nothing, a new referral says `{row.default}`.")
    if row.frozen_once_shared:
        facts.append("Partner Center freezes it once the deal is shared with Microsoft: no update is attempted from then on.")
    words = FIELDS.get(row.name) or TYPES.get(row.type)
    if words:
        facts.append(words)
    lines = [f"### {row.label}", "", "\n".join(fact for fact in facts if fact)]
    if row.values:
        lines += [
            "",
            "| Salesforce | Partner Center |",
            "| --- | --- |",
            *(f"| {mine} | `{theirs}` |" for mine, theirs in row.values.items()),
        ]
    return "\n".join(lines)


_WHOSE = {"microsoft": ", on Microsoft's own referral of the same engagement", "attribute": ", an entry of `additionalRequirements`"}


def _travels(row: FieldRow) -> str:
    made, changed = row.on_create, row.on_update
    if isinstance(made, str) or isinstance(changed, str):
        when = f"with new records: {_when(made)}, with later changes: {_when(changed)}"
    else:
        when = {
            (True, True): "with new records and with later changes",
            (True, False): "with new records only",
            (False, True): "with later changes only",
            (False, False): "never",
        }[made, changed]
    if row.direction == "both":
        return f"Travels both ways, {when}; when both sides changed and neither saw the other, {_WINNERS[row.winner]} wins."
    return f"Travels to {'Salesforce' if row.direction == 'to_salesforce' else 'Partner Center'}, {when}."


def _emptied(row: FieldRow) -> str:
    if row.type in ("solutions", "members", "answer", "help", "one_way_flag", "status", "link"):
        return ""
    if row.clearing and row.direction == "both":
        return "An emptied value travels."
    return "An emptied value does not travel; the other side keeps its own."


def _place_there(row: FieldRow) -> str:
    return row.partner_center


def _place_here(row: FieldRow, mapping: Mapping) -> str:
    if row.salesforce:
        return f"`{row.salesforce}`"
    return {
        "solutions": f"rows of `{mapping.solutions.object}`",
        "members": "contact roles" if row.frozen_once_shared else "owner and opportunity team",
        "answer": f"an entry in `{mapping.opportunity.audit_field}`",
    }.get(row.type, "–")


def _help_table() -> str:
    lines = ["## How can Microsoft help?", "", "| Salesforce | Partner Center |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {mine} | `{theirs}` |" for mine, theirs in HELP_CODES.items())])


# -- the other tables of the file ------------------------------------------------------------------------------------------------------


_TITLES = {
    "switches": ("Switches", "The seven environment variables of Microsoft's solution, and the two closed stages."),
    "stages": ("Stages", ""),
    "opportunity": ("The connector's own fields on Opportunity", ""),
    "leads": ("Leads", ""),
    "solutions": ("Solution rows", ""),
    "accounts": ("Finding the customer", ""),
    "people": ("People", ""),
    "required": ("What must be there before a deal is shared", ""),
    "audit": ("Audit", ""),
    "referral": ("Referral texts", ""),
}


def _tables(tree: dict[str, Any]) -> Iterator[str]:
    comments, heads = _comments(SHIPPED.read_text(encoding="utf-8"))
    for table in tree:
        if table in ("version", "fields", "create"):
            continue
        title, words = _TITLES.get(table, (table.replace("_", " ").capitalize(), ""))
        lines = [f"## {title}", "", words or heads.get(table, ""), "", f"| `[{table}]` | value | meaning |", "| --- | --- | --- |"]
        lines += [_line(f"`{key}`", _value(value), comments.get((table, key), "")) for key, value in tree[table].items()]
        yield re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _comments(text: str) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """The comment behind each key, and the comment lines under each table's head: the file explains itself once."""
    behind: dict[tuple[str, str], str] = {}
    heads: dict[str, str] = {}
    table, at_head = "", False
    for line in text.splitlines():
        if head := re.match(r"\[([^\[\]]+)\]", line):
            table, at_head = head[1], True
        elif at_head and line.startswith("# "):
            heads[table] = f"{heads.get(table, '')} {line[2:]}".strip()
        elif key := re.match(r"\"?([\w -]+?)\"?\s*=", line):
            at_head = False
            if comment := re.search(r"\s#\s(.*)$", line):
                behind[table, key[1]] = comment[1]
    return behind, heads


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"`{one}`" for one in value) or "–"
    return f"`{json.dumps(value, ensure_ascii=False)}`" if value != "" else "–"


def _examples() -> Iterator[str]:
    yield (
        "## Make it yours\n\nPut your differences into a file of your own, name it in the setting `MAPPING_FILE`, and state only what differs: "
        "the shipped file is replaced by every upgrade, yours is not. Check it before you use it:\n\n"
        "    python -m cosell mapping check mine.toml --settings local.settings.json\n"
        "    python -m cosell mapping try mine.toml --opportunity 006…"
    )
    for title, words, toml in EXAMPLES:
        yield f"### {title}\n\n{words}\n\n```toml\n{toml.strip()}\n```"


def _anchor(row: FieldRow) -> str:
    return re.sub(r"[^\w -]", "", row.label.lower()).replace(" ", "-")


def _when(value: bool | str) -> str:
    if isinstance(value, str):
        return "in Salesforce" if value == "to_salesforce" else "in Partner Center"
    return "yes" if value else "no"


def _line(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
