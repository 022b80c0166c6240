"""TensorFlow, and Keras on top of it: imported from here, so that Keras has no other backend.

Keras chooses its backend once, when it is first imported (by TensorFlow, for one), from KERAS_BACKEND or a file in the
user's home. The light parts of pgkeras do not come by here, and leave that choice alone.
"""

from __future__ import annotations

import os
import sys

from pgkeras.errors import ConfigError

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

__all__ = ["keras", "tf"]

if keras.backend.backend() != "tensorflow":
    raise ConfigError(
        f"Keras runs on {keras.backend.backend()} in this process, but pgkeras trains on TensorFlow: "
        "set KERAS_BACKEND=tensorflow, or import pgkeras.runs.training before keras"
    )
