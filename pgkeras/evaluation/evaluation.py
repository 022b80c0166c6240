"""Evaluation: play episodes with an exported policy, in this process or through a server, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines import Engine
from pgkeras.environments import Environments
from pgkeras.environments.collect import Actor, Choice, Collector, Watch
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.evaluation import statistics
from pgkeras.protocol.values import first, plain
from pgkeras.settings.groups import EnvironmentSettings
from pgkeras.spaces import actions_from_gymnasium, observations_from_gymnasium
from pgkeras.spaces.difference import difference
from pgkeras.spaces.layout import part_of, without_mask
from pgkeras.spaces.spec import PolicySpec

if TYPE_CHECKING:  # training evaluates, too, and has no use for gRPC
    from pgkeras.client.client import Mode, PolicyClient

__all__ = ["AnsweringActor", "EngineActor", "Evaluation", "FirstSteps", "RemoteActor", "evaluate"]

Answer = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Evaluation:
    """The outcome of some episodes.

    Args:
        returns: ``[episodes]``, undiscounted.
        lengths: ``[episodes]``, in steps.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns (of a sample: divided by n - 1); 0 for a single episode."""
        return float(self.returns.std(ddof=1)) if len(self.returns) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean return: the percentile bootstrap (Efron 1979), resampling episodes."""
        low, high = statistics.bootstrap_interval([self.returns], statistics.mean)
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """The figures and every episode's return."""
        return {
            "episodes": len(self.returns),
            "mean": self.mean,
            "std": self.std,
            "interval95": list(self.interval),
            "min": float(self.returns.min()),
            "max": float(self.returns.max()),
            "mean_length": float(self.lengths.mean()),
            "returns": self.returns.tolist(),
        }


class AnsweringActor(Actor, Protocol):
    """An actor that keeps its whole answer."""

    answer: Answer


class EngineActor:
    """An exported policy, computed in this process.

    Args:
        spec: What it observes and does.
        engine: What computes it.
        mode: "greedy" for the most probable action, "sample" to draw one.
    """

    def __init__(self, spec: PolicySpec, engine: Engine, mode: Mode) -> None:
        self.spec = spec
        self._engine = engine
        self._output = "greedy_action" if mode == "greedy" else "action"
        self.answer: Answer = {}

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`; the whole answer is kept in ``answer``."""
        inputs = {"observation": observation, "noise": noise}
        if size := self.spec.state_size:
            inputs["state"] = np.zeros((len(noise), size), np.float32) if state is None else state
        self.answer = self._engine.act(inputs)
        action = self.answer[self._output]
        return action, action, self.answer.get("next_state")


class RemoteActor:
    """A policy behind a server. The server draws its own noise.

    Args:
        client: A connected client.
        mode: "greedy" for the most probable action, "sample" to draw one.
    """

    def __init__(self, client: PolicyClient, mode: Mode) -> None:
        self.spec = client.describe().spec
        self._client = client
        self._mode: Mode = mode
        self.answer: Answer = {}

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`; the whole answer is kept in ``answer``.

        The state is what the server sealed, as bytes: ``[B, ...]`` of uint8.
        """
        seed = int.from_bytes(noise[0].tobytes()[:4], "little")
        values, mask = self.spec.layout.unpack(observation)
        sealed = b"" if state is None else state.tobytes()
        answer = self._client.act(values, mode=self._mode, seed=seed, action_mask=mask, state=sealed)
        action = self.spec.to_graph(answer.action)
        self.answer = {"action": action, **_outputs(self.spec, answer.distribution)}
        after = np.frombuffer(answer.state, np.uint8).reshape(len(noise), -1) if answer.state else None
        return action, action, after


def _outputs(spec: PolicySpec, distribution: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """A client's distribution by the names that the act graph has."""
    found: dict[str, NDArray[Any]] = {}
    for part in spec.parts:
        own = part_of(distribution, part.path)
        found |= {output: own[name] for name, output in part.outputs.items()}
    return found


class FirstSteps:
    """An actor that passes everything on to another and keeps what it did in the first steps of the first slot.

    Args:
        actor: The one that acts.
        count: How many steps to keep.
    """

    def __init__(self, actor: AnsweringActor, count: int) -> None:
        self.spec = actor.spec
        self._actor = actor
        self._count = count
        self.steps: list[dict[str, Any]] = []

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`."""
        samples, actions, state = self._actor.act(observation, noise, state)
        if len(self.steps) < self._count:
            parameters = {name: self._actor.answer[name][0].tolist() for name in self.spec.parameter_outputs}
            action = plain(first(self.spec.from_graph(actions[:1])))
            self.steps.append({"observation": observation[0].tolist(), **parameters, "action": action})
        return samples, actions, state


def evaluate(
    actor: Actor,
    environments: Environments,
    episodes: int,
    seed: int | np.random.SeedSequence,
    watch: Watch | None = None,
    endless_steps: int = EnvironmentSettings.endless_steps,
) -> Evaluation:
    """Plays ``episodes`` episodes, the same ones for the same seed.

    Args:
        actor: What plays.
        environments: Where.
        episodes: How many.
        seed: Of environments and actions.
        watch: Is told of every step.
        endless_steps: Steps without the end of an episode after which to give up.

    Raises:
        UnsupportedSpaceError: The policy was made for another environment: its spaces differ.
        EnvironmentStepError: The environment failed.
    """
    observation_space = without_mask(observations_from_gymnasium(environments.observation_space))
    for role, wanted, given in (
        ("observation", actor.spec.observation_space, observation_space),
        ("action", actor.spec.action_space, actions_from_gymnasium(environments.action_space)),
    ):
        if found := difference(wanted, given):
            told = f"the policy's {role} space is {wanted}, but the environment's is {given}: {found}"
            raise UnsupportedSpaceError(told)
    trajectory = Collector(environments, actor, watch, endless_steps).collect(
        episodes, np.random.SeedSequence(seed) if isinstance(seed, int) else seed
    )
    return Evaluation(trajectory.episode_returns, trajectory.lengths)
