"""A function app for the host's own tests: it says what reached it."""

import json
import logging
from typing import List  # noqa: UP035 - the worker library refuses Out[list[str]]

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

messages: list[dict[str, object]] = []
ticks: list[dict[str, object]] = []


@app.route("echo/{word:alpha}/{rest?}", methods=["POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    """The request as a function sees it."""
    seen = {"url": req.url, "headers": dict(req.headers), "query": dict(req.params), "route": dict(req.route_params)}
    return func.HttpResponse(json.dumps(seen | {"body": req.get_body().decode()}), status_code=202, mimetype="application/json")


@app.route("echo/special/", methods=["POST"])
async def special(req: func.HttpRequest) -> str:
    """A literal route that a pattern would match too."""
    return "special"


@app.route("forgetful")
def forgetful(req: func.HttpRequest):  # type: ignore[no-untyped-def]  # an annotation of None is refused
    """No answer, although the decorator promised one."""


@app.generic_trigger("req", "httpTrigger", route="silent", authLevel="anonymous")
def silent(req: func.HttpRequest):  # type: ignore[no-untyped-def]
    """Nothing to answer."""


@app.route("broken")
def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("secret detail")


@app.route("cookies")
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(headers={"Set-Cookie": "a=b; Path=/; HttpOnly; SameSite=Lax"})


@app.route("locked", auth_level=func.AuthLevel.FUNCTION)
def locked(req: func.HttpRequest) -> str:
    return "open"


@app.route("send", methods=["POST"])
@app.queue_output("out", "%OUTPUT_QUEUE%", "AzureWebJobsStorage")
def send(req: func.HttpRequest, out: func.Out[List[str]]) -> func.HttpResponse:  # noqa: UP006
    """Put each line of the body on the queue."""
    out.set(req.get_body().decode().splitlines())
    return func.HttpResponse(status_code=202)


@app.route("send-one", methods=["POST"])
@app.queue_output("out", "%OUTPUT_QUEUE%", "AzureWebJobsStorage")
def send_one(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    """Put the body on the queue."""
    out.set(req.get_body().decode())
    return func.HttpResponse(status_code=202)


@app.queue_trigger("message", "%OUTPUT_QUEUE%", "AzureWebJobsStorage")
async def receive(message: func.QueueMessage) -> None:
    body = message.get_body().decode()
    logging.info("received %s", body)
    inserted = message.insertion_time.isoformat() if message.insertion_time else None
    messages.append({"id": message.id, "body": body, "tries": message.dequeue_count, "inserted": inserted})


@app.timer_trigger("timer", "%TICK_SCHEDULE%")
def tick(timer: func.TimerRequest) -> None:
    ticks.append({"past_due": timer.past_due, "last": timer.schedule_status.get("Last")})
