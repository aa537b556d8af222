"""Where Partner Center sends its events: a registration is planned, shown, then made.

A partner tenant has one registration, and it has one address for its whole list of events. Registering is replacing: whoever
sends a shorter list or another address takes events away from other systems (subscriptions, invoices, fraud alerts). So the
plan merges, and nothing that exists is replaced unless the caller says so.
Vendor source: "Partner Center webhooks" of Microsoft's developer documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from shared.errors import ConnectorError, Misconfigured
from shared.notifications import MAXIMUM_BODY, REFERRAL_EVENTS, TEST_EVENT
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.partner_center import PartnerCenter

Action = Literal["create", "replace", "none", "refused"]

# Plain http is for this machine only, where a simulator delivers the events.
_CALLBACK = re.compile(r"(?:https://[A-Za-z0-9.-]+|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{1,5})?(?:[/?][!-\"$-~]*)?")


class BadRequest(ConnectorError):
    """The request for a registration cannot be understood (answer 400). The message names every fault and may be shown."""


def _callback(url: str) -> str:
    if not _CALLBACK.fullmatch(url):
        raise ValueError("must be an https:// address without user name, fragment or blanks")
    return url


class RegistrationRequest(BaseModel):
    """The body of `POST /api/webhook-registration`. Everything may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    callback_url: Annotated[str, Field(max_length=2000), AfterValidator(_callback)] | None = None
    events: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(min_length=1, max_length=200)] | None = None
    overwrite: StrictBool = False
    try_out: Annotated[StrictBool, Field(alias="validate")] = False

    @classmethod
    def read(cls, raw: bytes) -> RegistrationRequest:
        """The request in a body; an empty body asks for the defaults. Raises `BadRequest` with every fault."""
        if len(raw) > MAXIMUM_BODY:
            raise BadRequest(f"the body has {len(raw)} bytes; at most {MAXIMUM_BODY} are read")
        try:
            return cls.model_validate_json(raw.strip() or b"{}")
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}" for fault in error.errors()]
            raise BadRequest("the registration request cannot be used: " + "; ".join(faults)) from None


@dataclass(frozen=True)
class RegistrationPlan:
    """What would be registered, and what that does to what is registered now."""

    action: Action
    url: str
    events: tuple[str, ...]
    """The whole list after the action, other systems' events first, as they were."""
    added: tuple[str, ...]
    kept: tuple[str, ...]
    """Registered by somebody else and kept."""
    taken_over: tuple[str, ...]
    """Sent to `old_url` until now."""
    old_url: str | None
    why: str

    def __str__(self) -> str:
        """For people and logs: addresses without their query, which may hold a key."""
        lines = [f"{self.action}: {self.why}", f"  address     {_without_query(self.url)}"]
        if self.taken_over:
            lines.append(f"  taken over  {', '.join(self.taken_over)} (from {_without_query(self.old_url or '')})")
        for label, names in (("added", self.added), ("kept", self.kept)):
            if names:
                lines.append(f"  {label:<10}  {', '.join(names)}")
        return "\n".join(lines)


def plan_registration(
    current: Mapping[str, Any] | None, supported: Sequence[str], callback_url: str, events: Sequence[str] | None, overwrite: bool
) -> RegistrationPlan:
    """Merges the events wanted (the four referral events unless others are named) into what Partner Center has registered now.

    Raises `BadRequest` for events Partner Center does not offer. Our own five are asked for even if its list leaves them out:
    the published sample of that list is shorter than the truth, and the service itself has the last word.
    """
    wanted = tuple(dict.fromkeys(events or REFERRAL_EVENTS))
    unknown = [name for name in wanted if name not in supported and name not in (*REFERRAL_EVENTS, TEST_EVENT)]
    if unknown:
        raise BadRequest(
            f"events: Partner Center does not offer {', '.join(map(ascii, unknown))}; it offers {', '.join(supported) or 'none at present'}"
        )

    old_url, old_events = registered(current)
    exists = old_url is not None
    moved = exists and old_url != callback_url
    added = tuple(name for name in wanted if name not in old_events)
    taken_over = old_events if moved else ()
    action, why = _decide(exists, moved, added, taken_over, overwrite)
    return RegistrationPlan(
        action=action,
        url=callback_url,
        events=(*old_events, *added),
        added=added,
        kept=tuple(name for name in old_events if name not in wanted),
        taken_over=taken_over,
        old_url=old_url,
        why=why,
    )


def _decide(exists: bool, moved: bool, added: Sequence[str], taken_over: Sequence[str], overwrite: bool) -> tuple[Action, str]:
    if not exists:
        return "create", "nothing is registered"
    if not moved and not added:
        return "none", "all of it is registered already"
    changes: list[str] = []
    if moved:
        changes.append("move every event from the registered address to this one")
    if added:
        changes.append(f"add {', '.join(added)}")
    if overwrite:
        return "replace", f"overwrite was asked for: {' and '.join(changes)}"
    return "refused", f"a registration exists and overwrite is false; with overwrite it would {' and '.join(changes)}"


def register(
    partner_center: PartnerCenter, settings: Settings, callback_url: str | None, events: Sequence[str] | None, overwrite: bool
) -> dict[str, Any]:
    """Registers for events and answers what was, what is and what changed hands.

    `callback_url` None means the app's own address, `WEBHOOK_CALLBACK_URL`. The answer holds the former address in full, so
    that a person can put it back; it may contain a key and does not belong in a log (print the plan instead).
    """
    url = callback_url or settings.webhook_callback_url
    try:
        _callback(url)
    except ValueError as error:
        if callback_url:
            raise BadRequest(f"callback_url {error}") from None
        raise Misconfigured(f"WEBHOOK_CALLBACK_URL {error}: give the public address of partner_center_to_salesforce") from None

    current = partner_center.registration()
    plan = plan_registration(current, partner_center.supported_events(), url, events, overwrite)
    before = _shape(current)
    now, why = before, plan.why
    done = plan.action in ("create", "replace") and not settings.shadow
    if settings.shadow:
        why = f"shadow mode, nothing was registered: {why}"
    if done:
        answered = partner_center.register(plan.url, list(plan.events), replace=plan.action == "replace")
        now = _shape(answered) or {"url": plan.url, "events": list(plan.events)}
        left_out = [name for name in plan.events if name not in now["events"]]
        if left_out:
            why += f"; Partner Center left out {', '.join(left_out)}"
    return {
        "action": plan.action,
        "why": why,
        "before": before,
        "now": now,
        "added": list(plan.added) if done else [],
        "kept": list(plan.kept),
        "changed_hands": [{"event": name, "from": plan.old_url, "to": plan.url} for name in plan.taken_over] if done else [],
        "would_change": None if done or plan.action == "none" else {"added": list(plan.added), "changed_hands": list(plan.taken_over)},
    }


def registered(current: Mapping[str, Any] | None) -> tuple[str | None, tuple[str, ...]]:
    """Address and events of a registration; sources print its keys as PascalCase and as camelCase."""
    values = {key.lower(): value for key, value in (current or {}).items()}
    events = tuple(dict.fromkeys(str(name) for name in values.get("webhookevents") or ()))
    url = values.get("webhookurl")
    return (str(url or "") if url or events else None), events


def _shape(current: Mapping[str, Any] | None) -> dict[str, Any] | None:
    url, events = registered(current)
    return None if url is None else {"url": url, "events": list(events)}


def _without_query(url: str) -> str:
    path, question, _ = url.partition("?")
    return f"{path}?…" if question else path
