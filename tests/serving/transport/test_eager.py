"""What is begun now and awaited later, beside the same thing awaited at once."""

from __future__ import annotations

import asyncio

import pytest
from pgkeras_serving.transport.eager import EagerTask


def test_it_runs_at_once_up_to_where_it_waits_and_the_rest_when_it_is_awaited():
    async def main():
        door = asyncio.get_running_loop().create_future()
        log = []

        async def through():
            log.append("begun")
            log.append(await door)
            await asyncio.sleep(0)
            log.append("through")

        begun = EagerTask(through())
        log.append("meanwhile")
        asyncio.get_running_loop().call_soon(door.set_result, "open")
        await begun
        await begun  # again: it is over
        return log

    assert asyncio.run(main()) == ["begun", "meanwhile", "open", "through"]


def test_what_is_over_when_it_is_awaited_takes_no_turn_of_the_loop():
    async def main():
        door, log = asyncio.get_running_loop().create_future(), []

        async def through():
            await door

        begun, nothing, at_once = EagerTask(through()), EagerTask(), EagerTask(_nothing())
        door.set_result(None)
        asyncio.get_running_loop().call_soon(log.append, "a turn")
        for awaitable in (begun, nothing, at_once):
            await awaitable
        return list(log)  # as it is now: ending the loop takes turns

    assert asyncio.run(main()) == []


async def _nothing():
    pass


def test_a_failure_is_raised_where_it_comes():
    async def main():
        door = asyncio.get_running_loop().create_future()

        async def through():
            await door

        async def at_once():
            raise KeyError

        begun = EagerTask(through())
        door.set_exception(ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            await begun
        with pytest.raises(KeyError):
            EagerTask(at_once())

    asyncio.run(main())


def test_cancelling_who_awaits_it_cancels_what_it_waits_for():
    async def main():
        door = asyncio.get_running_loop().create_future()

        async def through():
            await door

        async def waiter():
            await EagerTask(through())

        task = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return door.cancelled()

    assert asyncio.run(main())
