"""`cosell erase`: a person's data goes from everything that is stored, and nothing is written to a vendor because of it."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from shared.erasing import Person, erased_texts
from shared.mapping import Record
from shared.planning import Announced, Announcement, Known, plan_pair
from shared.settings import Settings
from shared.state import State
from shared.tables import NAMES, AzureTables, MemoryTables, Tables
from shared.undoing import Wish
from simulator.faults import Fault
from tests.deals import DealWorld, load
from tests.one_deal import OneDeal
from tests.test_cli_deals import run, run_json
from tests.test_state import Ticking, full_pair

DANA = "dana.moreau@fabrikam.example"
NOTE = f"Ask {DANA.title()} (not diana.dana.moreau@fabrikam.example.org) in May."


def stored(tables: Tables) -> str:
    """Everything the tables hold, as one text in small letters."""
    return "\n".join(str(one) for table in NAMES for one in tables.list(table)).lower()


def holds(tables: Tables, text: str = DANA) -> bool:
    return text in stored(tables).replace(f"diana.{DANA}.org", "")


@pytest.fixture
def deal() -> OneDeal:
    """A deal whose notes, memory, history and refusal all name the contact."""
    deal = OneDeal.shared(How_can_Microsoft_help__c=None)
    deal.seller(Description=NOTE)
    deal.portal(details__notes=f"{NOTE} Or June.")
    return deal


def erase(deal: OneDeal, *argv: str) -> str:
    return run(deal.w, "erase", "--contact", DANA.upper(), *argv)[1]


# -- what sync does not need is not stored ---------------------------------------------------------------------------------------------


def test_contacts_and_colleagues_are_not_stored_to_begin_with() -> None:
    deal = OneDeal.shared()
    deal.adds_contact("Noor", "Haddad")
    deal.seller(NextStep="contact added")
    for text in (DANA, "dana", "moreau", "+1 555 0142", "ana.sousa@contoso.example", "noor.haddad@fabrikam.example", "haddad"):
        assert text not in stored(deal.w.tables), text


def test_a_person_who_joins_later_is_still_added_once_and_nobody_twice() -> None:
    deal = OneDeal.shared(How_can_Microsoft_help__c=None, Referral_visible_to_Microsoft_sellers__c=False)
    deal.adds_contact("Noor", "Haddad")
    deal.seller(NextStep="contact added")
    assert [one["email"] for one in deal.there["customerProfile"]["team"]] == [DANA, "noor.haddad@fabrikam.example"]
    assert "contacts 1 → 2 people, changed in Salesforce" in deal.explained
    assert not deal.w.quiet()


def test_addresses_that_an_earlier_version_remembered_are_known_again() -> None:
    mapping = load(None)
    agreed = {"title": "Deal", "status": "active", "external_reference": "006", "contacts": [DANA]}
    known = Known({**agreed, "contacts": [DANA, "gone@fabrikam.example"]})
    plan = plan_pair(mapping, Record({**agreed, "contacts": []}), Record({**agreed, "sync": True}), known)
    assert plan.changes == (), "removed over there by a person: not added again"
    assert DANA not in str(plan.known.memory["contacts"])
    again = plan_pair(mapping, Record({**agreed, "contacts": []}), Record({**agreed, "sync": True}), plan.known)
    assert again.changes == ()


# -- what is erased --------------------------------------------------------------------------------------------------------------------


def test_nothing_is_erased_without_apply(deal: OneDeal) -> None:
    before = stored(deal.w.tables)
    shown = erase(deal)
    assert "would be erased: 1 rows of links, 2 rows of history" in shown
    assert "--apply" in shown
    assert stored(deal.w.tables) == before


def test_a_person_goes_from_links_and_history_and_nothing_is_written_because_of_it(deal: OneDeal) -> None:
    position = deal.w.position()
    assert holds(deal.w.tables)
    shown = erase(deal, "--apply")
    assert shown.count("erased: ") == 1
    assert not holds(deal.w.tables)
    assert f"diana.{DANA}.org" in stored(deal.w.tables), "another address stays"
    assert deal.w.mutations(position) == []
    assert not deal.w.quiet(), "the merge sees no edit"
    deal.w.world.state.mark(f"sf-{deal.id}")
    deal.w.settle()
    assert not holds(deal.w.tables), "and nothing comes back"
    assert "erased" in [one["kind"] for one in deal.w.world.state.history(f"sf-{deal.id}")]
    assert "nothing of this person is stored here" in erase(deal, "--apply")


@pytest.mark.parametrize("hand", ["seller", "portal"])
def test_an_edit_after_an_erasure_is_one_sided_and_no_conflict(deal: OneDeal, hand: str) -> None:
    erase(deal, "--apply")
    if hand == "seller":
        deal.seller(Description="Nobody is named here.")
    else:
        deal.portal(details__notes="Nobody is named here.")
    assert (deal.here["Description"], deal.there["details"]["notes"]) == ("Nobody is named here.",) * 2
    newest = next(one for one in deal.w.world.state.history(f"sf-{deal.id}") if one["details"])
    assert newest["details"]["overrides"] == {}
    assert f"changed in {'Salesforce' if hand == 'seller' else 'Partner Center'}" in newest["text"]


def test_a_conflict_after_an_erasure_has_its_winner(deal: OneDeal) -> None:
    erase(deal, "--apply")
    deal.w.seller_edits(deal.id, Description="theirs")
    deal.portal(details__notes="ours")
    assert (deal.here["Description"], deal.there["details"]["notes"]) == ("theirs", "theirs")


def test_an_erased_value_is_not_put_back_by_an_undo(deal: OneDeal) -> None:
    deal.seller(Description="Nobody is named here.")
    erase(deal, "--apply")
    deal.w.sim.clock.advance(5)
    position = deal.w.position()
    shown = run(deal.w, "undo", deal.id, "--apply")[1]
    assert "cannot be undone: notes: its value was erased from history" in shown
    assert deal.w.mutations(position) == []


def test_a_refusal_that_quotes_a_person_is_erased_and_stays_parked(deal: OneDeal) -> None:
    state: State = deal.w.world.state
    name = f"sf-{deal.id}"
    state.mark(name)
    owed = state.owed(name)
    assert owed is not None
    state.park(owed, f"A member needs phoneNumber [{DANA}]", "hash")
    erase(deal, "--apply")
    assert deal.w.parked() == {name: "A member needs phoneNumber [[erased]]"}
    assert [one.due for one in state.all_owed()] == ["9999-12-31T00:00:00.000Z"]


def test_a_write_under_way_is_waited_for(deal: OneDeal) -> None:
    deal.w.sim.faults.add(Fault(host="partner_center", method="PATCH", status=503, count=50))
    deal.w.seller_edits(deal.id, Description=f"{NOTE} July.")
    deal.w.sim.clock.advance(5)
    deal.w.round()
    code, told = run_json(deal.w, "erase", "--contact", DANA, "--apply")
    assert (code, told["waiting"]) == (1, [f"sf-{deal.id}"])
    deal.w.sim.faults.clear()
    deal.w.settle()
    assert deal.there["details"]["notes"] == f"{NOTE} July.", "the announced write is repeated to the letter"
    assert run(deal.w, "erase", "--contact", DANA, "--apply")[0] == 0
    assert not holds(deal.w.tables)
    assert not deal.w.quiet()


def test_a_persons_name_and_phone_go_with_the_address_and_alone_on_demand() -> None:
    person = {"firstName": "Dana", "lastName": "Moreau", "phoneNumber": "+1 555 0142", "email": DANA, "role": "buyer"}
    other = {"firstName": "Noor", "lastName": "Haddad", "email": "noor@fabrikam.example"}
    texts = {"details": json.dumps({"people": [person, other]}), "text": "Dana Moreau signs"}
    rest = erased_texts(Person(DANA), "history", texts, owed=False)
    erased = dict.fromkeys(("firstName", "lastName", "phoneNumber", "email"), "[erased]")
    assert json.loads(rest["details"]) == {"people": [{**erased, "role": "buyer"}, other]}
    assert rest["text"] == "Dana Moreau signs"
    assert erased_texts(Person(DANA, ("dana moreau",)), "history", texts, owed=False)["text"] == "[erased] signs"


@pytest.mark.parametrize("text", [f"x{DANA}", f"{DANA}.org", f"a.{DANA}", f"{DANA}-2"])
def test_an_address_inside_another_is_left(text: str) -> None:
    assert not Person(DANA).stands_in(text)


@pytest.mark.parametrize("given", ["dana", "", "dana@", "@fabrikam.example", "a b@c.d"])
def test_what_is_no_address_is_refused(deal: OneDeal, given: str) -> None:
    code, shown = run(deal.w, "erase", "--contact", given)
    assert (code, "is not an e-mail address" in shown) == (2, True)


# -- every place, on both kinds of tables ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "table storage"])
def tables(request: pytest.FixtureRequest) -> Tables:
    if request.param == "memory":
        return MemoryTables()
    return AzureTables(Settings(storage=request.getfixturevalue("azurite")))


def test_every_place_of_a_row_is_covered_and_the_rest_comes_back_as_it_was(tables: Tables) -> None:
    # Tests share the storage: a person and a deal of our own.
    state, name, dana = State(tables, Ticking()), f"pc-{uuid.uuid4()}", f"dana.{uuid.uuid4().hex}@fabrikam.example"
    long = f"{'é' * 40_000} {dana} {'x' * 40_000}"
    fields = {"notes": Announced(long, dana), "title": Announced("Deal", None, True)}
    announced = Announcement("v", "t", fields, json.dumps([{"value": long}]))
    kept = Announcement("v", "t", {"title": Announced("Deal")}, "{}")
    full = full_pair(name)
    assert full.create is not None
    pair = replace(
        full,
        known=Known(
            {"notes": long, "title": "Deal", "contacts": [dana], "resting": {"program": dana, "other": "x"}},
            {"partner_center": announced, "salesforce": kept},
            frozenset({"deal_value"}),
            {"notes": Wish(dana, "x", "salesforce"), "title": Wish("a", "b", "salesforce")},
        ),
        create=replace(full.create, sent={"notes": long, "title": "Deal"}, earlier=({"notes": dana},)),
        outcome=f"refused: {dana}",
    )
    state.start_pair(pair)
    state.record(name, "parked", f"refused {long}", {"changes": [{"field": "notes", "old": long, "new": dana}]})
    state.move_cursor(f"poll-{name}", dana)
    world = DealWorld(tables=tables)
    code, told = run_json(world, "erase", "--contact", dana, "--apply")
    assert (code, told["rows"], told["deals"]) == (0, {"links": 1, "cursors": 1, "history": 1}, [name])
    assert not any(dana in str(one).lower() for table in NAMES for one in tables.list(table))
    found = state.pair(name)
    assert found is not None
    assert found.known.announced == {"salesforce": kept}
    assert found.known.unsure == frozenset({"deal_value", "notes"})
    assert found.known.wishes == {"title": Wish("a", "b", "salesforce")}
    assert (found.known.memory["title"], found.known.memory["resting"]["other"]) == ("Deal", "x")
    assert set(found.known.memory["notes"]) == {"erased"}
    assert found.create is not None
    assert (found.create.sent["title"], set(found.create.sent["notes"])) == ("Deal", {"erased"})
    assert (found.outcome, found.lease_until) == ("refused: [erased]", pair.lease_until)
    (entry,) = (one for one in state.history(name) if one["kind"] == "parked")
    assert [one["text"] for one in state.history(name) if one["kind"] == "erased"] == ["a person's data was erased on request"]
    assert entry["details"]["changes"][0]["old"] == long.replace(dana, "[erased]")


def test_memory_of_an_erased_value_tells_whether_it_is_still_the_same() -> None:
    mapping = load(None)
    agreed: dict[str, Any] = {"title": "Deal", "status": "active", "notes": NOTE, "external_reference": "006"}
    texts = {"memory": json.dumps(agreed), "opportunity_id": "006"}
    memory = json.loads(erased_texts(Person(DANA), "links", texts, owed=False)["memory"])

    def planned(there: str, here: str) -> list[tuple[str, bool]]:
        plan = plan_pair(mapping, Record({**agreed, "notes": there}), Record({**agreed, "notes": here, "sync": True}), Known(memory))
        assert DANA not in str(plan.known.memory.get("notes")).lower() or there != NOTE
        return [(one.side, one.conflict) for one in plan.changes]

    assert planned(NOTE, NOTE) == []
    assert planned(NOTE, "new") == [("partner_center", False)]
    assert planned("new", NOTE) == [("salesforce", False)]
    assert planned("new", "newer") == [("partner_center", True)]
