"""Lets many stories happen at once on one stage, and says of each what does not hold afterwards."""

from __future__ import annotations

import functools
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args
from urllib.parse import unquote_plus

from chaos.checking import Rest, faults, plain
from chaos.deal import FIELDS, Deal, written
from chaos.stage import CALL_SECONDS, Stage
from chaos.storage import Operation, StorageFault
from chaos.story import LONG, NAMES, Edit, Side, Story, Trouble, Weather
from simulator.core import Call, Request, Response
from simulator.faults import Fault

SIDES: tuple[Side, ...] = get_args(Side)
HOUR = 3700.0
UNDER_FIRE = 16.0  # seconds; at most, for what is retried while faults still wait for it
SETTLING = 120.0  # seconds; what is not at rest then is called stuck


@dataclass(frozen=True)
class Verdict:
    """What became of a story: what does not hold, and everything needed to understand why."""

    story: Story
    faults: tuple[str, ...]
    told: str

    @property
    def held(self) -> bool:
        return not self.faults


@dataclass
class Told:
    """A story as it happens: its deal, and the faults that wait for calls about it."""

    story: Story
    deal: Deal
    armed: list[tuple[Trouble, Any]] = field(default_factory=list)
    since: datetime | None = None


@dataclass
class VendorFault(Fault):
    """A fault for the calls that mention one deal."""

    names: set[str] = field(default_factory=set)
    answer: Response | None = None

    def matches(self, request: Request) -> bool:
        if request.host != self.host or request.method != self.method or "/describe" in request.path or "/oauth2/" in request.path:
            return False
        text = unquote_plus(f"{request.path}?{request.query}") + request.body.decode("utf-8", "replace")
        return any(name in text for name in self.names)

    def response(self) -> Response:
        return self.answer or super().response()


def play(
    stage: Stage, stories: Sequence[Story], weather: Sequence[Weather] = (), tell: Callable[[str], None] = lambda text: None
) -> list[Verdict]:
    """Every story from its beginning to the check, all at the same time; about forty seconds."""
    began = stage.sim.journal.position()
    told = [Told(story, Deal(stage.sim)) for story in stories]
    tell("the deals begin")
    _begin(stage, told)
    tell("edits and faults")
    for one in told:
        _arm(stage, one)
    stage.event_fault = _event_faults(told)
    _happen(stage, told, weather)
    tell("retries, under fire")
    stage.settle(UNDER_FIRE)
    stage.jump(HOUR)
    stage.settle(UNDER_FIRE / 2)
    tell("the faults stop")
    stage.heal()
    time.sleep(0.5)
    stage.jump(HOUR)
    stage.every_timer(left_out=["reconcile"])  # whose sweep would mend what the rest has lost
    stage.settle(SETTLING)
    before = stage.sim.journal.position()
    tell("another round of every timer")
    stage.every_timer()
    stage.settle(SETTLING)
    tell("checking")
    late = [call for call in stage.sim.journal.calls(since=before) if call.mutating]
    calls = [call for call in stage.sim.journal.calls(since=began) if call.mutating]
    for one in told:
        for trouble, armed in one.armed:
            if trouble.count > armed.count:
                stage.counted[f"{trouble.where}: {trouble.kind}"] += trouble.count - armed.count
    status = stage.status()
    return [_verdict(stage, one, calls, late, status) for one in told]


# -- the beginning ---------------------------------------------------------------------------------------------------------------------


def _begin(stage: Stage, told: list[Told]) -> None:
    """Makes what must be there and agreed before anything goes wrong."""
    early = [one for one in told if one.story.beginning in ("agreed", "closed")]
    for one in early:
        one.deal.saved_by_seller(help_code=None)
        one.deal.shared_by_seller()
    _wait(stage, lambda: all(one.deal.is_whole() for one in early))
    closing = [one.deal for one in early if one.story.beginning == "closed"]
    for deal in closing:
        deal.closed_by_seller()
    _wait(stage, lambda: all(stage.sim.referral(deal.referral)["status"] == "Closed" for deal in closing))


def _wait(stage: Stage, until: Callable[[], bool]) -> None:
    end = time.monotonic() + SETTLING
    while not until() or not stage.settle(SETTLING):
        if time.monotonic() > end:
            raise TimeoutError(f"the deals did not come to rest before the faults: {stage.owed()} {stage.parked()}")
        time.sleep(0.1)


def _open(one: Told) -> None:
    """The beginnings that happen under fire."""
    beginning = one.story.beginning
    if beginning.startswith("shared by a seller"):
        one.deal.saved_by_seller("General or Other" if "Microsoft" in beginning else None)
        one.deal.shared_by_seller()
    elif beginning in ("made in the portal", "an invitation by Microsoft"):
        one.deal.made_in_partner_center(invited="invitation" in beginning)


# -- troubles --------------------------------------------------------------------------------------------------------------------------


def _arm(stage: Stage, one: Told) -> None:
    one.since = stage.sim.clock.now()
    names = one.deal.names
    for trouble in one.story.troubles:
        if trouble.where in ("salesforce", "partner_center"):
            armed: Any = _vendor_fault(stage, one.deal, trouble)
            stage.sim.faults.add(armed)
        else:
            action = _storage_action(stage, trouble)
            armed = StorageFault(trouble.call, names, trouble.kind, trouble.count, trouble.skip, action)
            if trouble.where != "events":
                stage.proxy.add(armed)
        one.armed.append((trouble, armed))


def _vendor_fault(stage: Stage, deal: Deal, trouble: Trouble) -> VendorFault:
    host: Any = trouble.where
    fault = VendorFault(host=host, method=trouble.call, count=trouble.count, skip=trouble.skip, names=deal.names)
    kind = trouble.kind
    if kind[:3].isdigit():
        fault.status, fault.html = int(kind[:3]), kind.endswith("page")
        fault.retry_after = 1 if "Retry-After" in kind else None
    elif kind.startswith(("cut", "killed")):
        fault.cut = "before" if kind.endswith("before") else "after"
    elif kind.startswith("no answer"):
        fault.delay = CALL_SECONDS + 0.7
        fault.cut = "before" if "not done" in kind else ""
    if kind == "killed before":
        fault.action = lambda request: _kill(stage, request.headers.get("x-instance", ""))
    if kind == "killed after":
        fault.afterwards = lambda request: _kill(stage, request.headers.get("x-instance", ""))
    if kind == "frozen":
        fault.action = lambda request: _freeze(stage, request.headers.get("x-instance", ""))
    if kind == "somebody was quicker":
        edit = Edit(0, host, "notes" if trouble.skip % 2 else "deal_value")
        fault.action = lambda request: _overtake(stage, deal, edit)
    if kind == "row lock":
        error = {"message": "unable to obtain exclusive access to this record", "errorCode": "UNABLE_TO_LOCK_ROW", "fields": []}
        fault.status, fault.answer = 400, Response.of(400, [error])
    if kind == "daily limit":
        error = {"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}
        fault.status, fault.answer = 403, Response.of(403, [error])
    return fault


def _storage_action(stage: Stage, trouble: Trouble) -> Callable[[Operation], None] | None:
    if trouble.kind.startswith("killed"):
        return lambda operation: _kill(stage, operation.instance)
    if trouble.kind == "somebody was quicker":

        def touch(operation: Operation) -> None:
            if operation.row and stage.state.tables.get(*operation.row):
                stage.state.tables.merge(*operation.row, {})

        return touch
    return None


def _kill(stage: Stage, name: str) -> None:
    one = stage.instance(name)
    if one and one.kill():
        stage.note("SIGKILL")


def _freeze(stage: Stage, name: str) -> None:
    one = stage.instance(name)
    if one and one.freeze():
        stage.note("SIGSTOP longer than a lease")


def _edit(stage: Stage, deal: Deal, edit: Edit) -> bool:
    made = deal.edit(edit.side, edit.field, edit.late)
    if made:
        stage.note("an edit by a person" + (", visible late with its old stamp" if edit.late else ""))
    return made


def _overtake(stage: Stage, deal: Deal, edit: Edit) -> None:
    _edit(stage, deal, edit)


def _event_faults(told: list[Told]) -> Callable[[str], str]:
    """What befalls the next event about a referral."""
    events = [(one.deal, armed) for one in told for trouble, armed in one.armed if trouble.where == "events"]
    lock = threading.Lock()

    def befalls(referral_id: str) -> str:
        event = Operation("table", "EVENT", referral_id, {}, b"")
        with lock:
            for _, fault in events:
                if fault.count and event.mentions(fault.names):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.count -= 1
                    return str(fault.kind)
        return ""

    return befalls


# -- what happens ----------------------------------------------------------------------------------------------------------------------


def _happen(stage: Stage, told: list[Told], weather: Sequence[Weather]) -> None:
    """Edits, troubles and weather, in real time; in the middle an hour passes, with no call held up meanwhile."""
    order = itertools.count()
    agenda: list[tuple[float, int, Callable[[], object]]] = []

    def plan(at: float, what: Callable[[], object]) -> None:
        """`what` answers False where it has to be tried again."""
        heapq.heappush(agenda, (at, next(order), what))

    for number, one in enumerate(told):
        plan(number % 10 * 0.05, functools.partial(_open, one))
        if one.story.beginning == "an invitation by Microsoft":
            plan(LONG / 4, one.deal.accepted_in_portal)
        for edit in one.story.edits:
            plan(edit.at, functools.partial(_edit, stage, one.deal, edit))
    for some in weather:
        plan(some.at, functools.partial(_befall, stage, some))
    plan(LONG * 0.6, functools.partial(stage.jump, HOUR))
    began = time.monotonic()
    while agenda:
        at, _, what = heapq.heappop(agenda)
        while (left := at - (time.monotonic() - began)) > 0:
            time.sleep(min(left, 0.3))
            for one in told:
                one.deal.find()  # so that faults know the other record's name early
        if what() is False and at < LONG * 1.5:
            plan(at + 0.4, what)


def _befall(stage: Stage, weather: Weather) -> None:
    sim, one = stage.sim, stage.instances[int(weather.at * 10) % 2]
    match weather.kind:
        case "an instance is killed":
            _kill(stage, one.name)
        case "an instance is frozen for four seconds":
            _freeze(stage, one.name)
        case "access tokens of Partner Center expire":
            with sim.lock:
                sim.entra.expire_access_tokens()
        case "sessions of Salesforce end":
            with sim.lock:
                sim.salesforce.login.end_sessions()
        case "the consent is revoked, and given again two seconds later":
            with sim.lock:
                sim.entra.revoke()
                sim.entra.expire_access_tokens()
            threading.Timer(2, _consent_again, (stage,)).start()
        case "the certificate of the webhook is rotated":
            with sim.lock:
                sim.certificates.rotate()
        case "every timer of both instances at once":
            threading.Thread(target=stage.every_timer, daemon=True).start()
    stage.note(f"weather: {weather.kind}")


def _consent_again(stage: Stage) -> None:
    with stage.sim.lock:
        for token in stage.sim.entra.refresh_tokens.values():
            token.revoked = False


# -- what is left ----------------------------------------------------------------------------------------------------------------------


def _verdict(stage: Stage, one: Told, calls: list[Call], late: list[Call], status: Mapping[str, Any]) -> Verdict:
    story, deal = one.story, one.deal
    deal.find()
    closed, own = story.beginning == "closed", [call for call in calls if deal.about(call)]
    pair = next(filter(None, (stage.state.pair(name) for name in sorted(deal.names) if name[:3] in ("sf-", "pc-"))), None)
    history = list(stage.state.history(pair.name)) if pair else []
    owed = {name: reason for name, reason in stage.owed().items() if name in deal.names}
    parked = {name: reason for name, reason in stage.parked().items() if name in deal.names}
    rest = Rest(
        {side: deal.values(side) for side in SIDES},
        {name: plain(name, pair.known.memory.get(name)) for name in FIELDS} if pair else {},
        bool(pair and (pair.known.announced or pair.create)),
        [row["details"] or {} for row in history],
        {side: written(own, side) for side in SIDES},
        {side: sum(call.host == side and call.method == "POST" for call in own) for side in SIDES},
        deal.records(),
        [f"{name}: {reason or 'no reason given'}" for name, reason in owed.items()],
        [f"{name}: {reason}" for name, reason in parked.items()],
        sum(call.at > one.since for call in own) if closed and one.since else 0,
    )
    found = faults(deal.edits, rest, closed) if deal.is_whole() else ["the other record was never made", *rest.owed, *rest.parked]
    found += [f"wrote after everybody rested: {call.host} {call.method} {call.body.decode()[:300]}" for call in late if deal.about(call)]
    found += [] if pair else ["no pair is remembered"]
    shown = {row["name"] for row in status["parked"]["deals"]}
    found += [f"{name} was put aside and status does not say so" for name in parked if name not in shown]
    return Verdict(story, tuple(found), _told(one, rest, history, own))


def _told(one: Told, rest: Rest, history: list[dict[str, Any]], calls: list[Call]) -> str:
    """The story as it went, for a person to read."""
    lines = [str(one.story), "what people did:", *(f"  {line}" for line in one.deal.log), "what was met:"]
    lines += [f"  {trouble.where} {trouble.call} {trouble.kind}: {trouble.count - armed.count} times" for trouble, armed in one.armed]
    lines += ["writes that reached a vendor:"]
    for call in calls:
        sender = call.headers.get("x-instance", "?")
        lines.append(f"  {call.at:%H:%M:%S.%f} {sender} {call.host} {call.method} {call.status} {call.body.decode()[:400]}")
    lines += [f"{NAMES[side]:15} {dict(rest.values[side])}" for side in SIDES] + [f"{'memory':15} {dict(rest.memory)}"]
    lines += ["history, newest first:", *(f"  {row['at']} {row['kind']}: {row['text']}" for row in history[:20])]
    return "\n".join(lines)
