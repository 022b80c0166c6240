"""Imports TensorFlow and Keras without optional packages that no command needs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["lean_imports"]

# Keras imports these if they are installed, for notebooks, image galleries and data frames.
_OPTIONAL = ("IPython", "matplotlib", "pandas")


@contextmanager
def lean_imports() -> Iterator[None]:
    """Context in which optional packages of Keras appear to be missing.

    Afterwards, the imported objects are excluded from garbage collection, which otherwise makes the tracing of graphs
    20 % slower. Use it only in commands, because Keras does not accept data frames in such a process.
    """
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    missing: Any = dict.fromkeys(hidden)  # None in sys.modules makes an import fail
    sys.modules.update(missing)
    try:
        yield
    finally:
        gc.freeze()
        for name in hidden:
            sys.modules.pop(name, None)
