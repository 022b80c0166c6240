"""Limits the time of a reset or a step of environments in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.alarm import call_with_alarm, has_alarms
from pgkeras.environments.protocol import DelegatingEnvironments, Environments, Rows
from pgkeras.environments.trajectory import Tape
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError

__all__ = ["WatchedEnvironments", "overdue"]

_T = TypeVar("_T")


class WatchedEnvironments(DelegatingEnvironments):
    """Environments of this process, whose every reset and step has to end in time.

    An alarm signal interrupts what takes longer: a loop or a wait in Python, at its next instruction. It cannot
    interrupt native code that never returns to Python; processes can be given a limit whatever they do
    (:class:`pgkeras.environments.ProcessEnvironments`).

    Args:
        environments: What to watch.
        seconds: How long a reset or a step of all slots may take.

    Raises:
        EnvironmentSetupError: There are no alarms here: on Windows, and outside the main thread.
    """

    def __init__(self, environments: Environments, seconds: float) -> None:
        if not has_alarms():
            raise EnvironmentSetupError(
                "env_timeout_seconds: needs alarm signals, which there are only in the main thread and not on Windows; "
                "use vectorization=async, which keeps the limit everywhere"
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


def overdue(seconds: float) -> EnvironmentStepError:
    """The error to raise when an environment exceeds its time."""
    return EnvironmentStepError(f"no answer within {seconds:g} s (env_timeout_seconds)")


class _Interrupted(BaseException):
    """Not an Exception, so that no environment catches it by mistake."""


def _within(seconds: float, call: Callable[..., _T], *arguments: Any) -> _T:
    """Calls, and raises EnvironmentStepError when that takes too long."""

    def ring() -> None:
        raise _Interrupted

    try:
        return call_with_alarm(seconds, ring, call, *arguments)
    except _Interrupted:
        raise overdue(seconds) from None
