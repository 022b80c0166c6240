"""Recording: a video of a policy, with its action distribution next to the picture."""

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

with extra_needed("video", "record videos"):
    import imageio.v2 as imageio

    from pgkeras.evaluation.frames import Moment, Painter

__all__ = ["Recording", "record"]

# Otherwise imageio-ffmpeg runs Python between fork and exec, where gRPC's fork handlers interfere: occasionally, ffmpeg
# did not start.
os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")
# Pictures are rendered in memory, so pygame must not look for a display.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

_FPS = 30.0  # if the environment does not specify it
_FORMATS = (".mp4", ".gif")
_MAX_GIF_FPS = 50.0  # browsers replace delays below 0.02 s by 0.1 s


@dataclass(frozen=True)
class Recording:
    """A recorded video.

    Args:
        path: The file.
        frames: Number of frames: one per step, and one at the end of each episode; fewer in a GIF with more than 50
            steps per second.
        size: Width and height in pixels.
        fps: Frames per second.
        evaluation: The results of the episodes.
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
    """Plays episodes and records them: the same ones for the same seed.

    Args:
        actor: The actor.
        recipe: The environment.
        path: A file that ends in .mp4 or .gif, written atomically.
        episodes: Number of episodes.
        seed: Seed of the environment and of the actions.
        subtitle: Name of the actor in the video.
        fps: Steps per second; None for the environment's, or 30. A GIF has at most 50 frames per second and skips the
            others.

    Raises:
        ConfigError: The file name has another ending.
        EnvironmentSetupError: The environment cannot be created, or does not render pictures.
        EnvironmentStepError: The environment failed, or rendered no picture.
        RunError: The file cannot be written.
        UnsupportedSpaceError: The policy's spaces differ from the environment's.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{path}: expected a file that ends in {' or '.join(_FORMATS)}")
    env = _with_pictures(recipe)
    steps_a_second = fps or float(env.metadata.get("render_fps") or _FPS)
    rate = min(steps_a_second, _MAX_GIF_FPS) if path.suffix.lower() == ".gif" else steps_a_second
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
    """Wraps an actor and records the frames of its episodes.

    Args:
        actor: The wrapped actor.
        env: The environment.
        title: Name of the environment in the video.
        subtitle: Name of the actor.
        show: Receives each frame.
        steps_a_frame: Steps per frame, at least 1. The end of an episode always gets a frame.
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
    """Counts episodes, steps and rewards, and calls a function at the end of each episode, before its reset."""

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
            warnings.simplefilter("ignore")  # gymnasium's warnings about missing pictures, which are an error below
            env = make_one(recipe, render_mode="rgb_array")
    except EnvironmentSetupError as error:
        make_one(recipe).close()  # raises the original error if rendering is not the cause
        raise EnvironmentSetupError(f"{recipe.env_id} cannot be recorded: {error}") from error
    if env.render_mode != "rgb_array":
        env.close()
        raise EnvironmentSetupError(f"{recipe.env_id} cannot be recorded: it does not render rgb_array")
    return env


@contextmanager
def _writer(name: str, fps: float) -> Iterator[Callable[[NDArray[np.uint8]], Any]]:
    """Opens a video for writing, and yields a function that appends a frame."""
    writer: Any
    if not name.lower().endswith(".gif"):
        # Frames always have even sizes.
        with imageio.get_writer(name, format="FFMPEG", fps=fps, quality=8, macro_block_size=2) as writer:
            yield writer.append_data
        return
    delays: list[int] = []  # in ms; a GIF has whole hundredths of a second, which are correct on average
    with imageio.get_writer(name, format="GIF", duration=delays, loop=0) as writer:  # reads delays at its end

        def append(frame: NDArray[np.uint8]) -> None:
            hundredths = round(100 * (len(delays) + 1) / fps) - round(100 * len(delays) / fps)
            delays.append(10 * hundredths)
            writer.append_data(frame)

        yield append
