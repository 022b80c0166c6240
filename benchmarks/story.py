"""Creates the figures of docs/policy-gradients.md: the algorithm on CartPole-v1, in under a minute.

``python -m benchmarks.story`` trains with the defaults and fixed seeds, and plots the run to
``docs/images/story-*.png``. It prints the numbers that the page quotes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pgkeras import environments
from pgkeras.backend import tf
from pgkeras.environments.collect import Collector
from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce.baselines import NO_BASELINE, from_batch
from pgkeras.reinforce.batch import micro_batches
from pgkeras.reinforce.estimator import advantages
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.reinforce.reinforce import policy_gradient, reinforce_loss
from pgkeras.reinforce.returns import discounted_returns
from pgkeras.runs.plotting import save_figure
from pgkeras.runs.training import Training
from pgkeras.settings.config import resolve

IMAGES = Path(__file__).parent.parent / "docs" / "images"
_SETTINGS = {"envs": 16, "episodes": 16, "vectorization": "plain", "seed": 1, "stop_return": 475.0, "steps": 400_000}
# The pole leans and falls to the right: the right action is to push right.
_STATE = np.array([[0.0, 0.3, 0.08, 0.6]], np.float32)
_GRADIENTS = 200
_BLUE, _ORANGE = "#2563a8", "#c05621"


class Story:
    """Records a run.

    Args:
        training: The run.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.steps: list[int] = []
        self.right: list[float] = []
        self.entropy: list[float] = []
        self.returns: list[float] = []

    def tell(self) -> None:
        """Trains to the end."""
        self._note(0, float("nan"), float("nan"))
        for metrics in self.training:
            self._note(metrics.env_steps, metrics.entropy, metrics.return_mean)

    def _note(self, steps: int, entropy: float, mean_return: float) -> None:
        self.steps.append(steps)
        self.entropy.append(entropy)
        self.returns.append(mean_return)
        parameters = self.training.policy.parameters(_STATE).numpy()[0]
        self.right.append(float(np.exp(parameters[1]) / np.exp(parameters).sum()))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    training = Training(resolve("CartPole-v1", "default", _SETTINGS))
    player = Collector(environments.make("CartPole-v1", 16, "plain"), FrozenPolicy(training.policy))
    batch = player.collect(16, np.random.SeedSequence(7))  # with the untrained policy
    story = Story(training)
    variances = _variances_of(training, player)
    story.tell()
    training.finish()
    _draw("distribution", lambda axes: _distribution(axes, story))
    _draw("returns", lambda axes: _returns(axes, batch))
    _draw("loss", _loss)
    _draw("variance", lambda axes: _variances(axes, variances))
    _draw("entropy", lambda axes: _entropy(axes, story))
    longest = int(batch.lengths.argmax())
    print(f"one episode: {batch.lengths[longest]} steps; its first rows (state, action, reward):")
    for t in range(4):
        state = ", ".join(f"{x:+.2f}" for x in batch.observations[t, longest])
        print(f"  {t}: ({state})  {int(batch.samples[t, longest])}  {batch.rewards[t, longest]:+.0f}")
    print(
        f"probability of pushing right: {story.right[0]:.2f} before, {story.right[-1]:.4f} after "
        f"{story.steps[-1]:,} steps"
    )
    print(f"entropy: {story.entropy[1]:.2f} to {story.entropy[-1]:.2f} nats of {np.log(2):.2f}")
    for name, variance in variances.items():
        print(f"variance of the gradient, {name}: {variance:.4g}")


def _variances_of(training: Training, player: Collector) -> dict[str, float]:
    """Returns the variance of the gradient estimate from 16 episodes, summed over its components, by baseline."""
    baselines = {"no baseline": NO_BASELINE, "leave-one-out": from_batch("leave-one-out")}
    gradients: dict[str, list[NDArray[Any]]] = {name: [] for name in baselines}
    for i in range(_GRADIENTS):
        episodes = player.collect(16, np.random.SeedSequence(1_000 + i))
        for name, baseline in baselines.items():
            weights = advantages(episodes, 0.99, baseline).values
            (batch,) = micro_batches(training.policy, episodes, weights, None, pad=False)
            found = policy_gradient(training.policy, batch).gradients
            gradients[name].append(np.concatenate([gradient.numpy().ravel() for gradient in found]))
    return {name: float(np.var(of_one, axis=0, ddof=1).sum()) for name, of_one in gradients.items()}


def _draw(name: str, draw: Callable[[Any], None]) -> None:
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, IMAGES / f"story-{name}.png", dpi=110)


def _distribution(axes: Any, story: Story) -> None:
    right = np.array(story.right)
    axes.stackplot(story.steps, right, 1 - right, labels=["push right", "push left"], colors=[_BLUE, "#d5dce6"])
    axes.set(
        title="The pole falls to the right: what the policy does", xlabel="environment steps", ylabel="probability"
    )
    sure = next(i for i, p in enumerate(story.right) if p > 0.999)
    axes.set(xlim=(0, 1.3 * story.steps[sure]), ylim=(0, 1))
    axes.legend(loc="lower right")


def _loss(axes: Any) -> None:
    probability = np.linspace(0.02, 0.98, 97, dtype=np.float32)
    for worth, color, label in ((1.0, _BLUE, "better than expected"), (-1.0, _ORANGE, "worse than expected")):
        loss = [float(reinforce_loss(tf.math.log([p]), tf.constant([worth]), tf.constant(1.0))) for p in probability]
        axes.plot(probability, loss, color=color, label=f"an action that was {label}")
        downhill = 0.35 if worth > 0 else 0.65
        start, end = (int(np.abs(probability - p).argmin()) for p in (downhill, downhill + 0.2 * worth))
        arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 2.5, "shrinkA": 0, "shrinkB": 0}
        points = [(float(probability[i]), loss[i] + 0.35) for i in (start, end)]
        axes.annotate("", xy=points[1], xytext=points[0], arrowprops=arrow)
    axes.axhline(0, color="0.6", linewidth=1)
    axes.set(title="The loss of one action, and which way is down", xlabel="its probability", ylabel="loss")
    axes.legend()


def _returns(axes: Any, batch: Trajectory) -> None:
    for gamma, color in ((1.0, "0.6"), (0.99, _BLUE), (0.9, _ORANGE)):
        returns: NDArray[np.float64] = discounted_returns(batch.rewards, gamma)
        longest = int(batch.lengths.argmax())
        steps = int(batch.lengths[longest])
        axes.plot(np.arange(steps), returns[:steps, longest], color=color, label=f"gamma = {gamma:g}")
    axes.set(title="Returns over one episode", xlabel="step t", ylabel="$R_t$")
    axes.legend()


def _variances(axes: Any, variances: dict[str, float]) -> None:
    axes.barh(list(variances), list(variances.values()), color=[_ORANGE, _BLUE])
    axes.set(
        title=f"Variance of {_GRADIENTS} gradients, each of 16 episodes of one policy", xlabel="sum over all weights"
    )


def _entropy(axes: Any, story: Story) -> None:
    axes.plot(story.steps[1:], story.entropy[1:], color=_BLUE)
    axes.axhline(np.log(2), color="0.6", linestyle="--", linewidth=1)
    axes.set(title="Exploration ends by itself", xlabel="environment steps", ylabel="entropy, nats", ylim=(0, 0.75))
    other = axes.twinx()
    other.plot(story.steps[1:], story.returns[1:], color=_ORANGE, linewidth=1)
    other.set_ylabel("return", color=_ORANGE)
    other.spines[["top"]].set_visible(False)


if __name__ == "__main__":
    main()
