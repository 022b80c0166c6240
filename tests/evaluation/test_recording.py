"""A film that cannot be made says why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from pgkeras.bundle.bundle import find, open_bundle
from pgkeras.environments import Recipe, make_one
from pgkeras.environments.collect import Choice
from pgkeras.errors import PolicyServiceError, RunError, ServerUnavailableError, UnauthenticatedError
from pgkeras.evaluation.recording import record
from pgkeras.runs import films
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import PolicySpec

ROOT = Path(__file__).parents[2]
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


class Pictured(gymnasium.Env[Any, Any]):
    """Three steps, with a picture each, and rewards that are arrays of one."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as gymnasium declares it
    observation_space = gymnasium.spaces.Box(-4.0, 4.0, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        return np.zeros(4, np.float32), np.array([0.5]), self._steps == 3, False, {}

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


class Left(Going):
    """Takes the same action for ever."""

    spec = PolicySpec.by_default(Box(np.full(4, -4.0), np.full(4, 4.0), np.dtype(np.float32)), Discrete(2))

    def __init__(self) -> None:
        super().__init__(UnauthenticatedError(""))
        self._left = 10**9


def test_rewards_that_are_arrays_of_one_are_filmed(tmp_path: Path) -> None:
    gymnasium.register("Pictured-v0", Pictured)
    try:
        made = record(Left(), Recipe("Pictured-v0"), tmp_path / "a.gif", episodes=2, seed=0, subtitle="test")
    finally:
        del gymnasium.registry["Pictured-v0"]
    assert made.evaluation.returns.tolist() == [1.5, 1.5]
    assert made.frames == 2 * 4


@pytest.mark.parametrize("fps", [1.0, 24.0, 30.0, 40.0, 50.0, 60.0, 67.0, 99.0, 125.0])
def test_a_gif_takes_as_long_as_what_it_shows(fps: float, tmp_path: Path) -> None:
    recipe = Recipe("CartPole-v1", max_episode_steps=20)
    made = record(Upright(), recipe, tmp_path / "a.gif", episodes=2, seed=0, subtitle="test", fps=fps)
    delays = []
    with Image.open(tmp_path / "a.gif") as film:
        assert made.frames == film.n_frames
        for i in range(film.n_frames):
            film.seek(i)
            delays.append(film.info["duration"])
    assert min(delays) >= 20, "which a browser shows as 100"
    steps = int(made.evaluation.lengths.sum()) + 2  # and an end of each episode
    # Every end is shown, for a frame's time at most too long.
    assert sum(delays) / 1000 == pytest.approx(steps / fps, abs=0.005 if fps <= 50 else 0.04)
    assert made.fps == pytest.approx(1000 * len(delays) / sum(delays), rel=1e-3)


class Upright(Going):
    """Pushes CartPole to the left and to the right in turns."""

    def __init__(self) -> None:
        super().__init__(UnauthenticatedError(""))
        self._count = 0

    def act(self, observation: Any, noise: Any, state: Any) -> Choice:
        self._count += 1
        action = np.full(1, self._count % 2, np.int64)
        return action, action, None


@pytest.mark.parametrize(
    ("recipe", "limit"),
    [
        (Recipe("CartPole-v1"), 500),  # as it is registered
        (Recipe("CartPole-v1", max_episode_steps=7), 7),
        (Recipe("CartPole-v1", max_episode_steps=10**6), 1000),
        (Recipe("Taxi-v3" if "Taxi-v3" in gymnasium.registry else "Taxi-v4"), 200),
        (Recipe("CliffWalking-v1"), 1000),  # which has no limit
    ],
)
def test_a_run_s_film_ends_where_an_episode_does(
    recipe: Recipe, limit: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filmed: list[Recipe] = []

    def keep(actor: Any, recipe: Recipe, path: Path, **_: Any) -> Any:
        filmed.append(recipe)
        return SimpleNamespace(path=path)

    monkeypatch.setattr("pgkeras.evaluation.recording.record", keep)
    shipped = open_bundle(find(ROOT / "saved_models" / "cartpole-v1"))
    films.film(shipped, recipe, tmp_path / "film.mp4", 0)
    env = make_one(filmed[0])
    assert env.spec is not None
    assert env.spec.max_episode_steps == limit


def test_a_film_that_has_no_place_is_a_run_error(tmp_path: Path) -> None:
    film = tmp_path / "nowhere" / "a.gif"
    with pytest.raises(RunError, match=f"cannot write {film}"):
        record(Going(UnauthenticatedError("")), Recipe("CartPole-v1"), film, episodes=1, seed=0, subtitle="test")
