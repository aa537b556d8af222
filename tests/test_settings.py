"""The environment becomes settings or one message that names everything to be changed; a wrong value stops the start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import Misconfigured
from shared.settings import HOST_SETTINGS, READERS, REPOSITORY, SIGNER_NAMES, Settings

COMPLETE = {
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "PARTNER_CENTER_TENANT_ID": "7d23e5ca-19dc-4eaa-aac8-5e6b559f0d1d",
    "PARTNER_CENTER_CLIENT_ID": "b5a1c3de-0f5e-4c36-9e0b-6d2f3f0a1c11",
    "PARTNER_CENTER_CLIENT_SECRET": "secret-of-the-app",
    "PARTNER_CENTER_REFRESH_TOKEN": "token-of-the-user",
    "SALESFORCE_LOGIN_URL": "https://contoso.my.salesforce.com",
    "SALESFORCE_CLIENT_ID": "consumer",
    "SALESFORCE_CLIENT_SECRET": "secret-of-the-org",
}
IN_AZURE = {
    **{name: value for name, value in COMPLETE.items() if not name.endswith(("Storage", "SECRET", "TOKEN"))},
    "AzureWebJobsStorage__tableServiceUri": "https://contoso.table.core.windows.net",
    "AzureWebJobsStorage__queueServiceUri": "https://contoso.queue.core.windows.net",
    "AzureWebJobsStorage__clientId": "identity",
    "AzureWebJobsStorage__credential": "managedidentity",
    "PARTNER_CENTER_FEDERATED_IDENTITY_CLIENT_ID": "identity",
    "KEY_VAULT_URI": "https://contoso.vault.azure.net/",
    "SALESFORCE_USERNAME": "integration@contoso.example",
    "SALESFORCE_PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----\\nMIIB\\n-----END PRIVATE KEY-----",
}


def faults(environment: dict[str, str]) -> list[str]:
    with pytest.raises(Misconfigured) as raised:
        Settings.from_environment(environment)
    return str(raised.value).splitlines()[1:]


def test_a_local_environment_is_enough_and_the_rest_has_defaults() -> None:
    settings = Settings.from_environment(COMPLETE)
    assert settings.partner_center_api_url == "https://api.partner.microsoft.com"
    assert settings.webhook_certificate_url_prefix == "https://3psostorageacct.blob.core.windows.net/cert/"
    assert settings.webhook_signer_names == SIGNER_NAMES
    assert (settings.lease_seconds, settings.call_timeout_seconds, settings.create_margin_seconds) == (90, 20, 600)
    assert (settings.salesforce_poll_overlap_seconds, settings.partner_center_poll_overlap_seconds) == (600, 600)
    assert settings.salesforce_api_version == "66.0"
    assert not settings.shadow


def test_in_azure_no_secret_is_needed() -> None:
    settings = Settings.from_environment({**IN_AZURE, "WEBSITE_HOSTNAME": "contoso.azurewebsites.net"})
    assert settings.storage == ""
    assert settings.salesforce_private_key == "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
    assert settings.webhook_callback_url == "https://contoso.azurewebsites.net/api/partner-center-to-salesforce"
    assert settings.key_vault_uri == "https://contoso.vault.azure.net"


def test_an_empty_environment_names_everything_it_needs() -> None:
    named = {line.split()[1] for line in faults({})}
    assert named == {
        "AzureWebJobsStorage",
        "PARTNER_CENTER_TENANT_ID",
        "PARTNER_CENTER_CLIENT_ID",
        "PARTNER_CENTER_FEDERATED_IDENTITY_CLIENT_ID",
        "KEY_VAULT_URI",
        "SALESFORCE_LOGIN_URL",
        "SALESFORCE_CLIENT_ID",
        "SALESFORCE_PRIVATE_KEY",
    }
    assert all("give" in line or "(or" in line for line in faults({})), "each with its remedy"


def test_the_placeholders_of_the_sample_count_as_not_set() -> None:
    sample = json.loads((REPOSITORY / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    Settings.refuse_wrong_values(sample)
    named = {line.split()[1] for line in faults(sample)}
    assert {"PARTNER_CENTER_TENANT_ID", "SALESFORCE_LOGIN_URL"} <= named
    assert "AzureWebJobsStorage" not in named


WRONG: list[tuple[str, str, str]] = [
    ("LEASE_SECONDS", "ninety", "number of seconds from 1 to 3600"),
    ("LEASE_SECONDS", "-1", "number of seconds"),
    ("LEASE_SECONDS", "nan", "number of seconds"),
    ("CALL_TIMEOUT_SECONDS", "inf", "number of seconds"),
    ("CREATE_MARGIN_SECONDS", "1e9", "number of seconds"),
    ("SALESFORCE_POLL_OVERLAP_SECONDS", "10 min", "number of seconds"),
    ("PARTNER_CENTER_POLL_OVERLAP_SECONDS", "x", "number of seconds"),
    ("BRAKE_WRITES_PER_HOUR", "many", "whole number"),
    ("BRAKE_WRITES_PER_HOUR", "-1", "whole number"),
    ("BRAKE_SHARE_PERCENT", "101", "from 0 to 100"),
    ("BRAKE_SHARE_PERCENT", "nan", "from 0 to 100"),
    ("PARTNER_CENTER_CALLS_PER_MINUTE", "0", "from 1"),
    ("HISTORY_RETENTION_DAYS", "0", "from 1"),
    ("HEARTBEAT_MINUTES", "1.5", "whole number"),
    ("CREDENTIAL_EXPIRIES", "secret=tomorrow", "YYYY-MM-DD"),
    ("SALESFORCE_ORG_ID", "006Ws0000000Q1UIAU", "00D"),
    ("SYNC_MODE", "dry", "live or shadow"),
    ("SALESFORCE_API_VERSION", "v66", "46.0 or newer"),
    ("SALESFORCE_API_VERSION", "45.0", "46.0 or newer"),
    ("SALESFORCE_LOGIN_URL", "http://contoso.my.salesforce.com", "https://"),
    ("SALESFORCE_LOGIN_URL", "https://user:password@contoso.my.salesforce.com", "without user name"),
    ("PARTNER_CENTER_API_URL", "api.partner.microsoft.com", "https://"),
    ("PARTNER_CENTER_AUTHORITY", "https://login.microsoftonline.com/?x=1", "query"),
    ("PARTNER_CENTER_WEBHOOKS_URL", "ftp://x", "https://"),
    ("WEBHOOK_CERTIFICATE_URL_PREFIX", "http://contoso.example/cert/", "https://"),
    ("WEBHOOK_TRUSTED_ROOTS", "absent.pem", "not there"),
    ("WEBHOOK_SIGNER_NAMES", " , ", "at least one"),
    ("MAPPING_FILE", "absent.toml", "not there"),
    ("SALESFORCE_PRIVATE_KEY", "MIIB", "PEM private key"),
    ("KEY_VAULT_URI", "contoso", "https://"),
    ("AzureWebJobsStorage__tableServiceUri", "contoso", "storage service"),
    ("SSL_CERT_FILE", "absent.pem", "not there"),
]


@pytest.mark.parametrize(("name", "value", "remedy"), WRONG, ids=[f"{name}={value}" for name, value, _ in WRONG])
def test_a_wrong_value_is_named_with_its_remedy(name: str, value: str, remedy: str) -> None:
    (line,) = faults({**COMPLETE, name: value})
    assert name in line
    assert remedy in line
    with pytest.raises(Misconfigured, match=name):
        Settings.refuse_wrong_values({name: value})


def test_all_faults_are_reported_at_once() -> None:
    wrong = {name: value for name, value, _ in WRONG}
    said = "\n".join(faults({**wrong, "SALESFORCE_CLIENT_ID": ""}))
    assert [name for name in [*wrong, "SALESFORCE_CLIENT_ID", "PARTNER_CENTER_TENANT_ID"] if name not in said] == []


def test_secrets_are_never_repeated_in_a_fault() -> None:
    secret = "hunter2hunter2"
    said = "\n".join(faults(dict.fromkeys(READERS, f"{secret}\\")))
    allowed = {"MAPPING_FILE", "WEBHOOK_TRUSTED_ROOTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}  # files, shown so that they are found
    assert {line.split()[1] for line in said.splitlines() if secret in line} <= allowed


def test_a_jwt_sign_in_needs_its_user() -> None:
    without = {name: value for name, value in IN_AZURE.items() if name != "SALESFORCE_USERNAME"}
    (line,) = faults(without)
    assert "SALESFORCE_USERNAME" in line


def test_every_setting_stands_in_the_sample_and_every_setting_of_the_sample_is_read() -> None:
    sample = json.loads((REPOSITORY / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    assert sorted(sample) == sorted([*READERS, *HOST_SETTINGS])
    assert set(READERS).isdisjoint(HOST_SETTINGS)


def test_the_samples_times_are_the_defaults() -> None:
    sample = json.loads((REPOSITORY / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    for name, (attribute, read) in READERS.items():
        if isinstance(default := getattr(Settings(), attribute), float):
            assert read(sample[name]) == default, name


def test_nothing_but_the_settings_reads_the_environment() -> None:
    readers = [
        path.name for path in (REPOSITORY / "shared").glob("*.py") if re.search(r"os\.(environ|getenv)", path.read_text(encoding="utf-8"))
    ]
    assert readers == ["settings.py"]


def start(**settings: str) -> subprocess.CompletedProcess[str]:
    """Loads the app as the Functions host does."""
    environment = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    command = [sys.executable, "-c", "import function_app"]
    return subprocess.run(command, cwd=REPOSITORY, env=environment | settings, capture_output=True, text=True, timeout=60)


def test_the_app_loads_where_nothing_is_set_yet() -> None:
    """A fresh deployment must index its functions; what is missing is said by health and status."""
    assert start().returncode == 0


def test_wrong_settings_and_a_faulty_mapping_stop_the_start_with_every_name(tmp_path: Path) -> None:
    mapping = tmp_path / "mine.toml"
    mapping.write_text(
        """
        [switches]
        activ_stage = "Discovery"
        won_stage = "Qualification"
        [fields.notes]
        type = "prose"
        [fields.close_date]
        partner_center = "details/secret"
        [fields.program]
        direction = "both"
        """,
        encoding="utf-8",
    )
    started = start(LEASE_SECONDS="ninety", SYNC_MODE="dry", MAPPING_FILE=str(mapping))
    assert started.returncode != 0
    said = started.stderr
    names = ["LEASE_SECONDS", "SYNC_MODE", "activ_stage", "won_stage", "fields.notes", "fields.close_date", "fields.program", "mine.toml"]
    assert [name for name in names if name not in said] == []
