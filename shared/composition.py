"""Builds the world from the settings, once per process."""

from __future__ import annotations

import threading

import httpx

from shared.certificates import Certificates
from shared.clock import Clock as Clock  # the doctor takes it from here, as the world does
from shared.entra import Tokens
from shared.errors import Misconfigured
from shared.mapping import Mapping
from shared.org import Org
from shared.partner_center import PartnerCenter
from shared.refresh_tokens import KeyVaultRefreshToken, SettingsRefreshToken
from shared.salesforce import Salesforce
from shared.salesforce_login import SalesforceLogin
from shared.settings import Settings
from shared.state import State
from shared.tables import AzureTables
from shared.transport import http_client
from shared.waking import WakeQueue
from shared.world import World

_lock = threading.Lock()
_built: tuple[World, Certificates] | None = None


def check() -> None:
    """Raises `Misconfigured` with every setting that is present but wrong and every fault of the mapping; called when the app loads."""
    faults: list[str] = []
    for look in (Settings.refuse_wrong_values, lambda: Mapping.load(Settings.mapping_named_in())):
        try:
            look()
        except Misconfigured as error:
            faults.append(str(error))
    if faults:
        raise Misconfigured("\n".join(faults))


def world() -> World:
    return _parts()[0]


def certificates() -> Certificates:
    return _parts()[1]


def _parts() -> tuple[World, Certificates]:
    global _built
    with _lock:
        if _built is None:
            _built = build(Settings.from_environment())
        return _built


def build(settings: Settings) -> tuple[World, Certificates]:
    """The parts as they are deployed. Libraries that are slow to import come in when they are first needed."""
    clock = Clock()
    http = http_client(settings)
    mapping = Mapping.load(settings.mapping_file or None)
    salesforce = Salesforce(settings, SalesforceLogin(settings, http, clock), clock)
    partner_center = partner_center_of(settings, http, clock)
    state = State(AzureTables(settings), clock)
    whole = World(settings, mapping, Org(salesforce, mapping), partner_center, salesforce, state, WakeQueue(settings), clock)
    return whole, Certificates(settings, http, clock)


def partner_center_of(settings: Settings, http: httpx.Client, clock: Clock) -> PartnerCenter:
    """The client with its way of signing in; it has not signed in yet."""
    # A token from the settings is for running locally; in Azure the vault keeps it, and takes its rotation.
    refresh = SettingsRefreshToken(settings) if settings.partner_center_refresh_token else KeyVaultRefreshToken(settings, http, clock)
    return PartnerCenter(settings, http, Tokens(settings, http, refresh, clock), clock)
