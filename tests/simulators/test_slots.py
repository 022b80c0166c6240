"""The states of a session's environments, compared with a model of each environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pgkeras.simulators.slots import EpisodeSlots


class SingleSlot:
    """The state of one environment."""

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.is_first = False
        self.begun: int | None = None

    def advance(self, ended: bool, is_first: bool) -> tuple[int | None, bool]:
        """Returns the first step of the episode that has ended, and whether an episode was broken off."""
        finished, broken = None, False
        if self.begun is not None:
            if ended:
                finished, self.begun, self.remaining = self.begun, None, self.remaining - 1
            elif is_first:
                self.begun, broken = None, True
        self.is_first = is_first
        return finished, broken

    def begin(self, step: int) -> None:
        if self.begun is None and self.is_first and self.remaining > 0:
            self.begun = step

    @property
    def plays(self) -> bool:
        return self.begun is not None or (self.is_first and self.remaining > 0)

    def catches_up(self, is_over: bool) -> bool:
        return not (self.is_first or is_over) and self.begun is None and self.remaining > 0


@pytest.mark.parametrize("seed", range(20))
def test_states_match_those_of_independent_environments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 5))
    quota = rng.integers(0, 6, rows)
    slots, alone = EpisodeSlots(rows), [SingleSlot(int(n)) for n in quota]
    slots.remaining = quota.copy()
    found, first = np.zeros(rows, int), np.ones(rows, bool)
    ended = np.zeros(rows, bool)
    for step in range(60):
        finished, broken = slots.advance(ended, first)
        outcomes = [one.advance(bool(e), bool(f)) for one, e, f in zip(alone, ended, first, strict=True)]
        assert finished == [(slot, begun) for slot, (begun, _) in enumerate(outcomes) if begun is not None]
        assert broken == sum(is_broken for _, is_broken in outcomes)
        for slot, _ in finished:
            found[slot] += 1
        over = ended & ~first
        assert slots.plays().tolist() == [one.plays for one in alone]
        assert slots.catches_up(over).tolist() == [
            one.catches_up(bool(is_over)) for one, is_over in zip(alone, over, strict=True)
        ]
        slots.begin(step)
        for one in alone:
            one.begin(step)
        assert slots.under_way == sum(one.begun is not None for one in alone)
        assert slots.all_play == all(one.begun is not None and not one.is_first for one in alone)
        assert slots.remaining.tolist() == [one.remaining for one in alone]
        ended = rng.random(rows) < 0.3
        # Some simulators reset in the same message, others one message later. Some start over within an episode.
        first = np.where(rng.random(rows) < 0.5, ended, over) | (rng.random(rows) < 0.1)
    assert (found + slots.remaining == quota).all()


def test_cancelled_episodes_are_not_played() -> None:
    slots, none = EpisodeSlots(2), np.zeros(2, bool)
    slots.remaining = np.array([2, 1])
    slots.advance(none, ~none)
    slots.begin(0)
    slots.advance(none, none)
    assert slots.all_play
    assert slots.cancel() == 3
    found: Any = slots.advance(~none, ~none)
    assert found == ([], 0)
    assert (slots.under_way, slots.plays().any(), slots.remaining.sum()) == (0, False, 0)
