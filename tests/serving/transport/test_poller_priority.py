"""gRPC's polling thread defers to the event loop, and only while that costs nothing."""

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


def _can_be_had() -> bool:
    """Whether there are such a class and such statistics, and a process may have the one and read the other."""
    try:
        before = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setscheduler(0, before, os.sched_param(0))
        return int(Path("/proc/thread-self/schedstat").read_text().split()[2]) > 0
    except (AttributeError, OSError, ValueError):
        return False


pytestmark = pytest.mark.skipif(not _can_be_had(), reason="needs SCHED_BATCH and schedstat, which Linux has")

_PATIENCE_SECONDS = 60
_POLL_SECONDS = 0.02
_CALLS = 50


@contextlib.contextmanager
def _waking() -> Iterator[threading.Thread]:
    """A thread that wakes up all the time."""
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
    """A process that never rests for every core."""
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


def test_of_the_server_the_polling_thread_alone_defers(policies, tmp_path):
    with running(policies, tmp_path) as server, PolicyClient(server.target, "discrete") as client:
        for _ in range(_CALLS):
            client.act(np.zeros(4, np.float32))
        assert server.process.pid not in _deferring(server)  # the main thread is the event loop's
        wait_until(lambda: len(_deferring(server)) == 1, _PATIENCE_SECONDS)  # others may want the cores meanwhile
        assert server.stop() == 0


def test_the_class_that_an_operator_has_chosen_stays(policies, tmp_path):
    prelude = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"
    with running(policies, tmp_path, prelude=prelude) as server:
        classes = {os.sched_getscheduler(thread) for thread in _threads(server)}
        assert classes == {os.SCHED_IDLE}


def test_it_defers_no_more_once_that_keeps_it_waiting_and_tries_again_later():
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


def test_a_thread_that_is_gone_ends_it_quietly():
    async def watch() -> None:
        with _waking() as thread:
            deferring = asyncio.create_task(defer(thread))
            await _until(thread, os.SCHED_BATCH)
        await asyncio.wait_for(deferring, _PATIENCE_SECONDS)

    asyncio.run(watch())
