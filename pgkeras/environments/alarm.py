"""Alarm: interrupts a call that takes too long, such as a step of an environment that blocks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["call_with_alarm", "has_alarms", "is_alarm_free"]

_T = TypeVar("_T")


def has_alarms() -> bool:
    """Whether there are alarm signals: only in the main thread, and not on Windows."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


def is_alarm_free() -> bool:
    """Whether there are alarm signals, and nobody else handles them."""
    return has_alarms() and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def call_with_alarm(
    seconds: float, ring: Callable[[], Any], call: Callable[..., _T], *arguments: Any, interval: float = 0.0
) -> _T:
    """Calls a function, and in the main thread another one if that takes too long.

    The alarm interrupts waiting and Python code, not a computation in C. A timer of somebody else goes on afterwards:
    an alarm that was due meanwhile rings then. So alarms nest.

    Args:
        seconds: How long the function may take.
        ring: The other function. What it raises interrupts the first one.
        call: The function.
        *arguments: Its arguments.
        interval: Seconds until it rings again, as other code may catch what it has raised; 0: it rings once.

    Returns:
        What the function returns.
    """
    armed = True
    handler = signal.signal(signal.SIGALRM, lambda *_: ring() if armed else None)
    began = time.monotonic()
    other, other_interval = signal.setitimer(signal.ITIMER_REAL, seconds, interval)
    try:
        try:
            return call(*arguments)
        finally:
            armed = False  # one that rings from here on would keep the other timer from being put back
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        left = other and max(1e-6, other - (time.monotonic() - began))
        signal.signal(signal.SIGALRM, handler)  # before the timer, as an alarm that is due meanwhile rings at once
        signal.setitimer(signal.ITIMER_REAL, left, other_interval)
