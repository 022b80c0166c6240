"""Generates the vectors of seeded calls and sessions with a policy server."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras import PolicyClient
from pgkeras.engines import noise

__all__ = ["calls", "policy", "sessions", "structured_observations"]

POLICY = "cartpole-v1"
_ROWS = 16
# A sample this close to the boundary between two actions might select the other one on another processor.
_MARGIN = 1e-4


def policy(target: str) -> dict[str, Any]:
    """Returns the policy's description by GetPolicy."""
    with PolicyClient(target, POLICY) as client:
        info = client.describe()
    return {
        "name": info.name,
        "version": info.version,
        "spec_hash": info.spec_hash,
        "observation_shape": list(info.spec.observation_space.shape),
        "observation_dtype": info.spec.observation_space.dtype.name,
        "actions": 2,
        "distribution": info.spec.distribution.value,
    }


def calls(target: str) -> list[dict[str, Any]]:
    """Returns vectors of Act: single observations and batches, sampled with a seed and greedy."""
    generator = np.random.default_rng(0)
    found = []
    with PolicyClient(target, POLICY) as client:
        for seed, shape in [
            (0, (4,)),
            (1, (4,)),
            (42, (1, 4)),
            (2**63 + 5, (16, 4)),
            (2**64 - 1, (3, 4)),
            (None, (5, 4)),
        ]:
            observation = (generator.standard_normal(shape) * [0.5, 0.5, 0.05, 0.5]).astype(np.float32)
            answer = client.act(observation, "greedy" if seed is None else "sample", seed)
            probabilities = np.atleast_2d(answer.distribution["probabilities"])
            if seed is not None:
                _check_margin(client, seed, probabilities)
            assert answer.log_prob is not None
            assert answer.entropy is not None
            found.append(
                {
                    "name": f"{'greedy' if seed is None else f'seed_{seed}'}_{'x'.join(map(str, shape))}",
                    "mode": "greedy" if seed is None else "sample",
                    "seed": None if seed is None else str(seed),
                    "observation": _array(observation),
                    "action": answer.action.tolist(),
                    "log_prob": answer.log_prob.tolist(),
                    "entropy": answer.entropy.tolist(),
                    "probabilities": answer.distribution["probabilities"].tolist(),
                }
            )
    return found


def sessions(target: str) -> list[dict[str, Any]]:
    """Returns vectors of Play: seeded sessions of one and of three environments, with episodes that end."""
    return [_session(target, f"{environments}_environments", environments, 7) for environments in (1, 3)]


def structured_observations(target: str) -> dict[str, Any]:
    """Returns the vector of Act on a batch of structured observations, which ``scenarios.md`` describes."""
    seed = 5
    observations = {
        "camera": (np.arange(_ROWS * 48) % 251).astype(np.uint8).reshape(_ROWS, 4, 4, 3),
        "hands": ((np.arange(_ROWS * 3) % 2).astype(np.int8).reshape(_ROWS, 3), np.arange(_ROWS) % 4),
        "position": ((np.arange(_ROWS * 4) % 9 - 4) / 4).astype(np.float32).reshape(_ROWS, 4),
    }
    with PolicyClient(target, "parts") as client:
        answer = client.act(observations, seed=seed)
        probabilities = answer.distribution["probabilities"]
        _check_margin(client, seed, probabilities)
    return {"seed": str(seed), "action": answer.action.tolist(), "probabilities": probabilities.tolist()}


def _session(target: str, name: str, environments: int, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(environments)
    steps: list[dict[str, Any]] = []
    with PolicyClient(target, POLICY) as client, client.play(seed=seed, outputs=("distribution",)) as session:
        stream = noise.seeded(seed)
        for i in range(12):
            observation = (generator.standard_normal((environments, 4)) * [0.5, 0.5, 0.05, 0.5]).astype(np.float32)
            step: dict[str, Any] = {"observation": _array(observation)}
            outcome: dict[str, NDArray[Any]] = {}
            if i:
                outcome = {
                    "reward": generator.integers(0, 3, environments).astype(np.float32),
                    "terminated": generator.random(environments) < 0.2,
                    "truncated": generator.random(environments) < 0.1,
                }
            action = session.step(observation, **outcome)
            assert session.answer is not None
            drawn = noise.draw(stream, client.describe().spec, environments)
            _check(drawn, session.answer.distribution["probabilities"])
            steps.append(step | {key: array.tolist() for key, array in outcome.items()} | {"action": action.tolist()})
    return {"name": name, "seed": str(seed), "environments": environments, "steps": steps}


def _check_margin(client: PolicyClient, seed: int, probabilities: NDArray[np.float32]) -> None:
    _check(noise.draw(noise.seeded(seed), client.describe().spec, len(probabilities)), probabilities)


def _check(drawn: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
    if (np.abs(drawn - np.cumsum(probabilities, axis=1)[:, :-1]) < _MARGIN).any():
        raise RuntimeError("a sample is too close to the boundary between two actions; choose other observations")


def _array(array: NDArray[np.float32]) -> dict[str, Any]:
    data = base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")
    return {"shape": list(array.shape), "data": data, "values": array.ravel().tolist()}
