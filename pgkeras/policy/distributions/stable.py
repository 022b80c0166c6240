"""Numerically stable functions that are also stable in LiteRT.

LiteRT has no softplus, log1p or expm1. It replaces them by ``log(exp(x) + 1)``, which overflows, and by ``log(x + 1)``
and ``exp(x) - 1``, which lose all precision for small arguments. The functions here use only operations of LiteRT.
"""

from __future__ import annotations

import math

import numpy as np

from pgkeras.backend import tf

__all__ = ["harmonic", "log1mexp", "log_sigmoid", "minus_log1m", "softplus"]

_SERIES_TERMS = 8


def softplus(x: tf.Tensor) -> tf.Tensor:
    """Computes ``ln(1 + e^x)`` with full float32 precision for any x. Its gradient is ``sigmoid(x)``."""
    # 0.5 * (x + |x|) equals max(x, 0), but its gradient at 0 is 1/2.
    return 0.5 * (x + tf.abs(x)) + _log1p(tf.exp(-tf.abs(x)))


def log_sigmoid(x: tf.Tensor) -> tf.Tensor:
    """Computes ``ln(1 / (1 + e^-x))``."""
    return -softplus(-x)


def log1mexp(t: tf.Tensor) -> tf.Tensor:
    """Computes ``ln(1 - e^-t)`` for positive t, with full precision for both small and large t.

    As in Maechler (2012, "Accurately computing log(1 - exp(-|a|))"), one form is used below ln 2 and another above.
    Here the first form is ``1 - e^-t = 2 h / (1 + h)`` with ``h = tanh(t/2)``.
    """
    h = tf.tanh(0.5 * t)
    z = tf.exp(-t)
    return tf.where(t < math.log(2), tf.math.log(2.0 * h / (1.0 + h)), -2.0 * _atanh(z / (2.0 - z)))


def minus_log1m(u: tf.Tensor) -> tf.Tensor:
    """Computes ``-ln(1 - u)`` for u in [0, 1), with full precision for small u."""
    return tf.where(u < 0.5, 2.0 * _atanh(u / (2.0 - u)), -tf.math.log(1.0 - u))


def harmonic(x: tf.Tensor) -> tf.Tensor:
    """Computes the harmonic number ``H(x) = 1 + 1/2 + ... + 1/x = digamma(x + 1) + gamma`` for any real x >= 0.

    It uses the asymptotic series of digamma at ``x + 6``, then the recurrence ``H(x) = H(x + 1) - 1 / (x + 1)`` down to
    x (Abramowitz & Stegun 1964, equations 6.3.18 and 6.3.5).
    """
    far = x + 6.0
    inverse = 1.0 / far
    square = tf.square(inverse)
    series = 0.5 * inverse - square * (1 / 12 - square * (1 / 120 - square / 252))
    return tf.math.log(far) + np.euler_gamma + series - tf.add_n([1.0 / (x + k) for k in range(1, 7)])


def _log1p(y: tf.Tensor) -> tf.Tensor:
    """Computes ``ln(1 + y) = 2 artanh(y / (2 + y))`` for y in [0, 1]."""
    return 2.0 * _atanh(y / (2.0 + y))


def _atanh(w: tf.Tensor) -> tf.Tensor:
    """Computes ``sum_k w^(2k+1) / (2k+1)``. Eight terms are enough for float32 if w is at most 1/3."""
    square = tf.square(w)
    series = tf.ones_like(w) / (2 * _SERIES_TERMS - 1)
    for k in reversed(range(_SERIES_TERMS - 1)):
        series = series * square + 1.0 / (2 * k + 1)
    return w * series
