"""The rows of docs/results.md: environments, and results of others, with the names in ``SOURCES``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.budget import NEVER
from pgkeras.settings.config import DEFAULT, Config, preset_for, resolve

__all__ = ["DEFAULTS", "LONGER", "ROWS", "SOURCES", "Row"]


@dataclass(frozen=True)
class Row:
    """An environment with a preset, and the results of others for comparison.

    Args:
        env_id: The environment.
        beside: The last column.
        preset: The preset. By default the environment's.
        settings: Settings that override those of the preset.
    """

    env_id: str
    beside: str
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The unique key of the row's saved runs."""
        return ", ".join(part for part in (self.env_id, self.preset, self.changes) if part)

    @property
    def changes(self) -> str:
        """The settings in the form of ``--set``."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items())

    def config(self, seed: int) -> Config:
        """Returns the settings of a run."""
        given = {"seed": seed, "stop_return": NEVER, **self.settings}
        return resolve(self.env_id, self.preset or preset_for(self.env_id), given)


SOURCES = {
    "Tianshou": "Tianshou, `examples/mujoco/README.md`: the best over training, mean and one standard deviation of 10 "
    "seeds, on v2 and v3 of the environments",
    "VPG": "OpenAI Spinning Up's VPG, a value network and GAE, at 3M steps, as Tianshou reads it off the plots",
    "SLM-Lab": "SLM-Lab 5, `docs/BENCHMARKS.md`",
    "MinAtar": "Young & Tian 2019, arXiv 1903.03176: actor-critic with eligibility traces (AC, decay 0.8), 30 runs, "
    "read off the learning curves that the games' repository shows; with all six actions, some of them idle",
    "Zoo": "RL Baselines3 Zoo, `benchmark.md`: one run each, on v2 of LunarLander",
}

_OURS = "benchmarks.environments:"
_MINATAR = f"{_OURS}MinAtar/"

ROWS = [
    Row("CartPole-v1", "REINFORCE 483.3 at 200k (SLM-Lab)"),
    Row("Acrobot-v1", "A2C -84.0 at 300k (SLM-Lab), -83.4 at 500k (Zoo)"),
    Row("MountainCarContinuous-v0", "A2C with state-dependent exploration 91.2 at 100k (Zoo)"),
    Row("Pendulum-v1", "A2C -821, PPO -175 (SLM-Lab); A2C -163 at 1M (Zoo)"),
    Row("LunarLander-v3", "A2C 27, PPO 183 at 300k (SLM-Lab); A2C 155.8 at 200k, PPO 242 at 1M (Zoo)"),
    Row("InvertedPendulum-v5", "REINFORCE 999.2 ± 2.4 at 3M, 1000 at 10M (Tianshou)"),
    Row("InvertedDoublePendulum-v5", "REINFORCE 1060 ± 308 at 3M, 7726 at 10M (Tianshou)"),
    Row("Reacher-v5", "REINFORCE -10.5 ± 0.7 at 3M, -5.5 at 10M (Tianshou)"),
    Row("Swimmer-v5", "REINFORCE 35.3 ± 1.4 at 3M, 35.6 at 10M (Tianshou); ~51 (VPG)"),
    Row("Hopper-v5", "REINFORCE 395.8 ± 64.5 at 3M, 416.0 at 10M, A2C 1253.2 at 1M (Tianshou); ~800 (VPG)"),
    Row("Walker2d-v5", "REINFORCE 412.0 ± 52.4 at 3M, 440.9 at 10M, A2C 1091.6 at 1M (Tianshou); ~460 (VPG)"),
    Row("HalfCheetah-v5", "REINFORCE 884.0 ± 41.0 at 3M, 1138.8 at 10M, A2C 1829.9 at 1M (Tianshou); ~600 (VPG)"),
    Row("Ant-v5", "REINFORCE 474.9 ± 133.5 at 3M, 1108.1 at 10M (Tianshou); ~5 (VPG)"),
    Row("Humanoid-v5", "REINFORCE 438.2 ± 47.8 at 3M, 464.3 at 10M (Tianshou)"),
    Row(f"{_OURS}TMaze-v0", "memory: at most 0.5 without it, at most 1 with it"),
    Row(f"{_OURS}LongTMaze-v0", "the same over 50 steps"),
    Row(f"{_OURS}MemoryS7-v0", "memory and a partial view: at most 0.98"),
    Row(f"{_OURS}KnightsTour-v0", "action masks: 19 at random, at most 35; an illegal action is an error"),
    Row(f"{_MINATAR}Breakout-v1", "images: 0.4 at random; AC ~7 at 0.5M, ~17 at 5M (MinAtar)"),
    Row(f"{_MINATAR}SpaceInvaders-v1", "images: 4.0 at random; AC ~50 at 1M, ~185 at 5M (MinAtar)"),
    Row(f"{_MINATAR}Asterix-v1", "images: 0.5 at random; AC ~1 at 1M, ~19 at 5M (MinAtar)"),
    Row(f"{_MINATAR}Freeway-v1", "images: 0.3 at random; AC ~0 at 1M, ~47 at 5M (MinAtar)"),
    Row(f"{_MINATAR}Seaquest-v1", "images: 0.1 at random; AC ~1 at 1M, ~15 at 5M (MinAtar)"),
    Row(
        "ale_py:ALE/Pong-v5",
        "images: -20.1 at random; A2C 17.3, PPO 21.0 at 10M, of PongNoFrameskip-v4, which repeats no actions by chance "
        "(Zoo)",
    ),
    Row(f"{_OURS}Fetch-v0", "text: at most 0.54 without reading, at most 1 with it"),
    Row(f"{_OURS}GoToLocal-v0", "text and a partial view: 0.26 at random, at most 1"),
    Row(f"{_OURS}FetchBlank-v0", "the same without the text: at most 0.54"),
]

# The same presets, for more steps.
LONGER = [
    Row(
        "LunarLander-v3",
        "PPO 242 at 1M (Zoo)",
        settings={
            "steps": 4_500_000,
            "batch_steps": 16_000,
            "learning_rate_schedule": "linear",
            "evaluation_every": 0,
        },
    ),
    Row("Ant-v5", "REINFORCE 1108.1 (Tianshou)", settings={"steps": 10_000_000}),
    Row("Humanoid-v5", "REINFORCE 464.3 (Tianshou)", settings={"steps": 10_000_000}),
    Row(f"{_MINATAR}Breakout-v1", "AC ~17 (MinAtar)", settings={"steps": 5_000_000, "entropy_bonus": 0.05}),
    Row(f"{_MINATAR}SpaceInvaders-v1", "AC ~185 (MinAtar)", settings={"steps": 5_000_000, "entropy_bonus": 0.02}),
]

# Only the defaults. The last column has the return of random actions.
DEFAULTS = [
    Row("CartPole-v1", "22.2", DEFAULT),
    Row("Acrobot-v1", "-499.1", DEFAULT),
    Row("LunarLander-v3", "-181.7", DEFAULT),
    Row("InvertedPendulum-v5", "5.1", DEFAULT),
    Row(f"{_OURS}KnightsTour-v0", "19.3", DEFAULT),
]
