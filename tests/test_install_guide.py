"""The installation guide can be followed: what it tells an administrator to run, to name or to look for is there."""

from __future__ import annotations

import html
import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest

from cosell.app import main
from tests.seller_page import page

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "salesforce"
GUIDE = (ROOT / "docs" / "install-salesforce.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL))
LINES = [line.strip() for line in GUIDE.splitlines() if line.startswith("    ")]
COMMANDS = [shlex.split(one) for one in [*LINES, *SPANS] if one.startswith(("sf ", "python -m cosell"))]
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*") if path.is_file()}
PATHS = {"--source-dir", "--manifest", "--post-destructive-changes", "--plan", "--file", "--definition-file"}


def values(command: list[str], *options: str) -> list[str]:
    return [command[place + 1] for place, word in enumerate(command) if word in options]


def test_every_file_and_directory_of_the_package_that_is_named_is_there() -> None:
    named = {value for command in COMMANDS if command[0] == "sf" for value in values(command, *PATHS)}
    tops = {path.name for path in PACKAGE.iterdir()}
    named |= {span for span in SPANS if span.split("/")[0] in tops}
    assert {"force-app", "manifest/nothing.xml", "data/fy26/plan.json"} <= named
    assert [name for name in named if not (PACKAGE / name).exists()] == []


def test_every_directory_of_the_package_is_explained() -> None:
    listed = json.loads((PACKAGE / "sfdx-project.json").read_text(encoding="utf-8"))["packageDirectories"]
    assert {one["path"] for one in listed} - set(SPANS) - {
        value for command in COMMANDS for value in values(command, "--source-dir")
    } == set()


def test_what_a_directory_takes_from_the_environment_is_set_before_it_is_deployed() -> None:
    replaced = json.loads((PACKAGE / "sfdx-project.json").read_text(encoding="utf-8"))["replacements"]
    known: set[str] = set()
    deployed = set()
    for line in LINES:
        known |= set(re.findall(r"export (\w+)=", line))
        for directory in values(shlex.split(line), "--source-dir") if line.startswith("sf project deploy") else []:
            files = [name for name in FILES if name.startswith(f"{directory}/")]
            needed = {one["replaceWithEnv"] for one in replaced if any(fnmatch(name, one["glob"]) for name in files)}
            assert needed <= known, directory
            deployed |= needed
    assert deployed == {one["replaceWithEnv"] for one in replaced}


def test_permission_sets_and_api_names_are_of_the_package() -> None:
    sets = {path.name.partition(".")[0] for path in PACKAGE.rglob("*.permissionset-meta.xml")}
    assigned = {name for command in COMMANDS if command[:4] == ["sf", "org", "assign", "permset"] for name in values(command, "--name")}
    assert {"Co_sell_Seller", "Co_sell_Integration", "Co_sell_Catalogue"} == assigned <= sets
    own = {path.name.partition(".")[0] for path in (PACKAGE / "force-app").rglob("objects/*/*")}
    own |= {path.name.partition(".")[0] for path in (PACKAGE / "force-app").rglob("*.field-meta.xml")} | {"Opportunity"}
    used = {part for name in re.findall(r"\b[A-Za-z_.]+__c\b", GUIDE) for part in name.split(".")}
    assert used
    assert used - own == set()


def test_every_label_stands_in_the_package() -> None:
    """Words like *these* are labels as the org shows them."""
    text = html.unescape("\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.xml")))
    labels = set(re.findall(r"<(?:label|masterLabel|name|pluralLabel|relationshipLabel|fullName)>([^<]+)<", text))
    prose = re.sub(r"```.*?```|`[^`\n]*`|\*\*.*?\*\*", " ", GUIDE, flags=re.DOTALL)
    named = {" ".join(one.split()) for one in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", prose)} - {"words like these"}
    assert len(named) > 30
    assert named - labels == set()


def test_every_command_of_the_connector_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    ours = [command[3:] for command in COMMANDS if command[0] == "python"]
    assert len(ours) > 5
    for words in ours:
        names = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
        assert main([*names, "--help"]) == 0, words
        told = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in told] == [], words


def test_the_example_of_a_mapping_has_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL)
    overlay = tmp_path / "mine.toml"
    overlay.write_text(example, encoding="utf-8")
    assert (main(["mapping", "check", str(overlay), "--offline"]), capsys.readouterr().out) == (0, "no faults\n")


def test_every_setting_is_one() -> None:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    named = {
        name
        for name in re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", GUIDE)
        if name.startswith(("SALESFORCE_", "PARTNER_", "SOLUTIONS_", "MAPPING_"))
    }
    assert named - set(sample) - {"SALESFORCE_PUSH", "SALESFORCE_PRIVATE_KEY_FILE"} == set()


def test_every_section_it_sends_a_reader_to_is_there() -> None:
    lost = []
    for page_, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", GUIDE):
        text = (ROOT / "docs" / page_).read_text(encoding="utf-8") if page_ else GUIDE
        headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        lost += [] if anchor in slugs else [f"{page_}#{anchor}"]
    assert lost == []


def test_the_sellers_page_is_drawn_with_the_values_of_deals() -> None:
    drawn = page()
    for words in (
        "Microsoft Partner Center",
        "✓ Fabrikam data estate",
        "✔ in agreement",
        "✗ needs attention",
        "Solution ID is required",
        "Sync now",
    ):
        assert words in drawn
    assert "Accept from Microsoft" not in drawn, "nothing is on hold"
