"""The Salesforce package without an org: no check finds anything, every check finds what it is for, mapping and simulator agree with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from lxml import etree

from shared.mapping import FieldRow, Mapping, base_field
from shared.referral import HELP_CODES
from simulator.salesforce import Org
from simulator.salesforce.formula import Unplayed, compiled
from simulator.salesforce.org import STAGES
from simulator.salesforce.package_files import custom_fields
from simulator.salesforce.packages import MICROSOFT
from simulator.salesforce.schema import ObjectType
from simulator.salesforce.standard import standard_objects
from tests.deals import DealWorld
from tests.one_deal import OneDeal
from tests.salesforce_package import (
    components,
    conversion,
    data,
    fields,
    flows,
    nothing_private,
    permissions,
    project,
    references,
    schema,
)
from tests.salesforce_package.checks import findings
from tests.salesforce_package.conversion import named_in
from tests.salesforce_package.tree import SALESFORCE, Component, Element, Package

MAPPING = Mapping.load()
BASE = "force-app/main/default"
FIELDS = f"{BASE}/objects/Opportunity/fields"
VIEWS = f"{BASE}/objects/Opportunity/listViews"
SETS = f"{BASE}/permissionsets"
PUSH = "push/main/default"
PAGE = "seller-page/main/default/flexipages/Co_sell_Opportunity.flexipage-meta.xml"


@cache
def package() -> Package:
    return Package()


def test_no_check_finds_anything() -> None:
    assert [str(one) for one in findings(package())] == []
    assert len(package().components) > 60


# -- mistakes, planted in a copy -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SALESFORCE, tmp_path / "salesforce"))


def swap(old: str, new: str) -> Callable[[Path], None]:
    """Another text, once, in a file that has it."""

    def plant(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{path.name} no longer has {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return plant


def halve(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8")[:300], encoding="utf-8")


def without(element: str) -> Callable[[Path], None]:
    """The file without one element."""

    def plant(path: Path) -> None:
        text, times = re.subn(rf" *<{element}>.*?</{element}>\n", "", path.read_text(encoding="utf-8"), count=1, flags=re.DOTALL)
        assert times == 1
        path.write_text(text, encoding="utf-8")

    return plant


def write(text: str) -> Callable[[Path], None]:
    def plant(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}', encoding="utf-8")

    return plant


def metadata(kind: str, inner: str) -> Callable[[Path], None]:
    return write(f'<{kind} xmlns="http://soap.sforce.com/2006/04/metadata">{inner}</{kind}>\n')


def doubled_as(name: str) -> Callable[[Path], None]:
    """A second field, the same but for its name."""

    def plant(path: Path) -> None:
        own = path.name.partition(".")[0]
        text = path.read_text(encoding="utf-8").replace(f"<fullName>{own}", f"<fullName>{name}")
        path.with_name(path.name.replace(own, name)).write_text(text, encoding="utf-8")

    return plant


def remove(path: Path) -> None:
    path.unlink()


def permission(field: str, editable: bool = False) -> Callable[[Path], None]:
    written = f"<editable>{str(editable).lower()}</editable><field>{field}</field><readable>true</readable>"
    return swap("    <fieldPermissions>", f"    <fieldPermissions>{written}</fieldPermissions>\n    <fieldPermissions>")


def denial(field: str) -> Callable[[Path], None]:
    """No permission set speaks of the field any more."""

    def plant(path: Path) -> None:
        for one in path.parent.glob("*.permissionset-meta.xml"):
            pattern = rf" *<fieldPermissions>(?:(?!</fieldPermissions>).)*<field>{re.escape(field)}</field>.*?</fieldPermissions>\n"
            one.write_text(re.sub(pattern, "", one.read_text(encoding="utf-8"), flags=re.DOTALL), encoding="utf-8")

    return plant


AUDIT, KEY, STATE = (f"{FIELDS}/{name}__c.field-meta.xml" for name in ("Audit", "Co_sell_Key", "Co_sell_Sync"))
AREA, KIND = (f"{FIELDS}/{name}__c.field-meta.xml" for name in ("Solution_Area", "Co_sell_Type"))
SELLER, CONNECTOR = (f"{SETS}/{name}.permissionset-meta.xml" for name in ("Co_sell_Seller", "Co_sell_Integration"))
SHARED, ATTENTION = (f"{VIEWS}/{name}.listView-meta.xml" for name in ("Co_sell_Shared", "Co_sell_Needs_Attention"))
FLOW = f"{PUSH}/flows/Co_sell_Push_Opportunity.flow-meta.xml"
MESSAGE = f"{PUSH}/workflows/Opportunity.workflow-meta.xml"
ACTION = f"{BASE}/quickActions/Opportunity.Co_sell_Share.quickAction-meta.xml"
REPORT = "reports/main/default/reports/Co_sell/Needs_Attention.report-meta.xml"
DASHBOARD = "reports/main/default/dashboards/Co_sell/Co_sell_Pipeline.dashboard-meta.xml"
PLAYS, PLAN = "data/fy26/Solution_Play__c.json", "data/fy26/plan.json"

# what is wrong: (who finds it, the file, the mistake, words of the finding)
MISTAKES: dict[str, tuple[ModuleType, str, Callable[[Path], None], str]] = {
    "unknown element": (schema, AUDIT, swap("<label>", "<colour>red</colour><label>"), "Element colour: This element is not expected"),
    "wrong enum value": (schema, AUDIT, swap("LongTextArea", "LongTextAria"), "LongTextAria is not an element of the set"),
    "wrong boolean": (schema, KEY, swap("<unique>true", "<unique>yes"), "yes is not a valid value"),
    "truncated XML": (schema, AUDIT, halve, "not well-formed XML"),
    "missing element": (schema, SELLER, without("label"), "Expected is ( label )"),
    "wrong namespace": (schema, AUDIT, swap("2006/04/metadata", "2006/04/metadatas"), "the namespace must be"),
    "another type in the file": (schema, AUDIT, metadata("ListView", ""), "a file of this name holds CustomField"),
    "a suffix nobody knows": (schema, f"{FIELDS}/Other__c.feld-meta.xml", metadata("CustomField", ""), "has the suffix 'feld'"),
    "another name than the file's": (
        components,
        AUDIT,
        swap("Audit__c", "Audits__c"),
        "fullName is Audits__c, and the file is named Audit__c",
    ),
    "a field without help": (components, AUDIT, without("inlineHelpText"), "it has no inlineHelpText"),
    "a field without a reason": (components, AUDIT, without("description"), "it has no description"),
    "a label too long": (components, AUDIT, swap("<label>Audit", "<label>" + "Audit " * 8), "Salesforce takes 40"),
    "a file twice": (
        components,
        "layouts/main/default/tabs/Partner_Role__c.tab-meta.xml",
        metadata("CustomTab", "<customObject>true</customObject>"),
        "CustomTab Partner_Role__c stands in more than one file",
    ),
    "a customer's object": (
        components,
        f"{BASE}/objects/Opportunity/Opportunity.object-meta.xml",
        metadata("CustomObject", "<enableFeeds>true</enableFeeds>"),
        "would replace the customer's settings of the object",
    ),
    "a customer's layout": (
        components,
        f"{BASE}/layouts/Opportunity-Opportunity Layout.layout-meta.xml",
        metadata("Layout", ""),
        "would replace the customer's whole layout",
    ),
    "no first line": (components, AUDIT, swap('<?xml version="1.0" encoding="UTF-8"?>\n', ""), "the first line must be"),
    "another API version": (project, FLOW, swap("<apiVersion>66.0", "<apiVersion>58.0"), "apiVersion is 58.0"),
    "a directory that is not there": (project, "sfdx-project.json", swap('"push"', '"pusch"'), "push is no package directory"),
    "a placeholder that stays": (
        project,
        MESSAGE,
        swap("replaced-by-COSELL", "replaced-by-COSEL"),
        "puts anything in for replaced-by-COSEL_",
    ),
    "a replacement of nothing": (
        project,
        "sfdx-project.json",
        swap("https://replaced", "http://replaced"),
        "nothing holds http://replaced",
    ),
    "a text too long": (fields, KEY, swap("<length>80", "<length>300"), "is 1 to 255, not 300"),
    "a key that may repeat": (fields, KEY, swap("<unique>true", "<unique>false"), "an external id must be unique"),
    "a key that minds nothing": (fields, KEY, without("caseSensitive"), "says whether case matters"),
    "a formula with a length": (fields, STATE, swap("<label>", "<length>80</length><label>"), "a formula has no length"),
    "a picklist value twice": (
        fields,
        KIND,
        swap("<fullName>Services Co-sell", "<fullName>IP Co-sell"),
        "the value ip co-sell stands twice",
    ),
    "a checkbox without a default": (
        fields,
        f"{FIELDS}/Sync_With_Partner_Center__c.field-meta.xml",
        without("defaultValue"),
        "a Checkbox field needs defaultValue",
    ),
    "a required field that is cleared": (
        fields,
        f"{BASE}/objects/Microsoft_Solutions__c/fields/Solution__c.field-meta.xml",
        swap("<deleteConstraint>Restrict", "<deleteConstraint>SetNull"),
        "deleteConstraint Restrict or Cascade",
    ),
    "children of one name": (
        fields,
        AREA,
        doubled_as("Other_Area__c"),
        "two fields call their children of Solution_Area__c Solution_Area_To_Opportunities",
    ),
    "a lookup to nowhere": (references, AREA, swap("<referenceTo>Solution_Area__c", "<referenceTo>Area__c"), "there is no object Area__c"),
    "a formula of nothing": (references, STATE, swap("Co_sell_Next_Step__c)", "Next__c)"), "Opportunity has no field Next__c"),
    "a column of nothing": (references, SHARED, swap("Co_sell_Sync__c", "Co_sell_Synch__c"), "Opportunity has no field Co_sell_Synch__c"),
    "a column with the API's name": (references, SHARED, swap("OPPORTUNITY.NAME", "Name"), "lists of Opportunity have no column Name"),
    "a filter on a long text": (references, ATTENTION, swap("<field>Co_sell_Next_Step__c", "<field>Audit__c"), "cannot be filtered"),
    "a filter that no value passes": (references, SHARED, swap("<value>1<", "<value>Yes<"), "is true or false, not 'Yes'"),
    "a compact layout of nothing": (
        references,
        f"{BASE}/objects/Opportunity/compactLayouts/Co_sell.compactLayout-meta.xml",
        swap("<fields>AccountId", "<fields>Account"),
        "Opportunity has no field Account",
    ),
    "a need of what is optional": (
        references,
        f"{BASE}/objects/Opportunity/compactLayouts/Co_sell.compactLayout-meta.xml",
        swap("<fields>AccountId", "<fields>Co_sell_Version__c"),
        "Opportunity has no field Co_sell_Version__c",
    ),
    "an action that sets nothing": (
        references,
        ACTION,
        swap("<field>Sync_With_Partner_Center__c", "<field>Sync__c"),
        "Opportunity has no field Sync__c",
    ),
    "a page that shows nothing": (references, PAGE, swap("Record.Co_sell_Sync__c", "Record.Sync__c"), "Opportunity has no field Sync__c"),
    "a page with a lost part": (references, PAGE, swap("<value>Facet-", "<value>Facet-lost-"), "no region has the name Facet-lost-"),
    "a related list of nothing": (
        references,
        PAGE,
        swap("<value>Opportunity_To_Microsoft_Solutions__r", "<value>Microsoft_Solutions__r"),
        "Opportunity has no related list Microsoft_Solutions__r",
    ),
    "a layout of nothing": (
        references,
        "layouts/main/default/layouts/Partner_Role__c-Partner Role Layout.layout-meta.xml",
        swap("<field>Active__c", "<field>Aktiv__c"),
        "Partner_Role__c has no field Aktiv__c",
    ),
    "a tab of nothing": (
        references,
        f"{BASE}/tabs/Other__c.tab-meta.xml",
        metadata("CustomTab", "<customObject>true</customObject>"),
        "there is no object Other__c",
    ),
    "a rule about nothing": (
        references,
        "guard/main/default/objects/Opportunity/validationRules/Co_sell_Version.validationRule-meta.xml",
        swap("PRIORVALUE(Co_sell_Version__c)", "PRIORVALUE(Version__c)"),
        "Opportunity has no field Version__c",
    ),
    "a report of nothing": (references, REPORT, swap(".Co_sell_Next_Step__c", ".Next__c"), "Opportunity has no field Next__c"),
    "a dashboard of nothing": (
        references,
        DASHBOARD,
        swap("<report>Co_sell/Needs_Attention", "<report>Co_sell/Needs"),
        "there is no report Co_sell/Needs",
    ),
    "a report column of another type": (references, REPORT, swap("<field>STAGE_NAME", "<field>StageName"), "have no column StageName"),
    "a dashboard by what is not grouped": (
        references,
        DASHBOARD,
        swap("<groupingColumn>FULL_NAME", "<groupingColumn>STAGE_NAME"),
        "Co_sell/Needs_Attention is not grouped by STAGE_NAME",
    ),
    "a sign-in without its app": (
        references,
        "app-jwt/main/default/extlClntAppOauthPolicies/Co_sell_Connector_JWT_oauthPlcy.ecaOauthPlcy-meta.xml",
        swap("<externalClientApplication>Co_sell_Connector_JWT", "<externalClientApplication>Connector"),
        "there is no external client app Connector",
    ),
    "a flow that reads nothing": (flows, FLOW, swap("$Record.StageName", "$Record.Stage"), "Opportunity has no field Stage"),
    "a flow that leads nowhere": (
        flows,
        FLOW,
        swap("<targetReference>Is_it_news", "<targetReference>News"),
        "a connector leads to News, which is no element",
    ),
    "a flow that sends nothing": (
        flows,
        MESSAGE,
        swap("<fullName>Co_sell_Opportunity_Changed", "<fullName>Changed"),
        "there is no outbound message Opportunity.Co_sell_Opportunity_Changed",
    ),
    "a flow that asks nobody": (flows, FLOW, swap("$Permission.Co_sell_Connector", "$Permission.Nobody"), "no custom permission Nobody"),
    "a missing permission": (permissions, SELLER, denial("Opportunity.Audit__c"), "no permission set shows Opportunity.Audit__c"),
    "a permission on a required field": (
        permissions,
        SELLER,
        permission("Microsoft_Solution_Detail__c.Solution_Identifier__c"),
        "Solution_Identifier__c is required, and a deploy refuses",
    ),
    "a permission on a parent": (permissions, SELLER, permission("Microsoft_Solutions__c.Opportunity__c"), "Opportunity__c is required"),
    "a permission on nothing": (permissions, SELLER, permission("Opportunity.Nothing__c"), "Opportunity has no field Nothing__c"),
    "a custom permission of nothing": (
        permissions,
        CONNECTOR,
        swap("<name>Co_sell_Connector", "<name>Nobody"),
        "no CustomPermission Nobody",
    ),
    "a permission twice": (permissions, SELLER, permission("Opportunity.Audit__c"), "Opportunity.Audit__c stands twice"),
    "a formula to edit": (permissions, CONNECTOR, permission("Opportunity.Co_sell_Sync__c", True), "is a formula, which nobody can edit"),
    "a right without the one below": (
        permissions,
        CONNECTOR,
        swap("<allowRead>true", "<allowRead>false"),
        "on Account needs allowRead",
    ),
    "a host": (
        nothing_private,
        MESSAGE,
        swap("replaced-by-COSELL_PUSH_URL.invalid", "contoso.azurewebsites.net"),
        "names the host contoso.",
    ),
    "an id": (nothing_private, AUDIT, swap("<label>Audit", "<label>00D5g000004CabcEAC"), "looks like the id of a record"),
    "a person": (nothing_private, AUDIT, swap("<label>Audit", "<label>dana@contoso.com"), "an address at contoso.com"),
    "a key": (nothing_private, AUDIT, swap("<label>Audit", "<label>-----BEGIN PRIVATE KEY-----"), "a key or a session"),
    "a secret": (
        nothing_private,
        "app-client-credentials/main/default/extlClntAppGlobalOauthSets/Co_sell_Connector_Secret_glbloauth.ecaGlblOauth-meta.xml",
        swap("<externalClientApplication>", "<consumerSecret>5A7F21</consumerSecret>\n    <externalClientApplication>"),
        "consumerSecret belongs to one org",
    ),
    "data of nothing": (data, PLAYS, swap('"Active__c"', '"Aktiv__c"'), "Solution_Play__c has no field Aktiv__c"),
    "data that refers to nothing": (data, PLAYS, swap('"@area1"', '"@area99"'), "must refer to a Solution_Area__c loaded before it"),
    "data of another type": (data, PLAYS, swap("true", '"true"'), "Active__c is true or false, not 'true'"),
    "data that nobody loads": (data, PLAN, swap('"Partner_Role__c.json"', '"Role.json"'), "no plan loads it"),
    "a table of nothing": (data, "data/solutions.csv", swap("Publisher_Name__c", "Publisher__c"), "has no field Publisher__c"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str, copy: Path) -> None:
    check, file, plant, words = MISTAKES[mistake]
    plant(copy / file)
    found = [str(one) for one in check.findings(Package(copy))]
    assert [one for one in found if words in one], found


def test_what_the_converter_passes_by_and_what_a_manifest_does_not_say_is_found(copy: Path) -> None:
    """One run for all of it: the converter takes a second to start."""
    (copy / BASE / "classes").mkdir()
    (copy / BASE / "classes" / "Alone.cls").write_text("public class Alone {}", encoding="utf-8")
    view = copy / SHARED
    view.rename(view.with_name("Co_sell_Shared.listView.xml"))
    remove(copy / BASE / "tabs" / "Partner_Role__c.tab-meta.xml")
    swap("<members>Opportunity.Audit__c</members>", "")(copy / "manifest" / "package.xml")
    swap("<version>66.0", "<version>65.0")(copy / "manifest" / "layouts.xml")
    swap("Opportunity.Co_sell_Token__c", "Opportunity.Amount")(copy / "manifest" / "beside-microsoft.xml")
    remove(copy / "manifest" / "seller-page.xml")
    found = "\n".join(str(one) for one in conversion.findings(Package(copy)))
    for words in (
        "classes/Alone.cls: the converter passes it by",
        "Co_sell_Shared.listView.xml: the converter passes it by",
        "manifest/package.xml: it lacks CustomField Opportunity.Audit__c",
        "manifest/package.xml: it names CustomTab Partner_Role__c, which no file holds",
        "manifest/layouts.xml: it is not what the converter writes",
        "manifest/beside-microsoft.xml: it names CustomField Opportunity.Amount, which is not of this package",
        "manifest/seller-page.xml: there is no manifest for seller-page",
    ):
        assert words in found


def test_what_gets_lost_or_changes_on_the_way_is_found(tmp_path: Path) -> None:
    directory = package().default_directory
    answer = conversion.convert(package(), tmp_path)[directory]
    named = named_in(Element(etree.fromstring(answer["manifest"].encode())))
    assert list(conversion.lost(package(), directory, named, Path(answer["folder"]))) == []
    swap("<visibleLines>4</visibleLines>", "")(Path(answer["folder"]) / "objects" / "Opportunity.object")
    found = conversion.lost(package(), directory, named - {("CustomField", "Opportunity.Co_sell_Key__c")}, Path(answer["folder"]))
    assert sorted(str(one) for one in found) == [
        f"{AUDIT}: the conversion changed it",
        f"{KEY}: CustomField Opportunity.Co_sell_Key__c is lost in the conversion",
    ]


def test_what_the_converter_refuses_is_found_in_its_words(copy: Path) -> None:
    metadata("CustomTab", "<customObject>true</customObject>")(copy / "layouts" / "main" / "default" / "layouts" / "Lost.tabb-meta.xml")
    assert [one.path for one in conversion.findings(Package(copy)) if "Lost.tabb-meta.xml" in one.text] == ["layouts"]


# -- what Microsoft's package has, ours has exactly so (connector facts 3.1 and 3.2) ---------------------------------------------------

TEXT_100, ACTIVE = {"type": "Text", "length": "100"}, {"type": "Checkbox"}
SYNC, LINK = {"type": "Checkbox", "defaultValue": "false"}, {"type": "Url"}
IDENTIFIER = {**TEXT_100, "externalId": "true", "unique": "false"}
HISTORY = {"type": "LongTextArea", "length": "100000", "visibleLines": "4"}
MICROSOFTS_FIELDS = {
    "Opportunity.Sync_With_Partner_Center__c": SYNC,
    "Opportunity.Referral_Identifier__c": IDENTIFIER,
    "Opportunity.Referral_Link__c": LINK,
    "Opportunity.How_can_Microsoft_help__c": {"type": "Picklist", "valueSet/restricted": "true"},
    "Opportunity.Referral_visible_to_Microsoft_sellers__c": {"type": "Checkbox", "defaultValue": "false"},
    "Opportunity.Microsoft_CRM_Identifier__c": TEXT_100,
    "Opportunity.Products__c": {"type": "Text", "length": "255"},
    "Opportunity.Audit__c": HISTORY,
    "Opportunity.Co_sell_Type__c": {"type": "Picklist", "valueSet/restricted": "true"},
    "Opportunity.Customer_purchase_intent__c": {
        "type": "Picklist",
        "valueSet/restricted": "true",
        "valueSet/controllingField": "Co_sell_Type__c",
    },
    "Opportunity.Solution_Area__c": {"type": "Lookup", "referenceTo": "Solution_Area__c"},
    "Opportunity.Solution_Play__c": {"type": "Lookup", "referenceTo": "Solution_Play__c"},
    "Opportunity.Partner_Role__c": {"type": "Lookup", "referenceTo": "Partner_Role__c"},
    "Opportunity.Solution_Count__c": {"type": "Number", "precision": "18", "scale": "0", "defaultValue": "0"},
    "Lead.Audit__c": HISTORY,
    "Lead.Referral_Identifier__c": IDENTIFIER,
    "Lead.Referral_Link__c": LINK,
    "Lead.Referral_Program__c": {"type": "Text", "length": "200"},
    "Lead.Sync_With_Partner_Center__c": SYNC,
    "Microsoft_Solutions__c.Opportunity__c": {
        "type": "MasterDetail",
        "referenceTo": "Opportunity",
        "relationshipName": "Opportunity_To_Microsoft_Solutions",
    },
    "Microsoft_Solutions__c.Solution__c": {
        "type": "Lookup",
        "referenceTo": "Microsoft_Solution_Detail__c",
        "relationshipName": "Microsoft_Solutions_To_Details",
        "required": "true",
        "deleteConstraint": "Restrict",
    },
    "Microsoft_Solutions__c.Price__c": {"type": "Currency", "precision": "12", "scale": "2"},
    "Microsoft_Solutions__c.Quantity__c": {"type": "Number", "precision": "10", "scale": "0"},
    "Microsoft_Solution_Detail__c.Solution_Identifier__c": {**TEXT_100, "required": "true"},
    "Microsoft_Solution_Detail__c.Type__c": {"type": "Picklist", "valueSet/restricted": "true"},
    "Microsoft_Solution_Detail__c.Publisher_Name__c": {"type": "Text", "length": "200"},
    "Solution_Area__c.Active__c": ACTIVE,
    "Solution_Play__c.Active__c": ACTIVE,
    "Solution_Play__c.Solution_Area__c": {"type": "Lookup", "referenceTo": "Solution_Area__c"},
    "Partner_Role__c.Active__c": ACTIVE,
}
VALUES = {
    "Opportunity.How_can_Microsoft_help__c": [*HELP_CODES],
    "Opportunity.Co_sell_Type__c": ["IP Co-sell", "Services Co-sell"],
    "Opportunity.Customer_purchase_intent__c": ["Yes", "No", "HaveNotDecided"],
    "Microsoft_Solution_Detail__c.Type__c": ["1P", "3P"],
}


def custom(name: str) -> Component:
    (found,) = (one for one in package().of("CustomField") if one.name == name)
    return found


@pytest.mark.parametrize("name", MICROSOFTS_FIELDS)
def test_a_field_of_microsofts_package_is_the_same_in_ours(name: str) -> None:
    root = custom(name).root
    for path, wanted in MICROSOFTS_FIELDS[name].items():
        assert (root.text(*path.split("/")) or ("false" if wanted == "false" else "")) == wanted, path
    assert root.texts("valueSet", "valueSetDefinition", "value", "fullName") == VALUES.get(name, [])
    assert root.text("required") != "true" or "required" in MICROSOFTS_FIELDS[name]


def test_the_simulator_knows_which_fields_are_microsofts() -> None:
    assert {f"{sobject}.{name}__c" for sobject, names in MICROSOFT.items() for name in names.split()} == set(MICROSOFTS_FIELDS)


def test_the_numbers_of_solution_lines_look_like_microsofts() -> None:
    (lines,) = (one.root for one in package().of("CustomObject") if one.name == "Microsoft_Solutions__c")
    assert (lines.text("nameField", "type"), lines.text("nameField", "displayFormat")) == ("AutoNumber", "{MM}{DD}{YY}-{0}")
    assert lines.text("sharingModel") == "ControlledByParent"


def test_the_manifest_for_an_org_with_microsofts_package_brings_everything_that_is_only_ours() -> None:
    """Products__c too: the newer versions of Microsoft's package may lack it."""
    text = (SALESFORCE / "manifest" / "beside-microsoft.xml").read_text(encoding="utf-8")
    named = set(re.findall(r"<members>(\w+\.\w+__c)</members>", text))
    ours = {one.name for one in package().of("CustomField") if one.directory == package().default_directory} - set(MICROSOFTS_FIELDS)
    assert named - {"Opportunity.Products__c"} == ours


def test_the_manifest_that_removes_the_package_names_everything_but_what_goes_with_its_objects() -> None:
    put, taken = (
        named_in(Element(etree.parse(SALESFORCE / "manifest" / f"{name}.xml").getroot())) for name in ("package", "destructiveChanges")
    )
    with_its_object = {(kind, name) for kind, name in put if "." in name and name.partition(".")[0].endswith("__c")}
    assert taken == put - with_its_object


# -- the mapping -----------------------------------------------------------------------------------------------------------------------

# type in the mapping -> types of metadata that hold such a value
HOLDS = {
    "text": {"Text", "Picklist", "Url"},
    "title": {"Text"},
    "long_text": {"LongTextArea"},
    "money": {"Currency"},
    "currency": {"Picklist"},
    "date": {"Date"},
    "status": {"Picklist"},
    "one_way_flag": {"Checkbox"},
    "link": {"Url"},
    "help": {"Picklist"},
    "choice": {"Picklist"},
}
OWN = {
    "sync_field": "Checkbox",
    "audit_field": "LongTextArea",
    "help_field": "Picklist",
    "cosell_type_field": "Picklist",
    "products_field": "Text",
    "key_field": "Text",
    "token_field": "Text",
    "synced_field": "DateTime",
    "next_step_field": "Text",
    "identifier_field": "Text",
    "link_field": "Url",
    "program_field": "Text",
}
STANDARD_TYPES = {
    "string": "Text",
    "textarea": "LongTextArea",
    "currency": "Currency",
    "picklist": "Picklist",
    "date": "Date",
    "id": "Text",
}


def standard() -> dict[str, ObjectType]:
    return {one.name: one for one in standard_objects(Org())}


def type_of(sobject: str, path: str) -> str:
    """The type of metadata at a path such as `Solution_Area__r.Name`; fails where there is nothing."""
    head, _, rest = path.partition(".")
    if rest:
        return type_of(custom(f"{sobject}.{head[:-1]}c").root.text("referenceTo"), rest)
    if head.endswith("__c"):
        return custom(f"{sobject}.{head}").root.text("type")
    if sobject.endswith("__c"):
        assert head == "Name"
        return "Text"
    return STANDARD_TYPES[standard()[sobject].fields[head].type]


MAPPED = [row for row in MAPPING.fields if row.salesforce]


@pytest.mark.parametrize("row", MAPPED, ids=lambda row: row.name)
def test_every_field_of_the_mapping_is_there_with_a_type_that_holds_its_values(row: FieldRow) -> None:
    assert type_of("Opportunity", row.salesforce) in HOLDS[row.type]


@pytest.mark.parametrize(("sobject", "table"), [("Opportunity", MAPPING.opportunity), ("Lead", MAPPING.leads)], ids=["Opportunity", "Lead"])
def test_every_field_of_the_connectors_own_is_there(sobject: str, table: object) -> None:
    named = {key: getattr(table, key) for key in type(table).model_fields if key.endswith("_field")}  # type: ignore[attr-defined]
    assert {key: type_of(sobject, name) for key, name in named.items()} == {key: OWN[key] for key in named}


def test_the_solutions_of_a_deal_are_kept_where_the_mapping_says() -> None:
    told = MAPPING.solutions
    master, detail = custom(f"{told.object}.{told.opportunity_field}").root, custom(f"{told.object}.{told.detail_field}").root
    assert (master.text("referenceTo"), master.text("relationshipName") + "__r") == ("Opportunity", told.relationship)
    assert (detail.text("referenceTo"), told.detail_field[:-1] + "r") == (told.detail_object, told.detail_relationship)
    fields_there = {name: type_of(told.detail_object, name) for name in (told.identifier_field, told.type_field, told.publisher_field)}
    assert fields_there == {told.identifier_field: "Text", told.type_field: "Picklist", told.publisher_field: "Text"}
    assert type_of("Opportunity", told.count_field) == "Number"


def test_the_key_and_the_token_are_what_the_protocol_asks_for_and_no_seller_sees_them() -> None:
    own = MAPPING.opportunity
    key = custom(f"Opportunity.{own.key_field}").root
    assert [key.text(name) for name in ("unique", "externalId", "caseSensitive")] == ["true", "true", "false"]
    shown = [
        one for one in package().components if one.type in ("FlexiPage", "Layout", "ListView", "CompactLayout", "QuickAction", "Report")
    ]
    assert shown
    for one in shown:
        text = (SALESFORCE / one.path).read_text(encoding="utf-8")
        assert own.key_field not in text
        assert own.token_field not in text


# -- permissions: the connector works with its set alone, and a seller cannot write what the connector keeps ----------------------------


def rights(name: str) -> dict[str, bool]:
    """Field -> whether it may be edited, of a permission set; a field that is not there is not seen."""
    (found,) = (one for one in package().of("PermissionSet") if one.name == name)
    return {one.text("field"): one.text("editable") == "true" for one in found.root.all("fieldPermissions")}


def as_the_integration_user() -> Org:
    """An org whose integration user has nothing but the permission set. Names and what a platform requires cannot be hidden."""
    given = rights("Co_sell_Integration")
    every = {f"{name}.{field.name}" for name, found in custom_fields().items() for field in found}
    parts: dict[str, str] = {}
    for sobject in ("Opportunity", "Lead", "Account", "Contact"):
        kind = standard()[sobject]
        parts |= {f"{sobject}.{part}": f"{sobject}.{one.name}" for one in kind.fields.values() for part in one.components}
        always = {"OwnerId", "FirstName", "LastName", "CurrencyIsoCode", "ForecastCategoryName", "Probability"}
        every |= {f"{sobject}.{one.name}" for one in kind.fields.values() if one.nillable and one.createable and one.name not in always}
    unhidden = {one.name for one in package().of("CustomField") if fields.is_required(one)}
    hidden = {name for name in every - unhidden if parts.get(name, name) not in given}
    read_only = {name for name in every - unhidden - hidden if not given[parts.get(name, name)]}
    return Org(hidden_fields=frozenset(hidden), read_only_fields=frozenset(read_only))


def test_the_integration_permission_set_is_enough_for_deals_both_ways() -> None:
    w = DealWorld(org=as_the_integration_user())
    ours = OneDeal.shared(w).microsoft("accepts").portal(details__dealValue=70_000, details__notes="They want two.")
    theirs = OneDeal.from_portal(w, name="Tailspin move", customer="Tailspin").seller(Amount=61_000)
    invited = OneDeal.invited(w, name="Northwind lake", customer="Northwind").portal(status="Active", substatus="Accepted")
    assert (ours.here["Amount"], ours.here["Description"], theirs.there["details"]["dealValue"]) == (70_000, "They want two.", 61_000)
    assert ours.here["Microsoft_CRM_Identifier__c"]
    assert all(deal.here["Co_sell_Key__c"] for deal in (theirs, invited))
    assert all(deal.here["Co_sell_Last_Synced__c"] for deal in (ours, invited))
    assert (w.parked(), w.quiet()) == ({}, [])


def test_the_integration_permission_set_is_enough_for_leads() -> None:
    w = DealWorld(org=as_the_integration_user(), overlay={"switches": {"cosell_opportunities_only": False}})
    w.sim.people.microsoft_invites("Northwind wants a lake", shared=False)
    w.settle()
    (lead,) = w.sim.salesforce.records("Lead")
    assert all(lead[name] for name in ("Co_sell_Key__c", "Referral_Identifier__c", "Referral_Link__c", "Sync_With_Partner_Center__c"))
    assert (w.parked(), w.quiet()) == ({}, [])


def test_a_right_less_and_the_deals_no_longer_travel_whole() -> None:
    """The two tests above can fail."""
    org = as_the_integration_user()
    less = DealWorld(org=Org(hidden_fields=org.hidden_fields | {"Opportunity.Amount"}, read_only_fields=org.read_only_fields))
    with pytest.raises(Exception, match="Amount"):
        OneDeal.shared(less)


def test_a_seller_edits_what_travels_to_partner_center_and_nothing_that_the_connector_keeps() -> None:
    given, own = rights("Co_sell_Seller"), MAPPING.opportunity
    theirs = {
        base_field(row.salesforce) for row in MAPPED if row.direction != "to_salesforce" and base_field(row.salesforce).endswith("__c")
    }
    assert {name for name in theirs | {own.sync_field, own.cosell_type_field} if not given.get(f"Opportunity.{name}")} == set()
    kept = {row.salesforce for row in MAPPED if row.direction == "to_salesforce"}
    kept |= {own.audit_field, own.key_field, own.token_field, own.synced_field, own.next_step_field}
    assert {name for name in kept if given.get(f"Opportunity.{name}")} == set()


# -- the pages about it ----------------------------------------------------------------------------------------------------------------

PAGES = [SALESFORCE / "README.md", *sorted((SALESFORCE.parent / "docs").glob("*salesforce*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_about_the_package_names_what_is_in_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {name for one in package().components for name in (one.name, one.own_name, one.object)}
    known |= {message.words for flow in package().of("Workflow") for message in flow.root.within("fullName")}
    assert set(re.findall(r"\b(?:Co_sell_\w+|[A-Z]\w+__c)\b", text)) - known == set()
    paths = {
        path.partition(":")[0]
        for path in re.findall(r"--(?:source-dir|manifest|plan|definition-file|file|post-destructive-changes) (\S+)", text)
    }
    paths |= set(re.findall(r"\b(?:manifest|config|data)/[\w./-]+\w", text))
    assert {path for path in paths if not (SALESFORCE / path.removeprefix("salesforce/")).exists()} == set()
    replaced = {one["replaceWithEnv"] for one in package().project["replacements"]}
    assert set(re.findall(r"\b(COSELL_[A-Z_]+)=", text)) <= replaced


# -- the simulator's org is these files ------------------------------------------------------------------------------------------------


def test_the_simulators_org_follows_the_files(copy: Path) -> None:
    swap("<length>80", "<length>70")(copy / KEY)
    swap("<fullName>Services Co-sell", "<fullName>Other Co-sell")(copy / KIND)
    remove(copy / AUDIT)
    told = {field.name: field for field in custom_fields(copy)["Opportunity"]}
    assert (told["Co_sell_Key__c"].length, told["Co_sell_Key__c"].unique) == (70, True)
    assert told["Co_sell_Type__c"].picklist == ("IP Co-sell", "Other Co-sell")
    assert "Audit__c" not in told


def test_an_org_has_the_fields_of_the_packages_it_has() -> None:
    fields_there = [one for one in package().of("CustomField") if one.directory == package().default_directory]
    ours = {one.own_name for one in fields_there if one.object == "Opportunity"}
    microsofts = {f"{name}__c" for name in MICROSOFT["Opportunity"].split()}

    def seen(org: Org) -> set[str]:
        described = DealWorld(org=org).world.salesforce.describe("Opportunity")["fields"]
        return {one["name"] for one in described if one["custom"]}

    assert seen(Org()) == ours
    assert seen(Org(connector_package=False)) == microsofts
    assert seen(Org(microsoft_package=False)) == ours - microsofts


def states() -> Iterator[tuple[str, str]]:
    """What a seller sees of a deal on its way, and when."""
    w = DealWorld()
    made = w.make_deal(solutions=(), sync=False)
    deal = OneDeal(w, made.opportunity)

    def now() -> str:
        return str(deal.here["Co_sell_Sync__c"] or "")

    yield "not shared", now()
    w.seller_edits(deal.id, Sync_With_Partner_Center__c=True)
    yield "just shared", now()
    w.settle()
    yield "without a solution", now()
    (detail, *_) = w.sim.salesforce.records("Microsoft_Solution_Detail__c")
    w.sim.salesforce.person_creates("Microsoft_Solutions__c", {"Opportunity__c": deal.id, "Solution__c": detail["Id"]})
    w.settle()
    yield "with one", now()


def test_the_state_of_a_deal_can_be_read_in_a_list() -> None:
    assert dict(states()) == {
        "not shared": "",
        "just shared": "⏳ waiting",
        "without a solution": "✗ needs attention",
        "with one": "✔ in agreement",
    }


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ('IF(ISBLANK(Note__c), "none", Note__c & "!")', "none"),
        ('IF(NOT(ISBLANK(Name)), Name & " (" & TEXT(Kind__c) & ")", "")', "Lake (IP)"),
        ('CASE(Kind__c, "Services", 1, "IP", 2, 0)', 2.0),
        ('AND(On__c, ISPICKVAL(Kind__c, "IP")) && !(Name = "Sea" || Name <> "Lake")', True),
        ("OR(ISBLANK(Name), /* or */ Note__c != NULL)", False),
        ('BLANKVALUE(Note__c, "a \\"quoted\\" one")', 'a "quoted" one'),
    ],
)
def test_the_simulator_works_formulas_out(formula: str, value: object) -> None:
    assert compiled(formula)({"Name": "Lake", "Kind__c": "IP", "On__c": True, "Note__c": None}) == value


@pytest.mark.parametrize("formula", ["TODAY()", "Amount * 2", "IF(On__c", "'single'", "A B", ""])
def test_a_formula_the_simulator_does_not_know_is_refused_and_not_guessed(formula: str) -> None:
    with pytest.raises(Unplayed):
        compiled(formula)


def test_the_lists_filter_by_stages_that_a_standard_org_or_the_mapping_has() -> None:
    known = {stage.name for stage in STAGES} | {MAPPING.switches.on_hold_stage}
    for view in package().of("ListView"):
        for one in view.root.all("filters"):
            if one.text("field") == "OPPORTUNITY.STAGE_NAME":
                assert set(one.text("value").split(",")) <= known


def test_plays_are_loaded_after_the_areas_they_belong_to() -> None:
    plans = sorted((SALESFORCE / "data").glob("*/plan.json"))
    assert plans
    for plan in plans:
        steps = json.loads(plan.read_text(encoding="utf-8"))
        assert [step["sobject"] for step in steps] == ["Solution_Area__c", "Solution_Play__c", "Partner_Role__c"]
