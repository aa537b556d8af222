"""Salesforce's own library turns the package into what a deploy sends, nothing gets lost, and the manifests are what it finds."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from devhost.azurite import node
from tests.salesforce_package.tree import Element, Finding, Package

SECONDS = 60
Members = set[tuple[str, str]]


def findings(package: Package) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        converted = convert(package, Path(folder))
        for directory, found in converted.items():
            if "refused" in found:
                yield Finding(directory, str(found["refused"]))
                continue
            yield from _files(package, directory, found["files"])
            members = named_in(Element(etree.fromstring(found["manifest"].encode())))
            yield from lost(package, directory, members, Path(found["folder"]))
    yield from _manifests(package, {name: str(found.get("manifest", "")) for name, found in converted.items()})


def convert(package: Package, output: Path) -> dict[str, Any]:
    """What the library says of each package directory, and the converted files below `output`."""
    asked = {
        "root": str(package.root.resolve()),
        "output": str(output),
        "version": package.project["sourceApiVersion"],
        "directories": package.directories,
    }
    quiet = {**os.environ, "HOME": str(output), "SF_DISABLE_LOG_FILE": "true", "SF_DISABLE_TELEMETRY": "true"}
    command = [str(node()), str(Path(__file__).with_name("convert.cjs"))]
    done = subprocess.run(command, input=json.dumps(asked), env=quiet, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"the converter failed: {done.stderr[-2000:]}")
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def write_manifests(package: Package) -> list[Path]:
    """Write the manifest of every package directory; see `manifest_of`."""
    with tempfile.TemporaryDirectory() as folder:
        converted = convert(package, Path(folder))
    written = []
    for directory, found in converted.items():
        path = manifest_of(package, directory)
        path.parent.mkdir(exist_ok=True)
        path.write_text(found["manifest"], encoding="utf-8")
        written.append(path)
    return written


def manifest_of(package: Package, directory: str) -> Path:
    """The default directory has package.xml; another one a manifest of its own name."""
    name = "package" if directory == package.default_directory else directory.replace("/", "-")
    return package.root / "manifest" / f"{name}.xml"


def _files(package: Package, directory: str, known: list[str]) -> Iterator[Finding]:
    root = package.root.resolve()
    seen = {Path(path).resolve().relative_to(root).as_posix() for path in known}
    for path in package.files:
        shown = path.relative_to(package.root).as_posix()
        if shown.startswith(f"{directory}/") and shown not in seen and path.suffix != ".md":
            yield Finding(shown, "the converter passes it by: wrong folder or name, or its -meta.xml is missing")


def lost(package: Package, directory: str, members: Members, folder: Path) -> Iterator[Finding]:
    """Every component of the directory is in the manifest, and in the converted files with as many elements as it had."""
    converted = [Element(etree.parse(path).getroot()) for path in folder.rglob("*") if path.is_file() and _is_xml(path)]
    sizes = {_size(element) for root in converted for element in (root, *root)}
    for component in package.components:
        if component.directory != directory:
            continue
        kind = component.type.removesuffix("Folder")
        name = component.name if kind == component.type else f"{component.name}/"
        if kind != "Workflow" and (kind, name) not in members:  # a workflow has no entry of its own, its parts do
            yield component.finding(f"{kind} {component.name} is lost in the conversion")
        if kind in ("CustomField", "ListView", "CompactLayout", "ValidationRule") and _size(component.root) not in sizes:
            yield component.finding("the conversion changed it")


def _is_xml(path: Path) -> bool:
    return path.read_bytes()[:5] == b"<?xml"


def _size(element: Element) -> tuple[str, int, str]:
    return element.text("fullName"), len(element.leaves), "".join(sorted(leaf.words for leaf in element.leaves))


def named_in(root: Element) -> Members:
    """Type and full name of everything a manifest names."""
    return {(types.text("name"), name) for types in root.all("types") for name in types.texts("members")}


def _manifests(package: Package, generated: dict[str, str]) -> Iterator[Finding]:
    for directory, wanted in generated.items():
        path = manifest_of(package, directory)
        shown = path.relative_to(package.root).as_posix()
        if not path.exists():
            yield Finding(shown, f"there is no manifest for {directory}; `python -m tests.salesforce_package --write-manifests` writes it")
            continue
        if not wanted or path.read_text(encoding="utf-8").split() == wanted.split():
            continue
        try:
            here = named_in(Element(etree.parse(path).getroot()))
        except etree.XMLSyntaxError as error:
            yield Finding(shown, f"not well-formed XML: {error.msg}")
            continue
        there = named_in(Element(etree.fromstring(wanted.encode())))
        yield from (Finding(shown, f"it lacks {kind} {name}") for kind, name in sorted(there - here))
        yield from (Finding(shown, f"it names {kind} {name}, which no file holds") for kind, name in sorted(here - there))
        if here == there:
            yield Finding(shown, "it is not what the converter writes (version or order); write it again")
    if not all(generated.values()):
        return  # what the converter refused is a finding already
    everything = {member for text in generated.values() for member in named_in(Element(etree.fromstring(text.encode())))}
    others = {*(package.root / "manifest").glob("*.xml")} - {manifest_of(package, directory) for directory in package.directories}
    for path in sorted(others):
        for kind, name in sorted(named_in(Element(etree.parse(path).getroot())) - everything):
            yield Finding(path.relative_to(package.root).as_posix(), f"it names {kind} {name}, which is not of this package")
