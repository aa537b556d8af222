"""The short form of a story that failed: actions are left out as long as what remains still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chaos.playing import Verdict
from chaos.story import Story

COPIES = 3  # of each candidate: what depends on timing fails only now and then
ROUNDS = 8


def shrink(failed: Verdict, play: Callable[[Sequence[Story]], list[Verdict]], tell: Callable[[str], None]) -> Verdict:
    """The shortest story found that still fails, as it went when it did; `failed` itself where it does not fail again.

    All candidates of a round happen at the same time, so a round takes as long as one story.
    """
    shortest = failed
    for number in range(ROUNDS):
        candidates = [*shortest.story.shorter()]
        if number == 0:  # once more as it was, and perhaps no fault was needed at all
            candidates += [shortest.story, replace(shortest.story, troubles=())]
        again = [replace(one, number=copy) for one in candidates for copy in range(COPIES)]
        failing = sorted((one for one in play(again) if not one.held), key=lambda one: _length(one.story))
        tell(f"round {number + 1}: {len(failing)} of {len(again)} failed")
        if not failing or not _length(failing[0].story) < _length(shortest.story):
            return failing[0] if failing else shortest
        shortest = failing[0]
    return shortest


def _length(story: Story) -> int:
    return len(story.edits) + len(story.troubles)
