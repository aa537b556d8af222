"""Commands about the field mapping: check, guide, try."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cosell import naming
from cosell.app import Context
from cosell.deals import document, show
from cosell.guide import PAGE, page
from cosell.rehearsal import rehearse
from cosell.terminal import FINE, FOUND, TROUBLE
from shared.errors import ConnectorError, Misconfigured
from shared.mapping import Mapping
from shared.mapping_check import against_schema
from shared.mapping_draft import read
from shared.mapping_file import SHIPPED
from shared.org import Org
from shared.org_check import against_org
from shared.org_view import look
from shared.pairing import opportunity_name, referral_name

CHECK_EXAMPLES = """\
mapping check mine.toml --settings local.settings.json
mapping check mine.toml --offline
mapping check --json"""
GUIDE_EXAMPLES = """\
mapping guide
mapping guide mine.toml
mapping guide --write"""
TRY_EXAMPLES = """\
mapping try --opportunity 006Ws0000000Q1UIAU
mapping try mine.toml --referral 78e51061-7311-48a3-82ce-6f447ed4d57b"""


def check(context: Context) -> int:
    """Names every fault of the mapping at once, each with its file and line and what to do about it.

    The file's form, Partner Center's referral schema and its rules are always checked; without --offline also the
    Salesforce org as the integration user sees it: fields, types, lengths, rights, picklists, stages, required fields.
    """
    terminal = context.terminal
    draft = read(context.mapping_file)
    findings = [*draft.findings, *against_schema(draft)]
    unasked = ""
    if not context.arguments.offline and draft.mapping is not None:
        try:
            salesforce = context.world.salesforce
            terminal.progress("asking the Salesforce org …")
            findings += against_org(draft, look(salesforce, draft))
        except ConnectorError as error:
            unasked = f"the Salesforce org could not be asked (--offline checks the file alone): {error}"
    findings = sorted(dict.fromkeys(findings), key=lambda one: (one.file_line_key[0] == SHIPPED.name, one.file_line_key[1] or 0))
    faults = [one for one in findings if one.level == "fault" or context.arguments.strict]
    for one in findings:
        terminal.say(str(one))
    rest = len(findings) - len(faults)
    terminal.say(f"{len(faults)} faults, {rest} warnings" if findings else "no faults")
    listed = []
    for one in findings:
        file, line, key = one.file_line_key
        listed.append({"level": one.level, "file": file, "line": line, "key": key, "text": one.text, "remedy": one.remedy})
    terminal.tell(
        {"findings": listed, "org_asked": not context.arguments.offline and not unasked and draft.mapping is not None, "error": unasked}
    )
    if unasked:
        terminal.progress(f"cosell: {unasked}")
    return FOUND if faults else TROUBLE if unasked else FINE


def guide(context: Context) -> int:
    """Prints the field mapping guide: every field, both its places, and the rules it travels by, from the mapping itself."""
    named = context.arguments.file
    if context.arguments.write and named:
        raise Misconfigured("docs/mapping.md describes the shipped mapping; --write goes without FILE")
    text = page(named)
    if context.arguments.write:
        PAGE.write_text(text, encoding="utf-8")
        context.terminal.say(f"written: {Path('docs') / PAGE.name}")
    else:
        context.terminal.say(text.rstrip("\n"))
    context.terminal.tell({"page": text})
    return FINE


def attempt(context: Context) -> int:
    """Shows what the mapping would do to one real record: the plan, what would be created, or what is missing. Writes nothing.

    A mapping that is not in use yet can be tried by naming its file.
    """
    world = context.world
    if context.arguments.file:
        mapping = Mapping.load(context.arguments.file)
        world = replace(world, mapping=mapping, org=Org(world.salesforce, mapping))
    arguments = context.arguments
    if arguments.opportunity:
        name = opportunity_name(naming.opportunity(arguments.opportunity))
    else:
        name = referral_name(naming.referral(arguments.referral))
    rehearsal = rehearse(world, name)
    show(context.terminal, rehearsal)
    context.terminal.tell(document(rehearsal))
    return FINE if rehearsal.outcome.kind in ("agreed", "skipped", "wrote", "created") else FOUND
