"""The log-probability of the greedy action, which the act graph leaves out: it gives that of the sampled one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spec import DistributionKind

__all__ = ["greedy_log_prob"]


def greedy_log_prob(kind: DistributionKind, answer: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The log-probability of a distribution's mode, from its parameters: float32 ``[B]``.

    Categorical: ``ln max_i p_i``. Diagonal Gaussian, of D components, at its mean:
    ``-sum_d ln std_d - D/2 ln(2 pi)``.

    Args:
        kind: The distribution's family.
        answer: Holds the parameters by the names in ``kind.parameters``, each ``[B, ...]``.
    """
    if kind is DistributionKind.CATEGORICAL:
        return np.asarray(np.log(answer["probabilities"].max(axis=-1)), np.float32)
    stddev = answer["stddev"].reshape(len(answer["stddev"]), -1)
    return np.asarray(-np.log(stddev).sum(axis=-1) - stddev.shape[1] / 2 * math.log(2 * math.pi), np.float32)
