"""Phase two, REINFORCE itself: from whole episodes to one gradient step.

In the algorithm's order: ``returns.py`` (discounted returns), ``baselines.py``, ``estimator.py`` (advantages),
``reinforce.py`` (the loss and the gradient step), ``value.py`` (the learned baseline), and ``learner.py``, which
calls them in turn; start with ``reinforce.py``. Needs TensorFlow. Nothing here plays episodes or writes files.
"""

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.reinforce.frozen_policy import FrozenPolicy
    from pgkeras.reinforce.learner import Learner, Lesson
    from pgkeras.reinforce.reinforce import StepMetrics, TrainStep, reinforce_loss
    from pgkeras.reinforce.returns import discounted_returns

__all__ = ["FrozenPolicy", "Learner", "Lesson", "StepMetrics", "TrainStep", "discounted_returns", "reinforce_loss"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "FrozenPolicy": "pgkeras.reinforce.frozen_policy",
        "discounted_returns": "pgkeras.reinforce.returns",
        "StepMetrics": "pgkeras.reinforce.reinforce",
        "TrainStep": "pgkeras.reinforce.reinforce",
        "reinforce_loss": "pgkeras.reinforce.reinforce",
        "Learner": "pgkeras.reinforce.learner",
        "Lesson": "pgkeras.reinforce.learner",
    },
)
