"""What sfdx-project.json says holds for the files: directories, one API version, and what is put in for each placeholder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.salesforce_package.tree import Finding, Package

PROJECT = "sfdx-project.json"
PLACEHOLDER = re.compile(r"replaced-by-\w+")


def findings(package: Package) -> Iterator[Finding]:
    version = str(package.project.get("sourceApiVersion", ""))
    if not re.fullmatch(r"\d\d\.0", version):
        yield Finding(PROJECT, "sourceApiVersion is missing")
    for component in package.components:
        for told in component.root.within("apiVersion"):
            if told.words != version:
                yield component.finding(f"apiVersion is {told.words}, and {PROJECT} says {version}")
    if package.project.get("namespace"):
        yield Finding(PROJECT, "the package has no namespace: its names are those of Microsoft's package")
    if len([one for one in package.project["packageDirectories"] if one.get("default")]) != 1:
        yield Finding(PROJECT, "exactly one package directory is the default")
    for directory in package.directories:
        if not (package.root / directory).is_dir():
            yield Finding(PROJECT, f"there is no directory {directory}")
    for path in sorted(package.root.glob("*/main")):
        if path.parent.name not in package.directories:
            yield Finding(PROJECT, f"{path.parent.name} is no package directory, so it is never deployed")
    yield from _placeholders(package)
    for path in sorted(package.root.glob("config/*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            yield Finding(path.relative_to(package.root).as_posix(), f"not JSON: {error}")


def _placeholders(package: Package) -> Iterator[Finding]:
    """Every placeholder is replaced on deploy, and every replacement finds one."""
    replaced: set[tuple[str, str]] = set()
    for one in package.project.get("replacements", []):
        found = sorted(package.root.glob(one.get("glob") or one.get("filename", "")))
        texts = {path.relative_to(package.root).as_posix(): path.read_text(encoding="utf-8") for path in found}
        holding = [path for path, text in texts.items() if one["stringToReplace"] in text]
        if not holding:
            yield Finding(PROJECT, f"nothing holds {one['stringToReplace']}, which {one.get('replaceWithEnv')} should replace")
        replaced |= {(path, name) for path in holding for name in PLACEHOLDER.findall(one["stringToReplace"])}
    for component in package.components:
        for name in sorted({name for leaf in component.root.leaves for name in PLACEHOLDER.findall(leaf.words)}):
            if (component.path, name) not in replaced:
                yield component.finding(f"no replacement in {PROJECT} puts anything in for {name}")
