"""Steps per second of Stable-Baselines3's A2C with a CNN, and of sb3-contrib's recurrent PPO with an LSTM.

Both have the networks of pgkeras in the same case (``benchmarks/training.py``), and otherwise their defaults. The first
step is not timed, which excludes setup.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from typing import Any

import gymnasium
import torch
from minatar.gym import register_envs
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class SmallCnn(BaseFeaturesExtractor):
    """16 filters of 3 by 3 and 128 units (Young & Tian 2019)."""

    def __init__(self, space: gymnasium.spaces.Box) -> None:
        super().__init__(space, 128)
        height, width, channels = space.shape
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 16, 3),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(16 * (height - 2) * (width - 2), 128),
            torch.nn.ReLU(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the features of images, whose channels are last."""
        return self.layers(images.permute(0, 3, 1, 2))


class Numbers(gymnasium.ObservationWrapper):
    """Converts MinAtar's bits to float32, which Stable-Baselines3 expects."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, env.observation_space.shape)

    def observation(self, observation: Any) -> Any:
        """Returns one observation as float32."""
        return observation.astype("float32")


class Clock(BaseCallback):
    """Starts the time at the end of the first step."""

    began: float | None = None
    first = 0

    def _on_step(self) -> bool:
        if self.began is None:
            self.began, self.first = time.perf_counter(), self.num_timesteps
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["cnn", "lstm"])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    common = {"seed": options.seed, "device": "cpu"}
    if options.case == "cnn":
        register_envs()
        env = make_vec_env("MinAtar/Breakout-v1", options.envs, options.seed, wrapper_class=Numbers)
        kwargs = {"features_extractor_class": SmallCnn, "net_arch": [], "normalize_images": False}
        model: Any = A2C("CnnPolicy", env, policy_kwargs=kwargs, **common)
    else:
        env = make_vec_env("CartPole-v1", options.envs, options.seed)
        kwargs = {"lstm_hidden_size": 64, "net_arch": [64]}
        model = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=kwargs, **common)
    clock = Clock()
    model.learn(options.steps, callback=clock)
    assert clock.began is not None
    seconds = time.perf_counter() - clock.began
    packages = ("stable_baselines3", "sb3_contrib", "torch")
    result = {
        "steps_per_second": (model.num_timesteps - clock.first) / seconds,
        "versions": {package: version(package) for package in packages},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
