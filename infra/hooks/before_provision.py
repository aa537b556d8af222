"""Before anything is made: every missing or wrong value at once, with the command that sets it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from infra.hooks.azure_cli import AzFailed, Stop, az, run, say, value

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def faults() -> list[str]:
    """One line for each value that is missing or cannot be right."""
    found = []

    def need(name: str, fits: bool, what: str) -> None:
        if not fits:
            found.append(f'{name} {"is wrong" if value(name) else "is not set"}: azd env set {name} "{what}"')

    need("PARTNER_CENTER_TENANT_ID", bool(GUID.fullmatch(value("PARTNER_CENTER_TENANT_ID"))), "directory (tenant) id of the partner tenant")
    need("PARTNER_CENTER_CLIENT_ID", bool(GUID.fullmatch(value("PARTNER_CENTER_CLIENT_ID"))), "application (client) id of the Entra app")
    address = urlsplit(value("SALESFORCE_LOGIN_URL"))
    need("SALESFORCE_LOGIN_URL", address.scheme == "https" and bool(address.hostname), "https://NAME.my.salesforce.com")
    need("SALESFORCE_CLIENT_ID", len(value("SALESFORCE_CLIENT_ID")) >= 10, "consumer key of the External Client App")
    need("ALERT_EMAIL", bool(re.fullmatch(r"\S+@\S+\.\S+", value("ALERT_EMAIL"))), "who is mailed when an alert fires")
    way = value("SALESFORCE_SIGN_IN") or "privateKey"
    if way == "privateKey":
        need("SALESFORCE_USERNAME", bool(value("SALESFORCE_USERNAME")), "user name of the integration user")
        file, what, marks = "SALESFORCE_PRIVATE_KEY_FILE", "path of the PEM private key", "PRIVATE KEY-----"
    else:
        need("SALESFORCE_SIGN_IN", way == "clientSecret", "privateKey or clientSecret")
        file, what, marks = "SALESFORCE_CLIENT_SECRET_FILE", "path of a file that holds the client secret", ""
    if value(file):
        need(file, _holds(Path(value(file)), marks), what)
    return found


def _holds(file: Path, marks: str) -> bool:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(text) and marks in text


def check() -> None:
    wrong = faults()
    if wrong:
        raise Stop("values of this environment must be set first:\n" + "\n".join(f"  - {fault}" for fault in wrong))
    try:
        tenant = az("account", "show", "--query", "tenantId", "--output", "tsv")
    except AzFailed as error:
        raise Stop(f"the Azure CLI is not signed in: run `az login --tenant {value('PARTNER_CENTER_TENANT_ID')}` ({error})") from None
    if tenant.lower() != value("PARTNER_CENTER_TENANT_ID").lower():
        raise Stop(
            f"the subscription belongs to the tenant {tenant}, the Entra app to {value('PARTNER_CENTER_TENANT_ID')}: a managed identity can "
            "stand for an app of its own tenant only. Deploy to a subscription of the partner tenant"
        )
    say("The values of this environment are complete.")


if __name__ == "__main__":
    run(check)
