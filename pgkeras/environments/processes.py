"""Environments in processes of their own: for heavy simulators, and for those that crash or hang."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import sys
import time
import weakref
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import cloudpickle
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from pgkeras.cores import available
from pgkeras.environments.plain import native
from pgkeras.environments.protocol import Rows
from pgkeras.environments.rows import put_reward
from pgkeras.environments.trajectory import Tape
from pgkeras.environments.watchdog import overdue
from pgkeras.environments.worker import StepResult, work
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError
from pgkeras.settings.recipe import Recipe

__all__ = ["ProcessEnvironments"]

# A process that is started anew imports the program's script, and ends with 1 if that starts processes, too.
_UNGUARDED = '; a script that trains with vectorization=async has to do so under: if __name__ == "__main__":'
_START_SECONDS = 60.0  # beyond the limit of a step, for each environment of a process
_GRACE = 5.0  # seconds that a process has to close its environments


class ProcessEnvironments:
    """Environments in worker processes, which step their shares of the slots at the same time.

    The episodes are those that :class:`PlainEnvironments` plays for the same seeds: only slots with episodes left to
    play are stepped, and an episode's end is followed by a reset at once if there is another to play. Workers are
    started anew rather than forked, since a fork of a process that holds TensorFlow or gRPC may hang; they end when
    this process does, even if it is killed.

    Args:
        recipe: How one environment is made. Its module is imported by the workers.
        slots: How many there are.
        workers: How many processes; None for one a core. Never more than slots.
        timeout: Seconds that a reset or step may take; None for any. Making each environment may take a minute more.
        spec: The registered specification, if there is one.

    Attributes:
        keeper_of_statistics: See :func:`pgkeras.environments.wrappers.keeper_of_statistics`.

    Raises:
        EnvironmentSetupError: The environment cannot be made.
    """

    gap = 0
    lockstep = False

    def __init__(
        self,
        recipe: Recipe,
        slots: int,
        workers: int | None = None,
        timeout: float | None = None,
        spec: EnvSpec | None = None,
    ) -> None:
        self.slots = slots
        self.spec = spec
        self._timeout = timeout
        # Contiguous shares, as even as can be.
        self._shares = np.array_split(np.arange(slots), min(slots, workers or available()))
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._owing: set[int] = set()  # workers whose answer to the last task has not been taken
        self._processes: list[Any] = []
        self._close = weakref.finalize(self, _stop, self._pipes, self._processes)
        # Before multiprocessing's own, which waits for workers that it has sent SIGTERM; they do not heed it.
        atexit.register(self._close)
        for share in self._shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, recipe, share.tolist(), sys.path), daemon=True)
            self._pipes.append(ours)
            self._processes.append(process)
            process.start()
            theirs.close()
        try:
            start = None if timeout is None else (timeout + _START_SECONDS) * len(self._shares[0])
            answers = self._gather(range(len(self._pipes)), start)
        except EnvironmentStepError as error:
            self.close()
            advice = _UNGUARDED if "exited with 1" in str(error) else ""
            raise EnvironmentSetupError(f"{recipe.env_id}: its environment cannot be made: {error}{advice}") from error
        self.observation_space, self.action_space, self.keeper_of_statistics = cloudpickle.loads(answers[0])
        self._native = native(self.action_space)

    def check(self) -> bool:
        """See :meth:`Environments.check`."""
        try:
            ((shows_mask, _),) = self._ask([(0, [])])
            return bool(shows_mask)
        except EnvironmentStepError as error:
            raise EnvironmentSetupError(str(error)) from error

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        tasks = [(k, [seeds[i] for i in share]) for k, share in enumerate(self._shares)]
        for shown, i in self._ask(tasks):
            tape.put(0, i, *shown)

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        choices = self._native(actions)
        tasks = [
            (k, [(i, choices[i], bool(remaining[i] > 1)) for i in share[remaining[share] > 0].tolist()])
            for k, share in enumerate(self._shares)
        ]
        any_ended = False
        outcome: StepResult
        for outcome, i in self._ask([(k, task) for k, task in tasks if task]):
            put_reward(tape.rewards, t, i, outcome.reward)
            if outcome.final is not None:
                any_ended = tape.ended[t, i] = True
                tape.terminated[t, i] = outcome.terminated
                tape.put_final(t, i, *outcome.final)
            if outcome.shown is not None:
                tape.put(t + 1, i, *outcome.shown)
        return any_ended

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        self._close()

    def _ask(self, tasks: Iterable[tuple[int, Any]]) -> list[tuple[Any, int]]:
        """Sends the workers their tasks, then yields the outcomes slot by slot."""
        if not self._close.alive:
            raise EnvironmentStepError("its processes have been closed, as the run is over: make it anew to play on")
        self._take_what_is_left()
        asked = []
        for k, task in tasks:
            asked.append(k)
            self._owing.add(k)
            try:
                self._pipes[k].send(task)
            except OSError:
                raise self._died(k) from None
        answers = self._gather(asked, self._timeout)
        return [pair for k in asked for pair in answers[k]]

    def _take_what_is_left(self) -> None:
        """Takes the answers to a task that was broken off, by a time limit or an error, lest the next seem theirs."""
        for k in sorted(self._owing):
            try:
                if not self._pipes[k].poll(self._timeout):
                    self._processes[k].kill()
                    assert self._timeout is not None
                    raise overdue(self._timeout)
                self._pipes[k].recv()
            except (EOFError, OSError):
                raise self._died(k) from None
            self._owing.discard(k)

    def _gather(self, asked: Iterable[int], seconds: float | None) -> dict[int, Any]:
        deadline = None if seconds is None else time.monotonic() + seconds
        waiting = {self._pipes[k]: k for k in asked}
        answers = {}
        while waiting:
            ready = wait(list(waiting), None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready:
                for k in waiting.values():
                    self._processes[k].kill()
                assert seconds is not None
                raise overdue(seconds)
            for pipe in ready:
                k = waiting.pop(pipe)  # type: ignore[call-overload]  # a Connection, as all that was waited for
                try:
                    failure, answers[k] = self._pipes[k].recv()
                    self._owing.discard(k)
                except (EOFError, OSError):
                    raise self._died(k) from None
                if failure is not None:
                    raise EnvironmentStepError(failure)
        return answers

    def _died(self, k: int) -> EnvironmentStepError:
        process = self._processes[k]
        process.join(_GRACE)
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with {code}"
        first, last = self._shares[k][0], self._shares[k][-1]
        which = f"environment {first}" if first == last else f"environments {first} to {last}"
        return EnvironmentStepError(f"the process of {which} {how}")


def _stop(pipes: list[Connection], processes: list[Any]) -> None:
    for pipe in pipes:
        pipe.close()  # at which a worker closes its environments and ends
    deadline = time.monotonic() + _GRACE
    for process in processes:
        if process.pid is not None:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
