"""An alarm clock for what may not come back: a step of an environment that blocks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["alarm"]

_AGAIN_SECONDS = 1.0


@contextmanager
def alarm(seconds: float | None, ring: Callable[[], Any]) -> Iterator[None]:
    """Calls a function in the main thread if the body takes too long; what it raises, the body raises.

    It is called again every second, as other code may catch what it has raised. It interrupts waiting and Python code,
    not a computation in C. There is no alarm in other threads, on Windows, and where somebody else uses SIGALRM.

    Args:
        seconds: How long the body may take; None: as long as it likes.
        ring: The function.
    """
    if seconds is None or not _is_available():
        yield
        return
    armed = True
    before = signal.signal(signal.SIGALRM, lambda *_: ring() if armed else None)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        try:
            yield
        finally:
            armed = False  # or one that rings from here on would keep the alarm from being put back
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _is_available() -> bool:
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    )
