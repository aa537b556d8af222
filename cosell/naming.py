"""Record names as people type them."""

from __future__ import annotations

from shared.errors import Misconfigured
from shared.pairing import is_lead_id, is_opportunity_id, lead_name, opportunity_name, referral_name
from shared.referral import is_guid


def record_name(text: str) -> str:
    """The record name for an id of either vendor, or for a record name. Raises `Misconfigured` for anything else."""
    identifier = text.strip().removeprefix("sf-").removeprefix("pc-")
    if is_opportunity_id(identifier):
        return opportunity_name(identifier)
    if is_lead_id(identifier):
        return lead_name(identifier)
    if is_guid(identifier):
        return referral_name(identifier)
    raise Misconfigured(
        f"{text[:80]!r} names no record: give the id of an opportunity (006…) or a lead (00Q…), 15 or 18 characters, or a referral's id (a GUID)"
    )


def opportunity(text: str) -> str:
    """The 18-character id of an opportunity. Raises `Misconfigured`."""
    if not is_opportunity_id(text.strip()):
        raise Misconfigured(f"{text[:80]!r} is not the id of an opportunity (15 or 18 characters, beginning with 006)")
    return record_name(text).removeprefix("sf-")


def referral(text: str) -> str:
    """The id of a referral, lower case. Raises `Misconfigured`."""
    if not is_guid(text.strip()):
        raise Misconfigured(f"{text[:80]!r} is not the id of a referral (a GUID)")
    return text.strip().lower()
