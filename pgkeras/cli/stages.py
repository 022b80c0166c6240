"""Says what a command is doing, if that takes a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["stage"]

_SECONDS = 1.5


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Says on standard error what the block does, if it is not done soon.

    Args:
        what: Such as "Importing TensorFlow".
    """
    timer = threading.Timer(_SECONDS, click.echo, (f"{what} ...",), {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # what it is about to say comes before whatever the command says next
