"""What a seller can list and report on: when the connector last wrote, and what to do next while a deal is put aside."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.salesforce import Org, schema
from tests.deals import DealWorld

TOLD = (schema.Field("Co_sell_Last_Synced__c", "datetime"), schema.text("Co_sell_Next_Step__c", 255))
STEP, SYNCED = "Co_sell_Next_Step__c", "Co_sell_Last_Synced__c"
OURS = frozenset({f"Opportunity.{STEP}", f"Opportunity.{SYNCED}"})


def world(**options: Any) -> DealWorld:
    return DealWorld(org=Org(extra_fields={"Opportunity": TOLD}, **options))


def test_a_parked_deal_says_what_to_do_next_until_it_is_done() -> None:
    w = world()
    deal = w.make_deal(solutions=())
    w.settle()
    told = w.opportunity(deal.opportunity)
    assert "solution" in told[STEP]
    assert told[STEP] in told["Audit__c"]
    (detail, *_) = w.sim.salesforce.records("Microsoft_Solution_Detail__c")
    w.sim.salesforce.person_creates("Microsoft_Solutions__c", {"Opportunity__c": deal.opportunity, "Solution__c": detail["Id"]})
    w.settle()
    mended = w.opportunity(deal.opportunity)
    assert mended[STEP] is None
    assert mended["Referral_Identifier__c"]
    assert mended[SYNCED] > told[SYNCED]
    assert not w.quiet()


def test_a_change_from_partner_center_says_when_it_came_and_wakes_nobody() -> None:
    w = world()
    deal = w.make_deal()
    w.settle()
    before = w.opportunity(deal.opportunity)[SYNCED]
    w.portal_edits(w.referrals()[0]["id"], {"details/dealValue": 71_000})
    w.settle()
    told = w.opportunity(deal.opportunity)
    assert (told["Amount"], told[STEP]) == (71_000, None)
    assert told[SYNCED] > before
    assert not w.quiet()


@pytest.mark.parametrize("hidden", [{"hidden_fields": OURS}, {"read_only_fields": OURS}])
def test_an_org_that_does_not_let_us_write_them_does_without(hidden: dict[str, Any]) -> None:
    w = world(**hidden)
    deal = w.make_deal()
    w.settle()
    told = w.opportunity(deal.opportunity)
    assert told["Referral_Identifier__c"]
    assert (told[STEP], told[SYNCED]) == (None, None)
