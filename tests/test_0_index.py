"""The app as Azure would index it: nothing else matters while this fails, so it runs first."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLE: dict[str, str] = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
DESCRIBE = "import json, pathlib; from devhost.worker import describe_functions as d; print(json.dumps(d(pathlib.Path('.'))))"

# Names, routes and answers are contracts: somebody's firewall, registration or alert names them.
EXPECTED = {
    "partner_center_webhook_registration": "POST webhook-registration, function",
    "partner_center_to_salesforce": "POST partner-center-to-salesforce, anonymous",
    "salesforce_opportunity_to_partner_center": "timer %SALESFORCE_POLL_SCHEDULE%",
    "salesforce_solutions_to_partner_center": "timer %SOLUTIONS_POLL_SCHEDULE%",
    "salesforce_leads_to_partner_center": "timer %SALESFORCE_POLL_SCHEDULE%",
    "synchronize_deal": "queue synchronize-deal in AzureWebJobsStorage",
    "salesforce_changes": "POST salesforce-changes, anonymous",
    "partner_center_catch_up": "timer %PARTNER_CENTER_POLL_SCHEDULE%",
    "resume_owed_work": "timer %RESUME_SCHEDULE%",
    "reconcile": "timer %RECONCILE_SCHEDULE%",
    "health": "GET health, anonymous",
    "status": "GET status, function",
    "doctor": "GET doctor, function",
}


def index(**settings: str) -> subprocess.CompletedProcess[str]:
    """Indexes the app in a process that knows the sample's settings, these on top, and nothing else of the connector."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")}
    return subprocess.run(
        [sys.executable, "-c", DESCRIBE], cwd=ROOT, env=environment | SAMPLE | settings, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def functions() -> dict[str, dict[str, dict[str, Any]]]:
    """{function: {parameter: binding}}."""
    done = index()
    assert done.returncode == 0, done.stderr
    indexed: dict[str, dict[str, dict[str, Any]]] = json.loads(done.stdout)
    return indexed


def trigger_of(bindings: dict[str, dict[str, Any]]) -> str:
    trigger = next(one for one in bindings.values() if one["type"].lower().endswith("trigger"))
    match trigger["type"]:
        case "httpTrigger":
            return f"{','.join(map(str.upper, trigger['methods']))} {trigger['route']}, {trigger['authLevel'].lower()}"
        case "timerTrigger":
            # A run on startup would poll at every deployment and every new instance.
            return f"timer {trigger['schedule']}" + (", on startup" if trigger.get("runOnStartup") else "")
        case "queueTrigger":
            return f"queue {trigger['queueName']} in {trigger['connection']}"
    return f"unexpected {trigger['type']}"


def test_the_app_has_exactly_its_functions_with_their_triggers(functions: dict[str, dict[str, dict[str, Any]]]) -> None:
    assert {name: trigger_of(bindings) for name, bindings in functions.items()} == EXPECTED


def test_every_setting_a_binding_names_is_in_the_sample(functions: dict[str, dict[str, dict[str, Any]]]) -> None:
    bindings = [binding for one in functions.values() for binding in one.values()]
    named = set(re.findall(r"%([^%]+)%", json.dumps(bindings))) | {str(one["connection"]) for one in bindings if one.get("connection")}
    assert "AzureWebJobsStorage" in named, "the search for names finds nothing any more"
    assert sorted(name for name in named if not SAMPLE.get(name)) == []


def test_wrong_settings_stop_the_start_with_every_name_and_the_remedy() -> None:
    done = index(SYNC_MODE="rehearsal", LEASE_SECONDS="a while")
    assert done.returncode != 0
    assert "SYNC_MODE must be live or shadow" in done.stderr
    assert "LEASE_SECONDS must be a number of seconds from 1 to 3600" in done.stderr
