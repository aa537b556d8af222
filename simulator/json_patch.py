"""JSON Patch as far as Partner Center takes it: `replace` and `add`, on the paths it lists (partner-center.md 2.6)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from simulator.shape import REFERRAL, bind, bind_item, invalid

# The connector's complete list (2.6).
LISTED = """
    /campaignId /consent/consentToShareReferralWithMicrosoftSellers /customerProfile/team /customerProfile/team/-
    /details/closingDateTime /details/currency /details/dealValue /details/notes
    /details/requirements/solutions /details/requirements/solutions/-
    /externalReferenceId /referralProgram /salesStage /status /substatus /statusReason /team /team/-
"""
# The portal has a field for these, so they probably work (2.6).
LIKELY = """
    /name /favorite /details/requirements/additionalRequirements/attributes /details/requirements/additionalRequirements/attributes/-
"""
PATHS = frozenset((LISTED + LIKELY).split())


def apply(record: dict[str, Any], operations: Any, paths: frozenset[str] | None = PATHS) -> dict[str, Any]:
    """A patched copy of `record`, all or nothing; `paths` None allows every field. Raises `Refusal`."""
    if not isinstance(operations, list) or not operations:
        raise invalid("referral", "The body must be a JSON Patch array with at least one operation.")
    result = copy.deepcopy(record)
    for operation in operations:
        if not isinstance(operation, dict) or not set(operation) <= {"op", "path", "value"} or not isinstance(operation.get("path"), str):
            raise invalid("referral", "An operation has 'op', 'path' and 'value'.")
        op, path = operation.get("op"), operation["path"]
        if op not in ("replace", "add"):
            raise invalid(path, f"The operation '{op}' is not supported.")
        if paths is not None and path not in paths:
            raise invalid(path, f"The path '{path}' can not be updated.")
        if "value" not in operation:
            raise invalid(path, "The operation has no 'value'.")
        if path.endswith("/-") and op == "replace":
            raise invalid(path, "There is nothing to replace at the end of a list.")
        _set(result, path, operation["value"])
    return result


def _set(record: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.strip("/").split("/")
    shape: Any = REFERRAL
    place: Any = record
    for name in parents:
        if not isinstance(shape, Mapping) or name not in shape:
            raise invalid(path, f"The path '{path}' does not exist.")
        shape, place = shape[name], place.get(name)
        if not isinstance(place, (dict, list)):
            raise invalid(path, f"The path '{path}' does not exist.")
    if last == "-" and isinstance(shape, list):
        place.append(bind_item(value, shape[0], path))
    elif isinstance(shape, Mapping) and last in shape:
        place[last] = [] if value is None and isinstance(shape[last], list) else bind(value, shape[last], path)
    else:
        raise invalid(path, f"The path '{path}' does not exist.")
