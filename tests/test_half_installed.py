"""A package that is installed in part never synchronizes in part: both sides are written to or neither, and what is missing is said."""

from __future__ import annotations

import contextlib

import pytest

from shared import polls, reporting
from shared.errors import Misconfigured
from simulator.salesforce import Org
from tests.deals import DealWorld

OBJECTS = ("Opportunity", "Microsoft_Solutions__c", "Microsoft_Solution_Detail__c")


def _package() -> list[str]:
    described = {name: DealWorld().world.salesforce.describe(name) for name in OBJECTS}
    fields = [f"{name}.{one['name']}" for name, found in described.items() for one in found["fields"] if one["custom"]]
    return [*fields, *OBJECTS[1:]]


def _run_everything(w: DealWorld) -> None:
    """Every trigger there is, each of which may end with an error of its own, as its function would."""
    for _ in range(6):
        w.sim.clock.advance(400)
        for trigger in (w.deliver, w.work):
            trigger()
        for poll in (polls.poll_opportunities, polls.poll_solutions, polls.poll_referrals, polls.resume_owed_work):
            with contextlib.suppress(Misconfigured):
                poll(w.world)
        w.work()


@pytest.mark.parametrize("how", ["hidden_fields", "read_only_fields"])
@pytest.mark.parametrize("name", _package())
def test_without_a_part_of_the_package_deals_are_whole_on_both_sides_or_untouched_on_both(name: str, how: str) -> None:
    w = DealWorld(org=Org(**{how: frozenset({name})}))
    w.make_deal("From Salesforce")
    w.sim.people.portal_create_deal("From Partner Center", customer="Northwind")
    before = w.position()
    _run_everything(w)
    told = reporting.status(w.world)["org"]
    deals = len(w.referrals()), len(w.opportunities())
    if "error" in told:
        assert w.mutations(before) == []
        assert deals == (1, 1)
        assert name.rpartition(".")[2] in told["error"]
        return
    whole = {one["Referral_Identifier__c"]: one["Id"] for one in w.opportunities()}
    assert None not in whole
    for referral in w.referrals():
        if referral["id"] in whole:
            assert referral["externalReferenceId"] == whole[referral["id"]]
        else:
            # Only a catalogue that may not be added to: the deal waits as it is and says for what.
            assert name.startswith("Microsoft_Solution_Detail__c.")
            assert referral["externalReferenceId"] is None
            (reason,) = w.owed().values()
            assert name.rpartition(".")[2] in reason
    assert len(w.referrals()) == 2
    assert w.parked() == {}
    assert not w.quiet()


@pytest.mark.parametrize("how", ["hidden_fields", "read_only_fields"])
def test_a_key_or_token_that_cannot_be_written_is_not_relied_on(how: str) -> None:
    """Without the key nothing in Salesforce stops a second create, so the create margin has to be waited for."""
    sound = DealWorld().world.org.shape
    assert (sound.places.has_key, sound.has_token) == (True, True)
    without = DealWorld(org=Org(**{how: frozenset({"Opportunity.Co_sell_Key__c", "Opportunity.Co_sell_Token__c"})})).world.org.shape
    assert (without.places.has_key, without.has_token) == (False, False)


def test_a_lead_whose_marks_cannot_be_written_stops_leads_with_their_names() -> None:
    overlay = {"switches": {"cosell_opportunities_only": False}}
    w = DealWorld(org=Org(read_only_fields=frozenset({"Lead.Referral_Identifier__c"})), overlay=overlay)
    w.sim.people.microsoft_invites(shared=False)
    before = w.position()
    w.deliver()
    w.work()
    assert (w.mutations(before), w.sim.salesforce.records("Lead")) == ([], [])
    (reason,) = w.owed().values()
    assert "Referral_Identifier__c" in reason
    with pytest.raises(Misconfigured, match="Referral_Identifier__c"):
        _ = w.world.org.lead_shape
