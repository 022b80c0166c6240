"""ML-Agents' PPO on CartPole-v1 through its low-level API, without Unity, until it is solved.

The environment is an ``mlagents_envs.base_env.BaseEnv`` in the trainer's process, so the cost of Unity's communicator
is not included. Settings are ML-Agents' defaults for PPO, except that the time horizon is the episode limit. Newer
releases require Python 3.10.1 to 3.10.12, and this one torch 1.8 on Python 3.8, so it needs a separate virtual
environment, which is created manually:

    python3.8 -m venv DIR
    DIR/bin/pip install mlagents==0.28.0 "protobuf<3.21" "numpy<1.24" "gymnasium<1" six
    cd benchmarks/peers && OMP_NUM_THREADS=1 DIR/bin/python mlagents_cartpole.py --seed 0 --time-limit 300
"""

from __future__ import annotations

import tempfile
import threading
from typing import Any

from criterion import Criterion, parse_arguments

AGENTS = 24
_BEHAVIOR = "CartPole?team=0"


def main() -> None:
    options = parse_arguments(__doc__, ["ppo"])
    criterion = Criterion(options.time_limit, options.max_steps)

    import gymnasium
    import numpy as np
    from mlagents.trainers.environment_parameter_manager import EnvironmentParameterManager
    from mlagents.trainers.settings import NetworkSettings, TrainerSettings
    from mlagents.trainers.simple_env_manager import SimpleEnvManager
    from mlagents.trainers.trainer import TrainerFactory
    from mlagents.trainers.trainer_controller import TrainerController
    from mlagents_envs.base_env import (
        ActionSpec,
        BaseEnv,
        BehaviorSpec,
        DecisionSteps,
        DimensionProperty,
        ObservationSpec,
        ObservationType,
        TerminalSteps,
    )
    from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel

    criterion.imported()

    class CartPoles(BaseEnv):
        """Copies of CartPole-v1. Each is an agent, with a new id in every episode."""

        def __init__(self) -> None:
            seen = ObservationSpec((4,), (DimensionProperty.NONE,), ObservationType.DEFAULT, "state")
            self._specs = {_BEHAVIOR: BehaviorSpec([seen], ActionSpec.create_discrete((2,)))}
            self._copies = [gymnasium.make("CartPole-v1") for _ in range(AGENTS)]
            self._ids = np.arange(AGENTS)
            self._actions = np.zeros(AGENTS, np.int64)
            self._returns = np.zeros(AGENTS)
            self._begin()

        @property
        def behavior_specs(self) -> Any:
            return self._specs

        def reset(self) -> None:
            self._ids = self._ids + AGENTS
            self._begin()

        def _begin(self) -> None:
            self._seen = np.array([c.reset(seed=options.seed + i)[0] for i, c in enumerate(self._copies)], np.float32)
            self._returns[:] = 0
            self._rewards = np.zeros(AGENTS, np.float32)
            self._ended = self._no_terminal()

        def step(self) -> None:
            ended = []
            for i, copy in enumerate(self._copies):
                seen, reward, terminated, truncated, _ = copy.step(int(self._actions[i]))
                self._returns[i] += reward
                criterion.steps += 1
                self._rewards[i], self._seen[i] = reward, seen
                if terminated or truncated:
                    ended.append((seen, reward, truncated, self._ids[i]))
                    criterion.finish_episode(float(self._returns[i]))
                    self._returns[i], self._rewards[i] = 0.0, 0.0
                    self._seen[i] = copy.reset()[0]
                    self._ids[i] += AGENTS
            self._ended = self._terminal(ended) if ended else self._no_terminal()
            if criterion.finished:
                over.set()

        def get_steps(self, behavior_name: str) -> Any:
            seen, rewards, ids = self._seen.copy(), self._rewards.copy(), self._ids.copy()
            groups, of_groups = np.zeros(AGENTS, np.int32), np.zeros(AGENTS, np.float32)
            return DecisionSteps([seen], rewards, ids, None, groups, of_groups), self._ended

        def set_actions(self, behavior_name: str, action: Any) -> None:
            self._actions = action.discrete[:, 0]

        def set_action_for_agent(self, behavior_name: str, agent_id: Any, action: Any) -> None:
            raise NotImplementedError

        def close(self) -> None:
            pass

        def _no_terminal(self) -> Any:
            return TerminalSteps.empty(self._specs[_BEHAVIOR])

        def _terminal(self, ended: Any) -> Any:
            seen = np.array([last for last, _, _, _ in ended], np.float32)
            rewards = np.array([reward for _, reward, _, _ in ended], np.float32)
            truncated = np.array([cut for _, _, cut, _ in ended])
            ids = np.array([agent for _, _, _, agent in ended])
            groups, of_groups = np.zeros(len(ended), np.int32), np.zeros(len(ended), np.float32)
            return TerminalSteps([seen], rewards, truncated, ids, groups, of_groups)

    over = threading.Event()

    class Controller(TrainerController):
        """Stops at the criterion."""

        def _not_done_training(self) -> bool:
            return not over.is_set()

    settings = TrainerSettings(network_settings=NetworkSettings(), max_steps=options.max_steps, time_horizon=500)
    with tempfile.TemporaryDirectory() as directory:
        parameters = EnvironmentParameterManager()
        factory = TrainerFactory(
            trainer_config={"CartPole": settings},
            output_path=directory,
            train_model=True,
            load_model=False,
            seed=options.seed,
            param_manager=parameters,
            multi_gpu=False,
        )
        controller = Controller(factory, directory, "cartpole", parameters, True, options.seed)
        manager = SimpleEnvManager(CartPoles(), EnvironmentParametersChannel())
        criterion.begin()
        try:
            controller.start_learning(manager)
        finally:
            criterion.report(options.seed, ["mlagents", "torch", "numpy"])


if __name__ == "__main__":
    main()
