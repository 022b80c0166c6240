"""Recording: a film of a policy at play, with its action distribution beside the picture."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pgkeras.environments import PlainEnvironments, Recipe, make_one
from pgkeras.environments.collect import Choice
from pgkeras.environments.rows import as_reward
from pgkeras.errors import ConfigError, EnvironmentSetupError, EnvironmentStepError, extra_needed
from pgkeras.evaluation.actors import AnsweringActor
from pgkeras.evaluation.evaluation import Evaluation, evaluate
from pgkeras.files import replacing

with extra_needed("video", "record films"):
    import imageio.v2 as imageio

    from pgkeras.evaluation.frames import Moment, Painter

__all__ = ["Recording", "record"]

# Otherwise imageio-ffmpeg runs Python between fork and exec, and what gRPC does after a fork gets in its way: now and
# then ffmpeg never started.
os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")
# Pictures are drawn in memory: no display is looked for, which pygame would complain to miss.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

_FPS = 30.0  # where the environment does not say
_FORMATS = (".mp4", ".gif")
_MOST_OF_A_GIF = 50.0  # frames a second: browsers take delays below two hundredths of a second for ten


@dataclass(frozen=True)
class Recording:
    """The result of filming.

    Args:
        path: The film.
        frames: How many frames it has: one a step, and one at every episode's end; fewer in a GIF of more than 50 steps
            a second.
        size: Their width and height in pixels.
        fps: Frames a second.
        evaluation: The episodes.
    """

    path: Path
    frames: int
    size: tuple[int, int]
    fps: float
    evaluation: Evaluation


def record(
    actor: AnsweringActor,
    recipe: Recipe,
    path: Path,
    *,
    episodes: int,
    seed: int,
    subtitle: str,
    fps: float | None = None,
) -> Recording:
    """Plays episodes and films them: the same ones for the same seed.

    Args:
        actor: What plays.
        recipe: What it plays.
        path: Where to: a file that ends in .mp4 or .gif. It appears whole or not at all.
        episodes: How many.
        seed: Of environment and actions.
        subtitle: What to call the actor in the film.
        fps: Steps a second; the environment's own, or 30, when None. A GIF has at most 50 frames a second, and leaves
            out what is more.

    Raises:
        ConfigError: The file's name ends otherwise.
        EnvironmentSetupError: The environment cannot be made, or not with pictures.
        EnvironmentStepError: The environment failed, or gave no picture.
        RunError: The file cannot be written.
        UnsupportedSpaceError: The policy was made for another environment.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{path}: expected a file that ends in {' or '.join(_FORMATS)}")
    env = _with_pictures(recipe)
    steps_a_second = fps or float(env.metadata.get("render_fps") or _FPS)
    rate = min(steps_a_second, _MOST_OF_A_GIF) if path.suffix.lower() == ".gif" else steps_a_second
    title = recipe.env_id.rpartition(":")[2]
    try:
        with replacing(path, path.suffix) as scratch, _writer(scratch.name, rate) as show:
            camera = _Camera(actor, env, title, subtitle, show, steps_a_second / rate)
            evaluation = evaluate(camera, PlainEnvironments([camera.environment]), episodes, seed)
    finally:
        env.close()
    assert camera.painter is not None
    return Recording(path, camera.frames, (camera.painter.width, camera.painter.height), rate, evaluation)


class _Camera:
    """An actor that passes everything on to another, and films what it sees and does.

    Args:
        actor: The other.
        env: What it plays.
        title: What to call that in the film.
        subtitle: What to call the actor.
        show: Takes each frame.
        steps_a_frame: How many steps to a frame, at least 1. An episode's end has one in any case.
    """

    def __init__(
        self,
        actor: AnsweringActor,
        env: gymnasium.Env[Any, Any],
        title: str,
        subtitle: str,
        show: Callable[[NDArray[np.uint8]], Any],
        steps_a_frame: float,
    ) -> None:
        self.spec = actor.spec
        self.environment = _Counted(env, self._end)
        self.painter: Painter | None = None
        self.frames = 0
        self._actor = actor
        self._title, self._subtitle = title, subtitle
        self._show = show
        self._steps_a_frame = steps_a_frame
        self._moments = 0

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`."""
        samples, actions, state = self._actor.act(observation, noise, state)
        parameters = {name: self._actor.answer[name][0] for name in self.spec.parameter_outputs}
        self._film(parameters=parameters, action=actions[0])
        return samples, actions, state

    def _end(self, how: str) -> None:
        self._film(ended=how)

    def _film(self, **what: Any) -> None:
        since, self._moments = self._moments - 1, self._moments + 1
        if "ended" not in what and since // self._steps_a_frame == (since + 1) // self._steps_a_frame:
            return
        picture = self.environment.render()
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            got = f"an array {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise EnvironmentStepError(f"expected a picture [height, width, 3] from render(), got {got}")
        if self.painter is None:
            self.painter = Painter(self.spec, self._title, self._subtitle, picture)
        counted = self.environment
        moment = Moment(counted.episode, counted.steps, counted.episode_return, **what)
        self._show(self.painter.paint(picture, moment))
        self.frames += 1


class _Counted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts episodes, steps and rewards, and calls where an episode ends, before it is reset."""

    def __init__(self, env: gymnasium.Env[Any, Any], on_end: Callable[[str], None]) -> None:
        super().__init__(env)
        self.episode = self.steps = 0
        self.episode_return = 0.0
        self._on_end = on_end

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.episode += 1
        self.steps, self.episode_return = 0, 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        self.episode_return += as_reward(reward)
        if terminated or truncated:
            self._on_end("terminated" if terminated else "truncated")
        return observation, reward, terminated, truncated, info


def _with_pictures(recipe: Recipe) -> gymnasium.Env[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gymnasium's, about what is said below
            env = make_one(recipe, render_mode="rgb_array")
    except EnvironmentSetupError as error:
        make_one(recipe).close()  # raises by itself where pictures are not to blame
        raise EnvironmentSetupError(f"{recipe.env_id} cannot be filmed: {error}") from error
    if env.render_mode != "rgb_array":
        env.close()
        raise EnvironmentSetupError(f"{recipe.env_id} cannot be filmed: it renders no rgb_array")
    return env


@contextmanager
def _writer(name: str, fps: float) -> Iterator[Callable[[NDArray[np.uint8]], Any]]:
    """Opens a film for writing. What it gives takes a frame."""
    writer: Any
    if not name.lower().endswith(".gif"):
        # Frames have even sizes.
        with imageio.get_writer(name, format="FFMPEG", fps=fps, quality=8, macro_block_size=2) as writer:
            yield writer.append_data
        return
    delays: list[int] = []  # in milliseconds; a GIF has whole hundredths of a second, which are right on average
    with imageio.get_writer(name, format="GIF", duration=delays, loop=0) as writer:  # it reads them in the end

        def append(frame: NDArray[np.uint8]) -> None:
            hundredths = round(100 * (len(delays) + 1) / fps) - round(100 * len(delays) / fps)
            delays.append(10 * hundredths)
            writer.append_data(frame)

        yield append
