"""The people of the org and what they do by hand: they go through the same checks as the API, under their own name."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from simulator.salesforce.errors import refusal
from simulator.salesforce.org import Org
from simulator.salesforce.records import Actor, Store
from simulator.salesforce.schema import Row
from simulator.salesforce.standard import FORECASTS

INTEGRATION = "integration@contoso.example"
SELLERS = (("Ana", "Sousa"), ("Ben", "Okafor"), ("Chloe", "Lindqvist"))
CATALOGUE = (
    ("SOL-10001-CON", "Contoso Data Platform", "3P"),
    ("SOL-10002-CON", "Contoso Migration Kit", "3P"),
    ("SOL-20001-MSF", "Analytics Suite", "1P"),
)


@dataclass(frozen=True)
class Deal:
    """Ids of one deal and what belongs to it."""

    opportunity: str
    account: str
    contact: str
    contact_role: str
    solutions: tuple[str, ...]
    details: tuple[str, ...]


class People:
    """Edits by hand. `by` is a person's e-mail address, full name, alias or id; by default the first seller."""

    def __init__(self, store: Store, org: Org) -> None:
        self._store, self._org = store, org
        self.integration_user_id = store.next_id(store.schema.objects["User"].prefix)
        self._system = Actor(self.integration_user_id, store.schema, system=True)
        self._user("Integration", "User", INTEGRATION)
        for first, last in SELLERS:
            self._user(first, last, f"{first}.{last}@contoso.example".lower(), "+1 555 0100")
        self._user("Automated", "Process", "autoproc@contoso.example")
        self.organization_id = self._organization()
        self._reference_data()

    def _user(self, first: str, last: str, email: str, phone: str | None = None) -> str:
        fields = {"Username": email, "FirstName": first, "LastName": last, "Email": email, "Phone": phone, "Alias": first[:8].lower()}
        return self._store.create("User", fields, self._system)

    def _organization(self) -> str:
        fields = {"Name": "Contoso", "OrganizationType": "Enterprise Edition", "InstanceName": "CON1", "LanguageLocaleKey": "en_US"}
        return self._store.create("Organization", {**fields, "TimeZoneSidKey": "Europe/Lisbon", "IsSandbox": False}, self._system)

    def _reference_data(self) -> None:
        create = self._store.create
        for order, stage in enumerate(self._org.stages, 1):
            row = {"MasterLabel": stage.name, "ApiName": stage.name, "SortOrder": order, "IsClosed": stage.closed, "IsWon": stage.won}
            row |= {"DefaultProbability": stage.probability, "ForecastCategoryName": stage.forecast}
            create("OpportunityStage", {**row, "ForecastCategory": FORECASTS[stage.forecast]}, self._system)
        if self._org.multi_currency:
            for code in self._org.currencies:
                corporate = code == self._org.currencies[0]
                create("CurrencyType", {"IsoCode": code, "ConversionRate": 1, "DecimalPlaces": 2, "IsCorporate": corporate}, self._system)
        if self._org.microsoft_package:
            for identifier, name, kind in CATALOGUE:
                create("Microsoft_Solution_Detail__c", {"Name": name, "Solution_Identifier__c": identifier, "Type__c": kind}, self._system)
            for area, play in (("Data & AI (Azure)", "Analytics"), ("Infra (Azure)", "Migrate and Modernize")):
                area_id = create("Solution_Area__c", {"Name": area, "Active__c": True}, self._system)
                create("Solution_Play__c", {"Name": play, "Active__c": True, "Solution_Area__c": area_id}, self._system)
            for role in ("Services", "Advisory"):
                create("Partner_Role__c", {"Name": role, "Active__c": True}, self._system)

    def actor(self, by: str | None = None) -> Actor:
        """The person named; they see every field. Raises LookupError for a stranger."""
        wanted = by or " ".join(SELLERS[0])
        for user in self._store.rows("User"):
            if wanted in (user["Id"], user["Email"], user["Name"], user["Alias"]):
                return Actor(user["Id"], self._store.schema, allow_duplicates=True)
        raise LookupError(f"no user {wanted}")

    def create(self, name: str, fields: Mapping[str, Any], by: str | None = None) -> str:
        return self._store.create(name, fields, self.actor(by))

    def convert_lead(self, lead_id: str, by: str | None = None, opportunity: str | bool = True) -> str | None:
        """The lead's Convert button: account, contact and opportunity, and a lead nobody can edit any more.

        `opportunity` is the id of one to convert into; False makes none. The lead's own fields reach the opportunity only where an
        administrator maps them. Answers the opportunity's id.
        """
        actor, lead = self.actor(by), self._store.existing(self._store.schema.objects["Lead"], lead_id)
        if lead["IsConverted"]:
            raise refusal("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", [])
        with self._store.transaction():
            address = {f"Billing{part}": lead[part] for part in ("Street", "City", "State", "PostalCode", "Country")}
            account = self._store.create("Account", {"Name": lead["Company"], **address}, actor)
            person = {name: lead[name] for name in ("LastName", "FirstName", "Email", "Phone", "Title")}
            contact = self._store.create("Contact", {"AccountId": account, **person}, actor)
            opportunity_id = opportunity if isinstance(opportunity, str) else None
            if opportunity is True:
                today = self._store.now().date()
                month = (today.month + 2) // 3 * 3
                closing = date(today.year, month, monthrange(today.year, month)[1])
                deal = {"Name": f"{lead['Company']}-", "AccountId": account, "StageName": self._org.stages[0].name}
                opportunity_id = self._store.create("Opportunity", {**deal, "CloseDate": closing.isoformat()}, actor)
                self._store.create(
                    "OpportunityContactRole", {"OpportunityId": opportunity_id, "ContactId": contact, "IsPrimary": True}, actor
                )
            converted = {"IsConverted": True, "Status": "Closed - Converted", "ConvertedAccountId": account, "ConvertedContactId": contact}
            system = Actor(actor.user_id, self._store.schema, system=True)
            self._store.update("Lead", lead_id, {**converted, "ConvertedOpportunityId": opportunity_id}, system)
        return opportunity_id

    def find_or_create(self, name: str, key: str, fields: Mapping[str, Any]) -> str:
        found: list[Row] = [row for row in self._store.rows(name) if row[key] == fields[key]]
        return str(found[0]["Id"]) if found else self.create(name, fields)

    def make_deal(
        self,
        name: str = "Fabrikam data estate",
        *,
        by: str | None = None,
        customer: str = "Fabrikam",
        country: str = "US",
        contact: tuple[str, str] = ("Dana", "Moreau"),
        solutions: Sequence[str] = (CATALOGUE[0][0],),
        sync: bool = True,
        **fields: Any,
    ) -> Deal:
        """A deal ready to be shared: account, contact in its role, opportunity, a line per solution, and only then the sync flag.

        `fields` are further or other fields of the opportunity.
        """
        listed = self._org.state_and_country_picklists
        address = {"BillingStreet": "1 Harbour Road", "BillingCity": "Redmond", "BillingPostalCode": "98052"}
        address["BillingCountryCode" if listed else "BillingCountry"] = country
        account = self.create("Account", {"Name": customer, **address}, by)
        first, last = contact
        email = f"{first}.{last}@{customer.split()[0]}.example".lower()
        person = {"AccountId": account, "FirstName": first, "LastName": last, "Email": email, "Phone": "+1 555 0142", "Title": "CIO"}
        contact_id = self.create("Contact", person, by)
        closing = (self._store.now() + timedelta(days=90)).date().isoformat()
        opportunity = {"Name": name, "AccountId": account, "StageName": "Prospecting", "CloseDate": closing, "Amount": 50_000}
        opportunity |= {"Description": "They want one platform."}
        if self._org.multi_currency:
            opportunity["CurrencyIsoCode"] = "USD"
        if self._org.microsoft_package:
            opportunity |= {"How_can_Microsoft_help__c": "General or Other", "Customer_purchase_intent__c": "Yes"}
            play = self._store.rows("Solution_Play__c")[0]
            opportunity |= {"Solution_Area__c": play["Solution_Area__c"], "Solution_Play__c": play["Id"]}
        opportunity_id = self.create("Opportunity", {**opportunity, **fields}, by)
        role = {"OpportunityId": opportunity_id, "ContactId": contact_id, "Role": "Decision Maker", "IsPrimary": True}
        role_id = self.create("OpportunityContactRole", role, by)
        details = tuple(self._detail(identifier) for identifier in solutions)
        lines = tuple(
            self.create("Microsoft_Solutions__c", {"Opportunity__c": opportunity_id, "Solution__c": detail, "Quantity__c": 1}, by)
            for detail in details
        )
        if sync:
            self._store.update("Opportunity", opportunity_id, {"Sync_With_Partner_Center__c": True}, self.actor(by))
        return Deal(opportunity_id, account, contact_id, role_id, lines, details)

    def _detail(self, identifier: str) -> str:
        fields = {"Name": identifier, "Solution_Identifier__c": identifier, "Type__c": "3P"}
        return self.find_or_create("Microsoft_Solution_Detail__c", "Solution_Identifier__c", fields)
