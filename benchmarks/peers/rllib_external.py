"""RLlib's PPO on CartPole-v1 played by an external simulator, as RLlib's own example of that has it.

The settings are those of ``ray/rllib/examples/envs/env_connecting_to_rllib_w_tcp_client.py``, and the simulator is the one
that comes with it, in a process of its own: it computes actions itself, by a copy of the network in torch, and sends
RLlib's episodes in bulk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

_SOLVED = 475.0
_PORT = 15_555
_CLIENT = """
import sys
from ray.rllib.examples.envs.classes.utils.dummy_external_client import _dummy_external_client
print("ready", flush=True)
sys.stdin.readline()
_dummy_external_client(int(sys.argv[1]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--algorithm", choices=["ppo"], required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--time-limit", type=float, required=True)
    parser.add_argument("--max-steps", type=int, required=True)
    options = parser.parse_args()

    began = time.perf_counter()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import gymnasium
    import numpy as np
    import ray
    import torch
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.external.env_runner_server_for_external_inference import EnvRunnerServerForExternalInference

    imported = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    config = (
        PPOConfig()
        .environment(
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32),
            action_space=gymnasium.spaces.Discrete(2),
            env_config={"port": _PORT},
        )
        .env_runners(env_runner_cls=EnvRunnerServerForExternalInference, num_env_runners=0)
        .training(num_epochs=10, vf_loss_coeff=0.01)
        .rl_module(model_config=DefaultModelConfig(vf_share_layers=True))
        .debugging(seed=options.seed)
    )
    command = [sys.executable, "-c", _CLIENT, str(_PORT)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as client:
        algorithm = config.build_algo()
        assert client.stdout is not None
        assert client.stdin is not None
        client.stdout.readline()
        start = time.perf_counter()
        client.stdin.write("go\n")
        client.stdin.flush()
        mean, steps, episodes = None, 0, 0
        while time.perf_counter() - start < options.time_limit and steps < options.max_steps:
            result = algorithm.train()["env_runners"]
            mean = result.get("episode_return_mean")
            steps = int(result.get("num_env_steps_sampled_lifetime", 0))
            episodes = int(result.get("num_episodes_lifetime", 0))
            if mean is not None and mean >= _SOLVED:
                break
        seconds = time.perf_counter() - start
        client.kill()
    print(
        json.dumps(
            {
                "seed": options.seed,
                "solved": bool(mean is not None and mean >= _SOLVED),
                "seconds": seconds,
                "steps": steps,
                "episodes": episodes,
                "mean_return_100": None if mean is None else float(mean),
                "import_seconds": imported - began,
                "setup_seconds": start - imported,
                "versions": {"ray": ray.__version__, "torch": torch.__version__},
            }
        ),
        flush=True,
    )
    os._exit(0)  # the environment runner's thread waits for simulators for ever


if __name__ == "__main__":
    main()
