"""Scenario 5: what is sold changes, in Salesforce and in the portal."""

from __future__ import annotations

import json
from typing import Any

from demo.checking import expect, then_quiet
from demo.edits import reaches_partner_center, stays
from demo.stage import Stage
from demo.telling import Teller
from simulator.core import Call

PATH = "/details/requirements/solutions"
FIRST, SECOND = "SOL-10001-CON", "SOL-10002-CON"
PORTALS = {"type": "Name", "id": "SOL-30001-FAB", "name": "Fabrikam Managed Services", "solutionType": "3P"}


def solutions(stage: Stage, tell: Teller) -> None:
    """Solutions come and go"""
    opportunity_id, referral_id = shared(stage, tell)
    as_it_stood = listed(stage, referral_id)
    expect("solutions of the referral", [FIRST], ids(as_it_stood))

    tell.step(f"Ana adds a second solution, {SECOND}.")
    rows: list[str] = []
    call = reaches_partner_center(
        stage, tell, referral_id, "the second solution", lambda: rows.append(add(stage, opportunity_id, SECOND)), [PATH]
    )
    expect("solutions sent", [FIRST, SECOND], ids(sent(call)))
    expect("the first solution in the patch", as_it_stood, sent(call)[:1])
    tell.fine_print(f"{FIRST} as it stood, {SECOND} behind it.")

    tell.step(f"In the portal a colleague adds {PORTALS['id']}, a partner's solution that Ana's list does not have.")
    both = listed(stage, referral_id)
    add_in_portal = {PATH: [*both, PORTALS]}
    stays(
        stage,
        tell,
        referral_id,
        lambda: stage.sim.people.portal_edit(referral_id, add_in_portal),
        "what somebody added in the portal is theirs, and stays",
    )
    all_three = listed(stage, referral_id)
    expect("solutions of the referral", [FIRST, SECOND, PORTALS["id"]], ids(all_three))

    tell.step(f"Ana removes {SECOND} again.")
    call = reaches_partner_center(stage, tell, referral_id, "the removal", lambda: remove(stage, rows[0]), [PATH])
    kept = [one for one in all_three if one["id"] != SECOND]
    expect("the solutions that stay", kept, sent(call))
    expect("solutions of the referral", kept, listed(stage, referral_id))
    tell.fine_print(f"Only hers is gone: {' and '.join(ids(kept))} are as they stood.")
    then_quiet(stage, tell)


def shared(stage: Stage, tell: Teller) -> tuple[str, str]:
    """A deal of Ana's that is shared already when the story begins; ids of the opportunity and the referral."""
    tell.step(f"Ana shares a deal with Woodgrove that holds one solution, {FIRST}.")
    made: list[str] = []

    def share() -> None:
        with stage.sim.lock:
            made.append(stage.sim.salesforce.make_deal("Woodgrove branches", customer="Woodgrove", solutions=(FIRST,)).opportunity)

    def identifier() -> Any:
        return stage.sim.salesforce.record(made[0])["Referral_Identifier__c"]

    seen = stage.act(share, lambda: bool(identifier()), "the opportunity is linked")
    tell.then(seen.seconds(seen.writes("salesforce")[-1]), "in Partner Center, and linked")
    return made[0], str(identifier())


def add(stage: Stage, opportunity_id: str, solution_id: str) -> str:
    """A seller adds a solution row; its id."""
    with stage.sim.lock:
        crm = stage.sim.salesforce
        detail = next(one for one in crm.records("Microsoft_Solution_Detail__c") if one["Solution_Identifier__c"] == solution_id)
        return crm.person_creates(
            "Microsoft_Solutions__c", {"Opportunity__c": opportunity_id, "Solution__c": detail["Id"], "Quantity__c": 1}
        )


def remove(stage: Stage, row: str) -> None:
    with stage.sim.lock:
        stage.sim.salesforce.person_deletes("Microsoft_Solutions__c", row)


def listed(stage: Stage, referral_id: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = stage.sim.referral(referral_id)["details"]["requirements"]["solutions"]
    return entries


def sent(call: Call) -> list[dict[str, Any]]:
    """The list that a patch of the solutions carries."""
    (operation,) = json.loads(call.body)
    entries: list[dict[str, Any]] = operation["value"]
    return entries


def ids(entries: list[dict[str, Any]]) -> list[str]:
    return [str(one["id"]) for one in entries]
