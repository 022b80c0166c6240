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
    """Hides what native code writes to standard error; Python's own writes still get there.

    When the body raises, what was hidden is shown, since it may hold the reason; but our own errors, and a missing
    package's, say it themselves.
    """
    _give_root_a_handler()
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


def _give_root_a_handler() -> None:
    """Has the root logger write to whatever standard error is at the time.

    TensorFlow and absl give it a handler where it has none, and that would keep the stream of the time when they do,
    which :func:`quiet` closes.
    """
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)
