"""gRPC's polling thread gets a lower scheduling class, unless that makes it wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pgkeras_serving.transport.poller_priority import defer

from pgkeras.client import PolicyClient
from tests.serving.conftest import Server, running, wait_until


def _is_supported() -> bool:
    """Whether this process may use SCHED_BATCH and read schedstat."""
    try:
        before = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setscheduler(0, before, os.sched_param(0))
        return int(Path("/proc/thread-self/schedstat").read_text().split()[2]) > 0
    except (AttributeError, OSError, ValueError):
        return False


pytestmark = pytest.mark.skipif(not _is_supported(), reason="needs SCHED_BATCH and schedstat, which Linux has")

_PATIENCE_SECONDS = 60
_POLL_SECONDS = 0.02
_CALLS = 50


@contextlib.contextmanager
def _waking() -> Iterator[threading.Thread]:
    """A thread that wakes up every millisecond."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.001):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _no_core_is_free() -> Iterator[None]:
    """Keeps every core busy with one process each."""
    command = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            stack.callback(stack.enter_context(subprocess.Popen(command)).kill)
        yield


def _threads(server: Server) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{server.process.pid}/task").iterdir()]


def _deferring(server: Server) -> list[int]:
    return [thread for thread in _threads(server) if os.sched_getscheduler(thread) == os.SCHED_BATCH]


async def _until(thread: threading.Thread, policy: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while os.sched_getscheduler(thread.native_id or 0) != policy:
        assert time.monotonic() < deadline, f"not {policy} within {_PATIENCE_SECONDS} s"
        await asyncio.sleep(_POLL_SECONDS)


def test_only_the_servers_polling_thread_defers(policies, tmp_path):
    with running(policies, tmp_path) as server, PolicyClient(server.target, "discrete") as client:
        for _ in range(_CALLS):
            client.act(np.zeros(4, np.float32))
        assert server.process.pid not in _deferring(server)  # the event loop runs in the main thread
        wait_until(lambda: len(_deferring(server)) == 1, _PATIENCE_SECONDS)  # not while other processes need the cores
        assert server.stop() == 0


def test_a_scheduling_class_set_by_the_operator_is_kept(policies, tmp_path):
    prelude = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"
    with running(policies, tmp_path, prelude=prelude) as server:
        classes = {os.sched_getscheduler(thread) for thread in _threads(server)}
        assert classes == {os.SCHED_IDLE}


def test_a_thread_that_has_to_wait_stops_deferring_and_retries_later():
    async def watch() -> None:
        with _waking() as thread:
            deferring = asyncio.create_task(defer(thread))
            await _until(thread, os.SCHED_BATCH)
            with _no_core_is_free():
                await _until(thread, os.SCHED_OTHER)
            await _until(thread, os.SCHED_BATCH)
            deferring.cancel()
            await asyncio.wait([deferring])
            assert os.sched_getscheduler(thread.native_id or 0) == os.SCHED_OTHER

    asyncio.run(watch())


def test_the_end_of_the_thread_ends_the_task_without_an_error():
    async def watch() -> None:
        with _waking() as thread:
            deferring = asyncio.create_task(defer(thread))
            await _until(thread, os.SCHED_BATCH)
        await asyncio.wait_for(deferring, _PATIENCE_SECONDS)

    asyncio.run(watch())
