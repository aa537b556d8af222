"""What a seller can list and report on: when the connector last wrote, and what to do next while a deal is put aside."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from cosell.app import main
from simulator.salesforce import Org
from tests.deals import DealWorld
from tests.one_deal import OneDeal

STEP, SYNCED = "Co_sell_Next_Step__c", "Co_sell_Last_Synced__c"
OURS = frozenset({f"Opportunity.{STEP}", f"Opportunity.{SYNCED}"})


def test_a_parked_deal_says_what_to_do_next_until_it_is_done() -> None:
    w = DealWorld()
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
    w = DealWorld()
    deal = w.make_deal()
    w.settle()
    before = w.opportunity(deal.opportunity)[SYNCED]
    w.portal_edits(w.referrals()[0]["id"], {"details/dealValue": 71_000})
    w.settle()
    told = w.opportunity(deal.opportunity)
    assert (told["Amount"], told[STEP]) == (71_000, None)
    assert told[SYNCED] > before
    assert not w.quiet()


def test_a_deal_that_arrives_says_when_it_was_made() -> None:
    deal = OneDeal.from_portal()
    assert (deal.here[SYNCED], deal.here[STEP]) == (deal.here["CreatedDate"], None)
    assert not deal.w.quiet()


@pytest.mark.parametrize("hidden", [{"hidden_fields": OURS}, {"read_only_fields": OURS}])
def test_an_org_that_does_not_let_us_write_them_does_without(hidden: dict[str, Any]) -> None:
    w = DealWorld(org=Org(**hidden))
    ours, theirs = OneDeal.shared(w), OneDeal.from_portal(w, name="Tailspin move", customer="Tailspin")
    for told in (ours.here, theirs.here):
        assert told["Referral_Identifier__c"]
        assert (told[STEP], told[SYNCED]) == (None, None)


def test_the_check_of_an_org_without_them_says_where_they_come_from() -> None:
    out = io.StringIO()
    main(["mapping", "check", "--json"], DealWorld(org=Org(connector_package=False)).world, out, io.StringIO())
    told = {one["text"]: (one["level"], one["remedy"]) for one in json.loads(out.getvalue())["findings"]}
    for name in (STEP, SYNCED):
        assert told[f"Opportunity has no field {name}"] == ("warning", "install the connector's own package")
