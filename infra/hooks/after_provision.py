"""After the resources are made: stores the secrets in Key Vault, and lets the app's identity stand for the Entra app. Prints no secret."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from pathlib import Path

from infra.hooks.azure_cli import AzFailed, Stop, az, run, say, value

PUSH_SECRET = "salesforce-push-secret"  # noqa: S105, its name
AUDIENCE = "api://AzureADTokenExchange"
# A role takes minutes to arrive after it was given.
TRIES, PAUSE_SECONDS = 18, 10


def read(name: str) -> str | None:
    """The value of a secret; empty while the template's placeholder stands there, None where it may not be read."""
    # A pipeline is given no right to the secrets, so there is nothing for it to wait for.
    tries = TRIES if value("AZURE_PRINCIPAL_TYPE") in ("", "User") else 1
    for attempt in range(tries):
        try:
            found = az(
                "keyvault", "secret", "show", "--vault-name", value("KEY_VAULT_NAME"), "--name", name, "--query", "value", "-o", "tsv"
            )
        except AzFailed as error:
            if "forbidden" not in str(error).lower():
                raise
            if attempt + 1 == tries:
                break
            if attempt == 0:
                say("Waiting for the right to read the vault …")
            time.sleep(PAUSE_SECONDS)
        else:
            return "" if found.startswith("<") else found
    return None


def store(name: str, text: str) -> None:
    """Through a file that only its owner can read: arguments of a program can be seen by others on the machine."""
    handle, path = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        az(
            "keyvault",
            "secret",
            "set",
            "--vault-name",
            value("KEY_VAULT_NAME"),
            "--name",
            name,
            "--file",
            path,
            "--encoding",
            "utf-8",
            "-o",
            "none",
        )
    finally:
        Path(path).unlink()


def salesforce_secret() -> bool:
    """Stores the key or secret of the file that was named, where it is new. Whether anything was stored."""
    name = value("SALESFORCE_SECRET")
    file = "SALESFORCE_PRIVATE_KEY_FILE" if name == "salesforce-private-key" else "SALESFORCE_CLIENT_SECRET_FILE"
    given, known = value(file), read(name)
    if known is None:
        say(
            f"! The secret {name} could not be looked at: you have no right to read the vault, or its firewall keeps you out (azd env set "
            "OPERATOR_IP_ADDRESS). The doctor tells whether it is right."
        )
        return False
    if given:
        text = Path(given).read_text(encoding="utf-8").strip()
        if text == known.strip():
            return False
        store(name, text)
        say(f'Stored the Salesforce sign-in in Key Vault as {name}. The file is not needed any more: azd env set {file} ""')
        return True
    if not known:
        say(f"! {name} is not stored yet. Name the file that holds it, and provision again: azd env set {file} PATH && azd provision")
    return False


def push_secret() -> bool:
    """Makes the secret shared with Salesforce, once. Whether it was made."""
    if value("SALESFORCE_PUSH").lower() != "true" or read(PUSH_SECRET) != "":
        return False
    store(PUSH_SECRET, secrets.token_urlsafe(32))
    say(
        f"Made the secret that Salesforce sends with its pushes: {PUSH_SECRET} in {value('KEY_VAULT_NAME')}. Copy it from there into Salesforce."
    )
    return True


def federation() -> None:
    """Lets the Entra app trust the app's identity, so that it needs no secret. Raises `Stop` with the command for an administrator."""
    app, subject = value("PARTNER_CENTER_CLIENT_ID"), value("IDENTITY_PRINCIPAL_ID")
    credential = {
        "name": f"cosell-{value('AZURE_ENV_NAME')}",
        "issuer": f"https://login.microsoftonline.com/{value('PARTNER_CENTER_TENANT_ID')}/v2.0",
        "subject": subject,
        "audiences": [AUDIENCE],
    }
    parameters = json.dumps(credential)
    command = f"az ad app federated-credential create --id {app} --parameters '{parameters}'"
    try:
        known = json.loads(az("ad", "app", "federated-credential", "list", "--id", app, "--output", "json"))
        mine = [one for one in known if one["name"] == credential["name"]]
        if any(one["subject"] == subject and one["issuer"] == credential["issuer"] for one in known):
            return
        # Left over from an identity of this name that was removed.
        verb = ["update", "--federated-credential-id", str(credential["name"])] if mine else ["create"]
        az("ad", "app", "federated-credential", *verb, "--id", app, "--parameters", parameters, "--output", "none")
    except AzFailed as error:
        raise Stop(
            f"the Entra app {app} could not be made to trust the connector's identity ({error}).\n"
            f"Ask an owner of the app, or an Application Administrator, to run this, then run `azd up` again:\n\n  {command}\n\n"
            "Where you may not read the app either: azd env set FEDERATION_DONE true"
        ) from None
    say("The Entra app trusts the connector's identity; it needs no client secret.")


def look_up_again() -> None:
    """The app takes a new secret at once, and not a day later."""
    address = f"https://management.azure.com{value('FUNCTION_APP_ID')}/config/configreferences/appsettings/refresh?api-version=2022-03-01"
    az("rest", "--method", "post", "--url", address, "--output", "none")


def prepare() -> None:
    changed = [salesforce_secret(), push_secret()]
    if any(changed):
        look_up_again()
    if value("FEDERATION_DONE").lower() != "true":
        federation()


if __name__ == "__main__":
    run(prepare)
