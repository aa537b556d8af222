"""Who this process is to Azure: the function app's managed identity, or the person at a terminal."""

from __future__ import annotations

from typing import Any


def credential(client_id: str) -> Any:
    """The managed identity of this client id, for the Azure libraries.

    Without one: whoever signed in with the Azure CLI or the Azure Developer CLI, else the machine's own identity.
    """
    from azure.identity import AzureCliCredential, AzureDeveloperCliCredential, ChainedTokenCredential, ManagedIdentityCredential

    if client_id:
        return ManagedIdentityCredential(client_id=client_id)
    return ChainedTokenCredential(AzureCliCredential(), AzureDeveloperCliCredential(), ManagedIdentityCredential())
