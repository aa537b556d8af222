"""Bringing one deal into agreement: gather, plan, announce, apply, remember, clear.

`synchronize` is the one worker behind every trigger; it does both directions of one pair. The steps and their order are those of
`docs/protocol.md`; what each is there for is told there, under the numbers in brackets.
"""

from __future__ import annotations

import logging
import traceback
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from shared import correlation, wire
from shared.brakes import Held, words
from shared.codecs import CHECK, parse_instant
from shared.creation import create_missing
from shared.errors import Gone, Misconfigured, Refused, TryLater, VersionConflict, without_words
from shared.leads import follow_lead
from shared.mapping import ACTIVE, PARTNER_CENTER, SALESFORCE, Mapping, Record
from shared.mapping_file import Side
from shared.org import Reading
from shared.pairing import Copied, NoPair, find_pair, opportunity_name, referral_name
from shared.planning import Announced, Announcement, Plan, after, expected, held_back, overridden, plan_pair
from shared.run import MICROSOFTS_UPDATES, TO_PARTNER_CENTER, TO_SALESFORCE, UNDO, Carried, Outcome, Run, content_hash
from shared.state import Pair, stamp
from shared.tables import RowChanged
from shared.world import World
from shared.writing import opportunity_fields, referral_patch

log = logging.getLogger("cosell")

EARLY = timedelta(seconds=5)  # a wake-up may be this early: instances' clocks differ a little
ROUNDS = 8  # runs of one invocation before it makes room for other deals
SAFETY_SECONDS = 30.0  # no write is begun with less of the lease left than this
REPEATED = "announced before"  # in history: why a write that is repeated goes out again


def synchronize(world: World, name: str) -> Outcome:
    """Works off what is owed for a record name, until nothing is, or until it has to wait."""
    carried = Carried()
    outcome = Outcome(name, "idle", "nothing is owed")
    for round_ in range(ROUNDS):
        # The owed row comes before the records: whatever is marked after this read makes the clear fail [N4].
        owed = world.state.owed(name)
        if owed is None:
            return outcome
        # Only whoever comes with a wake-up waits; the rounds of a run that is under way go on.
        if round_ == 0 and owed.due > stamp(world.clock.now() + EARLY):
            return Outcome(name, "idle", f"due at {owed.due}: {owed.reason}")
        run = Run(world, owed, uuid.uuid4().hex, carried)
        with correlation.resumed(owed.trace, "synchronize_deal"):
            outcome = _guarded(run)
            # What was written stands in history; names and values of a deal stay out of the log.
            told = outcome.kind in ("later", "skipped") and not world.settings.shadow
            text = {"text": without_words(outcome.text)} if told else {}
            correlation.tell("cosell.deal", deal=name, outcome=outcome.kind, **text)
        if outcome.kind != "again":
            return outcome
        name = outcome.name
    last = world.state.owed(name)
    return Run(world, last, "", carried).later(f"still moving after {ROUNDS} rounds: {outcome.text}") if last else outcome


def _guarded(run: Run) -> Outcome:
    """One run, with every way it can end early turned into what happens next."""
    try:
        return _run(run)
    except NoPair as error:
        return run.skipped(str(error))
    except Copied as error:
        return run.parked(str(error), "", reading=error.reading)
    except Held as error:
        return run.held(error.side, str(error))
    except RowChanged:
        return Outcome(run.owed.name, "again", "somebody else planned this deal meanwhile")
    except VersionConflict as error:
        return Outcome(run.owed.name, "again", f"a record changed while it was being written; planning again ({error})")
    except TryLater as error:
        return run.later(str(error), error.retry_after)
    except (Refused, Gone) as error:
        # A read that is refused is a right that is missing: somebody gives it back without touching the deal.
        return run.later(str(error))
    except Misconfigured as error:
        return run.later(str(error), 300.0)
    except Exception as error:
        # A record nobody thought of must not crash every minute unseen: the deal waits, status says so, the log has the trace.
        # Without its message, which may quote the record.
        trace = "".join(traceback.format_tb(error.__traceback__))
        log.error("an unexpected %s at %s\n%s", type(error).__name__, run.owed.name, trace)
        return run.later(f"unexpected {type(error).__name__}; the log has the details", None)


def _run(run: Run) -> Outcome:
    pair = find_pair(run, run.owed.name)
    if pair.name != run.owed.name:
        return _hand_over(run, pair)
    if run.owed.microsoft_id not in ("", pair.microsoft_id):
        pair = replace(pair, microsoft_id=run.owed.microsoft_id)  # made in the portal: its own event led here
    if pair.lease_until and run.now < parse_instant(pair.lease_until):
        # Order, not safety: looking again soon keeps a waiting edit fresh without spinning.
        left = (parse_instant(pair.lease_until) - run.now).total_seconds()
        return run.later("somebody else is working on this deal", min(left + 0.5, 2.0), failed=False)
    if pair.lead_id and not run.mapping.switches.cosell_opportunities_only:
        followed = follow_lead(run, pair)
        if followed is not None:
            return followed
    if not pair.referral_id or not pair.opportunity_id or pair.next_step:
        try:
            outcome = create_missing(run, pair)
        except Held as error:
            if not pair.referral_id or not pair.opportunity_id:
                raise
            # Microsoft's referral waits for the brake; the two records that are there go on.
            run = replace(run, holds=(error.side,))
        else:
            if outcome is not None:
                return outcome
            run = replace(run, stays_parked=True)
    for name in (referral_name(pair.referral_id), opportunity_name(pair.opportunity_id)):
        run.world.state.alias(name, pair.name)
    return _agree(run, pair)


def _hand_over(run: Run, pair: Pair) -> Outcome:
    """All work of a deal is owed under its pair's name, so that it is parked, retried and counted once.

    The pair is marked before this name is cleared; dying in between costs a run that finds nothing.
    """
    other = run.owed.name.removeprefix("pc-")
    microsofts = other if other != run.owed.name and pair.referral_id and other != pair.referral_id else ""
    run.world.state.mark(pair.name, microsofts)
    run.world.state.clear(run.owed)
    return Outcome(pair.name, "again", f"belongs to {pair.name}")


# -- gather, plan ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gathered:
    """Both records as read, and in neutral terms."""

    referral: dict[str, Any]
    reading: Reading
    there: Record
    here: Record


def _gather(run: Run, pair: Pair) -> _Gathered:
    """Reads the referral (and Microsoft's), then the opportunity, each by id; nothing from an event or a poll is used as a value."""
    referral = run.world.partner_center.referral(pair.referral_id)
    microsoft = run.carried.microsoft
    # Microsoft's record is read when it is what changed, and until its CRM id is known; our own edits need no third read.
    asked = run.owed.microsoft_id or not pair.known.memory.get("microsoft_crm_id")
    if microsoft is None and pair.microsoft_id and asked:
        try:
            microsoft = run.world.partner_center.referral(pair.microsoft_id)
        except (Gone, Refused):
            log.warning("Microsoft's referral of %s cannot be read", pair.name)
    reading = run.world.org.opportunity(pair.opportunity_id)
    mapping = run.mapping
    return _Gathered(referral, reading, mapping.read_referral(referral, microsoft), mapping.read_opportunity(reading.record))


def _agree(run: Run, pair: Pair) -> Outcome:
    """Plans the pair on a fresh reading of both sides and carries the plan out."""
    mapping = run.mapping
    for _ in range(int(SAFETY_SECONDS)):
        try:
            gathered = _gather(run, pair)
        except Gone as error:
            run.ended(_unwished(pair), f"synchronization stopped: {error}; the other record is left alone")
            return run.done("skipped", str(error))
        reading = gathered.reading
        if not reading.record.get(mapping.opportunity.sync_field):
            run.ended(_unwished(pair), "synchronization stopped: Sync With Partner Center is off; the referral is left alone")
            return run.done("skipped", "Sync With Partner Center is off")
        carried = mapping.carried_referral(reading.record)
        if carried and carried != pair.referral_id:
            text = f"the opportunity carries the Referral Identifier {carried}, but belongs to {pair.referral_id}; correct the identifier"
            return run.parked(text, content_hash(mapping, gathered.there, gathered.here), pair)
        plan = plan_pair(mapping, gathered.there, gathered.here, pair.known)
        writes_here = bool(plan.to(SALESFORCE)) or SALESFORCE in plan.repeats
        if reading.settled or not writes_here:
            break
        # Only a settled read may be the basis of a write to Salesforce [N8].
        run.world.clock.sleep(1)
    else:
        return run.later("the opportunity is being saved again and again", 10.0)

    # What an operator released is looked at anew: only the refused part of it is to wait.
    if run.owed.parked and not run.owed.released and run.owed.refused == content_hash(mapping, gathered.there, gathered.here):
        run.ended(replace(pair, known=plan.known), pair.outcome)
        return replace(run, holds=run.owed.held).parked(run.owed.parked, run.owed.refused)
    if run.world.settings.shadow and plan.writes:
        run.ended(pair, f"shadow mode, nothing written:\n{plan}")
        return run.done("skipped", f"shadow mode: {plan}")
    if not plan.to(PARTNER_CENTER) and not plan.repeats and _help_is_due(pair, gathered):
        # The seller asked for help on a deal that Microsoft does not have yet: the upgrade to co-sell.
        run.world.state.save(replace(pair, known=plan.known, next_step="microsoft", help_code=str(gathered.here.values["help"])))
        return Outcome(run.owed.name, "again", "Microsoft is to be asked for help")
    plan = _braked(run, plan)
    run = replace(run, holds=(*run.holds, *plan.held))
    if not plan.writes:
        run.ended(replace(pair, known=plan.known), str(plan))
        run.mended(reading)
        return run.done("agreed", str(plan))
    return _write(run, pair, plan, gathered)


def _braked(run: Run, plan: Plan) -> Plan:
    """The plan as far as the brakes admit it. What an operator takes back passes: it was asked for by hand."""
    for side in (PARTNER_CENTER, SALESFORCE):
        if any(not one.undo for one in plan.to(side)) and not run.admitted(side):
            plan = held_back(plan, side, words(side))
    return plan


def _unwished(pair: Pair) -> Pair:
    """Without what an undo wanted: it must not come true long after, once somebody turns the deal's synchronization on again."""
    return replace(pair, known=replace(pair.known, wishes={}))


def _help_is_due(pair: Pair, gathered: _Gathered) -> bool:
    there, here = gathered.there.values, gathered.here.values
    return (
        bool(here.get("help"))
        and not pair.microsoft_id
        and not pair.next_step  # asked for already, and waiting
        and there.get("status") == here.get("status") == ACTIVE
        and bool(there.get("visible"))
    )


# -- announce, apply, remember, clear --------------------------------------------------------------------------------------------------


def _write(run: Run, pair: Pair, plan: Plan, gathered: _Gathered) -> Outcome:
    world = run.world
    begun = world.clock.monotonic()
    announced = _announcements(run, plan, gathered)
    # Announce: memory does not move for what is yet to be written [N1]; the row's ETag makes this the only plan under way [N5].
    pair = world.state.save(
        replace(
            pair,
            known=replace(plan.known, announced={**plan.known.announced, **announced}),
            lease_until=stamp(run.now + timedelta(seconds=world.settings.lease_seconds)),
            holder=run.holder,
        )
    )
    # History has the plan, and every value it overrides, before a vendor has it.
    world.state.record(pair.name, _flow(plan), str(plan), _details(run.mapping, plan, gathered))

    landed: list[Side] = []
    refused: dict[Side, Refused] = {}
    failure: TryLater | None = None
    conflict = False
    for side in (PARTNER_CENTER, SALESFORCE):
        if side not in pair.known.announced:
            continue
        if world.clock.monotonic() - begun > world.settings.lease_seconds - min(SAFETY_SECONDS, world.settings.lease_seconds / 3):
            conflict = True
            break
        try:
            _send(run, pair, side, pair.known.announced[side], gathered)
            landed.append(side)
        except VersionConflict:
            conflict = True
            if side == PARTNER_CENTER:
                break
        except Refused as error:
            refused[side] = error
        except Gone as error:
            refused[side] = Refused(str(error))
        except TryLater as error:
            failure = error
            break

    if landed or refused:
        # Remember the value sent, only for what certainly landed [N1, N2]; a refused announcement can never land.
        known = after(pair.known, landed, list(refused))
        text = str(plan) if not refused else "; ".join(error.words for error in refused.values())
        undo_refused = any(one.undo for side in refused for one in pair.known.announced[side].fields.values())
        pair = world.state.save(replace(pair, known=known, lease_until="", holder="", checked_at=stamp(run.now), outcome=text))
    if refused:
        words = "; ".join(f"{_vendor(side)} refused the change: {error.words}" for side, error in refused.items())
        if undo_refused:
            # Both sides agree without it: nothing waits for a person, and what was to travel with it does so alone.
            world.state.record(pair.name, UNDO, f"not taken back: {words}")
            return Outcome(run.owed.name, "again", words)
        return run.parked(words, content_hash(run.mapping, gathered.there, gathered.here), pair, gathered.reading)
    if failure:
        if not landed:
            world.state.save(replace(pair, lease_until="", holder=""))
        return run.later(str(failure), failure.retry_after)
    if conflict or plan.repeats or plan.unfinished:
        if not landed:
            world.state.save(replace(pair, lease_until="", holder=""))
        return Outcome(run.owed.name, "again", str(plan))
    if SALESFORCE not in landed:
        # A write to Salesforce brings its own audit entry; here an edit may have been overridden without one.
        doubtful = "; ".join(str(one) for one in plan.to(PARTNER_CENTER) if one.field in plan.known.unsure)
        if doubtful:
            run.tell_seller(gathered.reading, doubtful, CHECK)
        run.mended(gathered.reading)
    return run.done("wrote", str(plan), _since_edit(run, plan, gathered))


def _since_edit(run: Run, plan: Plan, gathered: _Gathered) -> float | None:
    """Seconds since the record that moved was saved, by its vendor's own clock; of two the longer."""
    ages = []
    for target, vendor, saved in (
        (PARTNER_CENTER, run.world.salesforce, gathered.reading.record.get("LastModifiedDate")),
        (SALESFORCE, run.world.partner_center, gathered.referral.get("updatedDateTime")),
    ):
        if plan.to(target) and vendor.server_time and saved:
            ages.append((vendor.server_time - parse_instant(str(saved))).total_seconds())
    return max(ages, default=None)


def _announcements(run: Run, plan: Plan, gathered: _Gathered) -> dict[Side, Announcement]:
    """What is about to be sent to each side, with the exact body, so that a successor can repeat it to the letter [N11]."""
    mapping, shape = run.mapping, run.world.org.shape
    token = str(uuid.uuid4())
    record = gathered.reading.record
    bodies: dict[Side, Any] = {}
    if plan.to(PARTNER_CENTER):
        bodies[PARTNER_CENTER] = referral_patch(mapping, plan, gathered.referral, record)
    if plan.to(SALESFORCE):
        bodies[SALESFORCE] = opportunity_fields(mapping, plan, record, token, run.now, shape.has_token)
    versions = {PARTNER_CENTER: gathered.there.version, SALESFORCE: gathered.here.version}
    return {
        side: Announcement(
            versions[side],
            token,
            {one.field: Announced(one.new, one.old if one.conflict else None, one.undo) for one in plan.to(side)},
            wire.dumps(body).decode(),
        )
        for side, body in bodies.items()
    }


def _send(run: Run, pair: Pair, side: Side, announcement: Announcement, gathered: _Gathered) -> None:
    """At most one conditional request with all fields: it lands whole, or not at all [N6, N7]."""
    body = wire.loads(announcement.body.encode())
    if side == PARTNER_CENTER:
        run.world.partner_center.patch_referral(pair.referral_id, body, announcement.version, announcement.token)
    else:
        since = parse_instant(announcement.version)
        run.world.salesforce.update("Opportunity", pair.opportunity_id, body, unmodified_since=since)


def _vendor(side: Side) -> str:
    return "Partner Center" if side == PARTNER_CENTER else "Salesforce"


def _flow(plan: Plan) -> str:
    """Which of the original's flows this run did, for history."""
    names = [UNDO] if any(one.undo for one in plan.changes) else []
    if plan.to(PARTNER_CENTER) or PARTNER_CENTER in plan.repeats:
        names.append(TO_PARTNER_CENTER)
    if plan.to(SALESFORCE) or SALESFORCE in plan.repeats:
        only_microsofts = plan.to(SALESFORCE) and all(one.field.startswith("microsoft_") for one in plan.to(SALESFORCE))
        names.append(MICROSOFTS_UPDATES if only_microsofts else TO_SALESFORCE)
    return ", ".join(names)


def _details(mapping: Mapping, plan: Plan, gathered: _Gathered) -> dict[str, Any]:
    """Every value before and after, for whoever asks and for an undo. Of people only how many: who they are stands in the records."""
    known = {PARTNER_CENTER: gathered.there.values, SALESFORCE: gathered.here.values}
    changes = [
        {"side": one.side, "field": one.field, "old": one.old, "new": one.new, "why": one.why, "conflict": one.conflict}
        for one in plan.changes
        if not one.people
    ]
    # Its worker may have died before it wrote this down; the record has not changed since, so it still tells the value from before.
    repeated = [(side, name, one) for side in plan.repeats for name, one in plan.known.announced[side].fields.items()]
    changes += [
        {"side": side, "field": name, "old": known[side].get(name), "new": one.value, "why": REPEATED, "conflict": False}
        for side, name, one in repeated
        if name not in mapping.people_fields
    ]
    overrides = {name: one.overrides for _, name, one in repeated if one.overrides is not None}
    # The version says that the record is as it was, its value that it is not: a second save in the same second, unread until now (W2).
    overrides |= {
        name: known[side].get(name)
        for side, name, one in repeated
        if name in plan.known.memory
        and name not in mapping.people_fields
        and known[side].get(name) not in (plan.known.memory[name], one.overrides, expected(one.value))
    }
    return {"changes": changes, "overrides": overrides | {one.field: one.old for one in overridden(plan)}}
