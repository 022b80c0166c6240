from __future__ import annotations

import numpy as np
import pytest

from pgkeras.backend import keras, tf
from pgkeras.reinforce.adam import Adam
from pgkeras.reinforce.learner import Learner
from pgkeras.settings.config import Config
from pgkeras.spaces import Box, Discrete

SHAPES = [(3, 4), (4,), ()]
STEPS = 20
RATE = 0.02


@pytest.mark.parametrize("jit_compile", [False, True])
def test_steps_follow_the_algorithm(jit_compile: bool) -> None:
    """Kingma & Ba 2015, algorithm 1, with the last paragraph of section 2: epsilon is added to the uncorrected root."""
    generator = np.random.default_rng(0)
    start = [generator.normal(size=shape) for shape in SHAPES]
    gradients = [
        [generator.normal(size=shape) * 10.0 ** generator.integers(-6, 3) for shape in SHAPES] for _ in range(STEPS)
    ]
    optimizer = Adam(RATE)
    variables = [keras.Variable(value.astype(np.float32)) for value in start]
    optimizer.build(variables)
    apply = tf.function(lambda *of: optimizer.apply(list(of), variables), jit_compile=jit_compile, autograph=False)

    expected = list(start)
    m, v = ([np.zeros(shape) for shape in SHAPES] for _ in range(2))
    for t, step in enumerate(gradients, 1):
        apply(*(tf.constant(gradient, tf.float32) for gradient in step))
        rate = RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        for i, g in enumerate(step):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            expected[i] = expected[i] - rate * m[i] / (np.sqrt(v[i]) + 1e-7)
    assert int(optimizer.iterations) == STEPS
    for got, wanted in zip(variables, expected, strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_its_variables_equal_those_of_keras_so_checkpoints_stay_compatible() -> None:
    variables = [keras.Variable(np.zeros(shape, np.float32)) for shape in SHAPES]
    ours, theirs = Adam(), keras.optimizers.Adam()
    for optimizer in (ours, theirs):
        optimizer.build(variables)
    assert [(v.name, v.shape) for v in ours.variables] == [(v.name, v.shape) for v in theirs.variables]


@pytest.mark.parametrize("name", ["adam", "Adam"])
def test_the_setting_adam_selects_it(name: str) -> None:
    config = Config(env_id="CartPole-v1", optimizer=name, learning_rate=0.25)
    observations = Box(np.zeros(2), np.ones(2), np.dtype(np.float32))
    step = Learner(config, observations, Discrete(2))._step
    assert type(step.optimizer) is Adam
    assert float(step.optimizer.learning_rate) == 0.25
