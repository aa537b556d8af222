"""The functions of the connector: each reads its input, calls one flow, and answers. What the flows do is in `shared/`."""

from __future__ import annotations

import json
import logging
from typing import Any

import azure.functions as func

from shared import composition

# A mistyped setting or a faulty mapping stops the start with its name and the remedy, instead of surfacing on the first deal.
composition.check()

log = logging.getLogger("cosell")
# Both write every request's address at INFO; addresses carry record ids and queries.
for noisy in ("httpx", "azure"):
    logging.getLogger(noisy).setLevel(logging.WARNING)
app = func.FunctionApp()

STORAGE = "AzureWebJobsStorage"


def _answer(status: int, body: Any) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(body, default=str), status_code=status, mimetype="application/json")


# -- events and pushes: mark, then answer ----------------------------------------------------------------------------------------------


@app.function_name("partner_center_to_salesforce")
@app.route(route="partner-center-to-salesforce", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def partner_center_to_salesforce(req: func.HttpRequest) -> func.HttpResponse:
    """Partner Center's webhook: 200 only once the work is durably marked; no vendor is called."""
    from shared import receiving

    return _answer(*receiving.partner_center_event(composition.world, composition.certificates, req.headers, req.get_body()))


@app.function_name("salesforce_changes")
@app.route(route="salesforce-changes", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def salesforce_changes(req: func.HttpRequest) -> func.HttpResponse:
    """Salesforce's push: wakes the same path as the poll. Off until SALESFORCE_PUSH_SECRET is set."""
    from shared import receiving

    return _answer(*receiving.salesforce_push(composition.world, req.headers, req.get_body()))


# -- the worker ------------------------------------------------------------------------------------------------------------------------


@app.function_name("synchronize_deal")
@app.queue_trigger(arg_name="message", queue_name="synchronize-deal", connection=STORAGE)
def synchronize_deal(message: func.QueueMessage) -> None:
    """One deal, both directions. The message is a record name; what is to be done stands in the owed row."""
    from shared import receiving
    from shared.flows import synchronize

    name = message.get_body().decode("utf-8", "replace").strip()
    if not receiving.is_record_name(name):
        log.error("a wake-up that is not a record name was dropped (%d bytes)", len(name))
        return
    synchronize(composition.world(), name)


# -- timers ----------------------------------------------------------------------------------------------------------------------------


@app.function_name("salesforce_opportunity_to_partner_center")
@app.timer_trigger(arg_name="timer", schedule="%SALESFORCE_POLL_SCHEDULE%", run_on_startup=False)
def salesforce_opportunity_to_partner_center(timer: func.TimerRequest) -> None:
    """Finds changed and deleted opportunities."""
    from shared import polls

    _timed("salesforce_opportunity_to_partner_center", polls.poll_opportunities)


@app.function_name("salesforce_solutions_to_partner_center")
@app.timer_trigger(arg_name="timer", schedule="%SOLUTIONS_POLL_SCHEDULE%", run_on_startup=False)
def salesforce_solutions_to_partner_center(timer: func.TimerRequest) -> None:
    """Finds added, changed and deleted solution rows."""
    from shared import polls

    _timed("salesforce_solutions_to_partner_center", polls.poll_solutions)


@app.function_name("salesforce_leads_to_partner_center")
@app.timer_trigger(arg_name="timer", schedule="%SALESFORCE_POLL_SCHEDULE%", run_on_startup=False)
def salesforce_leads_to_partner_center(timer: func.TimerRequest) -> None:
    """Finds changed leads, where leads are synchronized at all."""
    from shared import polls

    _timed("salesforce_leads_to_partner_center", polls.poll_leads)


@app.function_name("partner_center_catch_up")
@app.timer_trigger(arg_name="timer", schedule="%PARTNER_CENTER_POLL_SCHEDULE%", run_on_startup=False)
def partner_center_catch_up(timer: func.TimerRequest) -> None:
    """Finds what webhooks lost."""
    from shared import polls

    _timed("partner_center_catch_up", polls.poll_referrals)


@app.function_name("resume_owed_work")
@app.timer_trigger(arg_name="timer", schedule="%RESUME_SCHEDULE%", run_on_startup=False)
def resume_owed_work(timer: func.TimerRequest) -> None:
    """Wakes what is due, and looks after the webhook registration."""
    from shared import polls, watching

    _timed("resume_owed_work", polls.resume_owed_work)
    watching.watch_registration(composition.world())


@app.function_name("reconcile")
@app.timer_trigger(arg_name="timer", schedule="%RECONCILE_SCHEDULE%", run_on_startup=False)
def reconcile(timer: func.TimerRequest) -> None:
    """The full sweep of both sides."""
    from shared import reconciling

    _timed("reconcile", reconciling.reconcile)


def _timed(name: str, flow: Any) -> None:
    whole = composition.world()
    found = flow(whole)
    usage = whole.salesforce.api_usage
    spent = {"salesforce_api_calls": {"used": usage[0], "limit": usage[1]}} if usage else {}
    whole.state.succeeded(name, {"found": found if isinstance(found, int) else vars(found), **spent})
    log.info("%s: %s", name, found)


# -- for the operator ------------------------------------------------------------------------------------------------------------------


@app.function_name("partner_center_webhook_registration")
@app.route(route="webhook-registration", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def partner_center_webhook_registration(req: func.HttpRequest) -> func.HttpResponse:
    """Registers this app for the referral events; says what was registered before, what is now, and what changed hands."""
    from shared import receiving

    return _answer(*receiving.webhook_registration(composition.world, req.get_body()))


@app.function_name("health")
@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    """200 when storage and both sign-ins work, else 503; no details for strangers."""
    from shared import reporting

    return _answer(*reporting.health_answer(composition.world))


@app.function_name("status")
@app.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def status(req: func.HttpRequest) -> func.HttpResponse:
    """What the operator wants to know, as JSON."""
    from shared import reporting

    return _answer(*reporting.status_answer(composition.world))
