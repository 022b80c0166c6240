"""Alarms: they interrupt, leave no trace, and nest."""

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
def _nobody_has_the_alarm() -> Iterator[None]:
    """Takes it from pytest for the length of a test."""
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
    def ring() -> None:
        raise error

    return ring


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not ring"
        time.sleep(0.001)


def assert_no_trace() -> None:
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_is_in_time_returns() -> None:
    assert call_with_alarm(100.0, raises(Inner), divmod, 7, 2) == (3, 1)
    assert_no_trace()


@pytest.mark.parametrize(("interval", "times"), [(0.0, 1), (0.01, 3)])
def test_it_rings_once_or_again_and_again(interval: float, times: int) -> None:
    rung: list[bool] = []
    call_with_alarm(0.01, lambda: rung.append(True), wait_for, lambda: len(rung) >= times, interval=interval)
    assert_no_trace()


def test_what_it_raises_interrupts() -> None:
    with pytest.raises(Inner):
        call_with_alarm(0.01, raises(Inner), time.sleep, 60)
    assert_no_trace()


def test_one_that_rings_as_the_call_ends_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    set_timer = signal.setitimer

    def ringing(*arguments: Any) -> Any:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGALRM)
        return set_timer(*arguments)

    call_with_alarm(100.0, raises(Inner), monkeypatch.setattr, signal, "setitimer", ringing)
    assert signal.setitimer is set_timer, "it did not ring"
    assert_no_trace()


def test_the_outer_of_two_goes_on_after_the_inner_one() -> None:
    def inner() -> None:
        with pytest.raises(Inner):
            call_with_alarm(0.01, raises(Inner), time.sleep, 60)
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left <= 100 - 0.01  # the time that the inner one took counts
        assert interval == 7.0
        signal.raise_signal(signal.SIGALRM)  # as if it were over

    with pytest.raises(Outer):
        call_with_alarm(100.0, raises(Outer), inner, interval=7.0)
    assert_no_trace()


def test_the_outer_of_two_that_is_due_meanwhile_rings_after_the_inner_one() -> None:
    slept: list[bool] = []

    def sleep() -> None:
        time.sleep(0.05)
        slept.append(True)

    def inner() -> None:
        call_with_alarm(100.0, raises(Inner), sleep)
        wait_for(lambda: False)  # it may ring a moment later

    with pytest.raises(Outer):
        call_with_alarm(0.01, raises(Outer), inner)
    assert slept
    assert_no_trace()


def test_it_is_free_in_the_main_thread_where_nobody_handles_it() -> None:
    assert is_alarm_free()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert has_alarms()
    assert not is_alarm_free()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(has_alarms()))
    thread.start()
    thread.join(60)
    assert found == [False]
