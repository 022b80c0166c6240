"""Distribution: what a policy needs of its action distribution."""

from __future__ import annotations

from typing import Protocol

from pgkeras.backend import tf
from pgkeras.spaces.spec import DistributionKind

__all__ = ["Distribution"]


class Distribution(Protocol):
    """The interface of an action distribution."""

    @property
    def kind(self) -> DistributionKind:
        """The family."""

    @property
    def parameter_size(self) -> int:
        """How many numbers per observation the network puts out."""

    @property
    def state_independent_size(self) -> int:
        """How many of them, the last ones, are variables of their own that do not depend on the observation."""

    @property
    def transforms(self) -> bool:
        """Whether actions differ from samples."""

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Samples ``[B, ...]`` from parameters ``[B, parameter_size]`` and noise ``[B, noise_size]``."""

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """The sample ``[B, ...]`` that a greedy policy takes: the most probable one, or as the class says."""

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """The natural logarithm of the sample's probability or density, ``[B]``."""

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Entropy ``[B]`` in nats."""

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """The Fisher information of the parameters times a direction in them, both ``[B, parameter_size]``.

        That is ``E[s s^T] d``, where the score s is the gradient of the log-probability with respect to the parameters.
        A small change d of the parameters makes a KL divergence of ``d^T E[s s^T] d / 2``.
        """

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Converts a sample to the environment's action, of the action space's shape."""

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """The parameters as people know them, by the names in ``kind.parameters``."""
