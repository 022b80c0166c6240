"""Phase two, REINFORCE itself: from whole episodes to one gradient step.

Start with ``reinforce.py``. The files in the algorithm's order: ``returns.py`` (discounted returns), ``baselines.py``
and ``value.py`` (baselines), ``estimator.py`` (advantages), ``reinforce.py`` (the loss and its gradient),
``train_step.py`` (the compiled gradient step), and ``learner.py``, which calls them in turn.

Options: ``natural.py`` (natural gradients), ``reuse.py`` (several steps per batch), ``schedules.py``,
``learning_rate.py`` and ``settling.py`` (step sizes), ``observation_statistics.py`` (normalization).

Infrastructure, which does not change the result: ``frozen_policy.py`` (acting), ``batch.py`` (tensors),
``accumulation.py`` (large batches), ``replicas.py`` and ``tf_config.py`` (several devices), ``adam.py`` (a faster
Adam), ``kl.py`` (KL divergence) and ``diagnosis.py`` (error reports).

This package needs TensorFlow. It plays no episodes and writes no files.
"""

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.reinforce.frozen_policy import FrozenPolicy
    from pgkeras.reinforce.learner import Learner, UpdateMetrics
    from pgkeras.reinforce.reinforce import reinforce_loss
    from pgkeras.reinforce.returns import discounted_returns
    from pgkeras.reinforce.train_step import StepMetrics, TrainStep

__all__ = [
    "FrozenPolicy",
    "Learner",
    "StepMetrics",
    "TrainStep",
    "UpdateMetrics",
    "discounted_returns",
    "reinforce_loss",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "FrozenPolicy": "pgkeras.reinforce.frozen_policy",
        "discounted_returns": "pgkeras.reinforce.returns",
        "StepMetrics": "pgkeras.reinforce.train_step",
        "TrainStep": "pgkeras.reinforce.train_step",
        "reinforce_loss": "pgkeras.reinforce.reinforce",
        "Learner": "pgkeras.reinforce.learner",
        "UpdateMetrics": "pgkeras.reinforce.learner",
    },
)
