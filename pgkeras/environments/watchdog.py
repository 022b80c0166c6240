"""Time limit for resets and steps of environments in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.alarm import call_with_alarm, has_alarms
from pgkeras.environments.protocol import DelegatingEnvironments, Environments, Rows
from pgkeras.environments.trajectory import Tape
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError

__all__ = ["WatchedEnvironments", "timeout_error"]

_T = TypeVar("_T")


class WatchedEnvironments(DelegatingEnvironments):
    """Environments in this process with a time limit for every reset and step.

    An alarm signal interrupts Python code at its next instruction. It cannot interrupt native code that never returns
    to Python; :class:`pgkeras.environments.ProcessEnvironments` can.

    Args:
        environments: The environments.
        seconds: Time limit of a reset or step of all slots.

    Raises:
        EnvironmentSetupError: Alarm signals are not available: on Windows, or outside the main thread.
    """

    def __init__(self, environments: Environments, seconds: float) -> None:
        if not has_alarms():
            raise EnvironmentSetupError(
                "env_timeout_seconds: needs alarm signals, which are available only in the main thread and not on "
                "Windows; use vectorization=async, which enforces the limit everywhere"
            )
        super().__init__(environments)
        self._seconds = seconds

    def check(self) -> bool:
        """See :meth:`Environments.check`."""
        return _within(self._seconds, super().check)

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        _within(self._seconds, super().reset, seeds, tape)

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        return _within(self._seconds, super().step, t, actions, remaining, tape)


def timeout_error(seconds: float) -> EnvironmentStepError:
    """Returns the error for an environment that exceeds its time limit."""
    return EnvironmentStepError(f"no response within {seconds:g} s (env_timeout_seconds)")


class _Interrupted(BaseException):
    """Raised by the alarm. It is not an Exception because an environment might catch that."""


def _within(seconds: float, call: Callable[..., _T], *arguments: Any) -> _T:
    """Calls a function, and raises EnvironmentStepError if the call exceeds the limit."""

    def interrupt() -> None:
        raise _Interrupted

    try:
        return call_with_alarm(seconds, interrupt, call, *arguments)
    except _Interrupted:
        raise timeout_error(seconds) from None
