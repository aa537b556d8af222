"""In Azure the app is its managed identity and nobody else; at a terminal it is the person whom `az login` signed in."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError

from shared.clock import Clock
from shared.errors import SignInFailed, TryLater
from shared.identity import credential
from shared.refresh_tokens import managed_identity_token
from shared.settings import Settings
from shared.state import State
from shared.tables import AzureTables
from shared.waking import WakeQueue

LAPTOP = Settings(storage_table_uri="https://contoso.table.core.windows.net", storage_queue_uri="https://contoso.queue.core.windows.net")
ASKED: list[str] = []


def _somebody(name: str, token: str = "") -> type[Any]:
    """A credential of azure-identity that notes that it was asked, and has a token or is nobody."""

    class Somebody:
        def __init__(self, client_id: str = "") -> None:
            self.name = f"{name} {client_id}".strip()

        def get_token(self, *scopes: str, **_: Any) -> Any:
            ASKED.append(self.name)
            if not token:
                raise ClientAuthenticationError("nobody")
            return type("Token", (), {"token": token, "expires_on": 4_102_444_800})

    return Somebody


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    ASKED.clear()
    token = getattr(request, "param", "token")
    monkeypatch.setattr("azure.identity.AzureCliCredential", _somebody("az", token))
    monkeypatch.setattr("azure.identity.AzureDeveloperCliCredential", _somebody("azd"))
    monkeypatch.setattr("azure.identity.ManagedIdentityCredential", _somebody("identity", "the app's" if token else ""))


@pytest.mark.usefixtures("person")
def test_a_client_id_names_the_managed_identity_and_no_person_is_asked() -> None:
    assert credential("42").get_token("scope").token == "the app's"
    assert ASKED == ["identity 42"]


@pytest.mark.usefixtures("person")
def test_without_a_client_id_the_person_at_the_terminal_is_asked_for_storage_and_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    for client in ("azure.data.tables.TableServiceClient", "azure.storage.queue.QueueServiceClient"):

        class Service:
            def __init__(self, _address: str, credential: Any, **_: Any) -> None:
                given.append(credential)

            def __getattr__(self, _name: str) -> Any:
                return lambda *_args, **_kwargs: None

        monkeypatch.setattr(client, Service)
    AzureTables(LAPTOP)
    WakeQueue(LAPTOP)
    assert [one.get_token("scope").token for one in given] == ["token", "token"]
    assert managed_identity_token("", "https://vault.azure.net/.default")() == "token"
    assert ASKED == ["az", "az", "az"]


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("person", [""], indirect=True)
def test_nobody_signed_in_is_said_and_not_an_answer_of_storage() -> None:
    with pytest.raises(SignInFailed, match="run `az login` first"):
        managed_identity_token("", "https://vault.azure.net/.default")()
    with pytest.raises(TryLater, match="Table Storage cannot be reached"):
        State(AzureTables(LAPTOP), Clock()).owed("sf-006Ws0000000Q1UIAU")
