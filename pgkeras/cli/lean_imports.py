"""Imports TensorFlow and Keras without packages that they would load as well, and that no command needs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["lean_imports"]

# Keras takes these where they are installed, for notebooks, image galleries and data frames.
_OPTIONAL = ("IPython", "matplotlib", "pandas")


@contextmanager
def lean_imports() -> Iterator[None]:
    """In the body, packages that Keras can do without look as if they were not installed.

    Afterwards the garbage collector leaves alone what there is by then: looking at it again and again would make the
    tracing of graphs a fifth longer.

    For a command, whose process is nobody else's: Keras takes no data frames in it.
    """
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    missing: Any = dict.fromkeys(hidden)  # None is how Python spells it
    sys.modules.update(missing)
    try:
        yield
    finally:
        gc.freeze()
        for name in hidden:
            sys.modules.pop(name, None)
