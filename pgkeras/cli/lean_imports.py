"""Imports TensorFlow and Keras without packages that they would load as well, and that nothing here needs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["lean_imports"]

# Keras takes these where they are installed, for notebooks, image galleries and data frames: 0.8 s of 3.
_OPTIONAL = ("IPython", "matplotlib", "pandas")


@contextmanager
def lean_imports() -> Iterator[None]:
    """In the body, packages that Keras can do without look as if they were not installed.

    Nor does the garbage collector run, which looks again and again at what modules are made of, and finds nothing: it
    takes a fifth of the time. Afterwards it leaves all that alone, or tracing graphs would take a fifth longer, too.

    For a command, whose process is nobody else's: Keras takes no data frames in it.
    """
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    missing: Any = dict.fromkeys(hidden)  # None is how Python spells it
    sys.modules.update(missing)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            sys.modules.pop(name, None)
