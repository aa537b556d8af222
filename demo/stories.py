"""The stories there are, in the order in which they are told. A further one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable

from demo.invitations import accept, decline
from demo.partner_center_first import partner_center_first
from demo.salesforce_first import salesforce_first
from demo.solutions import solutions
from demo.stage import Stage
from demo.telling import Teller

Story = Callable[[Stage, Teller], None]

STORIES: dict[str, Story] = {
    "salesforce-first": salesforce_first,
    "partner-center-first": partner_center_first,
    "accept": accept,
    "decline": decline,
    "solutions": solutions,
}
