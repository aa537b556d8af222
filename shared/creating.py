"""What a new record is made of: a referral from an opportunity, or an opportunity from a referral. Pure.

Both answers carry `sent`, the neutral values that were put in: they become the pair's memory once the create is certain (N26).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.codecs import CHECK, Value, strip_marks
from shared.mapping import ACTIVE, LOST, PENDING, WON, Mapping, Record, child_rows
from shared.referral import HELP_CODES, MICROSOFT, value_at
from shared.writing import audit_text, marked_name

CONTACT_ROLES = "OpportunityContactRoles"
TEAM_MEMBERS = "OpportunityTeamMembers"
DEFAULT_CLOSING_DAYS = 90  # an invitation may have no closing date; an opportunity must have one


@dataclass(frozen=True)
class ReferralDraft:
    """A referral ready to be created, or what is missing for it in words a seller acts on."""

    body: dict[str, Any]
    sent: dict[str, Value]
    help_code: str
    missing: tuple[str, ...] = ()


def draft_referral(mapping: Mapping, opportunity: Dict[str, Any], here: Record) -> ReferralDraft:
    """Our own referral for an opportunity. With a help code a second one, Microsoft's, follows: see `microsofts_referral`."""
    account = opportunity.get("Account") or {}
    help_text = str(opportunity.get(mapping.opportunity.help_field) or "").strip()
    help_code = HELP_CODES.get(help_text, "")
    solutions = mapping.solution_rows(opportunity)
    contacts = customer_contacts(opportunity)
    team = own_team(opportunity)
    country = str(account.get(mapping.switches.country_field) or "").strip()
    visible = bool(here.values.get("visible")) or bool(help_code)
    values = here.values

    missing = [f"{text}" for text in here.unread.values()]
    if help_text and not help_code:
        missing.append(f"How can Microsoft help? holds {help_text!r}, which Partner Center does not know")
    if not solutions:
        missing.append("Solution ID is required: add at least one Microsoft solution with its solution identifier")
    if not account.get("Name"):
        missing.append("the opportunity needs an account")
    elif not (len(country) == 2 and country.isascii() and country.isalpha()):
        missing.append(f"customer account country code missing: {mapping.switches.country_field} must hold two letters (holds {country!r})")
    if help_code and not any(contact["lastName"] and contact["email"] for contact in contacts):
        missing.append("asking Microsoft for help needs a customer contact: add a contact role whose contact has a name and an e-mail")
    if not any(member["email"] for member in team):
        missing.append("the opportunity owner needs an e-mail address")
    for name, words in (("title", "a name"), ("deal_value", "a deal value"), ("close_date", "a closing date")):
        if values.get(name) is None and name not in here.unread:
            missing.append(f"the opportunity needs {words}")
    if values.get("currency") is None and "currency" not in here.unread:
        missing.append("the deal's currency is not known: fill the currency field, or set company_currency in the mapping of a single-currency org")
    if str(values.get("deal_value") or "").startswith("-"):
        missing.append("a negative deal value is not accepted by Partner Center")

    street = str(account.get("BillingStreet") or "").replace("\r\n", "\n").split("\n")
    write = {row.name: row.codec.write_referral for row in mapping.fields}
    intent = str(opportunity.get(mapping.opportunity.intent_field) or "") or "HaveNotDecided"
    body: dict[str, Any] = {
        "name": values.get("title"),
        "externalReferenceId": opportunity.get("Id"),
        "type": "Shared" if help_code else "Independent",
        "qualification": "SalesQualified",
        "customerProfile": {
            "name": account.get("Name"),
            "address": {
                "addressLine1": street[0],
                "addressLine2": ", ".join(street[1:]),
                "city": account.get("BillingCity") or "",
                "state": account.get("BillingState") or "",
                "postalCode": account.get("BillingPostalCode") or "",
                "country": country.upper(),
            },
            "team": contacts,
        },
        # Required by the service; a deal without consent to share contacts is refused (partner-center 3.5).
        "consent": {
            "consentToToShareInfoWithOthers": True,
            "consentToContact": True,
            "consentToShareReferralWithMicrosoftSellers": visible,
        },
        "details": {
            "notes": values.get("notes") or "",
            "dealValue": _written(write, "deal_value", values),
            "currency": values.get("currency"),
            "closingDateTime": _written(write, "close_date", values),
            "requirements": {
                "solutions": solutions,
                "additionalRequirements": {"attributes": [{"type": "CustomerMarketplaceIntent", "id": intent}]},
            },
        },
        "team": team,
        "target": [{"type": "SolutionProfile", "id": item["id"]} for item in solutions[:1]] if help_code else [],
    }
    sent = {
        name: values[name] for name in ("title", "deal_value", "currency", "close_date", "notes", "status", "solutions") if name in values
    }
    sent |= {"visible": bool(values.get("visible")), "external_reference": opportunity.get("Id")}
    return ReferralDraft(body, sent, help_code, tuple(missing))


def microsofts_referral(own: Dict[str, Any], engagement_id: str, help_code: str) -> dict[str, Any]:
    """The connected referral that asks Microsoft: the same deal, addressed to `msft`, in the same engagement (partner-center 5.2)."""
    body = {key: value for key, value in own.items() if key != "externalReferenceId"}
    return body | {
        "engagementId": engagement_id,
        "type": "Shared",
        "target": [{"type": "BusinessProfileLocation", "id": MICROSOFT}],
        "inviteContext": {"assistanceRequestCode": help_code, "notes": value_at(own, "details/notes") or ""},
    }


def _written(write: Dict[str, Any], name: str, values: Dict[str, Value]) -> Any:
    return write[name](values[name]) if name in write and values.get(name) is not None else None


def customer_contacts(opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
    """The customer's people from the contact roles, the primary one first, each e-mail once."""
    rows = sorted(child_rows(opportunity, CONTACT_ROLES), key=lambda row: not row.get("IsPrimary"))
    return _members(row.get("Contact") for row in rows)


def own_team(opportunity: Dict[str, Any]) -> list[dict[str, Any]]:
    """Our people: the owner, then the opportunity team."""
    return _members([opportunity.get("Owner"), *(row.get("User") for row in child_rows(opportunity, TEAM_MEMBERS))])


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


# -- an opportunity from a referral ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What Salesforce already has of a referral's customer: ids by which the new opportunity refers to it."""

    account_id: str | None = None
    contacts: Dict[str, str] = ()  # type: ignore[assignment]  # lower-case e-mail -> contact id
    details: Dict[str, str] = ()  # type: ignore[assignment]  # solution identifier -> catalogue row id
    owner_id: str | None = None


@dataclass(frozen=True)
class OpportunityDraft:
    """The records of one atomic call, in order: (reference, object, fields). The opportunity's reference is `opportunity`."""

    records: tuple[tuple[str, str, dict[str, Any]], ...]
    sent: dict[str, Value]


def draft_opportunity(mapping: Mapping, referral: Dict[str, Any], there: Record, found: Found, now: datetime, has_key: bool) -> OpportunityDraft:
    """The opportunity for a referral, with its account, contacts, roles and solution rows where they do not exist yet."""
    customer = referral.get("customerProfile") or {}
    customer_name = str(customer.get("name") or "").strip()
    values = dict(there.values)
    values["title"] = values.get("title") or strip_marks(f"{customer_name or 'Partner Center'} referral")
    assumed: list[str] = []
    if values.get("close_date") is None:
        values["close_date"] = (now + timedelta(days=DEFAULT_CLOSING_DAYS)).date().isoformat()
        assumed.append(f"no closing date in Partner Center, {values['close_date']} assumed")
    records: list[tuple[str, str, dict[str, Any]]] = []

    account: str | None = found.account_id
    if account is None and customer_name:
        records.append(("account", "Account", _account_fields(mapping, customer, customer_name)))
        account = "@{account.id}"

    fields: dict[str, Any] = {}
    for row in mapping.fields:
        value = values.get(row.name)
        if value is None or row.type in ("solutions", "link") or row.salesforce == "Id" or row.of_microsoft:
            continue
        if row.type == "title":
            fields[row.salesforce] = marked_name(mapping, str(value), CHECK)
        elif row.type == "status":
            fields[row.salesforce] = mapping.stage_for(value)
        else:
            fields[row.salesforce] = row.codec.write_opportunity(value)
    if "referral_link" in mapping.by_name:
        fields[mapping.by_name["referral_link"].salesforce] = values.get("referral_link")
    if not has_key:
        fields.pop(mapping.opportunity.key_field, None)
    fields[mapping.opportunity.sync_field] = True
    line = "; ".join(["created from Partner Center", *assumed])
    fields[mapping.opportunity.audit_field] = audit_text(now, [line], None)
    if account:
        fields["AccountId"] = account
    if found.owner_id:
        fields["OwnerId"] = found.owner_id
    records.append(("opportunity", "Opportunity", fields))

    records += _contact_records(customer, account, found)
    records += _solution_records(mapping, referral, found)
    names = ("title", "deal_value", "currency", "close_date", "notes", "status", "visible", "referral_id", "referral_key", "referral_link", "program")
    sent = {name: values[name] for name in names if name in values and name in mapping.by_name}
    # Remove only what we added: the solutions that came from Partner Center are not ours.
    return OpportunityDraft(tuple(records), sent | {"solutions": []})


def _account_fields(mapping: Mapping, customer: Dict[str, Any], name: str) -> dict[str, Any]:
    address = customer.get("address") or {}
    street = "\n".join(str(line) for line in (address.get("addressLine1"), address.get("addressLine2")) if line)
    fields = {
        "Name": name[:255],
        "BillingStreet": street or None,
        "BillingCity": address.get("city") or None,
        "BillingState": address.get("state") or None,
        "BillingPostalCode": address.get("postalCode") or None,
        mapping.switches.country_field: address.get("country") or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _contact_records(customer: Dict[str, Any], account: str | None, found: Found) -> list[tuple[str, str, dict[str, Any]]]:
    records: list[tuple[str, str, dict[str, Any]]] = []
    contacts = dict(found.contacts or {})
    seen: set[str] = set()
    for number, person in enumerate(customer.get("team") or []):
        if not isinstance(person, Dict):
            continue
        email = str(person.get("email") or "").strip()
        last_name = str(person.get("lastName") or person.get("firstName") or email.partition("@")[0]).strip()
        key = email.lower() or last_name.lower()
        if not last_name or key in seen:
            continue
        seen.add(key)
        contact = contacts.get(email.lower()) if email else None
        if contact is None:
            fields = {
                "LastName": last_name[:80],
                "FirstName": str(person.get("firstName") or "")[:40] or None,
                "Email": email or None,
                "Phone": str(person.get("phoneNumber") or "")[:40] or None,
                "AccountId": account,
            }
            records.append((f"contact{number}", "Contact", {name: value for name, value in fields.items() if value is not None}))
            contact = f"@{{contact{number}.id}}"
        role = {"OpportunityId": "@{opportunity.id}", "ContactId": contact, "IsPrimary": len(seen) == 1}
        records.append((f"role{number}", "OpportunityContactRole", role))
    return records


def _solution_records(mapping: Mapping, referral: Dict[str, Any], found: Found) -> list[tuple[str, str, dict[str, Any]]]:
    rows = mapping.solutions
    records: list[tuple[str, str, dict[str, Any]]] = []
    details = dict(found.details or {})
    for number, item in enumerate(solutions_of(referral)):
        identifier = item["id"]
        if identifier not in details:
            fields = {"Name": str(item.get("name") or identifier)[:80], rows.identifier_field: identifier}
            if item.get("solutionType") in ("1P", "3P"):
                fields[rows.type_field] = item["solutionType"]
            if item.get("publisherName"):
                fields[rows.publisher_field] = str(item["publisherName"])[:200]
            records.append((f"detail{number}", rows.detail_object, fields))
            details[identifier] = f"@{{detail{number}.id}}"
        link = {rows.opportunity_field: "@{opportunity.id}", rows.detail_field: details[identifier]}
        records.append((f"solution{number}", rows.object, link))
    return records


def solutions_of(referral: Dict[str, Any]) -> list[dict[str, Any]]:
    """The referral's solutions, each identifier once."""
    listed = value_at(referral, "details/requirements/solutions")
    found: dict[str, dict[str, Any]] = {}
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, Dict) and item.get("id"):
            found.setdefault(str(item["id"]).strip(), {**item, "id": str(item["id"]).strip()})
    return list(found.values())


OPEN = frozenset({PENDING, ACTIVE})
CLOSED = frozenset({WON, LOST})
