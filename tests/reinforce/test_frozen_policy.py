"""The choice of the acting engine in training."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Discrete
from tests.policy.test_networks import image


@pytest.mark.parametrize(
    ("shape", "network", "engine"),
    [
        ((10, 10, 4), "auto", "litert"),  # MinAtar
        ((2, 42, 42), "light_cnn", "litert"),
        ((4, 84, 84), "light_cnn", "tensorflow"),
        ((4, 84, 84), "nature_cnn", "tensorflow"),
        ((4, 84, 84), "mlp", "litert"),
    ],
)
def test_large_convolutions_use_tensorflow(shape: tuple[int, ...], network: str, engine: str) -> None:
    policy = Policy(image(*shape), Discrete(2), settings=NetworkSettings(network=network))
    assert FrozenPolicy(policy).engine == engine


class Opaque(keras.Model):
    """A subclassed model, whose layers have no symbolic outputs."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.convolution = keras.layers.Conv2D(filters, 8, 4)
        self.flat = keras.layers.Flatten()

    def call(self, inputs: Any) -> Any:
        return self.flat(self.convolution(keras.ops.cast(inputs, "float32")))


@pytest.mark.parametrize(("filters", "engine"), [(4, "litert"), (64, "tensorflow")])
def test_the_engine_for_a_users_network_depends_on_its_kernels(filters: int, engine: str) -> None:
    policy = Policy(image(44, 44, 4), Discrete(2), network=Opaque(filters))
    assert FrozenPolicy(policy).engine == engine
