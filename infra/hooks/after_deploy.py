"""After the code is there: asks for the first sign-in, registers the webhook, and lets the doctor look at everything."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from infra.hooks.after_provision import read
from infra.hooks.azure_cli import Stop, az, run, say, value

REFRESH_TOKEN = "partner-center-refresh-token"  # noqa: S105, its name
# A new version answers after its build and a cold start.
ANSWERS_WITHIN_SECONDS, PAUSE_SECONDS = 300, 10
CALL_SECONDS = 230  # the load balancer lets no answer take longer


def call(method: str, path: str, key: str = "", body: Any = None) -> tuple[int, Any]:
    """The status and the JSON of an answer; status 0 where there was none."""
    headers = {"Content-Type": "application/json", **({"x-functions-key": key} if key else {})}
    content = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(value("FUNCTION_APP_URL") + path, content, headers, method=method)  # noqa: S310, the template's output
    try:
        with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310
            return answer.status, _json(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _json(error.read())
    except OSError:
        return 0, None


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def wait_for_the_app() -> None:
    """Raises `Stop` when no function answers in time."""
    ends = time.monotonic() + ANSWERS_WITHIN_SECONDS
    while True:
        status, answer = call("GET", "/api/health")
        if isinstance(answer, dict) and "status" in answer:
            return  # 503 is an answer too: the doctor says why
        if time.monotonic() > ends:
            raise Stop(
                f"{value('FUNCTION_APP_URL')}/api/health does not answer (last: {status or 'nothing'}). 404 means that the app has no functions: "
                "it stops at its start when a setting or the mapping is wrong. The reason stands in the logs: AppTraces | order by TimeGenerated desc"
            )
        say("Waiting for the app to answer …")
        time.sleep(PAUSE_SECONDS)


def signed_in() -> bool:
    """Whether there is a refresh token; says what to run where there is none."""
    if read(REFRESH_TOKEN) != "":
        return True
    say(
        "\nNOT FINISHED. The first sign-in to Partner Center needs you, a browser and a user with the Referrals admin role:\n\n"
        f"  export PARTNER_CENTER_TENANT_ID={value('PARTNER_CENTER_TENANT_ID')} PARTNER_CENTER_CLIENT_ID={value('PARTNER_CENTER_CLIENT_ID')}\n"
        f"  python -m cosell login partner-center --key-vault {value('KEY_VAULT_URI')}\n\n"
        "Then let the rest be done:\n\n  azd hooks run postdeploy\n"
    )
    return False


def register(key: str) -> None:
    """Registers the app for Partner Center's events; another system's registration is never replaced."""
    if value("SYNC_MODE") == "shadow":
        say("Shadow mode: the webhook is not registered, and polls find the changes. `azd env set SYNC_MODE live && azd up` goes live.")
        return
    status, answer = call("POST", "/api/webhook-registration", key, {"overwrite": False, "validate": True})
    told = answer if isinstance(answer, dict) else {}
    if status != 200:
        raise Stop(f"the webhook was not registered (HTTP {status}): {told.get('error', 'no reason given')}")
    if told.get("action") == "refused":
        say(
            "! Another system is registered for Partner Center's events, so they do not come here; polls find the changes within minutes.\n"
            "  Look at it with `python -m cosell register`; add --overwrite --apply to take it over."
        )
        return
    trial = told.get("validation") or {}
    say(f"Webhook: {told.get('action', 'registered')}; the test event was {trial.get('status', 'not asked for')}: {trial.get('why', '')}")


def doctor(key: str) -> None:
    """Prints what is not well. Raises `Stop` when something is red."""
    status, report = call("GET", "/api/doctor", key)
    checks = report.get("checks") if isinstance(report, dict) else None
    if not isinstance(checks, list):
        raise Stop(f"the doctor did not answer (HTTP {status}): run `python -m cosell doctor --app-url {value('FUNCTION_APP_URL')}`")
    ill = [check for check in checks if check.get("state") in ("red", "amber")]
    for check in ill:
        say(f"{check['state'].upper():5}  {check.get('name', '')}: {check.get('finding', '')}\n       {check.get('remedy', '')}")
    if any(check["state"] == "red" for check in ill):
        raise Stop("the doctor found something red. When it is remedied: azd hooks run postdeploy")
    say(f"The doctor made {len(checks)} checks: {'all is well' if not ill else f'{len(ill)} worth a look'}.")


def finish() -> None:
    if not value("FUNCTION_APP_URL"):
        raise Stop(
            "nothing is provisioned yet, or the outputs of the template are not in the environment: azd hooks run postdeploy puts them there"
        )
    wait_for_the_app()
    if not signed_in():
        return
    key = az(
        "functionapp", "keys", "list", "--resource-group", value("AZURE_RESOURCE_GROUP"), "--name", value("FUNCTION_APP_NAME"),
        "--query", "functionKeys.default", "--output", "tsv",
    )  # fmt: skip
    register(key)
    doctor(key)


if __name__ == "__main__":
    run(finish)
