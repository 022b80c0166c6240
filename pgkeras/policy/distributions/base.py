"""Distribution: the interface of action distributions."""

from __future__ import annotations

from typing import Protocol

from pgkeras.backend import tf
from pgkeras.spaces.spec import DistributionKind

__all__ = ["Distribution"]


class Distribution(Protocol):
    """The interface of an action distribution."""

    @property
    def kind(self) -> DistributionKind:
        """The kind of distribution."""

    @property
    def parameter_size(self) -> int:
        """Number of parameters per observation, P."""

    @property
    def state_independent_size(self) -> int:
        """Number of parameters, the last ones, that do not depend on the observation but are separate variables."""

    @property
    def transforms(self) -> bool:
        """Whether actions differ from samples."""

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Returns samples ``[B, ...]`` for parameters ``[B, P]`` and noise ``[B, noise_size]``."""

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the sample ``[B, ...]`` for greedy actions: the most probable one, if the class has no other rule."""

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Returns the natural logarithm of the sample's probability or density, ``[B]``."""

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the entropy ``[B]`` in nats."""

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Multiplies the Fisher information of the parameters by a direction; all are ``[B, P]``.

        The product is ``E[s s^T] d``. The score s is the gradient of the log-probability with respect to the
        parameters. A small change d of the parameters has the KL divergence ``d^T E[s s^T] d / 2``.
        """

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Converts samples to the environment's actions, ``[B, *space.shape]``."""

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the parameters in their usual form, by the names in ``kind.parameters``."""
