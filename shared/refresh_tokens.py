"""Where the refresh token of the consenting user is kept: a setting on a laptop, a Key Vault secret in Azure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx

from shared import wire
from shared.clock import Clock
from shared.errors import Misconfigured, SignInFailed, TryLater
from shared.settings import Settings
from shared.transport import network_errors, retry_after

SECRET_NAME = "partner-center-refresh-token"  # noqa: S105, its name
API_VERSION = "7.4"
# Every use returns a new token and the old one stays valid for 90 days, so there is no need to store each of them.
ROTATE_AFTER = timedelta(days=7)


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


class KeyVaultRefreshToken:
    """The secret in KEY_VAULT_URI, replaced once the stored one is a week old."""

    def __init__(self, settings: Settings, http: httpx.Client, clock: Clock, vault_token: Callable[[], str] | None = None) -> None:
        self._url = f"{settings.key_vault_uri}/secrets/{SECRET_NAME}?api-version={API_VERSION}"
        self._http = http
        self._clock = clock
        identity = settings.partner_center_federated_identity_client_id or settings.storage_client_id
        self._vault_token = vault_token or managed_identity_token(identity, "https://vault.azure.net/.default")
        self._stored_at: datetime | None = None

    def read(self) -> str:
        """Raises `SignInFailed` when the secret is not there yet, `Misconfigured` without access to it, `TryLater`."""
        secret = self._call("GET")
        # Seconds since 1970, as Key Vault's REST reference has it.
        self._stored_at = datetime.fromtimestamp(int(secret.get("attributes", {}).get("updated", 0)), UTC)
        return str(secret["value"])

    @property
    def expires_at(self) -> datetime | None:
        return self._stored_at + LIFE if self._stored_at else None

    def offer(self, fresh: str) -> None:
        if self._stored_at is not None and self._clock.now() - self._stored_at < ROTATE_AFTER:
            return
        self._call("PUT", {"value": fresh})
        self._stored_at = self._clock.now()

    def _call(self, method: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        what = f"{'reading' if body is None else 'storing'} the secret {SECRET_NAME}"
        headers = {"Authorization": f"Bearer {self._vault_token()}", "Content-Type": "application/json"}
        with network_errors(what):
            response = self._http.request(method, self._url, headers=headers, content=wire.dumps(body) if body else b"")
        if response.status_code == 404:
            raise SignInFailed(f"{what}: Key Vault has no such secret; store the refresh token of the first sign-in there")
        if response.status_code in (401, 403):
            raise Misconfigured(f"{what}: HTTP {response.status_code}; give the managed identity the role Key Vault Secrets Officer")
        if response.status_code != 200:
            raise TryLater(f"{what}: HTTP {response.status_code}", retry_after(response.headers))
        try:
            secret = wire.loads(response.content)
        except ValueError as error:
            raise TryLater(f"{what}: Key Vault's answer is not JSON") from error
        if not isinstance(secret, dict) or not secret.get("value"):
            raise SignInFailed(f"{what}: the secret is empty; store the refresh token of the first sign-in there")
        return secret


def managed_identity_token(client_id: str, scope: str) -> Callable[[], str]:
    """Tokens of the function app's managed identity: for Key Vault, and as proof of the Entra app's identity."""

    def token() -> str:
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity import ManagedIdentityCredential

        try:
            return str(ManagedIdentityCredential(client_id=client_id or None).get_token(scope).token)
        except ClientAuthenticationError as error:
            raise SignInFailed(f"the managed identity {client_id} could not sign in: assign it to the function app") from error
        except AzureError as error:
            raise TryLater(f"the managed identity {client_id} could not sign in ({type(error).__name__})") from error

    return token
