"""The demo and the bench fail when the product does: their checks refuse what is promised not to happen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench import package
from bench.report import Budget, Situation
from demo import checking, edits
from demo.stage import Seen, StoryFailed
from demo.telling import Teller
from simulator.core import Call
from simulator.core import Host as VendorHost

BEGAN = datetime(2026, 11, 2, 9, tzinfo=UTC)
CHANGE = b'[{"op": "replace", "path": "/details/dealValue", "value": 62500}]'


def call(host: VendorHost = "partner_center", method: str = "PATCH", status: int = 200, **headers: str) -> Call:
    at = BEGAN + timedelta(seconds=1)
    return Call(host, method, "/v1.0/engagements/referrals/1", "", status, at, headers or {"if-match": '"1"'}, CHANGE)


def test_one_conditional_patch_is_what_an_edit_may_lead_to() -> None:
    read = call(method="GET")
    assert checking.only_write(Seen(BEGAN, [read, call()]), "partner_center") == call()


@pytest.mark.parametrize(
    "calls",
    [
        [],
        [call(), call()],
        [call(), call("salesforce")],
        [call("salesforce")],
        [call(method="POST")],
        [call(status=412)],
        [call(accept="application/json")],
    ],
    ids=["none", "doubled", "echoed to the other side", "to the wrong side", "not a patch", "refused", "unconditional"],
)
def test_an_edit_that_led_to_anything_else_fails_the_demo(calls: list[Call]) -> None:
    with pytest.raises(StoryFailed):
        checking.only_write(Seen(BEGAN, calls), "partner_center")


def test_a_write_with_more_than_the_change_fails_the_demo() -> None:
    checking.expect_changed(call(), ["/details/dealValue"])
    with pytest.raises(StoryFailed):
        checking.expect_changed(call(), [])


class Still:
    """A stage on which a round of timers leads to these calls."""

    def __init__(self, *calls: Call) -> None:
        self._seen = Seen(BEGAN, list(calls))

    def run_every_timer(self, first: Callable[[], object]) -> Seen:
        first()
        return self._seen


@pytest.mark.parametrize(
    ("calls", "fault"),
    [([call(method="GET"), call()], "the deal is on hold, but the connector wrote"), ([], "nobody looked")],
    ids=["it travelled", "nobody looked"],
)
def test_an_edit_that_was_not_seen_to_stay_fails_the_demo(calls: list[Call], fault: str) -> None:
    still: Any = Still(*calls)
    with pytest.raises(StoryFailed, match=fault):
        edits.stays(still, Teller(), "referrals/1", lambda: None, "the deal is on hold")


def test_an_edit_stays_where_it_was_looked_at_and_nothing_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    still: Any = Still(call(method="GET"))
    edits.stays(still, Teller(), "referrals/1", lambda: None, "the deal is on hold")
    assert "nothing written to either side: the deal is on hold" in capsys.readouterr().out


def test_a_write_with_nothing_left_to_do_fails_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    class Restless:
        """A stage on which the timers do not find peace."""

        class app:  # noqa: N801
            class host:  # noqa: N801
                timers = ("reconcile",)

        @staticmethod
        def run_every_timer() -> Seen:
            return Seen(BEGAN, [call("salesforce")])

    restless: Any = Restless()
    with pytest.raises(StoryFailed, match="salesforce PATCH"):
        checking.then_quiet(restless, Teller())
    assert "Then quiet" in capsys.readouterr().out


def test_one_call_too_many_breaks_a_budget_by_name() -> None:
    rows = Situation("edit", (1, 1, 1, 0), (Budget("writes", 1, 1), Budget("reads of each record", 1, 2)))
    assert rows.broken() == ["edit: reads of each record ≤ 1, BROKEN: 2"]


def test_what_is_deployed_is_the_app_and_nothing_for_development() -> None:
    names = {file.relative_to(package.ROOT).as_posix() for file in package.deployed_files()}
    assert {"function_app.py", "host.json", "mapping.toml", "requirements.txt", "shared/flows.py"} <= names
    assert not {name.partition("/")[0] for name in names} & {"tests", "demo", "bench", "devhost", "simulator", "docs", ".venv", ".git"}
    assert "local.settings.json" not in names
