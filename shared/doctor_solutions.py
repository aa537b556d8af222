"""The doctor's check that needs both vendors: whether the solutions sellers can choose are ones that Microsoft takes for co-sell."""

from __future__ import annotations

from collections.abc import Iterator

from shared.doctor_report import Check, shown
from shared.doctor_subject import Seen, Unchecked

SOLUTIONS = ("co-sell solutions",)


def solution_checks(seen: Seen) -> Iterator[Check]:
    """No call lists a partner's co-sell-ready solutions; an id that stands on a referral was taken once, any other has to be looked up."""
    if seen.catalogue is None or seen.on_referrals is None:
        raise Unchecked("it compares the solutions in Salesforce with those on referrals, and one of the two could not be read")
    if not seen.catalogue:
        raise Unchecked("there is no solution in Salesforce to look at")
    known = {one.lower() for one in seen.on_referrals}
    unknown = [one for one in seen.catalogue if one.lower() not in known]
    if unknown:
        where = "no referral" if seen.every_referral else "none of the referrals looked at"
        text = f"whether these are co-sell ready cannot be known from here, {where} has them: {shown(unknown)}"
        remedy = "look each up under Marketplace offers, Co-sell solutions in Partner Center: its status has to be Co-sell ready or better"
        yield Check("co-sell solutions", "amber", text, remedy, "whoever manages the marketplace offers")
    else:
        yield Check("co-sell solutions", "green", f"all {len(seen.catalogue)} solutions in Salesforce stand on a referral")
