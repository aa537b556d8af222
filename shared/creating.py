"""What a new record is made of: a referral from an opportunity, or an opportunity from a referral. Pure.

Both answers carry `sent`, the neutral values that were put in: they become the pair's memory once the create is certain (N26).
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.codecs import CHECK, Value, strip_marks
from shared.mapping import PARTNER_CENTER, SALESFORCE, FieldRow, Mapping, Record
from shared.people import complete, customer_contacts, own_team, pseudonym
from shared.referral import MICROSOFT, list_at, section_at, value_at
from shared.writing import audit_text, marked_name, told_fields

DEFAULT_CLOSING_DAYS = 90  # an invitation may have no closing date; an opportunity must have one


@dataclass(frozen=True)
class ReferralDraft:
    """A referral ready to be created, or what is missing for it in words a seller acts on."""

    body: dict[str, Any]
    sent: dict[str, Value]
    help_code: str
    missing: tuple[str, ...] = ()


def draft_referral(mapping: Mapping, opportunity: Dict[str, Any], here: Record, country_field: str) -> ReferralDraft:
    """Our own referral for an opportunity. With a help code a second one, Microsoft's, follows: see `microsofts_referral`.

    `country_field` is the Account field that holds the two letters in this org.
    """
    account = opportunity.get("Account") or {}
    help_code = str(here.values.get("help") or "")
    solutions = mapping.solution_rows(opportunity)
    contacts, team = _acceptable(customer_contacts(opportunity)), _acceptable(own_team(opportunity))
    country = str(account.get(country_field) or "").strip()
    visible = bool(here.values.get("visible"))
    values = here.values

    # A stage that is not mapped keeps nobody from sharing: a new referral is active whatever its stage is called.
    missing = [text for name, text in here.unread.items() if name != "status"]
    if not solutions:
        missing.append("Solution ID is required: add at least one Microsoft solution with its solution identifier")
    if not account.get("Name"):
        missing.append("the opportunity needs an account")
    elif not (len(country) == 2 and country.isascii() and country.isalpha()):
        missing.append(f"customer account country code missing: {country_field} must hold two letters (holds {country!r})")
    if help_code and not any(contact["lastName"] and contact["email"] for contact in contacts):
        missing.append("asking Microsoft for help needs a customer contact: add a contact role whose contact has a name and an e-mail")
    if not any(member["email"] for member in team):
        missing.append("the opportunity owner needs an e-mail address")
    for name, words in (("title", "a name"), ("deal_value", "a deal value"), ("close_date", "a closing date")):
        if values.get(name) is None and name not in here.unread:
            missing.append(f"the opportunity needs {words}")
    if values.get("currency") is None and "currency" not in here.unread:
        missing.append(
            "the deal's currency is not known: fill the currency field, or set company_currency in the mapping of a single-currency org"
        )
    if str(values.get("deal_value") or "").startswith("-"):
        missing.append("a negative deal value is not accepted by Partner Center")

    kind = str(opportunity.get(mapping.opportunity.cosell_type_field) or "")
    for name in mapping.required.get(kind, ()):
        if values.get(name) is None and name not in here.unread:
            label = mapping.by_name[name].label if name in mapping.by_name else name.replace("_", " ")
            missing.append(f"{kind} needs a {label}")

    street = str(account.get("BillingStreet") or "").replace("\r\n", "\n").split("\n")
    write = {row.name: row.codec.write_referral for row in mapping.fields}
    attributes = [
        {"type": row.partner_center, "id": write[row.name](values.get(row.name)) or row.default}
        for row in mapping.fields
        if row.of == "attribute" and row.creates(PARTNER_CENTER) and (values.get(row.name) or row.default)
    ]
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
            "notes": (values.get("notes") or "") if "notes" in mapping.by_name and mapping.by_name["notes"].creates(PARTNER_CENTER) else "",
            "dealValue": _written(write, "deal_value", values),
            "currency": values.get("currency"),
            "closingDateTime": _written(write, "close_date", values),
            "requirements": {
                "solutions": solutions,
                "additionalRequirements": {"attributes": attributes},
            },
        },
        "team": team,
        "target": [{"type": "SolutionProfile", "id": item["id"]} for item in solutions[:1]] if help_code else [],
    }
    for row in mapping.fields:
        _put_own_row(body, row, values)
    for path, constant in mapping.create.Referral.items():
        _put(body, path, filled(constant, values))
    sent = {name: values[name] for name in _SENT_THERE if name in values}
    # Also of a field that is left out: what stands there now is no later change.
    sent |= {row.name: values[row.name] for row in mapping.fields if row.direction == "both" and row.name in values}
    sent |= {"visible": visible, "external_reference": opportunity.get("Id")}
    deal = str(values.get("external_reference") or "")
    sent |= {name: [pseudonym(deal, one) for one in sent[name]] for name in mapping.people_fields if sent.get(name)}
    return ReferralDraft(body, sent, help_code, tuple(missing))


def _acceptable(people: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The people Partner Center takes; where there is none, all of them, so that the vendor says what it misses."""
    return [one for one in people if complete(one)] or people


_BUILT_IN = frozenset({"title", "deal_value", "currency", "close_date", "notes", "status", "visible", "solutions", "contacts", "team"})
_SENT_THERE = ("title", "deal_value", "currency", "close_date", "notes", "status", "solutions", "contacts", "team", "help")


def _put_own_row(body: dict[str, Any], row: FieldRow, values: Dict[str, Value]) -> None:
    """A field that an overlay added travels in the create as well."""
    plain = (
        row.creates(PARTNER_CENTER)
        and row.travels_to(PARTNER_CENTER)
        and not row.of
        and row.name not in _BUILT_IN | {"external_reference", "help"}
    )
    if plain and values.get(row.name) is not None:
        _put(body, row.partner_center, row.codec.write_referral(values[row.name]))


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for parent in parents:
        body = body.setdefault(parent, {})
    body[last] = value


def filled(constant: Any, values: Dict[str, Value]) -> Any:
    """A constant as it stands, or a text with `{field}` places filled with neutral values."""
    if not isinstance(constant, str):
        return constant
    return re.sub(r"\{([a-z_]+)\}", lambda place: str(values.get(place[1]) or ""), constant)


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


# -- an opportunity from a referral ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What Salesforce already has of a referral's customer: ids by which the new opportunity refers to it."""

    account_id: str | None = None
    contacts: Dict[str, str] = field(default_factory=dict)  # lower-case e-mail -> contact id
    details: Dict[str, str] = field(default_factory=dict)  # solution identifier -> catalogue row id
    owner_id: str | None = None
    team_ids: tuple[str, ...] = ()  # users who become opportunity team members


@dataclass(frozen=True)
class OpportunityDraft:
    """The records of one atomic call, in order: (reference, object, fields). The opportunity's reference is `opportunity`."""

    records: tuple[tuple[str, str, dict[str, Any]], ...]
    sent: dict[str, Value]


@dataclass(frozen=True)
class Places:
    """Where this org keeps an address, and which of the connector's own fields a new opportunity may have filled."""

    country_field: str
    state_field: str = "BillingState"
    has_key: bool = True
    has_synced: bool = True


def draft_opportunity(
    mapping: Mapping, referral: Dict[str, Any], there: Record, found: Found, now: datetime, places: Places, counted: bool = False
) -> OpportunityDraft:
    """The opportunity for a referral, with its account, contacts, roles, team and solution rows where they do not exist yet."""
    customer = section_at(referral, "customerProfile")
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
        records.append(("account", "Account", _account_fields(mapping, customer, customer_name, places, values)))
        account = "@{account.id}"

    fields: dict[str, Any] = {}
    for row in mapping.fields:
        value = values.get(row.name)
        # Visibility travels one way later, but a new record takes what is so; everything else keeps its direction.
        comes = row.travels_to(SALESFORCE) or row.type == "one_way_flag" or row.of == "attribute"
        written = (
            comes and row.type not in ("solutions", "members", "answer", "help") and row.creates(SALESFORCE) and "." not in row.salesforce
        )
        if value is None or not written or row.salesforce in ("", "Id") or row.of == "microsoft":
            continue
        if row.type == "title":
            fields[row.salesforce] = marked_name(mapping, str(value), CHECK)
        elif row.type == "status":
            fields[row.salesforce] = mapping.stage_for(value)
        else:
            fields[row.salesforce] = row.codec.write_opportunity(value)
    if not places.has_key:
        fields.pop(mapping.opportunity.key_field, None)
    if places.has_synced:
        fields |= told_fields(mapping, {mapping.opportunity.synced_field: None}, now, "")
    fields |= {name: filled(constant, values) for name, constant in mapping.create.Opportunity.items()}
    fields[mapping.opportunity.sync_field] = True
    if counted and solutions_of(referral):
        fields[mapping.solutions.count_field] = len(solutions_of(referral))
    if there.unread.get("deal_value"):
        assumed.append(there.unread["deal_value"])
    line = "; ".join(["created from Partner Center", *assumed])
    fields[mapping.opportunity.audit_field] = audit_text(mapping, now, line, None)
    if account:
        fields["AccountId"] = account
    if found.owner_id:
        fields["OwnerId"] = found.owner_id
    records.append(("opportunity", "Opportunity", fields))

    records += _contact_records(mapping, customer, account, found, values)
    for number, user in enumerate(found.team_ids):
        member = {"OpportunityId": "@{opportunity.id}", "UserId": user, "OpportunityAccessLevel": "Edit"}
        records.append((f"member{number}", "OpportunityTeamMember", member))
    records += _solution_records(mapping, referral, found)
    left_out = {row.name for row in mapping.fields if row.direction == "both" and not row.creates(SALESFORCE)}
    sent = {
        row.name: values[row.name] for row in mapping.fields if row.name in values and (row.salesforce in fields or row.name in left_out)
    }
    # Remove only what we added: the solutions that came from Partner Center are not ours.
    return OpportunityDraft(tuple(records), sent | {"solutions": []})


def _account_fields(mapping: Mapping, customer: Dict[str, Any], name: str, places: Places, values: Dict[str, Value]) -> dict[str, Any]:
    address = section_at(customer, "address")
    street = "\n".join(str(line) for line in (address.get("addressLine1"), address.get("addressLine2")) if line)
    fields = {
        "Name": name[:255],
        "BillingStreet": street or None,
        "BillingCity": address.get("city") or None,
        places.state_field: address.get("state") or None,
        "BillingPostalCode": address.get("postalCode") or None,
        places.country_field: address.get("country") or None,
    }
    if mapping.accounts.match == "duns":
        fields[mapping.accounts.duns_field] = customer_id(customer, "Duns")
    if mapping.accounts.match == "external_id":
        fields[mapping.accounts.external_id_field] = customer_id(customer, "External")
    fields |= {key: filled(constant, values) for key, constant in mapping.create.Account.items()}
    return {key: value for key, value in fields.items() if value is not None}


def customer_id(customer: Dict[str, Any], kind: str) -> str | None:
    """The customer's id of a kind, `Duns` or `External`. The list arrives as `[]`, as `{}` and as objects (partner-center 3.4)."""
    for one in list_at(customer, "ids"):
        if str(one.get("profileType") or "").lower() == kind.lower() and one.get("id"):
            return str(one["id"]).strip()
    return None


def _contact_records(
    mapping: Mapping, customer: Dict[str, Any], account: str | None, found: Found, values: Dict[str, Value]
) -> list[tuple[str, str, dict[str, Any]]]:
    records: list[tuple[str, str, dict[str, Any]]] = []
    contacts = found.contacts
    seen: set[str] = set()
    for number, person in enumerate(list_at(customer, "team")):
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
            } | {name: filled(constant, values) for name, constant in mapping.create.Contact.items()}
            records.append((f"contact{number}", "Contact", {name: value for name, value in fields.items() if value is not None}))
            contact = f"@{{contact{number}.id}}"
        role = {"OpportunityId": "@{opportunity.id}", "ContactId": contact, "IsPrimary": len(seen) == 1}
        records.append((f"role{number}", "OpportunityContactRole", role))
    return records


def _solution_records(mapping: Mapping, referral: Dict[str, Any], found: Found) -> list[tuple[str, str, dict[str, Any]]]:
    rows = mapping.solutions
    records: list[tuple[str, str, dict[str, Any]]] = []
    details = dict(found.details)
    for number, item in enumerate(solutions_of(referral)):
        identifier = item["id"]
        if identifier not in details:
            fields = {"Name": str(item.get("name") or identifier)[:80], rows.identifier_field: identifier}
            if rows.type_field and item.get("solutionType") in ("1P", "3P"):
                fields[rows.type_field] = item["solutionType"]
            if rows.publisher_field and item.get("publisherName"):
                fields[rows.publisher_field] = str(item["publisherName"])[:200]
            records.append((f"detail{number}", rows.detail_object, fields))
            details[identifier] = f"@{{detail{number}.id}}"
        link = {rows.opportunity_field: "@{opportunity.id}", rows.detail_field: details[identifier]}
        records.append((f"solution{number}", rows.object, link))
    return records


def solutions_of(referral: Dict[str, Any]) -> list[dict[str, Any]]:
    """The referral's solutions, each identifier once."""
    found: dict[str, dict[str, Any]] = {}
    for item in list_at(referral, "details/requirements/solutions"):
        if item.get("id"):
            found.setdefault(str(item["id"]).strip(), {**item, "id": str(item["id"]).strip()})
    return list(found.values())
