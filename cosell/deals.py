"""Commands about single deals, and about all of them: plan, sync, status, history, retry, link."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from cosell import naming
from cosell.app import Context
from cosell.rehearsal import Rehearsal, rehearse
from cosell.terminal import FINE, FOUND, Terminal, listed
from shared import reporting
from shared.adopting import first_meeting
from shared.errors import Gone, Misconfigured
from shared.flows import synchronize
from shared.pairing import is_opportunity_id, long_id, opportunity_name, referral_name
from shared.planning import AGREED
from shared.referral import is_microsofts
from shared.run import Outcome, wake
from shared.state import Pair
from shared.tables import RowChanged, RowExists
from shared.world import World

PLAN_EXAMPLES = """\
plan 006Ws0000000Q1UIAU
plan pc-78e51061-7311-48a3-82ce-6f447ed4d57b --json"""
SYNC_EXAMPLES = """\
sync 006Ws0000000Q1UIAU
sync 006Ws0000000Q1UIAU --apply"""
STATUS_EXAMPLES = """\
status --settings local.settings.json
status --json"""
HISTORY_EXAMPLES = """\
history 006Ws0000000Q1UIAU
history 78e51061-7311-48a3-82ce-6f447ed4d57b --limit 3 --json"""
RETRY_EXAMPLES = """\
retry 006Ws0000000Q1UIAU
retry --all-parked"""
LINK_EXAMPLES = """\
link --referral 78e51061-7311-48a3-82ce-6f447ed4d57b --opportunity 006Ws0000000Q1UIAU
link --referral 78e51061-7311-48a3-82ce-6f447ed4d57b --opportunity 006Ws0000000Q1UIAU --apply"""

_QUIET = ("agreed", "skipped", "idle")


def plan(context: Context) -> int:
    """Shows what the next run for a deal would do, on the records as they are now. Nothing is written anywhere."""
    name = naming.record_name(context.arguments.name)
    rehearsal = rehearse(context.world, name)
    show(context.terminal, rehearsal)
    context.terminal.tell(document(rehearsal))
    return FINE if rehearsal.outcome.kind in _QUIET else FOUND


def sync(context: Context) -> int:
    """Brings one deal into agreement, now. Shows the plan; carries it out with --apply."""
    world, terminal = context.world, context.terminal
    name = naming.record_name(context.arguments.name)
    rehearsal = rehearse(world, name)
    show(terminal, rehearsal)
    if not context.arguments.apply:
        terminal.tell(document(rehearsal))
        if rehearsal.outcome.kind in _QUIET:
            return FINE
        terminal.say("nothing was written; --apply does it")
        return FOUND
    terminal.progress(f"synchronizing {name} …")
    world.state.mark(name)
    outcome = synchronize(world, name)
    terminal.say(f"done: {_words(outcome)}")
    terminal.tell({**document(rehearsal), "outcome": asdict(outcome)})
    return FOUND if outcome.kind in ("parked", "later", "held") else FINE


def show(terminal: Terminal, rehearsal: Rehearsal) -> None:
    """A rehearsal for people."""
    terminal.say(_words(rehearsal.outcome))
    for attempt in rehearsal.attempts:
        terminal.say(f"would be sent to {attempt.vendor}, {attempt.what}:")
        terminal.say(_indented(_short(attempt.body)))
    if rehearsal.more:
        terminal.say("more follows once this is answered")


def document(rehearsal: Rehearsal) -> dict[str, Any]:
    """A rehearsal for a machine."""
    return {"would": asdict(rehearsal.outcome), "sends": [asdict(one) for one in rehearsal.attempts], "more_follows": rehearsal.more}


def _words(outcome: Outcome) -> str:
    kinds = {"wrote": "", "created": "", "agreed": "", "skipped": "left alone: ", "parked": "parked: ", "later": "later: "}
    return f"{outcome.name}: {kinds.get(outcome.kind, '')}{outcome.text}"


def _short(body: Any) -> Any:
    """Long texts by their beginning: an audit text repeats all earlier entries."""
    if isinstance(body, dict):
        return {key: _short(value) for key, value in body.items()}
    if isinstance(body, (list, tuple)):
        return [_short(one) for one in body]
    return f"{body[:150]}…" if isinstance(body, str) and len(body) > 160 else body


def _indented(body: Any) -> str:
    text = json.dumps(body, ensure_ascii=False, indent=2, default=str)
    return "\n".join(f"    {line}" for line in text.splitlines())


# -- all of them -----------------------------------------------------------------------------------------------------------------------


def status(context: Context) -> int:
    """What is in agreement, what is owed and retrying, what is parked and why, and when each flow last ended well."""
    terminal, found = context.terminal, reporting.status(context.world)
    terminal.tell(found)
    for line in _status_lines(found):
        terminal.say(line)
    held = any(one["held_since"] for one in found["brakes"].values())
    return FOUND if found["parked"]["count"] or held or (found.get("org") or {}).get("error") else FINE


def _status_lines(found: dict[str, Any]) -> Iterator[str]:
    owed, parked, pairs = found["owed"], found["parked"], found["pairs"]
    org, latency = found.get("org") or {}, found.get("latency_seconds")
    yield f"mode: {found['mode']}"
    if org.get("error"):
        yield f"Salesforce org: {org['error']}"
    if org.get("warnings"):
        yield listed("the org lacks", org["warnings"])
    if pairs:
        yield f"in agreement: {pairs.get('in_agreement')} pairs, as of the full sweep of {pairs.get('at')}"
        rest = ("in_flight", "parked", "only_in_partner_center", "only_in_salesforce")
        yield "  " + ", ".join(f"{pairs.get(name, 0)} {name.replace('_', ' ')}" for name in rest)
    else:
        yield "in agreement: not known before the first full sweep (reconcile)"
    yield f"owed: {owed['count']}" + (f", the oldest due {owed['oldest_due']}" if owed["oldest_due"] else "")
    if owed["retrying"]:
        lines = [f"{one['name']}: {one['reason']} (tried {one['attempts']} times, next {one['due']})" for one in owed["retrying"]]
        yield listed("retrying", lines)
    if parked["count"]:
        yield listed("parked", [f"{one['name']}: {one['reason']}" for one in parked["deals"]])
    for direction, brake in found["brakes"].items():
        if brake["held_since"]:
            told = f"{brake['writes']} writes where {brake['limit']} are allowed within an hour, {brake['waiting']} deals wait"
            yield f"brake {direction}: held since {brake['held_since']}, {told}; look with `cosell resume`"
    if budget := found.get("salesforce_budget"):
        yield f"Salesforce API calls: {budget['used']} of {budget['limit']} ({budget['percent']} %), {budget['stopped']}"
    if latency:
        yield f"latency: half within {latency.get('p50')} s, 95 of 100 within {latency.get('p95')} s"
    if fresh := found.get("freshness_seconds"):
        yield f"freshness: edits are on the other side within {fresh.get('p50')} s (half), {fresh.get('p95')} s (95 of 100)"
    if (beat := found.get("heartbeat") or {}).get("asked"):
        took = f" in {beat['seconds']} s" if "seconds" in beat else ""
        yield f"heartbeat: the test event asked for at {beat['asked']} {beat['state']}{took}"
    for vendor, flows in (found.get("calls_today") or {}).items():
        if flows:
            yield f"calls to {vendor.replace('_', ' ')} today: {sum(flows.values())} ({', '.join(f'{name} {n}' for name, n in flows.items())})"
    if found.get("registration"):
        yield f"webhook registration: {found['registration'].get('state')}"
    credentials = found.get("credentials") or {}
    for vendor, one in (credentials.get("sign_ins") or {}).items():
        if one.get("state") == "refused":
            yield f"{vendor.replace('_', ' ')} refuses our sign-in since {one['since']}: {one['error']}"
    for one in credentials.get("list") or []:
        if one["state"] in ("soon", "expired"):
            yield f"{one['what']} {'expired' if one['state'] == 'expired' else 'expires'} on {one['expires']}: {one['who']}: {one['what_to_do']}"
        elif one["expires"]:
            yield f"{one['what']} expires on {one['expires']}"
    for flow, last in sorted(found["flows"].items()):
        yield f"{flow}: last ended well {last.get('at')}"


def history(context: Context) -> int:
    """What was done to a deal and why, newest first: plans, creates, refusals, and every value that was overridden."""
    state, terminal = context.world.state, context.terminal
    name = naming.record_name(context.arguments.name)
    pair = state.pair(name)
    entries = []
    for entry in state.history(pair.name if pair else name):
        entries.append(entry)
        if len(entries) == context.arguments.limit:
            break
    terminal.tell(entries)
    for entry in entries:
        first, *rest = entry["text"].splitlines() or [""]
        terminal.say(f"{entry['at']}  {entry['kind']}: {first}")
        for line in rest:
            terminal.say(f"{'':26}{line}")
        for field, value in ((entry["details"] or {}).get("overrides") or {}).items():
            terminal.say(f"{'':26}overrode {field}: {value}")
    if not entries:
        terminal.say(f"{name}: nothing happened yet")
    return FINE


def retry(context: Context) -> int:
    """Tries parked deals again: forgets why they were parked, and wakes them. A deal whose record was corrected wakes by itself."""
    world, terminal = context.world, context.terminal
    if context.arguments.all_parked:
        names = [one.name for one in world.state.all_owed() if one.parked]
    else:
        name = naming.record_name(context.arguments.name)
        names = [one for one in _owed_names(world, name) if (owed := world.state.owed(one)) and owed.parked] or [name]
    woken = []
    for number, name in enumerate(names, 1):
        if len(names) > 100 and number % 100 == 0:
            terminal.progress(f"{number} of {len(names)} …")
        if world.state.unpark(name):
            wake(world, name)
            woken.append(name)
    terminal.tell({"woken": woken})
    terminal.say("\n".join(f"{name}: woken" for name in woken) or "nothing is parked")
    return FINE if woken or context.arguments.all_parked else FOUND


def _owed_names(world: World, name: str) -> list[str]:
    """The names under which a deal may be parked: the one given, and those of both its records."""
    pair = world.state.pair(name)
    names = [name]
    if pair:
        names += [pair.name, *([referral_name(pair.referral_id)] if pair.referral_id else [])]
        names += [opportunity_name(pair.opportunity_id)] if pair.opportunity_id else []
    return list(dict.fromkeys(names))


# -- a first meeting by hand -----------------------------------------------------------------------------------------------------------


def link(context: Context) -> int:
    """Makes an existing referral and an existing opportunity one deal, where neither names the other or nobody noticed.

    What agrees is remembered, empty fields take the other's value, and where both hold one the field's winner stands. Records that
    belong to a deal already are refused.
    """
    world, terminal = context.world, context.terminal
    referral_id, record_id = naming.referral(context.arguments.referral), naming.opportunity(context.arguments.opportunity)
    names = referral_name(referral_id), opportunity_name(record_id)
    standing = [world.state.pair(name) for name in names]
    for name, pair in zip(names, standing, strict=True):
        if pair and (pair.referral_id, pair.opportunity_id) == (referral_id, record_id):
            terminal.say("these two are one deal already")
            terminal.tell({"linked": True, "changes": []})
            return FINE
        if pair and (pair.create or (pair.referral_id and pair.opportunity_id)):
            other = "a create under way" if pair.create else f"{pair.referral_id} and {pair.opportunity_id}"
            raise Misconfigured(f"{name} belongs to a deal already ({other}), so it cannot be linked to another record")
    match = first_meeting(world.org.shape.mapping, *_records(world, referral_id, record_id))
    text = str(match.plan)
    terminal.say(f"{names[0]} and {names[1]}, first meeting:")
    terminal.say("\n".join(f"  {line}" for line in text.splitlines()))
    changes = [{"side": one.side, "field": one.field, "old": one.old, "new": one.new, "why": one.why} for one in match.plan.changes]
    terminal.tell({"linked": bool(context.arguments.apply), "changes": changes, "left_alone": list(match.plan.notes)})
    if not context.arguments.apply:
        terminal.say("nothing was written; --apply links them")
        return FOUND
    begun = next((pair for pair in standing if pair), None)
    start(world, match.pair, begun, f"linked by hand: {text}")
    terminal.say("linked; the deal is owed and will be synchronized" + ("" if text == AGREED else " as shown"))
    return FINE


def start(world: World, pair: Pair, begun: Pair | None, text: str) -> None:
    """Starts (or completes) the pair row of two existing records, and marks it. Raises `Misconfigured` when somebody was quicker."""
    try:
        if begun is None:
            started = world.state.start_pair(pair)
        else:
            started = world.state.save(replace(pair, name=begun.name, etag=begun.etag, next_step=""))
    except (RowExists, RowChanged) as error:
        raise Misconfigured(f"{pair.name} was taken up by a run meanwhile; look again with `cosell plan {pair.name}`") from error
    for name in (referral_name(pair.referral_id), opportunity_name(pair.opportunity_id)):
        world.state.alias(name, started.name)
    world.state.record(started.name, "adopted", text)
    world.state.mark(started.name)
    wake(world, started.name)


def _records(world: World, referral_id: str, record_id: str) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
    """Both records and Microsoft's, fit to be one deal. Raises `Misconfigured` with what is in the way."""
    mapping = world.org.shape.mapping
    try:
        referral = world.partner_center.referral(referral_id)
        opportunity = world.org.opportunity(record_id).record
    except Gone as error:
        raise Misconfigured(str(error)) from error
    if is_microsofts(referral):
        raise Misconfigured(f"{referral_id} is Microsoft's own referral; name ours, of the same engagement {referral.get('engagementId')}")
    if not opportunity.get(mapping.opportunity.sync_field):
        raise Misconfigured(f"{mapping.opportunity.sync_field} is off on {record_id}; turn it on first, or nothing would travel")
    carried, reference = mapping.carried_referral(opportunity), str(referral.get("externalReferenceId") or "")
    if carried and carried != referral_id:
        raise Misconfigured(f"{record_id} carries the Referral Identifier {carried}; empty it first")
    if is_opportunity_id(reference) and long_id(reference) != record_id:
        raise Misconfigured(f"the referral names the opportunity {reference} as its own; decide which of the two it belongs to")
    engagement = world.partner_center.engagement(str(referral.get("engagementId"))) if referral.get("engagementId") else []
    return referral, next((one for one in engagement if is_microsofts(one)), None), opportunity
