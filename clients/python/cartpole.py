"""Simulates CartPole-v1 and requests its actions from a policy server, through a session.

    python cartpole.py --target 127.0.0.1:50051                                     plays 20 episodes, greedily
    python cartpole.py --target 127.0.0.1:50051 --environments 256 --steps 1000     measures throughput
    python cartpole.py --target 127.0.0.1:50051 --teach 24 --patience 10            trains a policy (pgkeras train
                                                                                    --listen), until no run has
                                                                                    responded for 10 seconds

Equations and constants are from gymnasium's ``envs/classic_control/cartpole.py``, after Barto, Sutton & Anderson,
"Neuronlike adaptive elements that can solve difficult learning control problems" (1983).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras import PolicyClient
from pgkeras.errors import ServerUnavailableError
from pgkeras.spaces import Box, Discrete

GRAVITY = 9.8
MASS_CART = 1.0
MASS_POLE = 0.1
TOTAL_MASS = MASS_CART + MASS_POLE
LENGTH = 0.5  # half the length of the pole
FORCE = 10.0
TAU = 0.02  # seconds per step
MAX_X = 2.4
MAX_ANGLE = 12 * 2 * math.pi / 360
MAX_STEPS = 500


class CartPole:
    """A batch of carts. A cart whose episode has ended is reset immediately.

    Args:
        environments: Number of carts, B.
        seed: Seed of the start states.
    """

    def __init__(self, environments: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.state = self._start(environments)
        self.age = np.zeros(environments, np.int64)

    def observation(self) -> NDArray[np.float32]:
        """Returns position, speed, angle and angular speed, ``[B, 4]``."""
        return self.state.astype(np.float32)

    def step(
        self, action: NDArray[Any], hold: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Pushes to the right where the action is 1, else to the left. Returns terminated and truncated, ``[B]``.

        A cart that is held repeats the first observation of its episode.
        """
        _, speed, angle, angular_speed = self.state.T
        sine, cosine = np.sin(angle), np.cos(angle)
        push = (np.where(action == 1, FORCE, -FORCE) + MASS_POLE * LENGTH * angular_speed**2 * sine) / TOTAL_MASS
        angular_acceleration = (GRAVITY * sine - cosine * push) / (
            LENGTH * (4 / 3 - MASS_POLE * cosine**2 / TOTAL_MASS)
        )
        acceleration = push - MASS_POLE * LENGTH * angular_acceleration * cosine / TOTAL_MASS
        moves = 1 if hold is None else ~hold
        self.state += TAU * (np.stack([speed, acceleration, angular_speed, angular_acceleration]) * moves).T
        self.age += moves
        terminated = (np.abs(self.state[:, 0]) > MAX_X) | (np.abs(self.state[:, 2]) > MAX_ANGLE)
        truncated = ~terminated & (self.age >= MAX_STEPS)
        over = terminated | truncated
        self.state[over] = self._start(int(over.sum()))
        self.age[over] = 0
        return terminated, truncated

    def _start(self, environments: int) -> NDArray[np.float64]:
        return self._random.uniform(-0.05, 0.05, (environments, 4))


def play(client: PolicyClient, episodes: int) -> dict[str, float]:
    """Plays whole episodes in sequence."""
    cartpole = CartPole(1, seed=0)
    returns = [0.0]
    with client.play("greedy") as session:
        action = session.step(cartpole.observation())
        while True:
            terminated, truncated = cartpole.step(action)
            returns[-1] += 1.0
            over = terminated | truncated
            if over[0]:
                if len(returns) == episodes:
                    break
                returns.append(0.0)
            # If the episode has ended, the observation is the first of the next one, which episode_start reports.
            action = session.step(cartpole.observation(), np.ones(1), terminated, truncated, episode_start=over)
    return {"episodes": episodes, "mean_return": float(np.mean(returns)), "steps": sum(returns)}


def measure(client: PolicyClient, environments: int, steps: int) -> dict[str, float]:
    """Measures the throughput with many environments in every message."""
    cartpole = CartPole(environments, seed=0)
    reward = np.ones(environments)
    with client.play("greedy") as session:
        action = session.step(cartpole.observation())
        begin = time.perf_counter()
        for _ in range(steps):
            terminated, truncated = cartpole.step(action)
            over = terminated | truncated
            action = session.step(cartpole.observation(), reward, terminated, truncated, episode_start=over)
        seconds = time.perf_counter() - begin
    rate = environments * steps / seconds
    return {"environments": environments, "steps": steps, "environment_steps_per_second": rate}


def teach(client: PolicyClient, environments: int, patience: float) -> dict[str, float]:
    """Plays until no run has responded for the duration of patience. A run that stops may be started again."""
    bounds = np.array([2 * MAX_X, math.inf, 2 * MAX_ANGLE, math.inf])
    declared: dict[str, Any] = {
        "observation_space": Box(-bounds, bounds, np.dtype(np.float32)),
        "action_space": Discrete(2),
        "environments": environments,
        "name": "CartPole in Python",
    }
    reward, messages, last_response = np.ones(environments), 0, time.monotonic()
    while True:
        cartpole = CartPole(environments, seed=messages)
        session = client.play(**declared)
        try:
            with session:
                action = session.step(cartpole.observation())
                while True:
                    messages += 1
                    terminated, truncated = cartpole.step(action, session.hold)
                    starts = terminated | truncated if session.hold is None else terminated | truncated | session.hold
                    action = session.step(cartpole.observation(), reward, terminated, truncated, episode_start=starts)
        except ServerUnavailableError:
            last_response = session.heard or last_response  # also while the policy is being updated
            if time.monotonic() - last_response >= patience:
                if not messages:
                    raise
                return {"environments": environments, "messages": messages}
            time.sleep(0.5)


def main() -> None:
    """Plays, and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--environments", type=int)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--teach", type=int)
    parser.add_argument("--patience", type=float, default=10.0)
    parser.add_argument("--policy", default="cartpole-v1")
    options = parser.parse_args()
    with PolicyClient(options.target, None if options.teach else options.policy) as client:
        if options.teach:
            report = teach(client, options.teach, options.patience)
        elif options.environments:
            report = measure(client, options.environments, options.steps)
        else:
            report = play(client, options.episodes)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
