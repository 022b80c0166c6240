"""Ideas that are not options of pgkeras, for ``benchmarks.ablations``. Each patches one run.

An idea is a context manager that changes the training inside it. It yields keyword arguments for
:class:`pgkeras.runs.training.Training`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras
from pgkeras.engines import noise
from pgkeras.environments.plain import PlainEnvironments
from pgkeras.environments.protocol import Rows
from pgkeras.policy import policy
from pgkeras.policy.distributions import Distribution
from pgkeras.policy.networks import orthogonal
from pgkeras.reinforce import returns
from pgkeras.reinforce.value import ValueFunction
from pgkeras.runs.callbacks import Callback
from pgkeras.runs.phases import Phases
from pgkeras.settings.config import Config
from pgkeras.spaces.spec import PolicySpec

__all__ = ["IDEAS", "ONE_START", "STATE_DEVIATION", "SYMLOG"]

Floats = NDArray[np.float64]

ONE_START = "one start for all episodes of a batch, leave-one-out"
STATE_DEVIATION = "deviation that depends on the state"
SYMLOG = "symmetric logarithm of returns for the value network"
_KEPT = 0.97  # decay of the average of weights per gradient step
_MOST_ADVANTAGE = 3.0  # times their root mean square
_GROWTH = 4  # of the batch size over a run


@contextmanager
def mirrored_noise(config: Config) -> Iterator[dict[str, Any]]:
    """Every second environment samples with the mirrored noise of its neighbor, so that pairs deviate oppositely.

    Uniform noise becomes ``1 - u``, normal noise ``-z``.
    """
    draw, pairs = noise.draw, config.envs // 2

    def mirrored(generator: np.random.Generator, spec: PolicySpec, rows: int) -> NDArray[np.float32]:
        if rows % config.envs:  # the examples of an export, not of environments
            return draw(generator, spec, rows)
        drawn = draw(generator, spec, rows).reshape(-1, config.envs, spec.noise_size)
        first = drawn[:, : 2 * pairs : 2]
        drawn[:, 1 : 2 * pairs : 2] = -first if spec.noise == "normal" else np.float32(1 - 2**-24) - first
        return drawn.reshape(rows, spec.noise_size)

    with patch.object(noise, "draw", mirrored):
        yield {}


@contextmanager
def one_start(config: Config) -> Iterator[dict[str, Any]]:  # noqa: ARG001 - called alike
    """All environments start a batch from the same seed, so that their mean return is that of this start."""
    reset = PlainEnvironments.reset

    def alike(self: PlainEnvironments, seeds: Sequence[int], tape: Rows) -> None:
        reset(self, [seeds[0]] * len(seeds), tape)

    with patch.object(PlainEnvironments, "reset", alike):
        yield {}


@contextmanager
def symmetric_logarithm(config: Config) -> Iterator[dict[str, Any]]:  # noqa: ARG001 - called alike
    """The value network predicts ``sign(R) ln(1 + |R|)`` (Hafner et al. 2023, "Mastering diverse domains")."""
    fit, predict = ValueFunction.fit, ValueFunction.predict

    def fit_squeezed(self: ValueFunction, observations: NDArray[Any], of: Floats, epoch: int) -> float:
        return fit(self, observations, np.sign(of) * np.log1p(np.abs(of)), epoch)

    def predict_squeezed(self: ValueFunction, observations: NDArray[Any]) -> Floats:
        squeezed = predict(self, observations)
        return np.asarray(np.sign(squeezed) * np.expm1(np.abs(squeezed)))

    with patch.object(ValueFunction, "fit", fit_squeezed), patch.object(ValueFunction, "predict", predict_squeezed):
        yield {}


@contextmanager
def clipped_advantages(config: Config) -> Iterator[dict[str, Any]]:  # noqa: ARG001 - called alike
    """Advantages are clipped at three times their root mean square."""
    rescale = returns.rescale

    def rescaled(values: Floats, of: Floats, mask: NDArray[np.bool_]) -> Floats:
        return np.clip(rescale(values, of, mask), -_MOST_ADVANTAGE, _MOST_ADVANTAGE)

    with patch.object(returns, "rescale", rescaled):
        yield {}


@contextmanager
def state_dependent_deviation(config: Config) -> Iterator[dict[str, Any]]:  # noqa: ARG001 - called alike
    """The deviation of Gaussian actions depends on the state, like their mean, and starts as configured."""

    def head(features: Any, distribution: Distribution, initial_log_std: float, seed: int) -> Any:
        size, gain = distribution.state_independent_size, policy._HEAD_GAIN
        mean = keras.layers.Dense(size, kernel_initializer=orthogonal(gain, seed))(features)
        log_std = keras.layers.Dense(
            size,
            kernel_initializer=orthogonal(gain, seed + 1),
            bias_initializer=keras.initializers.Constant(initial_log_std),
        )(features)
        return keras.layers.Concatenate()([mean, log_std])

    with patch.object(policy, "_head", head):
        yield {}


class _Average(Callback):
    """Keeps an exponential average of the weights, and assigns it at the end."""

    def __init__(self) -> None:
        self._mean: list[NDArray[Any]] | None = None

    def on_epoch(self, training: Any, metrics: Any) -> None:
        weights = training.policy.weights()
        before = self._mean or weights
        self._mean = [_KEPT * a + (1 - _KEPT) * b for a, b in zip(before, weights, strict=True)]

    def on_end(self, training: Any) -> None:
        if self._mean is not None:
            training.policy.assign(self._mean)


@contextmanager
def averaged_weights(config: Config) -> Iterator[dict[str, Any]]:  # noqa: ARG001 - called alike
    """The final policy has the running average of the weights over the last few dozen gradient steps."""
    yield {"callbacks": [_Average()]}


@contextmanager
def growing_batches(config: Config) -> Iterator[dict[str, Any]]:
    """Batches grow linearly over the run to four times their size."""
    to_play = Phases.episodes_to_play

    def more(self: Phases) -> int:
        return round(to_play(self) * (1 + (_GROWTH - 1) * min(1.0, self._counters.env_steps / config.steps)))

    with patch.object(Phases, "episodes_to_play", more):
        yield {}


IDEAS: dict[str, Callable[[Config], AbstractContextManager[dict[str, Any]]]] = {
    "mirrored noise in pairs of episodes": mirrored_noise,
    ONE_START: one_start,
    SYMLOG: symmetric_logarithm,
    "advantages clipped at three times their scale": clipped_advantages,
    STATE_DEVIATION: state_dependent_deviation,
    "weights averaged for what is played at the end": averaged_weights,
    "batches that grow fourfold": growing_batches,
}
