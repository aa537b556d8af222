"""One edit on one side, and what it becomes on the other: one conditional write, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from demo.checking import BESIDE, expect, expect_changed, expect_no_write, only_write
from demo.stage import Stage, StoryFailed
from demo.telling import Teller
from simulator.core import Call

Act = Callable[[], object]


def reaches_partner_center(stage: Stage, tell: Teller, referral_id: str, what: str, act: Act, paths: Iterable[str]) -> Call:
    """Something is done in Salesforce; tells the one JSON Patch that it becomes, which holds exactly these paths."""
    before = stage.sim.referral(referral_id)["eTag"]
    seen = stage.act(act, lambda: bool(stage.sim.referral(referral_id)["eTag"] != before), f"{what} reaches Partner Center")
    call = only_write(seen, "partner_center")
    expect_changed(call, paths)
    expect("If-Match", before, call.headers.get("if-match"))
    tell.patch(seen, call)
    return call


def reaches_salesforce(stage: Stage, tell: Teller, opportunity_id: str, what: str, act: Act, fields: list[str]) -> Call:
    """Something is done in Partner Center; tells the one update that it becomes, which holds these fields and its audit entry."""
    before = stage.sim.salesforce.record(opportunity_id)

    def arrived() -> bool:
        now = stage.sim.salesforce.record(opportunity_id)
        return all(now[name] != before[name] for name in fields)

    seen = stage.act(act, arrived, f"{what} reaches Salesforce")
    call = only_write(seen, "salesforce")
    expect_changed(call, fields, also=BESIDE)
    tell.update(seen, call, fields)
    return call


def stays(stage: Stage, tell: Teller, referral_id: str, act: Act, why: str) -> None:
    """Something is done that must not travel, and every timer runs: the connector reads the referral, and writes nothing."""
    seen = stage.run_every_timer(act)
    expect_no_write(seen, why)
    looked = [call for call in seen.reads("partner_center") if referral_id in call.path]
    if not looked:
        raise StoryFailed(f"nothing was written, but nobody looked either; it should have been left alone because {why}")
    tell.then(seen.seconds(looked[0]), f"looked at, and nothing written to either side: {why}")
