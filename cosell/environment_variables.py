"""The seven environment variables of Microsoft's solution, as an overlay of ours (connector-facts 1.7). Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from typing import Any

from shared.errors import Misconfigured

# schema name -> the switch that means the same
SWITCHES = {
    "msft_activestagename": "active_stage",
    "msft_onholdstagename": "on_hold_stage",
    "msft_customeraccountcountrycode": "country_field",
    "msft_dealvaluefield": "deal_value_field",
    "msft_dealcurrencycodefield": "currency_field",
    "msft_displaycheckmarkinname": "check_mark_in_name",
    "msft_synccosellopportunitiesonly": "cosell_opportunities_only",
}
_YES_NO = ("check_mark_in_name", "cosell_opportunities_only")


def read(text: str) -> dict[str, str]:
    """Values by schema name, lower case, from any of the forms they are exported in. Raises `Misconfigured`.

    Understood are `{name: value}`, a deployment settings file (`{"EnvironmentVariables": [{"SchemaName", "Value"}]}`), the answer of the
    Dataverse Web API (`{"value": [{"schemaname", "defaultvalue", "…_environmentvariablevalue": [{"value"}]}]}`) and a bare list of such rows.
    The current value goes before the default.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise Misconfigured(f"the environment variables are not JSON: {error}") from error
    found = dict(_values(content))
    if not any(name in SWITCHES for name in found):
        raise Misconfigured(f"no variable of Microsoft's solution is in this file; its variables are {', '.join(SWITCHES)}")
    return found


def _values(content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, Dict):
        keys = {str(key).lower(): value for key, value in content.items()}
        for key in ("environmentvariables", "value"):
            if isinstance(keys.get(key), list):
                content = keys[key]
                break
        else:
            if "schemaname" in keys:
                content = [content]
            else:
                yield from ((name, _text(value)) for name, value in keys.items() if not isinstance(value, (dict, list)))
                return
    for row in content if isinstance(content, list) else ():
        keys = {str(key).lower(): value for key, value in row.items()} if isinstance(row, Dict) else {}
        if keys.get("schemaname"):
            yield str(keys["schemaname"]).lower(), _current(keys)


def _current(keys: Dict[str, Any]) -> str:
    values = [value for key, value in keys.items() if key.endswith("environmentvariablevalue")]
    for nested in values[0] if values and isinstance(values[0], list) else values:
        if isinstance(nested, Dict) and nested.get("value") is not None:
            return _text(nested["value"])
    return _text(keys["value"] if keys.get("value") is not None else keys.get("defaultvalue"))


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def overlay(values: Dict[str, str], switches: Dict[str, Any]) -> str:
    """The overlay, as TOML, that states where the values differ from the shipped `switches`. Raises `Misconfigured`."""
    lines, same, faults = [], [], []
    for variable, switch in SWITCHES.items():
        given = values.get(variable, "")
        if not given:
            continue
        value: Any = given
        if switch in _YES_NO:
            meant = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(given.lower())
            if meant is None:
                faults.append(f"{variable} is {given!r}, which is neither yes nor no")
            value = meant
        elif switch.endswith("_field") and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,79}", given):
            faults.append(f"{variable} is {given!r}, which is not the API name of a field")
        if value == switches[switch]:
            same.append(f"# {variable}: {_toml(value)}, as shipped")
        else:
            lines.append(f"{switch} = {_toml(value)}  # {variable}")
    if faults:
        raise Misconfigured("the environment variables cannot be translated:\n" + "\n".join(f"  - {fault}" for fault in faults))
    head = ["# Differences from the shipped mapping, from the environment variables of Microsoft's solution.", *same]
    return "\n".join([*head, *(["[switches]", *lines] if lines else [])]) + "\n"


def _toml(value: Any) -> str:
    # A JSON text is a TOML basic string.
    return json.dumps(value, ensure_ascii=False)
