"""Where the refresh token of the consenting user is kept: a setting on a laptop, a Key Vault secret in Azure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from shared import wire
from shared.clock import Clock
from shared.errors import Misconfigured, SignInFailed, TryLater
from shared.identity import credential
from shared.settings import Settings
from shared.transport import network_errors, retry_after

SECRET_NAME = "partner-center-refresh-token"  # noqa: S105, its name
API_VERSION = "7.4"
# Every use returns a new token and the old one stays valid for 90 days, so there is no need to store each of them.
ROTATE_AFTER = timedelta(days=7)
# Pages of 25 of the list of secrets; a vault of the connector's own holds a handful.
MOST_PAGES = 4

# Unused for so long a refresh token dies; every use starts the time anew (partner-center 1.3).
LIFE = timedelta(days=90)


class RefreshTokens(Protocol):
    """A place that holds one refresh token."""

    def read(self) -> str: ...

    @property
    def expires_at(self) -> datetime | None:
        """When the stored token dies at the latest, where the place knows; read first."""
        ...

    def offer(self, fresh: str) -> None:
        """A newer token is there; the place decides whether to take it."""
        ...

    def expiries(self) -> dict[str, datetime]:
        """When secrets of this place end, by name, as far as the place knows."""
        ...


class SettingsRefreshToken:
    """The token of PARTNER_CENTER_REFRESH_TOKEN, for local use: nothing is written back, consent again after 90 days."""

    def __init__(self, settings: Settings) -> None:
        self._token = settings.partner_center_refresh_token

    def read(self) -> str:
        return self._token

    @property
    def expires_at(self) -> datetime | None:
        return None

    def offer(self, fresh: str) -> None:
        pass

    def expiries(self) -> dict[str, datetime]:
        return {}


class KeyVaultRefreshToken:
    """The secret in KEY_VAULT_URI, replaced once the stored one is a week old."""

    def __init__(self, settings: Settings, http: httpx.Client, clock: Clock, vault_token: Callable[[], str] | None = None) -> None:
        self._vault = settings.key_vault_uri
        self._http = http
        self._clock = clock
        identity = settings.partner_center_federated_identity_client_id or settings.storage_client_id
        self._vault_token = vault_token or managed_identity_token(identity, "https://vault.azure.net/.default")
        # Whom to give access when there is none: a person at the command line brings a token of their own.
        self._who = "your account" if vault_token or not identity else "the managed identity"
        self._stored_at: datetime | None = None
        self._version = ""

    def read(self) -> str:
        """Raises `SignInFailed` when the secret is not there yet, `Misconfigured` without access to it, `TryLater`."""
        secret = self._secret("GET")
        # Seconds since 1970, as Key Vault's REST reference has it.
        self._stored_at = datetime.fromtimestamp(int(secret.get("attributes", {}).get("updated", 0)), UTC)
        self._version = str(secret.get("id") or "")
        return str(secret["value"])

    @property
    def expires_at(self) -> datetime | None:
        return self._stored_at + LIFE if self._stored_at else None

    def offer(self, fresh: str) -> None:
        if self._stored_at is not None and self._clock.now() - self._stored_at < ROTATE_AFTER:
            return
        # Key Vault has no conditional write. What another instance, or a person's new sign-in, stored since our read is at least as
        # good as ours, and ours may descend from the consent it replaced; looking again leaves milliseconds for that.
        before = self._version
        self.read()
        if self._version == before:
            self.store(fresh)

    def store(self, token: str) -> None:
        """Makes `token` the secret's current version, whatever was there before; earlier versions stay in the vault."""
        stored = self._secret("PUT", {"value": token})
        self._stored_at, self._version = self._clock.now(), str(stored.get("id") or "")

    def expiries(self) -> dict[str, datetime]:
        found: dict[str, datetime] = {}
        for secret in self._listed():
            ends = (secret.get("attributes") or {}).get("exp")
            if ends:
                found[str(secret.get("id", "")).rpartition("/")[2]] = datetime.fromtimestamp(int(ends), UTC)
        return found

    def _listed(self) -> Iterator[dict[str, Any]]:
        """Names and attributes of the vault's secrets, never their values."""
        first = url = f"{self._vault}/secrets?api-version={API_VERSION}&maxresults=25"
        for _ in range(MOST_PAGES):
            page = self._call("GET", url, "listing the vault's secrets")
            yield from (one for one in page.get("value") or [] if isinstance(one, dict))
            following = urlsplit(str(page.get("nextLink") or ""))
            if not following.query:
                return
            # Only its query is used, on our own address, so that no answer can send the token to another host.
            url = f"{first.partition('?')[0]}?{following.query}"

    def _secret(self, method: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        what = f"{'reading' if body is None else 'storing'} the secret {SECRET_NAME}"
        secret = self._call(method, f"{self._vault}/secrets/{SECRET_NAME}?api-version={API_VERSION}", what, body)
        # A deployment makes the secret with a placeholder in angle brackets, so that it can be given to the app alone.
        if str(secret.get("value") or "<").startswith("<"):
            raise SignInFailed(f"{what}: the secret is empty; run `cosell login partner-center`, which stores one")
        return secret

    def _call(self, method: str, url: str, what: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._vault_token()}", "Content-Type": "application/json"}
        with network_errors(what):
            response = self._http.request(method, url, headers=headers, content=wire.dumps(body) if body else b"")
        if response.status_code == 404:
            text = "run `cosell login partner-center`, which stores the refresh token of the first sign-in there"
            raise SignInFailed(f"{what}: Key Vault has no such secret; {text}")
        if response.status_code in (401, 403):
            text = f"give {self._who} the role Key Vault Secrets Officer, and its network address access to the vault"
            raise Misconfigured(f"{what}: HTTP {response.status_code}; {text}")
        if response.status_code != 200:
            raise TryLater(f"{what}: HTTP {response.status_code}", retry_after(response.headers))
        try:
            answer = wire.loads(response.content)
        except ValueError:
            # Not chained: the error of the library holds the text, and that may be the secret.
            raise TryLater(f"{what}: Key Vault's answer is not JSON") from None
        if not isinstance(answer, dict):
            raise TryLater(f"{what}: Key Vault's answer is not an object")
        return answer


def managed_identity_token(client_id: str, scope: str) -> Callable[[], str]:
    """Tokens for Key Vault, and as proof of the Entra app's identity: of the app's managed identity, or see `identity.py`."""

    def token() -> str:
        from azure.core.exceptions import AzureError, ClientAuthenticationError

        try:
            return str(credential(client_id).get_token(scope).token)
        except ClientAuthenticationError as error:
            if not client_id:
                raise SignInFailed("nobody is signed in to Azure here, so the Key Vault cannot be opened: run `az login` first") from None
            raise SignInFailed(f"the managed identity {client_id} could not sign in: assign it to the function app") from error
        except AzureError as error:
            raise TryLater(f"the managed identity {client_id} could not sign in ({type(error).__name__})") from error

    return token
