"""Alarms interrupt a call, restore the previous state, and can be nested."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgkeras.environments.alarm import call_with_alarm, has_alarms, is_alarm_free

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no alarm signals on Windows")


@pytest.fixture(autouse=True)
def _free_alarm() -> Iterator[None]:
    """Removes pytest's alarm handler and timer during a test."""
    set_timer = signal.setitimer
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    timer = set_timer(signal.ITIMER_REAL, 0.0)
    yield
    signal.signal(signal.SIGALRM, handler)
    set_timer(signal.ITIMER_REAL, *timer)


class Outer(BaseException):
    pass


class Inner(BaseException):
    pass


def raises(error: type[BaseException]) -> Callable[[], None]:
    def on_alarm() -> None:
        raise error

    return on_alarm


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the alarm did not fire"
        time.sleep(0.001)


def assert_alarm_restored() -> None:
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_returns_the_result_of_a_call_within_the_limit() -> None:
    assert call_with_alarm(100.0, raises(Inner), divmod, 7, 2) == (3, 1)
    assert_alarm_restored()


@pytest.mark.parametrize(("interval", "times"), [(0.0, 1), (0.01, 3)])
def test_alarm_fires_once_or_at_every_interval(interval: float, times: int) -> None:
    fired: list[bool] = []
    call_with_alarm(0.01, lambda: fired.append(True), wait_for, lambda: len(fired) >= times, interval=interval)
    assert_alarm_restored()


def test_an_exception_of_the_alarm_interrupts_the_call() -> None:
    with pytest.raises(Inner):
        call_with_alarm(0.01, raises(Inner), time.sleep, 60)
    assert_alarm_restored()


def test_an_alarm_after_the_call_has_returned_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    set_timer = signal.setitimer

    def fire(*arguments: Any) -> Any:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGALRM)
        return set_timer(*arguments)

    call_with_alarm(100.0, raises(Inner), monkeypatch.setattr, signal, "setitimer", fire)
    assert signal.setitimer is set_timer, "the alarm did not fire"
    assert_alarm_restored()


def test_the_outer_timer_continues_after_the_inner_call() -> None:
    def inner() -> None:
        with pytest.raises(Inner):
            call_with_alarm(0.01, raises(Inner), time.sleep, 60)
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left <= 100 - 0.01  # less the time of the inner call
        assert interval == 7.0
        signal.raise_signal(signal.SIGALRM)  # as if the time were over

    with pytest.raises(Outer):
        call_with_alarm(100.0, raises(Outer), inner, interval=7.0)
    assert_alarm_restored()


def test_an_outer_alarm_due_during_the_inner_call_fires_after_it() -> None:
    slept: list[bool] = []

    def sleep() -> None:
        time.sleep(0.05)
        slept.append(True)

    def inner() -> None:
        call_with_alarm(100.0, raises(Inner), sleep)
        wait_for(lambda: False)  # the alarm may fire a moment later

    with pytest.raises(Outer):
        call_with_alarm(0.01, raises(Outer), inner)
    assert slept
    assert_alarm_restored()


def test_alarms_are_free_in_the_main_thread_without_another_handler() -> None:
    assert is_alarm_free()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert has_alarms()
    assert not is_alarm_free()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(has_alarms()))
    thread.start()
    thread.join(60)
    assert found == [False]
