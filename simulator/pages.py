"""The control host's web page: both records of every deal side by side, editable, and what went over the wire.

Server-rendered; a few lines of script fetch the page again and put its live part in place. Every value is escaped by `_input` or `_e`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from simulator.core import Request, Response
from simulator.salesforce import Refusal as SalesforceRefusal
from simulator.shape import ASSISTANCE, Refusal

if TYPE_CHECKING:
    from simulator.simulator import Simulator

HELP = (
    "Workload Specific Value Proposition",
    "Customer Technical Architecture",
    "Proof Of Concept or Demo",
    "Quotes or Licensing",
    "Post Sales Customer Success",
    "General or Other",
)
YES_NO = ("true", "false")
STATES = ("New/Pending", "New/Received", "Active/Accepted", "Closed/Won", "Closed/Lost", "Closed/Declined")

# Field or path, label, and how it is entered: text, area, number, flag, or a list of choices.
Inputs = tuple[tuple[str, str, Any], ...]
REFERRAL: Inputs = (
    ("name", "Deal name", "text"),
    ("details/dealValue", "Value", "number"),
    ("details/currency", "Currency", "text"),
    ("details/closingDateTime", "Closing", "text"),
    ("details/notes", "Notes", "area"),
    ("consent/consentToShareReferralWithMicrosoftSellers", "Visible to Microsoft", "flag"),
    ("state", "Status", STATES),
    ("statusReason", "Reason", "text"),
)
OPPORTUNITY: Inputs = (
    ("Name", "Name", "text"),
    ("Amount", "Amount", "number"),
    ("CurrencyIsoCode", "Currency", "text"),
    ("CloseDate", "Close date", "text"),
    ("Description", "Description", "area"),
    ("Referral_visible_to_Microsoft_sellers__c", "Visible to Microsoft", "flag"),
    ("StageName", "Stage", "stages"),
    ("How_can_Microsoft_help__c", "Microsoft help", ("", *HELP)),
    ("Sync_With_Partner_Center__c", "Sync", "flag"),
)

STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#222;background:#f6f6f4}
h1{font-size:1.2rem} h2{font-size:1rem;margin:0 0 .5rem}
.deal{display:grid;grid-template-columns:repeat(3,1fr);gap:1rem;padding:1rem;margin:0 0 1rem;background:#fff}
label{display:grid;grid-template-columns:9rem 1fr;margin:.15rem 0}
input,select,textarea{font:inherit;width:100%;box-sizing:border-box}
form.row{display:inline-flex;gap:.4rem;margin:0 1rem .6rem 0} form.row input,form.row select{width:auto} button{font:inherit;cursor:pointer}
table{border-collapse:collapse;width:100%;background:#fff} td,th{text-align:left;padding:.15rem .6rem;border-bottom:1px solid #eee}
.said{background:#fde8e8;padding:.5rem 1rem;border-radius:6px} .quiet{color:#777} pre{white-space:pre-wrap;margin:.3rem 0}
"""
SCRIPT = """
let editing = false;
document.addEventListener('input', () => editing = true);
setInterval(async () => {
  const live = document.getElementById('live');
  if (editing || live.contains(document.activeElement)) return;
  try {
    const fresh = new DOMParser().parseFromString(await (await fetch('/')).text(), 'text/html').getElementById('live');
    if (fresh && fresh.innerHTML !== live.innerHTML && !editing) live.replaceWith(fresh);
  } catch { /* the simulator has ended */ }
}, 1000);
"""


def handle(simulator: Simulator, request: Request) -> Response:
    if (request.method, request.path) == ("GET", "/"):
        page = _page(simulator, request.parameters().get("said", ""))
        headers = {"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
        return Response(200, page.encode(), headers)
    if request.method == "POST" and request.path.startswith("/act/"):
        said = ""
        try:
            _act(simulator, request.path.removeprefix("/act/"), request.form())
        except (Refusal, SalesforceRefusal, LookupError, ValueError) as error:
            said = f"?said={quote(str(error) or type(error).__name__)}"
        return Response(303, b"", {"Location": f"/{said}"})
    return Response(404)


def _act(simulator: Simulator, action: str, form: Mapping[str, str]) -> None:
    people, id = simulator.people, form.get("id", "")
    match action:
        case "referral":
            people.portal_edit(id, _changes(form, REFERRAL))
        case "opportunity":
            simulator.salesforce.person_edits("Opportunity", id, _changes(form, OPPORTUNITY))
        case "new-referral":
            people.portal_create_deal(form["name"], help_code=form["help"] or None)
        case "new-opportunity":
            simulator.salesforce.make_deal(form["name"])
        case "invitation":
            people.microsoft_invites(form["name"])
        case "accept":
            people.microsoft_accepts(id)
        case "decline":
            people.microsoft_declines(id)
        case "advance":
            simulator.advance(float(form["hours"]) * 3600)
        case _:
            raise LookupError(action)


def _changes(form: Mapping[str, str], inputs: Inputs) -> dict[str, Any]:
    """What the person changed, by what the form held when it was shown; so a stale page puts no old value back."""
    changes: dict[str, Any] = {}
    for name, _, kind in inputs:
        text = form.get(name, "").replace("\r\n", "\n")
        if name not in form or text == form.get(f"was:{name}", "").replace("\r\n", "\n"):
            continue
        if name == "state":
            changes["status"], changes["substatus"] = text.split("/")
        elif kind == "flag":
            changes[name] = text == "true"
        else:
            changes[name] = (float(text) if kind == "number" else text) if text else None
    return changes


def _page(simulator: Simulator, said: str) -> str:
    opportunities = simulator.salesforce.records("Opportunity")[::-1]
    deals, linked = [], set()
    for referral in reversed(simulator.referrals()):
        keys = {referral["externalReferenceId"], referral["id"]}
        found = next((row for row in opportunities if keys & {row["Id"], row.get("Referral_Identifier__c")}), None)
        linked.add(found["Id"] if found else "")
        deals.append((referral["createdDateTime"], _deal(simulator, found, referral)))
    deals += [(row["CreatedDate"], _deal(simulator, row, None)) for row in opportunities if row["Id"] not in linked]
    live = "".join(text for _, text in sorted(deals, key=lambda deal: str(deal[0]), reverse=True)) or "<p>No deals yet.</p>"
    name = '<input name="name" required value="{}">'
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Co-sell simulator</title><style>{STYLE}</style>"
        f"<h1>Co-sell simulator <span class=quiet>{simulator.clock.now():%Y-%m-%d %H:%M} UTC</span></h1>"
        + (f"<p class=said>Refused: {_e(said)}</p>" if said else "")
        + _button("new-opportunity", "New opportunity in Salesforce", name.format("Fabrikam data estate"))
        + _button(
            "new-referral", "New deal in the portal", name.format("Fabrikam cloud migration") + _select("help", "", ("", *ASSISTANCE[1:]))
        )
        + _button("invitation", "Invitation from Microsoft", name.format("Fabrikam data platform"))
        + _button("advance", "Move the clock", '<input name="hours" type="number" value="24" min="0" style="width:5rem"> hours')
        + f"<div id=live>{live}{_wire(simulator)}</div><script>{SCRIPT}</script></html>"
    )


def _deal(simulator: Simulator, opportunity: Mapping[str, Any] | None, referral: Mapping[str, Any] | None) -> str:
    here = there = theirs = "<p class=quiet>none</p>"
    if opportunity:
        here = _form("opportunity", opportunity["Id"], OPPORTUNITY, opportunity, simulator)
        here += _facts(opportunity, ("Id", "Referral_Identifier__c", "Microsoft_CRM_Identifier__c", "LastModifiedDate"))
        here += f"<pre class=quiet>{_e(opportunity.get('Audit__c'))}</pre>"
    if referral:
        values = {"state": f"{referral['status']}/{referral['substatus']}", **_flat(referral)}
        there = _form("referral", referral["id"], REFERRAL, values, simulator)
        there += _facts(referral, ("id", "externalReferenceId", "type", "direction", "updatedDateTime", "eTag"))
        microsoft = simulator.people.microsoft_record(referral["id"])
        if microsoft:
            facts = {**_flat(microsoft), "state": f"{microsoft['status']}/{microsoft['substatus']}"}
            facts["seller"] = ", ".join(str(member["email"]) for member in microsoft["team"])
            asked = "inviteContext/assistanceRequestCode"
            theirs = _facts(facts, ("state", "statusReason", "trackingInfo/microsoftMsxId", "seller", asked, "expirationDateTime"))
            if microsoft["status"] == "New":
                hidden = _input(type="hidden", name="id", value=referral["id"])
                theirs += _button("accept", "Microsoft accepts", hidden) + _button("decline", "Microsoft declines", hidden)
    columns = (("Salesforce opportunity", here), ("Partner Center referral", there), ("Microsoft's referral", theirs))
    return "<div class=deal>" + "".join(f"<section><h2>{title}</h2>{body}</section>" for title, body in columns) + "</div>"


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in record.items():
        result |= _flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return result


def _form(action: str, id: str, inputs: Inputs, values: Mapping[str, Any], simulator: Simulator) -> str:
    fields = _input(type="hidden", name="id", value=id)
    for name, label, kind in inputs:
        value = values.get(name)
        text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        choices = YES_NO if kind == "flag" else [stage.name for stage in simulator.salesforce.org.stages] if kind == "stages" else kind
        if kind == "area":
            entry = f'<textarea name="{_e(name)}" rows=2>\n{_e(text)}</textarea>'
        elif isinstance(choices, str):
            entry = _input(name=name, value=text, **({"type": "number", "step": "any"} if kind == "number" else {}))
        else:
            entry = _select(name, text, choices)
        fields += f"<label><span>{_e(label)}</span>{entry}</label>" + _input(type="hidden", name=f"was:{name}", value=text)
    return f'<form method=post action="/act/{action}">{fields}<button>Save</button></form>'


def _select(name: str, value: str, choices: Iterable[str]) -> str:
    known = list(dict.fromkeys([*choices, value]))
    options = "".join(f'<option value="{_e(choice)}"{" selected" if choice == value else ""}>{_e(choice)}</option>' for choice in known)
    return f'<select name="{_e(name)}">{options}</select>'


def _button(action: str, label: str, fields: str) -> str:
    return f'<form class=row method=post action="/act/{action}">{fields}<button>{_e(label)}</button></form>'


def _facts(values: Mapping[str, Any], names: Iterable[str]) -> str:
    rows = "".join(f"<tr><td class=quiet>{_e(name.rpartition('/')[2])}</td><td>{_e(values.get(name))}</td></tr>" for name in names)
    return f"<table>{rows}</table>"


def _wire(simulator: Simulator) -> str:
    calls = "".join(
        f"<tr><td>{call.at:%H:%M:%S}</td><td>{_e(call.host)}</td><td>{_e(call.method)}</td><td>{_e(call.path)}</td><td>{call.status}</td></tr>"
        for call in reversed(simulator.journal.calls(since=max(0, simulator.journal.position() - 25)))
    )
    sent = [*simulator.webhooks.finished][-10:] + simulator.webhooks.waiting
    events = "".join(
        f"<tr><td>{_e(delivery.name)}</td><td>{_e(delivery.state)}</td><td>{_e([status for status, _ in delivery.answers])}</td></tr>"
        for delivery in reversed(sent)
    )
    return f"<h2>Last calls</h2><table>{calls}</table><h2>Events</h2><table>{events}</table>"


def _input(**attributes: str) -> str:
    return "<input " + " ".join(f'{key}="{_e(value)}"' for key, value in attributes.items()) + ">"


def _e(value: Any) -> str:
    return html.escape("" if value is None else str(value))
