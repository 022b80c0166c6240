"""Interrupts a call that takes too long, such as a step of an environment that blocks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["call_with_alarm", "has_alarms", "is_alarm_free"]

_T = TypeVar("_T")


def has_alarms() -> bool:
    """Returns whether alarm signals are available: only in the main thread, and not on Windows."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


def is_alarm_free() -> bool:
    """Returns whether alarm signals are available and no other handler is installed."""
    return has_alarms() and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def call_with_alarm(
    seconds: float, on_alarm: Callable[[], Any], call: Callable[..., _T], *arguments: Any, interval: float = 0.0
) -> _T:
    """Calls a function, and runs ``on_alarm`` if the call takes too long.

    The alarm interrupts waiting and Python code, but not C code. Calls can be nested: a timer that was already
    running continues afterwards, and an alarm that became due in the meantime fires then.

    Args:
        seconds: Time limit of the call.
        on_alarm: Runs in the main thread when the limit is reached. An exception that it raises interrupts the call.
        call: The function to call.
        *arguments: Arguments of ``call``.
        interval: Seconds between further alarms, because other code may catch the exception; 0 for a single alarm.

    Returns:
        The result of ``call``.
    """
    armed = True
    handler = signal.signal(signal.SIGALRM, lambda *_: on_alarm() if armed else None)
    began = time.monotonic()
    other, other_interval = signal.setitimer(signal.ITIMER_REAL, seconds, interval)
    try:
        try:
            return call(*arguments)
        finally:
            armed = False  # an exception from here on would prevent restoring the other timer
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        left = other and max(1e-6, other - (time.monotonic() - began))
        signal.signal(signal.SIGALRM, handler)  # before the timer, because an overdue alarm fires immediately
        signal.setitimer(signal.ITIMER_REAL, left, other_interval)
