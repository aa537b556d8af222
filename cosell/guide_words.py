"""The words of the field mapping guide that no row can say. The examples are compiled by a test."""

INTRODUCTION = """\
# The field mapping guide

<!-- Written by `python -m cosell mapping guide --write` from mapping.toml. Change that, not this. -->

What travels between a Partner Center referral and a Salesforce opportunity, field by field. The rows are those of `mapping.toml`, which the
connector itself reads. To change anything, see [Make it yours](#make-it-yours): no code is involved.

How two values become one:

* Nothing changes where both sides say the same. Amounts, dates and texts are compared by meaning: `1000` is `1000.00`, and a check mark
  before a name is not part of it.
* If one side changed since both last agreed, its value travels. No clock is involved.
* If both changed and neither saw the other, the **winner** of the field stands; the history keeps the other value.
* When two existing records meet for the first time, an empty field takes the other's value; where both hold one, the winner stands.
* While an invitation is on hold nothing travels to Partner Center. A closed referral is never changed. Syncing ends where
  *Sync With Partner Center* is off.
* What cannot travel is said: in *Audit* on the opportunity, and in `cosell status`.
"""

STATUS_TABLE = """\
## Status and stage

| Partner Center | Salesforce |
| --- | --- |
| New (Pending, Received) | the on-hold stage |
| Active (Accepted) | any active stage; a deal that was on hold, or is new, gets the active stage |
| Closed, Won | the won stage, or any stage that Salesforce counts as won |
| Closed, Lost, Declined, Expired or Error | the lost stage, or any stage that Salesforce counts as closed |

Leaving the on-hold stage accepts the invitation; losing the deal while on hold declines it. A closed status beats an open one. If both sides are
closed differently, Partner Center stands. An active referral never pulls back a seller's later stage.
"""

TYPES = {
    "text": "Texts are cut at 255 characters.",
    "long_text": "Texts are cut at 32,000 characters; line ends are made alike.",
    "money": "A number with at most two decimals; a negative amount does not travel to Partner Center.",
    "date": "A day, in UTC.",
    "choice": "A value that is not in the map is left alone and said.",
    "one_way_flag": "Once it is yes in Partner Center it stays yes.",
    "link": "Made from the referral's id by the template under `[referral]`.",
}

FIELDS = {
    "title": "A check mark before the name is taken off before it is compared or sent. Cut at 118 characters, so that the mark fits.",
    "deal_value": "At most two decimals. Follows the opportunity's products where it has any: Salesforce then takes no amount. "
    "A negative amount does not travel to Partner Center.",
    "currency": "Exists in multi-currency orgs only; elsewhere `company_currency` says which currency all amounts are in.",
    "close_date": "A day, in UTC; the portal may show the day before or after in other time zones. A new opportunity for an "
    "invitation without a date gets one 90 days ahead, and Audit says so.",
    "notes": "Cut at 32,000 characters.",
    "status": "See [Status and stage](#status-and-stage).",
    "visible": "One way: once Microsoft's sellers may see a deal, that cannot be taken back. Asking for help implies it.",
    "solutions": "Added solutions are added. Of what stands in Partner Center only what the connector added is ever removed, and the last one "
    "never: when the last row is removed in Salesforce, Sync With Partner Center is turned off.",
    "external_reference": "How each side finds the other; put into the referral when it is created.",
    "referral_key": "The same id in a unique field of the connector's own package: Salesforce itself then refuses to double a deal.",
    "referral_link": "Made by the template under `[referral]`.",
    "microsoft_crm_id": "Known once Microsoft has accepted.",
    "microsoft_answer": "Accepted by whom, declined or expired, with the reason if Microsoft gave one.",
    "help": "Turns the deal into a co-sell deal: Microsoft is asked. May be given later; once submitted it cannot be changed. "
    "Values: see [How can Microsoft help?](#how-can-microsoft-help)",
    "contacts": "People who joined are added, matched by e-mail; nobody is removed. From Partner Center they come with the new opportunity.",
    "team": "People who joined are added, matched by e-mail; nobody is removed. From Partner Center, members who are active users become "
    "owner and opportunity team of the new opportunity.",
}

# title, words, overlay
EXAMPLES = (
    (
        "The deal value stands in another field",
        "The field must be one the integration user may edit. Of a formula, which nobody can write, say so.",
        """
[switches]
deal_value_field = "Partner_Value__c"

# only if Partner_Value__c is a formula
[fields.deal_value]
direction = "to_partner_center"
""",
    ),
    (
        "The customer's country stands in another field",
        "A text or picklist field of Account with the two letters of ISO 3166. With Salesforce's state and country picklists on, nothing is "
        "needed: their code field is found.",
        """
[switches]
country_field = "Country_Code__c"
""",
    ),
    (
        "The stages have other names",
        "All four must exist in the org and be of their kind. List every open stage in which a deal counts as active.",
        """
[switches]
active_stage = "Discovery"
on_hold_stage = "Partner Invitation"
won_stage = "Won"
lost_stage = "Lost"

[stages]
active = ["Discovery", "Solution Design", "Commercial Review"]
""",
    ),
    (
        "One more field",
        "Any path of a referral that the API lets change may travel both ways. Of the others, use `to_salesforce`, or `on_update = false`.",
        """
[fields.campaign]
partner_center = "campaignId"
salesforce = "Partner_Campaign__c"
type = "text"
direction = "both"
winner = "partner_center"
""",
    ),
    (
        "One field less",
        "The field keeps whatever it holds on either side.",
        """
[fields.program]
drop = true
""",
    ),
    (
        "Another winner, another direction",
        "Here Partner Center's closing date stands in a conflict, and the notes never leave Salesforce.",
        """
[fields.close_date]
winner = "partner_center"

[fields.notes]
direction = "to_salesforce"
""",
    ),
    (
        "Fields your org requires",
        "Constants for records that come from Partner Center. The names of fields stand in braces for their values.",
        """
[create.Opportunity]
Region__c = "EMEA"
NextStep = "Answer the invitation {title}"

[create.Account]
Industry = "Other"
""",
    ),
    (
        "A picklist with other values",
        "Salesforce value on the left, Partner Center's on the right. What stands in neither is left alone and said.",
        """
[fields.sales_stage]
partner_center = "salesStage"
salesforce = "Partner_Sales_Stage__c"
type = "choice"
direction = "both"
winner = "salesforce"
values = { "Qualified" = "20", "Developed" = "40", "Proposed" = "60", "Negotiated" = "80" }
""",
    ),
    (
        "Other texts",
        "`{id}` is the referral's id, `{time}` is UTC, `{text}` what happened.",
        """
[referral]
link = "https://partner.microsoft.com/dashboard/referrals/v2/inbox?id={id}"

[audit]
line = "{time} UTC: {text}"
""",
    ),
    (
        "A constant in every new referral",
        "A path of the referral on the left.",
        """
[create.Referral]
campaignId = "FY27-cosell"
""",
    ),
)
