"""Stable-Baselines3 on CartPole-v1 with RL Baselines3 Zoo's tuned settings, until it is solved."""

from __future__ import annotations

from typing import Any

from criterion import Criterion, parse_arguments

# RL Baselines3 Zoo (DLR-RM/rl-baselines3-zoo at 22e3ff2, 2026-04-23), CartPole-v1 in hyperparams/a2c.yml and ppo.yml.
# All other settings are Stable-Baselines3's defaults, as in the Zoo. "lin_X" in the Zoo is X times the remaining share
# of n_timesteps, so a run ends after n_timesteps even if it is not solved.
ENVIRONMENTS = 8
SETTINGS: dict[str, dict[str, Any]] = {
    "a2c": {"ent_coef": 0.0},
    "ppo": {
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.0,
        "learning_rate": lambda remaining: remaining * 0.001,
        "clip_range": lambda remaining: remaining * 0.2,
    },
}
TIMESTEPS = {"a2c": 500_000, "ppo": 100_000}


def main() -> None:
    options = parse_arguments(__doc__, list(SETTINGS))
    criterion = Criterion(options.time_limit, options.max_steps)

    from stable_baselines3 import A2C, PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    criterion.imported()

    class Stop(BaseCallback):
        """Ends training at the criterion."""

        def _on_step(self) -> bool:
            criterion.steps = self.num_timesteps
            for info in self.locals["infos"]:
                if "episode" in info:
                    criterion.finish_episode(info["episode"]["r"])
            return not criterion.finished

    env = make_vec_env("CartPole-v1", n_envs=ENVIRONMENTS, seed=options.seed)
    algorithm = {"a2c": A2C, "ppo": PPO}[options.algorithm]
    model = algorithm("MlpPolicy", env, seed=options.seed, device="cpu", **SETTINGS[options.algorithm])
    criterion.begin()
    model.learn(TIMESTEPS[options.algorithm], callback=Stop())
    criterion.report(options.seed, ["stable_baselines3", "torch", "gymnasium", "numpy"])


if __name__ == "__main__":
    main()
