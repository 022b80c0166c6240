"""TensorFlow, and Keras on top of it: imported from here, so that Keras has no other backend.

Keras chooses its backend once, when it is first imported (by TensorFlow, for one), from KERAS_BACKEND or a file in the
user's home. The light parts of pgkeras do not come by here, and leave that choice alone.

A quarter of the time that this import takes is saved by two measures. Keras imports ``matplotlib.pyplot`` for the sake
of two functions; here it is imported when one of them uses it. And the garbage collector, which would look again and
again at what modules are made of, rests until they are there.
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
    """Stands in for pyplot in the modules that import it, and imports it when one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_PYPLOT) is self:  # TensorFlow is still being imported: somebody looks at all modules
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
