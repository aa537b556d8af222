"""Creating a deal's other record: search, claim, create, record (protocol, section 5).

The other side's id travels inside the request, an earlier attempt is searched for before any repetition, and what is found is adopted.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared.brakes import Held
from shared.codecs import CODECS, Value, parse_instant
from shared.creating import Found, OpportunityDraft, customer_id, draft_opportunity, draft_referral, microsofts_referral, solutions_of
from shared.errors import AlreadyExists, Gone, Refused, TryLater, VersionConflict
from shared.lead_draft import draft_lead
from shared.mapping import PARTNER_CENTER, PENDING, SALESFORCE, TERMINAL, Record
from shared.mapping_file import Side
from shared.org import Reading
from shared.pairing import long_id, opportunity_name, referral_name
from shared.people import child_rows, email_of
from shared.planning import Known
from shared.referral import is_closed, is_cosell, is_microsofts, list_at, section_at
from shared.run import CREATE_COSELL_REFERRAL, TO_SALESFORCE, Outcome, Run, content_hash
from shared.salesforce import DuplicateFound, GraphRequest
from shared.soql import identifier, literal
from shared.state import Create, Pair, stamp

DUPLICATES_TAKEN = 8
IDS_ASKED = 25
CLAIM_SECONDS = 60.0  # how long a claimed create may still be begun


def create_missing(run: Run, pair: Pair) -> Outcome | None:
    """One step of a create: our referral, Microsoft's, or the opportunity.

    None: Microsoft's create is parked and waits for a person, while both records of the deal are there and go on.
    """
    if not pair.referral_id:
        return _create_referral(run, pair)
    if not pair.opportunity_id:
        return _create_opportunity(run, pair)
    return _create_microsofts(run, pair)


# -- a referral for an opportunity -----------------------------------------------------------------------------------------------------


def _create_referral(run: Run, pair: Pair) -> Outcome:
    world = run.world
    try:
        reading = run.carried.reading or world.org.opportunity(pair.opportunity_id)
    except Gone:
        return _stop(run, pair, "the opportunity was deleted or is not visible any more; nothing was created")
    run.carried.reading = None
    mapping, record = run.mapping, reading.record
    here = mapping.read_opportunity(record)
    if not record.get(mapping.opportunity.sync_field):
        return _stop(run, pair, "Sync With Partner Center is off")
    if here.values.get("status") == PENDING and pair.create is None:
        return _stop(run, pair, "the opportunity is on hold; it is shared once it leaves that stage")
    if here.values.get("status") in TERMINAL and pair.create is None:
        return _stop(run, pair, "the opportunity was closed before it was shared")
    draft = draft_referral(mapping, record, here, world.org.shape.places.country_field)
    # What is missing may stand on the account or a contact, so the whole body tells whether anything was mended.
    refused = content_hash(mapping, here, also=[draft.body, draft.missing])
    if run.owed.parked and run.owed.refused == refused and pair.create is None:
        return _still_parked(run, pair)
    if draft.missing and pair.create is None:
        return run.parked("; ".join(draft.missing), refused, pair, reading)

    claimed = parse_instant(pair.create.first_claim) if pair.create else run.now
    found = [
        one
        for one in world.partner_center.by_external_reference(pair.opportunity_id, claimed - timedelta(hours=1))
        if not is_microsofts(one)
    ]
    if len(found) > 1:
        return _doubled(run, pair, reading, refused, [str(one["id"]) for one in found])
    if found:
        sent = pair.create.landed(mapping.read_referral(found[0]).values) if pair.create else {}
        return _record_referral(run, pair, found[0], sent, draft.help_code, "found in Partner Center by its reference, adopted")
    if draft.missing:
        return run.parked("; ".join(draft.missing), refused, pair, reading)

    def post(request_id: str) -> dict[str, Any]:
        return world.partner_center.create_referral(draft.body, request_id)

    claimed_pair = _claim(run, pair, "referral", draft.sent)
    if isinstance(claimed_pair, Outcome):
        return claimed_pair
    created = _post(run, claimed_pair, pair.create, post, refused, reading, f"{CREATE_COSELL_REFERRAL}: creating the referral")
    if isinstance(created, Outcome):
        return created
    run.carried.reading = reading
    return _record_referral(run, created[0], created[1], draft.sent, draft.help_code, "created in Partner Center")


def _record_referral(run: Run, pair: Pair, referral: dict[str, Any], sent: Any, help_code: str, text: str) -> Outcome:
    identifier_ = str(referral["id"]).lower()
    saved = run.ended(
        replace(pair, create=None, next_step="microsoft" if help_code else ""),
        f"{CREATE_COSELL_REFERRAL}: {text}",
        referral_id=identifier_,
        engagement_id=str(referral.get("engagementId") or ""),
        help_code=help_code,
        # The value sent, not what the record says now: a person may have edited it already [N26].
        known=Known({**pair.known.memory, **sent}),
    )
    run.world.state.alias(referral_name(identifier_), saved.name)
    return Outcome(run.owed.name, "again", text)


def _create_microsofts(run: Run, pair: Pair) -> Outcome | None:
    """The connected referral that asks Microsoft for help, in the engagement of ours."""
    world, mapping = run.world, run.mapping
    try:
        reading = run.carried.reading or world.org.opportunity(pair.opportunity_id)
    except Gone:
        return _stop(run, replace(pair, next_step="", create=None), "the opportunity was deleted; Microsoft is not asked")
    run.carried.reading, record = None, reading.record
    here = mapping.read_opportunity(record)
    draft = draft_referral(mapping, record, here, world.org.shape.places.country_field)
    refused = content_hash(mapping, here, also=[draft.body, draft.missing])
    if run.owed.parked and run.owed.refused == refused and pair.create is None:
        return None
    found = [one for one in world.partner_center.engagement(pair.engagement_id) if is_microsofts(one)]
    if len(found) > 1:
        return _doubled(run, pair, reading, refused, [str(one["id"]) for one in found])
    if found:
        return _record_microsofts(run, pair, found[0], "found in the engagement, adopted")
    if draft.missing:
        return run.parked("; ".join(draft.missing), refused, pair, reading)

    def post(request_id: str) -> dict[str, Any]:
        return world.partner_center.create_referral(microsofts_referral(draft.body, pair.engagement_id, pair.help_code), request_id)

    claimed_pair = _claim(run, pair, "microsoft", {})
    if isinstance(claimed_pair, Outcome):
        return claimed_pair
    created = _post(run, claimed_pair, pair.create, post, refused, reading, f"{CREATE_COSELL_REFERRAL}: asking Microsoft for help")
    if isinstance(created, Outcome):
        return created
    return _record_microsofts(run, created[0], created[1], "Microsoft was asked for help")


def _record_microsofts(run: Run, pair: Pair, referral: dict[str, Any], text: str) -> Outcome:
    identifier_ = str(referral["id"]).lower()
    saved = run.ended(replace(pair, create=None, next_step=""), f"{CREATE_COSELL_REFERRAL}: {text}", microsoft_id=identifier_)
    run.world.state.alias(referral_name(identifier_), saved.name)
    run.carried.microsoft = referral
    return Outcome(run.owed.name, "again", text)


# -- an opportunity for a referral -----------------------------------------------------------------------------------------------------


def _create_opportunity(run: Run, pair: Pair) -> Outcome:
    world, mapping = run.world, run.mapping
    try:
        referral = world.partner_center.referral(pair.referral_id)
    except Gone:
        return _stop(run, pair, "the referral is not visible any more; nothing was created")
    there = mapping.read_referral(referral)
    refused = content_hash(mapping, there)
    if run.owed.parked and run.owed.refused == refused and pair.create is None:
        return _still_parked(run, pair)
    places = world.org.shape.places
    found = world.org.by_referral(pair.referral_id)
    if len(found) > 1:
        return _doubled(run, pair, None, refused, [str(one["Id"]) for one in found])
    if found:
        sent = pair.create.landed(mapping.read_opportunity(found[0]).values) if pair.create else {}
        return _record_opportunity(run, pair, str(found[0]["Id"]), sent, "found in Salesforce by its referral, adopted")
    if not is_cosell(referral) and not mapping.switches.cosell_opportunities_only and not pair.lead_id:
        waiting = _as_lead(run, pair, referral, there, refused)
        if waiting is not None:
            return waiting
        if pair.create and pair.create.step == "lead":
            pair = replace(pair, create=None)  # accepted or closed since; a lead that lands late is found by its poll
    if is_closed(referral):
        return _stop(run, pair, "the referral was closed before an opportunity existed; none is made")
    if there.unread.get("status"):
        return run.parked(there.unread["status"], refused, pair)
    status = there.values.get("status")
    if not is_cosell(referral) and mapping.switches.cosell_opportunities_only:
        return _stop(run, pair, "a lead, not a co-sell deal: left alone because cosell_opportunities_only is on")
    if mapping.lacks_stage(status):
        return run.parked(
            f"the org has no stage {mapping.lacks_stage(status)!r}; name an existing one under [switches] in the mapping", refused, pair
        )

    found_now, now, shape = _existing(run, referral), run.now, world.org.shape

    def drafted(found_: Found) -> OpportunityDraft:
        return draft_opportunity(mapping, referral, there, found_, now, places, shape.has_solution_count)

    draft = drafted(found_now)
    claimed_pair = _claim(run, pair, "opportunity", draft.sent, wait=not places.has_key)
    if isinstance(claimed_pair, Outcome):
        return claimed_pair

    def insert(_: str) -> dict[str, Any]:
        try:
            return {"id": _insert(run, drafted, found_now)}
        except AlreadyExists as error:
            # The unique key is taken: an earlier request landed. Read it by its key and adopt it [N25].
            try:
                standing = world.org.by_referral(pair.referral_id)
            except TryLater as failure:
                raise TryLater(str(failure), failure.retry_after) from None  # the read failed, the insert is another matter
            if len(standing) != 1:
                if mapping.opportunity.key_field not in str(error):
                    raise Refused(str(error), code="DUPLICATE_VALUE") from None  # a unique field of the org's own
                raise TryLater("Salesforce says the opportunity exists, but does not show it yet") from None
            claim = claimed_pair.create
            assert claim is not None
            earlier = replace(claim, sent=claim.earlier[0], earlier=claim.earlier[1:]) if claim.earlier else claim
            return {"id": str(standing[0]["Id"]), "sent": earlier.landed(mapping.read_opportunity(standing[0]).values)}

    created = _post(run, claimed_pair, pair.create, insert, refused, None, f"{TO_SALESFORCE}: creating the opportunity")
    if isinstance(created, Outcome):
        return created
    return _record_opportunity(run, created[0], str(created[1]["id"]), created[1].get("sent", draft.sent), "created in Salesforce")


def _insert(run: Run, draft: Callable[[Found], OpportunityDraft], found: Found) -> str:
    """One atomic call for the opportunity with everything that hangs on it.

    Where a duplicate rule knows the customer or a contact for certain, that record is taken and the call made again.
    """
    for _ in range(DUPLICATES_TAKEN):
        records = draft(found).records
        try:
            return run.world.salesforce.graph([GraphRequest(reference, "POST", name, fields) for reference, name, fields in records])[
                "opportunity"
            ]
        except DuplicateFound as error:
            fields = next((fields for reference, _, fields in records if reference == error.reference), {})
            if error.record_id is None:
                raise
            if error.reference == "account":
                found = replace(found, account_id=error.record_id)
            elif error.reference.startswith("contact") and fields.get("Email"):
                found = replace(found, contacts={**found.contacts, str(fields["Email"]).lower(): error.record_id})
            else:
                raise
    raise Refused(f"more than {DUPLICATES_TAKEN} duplicate rules object")


def _existing(run: Run, referral: dict[str, Any]) -> Found:
    """The account, contacts, catalogue rows and users that Salesforce already has."""
    customer = section_at(referral, "customerProfile")
    account_id, contacts = _account_of(run, customer)
    rows, wanted = run.mapping.solutions, [one["id"] for one in solutions_of(referral)]
    details: dict[str, str] = {}
    if wanted:
        name = identifier(rows.identifier_field)
        for start in range(0, len(wanted), IDS_ASKED):  # a WHERE holds 4,000 characters (salesforce 3.2)
            part = literal(wanted[start : start + IDS_ASKED])
            listed = run.world.salesforce.query_all(
                f"SELECT Id, {name} FROM {identifier(rows.detail_object)} WHERE {name} IN {part} ORDER BY CreatedDate, Id"
            )
            for one in listed:
                details.setdefault(str(one[name]), str(one["Id"]))
    owner, team = _users_of(run, referral)
    return Found(account_id, contacts, details, owner, team)


def _account_of(run: Run, customer: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The customer's account and its contacts by e-mail, found as the mapping says; the oldest where several match."""
    accounts = run.mapping.accounts
    name = CODECS["text"].read_referral(customer.get("name")) or ""  # as long as an account's name may be
    if accounts.match == "duns":
        found = customer_id(customer, "Duns")
        where = f"{identifier(accounts.duns_field)} = {literal(found)}" if found else ""
    elif accounts.match == "external_id":
        found = customer_id(customer, "External")
        where = f"{identifier(accounts.external_id_field)} = {literal(found)}" if found else ""
    else:
        postal = str(section_at(customer, "address").get("postalCode") or "").strip()
        where = f"Name = {literal(name)} AND BillingPostalCode = {literal(postal or None)}" if name else ""
    if not where:
        return None, {}
    if run.world.org.shape.has_person_accounts:
        where += " AND IsPersonAccount = FALSE"
    matching = run.world.salesforce.query_all(
        f"SELECT Id, (SELECT Id, Email FROM Contacts) FROM Account WHERE {where} ORDER BY CreatedDate, Id"
    )
    if not matching:
        return None, {}
    contacts = {str(one["Email"]).lower(): str(one["Id"]) for one in child_rows(matching[0], "Contacts") if one.get("Email")}
    return str(matching[0]["Id"]), contacts


def _users_of(run: Run, referral: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Who owns the new opportunity and who else is on its team: the referral's team members who are users, by e-mail."""
    team = [email_of(one) for one in list_at(referral, "team") if email_of(one)]
    default = run.mapping.people.default_owner.lower()
    wanted = list(dict.fromkeys([*team, *([default] if default else [])]))
    if not wanted:
        return None, ()
    listed = run.world.salesforce.query_all(f"SELECT Id, Email FROM User WHERE IsActive = TRUE AND Email IN {literal(wanted)} ORDER BY Id")
    users: dict[str, list[str]] = {}
    for one in listed:
        users.setdefault(str(one["Email"]).lower(), []).append(str(one["Id"]))
    # E-mail is not unique among users: only exactly one hit names a person (salesforce 10.2).
    known = [users[email][0] for email in wanted if len(users.get(email, ())) == 1]
    members = known[1:] if run.mapping.people.opportunity_team and run.world.org.shape.has_team else []
    default_id = users[default][0] if default and len(users.get(default, ())) == 1 else None
    return (known[0] if known else None), tuple(one for one in members if one != default_id)


def _record_opportunity(run: Run, pair: Pair, record_id: str, sent: Any, text: str) -> Outcome:
    saved = run.ended(
        replace(pair, create=None),
        f"{TO_SALESFORCE}: {text}",
        opportunity_id=long_id(record_id),
        known=Known({**pair.known.memory, **sent}),
    )
    run.world.state.alias(opportunity_name(record_id), saved.name)
    return Outcome(run.owed.name, "again", text)


# -- a lead for a referral that nobody accepted yet ------------------------------------------------------------------------------------


def _as_lead(run: Run, pair: Pair, referral: dict[str, Any], there: Record, refused: str) -> Outcome | None:
    """The lead that stands for the referral, found or created; None where there is none and it is an opportunity's turn."""
    world, mapping, shape = run.world, run.mapping, run.world.org.lead_shape
    standing = world.org.leads_of(pair.referral_id)
    if len(standing) > 1:
        return _doubled(run, pair, None, refused, [str(one["Id"]) for one in standing])
    if standing:
        return _record_lead(run, pair, str(standing[0]["Id"]), "found in Salesforce by its referral, adopted")
    if there.values.get("status") != PENDING:
        return None
    fields = draft_lead(mapping, referral, there, _users_of(run, referral)[0], shape.fields, run.now)
    claimed_pair = _claim(run, pair, "lead", {}, wait=mapping.leads.key_field not in shape.fields)
    if isinstance(claimed_pair, Outcome):
        return claimed_pair

    def insert(_: str) -> dict[str, Any]:
        try:
            return {"id": world.salesforce.create("Lead", fields)}
        except AlreadyExists:
            found = world.org.leads_of(pair.referral_id)
            if len(found) != 1:
                raise TryLater("Salesforce says the lead exists, but does not show it yet") from None
            return {"id": str(found[0]["Id"])}

    created = _post(run, claimed_pair, pair.create, insert, refused, None, f"{TO_SALESFORCE}: creating the lead")
    if isinstance(created, Outcome):
        return created
    return _record_lead(run, created[0], str(created[1]["id"]), "created in Salesforce")


def _record_lead(run: Run, pair: Pair, record_id: str, text: str) -> Outcome:
    run.ended(replace(pair, create=None), f"{TO_SALESFORCE}: lead {text}", lead_id=long_id(record_id))
    return Outcome(run.owed.name, "again", text)


# -- what every step shares ------------------------------------------------------------------------------------------------------------


def _claim(run: Run, pair: Pair, step: str, sent: dict[str, Value], wait: bool = True) -> Pair | Outcome:
    """The claim, stored before the request [N20]; or not yet, while an earlier request may still land [N22].

    Raises `Held`; a create that was claimed before was admitted then.
    """
    margin = run.world.settings.create_margin_seconds
    standing = pair.create
    if standing is not None and wait:
        over = parse_instant(standing.deadline) + timedelta(seconds=margin)
        if run.now < over:
            left = (over - run.now).total_seconds()
            return run.later("an earlier create request may still arrive; searching again", min(left, max(5.0, margin / 10)))
    if run.world.settings.shadow:
        text = f"shadow mode: the {step} would be created now"
        run.ended(pair, text)
        return run.done("skipped", text)
    if standing is None and not run.admitted(_side(step)):
        raise Held(_side(step), f"creating the {step}")
    run.carried.claimed = run.world.clock.monotonic()
    claim = Create(
        step=step,
        attempt=(standing.attempt if standing else 0) + 1,
        # One id over all attempts: where the service honours it, a repetition cannot double anything (partner-center 1.5).
        request_id=standing.request_id if standing else str(uuid.uuid4()),
        sent=sent,
        deadline=stamp(run.now + timedelta(seconds=CLAIM_SECONDS)),
        first_claim=standing.first_claim if standing else stamp(run.now),
        earlier=(standing.sent, *standing.earlier)[:5] if standing else (),
    )
    # The lease saves whoever is woken meanwhile the search; it ends with the call, and no promise rests on it.
    lease = stamp(run.now + timedelta(seconds=run.world.settings.call_timeout_seconds + 5))
    return run.world.state.save(replace(pair, create=claim, lease_until=lease, holder=run.holder))


def _side(step: str) -> Side:
    return SALESFORCE if step in ("opportunity", "lead") else PARTNER_CENTER


def _post(
    run: Run,
    pair: Pair,
    before: Create | None,
    post: Callable[[str], dict[str, Any]],
    refused: str,
    reading: Reading | None,
    what: str,
) -> tuple[Pair, dict[str, Any]] | Outcome:
    """Sends the claimed create. Without an answer the claim stays, and the next run searches first [N21, N23].

    Where this attempt certainly came to nothing the claim `before` it stands again: an earlier attempt may still land.
    """
    assert pair.create is not None
    # Whom it names stands in the record it makes; history has no need of people.
    sent = {name: value for name, value in pair.create.sent.items() if name not in run.mapping.people_fields}
    run.world.state.record(pair.name, "create", what, {"sent": sent, "attempt": pair.create.attempt})
    if run.world.clock.monotonic() - run.carried.claimed > CLAIM_SECONDS - run.world.settings.call_timeout_seconds:
        return run.later(f"{what}: too late to begin, the claim has run out")
    try:
        return pair, post(pair.create.request_id)
    except (Refused, Gone) as error:
        saved = run.world.state.save(replace(pair, create=before, lease_until="", holder=""))
        words = error.words if isinstance(error, Refused) else str(error)
        return run.parked(f"{what} was refused: {words}", refused, saved, reading)
    except VersionConflict:
        run.world.state.save(replace(pair, create=before, lease_until="", holder=""))
        raise
    except TryLater as error:
        if error.certain and before is None:
            run.world.brakes.give_back(_side(pair.create.step))
        run.world.state.save(replace(pair, create=before if error.certain else pair.create, lease_until="", holder=""))
        raise


def _stop(run: Run, pair: Pair, text: str) -> Outcome:
    """Nothing to create for now: says why and clears."""
    run.ended(pair, text)
    return run.done("skipped", text)


def _still_parked(run: Run, pair: Pair) -> Outcome:
    run.ended(pair, pair.outcome)
    return run.parked(run.owed.parked, run.owed.refused)


def _doubled(run: Run, pair: Pair, reading: Reading | None, refused: str, ids: list[str]) -> Outcome:
    text = f"{len(ids)} records stand for this one deal: {', '.join(sorted(ids))}. Keep one and close the others as a duplicate"
    return run.parked(text, refused, run.ended(pair, text), reading)
