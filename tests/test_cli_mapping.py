"""`cosell mapping`: every fault at once with its file and line, a guide that is fresh, a trial that writes nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cosell import guide_words
from cosell.app import main
from cosell.guide import PAGE, page
from shared.mapping import Mapping
from shared.mapping_check import against_schema
from shared.mapping_draft import read
from simulator.salesforce import Org, Stage
from simulator.salesforce.org import STAGES
from simulator.salesforce.schema import Field, area, picklist, text
from tests.deals import DealWorld


def run(*argv: str, world: DealWorld | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(argv, world.world if world else None, out, err)
    return code, out.getvalue(), err.getvalue()


def findings(overlay: Path, world: DealWorld | None = None) -> list[dict[str, Any]]:
    code, out, _ = run("mapping", "check", str(overlay), "--json", *([] if world else ["--offline"]), world=world)
    found: list[dict[str, Any]] = json.loads(out)["findings"]
    assert code == (1 if any(one["level"] == "fault" for one in found) else 0)
    return found


def overlay(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(content.strip("\n"), encoding="utf-8")
    return path


# -- check -----------------------------------------------------------------------------------------------------------------------------

SELDOM = Org(
    stages=(*STAGES, Stage("Legal Review", 80), Stage("Won Twice", 100, "Closed", closed=True, won=True)),
    extra_fields={
        "Opportunity": (
            Field("Forecast__c", "currency", precision=18, scale=2, createable=False, updateable=False),
            text("Campaign_Code__c", 20),
            picklist("Priority__c", "High", "Low", restricted=True),
            text("Region__c", nillable=False),
            area("Long__c", 32_000),
        )
    },
    hidden_fields=frozenset({"Opportunity.NextStep"}),
)

MANY_FAULTS = """
[switches]
activ_stage = "Discovery"
won_stage = "Closed Lots"
on_hold_stage = "Won Twice"
deal_value_field = "Forecast__c"
[fields.notes]
type = "prose"
[fields.close_date]
salesforce = "Close_Dat__c"
[fields.program]
salesforce = "NextStep"
[fields.customer]
partner_center = "customerProfile/nam"
salesforce = "Long__c"
type = "text"
direction = "to_salesforce"
[fields.campaign]
partner_center = "campaignId"
salesforce = "Campaign_Code__c"
type = "text"
direction = "both"
winner = "salesforce"
[fields.priority]
partner_center = "quality"
salesforce = "Priority__c"
type = "choice"
direction = "to_salesforce"
values = { "High" = "High", "Medium" = "Unknown" }
[fields.amount_text]
partner_center = "details/dealValue"
salesforce = "Long__c"
type = "text"
direction = "to_partner_center"
on_update = false
[fields.size]
partner_center = "customerProfile/size"
salesforce = "LeadSource"
type = "text"
direction = "both"
winner = "salesforce"
[fields.title]
clearing = true
[required]
"IP Co-sell" = ["solution_aria"]
[create.Opportunity]
LeadSource = "Partner {referal_id}"
Amount = "much"
[create.Referral]
qualification = "Excellent"
"""

# line in the file, key, words that must stand in text or remedy
EXPECTED = [
    (2, "switches.activ_stage", "did you mean 'active_stage'"),
    (3, "switches.won_stage", "did you mean 'Closed Lost'"),
    (4, "switches.on_hold_stage", "has to be open"),
    (5, "switches.deal_value_field", "cannot reach it"),
    (7, "fields.notes.type", "long_text"),
    (9, "fields.close_date.salesforce", "did you mean 'CloseDate'?"),
    (11, "fields.program.salesforce", "integration user can see"),
    (13, "fields.customer.partner_center", "did you mean 'customerProfile/name'"),
    (19, "fields.campaign.salesforce", "holds 20 characters"),
    (28, "fields.priority.values", "no value 'Medium'"),
    (32, "fields.amount_text.type", 'use type = "money"'),
    (36, "fields.size.partner_center", "takes no later change"),
    (42, "fields.title.clearing", "can never be empty"),
    (46, "create.Opportunity.LeadSource", "did you mean 'referral_id'"),
    (47, "create.Opportunity.Amount", "cannot hold 'much'"),
    (49, "create.Referral.qualification", "one of None, Direct, MarketingQualified, SalesQualified"),
    (45, "create.Opportunity", "requires Opportunity.Region__c"),
]


def test_every_fault_of_a_mapping_is_named_at_once_with_its_line_and_a_remedy(tmp_path: Path) -> None:
    found = findings(overlay(tmp_path, MANY_FAULTS), DealWorld(SELDOM))
    lines = MANY_FAULTS.strip("\n").splitlines()
    said: list[dict[str, Any]] = []
    for line, key, words in EXPECTED:
        last = key.rpartition(".")[2]
        assert lines[line - 1].startswith((last, f"[{key}]")), (line, key)
        meant = [one for one in found if one["key"] == key and words in f"{one['text']} {one['remedy']}"]
        assert [(one["file"], one["line"]) for one in meant] == [("mine.toml", line)], (key, found)
        said += meant
    rest = [f"{one['key']} {one['text']}" for one in found if one not in said]
    assert {text for text in rest if "solution_aria" not in text} == {
        "fields.amount_text.salesforce Long__c holds 32000 characters, of which type 'text' carries 255",
        "fields.size.on_update Partner Center freezes 'customerProfile/size' when a deal is made: "
        "on_update would only overwrite what sellers correct here",
        "fields.amount_text.partner_center 'details/dealValue' is already written by [fields.deal_value]",
        "fields.priority.values Priority__c value 'Low' is not mapped: a deal that has it keeps this field to itself",
        "stages.active the org's open stage 'On Hold' is not mapped: the status of a deal in it does not travel",
        "stages.active the org's open stage 'Legal Review' is not mapped: the status of a deal in it does not travel",
    }, "nothing is named that is right"
    assert len(rest) == 7


def test_a_table_that_only_warns_is_fine_unless_strictly_asked(tmp_path: Path) -> None:
    path = overlay(tmp_path, '[stages]\nactive = ["Qualification"]')
    found = findings(path, DealWorld())
    assert {one["level"] for one in found} == {"warning"}
    assert "is not mapped" in found[0]["text"]
    assert run("mapping", "check", str(path), "--strict", world=DealWorld())[0] == 1


@pytest.mark.parametrize(
    "org",
    [
        Org(),
        Org(state_and_country_picklists=True, team_selling=False),
        Org(person_accounts=True),
    ],
    ids=["plain", "picklists", "person accounts"],
)
def test_the_shipped_mapping_is_faultless_in_an_ordinary_org(org: Org) -> None:
    code, out, _ = run("mapping", "check", "--strict", world=DealWorld(org))
    assert (code, out) == (0, "no faults\n")


def test_a_single_currency_org_must_say_which(tmp_path: Path) -> None:
    world = DealWorld(Org(multi_currency=False))
    code, out, _ = run("mapping", "check", world=world)
    assert code == 1
    assert "company_currency" in out
    stated = overlay(tmp_path, '[opportunity]\ncompany_currency = "EUR"')
    assert findings(stated, world) == []


def test_a_permission_the_integration_user_lacks_is_a_fault() -> None:
    world = DealWorld(Org(read_only_fields=frozenset({"Opportunity.Description"}), hidden_fields=frozenset({"Microsoft_Solutions__c"})))
    code, out, _ = run("mapping", "check", world=world)
    assert code == 1
    assert "Description is read-only for the integration user" in out
    assert "does not see Microsoft_Solutions__c" in out


def test_a_default_owner_nobody_has_is_a_fault(tmp_path: Path) -> None:
    found = findings(overlay(tmp_path, '[people]\ndefault_owner = "nobody@contoso.example"'), DealWorld())
    assert [one["text"] for one in found] == ["no active users have the e-mail nobody@contoso.example"]


def test_a_stage_may_not_mean_two_statuses(tmp_path: Path) -> None:
    found = findings(overlay(tmp_path, '[switches]\non_hold_stage = "Prospecting"'))
    assert [one["key"] for one in found] == ["switches.on_hold_stage"]


def test_without_a_reachable_org_the_file_is_checked_and_the_trouble_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})
    code, out, err = run("mapping", "check")
    assert (code, out) == (2, "no faults\n")
    assert "could not be asked" in err
    assert "SALESFORCE_LOGIN_URL" in err


def test_a_file_that_cannot_be_read_is_one_clear_text(tmp_path: Path) -> None:
    code, _, err = run("mapping", "check", str(tmp_path / "absent.toml"), "--offline")
    assert code == 2
    assert "absent.toml cannot be read" in err
    assert "Traceback" not in err


# -- guide -----------------------------------------------------------------------------------------------------------------------------


def test_the_guide_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m cosell mapping guide --write`"


def test_the_guide_has_every_field_and_every_switch() -> None:
    shown = page()
    mapping = Mapping.load()
    for row in mapping.fields:
        assert f"### {row.label}\n" in shown
        assert f"`{row.partner_center}`" in shown
    for switch in type(mapping.switches).model_fields:
        assert f"| `{switch}` |" in shown


@pytest.mark.parametrize(
    ("title", "toml"), [(title, toml) for title, _, toml in guide_words.EXAMPLES], ids=[one[0] for one in guide_words.EXAMPLES]
)
def test_every_example_of_the_guide_is_a_faultless_overlay_that_differs(tmp_path: Path, title: str, toml: str) -> None:
    path = overlay(tmp_path, toml)
    draft = read(path)
    assert [*draft.findings, *against_schema(draft)] == []
    assert draft.mapping is not None
    assert draft.mapping.fingerprint != Mapping.load().fingerprint or draft.mapping.active_stages != Mapping.load().active_stages


def test_the_guide_of_an_overlay_shows_what_it_states(tmp_path: Path) -> None:
    path = overlay(tmp_path, '[switches]\ndeal_value_field = "Partner_Value__c"\n[fields.program]\ndrop = true')
    code, out, _ = run("mapping", "guide", str(path))
    assert code == 0
    assert "`Partner_Value__c`" in out
    assert "### program" not in out


# -- try -------------------------------------------------------------------------------------------------------------------------------


def test_a_trial_shows_what_would_be_created_and_writes_nothing() -> None:
    world = DealWorld()
    deal = world.make_deal()
    world.sim.clock.advance(5)
    position = world.position()
    code, out, _ = run("mapping", "try", "--opportunity", deal.opportunity, "--json", world=world)
    sent = json.loads(out)["sends"][0]
    assert code == 0
    assert (sent["vendor"], sent["body"]["externalReferenceId"], sent["body"]["details"]["dealValue"]) == (
        "Partner Center",
        deal.opportunity,
        50000,
    )
    assert world.mutations(position) == []
    assert list(world.world.state.links()) == []


def test_a_trial_names_what_is_missing() -> None:
    world = DealWorld()
    deal = world.make_deal(country="Portugal", solutions=())
    world.sim.clock.advance(5)
    position = world.position()
    code, out, _ = run("mapping", "try", "--opportunity", deal.opportunity, world=world)
    assert code == 1
    assert "Solution ID is required" in out
    assert "two letters" in out
    assert world.mutations(position) == []


def test_a_trial_of_a_referral_shows_the_records_it_would_become(tmp_path: Path) -> None:
    world = DealWorld()
    referral = world.sim.people.portal_create_deal("Fabrikam cloud migration")
    path = overlay(tmp_path, '[create.Opportunity]\nNextStep = "Answer {title}"')
    position = world.position()
    code, out, _ = run("mapping", "try", str(path), "--referral", referral["id"], "--json", world=world)
    records = json.loads(out)["sends"][0]["body"]
    opportunity = next(one for one in records if one["object"] == "Opportunity")
    assert code == 0
    assert opportunity["NextStep"] == "Answer Fabrikam cloud migration", "the mapping named is the one tried"
    assert {"Account", "Contact"} <= {one["object"] for one in records}
    assert world.mutations(position) == []
