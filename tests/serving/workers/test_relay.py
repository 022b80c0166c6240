"""The relay in front of workers that share a Unix-domain socket, with workers in this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

from pgkeras_serving.process import event_loop
from pgkeras_serving.workers.relay import Relay


@contextlib.asynccontextmanager
async def relaying(directory, worker, numbers=(1, 2)):
    """A relay to workers, which are coroutines that take a number, a reader and a writer."""

    def connected(number):
        return lambda reader, writer: worker(number, reader, writer)

    async with contextlib.AsyncExitStack() as stack:
        for number in numbers:
            server = await asyncio.start_unix_server(connected(number), directory / str(number))
            stack.callback(server.close)
        relay = Relay(lambda: [directory / str(number) for number in numbers])
        await relay.start(directory / "relay")
        stack.callback(relay.stop)
        yield relay


def connection(directory):
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(directory / "relay"))
    return client


def run(main):
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(main)


def test_simultaneous_connections_are_distributed_evenly(tmp_path):
    async def main():
        taken = Counter()

        async def worker(number, reader, writer):
            taken[number] += 1
            writer.write(b"hello")
            await reader.read()
            writer.close()

        async with relaying(tmp_path, worker) as relay:
            clients = [connection(tmp_path) for _ in range(16)]  # before the relay accepts the first
            while taken.total() < 16:
                await asyncio.sleep(0.01)
            for client in clients:
                client.close()
            while any(relay._open.values()):
                await asyncio.sleep(0.01)
        return taken

    assert run(main()) == {1: 8, 2: 8}


def test_a_client_that_disconnects_during_a_response_is_no_error(tmp_path):
    async def main():
        errors = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "1"))
            listening.listen()
            listening.setblocking(False)
            async with relaying(tmp_path, None, []) as relay:
                relay._targets = lambda: [tmp_path / "1"]
                client = connection(tmp_path)
                worker, _ = await loop.sock_accept(listening)
                worker.send(b"greeting")
                await asyncio.to_thread(client.recv, 1)
                client.close()
                with contextlib.suppress(OSError):
                    while any(relay._open.values()):
                        worker.send(b"answer")
                        await asyncio.sleep(0)
                worker.close()
        return errors

    assert run(main()) == []
