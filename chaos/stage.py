"""What the stories happen on: storage behind a proxy, both vendors over HTTPS, and two instances of the real app in processes of their own."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from chaos.storage import Proxy
from devhost.azurite import Azurite
from devhost.host import STORAGE
from devhost.settings import read_values
from shared.clock import Clock
from shared.settings import Settings
from shared.state import State
from shared.tables import AzureTables
from simulator.core import Clock as VendorClock
from simulator.core import Request
from simulator.faults import Fault
from simulator.salesforce import Org
from simulator.server import Running, serve
from simulator.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
CALLBACK = "https://connector.contoso.example/api/partner-center-to-salesforce"
SENDERS = 3
CALL_SECONDS = 3.0
FROZEN_SECONDS = 4.0
ATTEMPTS = 3
START_SECONDS = 60.0
BACK_AFTER = 0.7  # seconds from a kill to the next start

# `notes` is turned around, so that both sides win something.
MAPPING = '[fields.notes]\nwinner = "partner_center"\n'

# Short enough for a story of ten seconds. What is held up at a vendor (a call, an instance) is held up for less than the margin.
TIMES = {
    "LEASE_SECONDS": "3",
    "CALL_TIMEOUT_SECONDS": str(CALL_SECONDS),
    "CREATE_MARGIN_SECONDS": "12",
    "SALESFORCE_POLL_SCHEDULE": "*/2 * * * * *",
    "SOLUTIONS_POLL_SCHEDULE": "*/5 * * * * *",
    "PARTNER_CENTER_POLL_SCHEDULE": "*/3 * * * * *",
    "RESUME_SCHEDULE": "*/2 * * * * *",
    # Only when told to, as in life rarely: it would hide what the rest loses.
    "RECONCILE_SCHEDULE": "0 0 0 1 1 *",
}
UNLIMITED = {
    "BRAKE_WRITES_PER_HOUR": "0",
    "BRAKE_SHARE_PERCENT": "0",
    "PARTNER_CENTER_CALLS_PER_MINUTE": "100000",
    "HEARTBEAT_MINUTES": "0",
}
SKEWS = (0.0, 1.0, -1.0, 2.0, -2.0)  # seconds

_processes = multiprocessing.get_context("forkserver")


class Instance:
    """One app process; killed and started again at will. `skew` is how wrong its clock is."""

    def __init__(self, name: str, settings: Mapping[str, str], skew: float, jumped: Any, bug: str, logs: Path) -> None:
        self.name, self.url, self.skew = name, "", skew
        self.frozen = False
        self._arguments = (dict(settings), skew, jumped, bug, str(logs / f"instance-{name}.log"))
        self._process: Any = None
        self._pipe: Any = None
        self._lock = threading.RLock()
        self._one_round_at_a_time = threading.Lock()
        self._timers: list[threading.Timer] = []

    def start(self) -> None:
        """Returns once it serves."""
        from chaos import instance  # only where processes are made: it imports the whole app

        settings, skew, jumped, bug, log = self._arguments
        with self._lock:
            for _ in range(ATTEMPTS):
                self._pipe, theirs = _processes.Pipe()
                arguments = (self.name, settings, skew, jumped, theirs, bug, log)
                self._process = _processes.Process(target=instance.live, args=arguments, daemon=True)
                self._process.start()
                theirs.close()
                with contextlib.suppress(EOFError):  # it died on the way
                    if self._pipe.poll(START_SECONDS):
                        self.url = self._pipe.recv()
                        return
                self._process.kill()
                self._process.join(10)
        raise TimeoutError(f"instance {self.name} did not start; its log may say why")

    def kill(self) -> bool:
        """SIGKILL, wherever it stands; it comes back by itself. False where it was dead already."""
        with self._lock:
            if self._process is None or not self.url:
                return False
            self.url, self.frozen = "", False
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._after(BACK_AFTER, self.start_if_dead)
            return True

    def freeze(self) -> bool:
        """Stops it for a few seconds, longer than its lease: it goes on as if nothing had happened."""
        with self._lock:
            if self._process is None or not self.url:
                return False
            os.kill(self._process.pid, signal.SIGSTOP)
            self.frozen = True
            self._after(FROZEN_SECONDS, self.thaw)
            return True

    def thaw(self) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                os.kill(self._process.pid, signal.SIGCONT)
                self.frozen = False

    def start_if_dead(self) -> None:
        with self._lock:
            if self._process is not None and not self.url:
                self._process.join(5)
                self.start()

    def run_timers(self, left_out: Sequence[str] = ()) -> None:
        """Runs every timer once; returns when all have run, or the instance has died."""
        with self._one_round_at_a_time, contextlib.suppress(OSError, EOFError, ValueError):
            pipe = self._pipe
            pipe.send(list(left_out))
            if pipe.poll(60):
                pipe.recv()

    def heal(self) -> None:
        """Alive and awake, now."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.thaw()
        self.start_if_dead()

    def end(self) -> None:
        with self._lock:
            for timer in self._timers:
                timer.cancel()
            process, self._process, self.url = self._process, None, ""
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.join(10)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()


class Stage:
    """What runs, and what can be done to all of it at once."""

    def __init__(self, vendors: Running, proxy: Proxy, state: State, instances: list[Instance], jumped: Any) -> None:
        self.vendors, self.proxy, self.state, self.instances = vendors, proxy, state, instances
        self.counted: Counter[str] = Counter()
        self.in_flight = 0
        self.event_fault: Callable[[str], str] = lambda referral_id: ""
        self.events_under_way = 0
        self._jumped = jumped
        self._lock = threading.Lock()
        self._chance = random.Random()

    @property
    def sim(self) -> Simulator:
        return self.vendors.simulator

    def note(self, what: str) -> None:
        """Counts a fault that was really met."""
        with self._lock:
            self.counted[what] += 1

    def instance(self, name: str) -> Instance | None:
        return next((one for one in self.instances if one.name == name), None)

    def jump(self, seconds: float) -> None:
        """An hour passes for everybody, vendors and instances: what waits is due. Not while something is held up."""
        end = time.monotonic() + 15
        while time.monotonic() < end and (
            self.in_flight or self.sim.salesforce.store.oldest_uncommitted() or any(one.frozen for one in self.instances)
        ):
            time.sleep(0.02)
        self.sim.advance(seconds)
        with self._jumped.get_lock():
            self._jumped.value += seconds

    def every_timer(self, left_out: Sequence[str] = ()) -> None:
        """Every timer of every instance at once."""
        threads = [threading.Thread(target=one.run_timers, args=(left_out,), daemon=True) for one in self.instances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)

    def heal(self) -> None:
        """No fault is left, everybody is alive."""
        self.sim.faults.clear()
        self.proxy.clear()
        self.event_fault = lambda referral_id: ""
        for one in self.instances:
            one.heal()

    def owed(self) -> dict[str, str]:
        return {one.name: one.reason for one in self.state.all_owed() if not one.parked}

    def parked(self) -> dict[str, str]:
        return {one.name: one.parked for one in self.state.all_owed() if one.parked}

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.instances[0].url}/api/status", timeout=30, trust_env=False).json()
        return answer

    def settle(self, seconds: float) -> bool:
        """Waits until nothing is owed but what was put aside; lets an hour pass now and then. False where that does not happen."""
        end, next_jump, calm = time.monotonic() + seconds, time.monotonic() + 6, 0
        while time.monotonic() < end:
            waiting = self.owed() or self.events_under_way or self.sim.webhooks.waiting
            calm = 0 if waiting else calm + 1
            if calm > 4:
                return True
            if time.monotonic() > next_jump and waiting:
                self.jump(3700)
                next_jump = time.monotonic() + 6
            time.sleep(0.3)
        return False

    # -- the front door ----------------------------------------------------------------------------------------------------------------

    def post_event(self, client: httpx.Client, headers: Mapping[str, str], body: bytes) -> int:
        """Hands an event to one of the instances, unless something befalls it on the way."""
        befalls = self.event_fault(str(json.loads(body).get("ResourceUri", "")).rpartition("/")[2])
        if befalls == "dropped":
            return 200
        if befalls == "late":
            self.events_under_way += 1
            threading.Timer(4.0, self._deliver_late, (client, dict(headers), body)).start()
            return 200
        if befalls == "doubled":
            self._post(client, headers, body)
        return self._post(client, headers, body)

    def _deliver_late(self, client: httpx.Client, headers: Mapping[str, str], body: bytes) -> None:
        try:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._post(client, headers, body)
        finally:
            self.events_under_way -= 1

    def _post(self, client: httpx.Client, headers: Mapping[str, str], body: bytes) -> int:
        awake = [one.url for one in self.instances if one.url]
        if not awake:
            raise ConnectionError("no instance is there")
        try:
            url = self._chance.choice(awake) + "/api/partner-center-to-salesforce"
            return client.post(url, headers=dict(headers), content=body).status_code
        except httpx.HTTPError as error:
            raise ConnectionError(str(error)) from error


@contextlib.contextmanager
def on_stage(skews: tuple[float, float] = (0.0, 0.0), bug: str = "", logs: Path | None = None) -> Iterator[Stage]:
    """Starts it all on free ports and ends it all again, whatever happens. `bug` names one of `chaos.planted`."""
    _processes.set_forkserver_preload(["chaos.instance"])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "mapping.toml").write_text(MAPPING, encoding="utf-8")
        storage = stack.enter_context(Azurite()).connection_string
        proxy = stack.enter_context(Proxy(storage).running())
        # Pages this small put a page's end between rows of one stamp all the time.
        simulator = Simulator(VendorClock(), org=Org(page_size=3))
        simulator.partner_center.switches.page_size = 7
        simulator.webhooks.conduct.first_retry = 1.0
        vendors = stack.enter_context(serve(simulator, deliver=False))
        settings = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")},
            **read_values(ROOT / "local.settings.sample.json"),
            **vendors.environment(private_key=True),
            **TIMES,
            **UNLIMITED,
            STORAGE: proxy.connection_string,
            "MAPPING_FILE": str(folder / "mapping.toml"),
            "WEBHOOK_CALLBACK_URL": CALLBACK,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        settings = {name: value for name, value in settings.items() if value}
        jumped = _processes.Value("d", 0.0)
        state = State(AzureTables(Settings.from_environment(settings | {STORAGE: storage})), Clock())
        instances = [Instance(name, settings, skew, jumped, bug, logs or folder) for name, skew in zip("AB", skews, strict=True)]
        for one in instances:
            stack.callback(one.end)
        stage = Stage(vendors, proxy, state, instances, jumped)
        stack.enter_context(_counting(stage))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Instance.start, instances))
        answer = httpx.post(f"{instances[0].url}/api/webhook-registration", json={"callback_url": CALLBACK}, timeout=30, trust_env=False)
        if answer.status_code != 200:
            raise RuntimeError(f"the webhook could not be registered: {answer.status_code} {answer.text}")
        stack.enter_context(_delivering(stage))
        yield stage


@contextlib.contextmanager
def _counting(stage: Stage) -> Iterator[None]:
    """Knows how many vendor calls are under way, those that a fault holds up above all."""
    answer, pause = stage.sim.answer, stage.sim.pause

    def paused(request: Request, fault: Fault | None) -> float:
        with stage._lock:
            stage.in_flight += 1
        return pause(request, fault)

    def answered(request: Request, fault: Fault | None = None) -> Any:
        try:
            return answer(request, fault)
        finally:
            with stage._lock:
                stage.in_flight -= 1

    stage.sim.answer, stage.sim.pause = answered, paused  # type: ignore[method-assign]
    yield


@contextlib.contextmanager
def _delivering(stage: Stage) -> Iterator[None]:
    ended = threading.Event()

    def send(client: httpx.Client) -> None:
        while not ended.is_set():
            try:
                if not stage.sim.deliver(lambda url, headers, body: stage.post_event(client, headers, body), limit=1):
                    ended.wait(0.05)
            except RuntimeError:
                return  # the client was closed: the end

    with httpx.Client(timeout=10, trust_env=False) as client, ThreadPoolExecutor(SENDERS) as pool:
        for _ in range(SENDERS):
            pool.submit(send, client)
        try:
            yield
        finally:
            ended.set()
