"""The doctor's checks of the storage account: whether it can be read and written, and what the tables say of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.clock import Clock
from shared.codecs import parse_instant
from shared.doctor_report import AZURE_ADMIN, OPERATOR, Check, Verdict
from shared.doctor_subject import Subject, Unchecked
from shared.errors import ConnectorError
from shared.settings import Settings
from shared.state import State, stamp
from shared.tables import NAMES, AzureTables
from shared.waking import WakeQueue

STORAGE = ("tables", "queue", "poison messages", "work", "timers")
SETTINGS = ("AzureWebJobsStorage", "AzureWebJobsStorage__tableServiceUri", "AzureWebJobsStorage__queueServiceUri")

OVERDUE = timedelta(minutes=15)  # `resume_owed_work` wakes what is due each minute
# How long each may be silent, and what it is then; how often the sweep runs is the operator's choice (RECONCILE_SCHEDULE).
TIMERS: dict[str, tuple[timedelta, Verdict]] = {"resume_owed_work": (OVERDUE, "red"), "reconcile": (timedelta(hours=26), "amber")}


class Queue(Protocol):
    """What the doctor asks of the wake-up queue."""

    def waiting(self) -> int: ...

    def poisoned(self) -> int: ...

    def prove(self) -> None: ...


@dataclass(frozen=True)
class Storage:
    """The tables and the queue of one account."""

    state: State
    queue: Queue

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> Storage:
        """Raises ValueError for a connection string that is none."""
        return cls(State(AzureTables(settings), clock), WakeQueue(settings))


def storage_checks(subject: Subject, storage_of: Callable[[Settings, Clock], Storage]) -> Iterator[Check]:
    subject.needs(SETTINGS)
    try:
        storage = storage_of(subject.settings, subject.clock)
    except ValueError:
        remedy = "copy the connection string again, or give the service addresses for a managed identity"
        yield Check("tables", "red", "AzureWebJobsStorage is not a connection string of a storage account", remedy, OPERATOR)
        raise Unchecked("the storage account is not known") from None
    readable = True
    try:
        _prove_tables(storage.state)
    except ConnectorError as error:
        readable = False
        yield _out_of_reach("tables", error, "Storage Table Data Contributor")
    else:
        yield Check("tables", "green", f"{', '.join(NAMES)} can be read and written")
    yield from _queue(storage.queue)
    if not readable:
        raise Unchecked("the tables cannot be read")
    yield from _work(storage.state, subject.clock)
    yield from _timers(storage.state, subject.clock)


def _prove_tables(state: State) -> None:
    tables = state.tables
    for name in NAMES:
        tables.get(name, "doctor", "probe")
    etag = tables.merge("cursors", "doctor", "probe", {"at": "proof"})
    tables.delete("cursors", "doctor", "probe", etag)


def _out_of_reach(name: str, error: ConnectorError, role: str) -> Check:
    status = getattr(error.__cause__, "status_code", None)
    if status in (401, 403):
        # A shared key that is switched off answers so, too.
        remedy = f"give the function app's identity the role {role} on the storage account (a key may be switched off there)"
        return Check(name, "red", f"the storage account refuses: {error}", remedy, AZURE_ADMIN)
    remedy = "check the address of the storage account and its network rules; locally, that Azurite runs"
    return Check(name, "red", f"{error}", remedy, AZURE_ADMIN)


def _queue(queue: Queue) -> Iterator[Check]:
    try:
        queue.prove()
        waiting = queue.waiting()
    except ConnectorError as error:
        yield _out_of_reach("queue", error, "Storage Queue Data Contributor")
        raise Unchecked("the queue cannot be read") from None
    yield Check("queue", "green", f"wake-ups can be sent; about {waiting} on their way")
    poisoned = queue.poisoned()
    if poisoned:
        text = f"about {poisoned} wake-ups ended in synchronize-deal-poison: the worker died on them, five times each"
        remedy = "read the log of that time, then clear the queue; the work itself is still owed, nothing is lost"
        yield Check("poison messages", "amber", text, remedy, OPERATOR)
    else:
        yield Check("poison messages", "green", "none")


def _work(state: State, clock: Clock) -> Iterator[Check]:
    owed = list(state.all_owed())
    parked = [one for one in owed if one.parked]
    late = [one for one in owed if not one.parked and one.due < stamp(clock.now() - OVERDUE)]
    failing = [one for one in owed if not one.parked and one.attempts >= 5]
    held = [one for one in owed if one.held]
    if held:
        text = f"deals that wait for a brake: {len(held)}; more was to be written within an hour than BRAKE_WRITES_PER_HOUR allows"
        yield Check("work", "amber", text, "see in `cosell status` whether that was meant, then `cosell resume`", OPERATOR)
    if parked:
        text = f"deals that are parked: {len(parked)}; each waits for a person to correct something"
        yield Check("work", "amber", text, "`cosell status` names them with the reasons; Audit tells the seller", OPERATOR)
    if late:
        text = f"deals due for more than {OVERDUE.seconds // 60} minutes: {len(late)}, the oldest since {min(one.due for one in late)}"
        remedy = "see that the function app runs and that its queue trigger is not disabled"
        yield Check("work", "red", text, remedy, OPERATOR)
    if failing:
        text = f"deals tried five times or more without success: {len(failing)}"
        yield Check("work", "amber", text, "`cosell status` says what each of them waits for", OPERATOR)
    if not (held or parked or late or failing):
        yield Check("work", "green", f"deals that are owed: {len(owed)}, none of them late, parked or held")


def _timers(state: State, clock: Clock) -> Iterator[Check]:
    flows = state.flows()
    known = {name: parse_instant(str(flows[name]["at"])) for name in TIMERS if name in flows}
    if not known:
        yield Check("timers", "not checked", "no timer has ended well yet; after the first start that takes a minute")
        return
    still = {name: at for name, at in known.items() if clock.now() - at > TIMERS[name][0]}
    for name, at in still.items():
        remedy = "see that the function app runs, and its log for errors of this function"
        yield Check("timers", TIMERS[name][1], f"{name} last ended well at {stamp(at)}", remedy, OPERATOR)
    if not still:
        yield Check("timers", "green", ", ".join(f"{name} last ended well at {stamp(at)}" for name, at in known.items()))
