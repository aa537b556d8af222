"""devhost behaves as Azure does where that is surprising: what the worker library refuses, what the host does to requests and messages."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.storage.queue import QueueClient

from devhost import bootstrap
from devhost.azurite import Azurite
from devhost.queues import Queue, QueueTrigger, messages_in
from devhost.settings import BadSettings, HostOptions, read_values
from devhost.timers import Schedule, Timer, TimerStatus
from devhost.worker import Function, FunctionFailed, TypedData

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "tests" / "devhost_app"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


# --- what the worker library refuses: each of these would make every function of the app vanish in Azure ---

HEAD = "import azure.functions as func\nfrom typing import *\napp = func.FunctionApp()\n"
HTTP = HEAD + "@app.route('a')\n"
TIMER = HEAD + "@app.timer_trigger('t', '0 0 0 * * *')\n"
OUTPUT = HTTP + "@app.queue_output('o', 'q', 'AzureWebJobsStorage')\n"

REFUSED = {
    "an output of list[str]": (OUTPUT + "def f(req: func.HttpRequest, o: func.Out[list[str]]) -> str: return ''", "non-type annotation"),
    "an optional answer": (HTTP + "def f(req: func.HttpRequest) -> Optional[func.HttpResponse]: ...", "non-type return annotation"),
    "an answer of None": (HTTP + "def f(req: func.HttpRequest) -> None: ...", "return annotation"),
    "an optional trigger": (TIMER + "def f(t: Optional[func.TimerRequest]) -> None: ...", "non-type annotation"),
    "a parameter with a default": (TIMER + "def f(t: func.TimerRequest, settings=None) -> None: ...", "declared in Python but not"),
    "another name than arg_name": (TIMER + "def f(timer: func.TimerRequest) -> None: ...", "parameters"),
    "two apps": (TIMER + "def f(t: func.TimerRequest) -> None: ...\nother = func.FunctionApp()", "More than one FunctionApp"),
    "the same name twice": (TIMER + "def f(t: func.TimerRequest) -> None: ...\n" + TIMER.removeprefix(HEAD) + "def f(t): ...", "unique"),
    "a type for checkers only": (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n" + TIMER.replace("from typing import *\n", "")
        + "def f(t: Timer) -> None: ...\nif TYPE_CHECKING:\n  from azure.functions import TimerRequest as Timer",
        "NameError",
    ),
}  # fmt: skip

ACCEPTED = {
    "an output of typing.List": OUTPUT + "def f(req: func.HttpRequest, o: func.Out[List[str]]) -> str: return ''",
    "an unannotated trigger": TIMER + "def f(t): ...",
    "annotations as text": "from __future__ import annotations\n" + TIMER + "def f(t: func.TimerRequest) -> None: ...",
}


def describe(app_dir: Path) -> subprocess.CompletedProcess[str]:
    code = "import json, pathlib, sys; from devhost.worker import describe_functions as d; print(json.dumps(d(pathlib.Path(sys.argv[1]))))"
    return subprocess.run([sys.executable, "-c", code, str(app_dir)], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", REFUSED)
def test_the_worker_library_refuses(name: str, tmp_path: Path) -> None:
    source, reason = REFUSED[name]
    (tmp_path / "function_app.py").write_text(source)
    done = describe(tmp_path)
    assert "devhost.worker.LoadFailed" in done.stderr
    assert reason in done.stderr


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_worker_library_accepts(name: str, tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text(ACCEPTED[name])
    assert list(json.loads(describe(tmp_path).stdout)) == ["f"]


def test_an_app_without_functions_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text(HEAD)
    assert "has no functions" in describe(tmp_path).stderr


def test_describing_an_app_tells_its_bindings() -> None:
    functions = json.loads(describe(SAMPLE).stdout)
    assert functions["tick"]["timer"]["schedule"] == "%TICK_SCHEDULE%"
    assert functions["send"]["out"]["queueName"] == "%OUTPUT_QUEUE%"
    assert functions["echo"]["req"]["route"] == "echo/{word:alpha}/{rest?}"


# --- HTTP, the real worker and real queues: the sample app in a process of its own ---


@contextlib.contextmanager
def sample_app(settings: dict[str, str], stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(SAMPLE / "driver.py")],
        env=ENVIRONMENT | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            assert process.stdin
            process.stdin.close()


@pytest.fixture(scope="module")
def sample(azurite: str) -> Iterator[httpx.Client]:
    queue = f"sample-{uuid.uuid4().hex}"
    settings = {"AzureWebJobsStorage": azurite, "OUTPUT_QUEUE": queue, "TICK_SCHEDULE": "0 0 0 1 1 *", "FUNCTION_KEY": "open sesame"}
    with sample_app(settings) as process:
        assert process.stdout
        with httpx.Client(base_url=process.stdout.readline().strip(), timeout=30) as client:
            yield client


def test_header_names_arrive_in_lower_case_and_repeated_values_joined(sample: httpx.Client) -> None:
    seen = sample.post("/api/echo/word?q=1&q=2&empty=", headers=[("X-Thing", "a"), ("X-Thing", "b")], content=b"body").json()
    assert seen["headers"]["x-thing"] == "a,b"
    assert seen["query"] == {"q": "1,2"}
    assert seen["body"] == "body"
    assert seen["url"] == f"{sample.base_url}/api/echo/word?q=1&q=2&empty="


def test_a_chunked_body_arrives_empty(sample: httpx.Client) -> None:
    assert sample.post("/api/echo/word", content=iter([b"body"])).json()["body"] == ""


def test_a_wrong_method_is_not_found(sample: httpx.Client) -> None:
    assert sample.get("/api/echo/word").status_code == 404


def test_routes_have_constraints_optional_parts_and_no_case(sample: httpx.Client) -> None:
    assert sample.post("/api/Echo/word/more").json()["route"] == {"word": "word", "rest": "more"}
    assert sample.post("/api/echo/w0rd").status_code == 404
    assert sample.post("/api/echo/special").text == "special"
    assert sample.post("/echo/word").status_code == 404


def test_nothing_to_answer_is_204(sample: httpx.Client) -> None:
    assert sample.get("/api/silent").status_code == 204


def test_none_where_an_answer_was_promised_is_500(sample: httpx.Client) -> None:
    assert sample.get("/api/forgetful").status_code == 500


def test_a_failing_function_says_nothing_to_strangers(sample: httpx.Client) -> None:
    answer = sample.get("/api/broken")
    assert (answer.status_code, answer.content) == (500, b"")


def test_cookies_are_set(sample: httpx.Client) -> None:
    assert sample.get("/api/cookies").headers["set-cookie"] == "a=b; Path=/; HttpOnly; SameSite=Lax"


def test_a_function_key_is_asked_for_when_wanted(sample: httpx.Client) -> None:
    assert sample.get("/api/locked").status_code == 401
    assert sample.get("/api/locked?code=guess").status_code == 401
    assert sample.get("/api/locked?code=open sesame").text == "open"
    assert sample.get("/api/locked", headers={"x-functions-key": "open sesame"}).text == "open"


def test_messages_travel_from_an_output_to_a_trigger(sample: httpx.Client) -> None:
    words = {f"word {number}" for number in range(30)}
    assert sample.post("/api/send", content="\n".join(words)).status_code == 202
    received = sample.post("/_/drain").json()["messages"]
    assert words <= {message["body"] for message in received}
    assert {message["tries"] for message in received} == {1}
    assert all(datetime.fromisoformat(message["inserted"]).tzinfo for message in received)


def test_keys_of_a_payload_hide_the_message_id(sample: httpx.Client) -> None:
    sample.post("/api/send", content='{"iD": "chosen by the sender"}')
    assert "chosen by the sender" in [message["id"] for message in sample.post("/_/drain").json()["messages"]]


def test_a_timer_can_be_run_by_hand(sample: httpx.Client) -> None:
    assert sample.post("/_/timer").json()["ticks"][-1]["past_due"] is True


def test_a_start_without_settings_names_all_that_are_missing() -> None:
    empty = {"AzureWebJobsStorage": "", "OUTPUT_QUEUE": "", "TICK_SCHEDULE": "", "FUNCTION_KEY": "k"}
    with sample_app(empty, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert [name for name in ("AzureWebJobsStorage", "OUTPUT_QUEUE", "TICK_SCHEDULE") if f"{name} is missing" not in said] == []


# --- queues ---

Invoke = Callable[[Function, TypedData, dict[str, TypedData]], Awaitable[Any]]
FUNCTION = Function("f", "id", ({"name": "m", "type": "queueTrigger", "direction": "IN"},))
OPTIONS = HostOptions(batch_size=4, new_batch_threshold=2, max_dequeue_count=3)


class Queues:
    """A queue with its poison queue, and the trigger of a function on either of them."""

    def __init__(self, connection_string: str, threads: ThreadPoolExecutor) -> None:
        name = f"q-{uuid.uuid4().hex}"
        self.queue = Queue(connection_string, name, encoded=True, executor=threads)
        self.poison = Queue(connection_string, f"{name}-poison", encoded=True, executor=threads)
        self.raw = QueueClient.from_connection_string(connection_string, name)
        self.raw_poison = QueueClient.from_connection_string(connection_string, f"{name}-poison")
        self.raw.create_queue()
        self.raw_poison.create_queue()

    def trigger(self, invoke: Invoke, options: HostOptions = OPTIONS) -> QueueTrigger:
        return QueueTrigger(FUNCTION, self.queue, self.poison, options, invoke)

    def poison_trigger(self, invoke: Invoke) -> QueueTrigger:
        return QueueTrigger(FUNCTION, self.poison, None, OPTIONS, invoke)


@pytest.fixture
def queues(azurite: str) -> Iterator[Queues]:
    with ThreadPoolExecutor(4) as threads:
        yield Queues(azurite, threads)


class Calls:
    """A function that notes what it was called with, and fails where `fails` says so."""

    def __init__(self, fails: Callable[[str], bool] = lambda text: False) -> None:
        self.texts: list[str] = []
        self.fails = fails

    async def __call__(self, function: Function, value: TypedData, metadata: object = None) -> None:
        text = next(iter(vars(value).values()))
        self.texts.append(text)
        if self.fails(text):
            raise FunctionFailed("on purpose")


def length(queue: QueueClient) -> int:
    return queue.get_queue_properties().approximate_message_count or 0


async def one_round(trigger: QueueTrigger) -> int:
    found = await trigger.poll()
    if trigger.running:
        await asyncio.wait(trigger.running)
    return found


async def until_empty(trigger: QueueTrigger) -> None:
    while await one_round(trigger):
        pass


def test_a_message_that_always_fails_is_tried_as_often_as_allowed_and_then_poison(queues: Queues) -> None:
    calls = Calls(fails=lambda text: text == "bad")

    async def story() -> None:
        await queues.queue.send("bad")
        await queues.queue.send("good")
        await until_empty(queues.trigger(calls))
        await until_empty(queues.poison_trigger(rescued))

    rescued = Calls()
    asyncio.run(story())
    assert sorted(calls.texts) == ["bad", "bad", "bad", "good"]
    assert rescued.texts == ["bad"]
    assert length(queues.raw) == 0


def test_a_failed_message_is_hidden_for_the_visibility_timeout(queues: Queues) -> None:
    async def story() -> tuple[int, int, int]:
        trigger = queues.trigger(Calls(fails=lambda text: True), HostOptions(visibility_timeout=1))
        await queues.queue.send("bad")
        rounds = await one_round(trigger), await one_round(trigger)
        await asyncio.sleep(1.5)
        return *rounds, await one_round(trigger)

    assert asyncio.run(story()) == (1, 0, 1)


def test_a_message_that_is_not_base64_goes_to_poison_unseen_and_the_rest_of_its_batch_runs(queues: Queues) -> None:
    calls = Calls()

    async def story() -> None:
        await queues.queue.add("{not base64}")
        await queues.queue.send("good")
        await until_empty(queues.trigger(calls))

    asyncio.run(story())
    assert calls.texts == ["good"]
    assert [message.content for message in queues.raw_poison.receive_messages()] == ["{not base64}"]


def test_a_message_that_fails_on_a_poison_queue_stays_there_hidden(queues: Queues) -> None:
    async def story() -> int:
        trigger = queues.poison_trigger(Calls(fails=lambda text: True))
        await queues.poison.send("bad")
        return await one_round(trigger) + await one_round(trigger)

    assert asyncio.run(story()) == 1
    assert length(queues.raw_poison) == 1


def test_at_most_a_batch_and_the_threshold_run_at_once(queues: Queues) -> None:
    async def story() -> None:
        gate = asyncio.Semaphore(0)

        async def slow(function: Function, value: TypedData, metadata: object = None) -> None:
            await gate.acquire()

        trigger = queues.trigger(slow)
        for number in range(12):
            await queues.queue.send(str(number))
        assert await trigger.poll() == 4
        second = asyncio.create_task(trigger.poll())
        await asyncio.sleep(0.1)
        assert not second.done(), "a new batch waits until no more than the threshold are running"
        gate.release()
        gate.release()
        assert await second == 4
        assert len(trigger.running) == 6
        for _ in range(12):
            gate.release()
        await until_empty(trigger)

    asyncio.run(story())


def test_polling_slows_down_while_a_queue_stays_empty_and_survives_a_missing_one(queues: Queues) -> None:
    async def story() -> int:
        stop = asyncio.Event()
        trigger = queues.trigger(Calls(), HostOptions(max_polling_interval=0.4))
        queues.raw.delete_queue()
        polls, poll = 0, trigger.poll

        async def counted() -> int:
            nonlocal polls
            polls += 1
            return await poll()

        trigger.poll = counted  # type: ignore[method-assign]
        polling = asyncio.create_task(trigger.keep_going(stop))
        await asyncio.sleep(0.9)
        stop.set()
        await polling
        return polls

    assert 2 <= asyncio.run(story()) <= 4  # at 0, 0.1, 0.3 and 0.7 s


@pytest.mark.parametrize(
    ("output", "messages"),
    [
        (TypedData(string="text"), ["text"]),
        (TypedData(string='{"a":[1]}'), ['{\n  "a": [\n    1\n  ]\n}']),
        (TypedData(string='["x", {"a": 1}]'), ["x", '{\n  "a": 1\n}']),
        (TypedData(json='["x", "{}"]'), ["x", "{}"]),
        (TypedData(string="5"), ["5"]),
        (TypedData(bytes=b"raw"), ["raw"]),
    ],
)
def test_an_output_rewrites_json(output: TypedData, messages: list[str]) -> None:
    assert messages_in(output) == messages


# --- timers ---

YEARLY = "0 0 0 1 1 *"


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "0 0 0 L * *",
        "0 0 0 ? * *",
        "0 0 0 15W * *",
        "0 0 0 * * 5#2",
        "0 0 0 * * 7",
        "0 0 0 * * 5-7",
        "0 0 0 * * FRI-MON",
        "0 30-10 * * * *",
        "60 * * * * *",
        "0 0 0 31 2 *",
        "0 0 0 * FEBRUARY *",
        "@daily",
        "00:05:00",
        "",
    ],
)
def test_a_schedule_that_azure_does_not_know_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="NCRONTAB"):
        Schedule(expression)


@pytest.mark.parametrize(
    ("expression", "tick"),
    [
        ("0 0 9 13 * FRI", "2027-08-13T09:00:00+00:00"),  # the 13th AND a Friday; cron would say "or"
        ("*/20 * * * * *", "2026-11-22T12:00:20+00:00"),
        ("0 0 6 * * 0", "2026-11-29T06:00:00+00:00"),
        ("0 0 0 1 JAN-MAR,6 *", "2027-01-01T00:00:00+00:00"),
        ("30 1-59/2 * * * *", "2026-11-22T12:01:30+00:00"),
    ],
)
def test_a_schedule_ticks_as_ncrontab_does(expression: str, tick: str) -> None:
    assert Schedule(expression).next(datetime(2026, 11, 22, 12, tzinfo=UTC)).isoformat() == tick


def timer(invoke: Invoke, schedule: str = YEARLY, status: TimerStatus | None = None) -> Timer:
    function = Function("f", "id", ({"name": "t", "type": "timerTrigger", "direction": "IN", "schedule": schedule},))
    return Timer(function, Schedule(schedule), status or TimerStatus(), invoke)  # type: ignore[arg-type]


async def keep_going(timer: Timer, seconds: float) -> None:
    stop = asyncio.Event()
    going = asyncio.create_task(timer.keep_going(stop))
    await asyncio.sleep(seconds)
    stop.set()
    await going


def missed_a_tick(path: Path | None = None) -> TimerStatus:
    status, then = TimerStatus(path), datetime.now(UTC) - timedelta(hours=1)
    status["f"] = dict.fromkeys(("Last", "Next", "LastUpdated"), then.isoformat())
    return status


def test_a_tick_missed_while_nothing_ran_is_made_up_for_once_and_says_so(tmp_path: Path) -> None:
    calls, path = Calls(), tmp_path / "timers.json"
    missed_a_tick(path)
    asyncio.run(keep_going(timer(calls, status=TimerStatus(path)), 0.1))
    asyncio.run(keep_going(timer(calls, status=TimerStatus(path)), 0.1))
    assert [json.loads(text)["IsPastDue"] for text in calls.texts] == [True]


def test_a_timer_does_not_run_at_its_first_start() -> None:
    calls = Calls()
    asyncio.run(keep_going(timer(calls), 0.1))
    assert calls.texts == []


def test_a_schedule_under_a_minute_is_never_past_due() -> None:
    calls = Calls()
    asyncio.run(keep_going(timer(calls, "*/30 * * * * *", missed_a_tick()), 0.01))
    assert not any(json.loads(text)["IsPastDue"] for text in calls.texts)


def test_a_failed_timer_waits_for_its_next_tick() -> None:
    calls = Calls(fails=lambda text: True)
    asyncio.run(keep_going(timer(calls, YEARLY, missed_a_tick()), 0.3))
    assert len(calls.texts) == 1
    asyncio.run(keep_going(timer(calls, "* * * * * *"), 1.1))
    assert len(calls.texts) > 1


def test_a_timer_runs_once_at_a_time() -> None:
    running: list[int] = [0]

    async def slow(function: Function, value: TypedData) -> None:
        running.append(running[-1] + 1)
        await asyncio.sleep(0.01)
        running.append(running[-1] - 1)

    async def story() -> None:
        one = timer(slow)  # type: ignore[arg-type]
        await asyncio.gather(one.run(), one.run(), one.run())

    asyncio.run(story())
    assert max(running) == 1


# --- settings ---


def test_host_json_can_be_overlaid_by_settings(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"extensions": {"queues": {"batchSize": 8, "visibilityTimeout": "00:01:30"}}}')
    settings = {"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.5", "batchSize": "1"}
    expected = HostOptions(batch_size=8, new_batch_threshold=4, visibility_timeout=90, max_polling_interval=0.5)
    assert HostOptions.read(tmp_path, settings) == expected


def test_a_settings_file_with_anything_but_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "local.settings.json"
    path.write_text('{"Values": {"PORT": 5, "GOOD": "yes"}}')
    with pytest.raises(BadSettings, match="not a string: PORT"):
        read_values(path)


# --- Azurite and the environment ---


def answers(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.ConnectError:
        return False
    return True


def test_azurite_ends_with_its_parent_even_when_that_is_killed() -> None:
    code = "import os; from devhost.azurite import Azurite; print(Azurite().start().connection_string, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    url = re.findall(r"QueueEndpoint=([^;]+)", done.stdout)[0]
    end = time.monotonic() + 10
    while answers(url) and time.monotonic() < end:
        time.sleep(0.05)
    assert not answers(url)


def test_azurite_keeps_its_data_where_a_folder_is_given(tmp_path: Path) -> None:
    with Azurite(tmp_path) as first:
        queue = QueueClient.from_connection_string(first.connection_string, "kept")
        queue.create_queue()
        queue.send_message("still here")
    with Azurite(tmp_path) as second:
        queue = QueueClient.from_connection_string(second.connection_string, "kept")
        assert [message.content for message in queue.receive_messages()] == ["still here"]


def test_the_locks_name_no_registry_and_no_machine() -> None:
    locks = "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-dev.txt"))
    assert re.findall(r"https?:|file:|--(?:extra-)?index|--find-links|/home/|/root/|/tmp/", locks) == []
    assert '"resolved"' not in (ROOT / "devhost" / "package-lock.json").read_text()


def test_the_worker_library_can_be_installed_past_its_version_check() -> None:
    line, *hashes = bootstrap.requirement(bootstrap.RUNTIME).split("\\\n")
    assert re.fullmatch(r"azure-functions-runtime==\d+\.\d+\.\d+ ", line)
    assert len(hashes) == 2
    assert all(hash.strip().startswith("--hash=sha256:") for hash in hashes)
