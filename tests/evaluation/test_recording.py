"""A film that cannot be made says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgkeras.environments import Recipe
from pgkeras.environments.collect import Choice
from pgkeras.errors import PolicyServiceError, RunError, ServerUnavailableError, UnauthenticatedError
from pgkeras.evaluation.recording import record
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import PolicySpec

BOUNDS = np.array([4.8, np.inf, 0.41887903, np.inf], np.float32).astype(np.float64)


class Going:
    """Plays CartPole for two steps; then what it asks for actions fails."""

    spec = PolicySpec.by_default(Box(-BOUNDS, BOUNDS, np.dtype(np.float32)), Discrete(2))

    def __init__(self, error: PolicyServiceError) -> None:
        self.answer = {"probabilities": np.full((1, 2), 0.5)}
        self._error, self._left = error, 2

    def act(self, observation: Any, noise: Any, state: Any) -> Choice:
        if not self._left:
            raise self._error
        self._left -= 1
        action = np.zeros(1, np.int64)
        return action, action, None


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
@pytest.mark.parametrize(
    "error", [UnauthenticatedError("the token is unknown"), ServerUnavailableError("127.0.0.1:9: nobody answers")]
)
def test_what_ends_the_play_is_not_taken_for_a_file_that_cannot_be_written(
    error: PolicyServiceError, suffix: str, tmp_path: Path
) -> None:
    with pytest.raises(type(error)) as raised:
        record(Going(error), Recipe("CartPole-v1"), tmp_path / f"a{suffix}", episodes=1, seed=0, subtitle="test")
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_has_no_place_is_a_run_error(tmp_path: Path) -> None:
    film = tmp_path / "nowhere" / "a.gif"
    with pytest.raises(RunError, match=f"cannot write {film}"):
        record(Going(UnauthenticatedError("")), Recipe("CartPole-v1"), film, episodes=1, seed=0, subtitle="test")
