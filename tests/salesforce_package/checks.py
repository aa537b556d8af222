"""All checks, in the order in which it makes sense to correct what they find."""

from __future__ import annotations

from tests.salesforce_package import components, conversion, data, fields, flows, nothing_private, permissions, project, references, schema
from tests.salesforce_package.tree import Finding, Package

OFFLINE = (schema, project, components, fields, references, flows, permissions, nothing_private, data)


def findings(package: Package, converted: bool = True) -> list[Finding]:
    """Every finding; without the conversion where `converted` is False, which saves a second."""
    checks = (*OFFLINE, conversion) if converted else OFFLINE
    return [one for check in checks for one in check.findings(package)]
