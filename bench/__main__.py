"""`python -m bench`: calls against their budgets, and speed; written to docs/benchmarks.md. Ends with 1 if a budget is broken."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from pathlib import Path

from bench import budgets, load, package, report, speed
from bench.report import Rate, Situation
from demo.stage import StoryFailed, on_stage
from devhost.worker import FunctionFailed

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"

TEACH = """\
Starts Azurite, the simulator of both vendors and the real function app, as `make demo` does, but lets nothing run by itself.
Counts the calls each situation costs, as the vendors see them, beside the budget; then measures speed with both vendors 50 ms away.
Then the load: events in a burst, a mass update, tables with 100,000 pairs. Takes about a quarter of an hour.

examples:
  python -m bench            everything; writes docs/benchmarks.md
  python -m bench --quick    a smoke run with few deals; writes nothing
"""

TEXT = """\
# Benchmarks

Made by `make bench` on: {machine}.

The connector, the simulator of both vendors and the storage emulator shared that machine, and one Python process held the first two:
compare runs on one machine, and expect more of Azure.

## Calls

Counted by the simulator (PC is Partner Center, SF is Salesforce). The poll that finds edits is one query for all of them and is not
counted with each.

Calls made once per process, and counted nowhere else: {once}.

{situations}

## Speed

{latency:.0f} ms of latency are added to every call to either vendor. The floor is the longest chain of calls that must follow one
another, with {at_once} deals at once (the worker's threads); everything above it is the connector, the emulator and the simulator.

{rates}

## Load

The storage calls of one run that writes, on tables with so many pairs; medians of {samples} runs against the emulator.

{growth}

{held}

## Package

{package}
"""


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench", description=TEACH, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few deals, nothing written")
    quick = parser.parse_args().quick
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that everything is stopped
    logging.basicConfig(level=logging.ERROR)
    began = time.monotonic()
    try:
        once, situations, rates, held = measure(quick)
        grown = load.growth((100, 1_000) if quick else (1_000, 10_000, 100_000))
    except (StoryFailed, FunctionFailed, TimeoutError) as error:
        print(f"The measurement came to nothing: {type(error).__name__} {error}", file=sys.stderr)
        return 1
    text = TEXT.format(
        machine=report.machine(),
        once=once,
        situations=report.situations(situations),
        rates=report.rates(rates),
        samples=load.SAMPLES,
        growth=growth(grown),
        held=report.table(("what", "measured"), ((one.what, one.measured) for one in held)),
        latency=speed.LATENCY * 1000,
        at_once=speed.AT_ONCE,
        package=weigh(),
    )
    print(text)
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")
    broken = [line for row in situations for line in row.broken()]
    print("Broken budgets: " + "; ".join(broken) if broken else f"Every budget is kept. {time.monotonic() - began:.0f} s.")
    return 1 if broken else 0


def measure(quick: bool) -> tuple[str, list[Situation], list[Rate], list[load.Held]]:
    # The brake would hold a load like this, as it should; here its working off is measured.
    with on_stage({"BRAKE_WRITES_PER_HOUR": "0", "PARTNER_CENTER_CALLS_PER_MINUTE": "100000"}, alive=False) as stage:
        once = budgets.first_of_a_process(stage)
        situations = budgets.all_situations(stage, (5, 20) if quick else (10, 200))
        rates = []
        for number in (1, 16) if quick else (1, 16, 96):
            rates += [speed.edits_in_salesforce(stage, number), speed.edits_in_partner_center(stage, number)]
        rates.append(speed.events_accepted(stage, 100 if quick else 1000))
        held = load.burst(stage, *((100, 10) if quick else (5_000, 200)))
        held += load.mass_update(stage, *((50, 10) if quick else (3_000, 120)))
    return once, situations, rates, held


def growth(rows: list[load.Growth]) -> str:
    first = rows[0]
    return report.table(
        ("pairs", "a run's storage calls", "ratio", "finding what is due", "ratio", "memory"),
        (
            (
                f"{row.pairs:,}",
                f"{row.run:.1f} ms",
                f"{row.run / first.run:.2f}",
                f"{row.due:.1f} ms",
                f"{row.due / first.due:.2f}",
                f"{row.megabytes:.0f} MB",
            )
            for row in rows
        ),
    )


def weigh() -> str:
    files, size = package.zipped_bytes()
    rows = [
        ("importing function_app", f"{package.import_seconds():.2f} s"),
        ("files deployed", str(files)),
        ("zipped, before the build adds the libraries", f"{size / 1024:.0f} KiB"),
    ]
    return report.table(("what", "measured"), rows)


if __name__ == "__main__":
    sys.exit(main())
