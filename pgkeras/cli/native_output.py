"""Keeps the native log output of TensorFlow and LiteRT off the terminal."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pgkeras.errors import PgkerasError

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Context that hides what native code writes to standard error. Python's own output is still shown.

    If the body raises an exception, the hidden output is shown, because it may contain the reason. It stays hidden for
    pgkeras' own errors and for missing packages, whose messages are sufficient.
    """
    _add_root_handler()
    sys.stderr.flush()
    visible = os.dup(2)
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        sys.stderr = os.fdopen(os.dup(visible), "w", buffering=1)
        try:
            yield
        except (PgkerasError, ModuleNotFoundError):
            raise
        except Exception:
            hidden.seek(0)
            os.write(visible, hidden.read())
            raise
        finally:
            sys.stderr.close()
            sys.stderr = python_stderr
            os.dup2(visible, 2)
            os.close(visible)


def _add_root_handler() -> None:
    """Adds a handler to the root logger that always writes to the current ``sys.stderr``.

    If the root logger has no handler, TensorFlow and absl add one that keeps the current stream, which :func:`quiet`
    later closes.
    """
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)
