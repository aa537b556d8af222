"""The org as an administrator set it up: features, stages, rules and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from simulator.salesforce.schema import Field, Row


@dataclass(frozen=True)
class Stage:
    """One row of the stage table."""

    name: str
    probability: int
    forecast: str = "Pipeline"
    closed: bool = False
    won: bool = False


STAGES = (
    Stage("Prospecting", 10),
    Stage("Qualification", 10),
    Stage("Needs Analysis", 20),
    Stage("Value Proposition", 50),
    Stage("Id. Decision Makers", 60),
    Stage("Perception Analysis", 70),
    Stage("Proposal/Price Quote", 75),
    Stage("Negotiation/Review", 90),
    Stage("Closed Won", 100, "Closed", closed=True, won=True),
    Stage("Closed Lost", 0, "Omitted", closed=True),
    Stage("On Hold", 5),
)

COUNTRIES = {
    "AU": "Australia",
    "BR": "Brazil",
    "CA": "Canada",
    "CH": "Switzerland",
    "DE": "Germany",
    "ES": "Spain",
    "FR": "France",
    "GB": "United Kingdom",
    "IE": "Ireland",
    "IN": "India",
    "IT": "Italy",
    "JP": "Japan",
    "NL": "Netherlands",
    "PT": "Portugal",
    "SE": "Sweden",
    "US": "United States",
}
STATES = {
    ("US", "CA"): "California",
    ("US", "NY"): "New York",
    ("US", "WA"): "Washington",
    ("CA", "ON"): "Ontario",
    ("AU", "NSW"): "New South Wales",
}


@dataclass(frozen=True)
class ValidationRule:
    """Refuses a save for which `condition` is true: a SOQL condition on the new row, or (new row, old row or None) -> bool."""

    object: str
    condition: str | Callable[[Row, Row | None], bool]
    message: str
    field: str | None = None


@dataclass(frozen=True)
class DuplicateRule:
    """Refuses rows equal to an existing one in all of `fields`. With `allow_save` it only alerts: the caller's header may override it."""

    object: str
    fields: tuple[str, ...]
    allow_save: bool = False
    name: str = "Standard_Duplicate_Rule"


@dataclass(frozen=True)
class Org:
    """Feature switches and limits. What is off is absent: no field, no object, as in a real org."""

    multi_currency: bool = True
    currencies: tuple[str, ...] = ("USD", "EUR", "GBP", "CAD", "AUD", "JPY", "INR", "SEK")
    state_and_country_picklists: bool = False
    person_accounts: bool = False
    team_selling: bool = True
    microsoft_package: bool = True
    package_rules: bool = False
    """The validation rules in Microsoft's package; public copies hold them inactive."""
    package_trigger: bool = False
    """Microsoft's 2025 trigger: counts solutions, and turns the sync off when none is left."""
    connector_package: bool = True
    stages: tuple[Stage, ...] = STAGES
    restricted_picklists: frozenset[str] = frozenset()
    """`Object.Field` of picklists that refuse unknown values beyond those that do by themselves. StageName does not."""
    extra_fields: Mapping[str, tuple[Field, ...]] = field(default_factory=dict)
    """An administrator's own fields by object; one that is not nillable is required."""
    hidden_fields: frozenset[str] = frozenset()
    """`Object.Field`, or a whole `Object`, that the integration user cannot see."""
    read_only_fields: frozenset[str] = frozenset()
    tracked_fields: frozenset[str] = frozenset()
    """Fields of Opportunity whose history is kept. With none the object that holds it is absent."""
    validation_rules: tuple[ValidationRule, ...] = ()
    duplicate_rules: tuple[DuplicateRule, ...] = ()
    daily_requests: int = 100_000
    page_size: int = 2000
    locator_seconds: float = 2 * 86_400
    session_seconds: float = 7200
    """A session ends after this long without a call."""
    lock_status: int = 400
    """Of UNABLE_TO_LOCK_ROW; reports disagree about 400 and 500."""
    conditions_in_composite: bool = True
    """Whether If-Unmodified-Since is honoured on a sub-request; undocumented."""

    def stage(self, name: str | None) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)
