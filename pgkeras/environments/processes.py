"""Environments in worker processes, for heavy simulators and for environments that crash or hang."""

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
from pgkeras.environments.plain import action_splitter
from pgkeras.environments.protocol import Rows
from pgkeras.environments.rows import put_reward
from pgkeras.environments.trajectory import Tape
from pgkeras.environments.watchdog import timeout_error
from pgkeras.environments.worker import StepResult, work
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError
from pgkeras.settings.recipe import Recipe

__all__ = ["ProcessEnvironments"]

# A spawned process imports the main script, and exits with 1 if the script starts processes on import.
_UNGUARDED = '; a script that trains with vectorization=async must do so under: if __name__ == "__main__":'
_START_SECONDS = 60.0  # added to the limit of a step, for each environment of a worker
_GRACE_SECONDS = 5.0  # for a worker to close its environments


class ProcessEnvironments:
    """Environments in worker processes. Each worker steps its share of the slots, in parallel with the others.

    The episodes are the same as those of :class:`PlainEnvironments` for the same seeds: only slots with episodes left
    to play are stepped, and an environment is reset in the step that ends its episode if its slot has another to play.
    Workers are spawned, because forking a process that has loaded TensorFlow or gRPC may hang. They exit with this
    process, even if it is killed.

    Args:
        recipe: The environment. The workers import its module.
        slots: Number of environments.
        workers: Number of processes, at most ``slots``; None for one per core.
        timeout: Time limit in seconds of a reset or step; None for no limit. Creating each environment may take
            60 seconds longer.
        spec: The registered specification, if there is one.

    Attributes:
        statistics_owner: See :func:`pgkeras.environments.wrappers.statistics_owner`.

    Raises:
        EnvironmentSetupError: The environment cannot be created.
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
        self._shares = np.array_split(np.arange(slots), min(slots, workers or available()))
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._unread: set[int] = set()  # workers whose last result has not been received
        self._processes: list[Any] = []
        self._close = weakref.finalize(self, _stop, self._pipes, self._processes)
        # Must run before multiprocessing's handler, which would wait for workers that ignore its SIGTERM.
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
            results = self._gather(range(len(self._pipes)), start)
        except EnvironmentStepError as error:
            self.close()
            advice = _UNGUARDED if "exited with 1" in str(error) else ""
            message = f"{recipe.env_id}: the environment cannot be created: {error}{advice}"
            raise EnvironmentSetupError(message) from error
        self.observation_space, self.action_space, self.statistics_owner = cloudpickle.loads(results[0])
        self._split_actions = action_splitter(self.action_space)

    def check(self) -> bool:
        """See :meth:`Environments.check`."""
        try:
            ((has_mask, _),) = self._run_tasks([(0, [])])
            return bool(has_mask)
        except EnvironmentStepError as error:
            raise EnvironmentSetupError(str(error)) from error

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        tasks = [(k, [seeds[i] for i in share]) for k, share in enumerate(self._shares)]
        for view, i in self._run_tasks(tasks):
            tape.put(0, i, *view)

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        choices = self._split_actions(actions)
        tasks = [
            (k, [(i, choices[i], bool(remaining[i] > 1)) for i in share[remaining[share] > 0].tolist()])
            for k, share in enumerate(self._shares)
        ]
        any_ended = False
        result: StepResult
        for result, i in self._run_tasks([(k, task) for k, task in tasks if task]):
            put_reward(tape.rewards, t, i, result.reward)
            if result.final is not None:
                any_ended = tape.ended[t, i] = True
                tape.terminated[t, i] = result.terminated
                tape.put_final(t, i, *result.final)
            if result.next is not None:
                tape.put(t + 1, i, *result.next)
        return any_ended

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        self._close()

    def _run_tasks(self, tasks: Iterable[tuple[int, Any]]) -> list[tuple[Any, int]]:
        """Sends tasks to the workers, and returns the results of all slots."""
        if not self._close.alive:
            raise EnvironmentStepError("the worker processes are closed; create the environments again to play on")
        self._drain()
        workers = []
        for k, task in tasks:
            workers.append(k)
            self._unread.add(k)
            try:
                self._pipes[k].send(task)
            except OSError:
                raise self._died(k) from None
        results = self._gather(workers, self._timeout)
        return [pair for k in workers for pair in results[k]]

    def _drain(self) -> None:
        """Discards results of a task that a timeout or an error interrupted."""
        for k in sorted(self._unread):
            try:
                if not self._pipes[k].poll(self._timeout):
                    self._processes[k].kill()
                    assert self._timeout is not None
                    raise timeout_error(self._timeout)
                self._pipes[k].recv()
            except (EOFError, OSError):
                raise self._died(k) from None
            self._unread.discard(k)

    def _gather(self, workers: Iterable[int], seconds: float | None) -> dict[int, Any]:
        deadline = None if seconds is None else time.monotonic() + seconds
        waiting = {self._pipes[k]: k for k in workers}
        results = {}
        while waiting:
            ready = wait(list(waiting), None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready:
                for k in waiting.values():
                    self._processes[k].kill()
                assert seconds is not None
                raise timeout_error(seconds)
            for pipe in ready:
                k = waiting.pop(pipe)  # type: ignore[call-overload]  # always a Connection here
                try:
                    failure, results[k] = self._pipes[k].recv()
                    self._unread.discard(k)
                except (EOFError, OSError):
                    raise self._died(k) from None
                if failure is not None:
                    raise EnvironmentStepError(failure)
        return results

    def _died(self, k: int) -> EnvironmentStepError:
        process = self._processes[k]
        process.join(_GRACE_SECONDS)
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with {code}"
        first, last = self._shares[k][0], self._shares[k][-1]
        which = f"environment {first}" if first == last else f"environments {first} to {last}"
        return EnvironmentStepError(f"the worker process of {which} {how}")


def _stop(pipes: list[Connection], processes: list[Any]) -> None:
    for pipe in pipes:
        pipe.close()  # the worker then closes its environments and exits
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        if process.pid is not None:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
