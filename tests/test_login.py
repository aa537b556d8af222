"""The first sign-in: whole commands against the simulator over HTTPS, in this process; nothing secret is ever shown."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cosell.app import main
from cosell.first_sign_in import Loopback
from cosell.login import Vault, sign_in, try_salesforce
from cosell.terminal import Terminal
from shared.clock import Clock
from shared.entra import Tokens
from shared.errors import ConnectorError, Misconfigured, SignInFailed, TryLater
from shared.refresh_tokens import SettingsRefreshToken
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.transport import http_client
from simulator import mount
from simulator.entra import REFERRALS, WEBHOOKS, User
from simulator.faults import Fault
from simulator.salesforce.login import SCENARIOS
from simulator.server import Running, serve
from simulator.simulator import Simulator
from tests.client_doubles import Answers, answer, settings

OLD = "the-old-refresh-token"


@pytest.fixture(scope="module")
def listening() -> Iterator[Running]:
    with serve(Simulator(), deliver=False) as running:
        yield running


@pytest.fixture
def running(listening: Running) -> Running:
    """The simulator as new, on the ports it has."""
    fresh = Simulator(certificates=listening.simulator.certificates)
    listening.simulator.__dict__.update(fresh.__dict__)
    listening.environment()
    return listening


@pytest.fixture
def file(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file of the simulator's, with an old token; the environment holds none of its settings."""
    values = {"FUNCTIONS_WORKER_RUNTIME": "python", **running.environment(), "PARTNER_CENTER_REFRESH_TOKEN": OLD, "LAST": "größer"}
    for name in [*values, "KEY_VAULT_URI"]:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "local.settings.json"
    path.write_text(json.dumps({"IsEncrypted": False, "Values": values, "Host": {"CORS": "*"}}), encoding="utf-8")
    path.chmod(0o644)
    return path


class Watched(io.StringIO):
    """Standard error; a person reads it and acts."""

    def __init__(self, act: Callable[[str], None]) -> None:
        super().__init__()
        self._act = act

    def write(self, text: str) -> int:
        self._act(text)
        return super().write(text)


def types_the_code(simulator: Simulator) -> Callable[[str], None]:
    def act(text: str) -> None:
        if code := re.search(r"enter the code (\w+)", text):
            simulator.entra.enter_device_code(code[1])

    return act


Posting = tuple[str, dict[str, str], dict[str, str]]
"""Address, form and headers of what a browser sends back to this machine."""


def posting(page: httpx.Response) -> Posting:
    """The form that the sign-in page sends on by itself."""
    form = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', page.text))
    action = re.search(r'action="([^"]+)"', page.text)
    assert action
    return action[1].replace("//localhost:", "//127.0.0.1:"), {name: html.unescape(value) for name, value in form.items()}, {}


def browser(running: Running, monkeypatch: pytest.MonkeyPatch, *before: Callable[[Posting], Posting]) -> list[int]:
    """A browser that goes to the page and where that sends it; `before` are other things it sends first. Returns the statuses it saw."""
    seen: list[int] = []

    def visit(url: str) -> None:
        context = ssl.create_default_context(cafile=running.ca_file)
        with httpx.Client(verify=context, trust_env=False) as client, contextlib.suppress(httpx.HTTPError):
            page = client.get(url)
            if page.status_code != 200:
                return
            client.get(posting(page)[0])  # as browsers do for their little pictures
            for make in (*before, lambda honest: honest):
                address, form, headers = make(posting(page))
                seen.append(client.post(address, data=form, headers=headers).status_code)

    def opened(url: str) -> bool:
        threading.Thread(target=visit, args=(url,), daemon=True).start()
        return True

    monkeypatch.setattr("webbrowser.open", opened)
    return seen


def run(*arguments: str, act: Callable[[str], None] = lambda _: None) -> tuple[int, str, str]:
    out, err = io.StringIO(), Watched(act)
    return main(arguments, out=out, err=err), out.getvalue(), err.getvalue()


def secrets_of(simulator: Simulator) -> list[str]:
    entra = simulator.entra
    return [*entra.refresh_tokens, *entra.access_tokens, *entra.authorizations, *entra.devices, "simulated-client-secret"]


def token_in(path: Path) -> str:
    return str(json.loads(path.read_text())["Values"]["PARTNER_CENTER_REFRESH_TOKEN"])


# -- Partner Center --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["--device-code", "--browser"])
def test_a_sign_in_is_stored_in_the_settings_file_in_place_and_never_shown(
    way: str,
    running: Running,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulator = running.simulator
    simulator.people.portal_create_deal()
    before = json.loads(file.read_text())
    browser(running, monkeypatch)
    caplog.set_level("DEBUG")
    arguments = ("login", "partner-center", "--settings", str(file), way, "--port", "0", "--debug")
    code, out, err = run(*arguments, act=types_the_code(simulator))
    assert code == 0, err
    assert "signed in: sync@contoso.example" in out
    assert "PARTNER_CENTER_REFRESH_TOKEN of local.settings.json" in out

    after = json.loads(file.read_text())
    token = after["Values"].pop("PARTNER_CENTER_REFRESH_TOKEN")
    assert before["Values"].pop("PARTNER_CENTER_REFRESH_TOKEN") == OLD
    assert json.dumps(after) == json.dumps(before), "every other value, in the order it had"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]
    assert simulator.entra.refresh_tokens[token].user.email == "sync@contoso.example"
    assert {one.audience for one in simulator.entra.access_tokens.values()} == {REFERRALS, WEBHOOKS}, "both services were tried"

    shown = out + err + caplog.text
    assert [secret for secret in secrets_of(simulator) if secret in shown] == []
    assert capsys.readouterr() == ("", ""), "nothing goes past the terminal, such as a server's own log"
    given = Settings.from_environment({**after["Values"], "PARTNER_CENTER_REFRESH_TOKEN": token, "AzureWebJobsStorage": "x"})
    with http_client(given) as client:
        assert Tokens(given, client, SettingsRefreshToken(given), Clock()).token("referrals")


def test_as_json_it_tells_where_and_until_when(running: Running, file: Path) -> None:
    arguments = ("login", "partner-center", "--settings", str(file), "--device-code", "--json")
    code, out, _ = run(*arguments, act=types_the_code(running.simulator))
    told = json.loads(out)
    assert code == 1, "an empty list of referrals is something to look at"
    assert "sees no referral" in told.pop("notes")[0]
    assert told.pop("expires")[:4].isdigit()
    place = "PARTNER_CENTER_REFRESH_TOKEN of local.settings.json"
    assert told == {"account": "sync@contoso.example", "multi_factor": True, "stored_in": place}


def without_mfa(simulator: Simulator) -> None:
    simulator.entra.at_the_browser = User("sync@contoso.example", mfa=False)


def without_mfa_and_silent(simulator: Simulator) -> None:
    without_mfa(simulator)
    simulator.entra.tells_methods = False


def without_role(simulator: Simulator) -> None:
    simulator.entra.at_the_browser = User("sales@contoso.example", role="none")


def declines(simulator: Simulator) -> None:
    simulator.entra.at_the_browser = None


SPOILED: list[tuple[Callable[[Simulator], Any], str]] = [
    (without_mfa, "without multi-factor authentication"),
    (without_mfa_and_silent, "multi-factor"),
    (without_role, "give it the role Referrals admin"),
    (declines, "the sign-in was declined"),
    (lambda simulator: simulator.entra.consented.clear(), "AADSTS65001.*grant admin consent"),
    (lambda simulator: simulator.entra.consented.discard(WEBHOOKS), "AADSTS65001.*grant admin consent"),
    (lambda simulator: simulator.faults.add(Fault("entra", "POST", status=503, count=9)), "HTTP 503"),
    (lambda simulator: simulator.faults.add(Fault("entra", "POST", html=True, status=200, count=9)), "not JSON"),
]


@pytest.mark.parametrize("way", ["--device-code", "--browser"])
@pytest.mark.parametrize(("spoil", "told"), SPOILED, ids=[told for _, told in SPOILED])
def test_a_sign_in_of_no_use_says_why_and_leaves_the_old_token(
    spoil: Callable[[Simulator], Any], told: str, way: str, running: Running, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(running.simulator)
    browser(running, monkeypatch)
    before = file.read_bytes()
    arguments = ("login", "partner-center", "--settings", str(file), way, "--port", "0")
    code, out, err = run(*arguments, act=types_the_code(running.simulator))
    assert (code, out) == (2, "")
    assert re.search(told, err)
    assert file.read_bytes() == before
    assert "@contoso.example" not in err, "Entra's prose names the user"
    assert [secret for secret in secrets_of(running.simulator) if secret in err] == []


def test_what_only_could_not_be_tried_is_stored_and_told(running: Running, file: Path) -> None:
    running.simulator.faults.add(Fault("partner_center", status=503, count=9))
    code, out, _ = run("login", "partner-center", "--settings", str(file), "--device-code", act=types_the_code(running.simulator))
    assert (code, token_in(file) != OLD) == (1, True)
    assert "could not be tried" in out


def test_giving_up_leaves_the_old_token(running: Running, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", gives_up)
    assert run("login", "partner-center", "--settings", str(file), "--port", "0")[0] == 130
    assert token_in(file) == OLD


def test_a_code_that_nobody_enters_is_asked_for_at_the_pace_entra_wants_until_somebody_does(running: Running, file: Path) -> None:
    simulator = running.simulator
    simulator.entra.device_interval = 1

    def later(request: Any) -> None:
        (device,) = simulator.entra.devices.values()
        device.user = simulator.entra.user

    simulator.faults.add(Fault("entra", "POST", path="*/token", skip=1, action=later))
    assert run("login", "partner-center", "--settings", str(file), "--device-code")[0] == 1
    assert token_in(file) != OLD


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"PARTNER_CENTER_TENANT_ID": ""}, "PARTNER_CENTER_TENANT_ID is not set"),
        ({"PARTNER_CENTER_AUTHORITY": "http://login.example"}, "PARTNER_CENTER_AUTHORITY must be an https"),
        ({"PARTNER_CENTER_CLIENT_SECRET": ""}, "az ad app credential reset"),
        ({"PARTNER_CENTER_CLIENT_SECRET": "wrong"}, "AADSTS7000215"),
        ({"PARTNER_CENTER_CLIENT_ID": "00000000-0000-0000-0000-000000000000"}, "AADSTS700016"),
    ],
)
def test_settings_that_cannot_work_are_named(changes: dict[str, str], told: str, running: Running, file: Path) -> None:
    document = json.loads(file.read_text())
    document["Values"] |= changes
    file.write_text(json.dumps(document))
    code, _, err = run("login", "partner-center", "--settings", str(file), "--device-code", act=types_the_code(running.simulator))
    assert code == 2
    assert told in err


def test_without_a_place_nobody_is_asked_to_sign_in(running: Running, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in json.loads(file.read_text())["Values"].items():
        monkeypatch.setenv(name, value)
    code, _, err = run("login", "partner-center")
    assert (code, "give --key-vault URI, or --settings FILE" in err) == (2, True)
    (tmp_path / "broken.json").write_text('{"Values": {}')
    assert run("login", "partner-center", "--settings", str(tmp_path / "broken.json"))[0] == 2
    code, _, err = run("login", "partner-center", "--key-vault", "http://contoso.vault.azure.net")
    assert (code, "KEY_VAULT_URI must be an https" in err) == (2, True)
    assert running.simulator.journal.calls("entra") == []


# the loopback address


def test_it_listens_on_this_machine_only_and_takes_only_its_own_answer(
    running: Running, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.simulator.people.portal_create_deal()
    seen = browser(
        running,
        monkeypatch,
        lambda one: (one[0], {**one[1], "state": "another"}, {}),
        lambda one: (one[0], {"code": one[1]["code"]}, {}),
        lambda one: (one[0], {"state": one[1]["state"]}, {}),
        lambda one: (one[0] + "?x", one[1], {}),
        lambda one: (one[0], one[1], {"Host": "evil.example"}),
        lambda one: (one[0], {**one[1], "more": "x" * 20_000}, {}),
    )
    code, _, err = run("login", "partner-center", "--settings", str(file), "--port", "0")
    assert code == 0, err
    assert seen[:6] == [400, 400, 400, 404, 404, 400]


def test_before_a_state_is_known_no_answer_fits() -> None:
    with Loopback() as loopback:
        assert loopback._server.server_address[0] == "127.0.0.1"
        assert loopback._judge("/", f"localhost:{loopback.port}", b"state=&code=c")[0] == 400


def test_nobody_coming_back_ends_it() -> None:
    with Loopback() as loopback, pytest.raises(SignInFailed, match="nobody signed in within"):
        loopback.wait("state", 0.05)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SignInFailed, match="give --port another one"):
            Loopback(taken.getsockname()[1])


def test_an_answer_that_was_taken_on_the_way_is_of_no_use_to_the_taker() -> None:
    """The code alone, without the proof key that never left the process, buys nothing."""
    given = settings(partner_center_authority=mount.URLS["entra"])
    entra = f"{mount.URLS['entra']}/{given.partner_center_tenant_id}/oauth2/v2.0"
    asked = {
        "client_id": given.partner_center_client_id,
        "response_type": "code",
        "response_mode": "form_post",
        "redirect_uri": "http://localhost:1",
        "scope": f"{REFERRALS}/.default offline_access",
        "state": "s",
        "code_challenge": "a" * 43,
        "code_challenge_method": "S256",
    }
    with http_client(given, transport=mount.httpx_transport(Simulator())) as client:
        taken = posting(client.get(f"{entra}/authorize", params=asked))[1]["code"]
        form = {
            "client_id": given.partner_center_client_id,
            "client_secret": given.partner_center_client_secret,
            "grant_type": "authorization_code",
            "code": taken,
            "redirect_uri": "http://localhost:1",
            "code_verifier": "guessed",
        }
        assert client.post(f"{entra}/token", data=form).json()["error_codes"] == [501481]


# the vault

VAULT = "https://contoso.vault.azure.net"


class FakeVault(httpx.BaseTransport):
    """One secret with versions; everything else goes to the simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self.versions: list[str] = []
        self.status = 0
        self.after_store: Callable[[], None] = lambda: None
        self._inner = mount.httpx_transport(simulator)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != "contoso.vault.azure.net":
            return self._inner.handle_request(request)
        assert request.headers["authorization"] == "Bearer of-the-person"
        if self.status:
            return answer(self.status)
        if request.method == "PUT":
            self.versions.append(json.loads(request.read())["value"])
            reply = answer(200, {"value": self.versions[-1], "id": str(len(self.versions))})
            self.after_store()
            return reply
        if not self.versions:
            return answer(404)
        return answer(200, {"value": self.versions[-1], "id": str(len(self.versions)), "attributes": {"updated": 1}})


def into_the_vault(simulator: Simulator, vault: FakeVault) -> tuple[int, str, str]:
    given = settings(
        partner_center_authority=mount.URLS["entra"],
        partner_center_api_url=mount.URLS["partner_center"],
        partner_center_webhooks_url=mount.URLS["webhooks"],
        key_vault_uri=VAULT,
    )
    out, err = io.StringIO(), Watched(types_the_code(simulator))
    with http_client(given, transport=vault) as client:
        place = Vault(given, client, lambda: "of-the-person")
        return sign_in(given, client, place, Terminal(out, err), True, 0, Clock()), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("first", [[], ["an older one"]], ids=["nothing there", "an old token there"])
def test_a_sign_in_is_stored_in_the_key_vault(first: list[str]) -> None:
    simulator = Simulator()
    vault = FakeVault(simulator)
    vault.versions = [*first]
    code, out, err = into_the_vault(simulator, vault)
    assert code == 1, "no referral to be seen"
    assert f"the secret partner-center-refresh-token of {VAULT}" in out
    assert len(vault.versions) == len(first) + 1
    assert vault.versions[-1] in simulator.entra.refresh_tokens
    assert [secret for secret in secrets_of(simulator) if secret in out + err] == []


def test_an_instance_that_stores_the_old_consent_at_the_same_moment_does_not_win() -> None:
    simulator = Simulator()
    vault = FakeVault(simulator)

    def once() -> None:
        vault.after_store = lambda: None
        vault.versions.append("renewed from the old consent")

    vault.after_store = once
    into_the_vault(simulator, vault)
    assert vault.versions[-1] in simulator.entra.refresh_tokens


@pytest.mark.parametrize(("status", "kind", "told"), [(403, Misconfigured, "give your account the role"), (503, TryLater, "HTTP 503")])
def test_a_vault_that_would_not_take_it_is_found_before_the_person_signs_in(status: int, kind: type[ConnectorError], told: str) -> None:
    simulator = Simulator()
    vault = FakeVault(simulator)
    vault.status = status
    with pytest.raises(kind, match=told):
        into_the_vault(simulator, vault)
    assert simulator.journal.calls("entra") == []


# -- Salesforce ------------------------------------------------------------------------------------------------------------------------


def with_key(running: Running, file: Path, **changes: str) -> None:
    document = json.loads(file.read_text())
    document["Values"] = {name: value for name, value in document["Values"].items() if name != "SALESFORCE_CLIENT_SECRET"}
    document["Values"] |= running.environment(private_key=True) | changes
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("flow", ["JWT bearer", "client credentials"])
def test_a_sign_in_to_salesforce_that_works_tells_org_instance_and_user(flow: str, running: Running, file: Path) -> None:
    if flow == "JWT bearer":
        with_key(running, file)
    code, out, err = run("login", "salesforce", "--settings", str(file), "--json")
    assert code == 0, err
    simulator = running.simulator.salesforce
    assert json.loads(out) == {
        "flow": flow,
        "user": simulator.login.username,
        "org_id": simulator.login.userinfo()["organization_id"],
        "instance_url": running.urls["salesforce"],
        "notes": [],
    }
    assert "00D" in out
    assert "!" not in out, "an access token has one"


def test_another_user_or_another_org_than_the_settings_say_is_told(running: Running, file: Path) -> None:
    document = json.loads(file.read_text())
    document["Values"] |= {"SALESFORCE_USERNAME": "somebody@fabrikam.example", "SALESFORCE_ORG_ID": "00D000000000000AAA"}
    file.write_text(json.dumps(document))
    code, out, _ = run("login", "salesforce", "--settings", str(file))
    assert code == 1
    assert "SALESFORCE_USERNAME says somebody@fabrikam.example" in out
    assert "another org than SALESFORCE_ORG_ID says" in out


REMEDY = {
    "not_approved": "pre-authorise the app",
    "audience": "production and sandbox differ",
    "expired_assertion": "correct this machine's clock",
    "expired_token": "check SALESFORCE_USERNAME",
    "authentication_failure": "the certificate on the app belongs to SALESFORCE_PRIVATE_KEY",
    "user_locked": "unlock the integration user",
    "inactive_user": "activate the integration user",
    "ip_restricted": "allow the connector's addresses",
    "wrong_domain": "My Domain address in SALESFORCE_LOGIN_URL",
    "no_execution_user": "name an execution user",
    "client_secret": "SALESFORCE_CLIENT_SECRET",
    "client_id": "SALESFORCE_CLIENT_ID is not the consumer key",
    "app_access": "give the integration user the permission set",
    "flow_off": "switch the flow on",
    "login_rate": "login rate exceeded",
    "no_description": "check SALESFORCE_USERNAME",
}


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_refusal_is_told_in_salesforces_words_and_in_ours(scenario: str, running: Running, file: Path) -> None:
    running.simulator.salesforce.login.refuse_with = scenario
    with_key(running, file)
    code, out, err = run("login", "salesforce", "--settings", str(file))
    error, description = SCENARIOS[scenario]
    assert (code, out) == (2, "")
    assert error in err
    assert description is None or description in err
    assert REMEDY[scenario] in err


def test_a_key_that_is_not_the_apps_and_a_wrong_clock_are_told(running: Running, file: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    with_key(running, file, SALESFORCE_PRIVATE_KEY=other.private_bytes(*form).decode())
    assert "the certificate on the app belongs to SALESFORCE_PRIVATE_KEY" in run("login", "salesforce", "--settings", str(file))[2]

    with_key(running, file)
    running.simulator.clock.advance(600)
    err = run("login", "salesforce", "--settings", str(file))[2]
    assert re.search(r"clock is (59\d|60\d) seconds behind Salesforce's", err)


def test_a_user_without_access_to_the_api_is_told() -> None:
    given, clock = settings(), Clock()
    identity = "https://login.salesforce.com/id/00D000000000001AAA/005000000000001AAA"
    signed_in = Answers(answer(200, {"access_token": "t", "instance_url": "https://fabrikam.my.salesforce.com", "id": identity}))
    disabled = Answers(
        answer(403, [{"errorCode": "API_DISABLED_FOR_ORG", "message": "API is not enabled for this Organization or Partner"}])
    )
    login = SalesforceLogin(given, http_client(given, transport=signed_in.transport()), clock)
    org = Salesforce(given, login, clock, disabled.adapter())
    with pytest.raises(Misconfigured, match=r"the sign-in works, the API does not.*API Enabled"):
        try_salesforce(given, login, org, Terminal(io.StringIO(), io.StringIO()))


def test_an_address_that_is_no_salesforce_sign_in_is_told(running: Running, file: Path) -> None:
    running.simulator.faults.add(Fault("salesforce", "POST", html=True, status=200))
    code, _, err = run("login", "salesforce", "--settings", str(file))
    assert code == 2
    assert "no Salesforce sign-in" in err
