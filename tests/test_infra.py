"""The template, the hooks and the workflows, as far as they can be proved without Azure; and that mistakes in them are seen."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest
import yaml
from croniter import croniter_range

from bench.package import deployed_files
from devhost.settings import read_values
from infra.hooks import after_deploy, after_provision, azure_cli, before_provision
from shared.clock import Clock
from shared.errors import SignInFailed
from shared.pulse import pulse
from shared.refresh_tokens import SECRET_NAME, KeyVaultRefreshToken
from shared.settings import HOST_SETTINGS, READERS, Settings
from shared.tables import NAMES
from shared.waking import QUEUE
from tests import bicep
from tests.deals import DealWorld
from tests.test_0_index import EXPECTED as FUNCTIONS

ROOT = Path(__file__).resolve().parent.parent

# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "Key Vault Reader": "21090545-7ca7-4776-b22c-e363652d74d2",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Key Vault Secrets Officer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
}
GRANTED = {
    ("identityPrincipalId", "Storage Blob Data Owner", "storage"),
    ("identityPrincipalId", "Storage Queue Data Contributor", "storage"),
    ("identityPrincipalId", "Storage Table Data Contributor", "storage"),
    ("identityPrincipalId", "Key Vault Reader", "vault"),
    ("identityPrincipalId", "Key Vault Secrets Officer", "vault::refreshToken"),
    ("identityPrincipalId", "Key Vault Secrets User", "vault::salesforce"),
    ("identityPrincipalId", "Key Vault Secrets User", "vault::pushSecret"),
    ("identityPrincipalId", "Monitoring Metrics Publisher", "insights"),
    ("operatorId", "Key Vault Secrets Officer", "vault"),
}

# Settings that the template does not set, and why.
LEFT_OUT = {
    "a key of the storage account": {"AzureWebJobsStorage"},
    "for a laptop only": {"PARTNER_CENTER_CLIENT_SECRET", "PARTNER_CENTER_REFRESH_TOKEN"},
    "refused by the Flex Consumption plan": {"FUNCTIONS_WORKER_RUNTIME"},
    "a private certificate authority is a file on a machine": {"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"},
    "its default fits everybody; moreSettings changes it": {
        "PARTNER_CENTER_AUTHORITY", "PARTNER_CENTER_API_URL", "PARTNER_CENTER_WEBHOOKS_URL", "WEBHOOK_CERTIFICATE_URL_PREFIX",
        "WEBHOOK_TRUSTED_ROOTS", "WEBHOOK_SIGNER_NAMES", "WEBHOOK_CALLBACK_URL", "WEBHOOK_TAKE_BACK", "SALESFORCE_API_VERSION", "MAPPING_FILE",
        "LEASE_SECONDS", "CALL_TIMEOUT_SECONDS", "CREATE_MARGIN_SECONDS", "SALESFORCE_POLL_OVERLAP_SECONDS",
        "PARTNER_CENTER_POLL_OVERLAP_SECONDS", "BRAKE_WRITES_PER_HOUR", "BRAKE_SHARE_PERCENT", "PARTNER_CENTER_CALLS_PER_MINUTE",
        "HISTORY_RETENTION_DAYS", "HEARTBEAT_MINUTES", "CREDENTIAL_EXPIRIES",
    },
}  # fmt: skip
# https://learn.microsoft.com/azure/azure-functions/functions-app-settings#flex-consumption-plan-deprecations
DEPRECATED = {
    "ENABLE_ORYX_BUILD", "FUNCTIONS_EXTENSION_VERSION", "FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "FUNCTIONS_MAX_HTTP_CONCURRENCY", "FUNCTIONS_WORKER_PROCESS_COUNT", "FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED",
    "SCM_DO_BUILD_DURING_DEPLOYMENT", "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING", "WEBSITE_CONTENTOVERVNET", "WEBSITE_CONTENTSHARE",
    "WEBSITE_DNS_SERVER", "WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT", "WEBSITE_RUN_FROM_PACKAGE", "WEBSITE_VNET_ROUTE_ALL",
}  # fmt: skip

# What security and scaling rest on: (module, declaration, path of the property) -> the only right value.
FIXED: dict[tuple[str, str, str], Any] = {
    ("storage", "account", "properties.allowSharedKeyAccess"): False,
    ("storage", "account", "properties.allowBlobPublicAccess"): False,
    ("storage", "account", "properties.isLocalUserEnabled"): False,
    ("storage", "account", "properties.minimumTlsVersion"): "TLS1_2",
    ("storage", "account", "properties.supportsHttpsTrafficOnly"): True,
    ("storage", "account", "properties.publicNetworkAccess"): "open ? 'Enabled' : 'Disabled'",
    ("vault", "vault", "properties.enableRbacAuthorization"): True,
    ("vault", "vault", "properties.enablePurgeProtection"): True,
    ("monitoring", "insights", "properties.DisableLocalAuth"): True,
    ("monitoring", "workspace", "properties.features.disableLocalAuth"): True,
    ("app", "plan", "sku.name"): "FC1",
    ("app", "app", "identity.type"): "UserAssigned",
    ("app", "app", "properties.httpsOnly"): True,
    ("app", "app", "properties.keyVaultReferenceIdentity"): "identityId",
    ("app", "app", "properties.siteConfig.minTlsVersion"): "1.2",
    ("app", "app", "properties.siteConfig.scmMinTlsVersion"): "1.2",
    ("app", "app", "properties.siteConfig.ftpsState"): "Disabled",
    ("app", "app", "properties.siteConfig.cors.allowedOrigins"): [],
    ("app", "app", "properties.functionAppConfig.runtime"): {"name": "python", "version": "3.13"},
    ("app", "app", "properties.functionAppConfig.deployment.storage.type"): "blobContainer",
    ("app", "app", "properties.functionAppConfig.deployment.storage.authentication.type"): "UserAssignedIdentity",
    ("app", "app", "properties.functionAppConfig.scaleAndConcurrency.triggers.http.perInstanceConcurrency"): 16,
    ("app", "noFtp", "properties.allow"): False,
    ("app", "noScmPassword", "properties.allow"): False,
}
ALERTS = {
    "silent", "nothing-synchronized", "registration-lost", "refresh-token", "held", "error-rate", "poison", "salesforce-budget", "parked",
}  # fmt: skip

# host.json as the host and version 5 of the Storage extension read it; a key that they do not know is silently ignored.
SPAN = r"\d\d:[0-5]\d:[0-5]\d"
LEVEL = "Trace|Debug|Information|Warning|Error|Critical|None"
HOST: dict[str, Any] = {
    "version": r"2\.0",
    "functionTimeout": SPAN,
    "telemetryMode": "OpenTelemetry",
    "extensionBundle": {"id": r"Microsoft\.Azure\.Functions\.ExtensionBundle", "version": r"\[4\.\*, 5\.0\.0\)"},
    "extensions": {
        "http": {"routePrefix": "api"},
        "queues": {
            "batchSize": r"[1-9]|[12]\d|3[0-2]", "newBatchThreshold": r"\d+", "maxDequeueCount": r"\d+", "maxPollingInterval": SPAN,
            "messageEncoding": "base64", "visibilityTimeout": SPAN,
        },
    },
    "logging": {
        "logLevel": {"default": LEVEL, "Azure.Core": LEVEL, "Host.Results": LEVEL, "Function": LEVEL, "Host.Aggregator": LEVEL},
        "applicationInsights": {
            "samplingSettings": {"isEnabled": "True|False", "maxTelemetryItemsPerSecond": r"\d+", "excludedTypes": r"[A-Za-z;]+"}
        },
    },
}  # fmt: skip


# -- the checks: each names the faults of a tree -----------------------------------------------------------------------------------------


@cache
def modules(root: Path) -> dict[str, dict[str, bicep.Declared]]:
    return {path.stem: bicep.read(path) for path in [root / "infra/main.bicep", *sorted((root / "infra/modules").glob("*.bicep"))]}


def everything(root: Path) -> Iterator[tuple[str, bicep.Declared]]:
    """Every resource of every module, nested ones as well."""

    def with_nested(one: bicep.Declared) -> Iterator[bicep.Declared]:
        yield one
        for inner in one.inside:
            yield from with_nested(inner)

    for name, declared in modules(root).items():
        for one in declared.values():
            if one.kind == "resource":
                yield from ((name, each) for each in with_nested(one))


def parameter_faults(root: Path) -> Iterator[str]:
    main = modules(root)["main"]
    given = json.loads((root / "infra/main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    declared = {name: one for name, one in main.items() if one.kind == "parameter"}
    for name in sorted(declared.keys() ^ given.keys()):
        yield f"the parameter {name} stands in one of main.bicep and main.parameters.json only"
    for name, one in declared.items():
        if "@description(" not in one.decorators:
            yield f"the parameter {name} has no description"
        # azd asks for what has no default; a default hides that it is missing.
        if (one.value is None) != (name in REQUIRED):
            yield f"the parameter {name} is {'required' if one.value is None else 'optional'}, and should not be"
    for call in (one for one in main.values() if one.kind == "module"):
        takes = {name: one for name, one in bicep.read(root / "infra" / call.type).items() if one.kind == "parameter"}
        gives = call.value["params"]
        yield from (f"{call.type} is not given {name}" for name, one in takes.items() if one.value is None and name not in gives)
        yield from (f"{call.type} does not take {name}" for name in gives if name not in takes)


REQUIRED = {
    "environmentName", "location", "partnerCenterTenantId", "partnerCenterClientId", "salesforceLoginUrl", "salesforceClientId", "alertEmail",
}  # fmt: skip


def settings_in_template(root: Path) -> dict[str, Any]:
    file = root / "infra/modules/app.bicep"
    found = bicep.objects(file, "salesforceSecrets") | bicep.objects(file, "pushSecrets") | bicep.objects(file, "settings")
    return {name: value for name, value in found.items() if name not in ("parent", "name", "dependsOn", "properties")}


def setting_faults(root: Path) -> Iterator[str]:
    found, known = set(settings_in_template(root)), {*READERS, *HOST_SETTINGS}
    left_out = set().union(*LEFT_OUT.values())
    yield from (f"the template sets {name}, which nothing reads" for name in sorted(found - known))
    yield from (f"the template does not set {name}" for name in sorted(known - left_out - found))
    yield from (f"the template sets {name}, which is left out on purpose" for name in sorted(found & left_out))
    yield from (f"{name} must not be set on a Flex Consumption plan" for name in sorted(found & DEPRECATED))


def role_faults(root: Path) -> Iterator[str]:
    roles = modules(root)["roles"]
    for name, guid in roles["roleIds"].value.items():
        if ROLES.get(name) != guid:
            yield f"{guid} is not the role {name}"
    granted = set()
    for one in roles.values():
        if one.kind == "resource" and one.type.startswith("Microsoft.Authorization/roleAssignments@"):
            role = re.search(r"roleIds\['(.+?)'\]", str(one.value["properties"]["roleDefinitionId"]))
            scope = str(one.value.get("scope", "the resource group"))
            granted.add((str(one.value["properties"]["principalId"]), role[1] if role else "?", scope))
            if role and (role[1] not in one.value["name"] or not re.match(rf"guid\({re.escape(scope)}\.id, ", one.value["name"])):
                yield f"{one.name}: its name does not tell it from another assignment"
    yield from (f"granted beyond need: {grant}" for grant in sorted(granted - GRANTED))
    yield from (f"not granted: {grant}" for grant in sorted(GRANTED - granted))


def storage_faults(root: Path) -> Iterator[str]:
    names = {kind: {one.value["name"] for _, one in everything(root) if one.type == kind} for kind in ("queues", "tables")}
    if names["queues"] != {QUEUE, f"{QUEUE}-poison"}:
        yield f"the queues are {sorted(names['queues'])}, the code uses {QUEUE}"
    if names["tables"] != set(NAMES):
        yield f"the tables are {sorted(names['tables'])}, the code uses {sorted(NAMES)}"
    vault = {one.name: one for one in modules(root)["vault"].values()}
    if vault["refreshToken"].value["name"] != SECRET_NAME:
        yield f"the vault has no secret {SECRET_NAME}"
    for one in vault.values():
        if "vaults/secrets@" in one.type:
            # Without it every deployment would put the placeholder in the place of the token.
            if "@onlyIfNotExists()" not in one.decorators:
                yield f"a deployment would overwrite the secret {one.name}"
            if one.value["properties"]["value"] != "placeholder":
                yield f"the secret {one.name} has its value in the template"
    named = re.findall(r"secrets/([\w-]+)\)", (root / "infra/modules/app.bicep").read_text(encoding="utf-8"))
    main = (root / "infra/main.bicep").read_text(encoding="utf-8") + (root / "infra/modules/vault.bicep").read_text(encoding="utf-8")
    yield from (f"a setting refers to the secret {name}, which is not made" for name in named if f"'{name}'" not in main)


def security_faults(root: Path) -> Iterator[str]:
    resources = {(module, one.name): one for module, one in everything(root)}
    for (module, name, path), right in FIXED.items():
        value: Any = resources[module, name].value
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value != right or type(value) is bool is not type(right):
            yield f"{module}.{name}: {path} is {value!r}, not {right!r}"
    for module, one in everything(root):
        if "/" in one.type and not re.fullmatch(r"[\w./]+@\d{4}-\d\d-\d\d(-preview)?", one.type):
            yield f"{module}.{one.name}: no pinned API version"
    for path in (root / "infra").rglob("*.bicep"):
        if re.search(r"AccountKey=|listKeys\(|SharedAccessSignature|BEGIN [A-Z ]*PRIVATE KEY", path.read_text(encoding="utf-8")):
            yield f"{path.name}: a key"


def host_faults(root: Path) -> Iterator[str]:
    def compare(found: Any, known: Any, at: str) -> Iterator[str]:
        if isinstance(known, str):
            if not re.fullmatch(known, str(found)):
                yield f"host.json: {at} is {found!r}"
        elif not isinstance(found, dict):
            yield f"host.json: {at} must be an object"
        else:
            for key, value in found.items():
                if key in known:
                    yield from compare(value, known[key], f"{at}.{key}".strip("."))
                else:
                    yield f"host.json: the host does not know {at}.{key}"

    host = json.loads((root / "host.json").read_text(encoding="utf-8"))
    yield from compare(host, HOST, "")
    queues, threads = host["extensions"]["queues"], settings_in_template(root)["PYTHON_THREADPOOL_THREAD_COUNT"]
    if int(threads) != queues["batchSize"] + queues["newBatchThreshold"]:
        yield f"{threads} threads for {queues['batchSize']} and {queues['newBatchThreshold']} messages"
    kept = host["logging"]["applicationInsights"]["samplingSettings"]["excludedTypes"].split(";")
    yield from (f"sampling would drop {kind} lines, which the alerts read" for kind in ("Trace", "Request") if kind not in kept)


def queries(root: Path) -> dict[str, str]:
    """The text of every query of the alerts and of the workbook, by name, with what they have in common put in."""
    alerts = modules(root)["alerts"]
    common = {name: str(alerts[name].value) for name in ("heartbeats", "latest")}
    found = {}
    for alert in alerts["alerts"].value:
        text = str(alert["query"])
        for name in ("latest", "heartbeats"):
            text = text.replace(f"${{{name}}}", common[name].strip("'"))
        found[alert["name"]] = text
    book = json.loads((root / "infra/modules/workbook.json").read_text(encoding="utf-8"))
    return found | {one["name"]: one["content"]["query"] for one in book["items"] if one["type"] == 3}


@cache
def told() -> set[str]:
    """The fields of the line that the connector logs every minute."""
    return set(pulse(DealWorld().world))


def alert_faults(root: Path) -> Iterator[str]:
    asked = queries(root)
    yield from (f"there is no alert {name}" for name in sorted(ALERTS - asked.keys()))
    for name, query in asked.items():
        yield from (
            f"{name} asks for {field}, which is never logged" for field in sorted(set(re.findall(r"Status\.(\w+)", query)) - told())
        )
        if "Status." in query and 'Message startswith "cosell.status {"' not in query:
            yield f"{name} does not read the line the connector logs"
    rule = modules(root)["alerts"]["rules"].value["properties"]
    if rule["actions"]["actionGroups"] != ["people.id"]:
        yield "the alerts reach nobody"
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for alert in modules(root)["alerts"]["alerts"].value:
        if f"\n### {alert['name']}\n" not in page:
            yield f"docs/operations.md does not say what to do about {alert['name']}"


def workflow_faults(root: Path) -> Iterator[str]:
    for path in sorted((root / ".github/workflows").glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        flow = yaml.safe_load(text)
        if flow.get("permissions") != {"contents": "read"}:
            yield f"{path.name}: its permissions are not the least"
        for used, comment in re.findall(r"uses: (\S+)(.*)", text):
            if not used.startswith("./") and not (re.search(r"@[0-9a-f]{40}$", used) and re.fullmatch(r" # v[\d.]+", comment)):
                yield f"{path.name}: {used} is not pinned to a commit"
        for name, job in flow["jobs"].items():
            if "uses" not in job and "timeout-minutes" not in job:
                yield f"{path.name}: {name} may run for ever"
            for grant, level in job.get("permissions", {}).items():
                if (grant, level) not in {("contents", "read"), ("id-token", "write"), ("security-events", "write")}:
                    yield f"{path.name}: {name} may {level} {grant}"
        if "pull_request_target" in text or re.search(r"run:.*\$\{\{ *github\.event", text) or "secrets." in text:
            yield f"{path.name}: what a stranger writes could run with rights, or a secret is kept"


def hook_faults(root: Path) -> Iterator[str]:
    project = yaml.safe_load((root / "azure.yaml").read_text(encoding="utf-8"))
    (service,) = project["services"]
    if f"'azd-service-name': '{service}'" not in (root / "infra/modules/app.bicep").read_text(encoding="utf-8"):
        yield f"no resource is tagged as the service {service}"
    for event in ("preprovision", "postprovision", "postdeploy"):
        for system, hook in project["hooks"].get(event, {"nothing": {"run": "nothing"}}).items():
            called = re.fullmatch(r"python3? -m (infra\.hooks\.\w+)", hook["run"])
            if not called or not hasattr(importlib.import_module(called[1]), "run"):
                yield f"the hook {event} on {system} calls {hook['run']}, which is not there"


CHECKS = (
    parameter_faults, setting_faults, role_faults, storage_faults, security_faults, host_faults, alert_faults, workflow_faults, hook_faults,
)  # fmt: skip


def faults(root: Path) -> Iterator[str]:
    try:
        for check in CHECKS:
            yield from check(root)
    except (ValueError, ModuleNotFoundError) as error:
        yield str(error)


# -- the tree as it is, and with mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_tree_has_no_fault(check: Any) -> None:
    assert list(check(ROOT)) == []


MISTAKES = [
    ("infra/main.bicep", "param alertEmail string\n", "param alertEmail string = ''\n", "alertEmail is optional, and should not be"),
    ("infra/main.bicep", "    vaultUri: vault.outputs.uri\n", "", "modules/app.bicep is not given vaultUri"),
    ("infra/main.bicep", "param salesforcePush bool = false", "param salesforcePush bool = ", "not Bicep"),
    ("infra/main.parameters.json", '"syncMode"', '"synchMode"', "synchMode stands in one of"),
    ("infra/modules/app.bicep", "SALESFORCE_USERNAME:", "SALESFORCE_USER_NAME:", "sets SALESFORCE_USER_NAME, which nothing reads"),
    ("infra/modules/app.bicep", "    KEY_VAULT_URI: vaultUri\n", "", "does not set KEY_VAULT_URI"),
    ("infra/modules/app.bicep", "    SYNC_MODE: syncMode\n", "    SYNC_MODE: syncMode\n    FUNCTIONS_WORKER_RUNTIME: 'python'\n", "must not be set on a Flex"),
    ("infra/modules/app.bicep", "secrets/salesforce-push-secret)", "secrets/salesforce-secret)", "refers to the secret salesforce-secret"),
    ("infra/modules/app.bicep", "version: '3.13'", "version: '3.11'", "functionAppConfig.runtime"),
    ("infra/modules/app.bicep", "PYTHON_THREADPOOL_THREAD_COUNT: '24'", "PYTHON_THREADPOOL_THREAD_COUNT: '8'", "8 threads for 16 and 8"),
    ("infra/modules/app.bicep", "name: 'scm'\n    properties: { allow: false }", "name: 'scm'\n    properties: { allow: true }", "noScmPassword"),
    ("infra/modules/app.bicep", "keyVaultReferenceIdentity: identityId", "keyVaultReferenceIdentity: 'SystemAssigned'", "keyVaultReferenceIdentity"),
    ("infra/modules/app.bicep", "'azd-service-name': 'connector'", "'azd-service-name': 'api'", "no resource is tagged"),
    ("infra/modules/roles.bicep", "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3", "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "is not the role Storage Table"),
    ("infra/modules/roles.bicep", "  scope: vault::refreshToken\n", "  scope: vault\n", "granted beyond need"),
    ("infra/modules/roles.bicep", "  scope: insights\n", "", "granted beyond need: ('identityPrincipalId', 'Monitoring Metrics Publisher', 'the"),
    ("infra/modules/storage.bicep", "allowSharedKeyAccess: false", "allowSharedKeyAccess: true", "allowSharedKeyAccess is True"),
    ("infra/modules/storage.bicep", "name: 'synchronize-deal'\n", "name: 'synchronise-deal'\n", "the queues are"),
    ("infra/modules/storage.bicep", "name: 'cursors'", "name: 'watermarks'", "the tables are"),
    ("infra/modules/storage.bicep", "@2026-04-01'", "'", "no pinned API version"),
    ("infra/modules/vault.bicep", "@onlyIfNotExists()\nresource refreshToken", "resource refreshToken", "would overwrite the secret refreshToken"),
    ("infra/modules/vault.bicep", "enablePurgeProtection: true", "enablePurgeProtection: false", "enablePurgeProtection"),
    ("infra/modules/alerts.bicep", "Status.parked", "Status.parkd", "asks for parkd, which is never logged"),
    ("infra/modules/alerts.bicep", "name: 'poison'", "name: 'poisoned'", "there is no alert poison"),
    ("infra/modules/alerts.bicep", "actionGroups: [people.id]", "actionGroups: []", "the alerts reach nobody"),
    ("infra/modules/workbook.json", "Status.freshness_p95", "Status.freshness_p99", "asks for freshness_p99"),
    ("host.json", '"maxDequeueCount"', '"maxDequeCount"', "the host does not know extensions.queues.maxDequeCount"),
    ("host.json", '"batchSize": 16', '"batchSize": 64', "extensions.queues.batchSize is 64"),
    ("host.json", "Request;Trace;", "Request;", "sampling would drop Trace"),
    ("azure.yaml", "-m infra.hooks.after_deploy", "-m infra.hooks.after_deployment", "after_deployment"),
    (".github/workflows/codeql.yml", "@5d4e8d1aca955e8d8589aabd499c5cae939e33c7 # v4.31.9", "@v4", "is not pinned to a commit"),
    (".github/workflows/deploy.yml", "permissions:\n  contents: read\n", "permissions: write-all\n", "not the least"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "right", "wrong", "said"), MISTAKES, ids=[said for *_, said in MISTAKES])
def test_a_mistake_is_seen(file: str, right: str, wrong: str, said: str, tmp_path: Path) -> None:
    for name in ("infra", ".github"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("host.json", "azure.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / file).write_text(text.replace(right, wrong), encoding="utf-8")
    assert any(said in fault for fault in faults(tmp_path))


# -- the pieces fit -----------------------------------------------------------------------------------------------------------------------


def test_what_was_not_stored_or_not_fetched_is_never_taken_for_the_secret() -> None:
    placeholder = modules(ROOT)["vault"]["placeholder"].value
    reference = "@Microsoft.KeyVault(SecretUri=https://kv-cosell.vault.azure.net/secrets/salesforce-push-secret)"
    for secret in ("SALESFORCE_PRIVATE_KEY", "SALESFORCE_CLIENT_SECRET", "SALESFORCE_PUSH_SECRET"):
        Settings.refuse_wrong_values({secret: reference})  # the app starts, so that the doctor can say it
        settings, faults_of_reference = Settings.examined({secret: reference})
        assert not getattr(settings, READERS[secret][0])
        assert [fault for fault in faults_of_reference if fault.startswith(f"{secret} is a Key Vault reference")]
        assert not getattr(Settings.examined({secret: placeholder})[0], READERS[secret][0])

    answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"value": placeholder, "attributes": {"updated": 1}}))
    with httpx.Client(transport=answer) as client, pytest.raises(SignInFailed, match="cosell login partner-center"):
        KeyVaultRefreshToken(Settings(key_vault_uri="https://kv-cosell.vault.azure.net"), client, Clock(), lambda: "token").read()


def test_the_schedules_are_those_of_the_sample() -> None:
    sample, found = read_values(ROOT / "local.settings.sample.json"), settings_in_template(ROOT)
    for name in (name for name in sample if name.endswith("_SCHEDULE")):
        assert found[name] == f"moreSettings.?{name} ?? '{sample[name]}'"


def test_the_costs_are_reckoned_with_the_schedules_as_delivered() -> None:
    sample, began = read_values(ROOT / "local.settings.sample.json"), datetime(2026, 1, 1)
    timers = [re.sub(r"timer %(\w+)%.*", r"\1", trigger) for trigger in FUNCTIONS.values() if trigger.startswith("timer")]
    runs = 0
    for name in timers:
        span = timedelta(days=1) if name == "RECONCILE_SCHEDULE" else timedelta(hours=1)
        runs += len(list(croniter_range(began, began + span - timedelta(seconds=1), sample[name], second_at_beginning=True))) * (
            timedelta(days=30) // span
        )
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    assert f"= **{runs:,}**" in page
    rules = Counter(alert["every"] for alert in modules(ROOT)["alerts"]["alerts"].value)
    assert f"{rules['PT5M']} rules every 5 minutes, {rules['PT15M']} every 15, {rules['PT1H']} every hour" in page


def test_the_package_holds_the_app_and_nothing_else() -> None:
    files = [file.relative_to(ROOT).as_posix() for file in deployed_files()]
    assert {file.split("/")[0] for file in files} == {"function_app.py", "host.json", "mapping.toml", "requirements.txt", "shared"}
    assert sum((ROOT / file).stat().st_size for file in files) < 3_000_000


def test_every_value_of_the_environment_is_explained_and_reaches_the_pipeline() -> None:
    text = (ROOT / "infra/main.parameters.json").read_text(encoding="utf-8")
    names = set(re.findall(r"\$\{(\w+)\}", text))
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
    flow = yaml.safe_load((ROOT / ".github/workflows/deploy-environment.yml").read_text(encoding="utf-8"))
    # A person gives these two by hand, on the rare day they are needed.
    assert names - flow["jobs"]["deploy"]["env"].keys() == {"OPERATOR_IP_ADDRESS", "RECOVER_VAULT"}


def test_the_page_of_alerts_lists_what_the_connector_logs() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = page.split("\n## What the connector says every minute\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == told()


def test_the_tests_of_customers_run_on_every_python_that_is_promised() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    assert flow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


# What azure-functions-doctor warns of, and why it may: Azure's build makes the libraries for its own system; app.bicep sets the
# connection string.
WARNED = {"Native dependency risk", "Application Insights configuration"}


def test_the_functions_doctor_finds_no_fault(tmp_path: Path) -> None:
    for file in [*deployed_files(), *(ROOT / "infra").rglob("*.bicep"), ROOT / ".funcignore", ROOT / ".python-version"]:
        copied = tmp_path / "app" / file.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copied)
    report = tmp_path / "report.json"
    command = [sys.executable, "-c", "from azure_functions_doctor.cli import main; main()", "doctor", "--path", ".", "--profile", "deploy"]
    done = subprocess.run(
        [*command, "--format", "json", "--output", str(report)], cwd=tmp_path / "app", capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    items = [item for section in json.loads(report.read_text(encoding="utf-8"))["results"] for item in section["items"]]
    assert len([item for item in items if item["status"] == "pass"]) > 15
    assert {item["label"] for item in items if item["status"] not in ("pass", "skip")} <= WARNED


# -- the hooks ----------------------------------------------------------------------------------------------------------------------------

COMPLETE = {
    "AZURE_ENV_NAME": "staging",
    "PARTNER_CENTER_TENANT_ID": "7d23e5ca-19dc-4eaa-aac8-5e6b559f0d1d",
    "PARTNER_CENTER_CLIENT_ID": "b5a1c3de-0f5e-4c36-9e0b-6d2f3f0a1c11",
    "SALESFORCE_LOGIN_URL": "https://contoso.my.salesforce.com",
    "SALESFORCE_CLIENT_ID": "consumer-key",
    "SALESFORCE_USERNAME": "integration@contoso.example",
    "ALERT_EMAIL": "operators@contoso.example",
}
OUTPUTS = {
    "AZURE_RESOURCE_GROUP": "rg-cosell-staging",
    "FUNCTION_APP_NAME": "func-cosell-staging",
    "FUNCTION_APP_ID": "/subscriptions/0/resourceGroups/rg-cosell-staging/providers/Microsoft.Web/sites/func-cosell-staging",
    "IDENTITY_PRINCIPAL_ID": "11111111-2222-3333-4444-555555555555",
    "KEY_VAULT_NAME": "kv-cosell",
    "KEY_VAULT_URI": "https://kv-cosell.vault.azure.net/",
    "SALESFORCE_SECRET": "salesforce-private-key",
    "SALESFORCE_PUSH": "true",
    "SYNC_MODE": "live",
}
KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----"


class Az:
    """Stands for the Azure CLI: a vault, an Entra app, and what was asked of them."""

    def __init__(self) -> None:
        self.tenant = COMPLETE["PARTNER_CENTER_TENANT_ID"]
        self.secrets = dict.fromkeys((SECRET_NAME, "salesforce-private-key", "salesforce-push-secret"), "<not stored yet>")
        self.credentials: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.refuses: dict[str, str] = {}
        self.arrives_after = 0

    def __call__(self, *arguments: str, timeout: float = 120) -> str:
        line = " ".join(arguments)
        self.asked.append(line)
        for start, reason in self.refuses.items():
            if line.startswith(start):
                raise azure_cli.AzFailed(reason)
        options = dict(pairwise(arguments))
        match arguments[:3]:
            case ("account", "show", _):
                return self.tenant
            case ("keyvault", "secret", "show"):
                if self.arrives_after:
                    self.arrives_after -= 1
                    raise azure_cli.AzFailed("(Forbidden) Caller is not authorized to perform action on resource.")
                return self.secrets[options["--name"]]
            case ("keyvault", "secret", "set"):
                self.secrets[options["--name"]] = Path(options["--file"]).read_text(encoding="utf-8")
            case ("ad", "app", "federated-credential"):
                if arguments[3] == "list":
                    return json.dumps(self.credentials)
                self.credentials.append(json.loads(options["--parameters"]))
            case ("functionapp", "keys", "list"):
                return "function-key"
        return ""


@pytest.fixture
def az(monkeypatch: pytest.MonkeyPatch) -> Az:
    stand_in = Az()
    for hook in (before_provision, after_provision, after_deploy):
        monkeypatch.setattr(hook, "az", stand_in)
    for hook in (after_provision, after_deploy):
        monkeypatch.setattr(hook.time, "sleep", lambda seconds: None)
    for name, value in (COMPLETE | OUTPUTS).items():
        monkeypatch.setenv(name, value)
    return stand_in


def test_before_anything_is_made_every_missing_value_is_named_at_once(az: Az, monkeypatch: pytest.MonkeyPatch) -> None:
    before_provision.check()
    for name in COMPLETE:
        monkeypatch.delenv(name)
    named = {fault.split()[0] for fault in before_provision.faults()}
    assert named == COMPLETE.keys() - {"AZURE_ENV_NAME"}
    with pytest.raises(azure_cli.Stop, match="azd env set ALERT_EMAIL"):
        before_provision.check()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("PARTNER_CENTER_TENANT_ID", "contoso.onmicrosoft.com"),
        ("SALESFORCE_LOGIN_URL", "http://contoso.my.salesforce.com"),
        ("SALESFORCE_SIGN_IN", "password"),
        ("SALESFORCE_PRIVATE_KEY_FILE", "absent.pem"),
        ("ALERT_EMAIL", "operators"),
    ],
)
def test_a_value_that_cannot_be_right_is_named(az: Az, monkeypatch: pytest.MonkeyPatch, name: str, wrong: str) -> None:
    monkeypatch.setenv(name, wrong)
    assert [fault for fault in before_provision.faults() if fault.startswith(f"{name} is wrong: azd env set {name} ")]


def test_a_subscription_of_another_tenant_is_refused_before_anything_is_made(az: Az) -> None:
    az.tenant = "99999999-19dc-4eaa-aac8-5e6b559f0d1d"
    with pytest.raises(azure_cli.Stop, match="Deploy to a subscription of the partner tenant"):
        before_provision.check()
    az.refuses["account"] = "Please run 'az login' to setup account."
    with pytest.raises(azure_cli.Stop, match="az login --tenant"):
        before_provision.check()


def test_secrets_are_stored_once_and_never_printed(
    az: Az, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_text(KEY + "\n", encoding="utf-8")
    monkeypatch.setenv("SALESFORCE_PRIVATE_KEY_FILE", str(tmp_path / "key.pem"))
    az.arrives_after = 3  # the role was given a moment ago
    after_provision.prepare()
    assert az.secrets["salesforce-private-key"] == KEY
    push = az.secrets["salesforce-push-secret"]
    assert len(push) > 40
    assert az.secrets[SECRET_NAME] == "<not stored yet>"
    assert [one["subject"] for one in az.credentials] == [OUTPUTS["IDENTITY_PRINCIPAL_ID"]]
    assert any("configreferences/appsettings/refresh" in line for line in az.asked)
    printed = capsys.readouterr().out + " ".join(az.asked)
    assert "MIIB" not in printed
    assert push not in printed

    az.asked.clear()
    after_provision.prepare()
    assert not [line for line in az.asked if " set " in line or " create " in line or "refresh" in line], "a second time nothing changes"
    assert az.secrets["salesforce-push-secret"] == push


def test_a_missing_key_is_told_and_a_pipeline_without_rights_goes_on(
    az: Az, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after_provision.prepare()
    assert "azd env set SALESFORCE_PRIVATE_KEY_FILE PATH" in capsys.readouterr().out
    az.refuses["keyvault"] = "(Forbidden) Caller is not authorized to perform action on resource."
    monkeypatch.setenv("AZURE_PRINCIPAL_TYPE", "Group")
    az.asked.clear()
    after_provision.prepare()
    assert "could not be looked at" in capsys.readouterr().out
    assert len([line for line in az.asked if line.startswith("keyvault")]) == 2, "it does not wait for rights that will not come"


def test_an_identity_the_entra_app_does_not_trust_stops_with_the_command_for_an_administrator(
    az: Az, monkeypatch: pytest.MonkeyPatch
) -> None:
    az.refuses["ad app"] = "Insufficient privileges to complete the operation."
    with pytest.raises(
        azure_cli.Stop, match=r"(?s)az ad app federated-credential create.*api://AzureADTokenExchange.*azd env set FEDERATION_DONE"
    ):
        after_provision.prepare()
    monkeypatch.setenv("FEDERATION_DONE", "true")
    after_provision.prepare()


def test_the_left_over_trust_of_a_removed_identity_is_replaced(az: Az) -> None:
    az.credentials = [{"name": "cosell-staging", "subject": "gone", "issuer": "x"}]
    after_provision.prepare()
    assert [line for line in az.asked if "federated-credential update --federated-credential-id cosell-staging" in line]


class App(BaseHTTPRequestHandler):
    """Stands for the deployed functions."""

    answers: ClassVar[dict[str, tuple[int, Any]]]
    asked: ClassVar[list[tuple[str, str, str, str]]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.asked.append((self.command, self.path, self.headers.get("x-functions-key", ""), body))
        status, body = self.answers.get(self.path, (404, None))
        content = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def app(az: Az, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[App]]:
    App.asked = []
    App.answers = {
        "/api/health": (200, {"status": "ok"}),
        "/api/webhook-registration": (200, {"action": "create", "why": ""}),
        "/api/doctor": (200, {"state": "green", "checks": [{"name": "storage", "state": "green", "finding": "fine"}]}),
    }
    server = HTTPServer(("127.0.0.1", 0), App)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("FUNCTION_APP_URL", f"http://127.0.0.1:{server.server_port}")
    az.secrets[SECRET_NAME] = "0.AXYA-token"
    yield App
    server.shutdown()
    server.server_close()


def test_after_the_deployment_the_webhook_is_registered_and_the_doctor_looks(app: type[App], capsys: pytest.CaptureFixture[str]) -> None:
    after_deploy.finish()
    assert app.asked == [
        ("GET", "/api/health", "", ""),
        ("POST", "/api/webhook-registration", "function-key", '{"overwrite": false, "validate": true}'),
        ("GET", "/api/doctor", "function-key", ""),
    ]
    printed = capsys.readouterr().out
    assert "all is well" in printed
    assert "function-key" not in printed


def test_without_a_first_sign_in_the_command_is_told_and_nothing_else_is_done(
    az: Az, app: type[App], capsys: pytest.CaptureFixture[str]
) -> None:
    az.secrets[SECRET_NAME] = "<not stored yet>"
    after_deploy.finish()
    assert "python -m cosell login partner-center --key-vault https://kv-cosell.vault.azure.net/" in capsys.readouterr().out
    assert [path for _, path, *_ in app.asked] == ["/api/health"]


def test_in_shadow_mode_nothing_is_registered(app: type[App], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_MODE", "shadow")
    after_deploy.finish()
    assert "/api/webhook-registration" not in [path for _, path, *_ in app.asked]


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/api/health", (404, None), "has no functions"),
        ("/api/webhook-registration", (503, {"error": "Partner Center cannot be reached"}), "Partner Center cannot be reached"),
        ("/api/doctor", (404, None), "the doctor did not answer"),
        (
            "/api/doctor",
            (200, {"checks": [{"name": "Key Vault", "state": "red", "finding": "HTTP 403", "remedy": "give it"}]}),
            "something red",
        ),
    ],
)
def test_what_is_not_well_ends_the_deployment(
    app: type[App], monkeypatch: pytest.MonkeyPatch, path: str, answer: tuple[int, Any], said: str
) -> None:
    monkeypatch.setattr(after_deploy, "ANSWERS_WITHIN_SECONDS", 0)
    app.answers = app.answers | {path: answer}
    with pytest.raises(azure_cli.Stop, match=said):
        after_deploy.finish()


def test_before_anything_is_provisioned_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUNCTION_APP_URL", raising=False)
    with pytest.raises(azure_cli.Stop, match="nothing is provisioned yet"):
        after_deploy.finish()


def test_another_systems_registration_is_left_alone_and_told(app: type[App], capsys: pytest.CaptureFixture[str]) -> None:
    app.answers = app.answers | {"/api/webhook-registration": (200, {"action": "refused"})}
    after_deploy.finish()
    assert "Another system is registered" in capsys.readouterr().out


def test_the_functions_that_the_hooks_call_exist() -> None:
    called = set(re.findall(r'"/api/([\w-]+)"', (ROOT / "infra/hooks/after_deploy.py").read_text(encoding="utf-8")))
    routes = {trigger.split(" ")[1].rstrip(",") for trigger in FUNCTIONS.values() if trigger.startswith(("GET", "POST"))}
    assert called <= routes


@pytest.mark.parametrize("hook", ["before_provision", "after_provision"])
def test_a_hook_runs_as_azd_runs_it_and_says_why_it_stops(hook: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"infra.hooks.{hook}"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)} | COMPLETE | OUTPUTS,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "STOPPED: the Azure CLI is not on the PATH" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_az_is_called_by_its_path_with_a_time_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "az"
    program.write_text(
        '#!/bin/sh\n[ "$1" = fail ] && { echo "not allowed" >&2; exit 3; }\n[ "$1" = hang ] && exec /bin/sleep 30\necho " $* "\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert azure_cli.az("account", "show it") == "account show it"
    with pytest.raises(azure_cli.AzFailed, match="not allowed"):
        azure_cli.az("fail")
    with pytest.raises(azure_cli.AzFailed, match="no answer within"):
        azure_cli.az("hang", timeout=0.2)
