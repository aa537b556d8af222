"""What a story asserts: a demo that shows something else than it says must fail."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from demo.stage import Seen, Stage, StoryFailed
from demo.telling import Teller, condition
from simulator.core import Call
from simulator.core import Host as VendorHost

NAMES: dict[VendorHost, str] = {"partner_center": "Partner Center", "salesforce": "Salesforce"}
# What every write to an opportunity carries for the seller and for us, beside the change itself.
BESIDE = ("Audit__c", "Co_sell_Token__c", "Co_sell_Last_Synced__c")


def expect(what: str, wanted: Any, found: Any) -> None:
    if wanted != found:
        raise StoryFailed(f"{what}: expected {wanted!r}, but it is {found!r}")


def only_write(seen: Seen, host: VendorHost) -> Call:
    """The one conditional write an edit led to. Raises StoryFailed for none, for more, and for one to the other side."""
    writes = [f"{call.host} {call.method} {call.path}" for call in seen.calls if call.mutating]
    if len(writes) != 1 or not seen.writes(host):
        raise StoryFailed(f"one edit must be one write to {NAMES[host]}, but these were sent: {', '.join(writes) or 'none'}")
    call = seen.writes(host)[0]
    if call.method != "PATCH" or not 200 <= call.status < 300:
        raise StoryFailed(f"the write was {call.method} and got {call.status}: {call.body.decode()}")
    if condition(call) == "unconditional":
        raise StoryFailed(f"the write was unconditional, so it could overwrite an edit nobody read: {call.path}")
    return call


def patched(call: Call) -> set[str]:
    """The paths of a JSON Patch, or the fields of a Salesforce update."""
    body = json.loads(call.body)
    return {str(operation["path"]) for operation in body} if isinstance(body, list) else set(body)


def expect_changed(call: Call, wanted: Iterable[str], also: Iterable[str] = ()) -> None:
    """That a write holds exactly the wanted paths or fields; `also` are those it may hold beside them."""
    expect("fields in the write", sorted(wanted), sorted(patched(call) - set(also)))


def expect_no_write(seen: Seen, why: str) -> None:
    """That neither vendor was written to; `why` says to a person why nothing should have been."""
    writes = [f"{call.host} {call.method} {call.path} {call.body.decode()}" for call in seen.calls if call.mutating]
    if writes:
        raise StoryFailed(f"{why}, but the connector wrote: {'; '.join(writes)}")


def then_quiet(stage: Stage, tell: Teller) -> None:
    """Asserts that another two rounds of every timer write nothing to either vendor, and tells the counts."""
    tell.step(f"Then quiet. Each of the {len(stage.app.host.timers)} timers runs again, twice, the full sweep of both sides included.")
    for _ in range(2):
        seen = stage.run_every_timer()
        expect_no_write(seen, "there was nothing left to do")
        counts = (f"{NAMES[host]} {len(seen.reads(host))} reads, {len(seen.writes(host))} writes" for host in NAMES)
        tell.then((stage.sim.clock.now() - seen.began).total_seconds(), "; ".join(counts))
