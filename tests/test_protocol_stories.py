"""The stories of `docs/protocol.md`, section 8: what each step is there for.

Every story runs twice: as the connector is, where it must end well, and with its step taken out, where the same story must fail. A step
whose removal no story notices would not be proved to be there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared import creation, flows, org, planning, polls, run, state
from shared.mapping import PARTNER_CENTER, SALESFORCE
from shared.pairing import opportunity_name, referral_name
from shared.partner_center import PartnerCenter
from shared.planning import Known
from shared.run import Outcome
from shared.salesforce import Salesforce
from shared.state import State
from simulator.core import Host
from simulator.faults import Fault
from simulator.salesforce import Org as OrgSwitches
from tests.interleaving import Interleaved

Patch = pytest.MonkeyPatch
BASE, ALICE, PAUL = 50_000, 61_000, 72_000  # the agreed amount, Alice's edit in Salesforce, Paul's in Partner Center

STORIES: dict[str, Callable[[], None]] = {}
WITHOUT: dict[str, Callable[[Patch], None]] = {}


def story(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def add(function: Callable[[], None]) -> Callable[[], None]:
        STORIES[name] = function
        return function

    return add


def without(name: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def add(function: Callable[[Patch], None]) -> Callable[[Patch], None]:
        WITHOUT[name] = function
        return function

    return add


class Pair:
    """One deal in agreement, and Alice and Paul, who edit its amount."""

    def __init__(self, **options: Any) -> None:
        self.w = Interleaved(**options)
        deal = self.w.make_deal()
        self.w.settle()
        self.opportunity_id = deal.opportunity
        self.referral_id = self.w.referrals()[0]["id"]
        self.w.sim.clock.advance(60)
        self.w.round()
        self.w.sim.clock.advance(60)
        self.name = opportunity_name(self.opportunity_id)

    def alice(self, value: int, mark: bool = True) -> None:
        self.w.seller_edits(self.opportunity_id, Amount=value)
        if mark:
            self.w.world.state.mark(self.name)

    def paul(self, value: int, mark: bool = True) -> None:
        self.w.portal_edits(self.referral_id, {"details/dealValue": value})
        if mark:
            self.w.world.state.mark(self.name)

    def pause(self, seconds: float = 10) -> None:
        self.w.sim.clock.advance(seconds)

    def expire_lease(self) -> None:
        self.w.sim.clock.advance(100)

    @property
    def here(self) -> float:
        return float(self.w.opportunity(self.opportunity_id)["Amount"])

    @property
    def there(self) -> float:
        return float(self.w.sim.partner_center.records[self.referral_id]["details"]["dealValue"])

    @property
    def memory(self) -> Any:
        pair = self.w.world.state.pair(self.name)
        assert pair is not None
        return pair.known.memory["deal_value"]

    def rests_at(self, value: int) -> None:
        """Without the sweep's help: only what was marked is worked off."""
        for _ in range(6):
            self.pause(95)
            polls.resume_owed_work(self.w.world)
            self.w.work()
        assert not self.w.owed()
        assert (self.here, self.there) == (value, value)
        assert float(self.memory) == value


# -- edits -----------------------------------------------------------------------------------------------------------------------------


@story("N1 memory moves only after the write")
def n1() -> None:
    p = Pair()
    p.paul(PAUL)
    p.w.worker(p.name).until("PATCH salesforce").kill()
    p.rests_at(PAUL)


@without("N1 memory moves only after the write")
def _(patch: Patch) -> None:
    announcements = flows._announcements

    def remembers_at_once(run_: Any, plan: Any, gathered: Any) -> Any:
        for change in plan.changes:
            plan.known.memory[change.field] = change.new
        return announcements(run_, plan, gathered)

    patch.setattr(flows, "_announcements", remembers_at_once)
    patch.setattr(planning, "_settle_announcements", lambda known, there, here: (replace(known, announced={}), ()))


@story("N2 memory is the value sent, not a value read back")
def n2() -> None:
    p = Pair()
    p.alice(ALICE)
    worker = p.w.worker(p.name).past("PATCH partner_center")
    p.paul(PAUL)
    worker.finish()
    p.rests_at(PAUL)


@without("N2 memory is the value sent, not a value read back")
def _(patch: Patch) -> None:
    after, send = flows.after, flows._send
    read_back: dict[str, Any] = {}

    def sends_and_reads(run_: Any, pair: Any, side: Any, announcement: Any, gathered: Any) -> None:
        send(run_, pair, side, announcement, gathered)
        read_back["read"] = lambda: run_.mapping.read_referral(run_.world.partner_center.referral(pair.referral_id)).values

    def remembers_what_it_reads(known: Any, landed: Any, lost: Any) -> Any:
        result = after(known, landed, lost)
        values = read_back["read"]()
        return replace(result, memory={**result.memory, **{name: values[name] for name in ("deal_value",)}})

    patch.setattr(flows, "_send", sends_and_reads)
    patch.setattr(flows, "after", remembers_what_it_reads)


@story("N3 owed is cleared with the ETag it was read with")
def n3() -> None:
    p = Pair()
    p.paul(PAUL)
    worker = p.w.worker(p.name).past("PATCH salesforce")
    p.pause()
    p.w.seller_edits(p.opportunity_id, Amount=ALICE)
    p.w.world.state.mark(p.name)
    worker.finish()
    p.rests_at(ALICE)


@without("N3 owed is cleared with the ETag it was read with")
def _(patch: Patch) -> None:
    def clears_anyway(self: State, owed: Any) -> bool:
        now = self.owed(owed.name)
        if now:
            self.tables.delete("owed", state._bucket(owed.name), owed.name, now.etag)
        return True

    patch.setattr(State, "clear", clears_anyway)


@story("N4 the owed row is read before the records")
def n4() -> None:
    p = Pair()
    name = p.name
    p.w.world.state.mark(name)
    worker = p.w.worker(name).past("GET partner_center")
    p.paul(PAUL)
    worker.finish()
    p.rests_at(PAUL)


@without("N4 the owed row is read before the records")
def _(patch: Patch) -> None:
    gather = flows._gather

    def reads_owed_after(run_: Any, pair: Any) -> Any:
        gathered = gather(run_, pair)
        object.__setattr__(run_, "owed", run_.world.state.owed(run_.owed.name))
        return gathered

    patch.setattr(flows, "_gather", reads_owed_after)


@story("N5 the pair row is written with its ETag")
def n5() -> None:
    p = Pair()
    p.w.world.state.mark(p.name)
    idle = p.w.worker(p.name).until("(replace|merge) links")
    p.alice(ALICE)
    p.w.worker(p.name).finish()
    idle.finish()
    assert float(p.memory) == ALICE
    p.pause()
    p.paul(PAUL)
    p.rests_at(PAUL)


def _saves_anyway(patch: Patch) -> None:
    def saves(self: State, pair: Any) -> Any:
        return replace(pair, etag=self.tables.merge("links", pair.name, "link", state._pair_row(pair)))

    patch.setattr(State, "save", saves)


@without("N5 the pair row is written with its ETag")
def _(patch: Patch) -> None:
    _saves_anyway(patch)


@story("N6 a write to Partner Center depends on the eTag read")
def n6() -> None:
    p = Pair()
    p.alice(ALICE)
    worker = p.w.worker(p.name).until("PATCH partner_center")
    p.paul(PAUL)
    worker.finish()
    p.pause(95)
    polls.resume_owed_work(p.w.world)
    p.w.work()
    p.rests_at(ALICE)  # Salesforce wins, but history must hold what was overridden
    overridden = [
        one["details"]["overrides"] for one in p.w.world.state.history(p.name) if one["details"] and one["details"].get("overrides")
    ]
    assert {"deal_value": str(PAUL)} in overridden


@without("N6 a write to Partner Center depends on the eTag read")
def _(patch: Patch) -> None:
    def unconditional(self: PartnerCenter, referral_id: str, operations: Any, etag: str, request_id: str) -> None:
        self._call("PATCH", self._referral_url(referral_id), body=operations, request_id=request_id, what="updating")

    patch.setattr(PartnerCenter, "patch_referral", unconditional)


@story("N7 a write to Salesforce depends on the time read")
def n7() -> None:
    p = Pair()
    p.paul(PAUL)
    worker = p.w.worker(p.name).until("PATCH salesforce")
    p.alice(ALICE)
    worker.finish()
    p.rests_at(ALICE)


def _unconditional(self: Salesforce, sobject: str, record_id: str, fields: Any, unmodified_since: Any = None) -> None:
    _update(self, sobject, record_id, fields)


_update = Salesforce.update


@without("N7 a write to Salesforce depends on the time read")
def _(patch: Patch) -> None:
    patch.setattr(Salesforce, "update", _unconditional)


@story("N8 only a settled read is the basis of a write to Salesforce")
def n8() -> None:
    p = Pair()
    p.paul(PAUL)
    p.w.seller_edits(p.opportunity_id, NextStep="call them")  # from here on everything happens within one second
    worker = p.w.worker(p.name).past("GET salesforce")
    p.alice(ALICE)
    worker.finish()
    p.rests_at(ALICE)


@without("N8 only a settled read is the basis of a write to Salesforce")
def _(patch: Patch) -> None:
    reading = org.Reading
    patch.setattr(org, "Reading", lambda record, settled: reading(record, True))


@story("N9 a write is announced")
def n9() -> None:
    p = Pair()
    p.alice(ALICE)
    p.w.worker(p.name).past("PATCH partner_center").kill()
    p.alice(BASE)
    p.rests_at(BASE)


@without("N9 a write is announced")
def _(patch: Patch) -> None:
    settle = planning._settle_announcements
    patch.setattr(planning, "_settle_announcements", lambda known, there, here: settle(replace(known, announced={}), there, here))


@story("N10 an announcement is not forgotten at takeover")
def n10() -> None:
    p = Pair()
    p.alice(ALICE)
    stalled = p.w.worker(p.name).until("PATCH partner_center")
    p.alice(BASE)
    p.expire_lease()
    p.w.worker(p.name).finish()
    stalled.finish()
    p.w.world.state.mark(p.name)
    p.rests_at(BASE)


@without("N10 an announcement is not forgotten at takeover")
def _(patch: Patch) -> None:
    settle = planning._settle_announcements

    def forgets(known: Known, there: Any, here: Any) -> Any:
        versions = {PARTNER_CENTER: there.version, SALESFORCE: here.version}
        kept = {side: one for side, one in known.announced.items() if one.version != versions[side]}
        return settle(replace(known, announced=kept), there, here)

    patch.setattr(planning, "_settle_announcements", forgets)


@story("N11 an announced write is completed before anything else of its fields")
def n11() -> None:
    p = Pair()
    p.alice(ALICE)
    stalled = p.w.worker(p.name).until("PATCH partner_center")
    p.alice(BASE, mark=True)
    p.expire_lease()
    second = p.w.worker(p.name).past("replace links")
    stalled.finish()
    second.finish()
    p.rests_at(BASE)


@without("N11 an announced write is completed before anything else of its fields")
def _(patch: Patch) -> None:
    WITHOUT["N10 an announcement is not forgotten at takeover"](patch)


@story("N12 a run that finds nothing touches the pair row")
def n12() -> None:
    p = Pair()
    p.paul(PAUL)
    first = p.w.worker(p.name).past("PATCH salesforce").until("replace links")
    p.pause()
    p.paul(BASE)
    p.alice(BASE)
    p.expire_lease()
    p.w.worker(p.name).finish()
    first.finish()
    p.rests_at(BASE)


@without("N12 a run that finds nothing touches the pair row")
def _(patch: Patch) -> None:
    patch.setattr(run.Run, "ended", lambda self, pair, text, **changes: pair)


# -- creates ---------------------------------------------------------------------------------------------------------------------------


class Fresh:
    """A deal that is to be created on the other side."""

    def __init__(self, help_: str | None = "Quotes or Licensing", **options: Any) -> None:
        self.w = Interleaved(**options)
        self.deal = self.w.make_deal(How_can_Microsoft_help__c=help_)
        self.w.sim.clock.advance(60)
        self.name = opportunity_name(self.deal.opportunity)
        self.w.world.state.mark(self.name)

    def rests(self, referrals: int = 1, microsofts: int = 1, opportunities: int = 1) -> None:
        for _ in range(16):
            self.w.sim.clock.advance(60)
            self.w.deliver()
            polls.resume_owed_work(self.w.world)
            self.w.work()
        assert not self.w.owed()
        assert not self.w.parked()
        counts = len(self.w.referrals()), len(self.w.referrals(own=False)), len(self.w.opportunities())
        assert counts == (referrals, microsofts, opportunities)


def lose_answer(w: Interleaved, count: int = 1, host: Host = "partner_center", path: str = "*", skip: int = 0) -> None:
    w.sim.faults.add(Fault(host=host, method="POST", path=path, cut="after", count=count, skip=skip))


@story("N20 a create is claimed")
def n20() -> None:
    f = Fresh()
    first = f.w.worker(f.name).until("POST partner_center")
    f.w.worker(f.name).finish()
    first.finish()
    f.rests()


@without("N20 a create is claimed")
def _(patch: Patch) -> None:
    claim = creation._claim

    def unclaimed(run_: Any, pair: Any, step: str, sent: Any, wait: bool = True) -> Any:
        found = claim(run_, replace(pair, create=None), step, sent, wait)
        if isinstance(found, Outcome):
            return found
        return run_.world.state.save(replace(found, create=None, lease_until="")) and replace(
            run_.world.state.pair(pair.name), create=found.create
        )

    patch.setattr(creation, "_claim", unclaimed)
    _saves_anyway(patch)


@story("N21 a create is searched for before it is repeated")
def n21() -> None:
    f = Fresh(help_=None)
    lose_answer(f.w)
    f.rests(microsofts=0)


@without("N21 a create is searched for before it is repeated")
def _(patch: Patch) -> None:
    patch.setattr(PartnerCenter, "by_external_reference", lambda self, record_id, created_since: [])


@story("N22 an empty search is not believed before the margin is over")
def n22() -> None:
    f = Fresh(help_=None)
    stalled = f.w.worker(f.name).until("POST partner_center")
    f.w.sim.clock.advance(100)
    f.w.worker(f.name).finish()
    stalled.finish()
    f.rests(microsofts=0)


@without("N22 an empty search is not believed before the margin is over")
def _(patch: Patch) -> None:
    claim = creation._claim
    patch.setattr(creation, "_claim", lambda run_, pair, step, sent, wait=True: claim(run_, pair, step, sent, False))


@story("N23 the second create is searched for, too")
def n23() -> None:
    f = Fresh()
    lose_answer(f.w, skip=1)
    f.rests()


@without("N23 the second create is searched for, too")
def _(patch: Patch) -> None:
    patch.setattr(PartnerCenter, "engagement", lambda self, engagement_id: [])


@story("N24 the other side's id is inside the create")
def n24() -> None:
    f = Fresh(help_=None)
    worker = f.w.worker(f.name).past("POST partner_center")
    f.w.deliver()  # our own creation's event arrives before the answer is recorded
    f.w.work()
    worker.finish()
    f.rests(microsofts=0)


@without("N24 the other side's id is inside the create")
def _(patch: Patch) -> None:
    create = PartnerCenter.create_referral

    def without_key(self: PartnerCenter, body: Any, request_id: str) -> Any:
        return create(self, {key: value for key, value in body.items() if key != "externalReferenceId"}, request_id)

    patch.setattr(PartnerCenter, "create_referral", without_key)


class FromPortal:
    """A deal made in the portal, whose opportunity is to be created."""

    def __init__(self, **options: Any) -> None:
        self.w = Interleaved(**options)
        self.referral = self.w.sim.people.portal_create_deal()
        self.w.sim.clock.advance(60)
        self.name = referral_name(self.referral["id"])
        self.w.world.state.mark(self.name)

    def rests(self) -> dict[str, Any]:
        for _ in range(16):
            self.w.sim.clock.advance(60)
            polls.resume_owed_work(self.w.world)
            self.w.work()
        assert not self.w.owed()
        assert not self.w.parked()
        assert len(self.w.opportunities()) == 1
        assert len(self.w.referrals()) == 1
        return self.w.opportunities()[0]


@story("N25 a create in Salesforce is an insert, never an upsert")
def n25() -> None:
    f = FromPortal()
    lose_answer(f.w, host="salesforce", path="*/composite/graph")
    f.w.worker(f.name).finish()
    f.w.seller_edits(f.w.opportunities()[0]["Id"], Amount=ALICE)
    f.w.world.state.mark(opportunity_name(f.w.opportunities()[0]["Id"]))
    assert f.rests()["Amount"] == ALICE
    assert f.w.referrals()[0]["details"]["dealValue"] == ALICE


@without("N25 a create in Salesforce is an insert, never an upsert")
def _(patch: Patch) -> None:
    record = creation._record_opportunity

    def writes_its_values_again(run_: Any, pair: Any, record_id: str, sent: Any, text: str) -> Any:
        if sent:
            run_.world.salesforce.update("Opportunity", record_id, {"Amount": int(sent["deal_value"])})
        return record(run_, pair, record_id, sent, text)

    patch.setattr(creation, "_record_opportunity", writes_its_values_again)


@story("N26 the memory of an adopted record is what was sent")
def n26() -> None:
    f = Fresh(help_=None)
    lose_answer(f.w)
    f.w.worker(f.name).finish()
    f.w.portal_edits(f.w.referrals()[0]["id"], {"details/dealValue": PAUL})
    f.rests(microsofts=0)
    assert f.w.referrals()[0]["details"]["dealValue"] == PAUL
    assert f.w.opportunity(f.deal.opportunity)["Amount"] == PAUL


@without("N26 the memory of an adopted record is what was sent")
def _(patch: Patch) -> None:
    record = creation._record_referral

    def remembers_what_it_reads(run_: Any, pair: Any, referral: Any, sent: Any, help_code: str, text: str) -> Any:
        return record(run_, pair, referral, run_.mapping.read_referral(referral).values, help_code, text)

    patch.setattr(creation, "_record_referral", remembers_what_it_reads)


@story("N20 also where the org lacks the unique key")
def n20_without_key() -> None:
    f = FromPortal(org=OrgSwitches(connector_package=False))
    lose_answer(f.w, host="salesforce", path="*/composite/graph")
    f.rests()


@without("N20 also where the org lacks the unique key")
def _(patch: Patch) -> None:
    patch.setattr(org.Org, "by_referral", lambda self, referral_id: [])


# -- polls -----------------------------------------------------------------------------------------------------------------------------


class Polled:
    """Two shared deals, and a poll that has seen everything so far."""

    def __init__(self, **options: Any) -> None:
        self.w = Interleaved(**options)
        self.a = self.w.make_deal("A deal").opportunity
        self.b = self.w.make_deal("B deal").opportunity
        self.w.settle()
        self.w.sim.clock.advance(3600)
        polls.poll_opportunities(self.w.world)
        self.w.work()
        polls.poll_opportunities(self.w.world)
        assert not self.w.owed()

    def marked(self, *ids: str) -> bool:
        return {opportunity_name(one) for one in ids} <= set(self.w.owed())


def _newest_stamp(patch: Patch, later: float = 0.0) -> None:
    """The naive cursor: the newest stamp seen, and no overlap."""
    changed = polls._changed
    newest: list[str] = []

    def remembers(world: Any, columns: Any, sobject: str, scope: str, since: Any) -> Any:
        from datetime import timedelta

        from shared.codecs import parse_instant

        start = parse_instant(newest[-1]) if newest else since
        for row in changed(world, columns, sobject, scope, start + timedelta(seconds=later)):
            newest.append(str(row["SystemModstamp"]))
            yield row

    patch.setattr(polls, "_changed", remembers)


@story("N30 rows with one stamp are all seen")
def n30() -> None:
    p = Polled()
    p.w.seller_edits(p.a, Amount=1)
    polls.poll_opportunities(p.w.world)
    p.w.seller_edits(p.b, Amount=2)  # the same second
    p.w.sim.clock.advance(1)
    polls.poll_opportunities(p.w.world)
    assert p.marked(p.a, p.b)


@without("N30 rows with one stamp are all seen")
def _(patch: Patch) -> None:
    _newest_stamp(patch, later=1)


@story("N31 a row that becomes visible late is seen")
def n31() -> None:
    p = Polled()
    p.w.sim.salesforce.person_edits("Opportunity", p.b, {"Amount": 2}, visible_after=120)
    p.w.sim.clock.advance(60)
    p.w.seller_edits(p.a, Amount=1)
    polls.poll_opportunities(p.w.world)
    p.w.sim.clock.advance(90)
    polls.poll_opportunities(p.w.world)
    assert p.marked(p.a, p.b)


@without("N31 a row that becomes visible late is seen")
def _(patch: Patch) -> None:
    _newest_stamp(patch)


@story("N32 the overlap covers the longest transaction")
def n32() -> None:
    p = Polled()
    p.w.sim.salesforce.person_edits("Opportunity", p.b, {"Amount": 2}, visible_after=500)
    p.w.sim.clock.advance(450)
    polls.poll_opportunities(p.w.world)
    p.w.sim.clock.advance(100)
    polls.poll_opportunities(p.w.world)
    assert p.marked(p.b)


@without("N32 the overlap covers the longest transaction")
def _(patch: Patch) -> None:
    poll = polls._poll
    patch.setattr(polls, "_poll", lambda world, name, rows, vendor, overlap: poll(world, name, rows, vendor, 60.0))


@story("N33 the cursor moves after the marks")
def n33() -> None:
    p = Polled()
    p.w.seller_edits(p.b, Amount=2)
    p.w.sim.clock.advance(3600)  # longer than the overlap: only the cursor knows
    mark = p.w.world.state.mark_many
    calls: list[str] = []

    def dies(names: Any) -> None:
        calls.extend(names)
        raise SystemExit

    object.__setattr__(p.w.world.state, "mark_many", dies)
    with pytest.raises(SystemExit):
        polls.poll_opportunities(p.w.world)
    object.__setattr__(p.w.world.state, "mark_many", mark)
    polls.poll_opportunities(p.w.world)
    assert p.marked(p.b)


@without("N33 the cursor moves after the marks")
def _(patch: Patch) -> None:
    poll = polls._poll

    def moves_first(world: Any, name: str, rows: Any, vendor: Any, overlap: float) -> int:
        from shared.state import stamp

        before = world.state.cursor(name)
        world.state.move_cursor(name, stamp(world.clock.now()))
        cursor = world.state.cursor
        object.__setattr__(world.state, "cursor", lambda _: before)
        try:
            return poll(world, name, rows, vendor, overlap)
        finally:
            object.__setattr__(world.state, "cursor", cursor)

    patch.setattr(polls, "_poll", moves_first)


@story("N34 pages go on by key")
def n34() -> None:
    p = Polled(org=OrgSwitches(page_size=1))
    p.w.sim.clock.advance(10)
    p.w.seller_edits(p.a, Amount=1)
    p.w.sim.clock.advance(10)
    p.w.seller_edits(p.b, Amount=2)
    p.w.sim.clock.advance(10)
    query = Salesforce.query
    pages: list[Any] = []

    def query_and_edit(soql: str, include_deleted: bool = False) -> Any:
        page = query(p.w.world.salesforce, soql, include_deleted)
        pages.append(page)
        if len(pages) == 1:
            p.w.seller_edits(p.a, Amount=3)  # moves to the end of the list
        return page

    p.w.world.salesforce.query = query_and_edit  # type: ignore[method-assign]
    polls.poll_opportunities(p.w.world)
    assert p.marked(p.a, p.b)


@without("N34 pages go on by key")
def _(patch: Patch) -> None:
    def by_position(world: Any, columns: Any, sobject: str, scope: str, since: Any) -> Any:
        from shared.soql import literal

        offset = 0
        while True:
            where = f"SystemModstamp >= {literal(since.replace(microsecond=0))}"
            soql = f"SELECT {', '.join(columns)} FROM {sobject} WHERE {where} ORDER BY SystemModstamp ASC, Id ASC LIMIT 1 OFFSET {offset}"
            page = world.salesforce.query(soql, include_deleted=True)
            yield from page.records
            if not page.records:
                return
            offset += 1

    patch.setattr(polls, "_changed", by_position)


# -- both ways -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STORIES)
def test_the_story_ends_well(name: str) -> None:
    STORIES[name]()


@pytest.mark.parametrize("name", WITHOUT)
def test_the_story_fails_when_its_step_is_taken_out(name: str, monkeypatch: Patch) -> None:
    WITHOUT[name](monkeypatch)
    with pytest.raises(AssertionError):
        STORIES[name]()


def test_every_story_has_its_counterpart() -> None:
    assert set(STORIES) == set(WITHOUT)
