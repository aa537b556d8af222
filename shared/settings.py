"""The connector's settings: the environment turned into one frozen object, every fault named at once.

Nothing else reads `os.environ`. Names and meanings are those of `local.settings.sample.json` and the README.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared import tenant
from shared.errors import Misconfigured

REPOSITORY = Path(__file__).resolve().parent.parent

# Common names of the certificates Partner Center signs events with (partner-center.md 6.7).
SIGNER_NAMES = ("pcnotifications-dispatch.microsoft.com", "pcnotifications.microsoft.com")


@dataclass(frozen=True)
class Settings:
    """Every setting, typed. Times are seconds. An empty text means not set."""

    storage: str = ""
    storage_table_uri: str = ""
    storage_queue_uri: str = ""
    storage_client_id: str = ""

    partner_center_tenant_id: str = ""
    partner_center_client_id: str = ""
    partner_center_client_secret: str = ""
    partner_center_federated_identity_client_id: str = ""
    partner_center_refresh_token: str = ""
    key_vault_uri: str = ""
    partner_center_authority: str = "https://login.microsoftonline.com"
    partner_center_api_url: str = "https://api.partner.microsoft.com"
    partner_center_webhooks_url: str = "https://api.partnercenter.microsoft.com"

    webhook_certificate_url_prefix: str = "https://3psostorageacct.blob.core.windows.net/cert/"
    webhook_trusted_roots: str = ""
    webhook_signer_names: tuple[str, ...] = SIGNER_NAMES
    webhook_callback_url: str = ""
    webhook_take_back: bool = False

    salesforce_login_url: str = ""
    salesforce_client_id: str = ""
    salesforce_username: str = ""
    salesforce_private_key: str = ""
    salesforce_client_secret: str = ""
    salesforce_api_version: str = "66.0"
    salesforce_push_secret: str = ""
    salesforce_org_id: str = ""

    mapping_file: str = ""
    sync_mode: str = "live"
    lease_seconds: float = 90.0
    call_timeout_seconds: float = 20.0
    create_margin_seconds: float = 600.0
    salesforce_poll_overlap_seconds: float = 600.0
    partner_center_poll_overlap_seconds: float = 600.0

    brake_writes_per_hour: int = 500
    brake_share_percent: float = 5.0
    partner_center_calls_per_minute: int = 300
    history_retention_days: int = 400
    heartbeat_minutes: int = 60
    credential_expiries: Mapping[str, date] = field(default_factory=dict)

    ca_bundle: str = ""

    @property
    def shadow(self) -> bool:
        """Plan everything, write nothing to either vendor."""
        return self.sync_mode == "shadow"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings the app runs on. Raises `Misconfigured` with every missing or wrong one and its remedy."""
        settings, faults = cls.examined(environment)
        if faults:
            raise Misconfigured(_report(faults))
        return settings

    @classmethod
    def examined(cls, environment: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
        """The settings as far as they can be used, and every missing or wrong one: its name, what is wrong, the remedy."""
        values, faults = _read(os.environ if environment is None else environment)
        settings = cls(**values)
        faults += _unresolved(os.environ if environment is None else environment)
        wrong = {fault.split()[0] for fault in faults}
        return settings, faults + [fault for fault in _missing(settings) if fault.split()[0] not in wrong]

    @classmethod
    def refuse_wrong_values(cls, environment: Mapping[str, str] | None = None) -> None:
        """Raises `Misconfigured` for values that are present but wrong; stays silent about what is not set yet.

        Called when the app is loaded, so that a mistyped value stops the start instead of surfacing on the first deal.
        """
        _, faults = _read(os.environ if environment is None else environment)
        if faults:
            raise Misconfigured(_report(faults))

    @staticmethod
    def mapping_named_in(environment: Mapping[str, str] | None = None) -> str | None:
        """The overlay that MAPPING_FILE names, or None."""
        values, _ = _read(os.environ if environment is None else environment)
        return values.get("mapping_file")


def _report(faults: Iterable[str]) -> str:
    return "settings that must be changed:\n" + "\n".join(f"  - {fault}" for fault in faults)


def _text(value: str) -> str:
    return value.strip()


def _https(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be an https:// address without user name, query or fragment")
    return value.strip().rstrip("/")


def _https_prefix(value: str) -> str:
    return _https(value) + "/"


def _service(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be the https:// address of the storage service")
    return value.strip()


def _file(value: str) -> str:
    path = Path(value.strip())
    for candidate in (path, REPOSITORY / path):
        if candidate.is_file():
            return str(candidate)
    raise ValueError(f"names the file {value.strip()}, which is not there")


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise ValueError("must name at least one certificate common name, separated by commas")
    return names


def _version(value: str) -> str:
    if not re.fullmatch(r"\d{2}\.0", value.strip()) or float(value) < 46:
        raise ValueError("must be a REST API version of 46.0 or newer, such as 66.0")
    return value.strip()


def _mode(value: str) -> str:
    if value.strip().lower() not in ("live", "shadow"):
        raise ValueError("must be live or shadow")
    return value.strip().lower()


def _flag(value: str) -> bool:
    if value.strip().lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return value.strip().lower() == "true"


def _seconds(lowest: float, highest: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = float("nan")
        if not lowest <= seconds <= highest:
            raise ValueError(f"must be a number of seconds from {lowest:g} to {highest:g}")
        return seconds

    return read


def _count(lowest: int, highest: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        text = value.strip()
        if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return read


def _percent(value: str) -> float:
    try:
        percent = float(value)
    except ValueError:
        percent = float("nan")
    if not 0 <= percent <= 100:
        raise ValueError("must be a number from 0 to 100")
    return percent


def _org_id(value: str) -> str:
    if not re.fullmatch(r"00D[A-Za-z0-9]{12}([A-Za-z0-9]{3})?", value.strip()):
        raise ValueError("must be the org's id, 15 or 18 characters beginning with 00D")
    return value.strip()


def _expiries(value: str) -> dict[str, date]:
    found: dict[str, date] = {}
    for part in filter(None, (one.strip() for one in value.split(","))):
        name, _, day = part.partition("=")
        try:
            found[name.strip()] = date.fromisoformat(day.strip())
        except ValueError:
            raise ValueError("must be NAME=YYYY-MM-DD, several separated by commas") from None
    return found


def _private_key(value: str) -> str:
    # Settings stores keep a PEM on one line; "\n" then stands for the line ends.
    text = value.strip().replace("\\n", "\n")
    if "PRIVATE KEY-----" not in text:
        raise ValueError("must be a PEM private key (-----BEGIN PRIVATE KEY----- …), line ends may be written as \\n")
    return text + "\n"


# What Azure leaves in place of a secret that it could not fetch. Taken as the secret, it would be one that anybody can spell.
REFERENCE = "@Microsoft.KeyVault("

# environment name -> (attribute, reader). A value that is empty or a placeholder in angle brackets counts as not set.
READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "AzureWebJobsStorage": ("storage", _text),
    "AzureWebJobsStorage__tableServiceUri": ("storage_table_uri", _service),
    "AzureWebJobsStorage__queueServiceUri": ("storage_queue_uri", _service),
    "AzureWebJobsStorage__clientId": ("storage_client_id", _text),
    "PARTNER_CENTER_TENANT_ID": ("partner_center_tenant_id", _text),
    "PARTNER_CENTER_CLIENT_ID": ("partner_center_client_id", _text),
    "PARTNER_CENTER_CLIENT_SECRET": ("partner_center_client_secret", _text),
    "PARTNER_CENTER_FEDERATED_IDENTITY_CLIENT_ID": ("partner_center_federated_identity_client_id", _text),
    "PARTNER_CENTER_REFRESH_TOKEN": ("partner_center_refresh_token", _text),
    "KEY_VAULT_URI": ("key_vault_uri", _https),
    "PARTNER_CENTER_AUTHORITY": ("partner_center_authority", _https),
    "PARTNER_CENTER_API_URL": ("partner_center_api_url", _https),
    "PARTNER_CENTER_WEBHOOKS_URL": ("partner_center_webhooks_url", _https),
    "WEBHOOK_CERTIFICATE_URL_PREFIX": ("webhook_certificate_url_prefix", _https_prefix),
    "WEBHOOK_TRUSTED_ROOTS": ("webhook_trusted_roots", _file),
    "WEBHOOK_SIGNER_NAMES": ("webhook_signer_names", _names),
    "WEBHOOK_CALLBACK_URL": ("webhook_callback_url", _text),
    "WEBHOOK_TAKE_BACK": ("webhook_take_back", _flag),
    "SALESFORCE_LOGIN_URL": ("salesforce_login_url", _https),
    "SALESFORCE_CLIENT_ID": ("salesforce_client_id", _text),
    "SALESFORCE_USERNAME": ("salesforce_username", _text),
    "SALESFORCE_PRIVATE_KEY": ("salesforce_private_key", _private_key),
    "SALESFORCE_CLIENT_SECRET": ("salesforce_client_secret", _text),
    "SALESFORCE_API_VERSION": ("salesforce_api_version", _version),
    "SALESFORCE_PUSH_SECRET": ("salesforce_push_secret", _text),
    "SALESFORCE_ORG_ID": ("salesforce_org_id", _org_id),
    "MAPPING_FILE": ("mapping_file", _file),
    "SYNC_MODE": ("sync_mode", _mode),
    "LEASE_SECONDS": ("lease_seconds", _seconds(1, 3600)),
    "CALL_TIMEOUT_SECONDS": ("call_timeout_seconds", _seconds(0.1, 120)),
    "CREATE_MARGIN_SECONDS": ("create_margin_seconds", _seconds(0, 86400)),
    "SALESFORCE_POLL_OVERLAP_SECONDS": ("salesforce_poll_overlap_seconds", _seconds(0, 86400)),
    "PARTNER_CENTER_POLL_OVERLAP_SECONDS": ("partner_center_poll_overlap_seconds", _seconds(0, 86400)),
    "BRAKE_WRITES_PER_HOUR": ("brake_writes_per_hour", _count(0, 1_000_000)),
    "BRAKE_SHARE_PERCENT": ("brake_share_percent", _percent),
    "PARTNER_CENTER_CALLS_PER_MINUTE": ("partner_center_calls_per_minute", _count(1, 100_000)),
    "HISTORY_RETENTION_DAYS": ("history_retention_days", _count(1, 36_500)),
    "HEARTBEAT_MINUTES": ("heartbeat_minutes", _count(0, 1440)),
    "CREDENTIAL_EXPIRIES": ("credential_expiries", _expiries),
    "REQUESTS_CA_BUNDLE": ("ca_bundle", _file),
    "SSL_CERT_FILE": ("ca_bundle", _file),
}

# Read by the Functions host itself (bindings and its own storage connection), never by the connector.
HOST_SETTINGS = (
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__credential",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "FUNCTIONS_WORKER_RUNTIME",
    "PYTHON_THREADPOOL_THREAD_COUNT",
    "SALESFORCE_POLL_SCHEDULE",
    "SOLUTIONS_POLL_SCHEDULE",
    "PARTNER_CENTER_POLL_SCHEDULE",
    "RESUME_SCHEDULE",
    "RECONCILE_SCHEDULE",
)


def _read(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    faults: list[str] = []
    settled = _settled(environment.get("MAPPING_FILE", ""), faults)
    for name, (attribute, read) in READERS.items():
        given = environment.get(name, "").strip()
        if not given or (given.startswith("<") and given.endswith(">")):
            given = settled.get(name, "")
        if not given or given.startswith(REFERENCE):
            continue
        try:
            values[attribute] = read(given)
        except ValueError as error:
            faults.append(f"{name} {error}")
    if not values.get("webhook_callback_url") and environment.get("WEBSITE_HOSTNAME"):
        values["webhook_callback_url"] = f"https://{environment['WEBSITE_HOSTNAME']}/api/partner-center-to-salesforce"
    assert set(values) <= {one.name for one in fields(Settings)}
    return values, faults


def _settled(overlay: str, faults: list[str]) -> dict[str, str]:
    """What was settled on the tenant and the environment does not say."""
    try:
        return tenant.read(Path(_file(overlay))).settings if overlay.strip() else {}
    except ValueError:
        return {}  # no such file: said of the setting itself
    except Misconfigured as error:
        faults.append(f"MAPPING_FILE names a file whose settings cannot be read: {error}")
        return {}


def _unresolved(environment: Mapping[str, str]) -> list[str]:
    remedy = (
        "is a Key Vault reference that Azure could not follow: store the secret, give the app's identity the role Key Vault Secrets User "
        "on it, and let the app look again (azd provision)"
    )
    return [f"{name} {remedy}" for name in READERS if environment.get(name, "").strip().startswith(REFERENCE)]


def _missing(settings: Settings) -> list[str]:
    faults: list[str] = []
    if not settings.storage and not (settings.storage_table_uri and settings.storage_queue_uri):
        faults.append(
            "AzureWebJobsStorage is not set: give a connection string (UseDevelopmentStorage=true with Azurite), "
            "or AzureWebJobsStorage__tableServiceUri and AzureWebJobsStorage__queueServiceUri for a managed identity"
        )
    for name, value, remedy in (
        ("PARTNER_CENTER_TENANT_ID", settings.partner_center_tenant_id, "the directory (tenant) id of the Entra app registration"),
        ("PARTNER_CENTER_CLIENT_ID", settings.partner_center_client_id, "the application (client) id of the Entra app registration"),
        ("SALESFORCE_LOGIN_URL", settings.salesforce_login_url, "the org's My Domain address, https://NAME.my.salesforce.com"),
        ("SALESFORCE_CLIENT_ID", settings.salesforce_client_id, "the consumer key of the external client app"),
    ):
        if not value:
            faults.append(f"{name} is not set: give {remedy}")
    if not settings.partner_center_client_secret and not settings.partner_center_federated_identity_client_id:
        faults.append("PARTNER_CENTER_FEDERATED_IDENTITY_CLIENT_ID is not set (or PARTNER_CENTER_CLIENT_SECRET when running locally)")
    if not settings.partner_center_refresh_token and not settings.key_vault_uri:
        faults.append("KEY_VAULT_URI is not set (or PARTNER_CENTER_REFRESH_TOKEN when running locally)")
    if settings.salesforce_private_key and not settings.salesforce_username:
        faults.append("SALESFORCE_USERNAME is not set: the JWT bearer sign-in needs the integration user's name")
    if not settings.salesforce_private_key and not settings.salesforce_client_secret:
        faults.append("SALESFORCE_PRIVATE_KEY is not set (or SALESFORCE_CLIENT_SECRET for the client credentials flow)")
    return faults
