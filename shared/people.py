"""The people of a deal as Partner Center names them: the customer's contacts and our team. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from typing import Any

CONTACT_ROLES = "OpportunityContactRoles"
TEAM_MEMBERS = "OpportunityTeamMembers"


def child_rows(record: Dict[str, Any], relationship: str) -> list[dict[str, Any]]:
    """The rows of a child subquery, which is null when there are none."""
    nested = record.get(relationship)
    return list(nested.get("records") or []) if isinstance(nested, Dict) else []


def customer_contacts(opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
    """The customer's people from the contact roles, the primary one first, each e-mail once."""
    rows = sorted(child_rows(opportunity, CONTACT_ROLES), key=lambda row: not row.get("IsPrimary"))
    return _members(row.get("Contact") for row in rows)


def own_team(opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
    """Our people: the owner, then the opportunity team."""
    return _members([opportunity.get("Owner"), *(row.get("User") for row in child_rows(opportunity, TEAM_MEMBERS))])


def complete(member: Dict[str, Any]) -> bool:
    """Whether Partner Center takes this person: all four fields are required (partner-center 3.4)."""
    return all(str(member.get(key) or "").strip() for key in ("firstName", "lastName", "phoneNumber", "email"))


def email_of(member: Any) -> str:
    return str(member.get("email") or "").strip().lower() if isinstance(member, Dict) else ""


def pseudonym(deal: str, email: str) -> str:
    """By what memory knows a person of a deal again without holding the address: the same for one deal, another for every other."""
    return digest(deal, email.strip().lower())[:16]


def digest(deal: str, value: Any) -> str:
    """A value's hash with the deal as the key."""
    return hmac.new(deal.encode(), json.dumps(value, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _members(people: Iterable[Any]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for person in people:
        if isinstance(person, Dict) and (person.get("Email") or person.get("LastName")):
            member = {
                "firstName": person.get("FirstName") or "",
                "lastName": person.get("LastName") or "",
                "phoneNumber": person.get("Phone") or "",
                "email": person.get("Email") or "",
            }
            found.setdefault(member["email"].lower() or f"{member['firstName']} {member['lastName']}", member)
    return list(found.values())
