"""The package as files: every component with its type, its full name and its XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lxml import etree

ROOT = Path(__file__).resolve().parent.parent.parent
SALESFORCE = ROOT / "salesforce"
NAMESPACE = "http://soap.sforce.com/2006/04/metadata"
_LIBRARY = ROOT / "devhost" / "node_modules" / "@salesforce" / "source-deploy-retrieve"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing to correct, and the file it stands in."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True)
class Element:
    """One XML element, seen without its namespace."""

    node: Any

    @property
    def tag(self) -> str:
        return str(etree.QName(self.node).localname)

    @property
    def words(self) -> str:
        return (self.node.text or "").strip()

    def __iter__(self) -> Iterator[Element]:
        return (Element(child) for child in self.node if isinstance(child.tag, str))

    def all(self, *path: str) -> list[Element]:
        """The elements at the end of the path, in document order."""
        found = [self]
        for name in path:
            found = [child for one in found for child in one if child.tag == name]
        return found

    def text(self, *path: str) -> str:
        """The text at the end of the path; empty where there is none."""
        found = self.all(*path)
        return found[0].words if found else ""

    def texts(self, *path: str) -> list[str]:
        return [one.words for one in self.all(*path)]

    def within(self, name: str) -> list[Element]:
        """Every descendant of that name."""
        return [Element(node) for node in self.node.iter(f"{{{NAMESPACE}}}{name}")]

    def node_elements(self) -> list[Element]:
        """The children that have a name of their own, such as the steps of a flow."""
        return [one for one in self if one.text("name")]

    @property
    def leaves(self) -> list[Element]:
        return [Element(node) for node in self.node.iter() if isinstance(node.tag, str) and not len(node)]


@dataclass(frozen=True)
class Component:
    """One file of metadata. A field's full name is `Object.Field`, as in a manifest."""

    path: str
    type: str
    name: str
    directory: str
    """The package directory it stands in."""
    root: Element

    @property
    def object(self) -> str:
        return self.name.partition(".")[0]

    @property
    def own_name(self) -> str:
        return self.name.partition(".")[2] or self.name

    def finding(self, text: str) -> Finding:
        return Finding(self.path, text)


class Package:
    """Everything below one folder that holds an sfdx-project.json."""

    def __init__(self, root: Path = SALESFORCE) -> None:
        self.root = root
        self.unreadable: list[Finding] = []

    @cached_property
    def project(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "sfdx-project.json").read_text(encoding="utf-8"))
        return found

    @property
    def directories(self) -> list[str]:
        return [str(one["path"]) for one in self.project["packageDirectories"]]

    @property
    def default_directory(self) -> str:
        return next(str(one["path"]) for one in self.project["packageDirectories"] if one.get("default"))

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Every component that can be read; the rest is in `unreadable`."""
        found = []
        for directory in self.directories:
            for path in sorted((self.root / directory).rglob("*-meta.xml")):
                component = self._component(path, directory)
                if isinstance(component, Finding):
                    self.unreadable.append(component)
                else:
                    found.append(component)
        return tuple(found)

    def installed_with(self, directory: str) -> Package:
        """What an org has where only the default directory and this one are installed."""
        seen = Package(self.root)
        seen.components = tuple(one for one in self.components if one.directory in (self.default_directory, directory))
        return seen

    def _component(self, path: Path, directory: str) -> Component | Finding:
        shown = path.relative_to(self.root).as_posix()
        base, _, suffix = path.name.removesuffix("-meta.xml").rpartition(".")
        kind = types_by_suffix().get(suffix)
        if kind is None:
            return Finding(shown, f"no type of metadata has the suffix {suffix!r}")
        try:
            root = Element(etree.parse(path, etree.XMLParser(resolve_entities=False, no_network=True)).getroot())
        except etree.XMLSyntaxError as error:
            return Finding(shown, f"not well-formed XML: {error.msg}")
        parents = {"children": path.parent.parent.name, "folder": path.parent.name}
        prefix = parents["children"] + "." if kind.of_object else parents["folder"] + "/" if kind.in_folder else ""
        return Component(shown, kind.name, prefix + base, directory, root)

    def of(self, kind: str) -> list[Component]:
        return [one for one in self.components if one.type == kind]

    @property
    def files(self) -> list[Path]:
        return [path for path in sorted(self.root.rglob("*")) if path.is_file() and not path.name.startswith(".")]


@dataclass(frozen=True)
class Kind:
    """A type of metadata: what it is called, and where its files stand."""

    name: str
    of_object: bool
    in_folder: bool


@cache
def types_by_suffix() -> dict[str, Kind]:
    """From the registry of Salesforce's own library."""
    registry = json.loads((_LIBRARY / "lib" / "src" / "registry" / "metadataRegistry.json").read_text(encoding="utf-8"))
    found = {}
    for one in registry["types"].values():
        if "suffix" in one:
            found[one["suffix"]] = Kind(one["name"], False, bool(one.get("inFolder")))
        if one.get("folderType") and one.get("inFolder"):
            found[one["suffix"] + "Folder"] = Kind(one["name"] + "Folder", False, False)
        if one["name"] == "CustomObject":
            found |= {child["suffix"]: Kind(child["name"], True, False) for child in one["children"]["types"].values()}
    return found
