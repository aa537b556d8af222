"""`cosell doctor` from a terminal: here against the settings, there against the deployed app, told the same way, with exit codes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cosell.app import main
from shared.doctor_report import Check, Report
from simulator.salesforce import Org
from simulator.server import serve
from simulator.simulator import Simulator

KEY = "the-key-of-the-app"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nobody set anything of ours."""
    for name in [name for name in os.environ if name.startswith(("COSELL_", "SALESFORCE_", "AzureWebJobs", "SSL_", "REQ"))]:
        monkeypatch.delenv(name)


def run(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(["doctor", *argv], None, out, err)
    return code, out.getvalue(), err.getvalue()


@contextmanager
def settings_of(simulator: Simulator, tmp_path: Path, *without: str) -> Iterator[str]:
    """A settings file that knows Salesforce and nothing else, while the simulator is served."""
    with serve(simulator, deliver=False) as vendors:
        values = {
            name: value for name, value in vendors.environment(private_key=True).items() if name.startswith(("SALESFORCE_", "SSL_", "REQ"))
        }
        path = tmp_path / "salesforce.settings.json"
        path.write_text(json.dumps({"Values": {name: value for name, value in values.items() if name not in without}}), encoding="utf-8")
        yield str(path)


def test_a_sound_org_is_told_with_the_settings_of_salesforce_alone(tmp_path: Path) -> None:
    with settings_of(Simulator(), tmp_path) as path:
        code, out, err = run("salesforce", "--settings", path)
    assert (code, err) == (0, "examining …\n")
    lines = out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")][:2] == ["connector", "Salesforce"]
    assert "red" not in out.split()
    assert lines[-1] == "17 green, 1 not checked"


def test_a_missing_field_is_named_with_the_remedy_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with settings_of(Simulator(org=Org(hidden_fields=frozenset({"Opportunity.Audit__c"}))), tmp_path) as path:
        code, out, _ = run("salesforce", "--settings", path)
        machine_code, document, _ = run("salesforce", "--settings", path, "--json")
    (at,) = (number for number, line in enumerate(out.splitlines()) if "Audit__c" in line)
    row, remedy, who = (line.strip() for line in out.splitlines()[at : at + 3])
    assert row.startswith("red          fields")
    assert remedy == "remedy: create it, or let the integration user's permission set see it"
    assert who == "by: a Salesforce administrator"
    found = json.loads(document)
    assert (code, machine_code, found["state"]) == (1, 1, "red")
    (told,) = (one for one in found["checks"] if one["state"] == "red")
    assert {"area", "name", "state", "finding", "remedy", "who"} == set(told)


def test_amber_is_found_only_when_asked_to_be_strict(tmp_path: Path) -> None:
    with settings_of(Simulator(org=Org(team_selling=False)), tmp_path) as path:
        assert run("salesforce", "--settings", path)[0] == 0
        assert run("salesforce", "--settings", path, "--strict")[0] == 1


def test_a_setting_that_is_missing_is_the_finding_and_not_the_end(tmp_path: Path) -> None:
    with settings_of(Simulator(), tmp_path, "SALESFORCE_PRIVATE_KEY") as path:
        code, out, _ = run("salesforce", "--settings", path, "--json")
    checks = json.loads(out)["checks"]
    assert code == 1
    assert ["SALESFORCE_PRIVATE_KEY is not set" in one["finding"] for one in checks if one["state"] == "red"] == [True]
    assert {one["state"] for one in checks if one["area"] == "Salesforce"} == {"not checked"}


def test_what_one_missing_setting_prevents_is_told_in_one_line() -> None:
    code, out, err = run("salesforce")
    assert code == 1
    assert "--settings FILE" in err
    assert len([line for line in out.splitlines() if line.startswith("  not checked  ")]) == 2
    assert "nor are clock, sign-in, org, API version, objects, fields, permissions, stages" in out


def test_a_settings_file_that_is_not_there_is_trouble(tmp_path: Path) -> None:
    code, _, err = run("--settings", str(tmp_path / "none.json"))
    assert (code, "cannot be read" in err) == (2, True)


# -- asking the deployed app ------------------------------------------------------------------------------------------------------------

REPORT = Report(
    (
        ("connector", Check("settings", "green", "every setting is there")),
        ("Partner Center", Check("registration", "amber", "an event is missing", "register", "whoever runs the connector")),
    )
)


class App:
    """An app that answers as told and keeps what it was asked."""

    def __init__(self, status: int = 200, body: bytes | None = None) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                app.asked.append((parts.path, parse_qs(parts.query), self.headers.get("x-functions-key")))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(REPORT.document()).encode() if body is None else body)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> App:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_deployed_app_is_asked_and_told_as_if_it_were_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with App() as app:
        code, out, err = run("salesforce", "--app-url", f"{app.url}/", "--key", KEY, "--test-event")
        monkeypatch.setenv("COSELL_APP_URL", app.url)
        monkeypatch.setenv("COSELL_APP_KEY", KEY)
        strict, document, _ = run("--json", "--strict")
    assert app.asked == [("/api/doctor", {"test_event": ["true"], "only": ["salesforce"]}, KEY), ("/api/doctor", {}, KEY)]
    assert (code, strict) == (0, 1)
    assert "amber        registration  an event is missing" in out
    assert out.splitlines()[-1] == "1 green, 1 amber"
    assert Report.read(json.loads(document)) == REPORT
    assert KEY not in out + err


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "refuses the key"),
        (404, b"", "run the doctor here"),
        (503, b"", "cannot start"),
        (200, b"<html>", "is it this connector's app?"),
    ],
)
def test_an_app_that_gives_no_report_is_trouble_with_a_hint(status: int, body: bytes, words: str) -> None:
    with App(status, body) as app:
        code, _, err = run("--app-url", app.url, "--key", KEY)
    assert (code, words in err) == (2, True), err
    assert KEY not in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--app-url", "http://contoso.example", "--key", KEY), "must begin with https://"),
        (("--app-url", "https://contoso.example"), "COSELL_APP_KEY"),
        (("--app-url", "http://127.0.0.1:9", "--key", KEY), "does not answer"),
        (("partner-center",), "invalid choice"),
    ],
    ids=["plain http", "no key", "nobody there", "another part"],
)
def test_wrong_usage_is_told_before_a_key_leaves(argv: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(*argv)
    assert code == 2
    assert words in err + capsys.readouterr().err
