"""The seller's page as a web page: `python -m tests.seller_page > seller-page.html`, from which docs/images/seller-page.png is taken.

What it shows, in which order and under which label is read from `salesforce/`; the values are those of invented deals that the connector
has just synchronized with the simulator. The looks are ours, not Salesforce's.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, parse

from tests.deals import DealWorld
from tests.one_deal import OneDeal, Row

SALESFORCE = Path(__file__).resolve().parent.parent / "salesforce"
PAGE = SALESFORCE / "seller-page/main/default/flexipages/Co_sell_Opportunity.flexipage-meta.xml"
LIST = SALESFORCE / "force-app/main/default/objects/Opportunity/listViews/Co_sell_Needs_Attention.listView-meta.xml"
LISTED = ("Name", "StageName", "Amount", "Co_sell_Sync__c", "Co_sell_Next_Step__c")

STYLE = """
body{font:13px/1.45 "DejaVu Sans",system-ui,sans-serif;margin:0;padding:18px;background:#eef1f6;color:#1c1c1c;width:1120px}
section{background:#fff;border:1px solid #d5d9e0;border-radius:6px;padding:12px 16px;margin:0 0 12px}
h1{font-size:18px;margin:0} h2{font-size:14px;margin:0 0 8px} small,dt{color:#5a6270;font-size:12px}
.columns{display:grid;grid-template-columns:1fr 1fr;gap:0 28px} dl{margin:0}
dt{margin-top:5px} dd{margin:0;padding-bottom:3px;border-bottom:1px solid #eceef2;min-height:19px;white-space:pre-wrap}
header{display:flex;justify-content:space-between;align-items:center} b.button{border:1px solid #b9c0cc;border-radius:4px;padding:4px 10px;
margin-left:6px;font-weight:normal;color:#0b5cab} table{border-collapse:collapse;width:100%} td,th{text-align:left;padding:4px 8px;
border-bottom:1px solid #eceef2} td:not(:last-child){white-space:nowrap} th{color:#5a6270;font-weight:normal;font-size:12px}
"""


class Shown:
    """One record's values as a person reads them, under the labels of the org."""

    def __init__(self, w: DealWorld, row: Row, sobject: str = "Opportunity") -> None:
        self._w, self._row = w, row
        self._fields = {one["name"]: one for one in w.world.salesforce.describe(sobject)["fields"]}

    def label(self, name: str) -> str:
        return str(self._fields[name]["label"]).removesuffix(" ID")

    def value(self, name: str) -> str:
        value, kind = self._row.get(name), self._fields[name]["type"]
        if value is None:
            return ""
        if kind == "boolean":
            return "☑" if value else "☐"
        if kind == "reference":
            found = self._w.opportunity(value)
            return str(found.get("Name") or f"{found['FirstName']} {found['LastName']}")
        if kind == "datetime":
            return str(value)[:16].replace("T", " ")
        if kind == "currency":
            return f"{self._row['CurrencyIsoCode']} {value:,.2f}"
        return f"{value:.0f}" if kind in ("double", "percent") else str(value)

    def visible(self, rules: Iterable[Element]) -> bool:
        return all(self._says(rule) for rule in rules)

    def _says(self, rule: Element) -> bool:
        name = rule.findtext(".//{*}leftValue", "").removeprefix("{!Record.").removesuffix("}")
        return str(self._row.get(name)).lower() == rule.findtext(".//{*}rightValue", "").lower()


def read(path: Path) -> Element:
    return parse(path).getroot()  # noqa: S314 - our own files


def page() -> str:
    w = DealWorld()
    deal = OneDeal.shared(
        w, How_can_Microsoft_help__c="Quotes or Licensing", Co_sell_Type__c="IP Co-sell", Customer_purchase_intent__c="Yes"
    )
    w.sim.clock.advance(2 * 24 * 3600)
    deal.microsoft("accepts")
    w.sim.clock.advance(3 * 3600)
    deal.portal(details__dealValue=62_500)
    OneDeal.shared(w, "Northwind archive", customer="Northwind", solutions=())
    OneDeal.shared(w, "Tailspin move", customer="Tailspin", country="United States")
    shown, tree = Shown(w, deal.here), read(PAGE)
    parked = [Shown(w, row) for row in w.opportunities() if row["Co_sell_Next_Step__c"]]
    head = f"<small>Opportunity</small><h1>{_e(shown.value('Name'))}</h1>"
    body = "".join(_section(label, columns, shown) for label, columns in sections(tree)) + _solutions(tree, w, deal) + _listed(parked)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Opportunity</title><style>{STYLE}</style>"
        f"<section><header><div>{head}</div><div>{_buttons(tree, shown)}</div></header></section>{body}</html>"
    )


def _buttons(tree: Element, shown: Shown) -> str:
    panel = _component(tree, "force:highlightsPanel")
    offered = [one for one in panel.iterfind(".//{*}valueListItems") if shown.visible(one.iterfind("{*}visibilityRule"))]
    names = [one.findtext("{*}value", "").rpartition(".")[2] for one in offered]
    ours = {path.name.split(".")[1]: path for path in SALESFORCE.glob("*/main/default/quickActions/*.xml")}
    return "".join(f"<b class=button>{_e(_label(ours[name]) if name in ours else name)}</b>" for name in names)


def _component(tree: Element, name: str) -> Element:
    return next(one for one in tree.iterfind(".//{*}componentInstance") if one.findtext("{*}componentName") == name)


def _label(path: Path) -> str:
    return read(path).findtext("{*}label", "")


def sections(tree: Element) -> Iterator[tuple[str, list[list[Element]]]]:
    """The label of each section of fields, with the fields of each of its columns, as the page shows them."""
    facets = {one.findtext("{*}name"): one for one in tree.iterfind("{*}flexiPageRegions")}
    for component in tree.iterfind(".//{*}componentInstance"):
        said = _properties(component)
        if "columns" in said:
            bodies = [_properties(one)["body"] for one in facets[said["columns"]].iterfind(".//{*}componentInstance")]
            yield said["label"], [list(facets[body].iterfind(".//{*}fieldInstance")) for body in bodies]


def field_of(instance: Element) -> str:
    """API name of the field that an element of a column shows."""
    return instance.findtext("{*}fieldItem", "").removeprefix("Record.")


def _properties(component: Element) -> dict[str, str]:
    return {one.findtext("{*}name", ""): one.findtext("{*}value", "") for one in component.iterfind("{*}componentInstanceProperties")}


def _section(label: str, columns: list[list[Element]], shown: Shown) -> str:
    def drawn(column: list[Element]) -> str:
        names = [field_of(one) for one in column if shown.visible(one.iterfind("{*}visibilityRule"))]
        return "".join(f"<dt>{_e(shown.label(name))}</dt><dd>{_e(shown.value(name))}</dd>" for name in names)

    lists = "".join(f"<dl>{drawn(column)}</dl>" for column in columns)
    return f"<section><h2>{_e(label)}</h2><div class=columns>{lists}</div></section>"


def _solutions(tree: Element, w: DealWorld, deal: OneDeal) -> str:
    component = _component(tree, "lst:dynamicRelatedList")
    (columns,) = (
        one for one in component.iterfind("{*}componentInstanceProperties") if one.findtext("{*}name") == "relatedListFieldAliases"
    )
    names = [str(one.text).replace("NAME", "Name") for one in columns.iterfind(".//{*}valueListItems/{*}value")]
    rows = [Shown(w, row, "Microsoft_Solutions__c") for row in deal.children("Microsoft_Solutions__c")]
    return _table("Microsoft Solutions", [rows[0].label(name) for name in names], [[row.value(name) for name in names] for row in rows])


def _listed(deals: list[Shown]) -> str:
    return _table(
        f"List view: {_label(LIST)}", [deals[0].label(name) for name in LISTED], [[one.value(name) for name in LISTED] for one in deals]
    )


def _table(title: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_e(cell)}" for cell in cells) + "</tr>"

    return f"<section><h2>{_e(title)}</h2><table>{line(heads, 'th')}{''.join(line(row, 'td') for row in rows)}</table></section>"


def _e(text: object) -> str:
    return html.escape("" if text is None else str(text))


if __name__ == "__main__":
    print(page())
