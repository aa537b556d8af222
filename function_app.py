"""The functions of the connector: each reads its input, calls one flow, and answers. What the flows do is in `shared/`."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from typing import Any

import azure.functions as func

from shared import composition, correlation

# A mistyped setting or a faulty mapping stops the start with its name and the remedy, instead of surfacing on the first deal.
composition.check()

log = logging.getLogger("cosell")
# Both write every request's address at INFO; addresses carry record ids and queries.
for noisy in ("httpx", "azure"):
    logging.getLogger(noisy).setLevel(logging.WARNING)
app = func.FunctionApp()

STORAGE = "AzureWebJobsStorage"


def _work(context: func.Context) -> AbstractContextManager[None]:
    """What happens inside is counted as this function's, and belongs to the trace the host began."""
    return correlation.work(context.function_name, context.trace_context.trace_parent)


def _answer(status: int, body: Any) -> func.HttpResponse:
    if isinstance(body, str):
        return func.HttpResponse(body, status_code=status, mimetype="text/xml")
    return func.HttpResponse(json.dumps(body, default=str), status_code=status, mimetype="application/json")


# -- events and pushes: mark, then answer ----------------------------------------------------------------------------------------------


@app.function_name("partner_center_to_salesforce")
@app.route(route="partner-center-to-salesforce", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def partner_center_to_salesforce(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Partner Center's webhook: 200 only once the work is durably marked; no vendor is called."""
    from shared import receiving

    with _work(context):
        return _answer(*receiving.partner_center_event(composition.world, composition.certificates, req.headers, req.get_body()))


@app.function_name("salesforce_changes")
@app.route(route="salesforce-changes", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def salesforce_changes(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Salesforce's push: wakes the same path as the poll. Off until SALESFORCE_PUSH_SECRET is set."""
    from shared import receiving

    with _work(context):
        return _answer(*receiving.salesforce_push(composition.world, req.headers, req.get_body(), req.params.get("secret", "")))


# -- the worker ------------------------------------------------------------------------------------------------------------------------


@app.function_name("synchronize_deal")
@app.queue_trigger(arg_name="message", queue_name="synchronize-deal", connection=STORAGE)
def synchronize_deal(message: func.QueueMessage, context: func.Context) -> None:
    """One deal, both directions. The message is a record name; what is to be done stands in the owed row."""
    from shared import receiving
    from shared.flows import synchronize

    name = message.get_body().decode("utf-8", "replace").strip()
    if not receiving.is_record_name(name):
        log.error("a wake-up that is not a record name was dropped (%d bytes)", len(name))
        return
    with _work(context):
        whole = composition.world()
        synchronize(whole, name)
        whole.spending.tell(whole)


# -- timers ----------------------------------------------------------------------------------------------------------------------------


@app.function_name("salesforce_opportunity_to_partner_center")
@app.timer_trigger(arg_name="timer", schedule="%SALESFORCE_POLL_SCHEDULE%", run_on_startup=False)
def salesforce_opportunity_to_partner_center(timer: func.TimerRequest, context: func.Context) -> None:
    """Finds changed and deleted opportunities."""
    from shared import polls

    _timed(context, polls.poll_opportunities)


@app.function_name("salesforce_solutions_to_partner_center")
@app.timer_trigger(arg_name="timer", schedule="%SOLUTIONS_POLL_SCHEDULE%", run_on_startup=False)
def salesforce_solutions_to_partner_center(timer: func.TimerRequest, context: func.Context) -> None:
    """Finds added, changed and deleted solution rows."""
    from shared import polls

    _timed(context, polls.poll_solutions)


@app.function_name("salesforce_leads_to_partner_center")
@app.timer_trigger(arg_name="timer", schedule="%SALESFORCE_POLL_SCHEDULE%", run_on_startup=False)
def salesforce_leads_to_partner_center(timer: func.TimerRequest, context: func.Context) -> None:
    """Finds changed leads, where leads are synchronized at all."""
    from shared import polls

    _timed(context, polls.poll_leads)


@app.function_name("partner_center_catch_up")
@app.timer_trigger(arg_name="timer", schedule="%PARTNER_CENTER_POLL_SCHEDULE%", run_on_startup=False)
def partner_center_catch_up(timer: func.TimerRequest, context: func.Context) -> None:
    """Finds what webhooks lost."""
    from shared import polls

    _timed(context, polls.poll_referrals)


@app.function_name("resume_owed_work")
@app.timer_trigger(arg_name="timer", schedule="%RESUME_SCHEDULE%", run_on_startup=False)
def resume_owed_work(timer: func.TimerRequest, context: func.Context) -> None:
    """Wakes what is due, and looks after the webhook registration and the credentials."""
    from shared import credentials, heartbeat, polls, pulse, watching

    _timed(context, polls.resume_owed_work, watching.watch_registration, credentials.watch, heartbeat.beat, pulse.tell)


@app.function_name("reconcile")
@app.timer_trigger(arg_name="timer", schedule="%RECONCILE_SCHEDULE%", run_on_startup=False)
def reconcile(timer: func.TimerRequest, context: func.Context) -> None:
    """The full sweep of both sides."""
    from shared import reconciling

    _timed(context, reconciling.reconcile)


def _timed(context: func.Context, flow: Any, *afterwards: Any) -> None:
    whole = composition.world()
    with _work(context):
        found = flow(whole)
        usage = whole.salesforce.api_usage
        spent = {"salesforce_api_calls": {"used": usage[0], "limit": usage[1]}} if usage else {}
        if found is None:
            log.info("%s: put off, to save Salesforce API calls", context.function_name)
        else:
            whole.state.succeeded(context.function_name, {"found": found if isinstance(found, int) else vars(found), **spent})
            log.info("%s: %s", context.function_name, found)
        for step in afterwards:
            step(whole)
        whole.spending.tell(whole)


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


@app.function_name("doctor")
@app.route(route="doctor", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def doctor(req: func.HttpRequest) -> func.HttpResponse:
    """Everything the connector stands on, examined from here, each finding with its remedy, as JSON."""
    from shared import doctor

    return _answer(*doctor.answer(req.params))
