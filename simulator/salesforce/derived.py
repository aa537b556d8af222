"""What Salesforce works out by itself while it saves a row."""

from __future__ import annotations

from datetime import date

from simulator.salesforce.errors import Fault
from simulator.salesforce.formula import compiled
from simulator.salesforce.org import COUNTRIES, STATES, Org
from simulator.salesforce.schema import ObjectType, Row
from simulator.salesforce.standard import FORECASTS


def derive(kind: ObjectType, new: Row, old: Row | None, sent: set[str], org: Org, now: str) -> list[Fault]:
    """Fill the fields of `new` that follow from others. `sent` names what the caller set itself. Answers what does not fit together."""
    faults: list[Fault] = []
    if kind.name == "Opportunity":
        _opportunity(new, old, sent, org, now)
    if "LastName" in kind.fields and (kind.name != "Account" or new["LastName"]):
        new["Name"] = " ".join(part for part in (new["FirstName"], new["LastName"]) if part) or None
    if "IsPersonAccount" in kind.fields and old is None:
        new["IsPersonAccount"] = new["LastName"] is not None
    for field in kind.fields.values():
        if field.formula:
            worked_out = compiled(field.formula)(new)
            new[field.name] = None if worked_out == "" else worked_out
        if field.type != "address":
            continue
        if org.state_and_country_picklists:
            faults += _country(field.name.removesuffix("Address"), new, sent)
        prefix = len(field.name.removesuffix("Address"))
        parts = {name[prefix].lower() + name[prefix + 1 :]: new[name] for name in field.components}
        filled = any(value is not None for value in parts.values())
        new[field.name] = {**parts, "geocodeAccuracy": None, "latitude": None, "longitude": None} if filled else None
    return faults


def _opportunity(new: Row, old: Row | None, sent: set[str], org: Org, now: str) -> None:
    """The stage decides, through the stage table. A value the table does not know is stored and decides nothing."""
    if old is None or new["StageName"] != old["StageName"]:
        stage = org.stage(new["StageName"])
        new["IsClosed"], new["IsWon"] = bool(stage and stage.closed), bool(stage and stage.won)
        if "Probability" not in sent:
            new["Probability"] = float(stage.probability) if stage else 0.0
        if "ForecastCategoryName" not in sent:
            new["ForecastCategoryName"] = stage.forecast if stage else "Pipeline"
        if old is not None:
            new["LastStageChangeDate"] = now
    new["ForecastCategory"] = FORECASTS.get(new["ForecastCategoryName"] or "", "Pipeline")
    known = new["Amount"] is not None and new["Probability"] is not None
    new["ExpectedRevenue"] = round(new["Amount"] * new["Probability"] / 100, 2) if known else None
    if new["CloseDate"]:
        closing = date.fromisoformat(new["CloseDate"])
        new["FiscalYear"], new["FiscalQuarter"] = closing.year, (closing.month + 2) // 3
        new["Fiscal"] = f"{closing.year} {new['FiscalQuarter']}"


def _country(kind: str, new: Row, sent: set[str]) -> list[Fault]:
    """State and country picklists: code and text follow each other; text must be the exact name in the list."""
    country, code, state, state_code = (f"{kind}{part}" for part in ("Country", "CountryCode", "State", "StateCode"))
    if code in sent:
        new[country] = COUNTRIES.get(new[code] or "")
    elif country in sent:
        new[code] = next((key for key, name in COUNTRIES.items() if name == new[country]), None)
        if new[country] and not new[code]:
            return [_unlisted("country", "country/territory", country)]
    names = {short: name for (of, short), name in STATES.items() if of == new[code]}
    if state_code in sent:
        new[state] = names.get(new[state_code] or "")
        wanted = new[state_code]
    elif state in sent:
        new[state_code] = next((short for short, name in names.items() if name == new[state]), None)
        wanted = new[state]
    else:
        return []
    if wanted and not new[code]:
        return [Fault("FIELD_INTEGRITY_EXCEPTION", "A country/territory must be specified before specifying a state value.", [state])]
    return [_unlisted("state", "state", state)] if wanted and not (new[state] and new[state_code]) else []


def _unlisted(what: str, listed: str, field: str) -> Fault:
    problem = f"There's a problem with this {what}, even though it may appear correct."
    return Fault("FIELD_INTEGRITY_EXCEPTION", f"{problem} Please pick a {listed} of the list of valid {listed}s.", [field])
