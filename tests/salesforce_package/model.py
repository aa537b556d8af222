"""What an org with the package installed has: objects, their fields, and where a reference leads. Standard ones as the simulator has them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from simulator.salesforce.org import Org
from simulator.salesforce.schema import Field
from simulator.salesforce.standard import standard_objects
from tests.salesforce_package.tree import Component, Package

# Standard fields that the simulator does without.
FURTHER = {
    "Opportunity": {"RecordTypeId": "RecordType", "TotalOpportunityQuantity": "", "HasOpenActivity": ""},
    "Lead": {"RecordTypeId": "RecordType", "Rating": "", "Industry": ""},
    "RecordType": {"Name": "", "DeveloperName": ""},
    "User": {"ProfileId": "Profile", "UserRoleId": "UserRole"},
    "Profile": {"Name": ""},
    "UserRole": {"Name": ""},
}
GLOBALS = frozenset(
    {"$Api", "$Client", "$CustomMetadata", "$Flow", "$GlobalConstant", "$Label", "$Organization", "$Profile", "$Setup", "$System"}
)
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|/\*.*?\*/|\$?[A-Za-z_]\w*(?:\.\w+)*(?P<call>\s*\()?', re.DOTALL)
_WORDS = frozenset({"TRUE", "FALSE", "NULL"})


@dataclass
class Model:
    """Object -> field -> the object it refers to, empty for none; and the components by type."""

    package: Package
    relations: dict[str, dict[str, str]] = field(default_factory=dict)
    """Object -> parent relationship -> object."""

    @cached_property
    def fields(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for kind in standard_objects(Org()):
            found[kind.name] = {name: one.refers_to or "" for name, one in kind.fields.items()}
            self.relations[kind.name] = {relation: one.refers_to or "" for one in kind.fields.values() for relation in _named(one)}
        for name, more in FURTHER.items():
            found.setdefault(name, {}).update(more)
            self.relations.setdefault(name, {}).update({one.removesuffix("Id"): target for one, target in more.items() if target})
        standard = ("Id", "Name", "CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById", "SystemModstamp", "CurrencyIsoCode")
        for one in self.package.of("CustomObject"):
            owned = one.root.text("sharingModel") != "ControlledByParent"
            found[one.name] = dict.fromkeys(standard, "") | ({"OwnerId": "User"} if owned else {})
            self.relations[one.name] = {"CreatedBy": "User", "LastModifiedBy": "User", **({"Owner": "User"} if owned else {})}
        for one in self.package.of("CustomField"):
            target = one.root.text("referenceTo")
            found.setdefault(one.object, {})[one.own_name] = target
            if target:
                self.relations.setdefault(one.object, {})[one.own_name[:-1] + "r"] = target
        return found

    @cached_property
    def custom_fields(self) -> dict[str, Component]:
        return {one.name: one for one in self.package.of("CustomField")}

    @cached_property
    def names(self) -> dict[str, frozenset[str]]:
        """Full names by type of metadata."""
        return {kind: frozenset(one.name for one in self.package.of(kind)) for kind in {one.type for one in self.package.components}}

    def has(self, kind: str, name: str) -> bool:
        return name in self.names.get(kind, ())

    @cached_property
    def children(self) -> dict[str, dict[str, str]]:
        """Object -> child relationship (`…__r` where it is custom) -> object."""
        found: dict[str, dict[str, str]] = {}
        for kind in standard_objects(Org()):
            for one in kind.fields.values():
                if one.refers_to and one.children:
                    found.setdefault(one.refers_to, {})[one.children] = kind.name
        for custom in self.package.of("CustomField"):
            relation = custom.root.text("relationshipName")
            if relation:
                found.setdefault(custom.root.text("referenceTo"), {})[f"{relation}__r"] = custom.object
        return found

    def lacks(self, sobject: str, path: str) -> str:
        """What is missing on the way from the object along `Relation__r.Field`; empty where it leads to a field."""
        at = sobject
        *steps, last = path.split(".")
        for step in steps:
            if at not in self.fields:
                return f"there is no object {at}"
            following = self.relations.get(at, {}).get(step)
            if following is None:
                return f"{at} has no relationship {step}"
            at = following
        if at not in self.fields:
            return f"there is no object {at}"
        return "" if last in self.fields[at] else f"{at} has no field {last}"

    def wrong_in_formula(self, sobject: str, formula: str) -> list[str]:
        """Every name in a formula that leads nowhere."""
        wrong = []
        for match in _TOKENS.finditer(formula):
            name = match.group()
            if match["call"] or name[0] in "\"'/" or name.upper() in _WORDS:
                continue
            head, _, rest = name.partition(".")
            if head == "$Permission":
                wrong += [] if self.has("CustomPermission", rest) else [f"there is no custom permission {rest}"]
            elif head == "$User":
                wrong += [lack] if (lack := self.lacks("User", rest)) else []
            elif head == "$RecordType":
                wrong += [lack] if (lack := self.lacks("RecordType", rest)) else []
            elif head not in GLOBALS and (lack := self.lacks(sobject, name)):
                wrong.append(lack)
        return wrong


def _named(one: Field) -> list[str]:
    return [one.relationship] if one.relationship else []
