"""Tianshou's REINFORCE on CartPole-v1 with the settings of Tianshou's example, until it is solved."""

from __future__ import annotations

from typing import Any

from criterion import Criterion, parse_arguments

# thu-ml/tianshou at v2.0.1, test/discrete/test_reinforce.py: Tianshou's CartPole-v1 script for REINFORCE
# (examples/discrete has none). Its test episodes are omitted, because the criterion uses training episodes.
ENVIRONMENTS = 8
BUFFER_SIZE = 20_000
HIDDEN_SIZES = (64, 64)
LEARNING_RATE = 1e-3
GAMMA = 0.95
RETURN_STANDARDIZATION = True
EPISODES_PER_COLLECTION = 8
REPETITIONS = 2
BATCH_SIZE = 64


def main() -> None:
    options = parse_arguments(__doc__, ["reinforce"])
    criterion = Criterion(options.time_limit, options.max_steps)

    import gymnasium
    import numpy as np
    import torch
    from tianshou.algorithm import Reinforce
    from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Collector, CollectStats, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OnPolicyTrainerParams
    from tianshou.utils.net.common import Net
    from tianshou.utils.space_info import SpaceInfo

    criterion.imported()

    class CountingCollector(Collector):
        """Reports every training episode to the criterion, because the trainer does not expose their returns."""

        def collect(self, *args: Any, **kwargs: Any) -> CollectStats:
            stats = super().collect(*args, **kwargs)
            criterion.steps += stats.n_collected_steps
            for episode_return in stats.returns:
                criterion.finish_episode(float(episode_return))
            return stats

    env = gymnasium.make("CartPole-v1")
    spaces = SpaceInfo.from_env(env)
    environments = DummyVectorEnv([lambda: gymnasium.make("CartPole-v1") for _ in range(ENVIRONMENTS)])
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    environments.seed(options.seed)
    network = Net(
        state_shape=spaces.observation_info.obs_shape,
        action_shape=spaces.action_info.action_shape,
        hidden_sizes=HIDDEN_SIZES,
        softmax=True,
    )
    policy = ProbabilisticActorPolicy(
        actor=network,
        dist_fn=torch.distributions.Categorical,
        action_space=env.action_space,
        action_scaling=False,
    )
    algorithm = Reinforce(
        policy=policy,
        optim=AdamOptimizerFactory(lr=LEARNING_RATE),
        gamma=GAMMA,
        return_standardization=RETURN_STANDARDIZATION,
    )
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.orthogonal_(module.weight, gain=np.sqrt(2))
            torch.nn.init.zeros_(module.bias)
    trainer = algorithm.create_trainer(
        OnPolicyTrainerParams(
            training_collector=CountingCollector(
                algorithm, environments, VectorReplayBuffer(BUFFER_SIZE, ENVIRONMENTS)
            ),
            # An epoch ends when it has this many steps, so after one collection and its updates. Epochs only affect
            # tests and logs. The criterion is checked between them.
            epoch_num_steps=1,
            collection_step_num_env_steps=None,
            collection_step_num_episodes=EPISODES_PER_COLLECTION,
            update_step_num_repetitions=REPETITIONS,
            batch_size=BATCH_SIZE,
            verbose=False,
            show_progress=False,
        )
    )
    criterion.begin()
    trainer.reset()
    while not criterion.finished:
        trainer.execute_epoch()
    criterion.report(options.seed, ["tianshou", "torch", "gymnasium", "numpy"])


if __name__ == "__main__":
    main()
