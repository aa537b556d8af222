"""The simulated Partner Center and Entra hold Microsoft's contract, and the rules the connector has to live with."""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import jwt
import msal
import pytest
import requests
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from simulator import mount
from simulator.core import Clock, ConnectionCut, Request, Response
from simulator.entra import CLIENT_ID, CLIENT_SECRET, REFERRALS, REFRESH_TOKEN, TENANT_ID, WEBHOOKS, User
from simulator.faults import Fault
from simulator.partner_center import ROOT
from simulator.people import CONTACT, MEMBER, SOLUTION
from simulator.server import serve
from simulator.simulator import Simulator

SAMPLES = Path(__file__).parent / "samples" / "partner-center"
HOOK = "https://connector.example/hook"
ALL_EVENTS = ["test-created", "referral-created", "referral-updated", "related-referral-created", "related-referral-updated"]
HELP = "QuotesOrLicensing"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text())


class Caller:
    """A user of the APIs, in process."""

    def __init__(self, sim: Simulator, user: User | None = None) -> None:
        self.sim, self.user = sim, user or sim.entra.user
        self.tokens: dict[str, str] = {}

    def token(self, audience: str) -> str:
        if audience not in self.tokens:
            form = {"grant_type": "refresh_token", "refresh_token": self.sim.entra.consent(self.user), "scope": f"{audience}/.default"}
            self.tokens[audience] = sign_in(self.sim, form).json()["access_token"]
        return self.tokens[audience]

    def __call__(self, method: str, path: str, body: Any = None, audience: str = REFERRALS, host: Any = None, **headers: str) -> Response:
        host = host or ("partner_center" if audience == REFERRALS else "webhooks")
        sent = {"authorization": f"Bearer {self.token(audience)}", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        content = b"" if body is None else json.dumps(body).encode()
        return self.sim.handle(Request(host, method, path, query, sent, content))

    def get(self, id: str) -> Any:
        return self("GET", f"{ROOT}/{id}").json()

    def search(self, **options: Any) -> Any:
        return self("GET", f"{ROOT}?" + "&".join(f"${name}={quote(str(value))}" for name, value in options.items()))

    def ids(self, filter: str) -> set[str]:
        answer = self.search(filter=filter)
        assert answer.status == 200, answer.body
        return {record["id"] for record in answer.json()["value"]}

    def patch(self, id: str, *changes: tuple[str, Any], op: str = "replace", **headers: str) -> Response:
        return self("PATCH", f"{ROOT}/{id}", [{"op": op, "path": path, "value": value} for path, value in changes], **headers)

    def register(self, events: list[str] = ALL_EVENTS, in_x_header: bool = True) -> Response:
        body = {"WebhookUrl": HOOK, "WebhookEvents": events, "SignatureTokenToMsSignatureHeader": in_x_header}
        return self("POST", "/webhooks/v1/registration", body, audience=WEBHOOKS)


def sign_in(sim: Simulator, form: dict[str, str]) -> Response:
    body = httpx.QueryParams({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **form})
    return sim.handle(Request("entra", "POST", f"/{TENANT_ID}/oauth2/v2.0/token", body=str(body).encode()))


def deal(**changes: Any) -> dict[str, Any]:
    """What a client posts for its own co-sell referral; `details__currency="EUR"` changes one field, None takes it out."""
    body = {
        "name": "Fabrikam migration",
        "externalReferenceId": "006000000000001AAA",
        "qualification": "SalesQualified",
        "type": "Shared",
        "customerProfile": {
            "name": "Fabrikam",
            "address": {"addressLine1": "One Fabrikam Way", "city": "Redmond", "country": "US"},
            "team": [CONTACT],
        },
        "consent": {
            "consentToToShareInfoWithOthers": True,
            "consentToContact": True,
            "consentToShareReferralWithMicrosoftSellers": True,
        },
        "details": {
            "dealValue": 50000,
            "currency": "USD",
            "closingDateTime": "2026-12-01T00:00:00Z",
            "requirements": {
                "solutions": [SOLUTION],
                "additionalRequirements": {"attributes": [{"type": "CustomerMarketplaceIntent", "id": "HaveNotDecided"}]},
            },
        },
        "team": [MEMBER],
        "target": [{"type": "SolutionProfile", "id": "SOL-15974-MQF"}],
    }
    for path, value in changes.items():
        place: Any = body
        *parents, last = path.split("__")
        for name in parents:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return body


def for_microsoft(engagement: str, **changes: Any) -> dict[str, Any]:
    invite = {"assistanceRequestCode": HELP, "notes": "Please help"}
    target = [{"type": "BusinessProfileLocation", "id": "msft"}]
    return {**deal(**changes), "engagementId": engagement, "target": target, "inviteContext": invite}


@pytest.fixture
def sim() -> Simulator:
    return Simulator(Clock(datetime(2026, 3, 1, 9, tzinfo=UTC)), seed=1)


@pytest.fixture
def api(sim: Simulator) -> Caller:
    return Caller(sim)


@pytest.fixture
def own(api: Caller) -> dict[str, Any]:
    answer = api("POST", ROOT, deal())
    assert answer.status == 200, answer.body
    return answer.json()


def code(answer: Response) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["code"]


def refused(answer: Response, target: str) -> bool:
    assert answer.status == 400, (answer.status, answer.body)
    assert answer.json()["error"]["target"] == target, answer.body
    return True


# --- Microsoft's contract ---

# Answered by the simulator, absent from the connector's contract, with the place that documents them.
DOCUMENTED_EXTRAS = {
    "customerProfile.team.contactPreference": "resource page; partner-center.md 3.4",
    "customerProfile.team.title": "partner-center.md 3.4 [O]",
    "customerProfile.team.emailValidationStatus": "partner-center.md 3.4 [O]",
    "customerProfile.team.phoneValidationStatus": "partner-center.md 3.4 [O]",
    "team.title": "partner-center.md 3.4 [O]",
    "team.contactPreference": "resource page; partner-center.md 3.4",
    "team.emailValidationStatus": "partner-center.md 3.4 [O]",
    "team.phoneValidationStatus": "partner-center.md 3.4 [O]",
    "customerProfile.isMatchingComplete": "partner-center.md 3.4 [O]",
    "customerProfile.address.region": "get-a-referral-by-id, 2019",
    "consent.consentToMicrosoftToContactSpecificPartners": "create-a-referral, 2024",
    "details.requirements.additionalRequirements.iot": "create-a-referral, 2024",
    "links.relatedReferrals": "get-a-referral-by-id",
    "links.self": "get-a-referral-by-id",
}


def differences(value: Any, contract: dict[str, Any], where: str = "") -> list[str]:
    """Where `value` says more than the contract, or says it in another type."""
    if value is None or where in DOCUMENTED_EXTRAS:
        return []
    kinds = {"string": str, "boolean": bool, "number": (int, float), "array": list, "object": dict}
    kind = contract.get("type", "object")
    if not isinstance(value, kinds[kind]) or (kind == "number" and isinstance(value, bool)):
        return [f"{where} is not a {kind}"]
    found = []
    if isinstance(value, dict) and "properties" in contract:
        for name, inner in value.items():
            path = f"{where}.{name}".lstrip(".")
            if name in contract["properties"]:
                found += differences(inner, contract["properties"][name], path)
            elif path not in DOCUMENTED_EXTRAS:
                found.append(f"{path} is not in the contract")
    if isinstance(value, list):
        for item in value:
            found += differences(item, contract.get("items", {}), where)
    return found


def test_every_answer_is_in_microsofts_contract(sim: Simulator, api: Caller, own: dict[str, Any]) -> None:
    definitions = sample("connector.partnercenterreferrals.swagger.json")["definitions"]
    contract = next(value for name, value in definitions.items() if name.endswith("V3.Referral"))
    theirs = api("POST", ROOT, for_microsoft(own["engagementId"])).json()
    sim.people.microsoft_accepts(own["id"])
    inbound = sim.people.microsoft_invites()
    for record in (own, theirs, inbound, *api.search(top=10).json()["value"]):
        assert differences(record, contract) == []
    assert set(contract["properties"]) <= set(own), "an answer leaves out a field of the contract"
    assert set(api.search().json()) == {"@odata.context", "@odata.count", "value"}


def test_the_patch_paths_of_the_contract_are_open_and_others_are_not(api: Caller, own: dict[str, Any]) -> None:
    definitions = sample("connector.partnercenterreferrals.swagger.json")["definitions"]
    patch = next(value for name, value in definitions.items() if name.endswith("UpdateReferralDetails"))
    for path in patch["items"]["properties"]["path"]["enum"]:
        answer = api.patch(own["id"], (path, {"wrong": "type"}), op="add")
        assert "can not be updated" not in answer.body.decode(), path
    for path in ("/mpnId", "/customerProfile/name", "/inviteContext/assistanceRequestCode", "/type", "/eTag", "/details"):
        assert refused(api.patch(own["id"], (path, "x")), path.strip("/"))


# --- Sign-in ---


def test_msal_accepts_the_token_endpoint_over_https(sim: Simulator) -> None:
    with serve(sim, deliver=False) as running:
        settings = running.environment()
        session = requests.Session()
        session.trust_env, session.verify = False, settings["REQUESTS_CA_BUNDLE"]
        app = msal.ConfidentialClientApplication(
            settings["PARTNER_CENTER_CLIENT_ID"],
            client_credential=settings["PARTNER_CENTER_CLIENT_SECRET"],
            authority=f"{settings['PARTNER_CENTER_AUTHORITY']}/{settings['PARTNER_CENTER_TENANT_ID']}",
            instance_discovery=False,
            http_client=session,
        )
        result = app.acquire_token_by_refresh_token(settings["PARTNER_CENTER_REFRESH_TOKEN"], [f"{REFERRALS}/.default"])
        assert result["refresh_token"] != REFRESH_TOKEN
        account = app.get_accounts()[0]
        assert account["username"] == sim.entra.user.email
        assert app.acquire_token_silent([f"{REFERRALS}/.default"], account)["access_token"] == result["access_token"]
        other = app.acquire_token_silent([f"{WEBHOOKS}/.default"], account)
        context = ssl.create_default_context(cafile=settings["SSL_CERT_FILE"])
        with httpx.Client(verify=context, trust_env=False) as client:
            base = settings["PARTNER_CENTER_API_URL"] + ROOT
            good = client.get(base, headers={"Authorization": f"Bearer {result['access_token']}"})
            wrong = client.get(base, headers={"Authorization": f"Bearer {other['access_token']}"})
            sim.faults.add(Fault("partner_center", cut="after"))
            with pytest.raises(httpx.TransportError):
                client.get(base, headers={"Authorization": f"Bearer {result['access_token']}"})
        assert (good.status_code, wrong.status_code) == (200, 401)
        assert good.headers["date"] == "Sun, 01 Mar 2026 09:00:00 GMT"


def test_a_refresh_token_lives_on_until_it_expires_or_is_revoked(sim: Simulator) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": REFRESH_TOKEN, "scope": f"{REFERRALS}/.default"}

    def error(answer: Response) -> tuple[str, int]:
        return answer.json()["error"], answer.json()["error_codes"][0]

    renewed = sign_in(sim, form).json()["refresh_token"]
    sim.advance(80 * 86400)
    later = sign_in(sim, {**form, "refresh_token": renewed}).json()["refresh_token"]
    sim.advance(11 * 86400)
    assert error(sign_in(sim, form)) == ("invalid_grant", 700082)
    assert sign_in(sim, {**form, "refresh_token": later}).status == 200
    sim.entra.mfa_required = True
    assert error(sign_in(sim, {**form, "refresh_token": later})) == ("invalid_grant", 50076)
    sim.entra.revoke()
    assert error(sign_in(sim, {**form, "refresh_token": later})) == ("invalid_grant", 50173)
    assert error(sign_in(sim, {**form, "client_secret": "no"})) == ("invalid_client", 7000215)
    assert error(sign_in(sim, {**form, "scope": "https://graph.microsoft.com/.default"})) == ("invalid_resource", 500011)


def test_a_token_opens_its_own_api_only_and_only_for_a_person(sim: Simulator, api: Caller) -> None:
    assert code(api("GET", ROOT, audience=WEBHOOKS, host="partner_center")) == (401, "unauthenticated")
    assert api("GET", "/webhooks/v1/registration/events", audience=REFERRALS, host="webhooks").status == 401
    app_only = sign_in(sim, {"grant_type": "client_credentials", "scope": f"{REFERRALS}/.default"}).json()
    assert code(api("GET", ROOT, authorization=f"Bearer {app_only['access_token']}")) == (403, "accessDenied")
    sim.advance(3601)
    assert code(api("GET", ROOT)) == (401, "unauthenticated")


def test_a_referrals_user_sees_only_deals_whose_team_names_them(sim: Simulator, api: Caller, own: dict[str, Any]) -> None:
    member, stranger = Caller(sim, User(MEMBER["email"], "user")), Caller(sim, User("other@contoso.example", "user"))
    assert member.ids("status eq 'Active'") == {own["id"]}
    assert stranger.ids("status eq 'Active'") == set()
    assert code(stranger("GET", f"{ROOT}/{own['id']}")) == (403, "accessDenied")
    assert code(Caller(sim, User("nobody@contoso.example", "none"))("GET", ROOT)) == (403, "accessDenied")
    assert code(Caller(sim, User("weak@contoso.example", mfa=False))("GET", ROOT)) == (403, "accessDenied")


# --- Creating ---


def test_a_new_deal_starts_accepted_whatever_was_posted(api: Caller) -> None:
    own = api("POST", ROOT, {**deal(), "status": "New", "substatus": "Pending", "id": "mine", "eTag": "mine"}).json()
    assert (own["status"], own["substatus"], own["direction"], own["organizationId"]) == ("Active", "Accepted", "Outgoing", TENANT_ID)
    assert own["acceptedDateTime"] == own["createdDateTime"] == "2026-03-01T09:00:00.0000007Z"
    assert own["eTag"].startswith('"')
    assert own["eTag"].endswith(f'{int(datetime(2026, 3, 1, 9, tzinfo=UTC).timestamp()):08x}0000"')
    assert own["id"] != "mine"


def test_the_documented_create_samples_are_understood(api: Caller) -> None:
    private = sample("referral.create.private-2024.request.json")
    assert refused(api("POST", ROOT, private), "team")  # the printed sample has blank e-mail addresses
    for person in (*private["team"], *private["customerProfile"]["team"]):
        person["email"] = "somebody@contoso.example"
    answer = api("POST", ROOT, private).json()
    assert answer["consent"]["consentToContact"] is True, "keys are read in any case and answered in camelCase"
    cosell = sample("referral.create.cosell-2019.request.json")
    attributes = "details/requirements/additionalRequirements/attributes"
    assert refused(api("POST", ROOT, cosell), attributes)  # older than the marketplace intent
    cosell["details"]["requirements"]["additionalRequirements"] = {"attributes": [{"type": "CustomerMarketplaceIntent", "id": "No"}]}
    assert api("POST", ROOT, cosell).status == 200


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"name": None}, "name"),
        ({"details": None}, "details"),
        ({"type": None}, "type"),
        ({"customerProfile__address__country": "United States"}, "customerProfile/address/country"),
        ({"details__requirements__solutions": [{"name": "No id"}]}, "details/requirements/solutions"),
        ({"details__requirements__solutions": []}, "details/requirements/solutions"),
        ({"details__currency": "$"}, "details/currency"),
        ({"details__dealValue": "much"}, "details/dealValue"),
        ({"details__closingDateTime": "2026-12-01"}, "details/closingDateTime"),
        ({"team": []}, "team"),
        ({"team": [{"email": "ada.jones@contoso.example"}]}, "team"),
        ({"consent__consentToContact": False}, "consent/consentToContact"),
        ({"type": "Partnership"}, "type"),
        ({"customerProfile__team": [], "inviteContext": {"assistanceRequestCode": HELP}}, "customerProfile/team"),
        ({"closeDate": "2026-12-01T00:00:00Z"}, "closeDate"),
        ({"engagementId": "8a51f3d2-0000-4000-8000-000000000002"}, "engagementId"),
    ],
)
def test_a_deal_that_lacks_something_is_refused_by_name(api: Caller, change: dict[str, Any], target: str) -> None:
    assert refused(api("POST", ROOT, deal(**change)), target)
    assert api.sim.partner_center.records == {}


def test_the_connected_referral_is_microsofts(sim: Simulator, api: Caller, own: dict[str, Any]) -> None:
    theirs = api("POST", ROOT, for_microsoft(own["engagementId"])).json()
    assert (theirs["organizationId"], theirs["status"], theirs["substatus"], theirs["direction"]) == ("msft", "New", "Pending", "Incoming")
    assert (
        api.ids(f"engagementId eq '{own['engagementId']}'")
        == api.ids(f"engagementId eq {own['engagementId']}")
        == {own["id"], theirs["id"]}
    )
    assert api("GET", f"{ROOT}/{theirs['id']}").status == 200
    assert code(api.patch(theirs["id"], ("/details/notes", "ours"))) == (403, "accessDenied")
    sim.people.microsoft_accepts(own["id"])
    theirs = api.get(theirs["id"])
    assert (theirs["status"], theirs["substatus"]) == ("Active", "Accepted")
    assert theirs["trackingInfo"]["microsoftMsxId"]
    assert theirs["team"][0]["email"]
    assert api.get(own["id"])["trackingInfo"]["microsoftMsxId"] is None, "the MSX id stands on Microsoft's record"


def test_microsoft_is_invited_only_where_its_sellers_may_look(api: Caller) -> None:
    private = api("POST", ROOT, deal(type="Independent", consent__consentToShareReferralWithMicrosoftSellers=False)).json()
    assert refused(api("POST", ROOT, for_microsoft(private["engagementId"])), "engagementId")
    assert refused(api("POST", ROOT, for_microsoft("8a51f3d2-0000-4000-8000-000000000002")), "engagementId")
    assert api.patch(private["id"], ("/consent/consentToShareReferralWithMicrosoftSellers", True)).status == 204
    assert refused(api("POST", ROOT, for_microsoft(private["engagementId"], customerProfile__team=[])), "customerProfile/team")
    assert api("POST", ROOT, for_microsoft(private["engagementId"])).status == 200


def test_an_unanswered_invitation_expires_after_fourteen_days(sim: Simulator, api: Caller, own: dict[str, Any]) -> None:
    theirs = api("POST", ROOT, for_microsoft(own["engagementId"])).json()
    inbound = sim.people.microsoft_invites()
    sim.advance(14 * 86400 - 1)
    assert sim.referral(theirs["id"])["status"] == "New"
    sim.advance(2)
    for id in (theirs["id"], inbound["id"]):
        assert (sim.referral(id)["status"], sim.referral(id)["substatus"]) == ("Closed", "Expired")
    assert sim.referral(own["id"])["status"] == "Active", "Microsoft's answer does not close the partner's deal"


def test_a_repeated_create_makes_a_second_deal_unless_the_service_honours_the_request_id(sim: Simulator, api: Caller) -> None:
    first, second = (api("POST", ROOT, deal(), ms_requestid="one").json()["id"] for _ in range(2))
    assert first != second
    sim.partner_center.switches.honour_request_id = True
    assert api("POST", ROOT, deal(), ms_requestid="one").json()["id"] == second


# --- Changing ---


def test_a_stale_etag_is_refused_and_a_write_makes_a_new_one(api: Caller, own: dict[str, Any]) -> None:
    answer = api.patch(own["id"], ("/details/notes", "n"), if_match=own["eTag"])
    assert (answer.status, answer.body) == (204, b"")
    current = api.get(own["id"])
    assert current["eTag"] not in (own["eTag"], "")
    assert answer.headers["ETag"] == current["eTag"]
    assert code(api.patch(own["id"], ("/details/notes", "again"), if_match=own["eTag"])) == (412, "preconditionFailed")
    assert code(api.patch(own["id"], ("/details/notes", "again"), if_match=current["eTag"].strip('"'))) == (412, "preconditionFailed")
    assert api.patch(own["id"], ("/details/notes", "unconditional")).status == 204


@pytest.mark.parametrize("name", ["dealvalue-and-team", "dealvalue-and-notes", "add-team-member"])
def test_the_documented_patches_work(api: Caller, own: dict[str, Any], name: str) -> None:
    body = sample(f"referral.patch.{name}.request.json")
    answer = api("PATCH", f"{ROOT}/{own['id']}", body, prefer="return=representation")
    assert answer.status == 200, answer.body
    record = answer.json()
    if name != "add-team-member":
        assert record["details"]["dealValue"] == 10000, "sent as text, kept as a number"
    added = [operation["value"]["email"] for operation in body if operation["path"] == "/team/-"]
    assert [member["email"] for member in record["team"]] == [MEMBER["email"], *added]


def test_a_patch_is_all_or_nothing_and_knows_two_operations(api: Caller, own: dict[str, Any]) -> None:
    assert refused(api.patch(own["id"], ("/details/notes", "n"), ("/details/dealValue", "much")), "details/dealValue")
    for op in ("remove", "test", "move", "copy"):
        assert refused(api.patch(own["id"], ("/details/notes", None), op=op), "details/notes")
    assert api.patch(own["id"], ("/team/-", MEMBER)).status == 400
    assert api("PATCH", f"{ROOT}/{own['id']}", {"details": {"notes": "merge"}}).status == 400
    assert api("PATCH", f"{ROOT}/{own['id']}", [], content_type="text/plain").status == 415
    assert code(api("DELETE", f"{ROOT}/{own['id']}")) == (405, "invalidRequest")
    assert api.get(own["id"])["eTag"] == own["eTag"]


@pytest.mark.parametrize(
    ("pair", "allowed"),
    [
        (("Closed", "Won"), True),
        (("Closed", "Lost"), True),
        (("Closed", "Declined"), False),
        (("Closed", "Expired"), False),
        (("Closed", "Accepted"), False),
        (("New", "Pending"), False),
        (("Active", "Won"), False),
        (("Active", "Accepted"), True),
    ],
)
def test_an_active_deal_can_only_be_won_or_lost(api: Caller, own: dict[str, Any], pair: tuple[str, str], allowed: bool) -> None:
    answer = api.patch(own["id"], ("/status", pair[0]), ("/substatus", pair[1]), ("/statusReason", "because"))
    assert answer.status == 204 if allowed else refused(answer, "substatus")


def test_status_and_substatus_travel_in_one_patch(api: Caller, own: dict[str, Any]) -> None:
    assert refused(api.patch(own["id"], ("/status", "Closed")), "substatus")
    assert refused(api.patch(own["id"], ("/status", "Closed"), ("/substatus", "Lost")), "statusReason")
    assert api("PATCH", f"{ROOT}/{own['id']}", sample("referral.patch.close-won.request.json")).status == 204


def test_a_closed_deal_never_changes(api: Caller, own: dict[str, Any]) -> None:
    api.patch(own["id"], ("/status", "Closed"), ("/substatus", "Won"))
    closed = api.get(own["id"])
    assert closed["closedDateTime"]
    for change in (("/details/notes", "late"), ("/status", "Active"), ("/externalReferenceId", "late")):
        assert refused(api.patch(own["id"], change), "status")
    assert refused(api("POST", ROOT, for_microsoft(own["engagementId"])), "engagementId")


def test_an_invitation_is_accepted_or_declined(sim: Simulator, api: Caller) -> None:
    first, second = sim.people.microsoft_invites(), sim.people.microsoft_invites()
    assert refused(api.patch(first["id"], ("/status", "Closed"), ("/substatus", "Won")), "substatus")
    assert api.patch(first["id"], ("/status", "Active"), ("/substatus", "Accepted")).status == 204
    assert api.get(first["id"])["acceptedDateTime"]
    assert api.get(first["id"])["expirationDateTime"] is None
    decline = (("/status", "Closed"), ("/substatus", "Declined"), ("/statusReason", "Not a customer"))
    assert api.patch(second["id"], *decline).status == 204


def test_what_microsoft_saw_is_frozen(api: Caller, own: dict[str, Any]) -> None:
    visible = "/consent/consentToShareReferralWithMicrosoftSellers"
    assert refused(api.patch(own["id"], (visible, False)), visible.strip("/"))
    assert refused(api.patch(own["id"], ("/customerProfile/team", [{**CONTACT, "phoneNumber": "1"}])), "customerProfile/team")
    assert api.patch(own["id"], ("/customerProfile/team", [CONTACT])).status == 204, "sending the same contact changes nothing"
    private = api("POST", ROOT, deal(type="Independent", consent__consentToShareReferralWithMicrosoftSellers=False)).json()
    assert api.patch(private["id"], ("/customerProfile/team", [{**CONTACT, "phoneNumber": "1"}])).status == 204


# --- Listing ---


def test_a_list_comes_in_pages_of_a_hundred(sim: Simulator, api: Caller) -> None:
    for number in range(205):
        sim.people.portal_create_deal(f"Deal {number}")
    sim.people.portal_edit(sim.referrals()[0]["id"], {"status": "Closed", "substatus": "Won"})
    seen: list[str] = []
    page = api.search(filter="status eq 'Active'", orderby="createdDateTime", select="id,status").json()
    while True:
        seen += [record["id"] for record in page["value"]]
        assert page["@odata.count"] == len(page["value"]) <= 100
        if "@odata.nextLink" not in page:
            break
        page = api("GET", f"{ROOT}?{urlsplit(page['@odata.nextLink']).query}").json()
        assert set(page["value"][0]) == {"id", "status"}, "the token carries the other options"
    assert len(seen) == len(set(seen)) == 204
    assert len(api.search(top=3).json()["value"]) == 3
    sim.partner_center.switches.odd_links = True
    assert api.search().json()["@odata.nextLink"].startswith("http://api.partner.microsoft.com/v1.0/referrals?$skiptoken=")


def test_the_documented_filters_select(sim: Simulator, api: Caller, own: dict[str, Any]) -> None:
    inbound = sim.people.microsoft_invites()
    theirs = sim.people.microsoft_record(inbound["id"])
    assert theirs
    for text, wanted in {
        "status eq 'New' and qualification eq 'SalesQualified'": {inbound["id"]},
        "customerProfile/address/country eq 'US' and direction eq 'Incoming'": {inbound["id"]},
        "(type eq 'Shared' and direction eq 'Incoming')": {inbound["id"]},
        "(direction eq 'Incoming' and substatus eq 'Pending') or externalReferenceId eq '006000000000001AAA'": {inbound["id"], own["id"]},
        f"status eq 'Active' and team/any(t:t/email eq '{MEMBER['email']}')": {own["id"]},
        f"not (engagementId eq '{own['engagementId']}')": {inbound["id"], theirs["id"]},
        "externalReferenceId eq null": {inbound["id"], theirs["id"]},
        "externalReferenceId eq 'O''Brien'": set(),
        "updatedDateTime ge 2026-03-01T09:00:00.0000007Z": {own["id"], inbound["id"], theirs["id"]},
        "updatedDateTime gt 2026-03-01T10:00:00.0000007+01:00": set(),
    }.items():
        assert api.ids(text) == wanted, text


@pytest.mark.parametrize(
    "text",
    [
        "name eq 'x'",
        "organizationId eq 'msft'",
        "status eq New",
        "status eq 'New",
        "status == 'New'",
        "status eq 'New' and",
        "updatedDateTime ge '2026-03-01T00:00:00Z'",
        "updatedDateTime ge 2026-03-01",
        "status gt 'New'",
        "(status eq 'New'",
        "contains(name,'x')",
    ],
)
def test_a_filter_it_does_not_understand_is_refused(api: Caller, text: str) -> None:
    assert refused(api.search(filter=text), "$filter")


def test_other_list_options_are_checked_too(sim: Simulator, api: Caller) -> None:
    for options in ({"orderby": "name"}, {"expand": "team"}, {"top": "-1"}, {"select": "dealSize"}, {"skiptoken": "no"}):
        assert api.search(**options).status == 400, options
    sim.partner_center.switches.external_reference_filterable = False
    assert refused(api.search(filter="externalReferenceId eq 'x'"), "$filter")


# --- Webhooks ---


def received(sim: Simulator, status: int = 200) -> list[tuple[str, dict[str, str], bytes]]:
    """What is delivered now, answered with `status`."""
    posts: list[tuple[str, dict[str, str], bytes]] = []

    def post(url: str, headers: Any, body: bytes) -> int:
        posts.append((url, dict(headers), body))
        return status

    sim.deliver(post)
    return posts


def events(sim: Simulator) -> list[tuple[str, str]]:
    return [(event["EventName"], event["ResourceUri"].rpartition("/")[2]) for event in (json.loads(body) for _, _, body in received(sim))]


def signer(sim: Simulator, url: str) -> x509.Certificate:
    answer = sim.handle(Request("certificates", "GET", urlsplit(url).path))
    return x509.load_der_x509_certificate(answer.body)


def verify(sim: Simulator, headers: dict[str, str], body: bytes) -> None:
    scheme, _, value = headers.get("x-ms-signature", headers.get("Authorization", "")).partition(" ")
    assert (scheme, headers["X-MS-Signature-Algorithm"]) == ("Signature", "rsa-sha256")
    key = signer(sim, headers["X-MS-Certificate-Url"]).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(base64.b64decode(value, validate=True), body, padding.PKCS1v15(), hashes.SHA256())


def test_every_write_by_anybody_is_an_event(sim: Simulator, api: Caller) -> None:
    api.register()
    own = api("POST", ROOT, deal()).json()
    api.patch(own["id"], ("/details/notes", "ours"))
    sim.people.portal_edit(own["id"], {"name": "Renamed in the portal"})
    theirs = api("POST", ROOT, for_microsoft(own["engagementId"])).json()
    sim.people.microsoft_accepts(own["id"])
    assert events(sim) == [
        ("referral-created", own["id"]),
        ("referral-updated", own["id"]),
        ("referral-updated", own["id"]),
        ("related-referral-created", theirs["id"]),
        ("related-referral-updated", theirs["id"]),
    ]
    sim.webhooks.conduct.related_names_own = True
    sim.people.microsoft_edits(theirs["id"], {"details/notes": "theirs"})
    assert events(sim) == [("related-referral-updated", own["id"])]


def test_an_event_is_compact_in_the_documented_order_and_its_signature_verifies(sim: Simulator, api: Caller) -> None:
    api.register()
    own = api("POST", ROOT, deal()).json()
    [(url, headers, body)] = received(sim)
    documented = sample("webhook.event.referral-created.json")
    assert url == HOOK
    assert list(json.loads(body)) == list(documented)
    assert json.loads(body)["ResourceUri"] == documented["ResourceUri"].replace("{{ReferralID}}", own["id"])
    assert json.loads(body)["ResourceChangeUtcDate"] == "2026-03-01T09:00:00.0000000+00:00"
    assert len(body) == len(json.dumps(json.loads(body), separators=(",", ":")))
    assert "Authorization" not in headers
    verify(sim, headers, body)
    with pytest.raises(InvalidSignature):
        verify(sim, headers, body + b" ")
    certificate = signer(sim, headers["X-MS-Certificate-Url"])
    root = x509.load_pem_x509_certificate(sim.certificates.roots_pem().encode())
    certificate.verify_directly_issued_by(root)
    for name in (certificate.subject, certificate.issuer):
        assert name.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)[0].value == "Microsoft Corporation"
    sim.certificates.rotate()
    with pytest.raises(InvalidSignature):
        verify(sim, headers, body)


def test_an_event_is_tried_ten_times_and_then_never_again(sim: Simulator, api: Caller) -> None:
    api.register()
    api("POST", ROOT, deal())
    attempts = 0
    for _ in range(20):
        attempts += len(received(sim, status=503))
        sim.advance(5 * 2**10)
    assert attempts == 10
    assert received(sim) == []
    assert [delivery.state for delivery in sim.webhooks.finished] == ["given up"]


def test_delivery_misbehaves_as_told(sim: Simulator, api: Caller) -> None:
    api.register()
    conduct = sim.webhooks.conduct
    conduct.duplicates, conduct.reorder = 1, True
    own = api("POST", ROOT, deal()).json()
    api.patch(own["id"], ("/details/notes", "n"))
    assert [name for name, _ in events(sim)] == ["referral-updated", "referral-updated", "referral-created", "referral-created"]
    conduct.duplicates, conduct.delay = 0, 30
    api.patch(own["id"], ("/details/notes", "late"))
    assert events(sim) == []
    sim.advance(31)
    conduct.hold = True
    assert events(sim) == []
    conduct.hold, conduct.drop = False, True
    api.patch(own["id"], ("/details/notes", "lost"))
    assert len(events(sim)) == 1


def test_there_is_one_registration_per_tenant(sim: Simulator, api: Caller) -> None:
    path, body = "/webhooks/v1/registration", {**sample("webhook.registration.referral-flow.request.json"), "WebhookUrl": HOOK}
    assert api("GET", path, audience=WEBHOOKS).status == 404
    assert api("PUT", path, body, audience=WEBHOOKS).status == 404
    assert api("POST", path, {**body, "WebhookEvents": ["referral-deleted"]}, audience=WEBHOOKS).json()["source"] == "PartnerCenter"
    assert api("POST", path, body, audience=WEBHOOKS).status == 200
    assert api("POST", path, body, audience=WEBHOOKS).status == 409
    assert set(api("GET", path, audience=WEBHOOKS).json()) == {"WebhookUrl", "WebhookEvents"}
    changed = api("PUT", path, {**body, "WebhookUrl": f"{HOOK}?id=2"}, audience=WEBHOOKS).json()
    assert changed == {"SubscriberId": TENANT_ID, "WebhookUrl": f"{HOOK}?id=2", "WebhookEvents": body["WebhookEvents"]}
    assert set(ALL_EVENTS) <= set(api("GET", f"{path}/events", audience=WEBHOOKS).json())


def test_two_validation_events_a_minute_and_each_says_what_it_met(sim: Simulator, api: Caller) -> None:
    path = "/webhooks/v1/registration/validationEvents"
    assert api("POST", path, audience=WEBHOOKS).status == 400, "not registered for test-created"
    api.register(in_x_header=False)
    ids = [api("POST", path, audience=WEBHOOKS).json()["correlationId"] for _ in range(2)]
    third = api("POST", path, audience=WEBHOOKS)
    assert (third.status, third.json()["statusCode"], third.headers["Retry-After"]) == (429, 429, "60")
    assert api("GET", f"{path}/{ids[0]}", audience=WEBHOOKS).json()["results"] == []
    posts = received(sim, status=401)
    sim.advance(60)
    posts += received(sim)
    expected = sample("webhook.callback.test-created.delivery.json")
    for _, headers, body in posts:
        verify(sim, headers, body)
        assert set(headers) <= set(expected["headers"])
        assert len(body) == int(expected["headers"]["Content-Length"])
    fresh = Caller(sim)
    result = fresh("GET", f"{path}/{ids[0]}", audience=WEBHOOKS).json()
    assert (result["status"], [attempt["responseCode"] for attempt in result["results"]]) == ("completed", ["Unauthorized", "OK"])
    assert fresh("POST", path, audience=WEBHOOKS).status == 200
    sim.advance(7 * 86400)
    assert Caller(sim)("GET", f"{path}/{ids[0]}", audience=WEBHOOKS).status == 404


# --- Trouble, and the ways in ---


def test_a_fault_hits_the_call_it_names_and_no_other(sim: Simulator, api: Caller, own: dict[str, Any]) -> None:
    sim.faults.add(Fault("partner_center", "PATCH", status=429, retry_after=7, skip=1))
    assert api.patch(own["id"], ("/details/notes", "1")).status == 204
    throttled = api.patch(own["id"], ("/details/notes", "2"))
    assert (throttled.status, throttled.headers["Retry-After"], throttled.json()["statusCode"]) == (429, "7", 429)
    sim.faults.add(Fault("partner_center", "PATCH", cut="after"))
    with pytest.raises(ConnectionCut):
        api.patch(own["id"], ("/details/notes", "3"))
    assert sim.referral(own["id"])["details"]["notes"] == "3", "the answer was lost, the write was not"
    sim.faults.add(Fault("partner_center", "PATCH", cut="before"))
    with pytest.raises(ConnectionCut):
        api.patch(own["id"], ("/details/notes", "4"))
    assert sim.referral(own["id"])["details"]["notes"] == "3"
    sim.faults.add(Fault("partner_center", "PATCH", action=lambda _: sim.people.portal_edit(own["id"], {"name": "Quicker"}) and None))
    assert api.patch(own["id"], ("/details/notes", "5"), if_match=sim.referral(own["id"])["eTag"]).status == 412


def test_the_clients_own_libraries_reach_it_without_a_socket(sim: Simulator) -> None:
    settings = mount.environment(sim)
    assert Path(settings["WEBHOOK_TRUSTED_ROOTS"]).read_text() == sim.certificates.roots_pem()
    session = requests.Session()
    session.mount("https://", mount.requests_adapter(sim))
    app = msal.ConfidentialClientApplication(
        settings["PARTNER_CENTER_CLIENT_ID"],
        client_credential=settings["PARTNER_CENTER_CLIENT_SECRET"],
        authority=f"{settings['PARTNER_CENTER_AUTHORITY']}/{settings['PARTNER_CENTER_TENANT_ID']}",
        instance_discovery=False,
        http_client=session,
    )
    token = app.acquire_token_by_refresh_token(settings["PARTNER_CENTER_REFRESH_TOKEN"], [f"{REFERRALS}/.default"])["access_token"]
    with httpx.Client(transport=mount.httpx_transport(sim), base_url=settings["PARTNER_CENTER_API_URL"]) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        created = client.post(ROOT, json=deal(), headers={"MS-RequestId": "r"})
        assert client.get(f"{ROOT}/{created.json()['id']}").json()["name"] == deal()["name"]
        sim.faults.add(Fault(cut="before", count=2))
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(ROOT)
        with pytest.raises(requests.ConnectionError):
            session.get(settings["PARTNER_CENTER_AUTHORITY"])
    posted = [call for call in sim.journal.calls("partner_center") if call.mutating]
    assert [(call.method, call.status, call.headers["ms-requestid"]) for call in posted] == [("POST", 200, "r")]


@pytest.mark.parametrize("private_key", [False, True])
def test_salesforce_knows_the_credentials_it_hands_out(private_key: bool) -> None:
    sim = Simulator()
    settings = mount.environment(sim, private_key)
    form = {"client_id": settings["SALESFORCE_CLIENT_ID"], "grant_type": "client_credentials"}
    if private_key:
        claims = {
            "iss": settings["SALESFORCE_CLIENT_ID"],
            "sub": settings["SALESFORCE_USERNAME"],
            "aud": "https://login.salesforce.com",
            "exp": sim.clock.now().timestamp() + 120,
        }
        key = settings["SALESFORCE_PRIVATE_KEY"].replace("\\n", "\n")
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": jwt.encode(claims, key, "RS256")}
    else:
        form["client_secret"] = settings["SALESFORCE_CLIENT_SECRET"]
    with httpx.Client(transport=mount.httpx_transport(sim)) as client:
        answer = client.post(settings["SALESFORCE_LOGIN_URL"] + "/services/oauth2/token", data=form).json()
    assert answer["instance_url"] == settings["SALESFORCE_LOGIN_URL"]


def test_the_server_delivers_events_and_obeys_the_control_host(sim: Simulator, api: Caller) -> None:
    sim.webhooks.registration = {"WebhookUrl": "", "WebhookEvents": ALL_EVENTS, "SignatureTokenToMsSignatureHeader": True}
    with serve(sim) as running:
        context = ssl.create_default_context(cafile=running.ca_file)
        with httpx.Client(verify=context, trust_env=False) as client:
            # The token endpoint stands in for a receiver: it answers what it does not know, so the attempt is seen.
            sim.webhooks.registration["WebhookUrl"] = running.urls["entra"] + "/hook"
            control = running.urls["control"] + "/_sim/"
            made = client.post(control + "portal_create_deal", json={"name": "From outside", "help_code": HELP}).json()
            client.post(control + "microsoft_accepts", json={"id": made["id"]}).raise_for_status()
            assert client.post(control + "partner_center", json={"no_such": True}).status_code == 400
            assert client.post(control + "nothing", json={}).status_code == 404
            assert client.post(control + "advance", json={"seconds": 1}, headers={"Origin": "https://elsewhere.example"}).status_code == 403
            state = client.get(control + "state").json()
            statuses = {(record["organizationId"], record["status"]) for record in state["referrals"]}
            assert statuses == {(TENANT_ID, "Active"), ("msft", "Active")}
            for _ in range(100):
                if len(sim.journal.calls("entra")) >= 3:
                    break
                client.get(control + "state")
            assert [call.path for call in sim.journal.calls("entra")] == ["/hook"] * 3


def test_the_page_shows_both_records_and_saves_only_what_a_person_changed(sim: Simulator) -> None:
    def act(action: str, **form: str) -> str:
        body = str(httpx.QueryParams(form)).encode()
        return sim.handle(Request("control", "POST", f"/act/{action}", body=body)).headers["Location"]

    def page() -> str:
        return sim.handle(Request("control", "GET", "/")).body.decode()

    assert act("new-referral", name="<b>Fabrikam</b> & sons", help=HELP) == "/"
    assert act("new-opportunity", name="Contoso data estate") == "/"
    own = sim.referrals()[0]
    [opportunity] = sim.salesforce.records("Opportunity")
    assert "&lt;b&gt;Fabrikam&lt;/b&gt; &amp; sons" in page()
    assert "<b>Fabrikam" not in page()
    sim.people.portal_edit(own["id"], {"details/notes": "written meanwhile"})
    stale = {"details/notes": "", "was:details/notes": "", "details/dealValue": "60000", "was:details/dealValue": "50000"}
    assert act("referral", id=own["id"], **stale) == "/"
    details = sim.referral(own["id"])["details"]
    assert (details["notes"], details["dealValue"]) == ("written meanwhile", 60000)
    assert act("opportunity", id=opportunity["Id"], Amount="7", **{"was:Amount": ""}) == "/"
    assert sim.salesforce.record(opportunity["Id"])["Amount"] == 7
    assert act("accept", id=own["id"]) == "/"
    assert "7-SIM0000001" in page()
    assert act("referral", id=own["id"], state="New/Pending", **{"was:state": "Active/Accepted"}).startswith("/?said=")
    said = sim.handle(Request("control", "GET", "/", "said=%3Cscript%3Ealert(1)")).body.decode()
    assert "&lt;script&gt;alert(1)" in said
