"""The standard objects, as far as a co-sell connector sees them. Shapes from recorded describes (samples/salesforce)."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.salesforce.org import COUNTRIES, STATES, Org
from simulator.salesforce.schema import (
    Field,
    ObjectType,
    area,
    checkbox,
    currency,
    email,
    lookup,
    number,
    object_type,
    phone,
    picklist,
    shown,
    text,
    url,
)

FIELD_HISTORY = "OpportunityFieldHistory"
LEAD_SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
CONTACT_ROLES = (
    "Business User",
    "Decision Maker",
    "Economic Buyer",
    "Economic Decision Maker",
    "Evaluator",
    "Executive Sponsor",
    "Influencer",
    "Technical Buyer",
    "Other",
)
FORECASTS = {"Omitted": "Omitted", "Pipeline": "Pipeline", "Best Case": "BestCase", "Commit": "Forecast", "Closed": "Closed"}
"""ForecastCategoryName -> ForecastCategory"""


def record_id(label: str) -> Field:
    return Field("Id", "id", f"{label} ID", length=18, nillable=False, createable=False, updateable=False, defaulted=True)


def deleted_flag() -> Field:
    return shown(checkbox("IsDeleted", label="Deleted"))


def stamps() -> list[Field]:
    """Who made the row and who changed it last, which nobody may write."""

    def user(name: str) -> Field:
        return lookup(name, "User", nillable=False, defaulted=True)

    def instant(name: str) -> Field:
        return Field(name, "datetime", nillable=False, defaulted=True)

    fields = (instant("CreatedDate"), user("CreatedById"), instant("LastModifiedDate"), user("LastModifiedById"), instant("SystemModstamp"))
    return [shown(field) for field in fields]


def owner() -> Field:
    return lookup("OwnerId", "User", nillable=False, defaulted=True)


def currency_code(org: Org) -> list[Field]:
    """Only multi-currency orgs have it; it takes active currencies only."""
    if not org.multi_currency:
        return []
    return [
        picklist("CurrencyIsoCode", *org.currencies, default=org.currencies[0], defaulted=True, restricted=True, label="Currency ISO Code")
    ]


def address(kind: str, org: Org) -> list[Field]:
    """`kind` is the prefix: Billing, Mailing, or empty on Lead."""
    parts = [
        area(f"{kind}Street", 255),
        text(f"{kind}City", 40),
        text(f"{kind}State", 80),
        text(f"{kind}PostalCode", 20),
        text(f"{kind}Country", 80),
    ]
    if org.state_and_country_picklists:
        states = sorted({code for _, code in STATES})
        parts += [
            picklist(f"{kind}StateCode", *states, length=10, restricted=True),
            picklist(f"{kind}CountryCode", *COUNTRIES, length=10, restricted=True),
        ]
    return [*parts, shown(Field(f"{kind}Address", "address", components=tuple(part.name for part in parts)))]


def full_name(length: int = 121) -> list[Field]:
    return [
        text("LastName", 80, nillable=False),
        text("FirstName", 40),
        shown(text("Name", length, nillable=False, name_field=True, label="Full Name")),
    ]


def opportunity(org: Org) -> list[Field]:
    return [
        record_id("Opportunity"),
        deleted_flag(),
        lookup("AccountId", "Account", "Opportunities", parent_deleted="cascade"),
        checkbox("IsPrivate", label="Private"),
        text("Name", 120, nillable=False, name_field=True),
        area("Description", 32000),
        picklist("StageName", *(stage.name for stage in org.stages), nillable=False, label="Stage"),
        currency("Amount"),
        Field("Probability", "percent", "Probability (%)", precision=3, defaulted=True),
        shown(currency("ExpectedRevenue", label="Expected Amount")),
        number("TotalOpportunityQuantity", 18, 2, label="Quantity"),
        Field("CloseDate", "date", nillable=False),
        picklist(
            "Type",
            "Existing Customer - Upgrade",
            "Existing Customer - Replacement",
            "Existing Customer - Downgrade",
            "New Customer",
            label="Opportunity Type",
        ),
        text("NextStep"),
        picklist("LeadSource", *LEAD_SOURCES),
        shown(checkbox("IsClosed", label="Closed")),
        shown(checkbox("IsWon", label="Won")),
        shown(
            picklist(
                "ForecastCategory",
                "Omitted",
                "Pipeline",
                "BestCase",
                "MostLikely",
                "Forecast",
                "Closed",
                length=40,
                nillable=False,
                restricted=True,
            )
        ),
        picklist("ForecastCategoryName", *FORECASTS, restricted=True, defaulted=True, label="Forecast Category"),
        *currency_code(org),
        lookup("CampaignId", "Campaign"),
        shown(checkbox("HasOpportunityLineItem", label="Has Line Item")),
        lookup("Pricebook2Id", "Pricebook2", label="Price Book ID", defaulted=True),
        owner(),
        *stamps(),
        shown(Field("LastActivityDate", "date", "Last Activity")),
        shown(Field("LastStageChangeDate", "datetime")),
        shown(Field("FiscalQuarter", "int")),
        shown(Field("FiscalYear", "int")),
        shown(text("Fiscal", 6, label="Fiscal Period")),
        lookup("ContactId", "Contact", relationship=None, updateable=False),
        shown(Field("LastViewedDate", "datetime")),
        shown(Field("LastReferencedDate", "datetime")),
        shown(checkbox("HasOpenActivity", filterable=False)),
        shown(checkbox("HasOverdueTask", filterable=False)),
    ]


def account(org: Org) -> list[Field]:
    person = (
        [
            shown(checkbox("IsPersonAccount")),
            text("FirstName", 40),
            text("LastName", 80),
            email("PersonEmail"),
            shown(lookup("PersonContactId", "Contact", relationship="PersonContact")),
        ]
        if org.person_accounts
        else []
    )
    return [
        record_id("Account"),
        deleted_flag(),
        shown(lookup("MasterRecordId", "Account", relationship="MasterRecord")),
        text("Name", 255, nillable=False, name_field=True, label="Account Name"),
        picklist("Type", "Prospect", "Customer - Direct", "Customer - Channel", "Technology Partner", "Other"),
        lookup("ParentId", "Account", "ChildAccounts", label="Parent Account ID"),
        *address("Billing", org),
        *address("Shipping", org),
        phone("Phone"),
        phone("Fax"),
        text("AccountNumber", 40),
        url("Website"),
        picklist("Industry", "Banking", "Education", "Energy", "Healthcare", "Manufacturing", "Retail", "Technology", "Other"),
        currency("AnnualRevenue", 18, 0),
        Field("NumberOfEmployees", "int"),
        area("Description", 32000),
        text("Site", 80),
        *currency_code(org),
        owner(),
        *person,
        *stamps(),
    ]


def contact(org: Org) -> list[Field]:
    return [
        record_id("Contact"),
        deleted_flag(),
        lookup("AccountId", "Account", "Contacts", parent_deleted="cascade"),
        *full_name(),
        text("Title", 128),
        text("Department", 80),
        *address("Mailing", org),
        phone("Phone"),
        phone("MobilePhone"),
        email("Email"),
        area("Description", 32000),
        picklist("LeadSource", *LEAD_SOURCES),
        *currency_code(org),
        owner(),
        *stamps(),
    ]


def contact_role(org: Org) -> list[Field]:
    return [
        record_id("Contact Role"),
        lookup("OpportunityId", "Opportunity", "OpportunityContactRoles", nillable=False, updateable=False, parent_deleted="cascade"),
        lookup("ContactId", "Contact", "OpportunityContactRoles", nillable=False, parent_deleted="cascade"),
        picklist("Role", *CONTACT_ROLES, length=40),
        checkbox("IsPrimary", label="Primary"),
        *currency_code(org),
        *stamps(),
        deleted_flag(),
    ]


def team_member(org: Org) -> list[Field]:
    roles = ("Account Manager", "Channel Manager", "Executive Sponsor", "Lead Qualifier", "Opportunity Owner", "Sales Manager", "Sales Rep")
    return [
        record_id("Opportunity Team Member"),
        lookup("OpportunityId", "Opportunity", "OpportunityTeamMembers", nillable=False, updateable=False, parent_deleted="cascade"),
        lookup("UserId", "User", nillable=False, updateable=False),
        shown(text("Name", 361, name_field=True)),
        picklist("TeamMemberRole", *roles, length=40, label="Team Role"),
        picklist("OpportunityAccessLevel", "Read", "Edit", "All", length=40, restricted=True, default="Read", defaulted=True),
        *currency_code(org),
        *stamps(),
        deleted_flag(),
    ]


def lead(org: Org) -> list[Field]:
    statuses = ("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted")
    return [
        record_id("Lead"),
        deleted_flag(),
        *full_name(),
        text("Title", 128),
        text("Company", 255, nillable=False),
        *address("", org),
        phone("Phone"),
        phone("MobilePhone"),
        email("Email"),
        url("Website"),
        area("Description", 32000),
        picklist("LeadSource", *LEAD_SOURCES),
        picklist("Status", *statuses, nillable=False, default=statuses[0], defaulted=True),
        currency("AnnualRevenue", 18, 0),
        Field("NumberOfEmployees", "int"),
        *currency_code(org),
        owner(),
        shown(checkbox("IsConverted", label="Converted")),
        shown(lookup("ConvertedAccountId", "Account", relationship="ConvertedAccount")),
        shown(lookup("ConvertedContactId", "Contact", relationship="ConvertedContact")),
        shown(lookup("ConvertedOpportunityId", "Opportunity", relationship="ConvertedOpportunity")),
        *stamps(),
    ]


def user(org: Org) -> list[Field]:
    default_currency = [picklist("DefaultCurrencyIsoCode", *org.currencies, default=org.currencies[0], defaulted=True, restricted=True)]
    return [
        record_id("User"),
        text("Username", 80, nillable=False, unique=True),
        *full_name(),
        email("Email", nillable=False),
        phone("Phone"),
        phone("MobilePhone"),
        text("Title", 80),
        text("Alias", 8),
        checkbox("IsActive", True, label="Active"),
        picklist("UserType", "Standard", length=40, default="Standard", defaulted=True, restricted=True),
        text("FederationIdentifier", 512),
        *(default_currency if org.multi_currency else []),
        *stamps(),
    ]


def stage(org: Org) -> list[Field]:
    return [
        record_id("Opportunity Stage"),
        text("MasterLabel", name_field=True),
        text("ApiName"),
        checkbox("IsActive", True, label="Is Active"),
        Field("SortOrder", "int"),
        checkbox("IsClosed", label="Closed"),
        checkbox("IsWon", label="Won"),
        picklist("ForecastCategory", *FORECASTS.values(), length=40, restricted=True),
        picklist("ForecastCategoryName", *FORECASTS, restricted=True),
        Field("DefaultProbability", "percent", "Probability (%)", precision=3),
        area("Description", 255),
        *stamps(),
    ]


def organization(org: Org) -> list[Field]:
    return [
        record_id("Organization"),
        text("Name", 80, nillable=False, name_field=True),
        text("OrganizationType", 40),
        text("InstanceName", 5),
        checkbox("IsSandbox"),
        text("LanguageLocaleKey", 40),
        text("TimeZoneSidKey", 40),
        *stamps(),
    ]


def currency_type(org: Org) -> list[Field]:
    return [
        record_id("Currency Type"),
        text("IsoCode", 3, name_field=True),
        number("ConversionRate", 18, 6),
        Field("DecimalPlaces", "int"),
        checkbox("IsActive", True),
        checkbox("IsCorporate"),
        *stamps(),
    ]


def field_history(org: Org) -> list[Field]:
    def value(name: str) -> Field:
        return Field(name, "anyType", filterable=False)

    return [
        record_id("Opportunity Field History"),
        deleted_flag(),
        lookup("OpportunityId", "Opportunity", "Histories", nillable=False, parent_deleted="cascade"),
        *stamps()[:2],
        picklist("Field", "created", *sorted(org.tracked_fields), restricted=True),
        value("OldValue"),
        value("NewValue"),
    ]


def standard_objects(org: Org) -> Iterable[ObjectType]:
    """The standard objects of this org. Setup objects are only read: nobody makes users or stages through this API here."""

    def setup(name: str, prefix: str, fields: list[Field]) -> ObjectType:
        return object_type(name, prefix, fields, createable=False, updateable=False, deletable=False)

    yield object_type("Opportunity", "006", opportunity(org), plural="Opportunities", record_types=True)
    yield object_type("Account", "001", account(org), record_types=True)
    yield object_type("Contact", "003", contact(org), record_types=True)
    yield object_type("OpportunityContactRole", "00K", contact_role(org), plural="Opportunity Contact Role")
    if org.team_selling:
        yield object_type("OpportunityTeamMember", "00q", team_member(org), recycled=False)
    yield object_type("Lead", "00Q", lead(org), record_types=True)
    yield object_type("User", "005", user(org), deletable=False)
    yield setup("OpportunityStage", "01J", stage(org))
    yield setup("Organization", "00D", organization(org))
    if org.tracked_fields:
        yield setup(FIELD_HISTORY, "017", field_history(org))
    if org.multi_currency:
        yield setup("CurrencyType", "01L", currency_type(org))
