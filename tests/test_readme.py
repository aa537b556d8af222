"""The README is complete and leads somewhere: settings, functions, targets and pages are those that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from devhost.settings import read_values
from shared import VERSION, reporting
from shared.settings import HOST_SETTINGS, READERS
from tests.deals import DealWorld
from tests.test_0_index import EXPECTED

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SAMPLE = read_values(ROOT / "local.settings.sample.json")


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """The rows of the table under a heading, by the name in their first column."""
    section = README.split(f"\n### {heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("` "): row[1:] for row in rows}


def test_every_setting_is_explained_once_and_in_the_order_of_the_sample() -> None:
    settings = table("Settings")
    assert list(settings) == list(SAMPLE)
    assert [name for name, (meaning, *_) in settings.items() if not meaning] == []


def test_the_sample_holds_exactly_what_the_app_and_its_host_read() -> None:
    assert sorted(SAMPLE) == sorted([*READERS, *HOST_SETTINGS])


def test_every_function_is_listed_with_its_trigger() -> None:
    functions = table("Functions")
    assert sorted(functions) == sorted(EXPECTED)
    for name, trigger in EXPECTED.items():
        kind, where, *_ = trigger.replace("%", "").split(",")[0].split(" ")
        written = functions[name][0]
        assert f"{kind} /api/{where}" in written if kind in ("GET", "POST") else written == f"{kind} `{where}`"
        assert ("function key" in written) == trigger.endswith(", function")


def test_every_link_leads_to_a_page_of_the_repository() -> None:
    pages = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert pages
    assert [page for page in pages if not (ROOT / page).exists()] == []


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", README))
    assert {"demo", "test"} <= named <= targets


def test_the_version_that_status_tells_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert reporting.status(DealWorld().world)["version"] == VERSION == project["version"]
