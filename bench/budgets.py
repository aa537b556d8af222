"""Calls per situation, as the vendors see them. What is asked once per process (tokens, describe, certificate) is counted apart."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

from bench.report import Budget, Situation
from demo.stage import Seen, Stage
from simulator.core import Call
from simulator.core import Host as VendorHost

OPPORTUNITY_POLL = "salesforce_opportunity_to_partner_center"
POLLS: dict[str, VendorHost] = {
    OPPORTUNITY_POLL: "salesforce",
    "salesforce_solutions_to_partner_center": "salesforce",
    "partner_center_catch_up": "partner_center",
}
# Only an opportunity that rested for two seconds may be written to, by Salesforce's clock in whole seconds.
SETTLED = 3
LONG_AGO = 1200  # seconds; twice the window a poll reads back


def first_of_a_process(stage: Stage) -> str:
    """The first deal of a process; what was asked once and is kept from then on, in words."""
    stage.register()
    # From here on an event is delivered when it is its turn.
    stage.sim.webhooks.conduct.hold = True
    make_deal(stage, "Warm-up")
    calm(stage)
    kinds = collections.Counter(kept(call) for call in stage.sim.journal.calls())
    return ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()) if kind)


def all_situations(stage: Stage, pairs: Sequence[int]) -> list[Situation]:
    """Every budget, and beside them what has none; leaves so many linked pairs as the last of `pairs` says."""
    rows = [*create_from_salesforce(stage), create_from_partner_center(stage)]
    referral = stage.sim.referrals()[-1]
    rows += edits(stage, referral["externalReferenceId"], referral["id"], "Microsoft has not answered")
    stage.sim.people.microsoft_accepts(referral["id"])
    calm(stage)
    rows += edits(stage, referral["externalReferenceId"], referral["id"], "Microsoft has accepted")
    rows += webhook_in_agreement(stage, referral["id"])
    for number in pairs:
        link(stage, number - linked(stage))
        rows += idle_polls(stage)
    return rows


# -- situations ------------------------------------------------------------------------------------------------------------------------


def create_from_salesforce(stage: Stage) -> list[Situation]:
    make_deal(stage, "Fabrikam data estate")
    stage.sim.advance(SETTLED)
    stage.app.run_timer(OPPORTUNITY_POLL)
    seen = watch(stage, stage.rest)
    there_reads, there_writes, here_reads, here_writes = tally(seen)
    create = Situation(
        "create from Salesforce",
        tally(seen),
        (
            Budget("Partner Center creates", 2, there_writes),
            Budget("its reads", 3, there_reads),
            Budget("Salesforce calls", 4, here_reads + here_writes),
        ),
    )
    deliver(stage)
    echo = watch(stage, stage.rest)
    calm(stage)
    return [create, Situation("the two events of that create", tally(echo), (Budget("writes", 0, writes(echo)),))]


def create_from_partner_center(stage: Stage) -> Situation:
    stage.sim.people.portal_create_deal("Northwind cloud migration", customer="Northwind", help_code="QuotesOrLicensing")
    deliver(stage)
    seen = watch(stage, stage.rest)
    calm(stage)
    return Situation("create from Partner Center, two events at once", tally(seen), (Budget("writes", 2, writes(seen)),))


def edits(stage: Stage, opportunity: str, referral: str, state: str) -> list[Situation]:
    """One edit each way."""
    rows = []
    for side in ("Salesforce", "Partner Center"):
        value = int(stage.sim.referral(referral)["details"]["dealValue"]) + 1
        if side == "Salesforce":
            stage.seller_edits(opportunity, Amount=value)
            stage.sim.advance(SETTLED)
            stage.app.run_timer(OPPORTUNITY_POLL)
        else:
            stage.sim.people.portal_edit(referral, {"details/dealValue": value})
            deliver(stage)
        seen = watch(stage, stage.rest)
        limits = Budget("reads of each record", 1, reads_of_one_record(seen)), Budget("writes", 1, writes(seen))
        rows.append(Situation(f"edit in {side}, {state}", tally(seen), limits))
        calm(stage)
    return rows


def webhook_in_agreement(stage: Stage, referral: str) -> list[Situation]:
    with stage.sim.lock:
        stage.sim.webhooks.emit("referral-updated", referral)
    endpoint = watch(stage, lambda: deliver(stage))
    worker = watch(stage, stage.rest)
    return [
        Situation("event endpoint, until its answer", tally(endpoint), (Budget("calls", 0, sum(tally(endpoint))),)),
        Situation("event, both sides in agreement", tally(worker), (Budget("writes", 0, writes(worker)),)),
    ]


def idle_polls(stage: Stage) -> list[Situation]:
    """Each poll when nothing changed for longer than the window it reads back."""
    stage.sim.advance(LONG_AGO)
    calm(stage)  # moves the cursors over everything that linking changed
    rows = []
    for poll in POLLS:
        seen = watch(stage, lambda poll=poll: stage.app.run_timer(poll))  # type: ignore[misc]
        rows.append(Situation(f"idle {poll}, {linked(stage)} pairs", tally(seen), (Budget("calls", 1, sum(tally(seen))),)))
    return rows


# -- driving ---------------------------------------------------------------------------------------------------------------------------


def make_deal(stage: Stage, name: str) -> None:
    with stage.sim.lock:
        stage.sim.salesforce.make_deal(name)


def link(stage: Stage, number: int) -> None:
    """So many more deals, each linked to its referral."""
    for each in range(number):
        make_deal(stage, f"Deal {each}")
    calm(stage)


def linked(stage: Stage) -> int:
    return sum(bool(referral["externalReferenceId"]) for referral in stage.sim.referrals())


def calm(stage: Stage) -> None:
    """Lets everybody hear of everything that was done, until nobody has anything to say any more."""
    for _ in range(2):
        stage.sim.advance(SETTLED)
        for poll in POLLS:
            stage.app.run_timer(poll)
        stage.rest()
        deliver(stage)
        stage.rest()
    stage.sim.advance(SETTLED)


def deliver(stage: Stage) -> None:
    """Every event that waits, each answered."""
    webhooks = stage.sim.webhooks
    with stage.sim.lock:
        webhooks.finished.clear()
        wanted = len(webhooks.waiting)
        webhooks.conduct.hold = False
    try:
        stage.wait(lambda: len(webhooks.finished) >= wanted, "every event is answered")
    finally:
        webhooks.conduct.hold = True


def watch(stage: Stage, action: Callable[[], object]) -> Seen:
    position, began = stage.sim.journal.position(), stage.sim.clock.now()
    action()
    return Seen(began, stage.sim.journal.calls(since=position))


# -- counting --------------------------------------------------------------------------------------------------------------------------


def kept(call: Call) -> str:
    """What the process asks once and keeps, in words; empty for every other call."""
    if call.host == "salesforce" and call.path.endswith("/describe"):
        return "describing Salesforce objects"
    if call.host == "salesforce" and "/oauth2/" in call.path:
        return "signing in to Salesforce"
    return {
        "entra": "signing in to Partner Center",
        "certificates": "fetching the certificate that signs events",
        "webhooks": "registering the webhook",
    }.get(call.host, "")


def tally(seen: Seen) -> tuple[int, int, int, int]:
    """Reads and writes of Partner Center, then of Salesforce."""
    counted = collections.Counter((call.host, call.mutating) for call in seen.calls if not kept(call))
    return (
        counted["partner_center", False],
        counted["partner_center", True],
        counted["salesforce", False],
        counted["salesforce", True],
    )


def writes(seen: Seen) -> int:
    return sum(call.mutating for call in seen.calls)


def reads_of_one_record(seen: Seen) -> int:
    """The most reads of the same address: the same record, or the same query."""
    asked = collections.Counter((call.host, call.path, call.query) for call in seen.calls if not call.mutating and not kept(call))
    return max(asked.values(), default=0)
