"""Actors: exported policies that act in this process or on a server. Does not need TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines import Engine
from pgkeras.engines.state import or_zeros
from pgkeras.environments.collect import Actor, Choice
from pgkeras.protocol.values import first, plain
from pgkeras.spaces.layout import part_of
from pgkeras.spaces.spec import PolicySpec

if TYPE_CHECKING:  # evaluations during training must not import gRPC
    from pgkeras.client.client import Mode, PolicyClient

__all__ = ["AnsweringActor", "EngineActor", "FirstSteps", "RemoteActor"]

Answer = dict[str, NDArray[Any]]


class AnsweringActor(Actor, Protocol):
    """An actor that stores its last outputs in ``answer``."""

    answer: Answer


class EngineActor:
    """An exported policy, computed in this process.

    Args:
        spec: The policy's specification.
        engine: The engine that computes it.
        mode: "greedy" for the most probable action, "sample" to sample one.
    """

    def __init__(self, spec: PolicySpec, engine: Engine, mode: Mode) -> None:
        self.spec = spec
        self._engine = engine
        self._output = "greedy_action" if mode == "greedy" else "action"
        self.answer: Answer = {}

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`. All outputs are stored in ``answer``."""
        inputs = {"observation": observation, "noise": noise}
        if size := self.spec.state_size:
            inputs["state"] = or_zeros(state, len(noise), size)
        self.answer = self._engine.act(inputs)
        action = self.answer[self._output]
        return action, action, self.answer.get("next_state")


class RemoteActor:
    """A policy on a server, which draws its own noise.

    Args:
        client: A connected client.
        mode: "greedy" for the most probable action, "sample" to sample one.
    """

    def __init__(self, client: PolicyClient, mode: Mode) -> None:
        self.spec = client.describe().spec
        self._client = client
        self._mode: Mode = mode
        self.answer: Answer = {}

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`. All outputs are stored in ``answer``.

        The state is the server's sealed state: uint8 ``[B, ...]``.
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
    """Converts a client's distribution to the names of the act graph."""
    found: dict[str, NDArray[Any]] = {}
    for part in spec.parts:
        own = part_of(distribution, part.path)
        found |= {output: own[name] for name, output in part.outputs.items()}
    return found


class FirstSteps:
    """Wraps an actor and records the first steps of the first slot.

    Args:
        actor: The wrapped actor.
        count: Number of steps to record.
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
