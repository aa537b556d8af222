"""The commands of the first sign-in: a person's to Partner Center, the integration user's to Salesforce."""

from __future__ import annotations

import getpass
import json
import os
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx

from cosell.app import Context
from cosell.first_sign_in import Consent, by_browser, by_device_code
from cosell.terminal import FINE, FOUND, Terminal
from shared.clock import Clock
from shared.entra import Tokens
from shared.errors import ConnectorError, Gone, Misconfigured, Refused, SignInFailed, TryLater
from shared.partner_center import PartnerCenter
from shared.refresh_tokens import LIFE, SECRET_NAME, KeyVaultRefreshToken
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.soql import literal
from shared.transport import http_client

SETTING = "PARTNER_CENTER_REFRESH_TOKEN"
PORT = 8400
NEEDED = frozenset(
    {
        "PARTNER_CENTER_TENANT_ID",
        "PARTNER_CENTER_CLIENT_ID",
        "PARTNER_CENTER_AUTHORITY",
        "PARTNER_CENTER_API_URL",
        "PARTNER_CENTER_WEBHOOKS_URL",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
    }
)

PARTNER_CENTER_EXAMPLES = """\
login partner-center --settings local.settings.json
login partner-center --key-vault https://NAME.vault.azure.net --device-code"""
SALESFORCE_EXAMPLES = """\
login salesforce --settings local.settings.json"""

# -- Partner Center --------------------------------------------------------------------------------------------------------------------


class Place(Protocol):
    """Where the connector will look for the refresh token."""

    def check(self) -> None:
        """Raises when the token could not be stored here, before a person is bothered."""
        ...

    def store(self, token: str) -> None: ...


def partner_center(context: Context) -> int:
    """Gets the refresh token the connector lives on, and stores it where the connector looks for it.

    A person with the Referrals admin role signs in once, with multi-factor authentication: in this machine's browser
    (the app registration needs the web redirect address http://localhost), or with --device-code on any other device.
    What was signed in is tried on both Partner Center services before anything is stored, so a sign-in that does not
    work, or is given up, leaves the old token where it is. The token itself is never shown.

    It goes to the Key Vault of --key-vault or of the setting KEY_VAULT_URI (as the person that `az login` or
    `azd auth login` signed in), else into the file of --settings. The app's client secret is read from
    PARTNER_CENTER_CLIENT_SECRET, or asked for; where a managed identity signs in for the app in Azure, make one
    that lives for a day.
    """
    arguments, terminal = context.arguments, context.terminal
    settings = _partner_center_settings(context.environment)
    with http_client(settings) as client:
        place = _place(context, settings, client)
        return sign_in(settings, client, place, terminal, arguments.device_code, arguments.port, Clock())


def sign_in(settings: Settings, client: httpx.Client, place: Place, terminal: Terminal, device_code: bool, port: int, clock: Clock) -> int:
    """The whole of it with its parts given: sign in, try it out, store it, tell."""
    place.check()
    if device_code:
        consent = by_device_code(settings, client, terminal.progress)
    else:
        consent = by_browser(settings, client, terminal.progress, webbrowser.open, port)
    token, notes = _tried(settings, client, consent, clock)
    place.store(token)
    ends = clock.now() + LIFE
    terminal.say(f"signed in: {consent.account or 'the account is not named'}")
    terminal.say(f"the refresh token is stored in {place}")
    terminal.say(f"unused it dies on {ends:%Y-%m-%d}; the connector renews it with every use")
    for note in notes:
        terminal.say(f"look at this: {note}")
    terminal.tell(
        {
            "account": consent.account,
            "multi_factor": consent.mfa,
            "stored_in": str(place),
            "expires": ends.isoformat(timespec="seconds"),
            "notes": notes,
        }
    )
    return FOUND if notes else FINE


def _partner_center_settings(environment: dict[str, str]) -> Settings:
    """What this sign-in needs, and nothing of Salesforce or storage."""
    settings, faults = Settings.examined(environment)
    _refuse(fault for fault in faults if fault.split()[0] in NEEDED)
    if not settings.partner_center_client_secret:
        settings = replace(settings, partner_center_client_secret=_ask_for_secret(settings.partner_center_client_id))
    return settings


def _refuse(faults: Iterable[str]) -> None:
    if listed := list(faults):
        raise Misconfigured("settings that must be changed:\n" + "\n".join(f"  - {fault}" for fault in listed))


def _ask_for_secret(client_id: str) -> str:
    secret = getpass.getpass(f"client secret of the app {client_id} (not shown): ").strip() if sys.stdin.isatty() else ""
    if not secret:
        raise Misconfigured(
            "the sign-in needs a client secret of the Entra app in PARTNER_CENTER_CLIENT_SECRET. Where a managed identity signs in for the "
            f"app in Azure, make one that lives for a day: az ad app credential reset --id {client_id} --append --end-date TOMORROW"
        )
    return secret


def _place(context: Context, settings: Settings, client: httpx.Client) -> Place:
    file, vault = context.arguments.settings, context.arguments.key_vault
    if vault:
        named, faults = Settings.examined({"KEY_VAULT_URI": vault})
        _refuse(fault for fault in faults if named.key_vault_uri == "" and fault.startswith("KEY_VAULT_URI must"))
        settings = replace(settings, key_vault_uri=named.key_vault_uri)
        if settings.partner_center_refresh_token:
            context.terminal.progress(
                f"the setting {SETTING} comes before the Key Vault: take it out where the vault's token is to be used"
            )
    if vault or (settings.key_vault_uri and not settings.partner_center_refresh_token):
        return Vault(settings, client)
    if not file:
        raise Misconfigured("where should the refresh token be stored? give --key-vault URI, or --settings FILE for a local one")
    if os.environ.get(SETTING):
        context.terminal.progress(f"{SETTING} is set in the environment and comes before the file's")
    return SettingsFile(Path(file))


class Vault:
    """The secret partner-center-refresh-token of a Key Vault, as the person signed in to Azure."""

    def __init__(self, settings: Settings, client: httpx.Client, token: Callable[[], str] | None = None) -> None:
        self._uri = settings.key_vault_uri
        self._secret = KeyVaultRefreshToken(settings, client, Clock(), token or _azure_token)

    def __str__(self) -> str:
        return f"the secret {SECRET_NAME} of {self._uri}"

    def check(self) -> None:
        try:
            self._secret.read()
        except SignInFailed:
            return  # not there yet, or empty

    def store(self, token: str) -> None:
        """Stored, and looked at again: an instance that was renewing the old token at this moment may have come after us."""
        for _ in range(3):
            self._secret.store(token)
            if self._secret.read() == token:
                return
        raise TryLater(f"{self}: it is overwritten each time it is stored; stop the function app and sign in again")


def _azure_token() -> str:
    """For the Key Vault, as whoever is signed in with the Azure CLI or the Azure Developer CLI."""
    from azure.core.exceptions import AzureError
    from azure.identity import AzureCliCredential, AzureDeveloperCliCredential, ChainedTokenCredential

    try:
        credential = ChainedTokenCredential(AzureCliCredential(), AzureDeveloperCliCredential())
        return str(credential.get_token("https://vault.azure.net/.default").token)
    except AzureError:
        raise SignInFailed("nobody is signed in to Azure here, so the Key Vault cannot be opened: run `az login` first") from None


class SettingsFile:
    """The setting in a file of the form of local.settings.json; everything else in it stays as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()  # a link stays a link

    def __str__(self) -> str:
        return f"{SETTING} of {self._path.name}"

    def check(self) -> None:
        self._read()
        if not os.access(self._path, os.W_OK) or not os.access(self._path.parent, os.W_OK):
            raise Misconfigured(f"the settings file {self._path} cannot be written")

    def store(self, token: str) -> None:
        """Written beside the file and moved over it, so that it is whole at every moment; readable by its owner only."""
        document = self._read()
        document["Values"][SETTING] = token
        descriptor, beside = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._path)
        except OSError as error:
            Path(beside).unlink(missing_ok=True)
            raise Misconfigured(f"the settings file {self._path} cannot be written: {error.strerror}") from error

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise Misconfigured(f"the settings file {self._path} cannot be read ({type(error).__name__})") from None
        if not isinstance(document, dict) or not isinstance(document.get("Values"), dict):
            raise Misconfigured(f"the settings file {self._path} is not of the form of local.settings.json")
        return document


class _Held:
    """The new refresh token while it is tried out; each use may renew it."""

    def __init__(self, token: str) -> None:
        self.token = token

    def read(self) -> str:
        return self.token

    @property
    def expires_at(self) -> datetime | None:
        return None

    def offer(self, fresh: str) -> None:
        self.token = fresh

    def expiries(self) -> dict[str, datetime]:
        return {}


def _tried(settings: Settings, client: httpx.Client, consent: Consent, clock: Clock) -> tuple[str, list[str]]:
    """The newest token, and what somebody should look at. Raises when the sign-in is of no use to the connector."""
    held, notes = _Held(consent.refresh_token), []
    client_for = PartnerCenter(settings, client, Tokens(settings, client, held, clock), clock)
    try:
        if next(iter(client_for.all_referrals()), None) is None:
            notes.append("the account sees no referral: none is there, or it has the role Referrals user and is in no deal's team")
    except (Refused, Gone) as error:
        raise SignInFailed(f"{error}: the account may not read referrals; give it the role Referrals admin; nothing was stored") from error
    except TryLater as error:
        notes.append(f"whether the account may read referrals could not be tried: {error}")
    try:
        client_for.registration()
    except (Refused, TryLater) as error:
        # Events are a help, the catch-up poll finds what they would have told: no reason to refuse the sign-in.
        notes.append(f"the webhook registration could not be read: {error}")
    if consent.mfa is None:
        notes.append("the sign-in does not say whether it was made with multi-factor authentication; Partner Center refuses it if not")
    return held.token, notes


# -- Salesforce ------------------------------------------------------------------------------------------------------------------------


def salesforce(context: Context) -> int:
    """Tries the sign-in to Salesforce as it is set up (JWT bearer, else client credentials) and says what is wrong.

    Shows the org's id (for SALESFORCE_ORG_ID), the address of its API, and who the connector is there. Nothing is stored:
    this sign-in needs no person.
    """
    settings = _salesforce_settings(context.environment)
    with http_client(settings) as client:
        clock = Clock()
        login = SalesforceLogin(settings, client, clock)
        return try_salesforce(settings, login, Salesforce(settings, login, clock), context.terminal)


def try_salesforce(settings: Settings, login: SalesforceLogin, org: Salesforce, terminal: Terminal) -> int:
    """The whole of it with its parts given."""
    flow = "JWT bearer" if settings.salesforce_private_key else "client credentials"
    terminal.progress(f"signing in to {settings.salesforce_login_url} ({flow}) …")
    session = login.session()
    notes = []
    user = _user(org, session.user_id)
    name = str(user.get("Username") or "")
    if settings.salesforce_username and name.lower() != settings.salesforce_username.lower():
        notes.append(f"the user is {name or 'not to be seen'}, and SALESFORCE_USERNAME says {settings.salesforce_username}")
    if settings.salesforce_org_id and session.org_id[:15] != settings.salesforce_org_id[:15]:
        notes.append(f"this is another org than SALESFORCE_ORG_ID says ({settings.salesforce_org_id})")
    terminal.say(f"signed in by {flow}: {name or session.user_id}")
    terminal.say(f"SALESFORCE_ORG_ID={session.org_id}")
    terminal.say(f"the API is at {session.instance_url}, version {settings.salesforce_api_version}")
    for note in notes:
        terminal.say(f"look at this: {note}")
    terminal.tell({"flow": flow, "user": name, "org_id": session.org_id, "instance_url": session.instance_url, "notes": notes})
    return FOUND if notes else FINE


def _user(org: Salesforce, user_id: str) -> dict[str, Any]:
    """The integration user's own record; reading it is a data call, so it also proves the access to the API."""
    try:
        if not user_id:
            org.describe("Opportunity")
            return {}
        found = org.query(f"SELECT Id, Username FROM User WHERE Id = {literal(user_id)}").records
    except (TryLater, SignInFailed):
        raise
    except ConnectorError as error:
        raise Misconfigured(f"the sign-in works, the API does not: {error}") from error
    return found[0] if found else {}


def _salesforce_settings(environment: dict[str, str]) -> Settings:
    settings, faults = Settings.examined(environment)
    _refuse(fault for fault in faults if fault.startswith(("SALESFORCE_", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")))
    return settings
