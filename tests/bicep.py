"""Reads a Bicep file into plain values, as far as they are written down in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

PARSER = Parser(Language(tree_sitter_bicep.language()))


class Expression(str):
    """What is not a literal: its text."""


@dataclass
class Declared:
    """A resource, module, parameter or variable."""

    kind: str
    name: str
    type: str
    """`provider/type@version` of a resource, path of a module, type of a parameter."""
    value: Any
    """The body of a resource or module, the value of a variable, the default of a parameter (None where there is none)."""
    decorators: str = ""
    existing: bool = False
    inside: list[Declared] = field(default_factory=list)


def read(path: Path) -> dict[str, Declared]:
    """Everything a file declares, nested resources under `inside`. Raises ValueError for what is not Bicep."""
    root = PARSER.parse(path.read_bytes()).root_node
    if root.has_error:
        wrong = next(node for node in _all(root) if node.type == "ERROR" or node.is_missing)
        raise ValueError(f"{path.name}:{wrong.start_point.row + 1}: not Bicep")
    found: dict[str, Declared] = {}
    for node in root.named_children:
        if node.type.endswith("_declaration") and node.type not in ("output_declaration", "metadata_declaration"):
            declared = _declared(node)
            found[declared.name] = declared
    return found


def _declared(node: Node) -> Declared:
    before = node.prev_named_sibling
    kind = node.type.removesuffix("_declaration")
    children = [child for child in node.named_children if child.type != "comment"]
    name, rest = _text(children[0]), children[1:]
    declared = Declared(kind, name, "", None, _text(before) if before and before.type == "decorators" else "")
    if kind == "parameter":
        declared.type = _text(rest[0])
        declared.value = _value(rest[1]) if len(rest) > 1 else None
    elif kind == "variable":
        declared.value = _value(rest[-1])
    else:
        declared.type = str(_value(rest[0]))
        declared.existing = any(child.type == "existing" for child in node.children)
        body = rest[-1]
        while body.type in ("if_statement", "for_statement"):
            body = body.named_children[-1]
        declared.value = _value(body)
        nested = [part for one in body.named_children for part in one.named_children if part.type == "resource_declaration"]
        declared.inside = [_declared(one) for one in nested]
    return declared


def _value(node: Node) -> Any:
    match node.type:
        case "string" if all(child.type == "string_content" for child in node.named_children):
            return "".join(_text(child) for child in node.named_children)
        case "number":
            return int(_text(node))
        case "boolean":
            return _text(node) == "true"
        case "array":
            return [_value(child) for child in node.named_children if child.type != "comment"]
        case "object":
            pairs = (child.named_children for child in node.named_children if child.type == "object_property")
            return {str(_value(pair[0])): _value(pair[1]) for pair in pairs if len(pair) == 2}
        case _:
            return Expression(_text(node))


def objects(path: Path, name: str) -> dict[str, Any]:
    """The keys and values of all objects written inside one declaration, those in arguments and both arms of `? :` as well."""
    root = PARSER.parse(path.read_bytes()).root_node
    node = next(one for one in root.named_children if one.type.endswith("_declaration") and _text(one.named_children[0]) == name)
    return {key: value for one in _all(node) if one.type == "object" for key, value in _value(one).items()}


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _all(child)


def _text(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()
