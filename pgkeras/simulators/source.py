"""An episode source whose episodes are played by simulators that connect."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

import numpy as np
from pgkeras_serving.server import serving
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.run import SimulatorStatus

from pgkeras.environments.collect import Actor, Watch
from pgkeras.environments.trajectory import Trajectory
from pgkeras.simulators.declaration import Declaration
from pgkeras.simulators.hub import Hub
from pgkeras.spaces.masks import mask_size_of

__all__ = ["SimulatorCollector", "Simulators"]

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_SILENT_SECONDS = 10.0
_T = TypeVar("_T")


class Simulators:
    """A server for simulators that runs in a separate thread. A run learns from its sessions.

    Args:
        name: The policy's name.
        config: The server's settings. A simulator may be silent for ``session_idle_seconds``.
        declaration: The spaces; by default, those that the first simulator declares.
        endless_steps: Steps per environment without the end of an episode after which a batch fails.

    Raises:
        ConfigError: The server cannot listen at the address, or a certificate or the token file is invalid.
    """

    is_environment = False
    reward_threshold: float | None = None
    restarts = 0

    def __init__(
        self, name: str, config: ServerConfig, declaration: Declaration | None = None, endless_steps: int = 1_000_000
    ) -> None:
        self._endless_steps = endless_steps
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._hub: Hub
        self.target = ""
        """The address for simulators."""
        self.http_port: int | None = None
        """The port of the status page, or None."""
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(name, config, declaration, started)),
            name="pgkeras-simulators",
            daemon=True,
        )
        self._thread.start()
        started.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Waits until the spaces are known. Returns False if ``is_over`` returns True first.

        Args:
            is_over: Called ten times per second.
        """
        declared = asyncio.run_coroutine_threadsafe(self._hub.wait_for_declaration(), self._loop)
        while not is_over():
            try:
                declared.result(_POLL_SECONDS)
            except TimeoutError:
                continue
            return True
        declared.cancel()
        return False

    @property
    def is_declared(self) -> bool:
        """Whether the spaces are known."""
        return self._hub.declaration is not None

    @property
    def declaration(self) -> Declaration:
        """The spaces. Call :meth:`wait` first."""
        assert self._hub.declaration is not None, "wait() first"
        return self._hub.declaration

    @property
    def observation_space(self) -> Any:
        """The observation space."""
        return self.declaration.observation_space

    @property
    def action_space(self) -> Any:
        """The action space."""
        return self.declaration.action_space

    @property
    def mask_size(self) -> int:
        """Length of the action masks; 0 for none."""
        return mask_size_of(self.action_space) if self.declaration.masked else 0

    @property
    def connected(self) -> list[SimulatorStatus]:
        """The status of every connected simulator."""
        return self._hub.simulators()

    def collector(self, actor: Any, watch: Watch | None = None) -> SimulatorCollector:
        """See :meth:`pgkeras.runs.sources.EpisodeSource.collector`.

        Args:
            actor: A :class:`pgkeras.environments.collect.Actor`.
            watch: Callback for the progress.
        """
        if self._hub.codec is None:
            self._loop.call_soon_threadsafe(self._hub.set_policy, actor.spec)
        return SimulatorCollector(self, actor, watch)

    def advise(self) -> None:
        """Does nothing: pgkeras cannot make a simulator faster."""

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """See :meth:`pgkeras.runs.sources.EpisodeSource.note`. The status page shows the values."""
        self._loop.call_soon_threadsafe(self._hub.note, epoch, env_steps, mean_return, entropy)

    def close(self) -> None:
        """Tells the simulators that the run is over, and stops the server."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._hub.stop)
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def play(self, actor: Actor, watch: Watch | None, episodes: int, seed: np.random.SeedSequence) -> Any:
        """Plays episodes; see :meth:`SimulatorCollector.collect`."""
        in_thread = getattr(actor, "engine", "litert") != "litert"
        playing = self._start(self._hub.play(actor, episodes, seed, in_thread, self._endless_steps))
        alone_since = time.monotonic()
        try:
            while True:
                try:
                    return playing.result(_POLL_SECONDS)
                except TimeoutError:
                    pass
                if watch is not None:
                    watch(*self._hub.progress)
                if self._hub.simulators():
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > _SILENT_SECONDS:
                    alone_since = time.monotonic()
                    logger.warning("no simulator is connected: waiting for one at %s", self.target)
        except BaseException:
            playing.cancel()
            raise

    def _start(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _serve(
        self,
        name: str,
        config: ServerConfig,
        declaration: Declaration | None,
        started: concurrent.futures.Future[None],
    ) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self._hub = Hub(name, config, declaration)
            async with serving(config, self._hub) as server:
                self.target = server.target
                self.http_port = None if server.web is None else server.web.port
                started.set_result(None)
                await self._stop.wait()
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)


class SimulatorCollector:
    """Collects episodes from simulators with one actor; see :class:`pgkeras.runs.sources.EpisodeCollector`.

    Args:
        simulators: The simulators.
        actor: Chooses the actions.
        watch: Callback for the progress, called ten times per second. An exception that it raises ends the batch.
    """

    def __init__(self, simulators: Simulators, actor: Actor, watch: Watch | None) -> None:
        self._simulators = simulators
        self._actor = actor
        self._watch = watch
        self.idle_steps = self.episodes_lost = 0

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays episodes.

        Raises:
            EnvironmentStepError: No episode ended for too long.
        """
        trajectory: Trajectory
        trajectory, batch = self._simulators.play(self._actor, self._watch, episodes, seed)
        self.idle_steps, self.episodes_lost = batch.steps - trajectory.steps, batch.lost
        return trajectory
