"""A JSON value into what a field stores, or the fault Salesforce finds with it."""

from __future__ import annotations

import json
import math
import re
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from simulator.salesforce.errors import Fault, refusal
from simulator.salesforce.ids import canonical
from simulator.salesforce.query import moment, stamp
from simulator.salesforce.schema import NUMBER_TYPES, TEXT_TYPES, Field

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_KINDS = {
    str: "VALUE_STRING",
    bool: "VALUE_TRUE",
    int: "VALUE_NUMBER_INT",
    float: "VALUE_NUMBER_FLOAT",
    list: "START_ARRAY",
    dict: "START_OBJECT",
}
_WANTED = {**dict.fromkeys(TEXT_TYPES, "string"), "id": "string", "reference": "string", "datetime": "dateTime"}


def read(field: Field, value: Any, faults: list[Fault]) -> Any:
    """The stored form: text trimmed, empty text null, numbers rounded to the scale, instants in UTC.

    A fault of the data joins `faults`; a value of the wrong JSON type refuses the whole request at once.
    """
    if value is None:
        if field.type == "boolean":
            faults.append(Fault("INVALID_TYPE_ON_FIELD_IN_RECORD", f"{field.label}: value not of required type: null", [field.name]))
        return None
    if field.type in TEXT_TYPES:
        return _text(field, _typed(field, value, str), faults)
    if field.type in ("reference", "id"):
        return _reference(field, _typed(field, value, str), faults)
    if field.type == "boolean":
        return _typed(field, value, bool)
    if field.type == "int":
        return _typed(field, value, int)
    if field.type in NUMBER_TYPES:
        return _number(field, _typed(field, value, int, float), faults)
    if field.type in ("date", "datetime"):
        return _time(field, _typed(field, value, str))
    raise AssertionError(f"no field of type {field.type} is writable")


def _typed(field: Field, value: Any, *kinds: type) -> Any:
    if type(value) in kinds:
        return value
    raise _misfit(field, value)


def _misfit(field: Field, value: Any) -> Exception:
    shown = value if isinstance(value, str) else json.dumps(value)
    wanted = _WANTED.get(field.type, field.type)
    return refusal(
        "JSON_PARSER_ERROR",
        f"Cannot deserialize instance of {wanted} from {_KINDS.get(type(value), 'VALUE')} value {shown} "
        "or request may be missing a required field at [line:1, column:2]",
        None,
    )


def _text(field: Field, value: str, faults: list[Fault]) -> str | None:
    value = value.strip()
    if not value:
        return None
    if field.type == "picklist" and field.restricted and value not in field.picklist:
        message = f"{field.label}: bad value for restricted picklist field: {value}"
        faults.append(Fault("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, [field.name]))
    elif len(value) > field.length:
        shown = value if len(value) <= 255 else value[:255]
        faults.append(Fault("STRING_TOO_LONG", f"{field.label}: data value too large: {shown} (max length={field.length})", [field.name]))
    elif field.type == "email" and not _EMAIL.fullmatch(value):
        faults.append(Fault("INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {value}", [field.name]))
    return value


def _reference(field: Field, value: str, faults: list[Fault]) -> str | None:
    if not value:
        return None
    found = canonical(value)
    if found is None:
        faults.append(Fault("MALFORMED_ID", f"{field.label}: id value of incorrect type: {value}", [field.name]))
    return found


def _number(field: Field, value: float, faults: list[Fault]) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise _misfit(field, value)
    exact = Decimal(value) if isinstance(value, int) else Decimal(str(value))
    if abs(exact) >= 10 ** (field.precision - field.scale):
        message = f"{field.label}: value outside of valid range on numeric field: {exact:.3g}"
        faults.append(Fault("NUMBER_OUTSIDE_VALID_RANGE", message, [field.name]))
        return value
    return float(exact.quantize(Decimal(1).scaleb(-field.scale), ROUND_HALF_UP))


def _time(field: Field, value: str) -> str:
    try:
        if field.type == "date":
            if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
                return date.fromisoformat(value).isoformat()
        elif datetime.fromisoformat(value).tzinfo:
            return stamp(moment(value))
    except (ValueError, OverflowError):
        pass
    raise _misfit(field, value)
