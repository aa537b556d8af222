"""The machine of `make chaos`: fixed seeds of both halves, the windows that cannot be closed, and that the checks can fail at all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos import nights
from chaos.checking import Edits, Rest, faults
from chaos.deal import Deal
from chaos.planted import planted
from chaos.playing import play
from chaos.seeds import FAILED_NIGHTS, FAILED_STORIES
from chaos.stage import on_stage
from chaos.story import Story, weather_of
from shared import reconciling
from shared.pairing import opportunity_name, referral_name
from tests.interleaving import Interleaved

ROOT = Path(__file__).resolve().parent.parent


# -- fixed seeds -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_thirty_stories_and_every_one_that_ever_failed_keep_the_promises() -> None:
    stories = [Story.of(seed) for seed in [*range(30), *FAILED_STORIES]]
    with on_stage((1.0, -1.0)) as stage:
        verdicts = play(stage, stories, weather_of(1))
        met = {name.partition(":")[0] for name in stage.counted}
    assert not [f"{'; '.join(one.faults)}\n{one.told}" for one in verdicts if not one.held]
    assert {"salesforce", "partner_center", "storage", "queue", "events", "weather"} <= met, "the faults were not met at all"


@pytest.mark.parametrize("seed", [*range(30), *FAILED_NIGHTS])
def test_a_night_of_one_process_keeps_the_promises(seed: int) -> None:
    night = nights.lived(seed)
    found = night.faults_found()
    assert not found, "\n".join([*found, *night.told])


def test_a_seed_is_a_story() -> None:
    assert Story.of(7) == Story.of(7) != Story.of(8)
    assert weather_of(7) == weather_of(7)
    assert len({str(Story.of(seed)) for seed in range(200)}) == 200
    story = next(one for one in map(Story.of, range(50)) if one.edits and one.troubles)
    shorter = list(story.shorter())
    assert len(shorter) == len(story.edits) + len(story.troubles)
    assert all(len(one.edits) + len(one.troubles) == len(shorter) - 1 for one in shorter)


def test_an_interrupted_run_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chaos", "--only", "stories", "--runs", "2", "--seed", "1", "--logs", str(tmp_path)]
    run = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 90
        while len(list(tmp_path.glob("instance-*.log"))) < 2 and run.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C reaches everybody in the terminal
        told, _ = run.communicate(timeout=90)
        assert b"every process is ended" in told
        end = time.monotonic() + 20
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(run.pid, 0)
                time.sleep(0.1)
            pytest.fail("something still runs")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


# -- the checks can fail ---------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "bug",
    ["memory_ignored", "wrong_winner", "memory_moved_after_a_lost_answer", "pair_saved_without_etag", "create_repeated_without_search"],
)
def test_a_planted_bug_is_caught(bug: str) -> None:
    with planted(bug):
        assert any(nights.lived(seed).faults_found() for seed in range(150))


def rest(here: str, there: str, **changes: Any) -> Rest:
    """Both sides' deal value, and a quiet end but for the changes."""
    nothing: Counter[tuple[str, str]] = Counter()
    values = {"salesforce": {"deal_value": here}, "partner_center": {"deal_value": there}}
    quiet = Rest(
        values,  # type: ignore[arg-type]
        {"deal_value": here},
        False,
        [],
        {"salesforce": nothing, "partner_center": nothing},
        {"salesforce": 0, "partner_center": 0},
        {"referral": 1, "opportunity": 1},
        [],
        [],
    )
    return replace(quiet, **changes)


def edited(*edits: tuple[str, str, str]) -> dict[str, Edits]:
    """`(side, value, what stood there)` of the deal value, which began as 1."""
    known = Edits("1")
    for side, value, before in edits:
        known.add(side, value, before)  # type: ignore[arg-type]
    return {"deal_value": known}


ALICE, PAUL, PAUL_SAW_HER = ("salesforce", "2", "1"), ("partner_center", "3", "1"), ("partner_center", "3", "2")
OVER_PAUL = {
    "changes": [{"side": "partner_center", "field": "deal_value", "old": "3", "new": "2", "conflict": True}],
    "overrides": {"deal_value": "3"},
}


@pytest.mark.parametrize(
    ("edits", "left", "words"),
    [
        ((), rest("1", "1"), None),
        ((ALICE,), rest("2", "2"), None),
        ((ALICE,), rest("1", "1"), "rests at 1; 2 went without a word"),
        ((ALICE,), rest("2", "1"), "Salesforce holds 2, Partner Center 1"),
        ((ALICE, PAUL), rest("2", "2", history=[OVER_PAUL]), None),
        ((ALICE, PAUL), rest("3", "3"), "rests at 3; 2 went without a word"),
        ((ALICE, PAUL_SAW_HER), rest("3", "3"), None),
        ((ALICE, PAUL_SAW_HER), rest("2", "2"), "3 went without a word"),
        # Overridden and told, but nothing was ever unclear: memory was ignored.
        ((ALICE, PAUL_SAW_HER), rest("2", "2", history=[OVER_PAUL]), "rests at 2, though it should at 3"),
        # W1: what Alice wrote had landed, its answer was lost, and it was written again over Paul's edit, knowingly.
        (
            (ALICE, PAUL_SAW_HER),
            rest(
                "2",
                "2",
                history=[OVER_PAUL],
                written={"salesforce": Counter(), "partner_center": Counter({("deal_value", "2"): 2})},
            ),
            None,
        ),
        (
            (ALICE,),
            rest("2", "2", written={"salesforce": Counter(), "partner_center": Counter({("deal_value", "2"): 2})}),
            "2 was written 2 times to Partner Center",
        ),
        ((ALICE,), rest("2", "2", memory={"deal_value": "1"}), "memory holds 1, both sides 2"),
        ((), rest("1", "1", announced=True), "never settled"),
        ((), rest("1", "1", records={"referral": 2}), "2 records: referral"),
        ((), rest("1", "1", owed=["sf-1: no reason given"]), "still owed"),
        ((), rest("1", "1", parked=["sf-1: because"]), "put aside"),
    ],
)
def test_every_broken_promise_has_words(edits: Any, left: Rest, words: str | None) -> None:
    found = faults(edited(*edits), left)
    assert (found == []) if words is None else any(words in one for one in found), found


def test_a_write_to_a_closed_deal_is_seen() -> None:
    assert faults(edited(), rest("1", "2", touched=1), closed=True) == ["1 writes reached the records of a closed deal"]
    assert faults(edited(ALICE), rest("2", "1"), closed=True) == []


# -- what the machine found ------------------------------------------------------------------------------------------------------------


def test_a_claim_that_took_longer_to_store_than_it_is_good_for_is_not_used() -> None:
    window = Window(shared=False)
    w = window.w
    w.world.state.mark(window.name)
    slow = w.worker(window.name).past("GET partner_center").until("replace links")
    w.sim.clock.advance(700)
    quick = w.worker(window.name).until("replace links")
    slow.step()  # its claim stands now, though its deadline and the margin after it are over
    quick.finish()
    slow.finish()
    w.settle()
    assert window.deal.records()["referral"] == 1


# -- the windows of the protocol, section 9: provoked, and surfaced --------------------------------------------------------------------


class Window:
    """A deal both sides agree on, and the steps of one worker on it."""

    def __init__(self, shared: bool = True) -> None:
        self.w = Interleaved(overlay=nights.OVERLAY)
        self.deal = Deal(self.w.sim)
        self.deal.saved_by_seller(None)
        self.deal.shared_by_seller()
        self.name = opportunity_name(self.deal.opportunity)
        if shared:
            self.w.settle()
            self.w.sim.clock.advance(3600)
            self.deal.find()

    def rests_at(self) -> tuple[str, str]:
        return self.deal.values("salesforce")["deal_value"], self.deal.values("partner_center")["deal_value"]

    def history(self) -> list[dict[str, Any]]:
        return list(self.w.world.state.history(self.name))


def test_w1_an_edit_whose_order_cannot_be_told_is_overridden_aloud() -> None:
    window = Window()
    w, deal = window.w, window.deal
    deal.edit("salesforce", "deal_value")
    hers = deal.values("salesforce")["deal_value"]
    w.world.state.mark(window.name)
    w.sim.clock.advance(5)
    w.worker(window.name).past("PATCH partner_center").kill()  # landed, and not remembered
    deal.edit("partner_center", "deal_value")
    his = deal.values("partner_center")["deal_value"]
    w.sim.clock.advance(200)
    w.settle()
    assert window.rests_at() == (hers, hers), "Salesforce wins this field"
    told = window.history()[0]
    assert told["details"]["overrides"] == {"deal_value": his}
    assert "could not tell which came first" in told["text"]
    audit = str(w.opportunity(deal.opportunity)["Audit__c"])
    assert his in audit
    assert "could not tell which came first" in audit
    assert not w.quiet()


def test_w2_a_second_save_in_the_same_second_seen_late_is_in_history() -> None:
    window = Window()
    w, deal = window.w, window.deal
    deal.edit("salesforce", "notes")
    # The second save of this second: stamped now, committed in half a minute, its row locked meanwhile.
    w.sim.salesforce.person_edits("Opportunity", deal.opportunity, {"Amount": 777_000}, visible_after=30)
    deal.edit("partner_center", "deal_value")
    his = deal.values("partner_center")["deal_value"]
    w.sim.clock.advance(5)
    w.world.state.mark(window.name)
    w.worker(window.name).finish()  # a settled read, a lock, and an announcement that stays
    w.sim.clock.advance(60)
    w.settle()
    assert window.rests_at() == (his, his), "overwritten: its stamp was that of the save before"
    (told,) = (one for one in window.history() if (one["details"] or {}).get("overrides"))
    assert told["details"]["overrides"] == {"deal_value": "777000"}
    assert not w.quiet()


def test_w3_a_create_held_up_longer_than_the_margin_is_put_aside_with_both_ids() -> None:
    window = Window(shared=False)
    w, deal = window.w, window.deal
    w.world.state.mark(window.name)
    frozen = w.worker(window.name).until("POST partner_center")
    w.sim.clock.advance(900)
    w.worker(window.name).finish()
    frozen.finish()
    w.settle()
    deal.find()
    first, second = (one["id"] for one in w.referrals())
    pair = w.world.state.pair(window.name)
    assert pair is not None
    kept, late = (first, second) if pair.referral_id == first else (second, first)
    assert list(w.parked()) == [referral_name(late)]
    told = w.parked()[referral_name(late)]
    assert kept in told
    assert f"close {late} as a duplicate" in told
    assert window.history()[0]["text"] == told
    # It stays there, is not told again and again, and the deal goes on with the first.
    w.sim.clock.advance(86_400)
    reconciling.reconcile(w.world)
    w.settle()
    assert list(w.parked()) == [referral_name(late)]
    assert sum(one["text"] == told for one in window.history()) == 1
    w.seller_edits(deal.opportunity, Amount=5)
    w.settle()
    assert w.sim.partner_center.records[kept]["details"]["dealValue"] == 5
    # Closing the second one ends it.
    w.portal_edits(late, {"status": "Closed", "substatus": "Lost", "statusReason": "Duplicate"})
    w.settle()
    assert w.parked() == {}
