"""The audit of the locked packages: a finding fails, and nothing found is told apart from nobody asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devhost import audit

CLEAN = {"name": "contoso", "version": "1.0", "vulns": []}
FAULTY = {"name": "fabrikam", "version": "0.9", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["1.0", "1.1"]}]}
SKIPPED = {"name": "northwind", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def answer(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("out", "err", "outcome", "words"),
    [
        (answer(CLEAN), "", audit.FINE, "no known vulnerability in 1 packages"),
        (answer(CLEAN, FAULTY), "", audit.FOUND, "fabrikam 0.9: PYSEC-2026-1, mended in 1.0, 1.1"),
        (answer(FAULTY, SKIPPED), "", audit.FOUND, "1 known vulnerabilities"),
        (answer(CLEAN, SKIPPED), "", audit.NOT_CHECKED, "1 of 2 packages NOT checked"),
        ("", "requests.exceptions.ConnectionError: …", audit.NOT_CHECKED, "cannot be reached"),
        ("", "timed out", audit.NOT_CHECKED, "cannot be reached"),
        ("", "ERROR: requirements.txt does not contain hashes", audit.BROKEN, "does not contain hashes"),
        ("", "", audit.BROKEN, "no word"),
    ],
)
def test_what_the_tool_answered_is_judged(out: str, err: str, outcome: int, words: str) -> None:
    found, told = audit.judged(out, err)
    assert found == outcome
    assert words in told


@pytest.mark.parametrize(("arguments", "code"), [([], audit.FINE), (["--strict"], audit.NOT_CHECKED)])
def test_without_the_tool_it_says_so(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "installed", lambda _: False)
    assert audit.main(arguments) == code
    assert "NOT checked" in capsys.readouterr().out


def test_a_finding_fails_whether_strict_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([answer(FAULTY), answer(CLEAN)] * 2)
    monkeypatch.setattr(audit, "installed", lambda _: True)
    monkeypatch.setattr(audit, "run", lambda command: audit.subprocess.CompletedProcess(command, 1, next(answers), ""))
    assert [audit.main([]), audit.main(["--strict"])] == [audit.FOUND, audit.FOUND]
