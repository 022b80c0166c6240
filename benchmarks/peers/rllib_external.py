"""RLlib's PPO on CartPole-v1, played by the external simulator of RLlib's example, until it is solved.

Settings and simulator are those of ``ray/rllib/examples/envs/env_connecting_to_rllib_w_tcp_client.py``, except that
RLlib's side is one process. The simulator runs in a separate process, computes actions with a copy of the network in
torch, and sends episodes in bulk: RLlib's server does not compute actions on request.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from criterion import Criterion, parse_arguments

_PORT = 15_555
_SIMULATOR = """
import sys
from ray.rllib.examples.envs.classes.utils.dummy_external_client import _dummy_external_client
print("ready", flush=True)
sys.stdin.readline()
_dummy_external_client(int(sys.argv[1]))
"""


def main() -> None:
    options = parse_arguments(__doc__, ["ppo"])
    criterion = Criterion(options.time_limit, options.max_steps)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

    import gymnasium
    import numpy as np
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.external.env_runner_server_for_external_inference import EnvRunnerServerForExternalInference

    criterion.imported()
    ray.init(include_dashboard=False, log_to_driver=False)
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
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", _SIMULATOR, str(_PORT)], text=True, **pipes) as simulator:
        algorithm = config.build_algo()
        assert simulator.stdout is not None
        assert simulator.stdin is not None
        simulator.stdout.readline()
        criterion.begin()
        simulator.stdin.write("begin\n")
        simulator.stdin.flush()
        while not criterion.finished:
            result = algorithm.train()["env_runners"]
            mean = result.get("episode_return_mean")  # of the last 100 episodes
            criterion.measured(
                int(result.get("num_env_steps_sampled_lifetime", 0)),
                int(result.get("num_episodes_lifetime", 0)),
                None if mean is None else float(mean),
            )
        criterion.report(options.seed, ["ray", "torch", "gymnasium", "numpy"])
        simulator.kill()
    os._exit(0)  # the thread that waits for simulators never ends


if __name__ == "__main__":
    main()
