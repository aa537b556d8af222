"""`python -m chaos`: breaks the connector on purpose, and says what held. Ends with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos import nights
from chaos.planted import BUGS, planted
from chaos.playing import Verdict, play
from chaos.shrinking import shrink
from chaos.stage import SKEWS, Stage, on_stage
from chaos.story import Story, Weather, weather_of

AT_ONCE = 30  # stories on one stage
BATCHES = 4  # then everything is started anew, with other clocks
BAR = 30  # characters
SHRUNK = 2  # failed stories that are made short: each takes some minutes

TEACH = """\
Two halves, both made from seeds; the same seed means the same edits and the same faults.

  stories  The real app in two processes on Azurite and the simulator of both vendors, thirty deals at once: people edit both sides
           while webhooks are lost, calls fail, storage fails, clocks differ and instances are killed. What happens when is the
           same for a seed; how fast the machine is, is not, so a seed that failed is worth repeating.
  nights   One deal in one process, with two workers, polls, events, deaths and faults interleaved call by call: exact, so that
           a seed that failed fails again.

After the faults have stopped and an hour or two has passed on every clock, each deal must keep promises 1 to 5 of docs/protocol.md.

examples:
  python -m chaos                        two minutes of both
  python -m chaos --runs 300             so many seeds of each half, however long that takes
  python -m chaos --minutes 20 --seed 7  for twenty minutes, from seed 7 on
  python -m chaos --only nights --seed 4711 --runs 1     one seed of one half
  python -m chaos --plant wrong_winner   with a bug in the app: now it must fail

docs/break-it.md holds what it found and what it does not cover.
"""


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds as Ctrl-C does, so that every process is ended
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"Breaking it from seed {seed} on. The same seed gives the same edits and faults: --seed {seed}\n", flush=True)
    machine = Machine(seed, options.runs, time.monotonic() + 60 * options.minutes if not options.runs else None, options.plant)
    began, interrupted = time.monotonic(), False
    try:
        with tempfile.TemporaryDirectory() as logs:
            if options.only != "stories":
                # A quarter of the time where both halves run: a night is short.
                machine.nights(None if machine.end is None else began + (60 if options.only else 15) * options.minutes)
            if options.only != "nights":
                machine.stories(Path(options.logs or logs))
    except KeyboardInterrupt:
        interrupted = True
        print("\nStopped; every process is ended.", flush=True)
    machine.report(time.monotonic() - began)
    return 1 if machine.failed else 130 if interrupted else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m chaos",
        description=TEACH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="with make: make chaos SEED=7 RUNS=300 MINUTES=20",
    )
    parser.add_argument("--seed", type=int, help="the first seed (default: by chance, and told)")
    parser.add_argument("--runs", type=int, default=0, help="seeds of each half; without, as many as fit into the time")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long new seeds are begun (default 2)")
    parser.add_argument("--only", choices=("stories", "nights"), help="one half alone")
    parser.add_argument("--plant", choices=sorted(BUGS), default="", help="plant a bug into the app, to see the machine catch it")
    parser.add_argument("--logs", type=Path, help="folder for the logs of the instances (default: thrown away)")
    options = parser.parse_args()
    if options.runs < 0 or options.minutes <= 0:
        parser.error("--runs and --minutes must be positive")
    if options.logs:
        options.logs.mkdir(parents=True, exist_ok=True)
    return options


class Machine:
    """Runs seeds until their number or their time is over, and keeps the figures."""

    def __init__(self, seed: int, runs: int, end: float | None, bug: str) -> None:
        self.seed, self.runs, self.end, self.bug = seed, runs, end, bug
        self.counted: dict[str, Counter[str]] = {"stories": Counter(), "nights": Counter()}
        self.lived = Counter[str]()
        self.failed: list[str] = []
        self.began, self.batch_seconds = time.monotonic(), 0.0

    # -- one process -------------------------------------------------------------------------------------------------------------------

    def nights(self, end: float | None) -> None:
        with planted(self.bug) if self.bug else contextlib.nullcontext():
            for number in range(self.runs or sys.maxsize):
                if end is not None and time.monotonic() > end:
                    break
                night = nights.Night(self.seed + number)
                try:
                    night.run()
                    found = night.faults_found()
                except Exception:
                    found = [traceback.format_exc()]
                self.lived["nights"] += 1
                self.counted["nights"] += night.counted
                if found:
                    self._fails("nights", self.seed + number, "\n".join([*(f"  {one}" for one in found), *night.told]))
                self._progress("nights", number + 1)

    # -- processes of its own ----------------------------------------------------------------------------------------------------------

    def stories(self, logs: Path) -> None:
        shrunk = 0
        batches = self._batches()
        batch = next(batches, None)
        while batch is not None:
            chance = random.Random(f"clocks {batch[0]}")
            skews = (chance.choice(SKEWS), chance.choice(SKEWS))
            with on_stage(skews, self.bug, logs) as stage:
                for _ in range(BATCHES):
                    try:
                        verdicts = self._play(stage, [Story.of(seed) for seed in batch], weather_of(batch[0]))
                    except TimeoutError as error:
                        self._fails("stories", batch[0], f"the {len(batch)} stories from here on could not be played: {error}")
                        batch = next(batches, None)
                        break
                    for verdict in (one for one in verdicts if not one.held):
                        short = verdict
                        if shrunk < SHRUNK:
                            shrunk += 1
                            self._say(f"seed {verdict.story.seed} failed; looking for its short form")
                            short = shrink(verdict, lambda stories: self._play(stage, stories, ()), self._say)
                        self._fails("stories", verdict.story.seed, "\n".join([*(f"  {one}" for one in short.faults), short.told]))
                    self.lived["stories"] += len(batch)
                    self._progress("stories", self.lived["stories"])
                    batch = next(batches, None)
                    if batch is None:
                        break
                self.counted["stories"] += stage.counted

    def _batches(self) -> Iterator[list[int]]:
        number = 0
        while True:
            many = min(AT_ONCE, self.runs - number) if self.runs else AT_ONCE
            # A batch that would end long after the time is over is not begun.
            if many <= 0 or (self.end is not None and time.monotonic() + self.batch_seconds / 2 > self.end):
                return
            began = time.monotonic()
            yield list(range(self.seed + number, self.seed + number + many))
            self.batch_seconds = time.monotonic() - began
            number += many

    def _play(self, stage: Stage, stories: Sequence[Story], weather: Sequence[Weather]) -> list[Verdict]:
        done = self.lived["stories"]
        return play(stage, stories, weather, lambda text: self._progress("stories", done, text))

    # -- telling -----------------------------------------------------------------------------------------------------------------------

    def _fails(self, half: str, seed: int, told: str) -> None:
        self.failed.append(f"{half} {seed}")
        self._say(f"\nBROKEN: --only {half} --seed {seed} --runs 1\n{told}\n")

    def _say(self, text: str) -> None:
        print(("\r\033[K" if sys.stdout.isatty() else "") + text, flush=True)

    def _progress(self, half: str, done: int, text: str = "") -> None:
        words = f"{half}: {done}" + (f" of {self.runs}" if self.runs else "") + f" seeds, {len(self.failed)} failed"
        if sys.stdout.isatty():
            over = (time.monotonic() - self.began) / max(self.end - self.began, 1) if self.end else done / max(self.runs, 1)
            bar = "#" * min(BAR, int(over * BAR))
            print(f"\r\033[K[{bar:{BAR}}] {words}" + (f"; {text}" if text else ""), end="", flush=True)
        elif (half == "stories" and not text) or (half == "nights" and done % 100 == 0):
            print(words, flush=True)

    def report(self, seconds: float) -> None:
        """What was met how often, and what held."""
        self._say("")
        for half, counted in self.counted.items():
            if self.lived[half]:
                print(f"{half}: {self.lived[half]} seeds; met:")
                print("\n".join(f"  {number:7}  {what}" for what, number in sorted(counted.items())), "\n")
        if self.failed:
            print(f"{len(self.failed)} seeds broke a promise: {', '.join(self.failed)}. {seconds:.0f} s.")
        else:
            print(f"Every promise held for {sum(self.lived.values())} seeds. {seconds:.0f} s.")


if __name__ == "__main__":
    sys.exit(main())
