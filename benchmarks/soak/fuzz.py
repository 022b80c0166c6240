"""Fuzzing: mutated, truncated and random bytes in calls, sessions and connections, and without the transport."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from pgkeras_serving.policies.store import Store
from pgkeras_serving.sessions.play import Session
from pgkeras_serving.settings.config import ServerConfig

from benchmarks.soak.server import SHIPPED, serving
from pgkeras.errors import InvalidRequestError, PolicyServiceError
from pgkeras.protocol.wire import encode_space, encode_tensor
from pgkeras.spaces import Box, Discrete
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2

__all__ = [
    "Mutator",
    "act_seeds",
    "fuzz",
    "fuzz_calls",
    "fuzz_connections",
    "fuzz_edge",
    "fuzz_sessions",
    "play_seeds",
    "recorded_call",
]

# The status for a request that is not a valid protocol buffer.
_UNPARSED = {"INVALID_ARGUMENT"}
_REFUSED = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
_LENGTHS = (-(2**63), -1, 0, 1, 2, 3, 4, 5, 16, 4096, 4097, 2**31, 2**62, 2**63 - 1)
_TRACES = ("Traceback", 'File "', "site-packages", ".py:")


class Mutator:
    """An endless source of malformed messages.

    Args:
        seeds: Valid messages.
        seed: Seed of the mutations.
        kind: Type of the messages; None if they are not protocol buffers.
    """

    def __init__(self, seeds: list[bytes], seed: int, kind: Any = None) -> None:
        self._seeds = seeds
        self._kind = kind
        self._generator = np.random.default_rng(seed)

    def __call__(self) -> bytes:
        """Returns the next message. 5 % are random; of the others, half have wrong fields and half mutated bytes."""
        integers = self._generator.integers
        if integers(20) == 0:
            return self._generator.bytes(int(integers(200)))
        seed = self._seeds[integers(len(self._seeds))]
        if self._kind is not None and integers(2):
            return self._scrambled(self._kind.FromString(seed))
        data = bytearray(seed)
        for _ in range(integers(1, 4)):
            at = int(integers(len(data) + 1))
            length = int(integers(1, 9))
            kind = integers(7)
            if kind == 0:  # flips a bit
                data[at : at + 1] = bytes(byte ^ 1 << int(integers(8)) for byte in data[at : at + 1])
            elif kind == 1:
                data[at : at + length] = self._generator.bytes(length)
            elif kind == 2:
                del data[at : at + length]
            elif kind == 3:
                data[at:at] = self._generator.bytes(length)
            elif kind == 4:  # truncates the message
                del data[at:]
            elif kind == 5:  # inserts a part of another message
                other = self._seeds[integers(len(self._seeds))]
                start = int(integers(len(other)))
                data[at:at] = other[start : start + 4 * length]
            else:  # writes a huge length or number
                data[at : at + 1] = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
        return bytes(data)

    def _scrambled(self, message: Any) -> bytes:
        """Returns a message with one to three changed fields at any depth."""
        for _ in range(self._generator.integers(1, 4)):
            inner = message
            while True:
                fields = inner.DESCRIPTOR.fields
                field = fields[self._generator.integers(len(fields))]
                if field.message_type is None or field.is_repeated or self._generator.integers(8) == 0:
                    break
                inner = getattr(inner, field.name)
                inner.SetInParent()
            inner.ClearField(field.name)
            if field.message_type is not None:
                continue
            value = self._element(field)
            if field.is_repeated:
                getattr(inner, field.name).extend(
                    [value, *(self._element(field) for _ in range(self._generator.integers(4)))]
                )
            else:
                setattr(inner, field.name, value)
        return bytes(message.SerializeToString())

    def _element(self, field: Any) -> Any:
        integers = self._generator.integers
        if field.type == field.TYPE_BYTES:
            return self._generator.bytes(int(integers(80)))
        if field.type == field.TYPE_STRING:
            return ("", "stable", "../..", "a" * 300, "\x00", "\u00e9\U0001f600")[integers(6)]
        numbers = {
            field.TYPE_ENUM: lambda: int(integers(-2, 16)),
            field.TYPE_UINT64: lambda: int(integers(2**64, dtype=np.uint64)),
            field.TYPE_INT64: lambda: int(_LENGTHS[integers(len(_LENGTHS))]),
            field.TYPE_DOUBLE: lambda: (0.5, -1e308, float("inf"), float("nan"))[integers(4)],
        }
        return numbers.get(field.type, lambda: field.default_value)()


def _value(array: Any) -> tensors_pb2.Value:
    return tensors_pb2.Value(tensor=encode_tensor(np.asarray(array)))


def act_seeds() -> list[bytes]:
    """Returns valid ActRequests to the shipped policy, and some that are invalid in typical ways."""
    one, batch = np.zeros(4, np.float32), np.ones((3, 4), np.float32)
    ref = policy_pb2.PolicyRef(name="cartpole-v1", version=1)
    requests = [
        service_pb2.ActRequest(observation=_value(one)),
        service_pb2.ActRequest(observation=_value(batch), seed=2**64 - 1, outputs=[1, 2, 3, 4, 5], mode=2),
        service_pb2.ActRequest(observation=_value(batch), policy=ref, spec_hash="0" * 64, state=b"abc"),
        service_pb2.ActRequest(observation=_value(batch), action_mask=encode_tensor(np.ones((3, 2), np.bool_))),
        service_pb2.ActRequest(observation=tensors_pb2.Value(texts={"texts": ["a", "b"]})),
        service_pb2.ActRequest(policy=policy_pb2.PolicyRef(label="stable"), observation=_value(np.arange(4))),
    ]
    return [request.SerializeToString() for request in requests]


_SIMULATOR = service_pb2.Simulator(
    observation_space=encode_space(Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))),
    action_space=encode_space(Discrete(2)),
    environments=2,
)


def play_seeds() -> list[bytes]:
    """Returns valid PlayRequests to the shipped policy, first and later ones."""
    flags, rewards = encode_tensor(np.zeros(2, np.bool_)), encode_tensor(np.ones(2, np.float32))
    rows = _value(np.zeros((2, 4), np.float32))
    requests = [
        service_pb2.PlayRequest(id=1, observation=rows, seed=3, outputs=[2, 3]),
        service_pb2.PlayRequest(id=2, observation=rows, reward=rewards, terminated=flags, truncated=flags),
        service_pb2.PlayRequest(
            id=2**63, observation=rows, reward=rewards, terminated=flags, truncated=flags, episode_start=flags, mode=2
        ),
        service_pb2.PlayRequest(id=4, observation=rows, action_mask=encode_tensor(np.ones((2, 2), np.bool_))),
        service_pb2.PlayRequest(id=5, observation=rows, simulator=_SIMULATOR),
    ]
    return [request.SerializeToString() for request in requests]


def _check(code: str, details: str, request: bytes, kind: Any, allowed: set[str]) -> None:
    """Raises AssertionError if the response to a malformed request is wrong."""
    try:
        kind.FromString(request)
        expected = allowed
    except DecodeError:
        expected = _UNPARSED
    if code not in expected:
        raise AssertionError(f"{code} ({details}) for {request.hex()}")
    if any(trace in details for trace in _TRACES):
        raise AssertionError(f"a traceback in the response to {request.hex()}: {details}")


async def fuzz_calls(target: str, count: int, seed: int = 0, in_flight: int = 64) -> Counter[str]:
    """Sends ``count`` malformed requests to Act, and a valid one after every hundred.

    Raises:
        AssertionError: A response was wrong.
    """
    codes: Counter[str] = Counter()
    good = act_seeds()[0]
    async with grpc.aio.insecure_channel(target) as channel:
        act = channel.unary_unary("/pgkeras.v1.PolicyService/Act")

        async def worker(number: int) -> None:
            mutate = Mutator(act_seeds(), seed * in_flight + number, service_pb2.ActRequest)
            for i in range(number, count, in_flight):
                request = mutate()
                try:
                    answer = await act(request, timeout=60)
                    code, details = "OK", ""
                    service_pb2.ActResponse.FromString(answer)
                except grpc.aio.AioRpcError as error:
                    code, details = error.code().name, error.details() or ""
                _check(code, details, request, service_pb2.ActRequest, {"OK"} | _REFUSED)
                codes[code] += 1
                if i % 100 == 0 and not service_pb2.ActResponse.FromString(await act(good, timeout=60)).HasField(
                    "action"
                ):
                    raise AssertionError(f"no action for a valid request after {request.hex()}")

        await asyncio.gather(*map(worker, range(in_flight)))
    return codes


async def fuzz_sessions(target: str, count: int, seed: int = 0, in_flight: int = 16) -> Counter[str]:
    """Sends ``count`` malformed messages in sessions. When one of them ends its session, another is opened.

    Raises:
        AssertionError: A response was wrong, or a session hung.
    """
    codes: Counter[str] = Counter()
    right = play_seeds()
    async with grpc.aio.insecure_channel(target) as channel:
        play = channel.stream_stream("/pgkeras.v1.PolicyService/Play")

        async def worker(number: int) -> None:
            mutate = Mutator(right, seed * in_flight + number, service_pb2.PlayRequest)
            sent, picks = 0, np.random.default_rng(number)
            while sent < count // in_flight:
                stream = play(timeout=60)
                is_open = False
                while True:
                    message = right[min(is_open, 1)] if picks.integers(4) == 0 else mutate()
                    sent += 1
                    try:
                        await stream.write(message)
                        answer = await stream.read()
                    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                        answer = grpc.aio.EOF
                    if answer is grpc.aio.EOF:
                        code, details = (await stream.code()).name, await stream.details() or ""
                        _check(code, details, message, service_pb2.PlayRequest, _REFUSED | _UNPARSED)
                        codes[f"session ended: {code}"] += 1
                        break
                    error = service_pb2.PlayResponse.FromString(answer).error
                    code = code_pb2.Code.Name(error.code)
                    _check(code, error.message, message, service_pb2.PlayRequest, {"OK"} | _REFUSED)
                    is_open |= code == "OK"
                    codes[code] += 1
                    if sent >= count // in_flight:
                        stream.cancel()
                        break

        await asyncio.gather(*map(worker, range(in_flight)))
    return codes


def fuzz_edge(count: int, seed: int = 0) -> Counter[str]:
    """Passes malformed messages that still parse to a policy's codec and to sessions, without the transport.

    Raises:
        Exception: Any other than PolicyServiceError, which is a bug.
    """
    outcomes: Counter[str] = Counter()
    store = Store(ServerConfig(SHIPPED))
    store.load()
    (policy,) = store.policies()
    acts = Mutator(act_seeds(), seed, service_pb2.ActRequest)
    plays = Mutator(play_seeds(), seed, service_pb2.PlayRequest)

    async def act(message: bytes) -> None:
        with contextlib.suppress(DecodeError):
            request = service_pb2.ActRequest.FromString(message)
            try:
                store.resolve(request.policy)
                recalled = policy.codec.recall(message)
                query = policy.codec.decode(request, message)
                if recalled is not None:
                    outcomes["Act: recalled"] += 1
                    np.testing.assert_array_equal(recalled.inputs["observation"], query.inputs["observation"])
                    assert recalled[1:] == query[1:], message
                policy.codec.encode(query, await policy.batcher.submit(query.inputs, query.needs, lambda: "the fuzzer"))
                outcomes["Act: answered"] += 1
            except PolicyServiceError as error:
                outcomes[f"Act: {type(error).__name__}"] += 1

    async def main() -> None:
        session = Session(policy, None)
        for i in range(count):
            if i % 2:
                await act(acts())
                continue
            if i % 200 == 0:
                session = Session(policy, None)
            message = plays()
            try:
                _, number = await session.answer(message)
            except InvalidRequestError:  # not a message
                continue
            code = code_pb2.Code.Name(number)
            if code == "INTERNAL":
                raise AssertionError(f"a session failed on {message!r}")
            outcomes[f"Play: {code}"] += 1

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # like the server process
            asyncio.run(main())
    finally:
        store.close()
    return outcomes


def fuzz_connections(target: str, count: int, seed: int = 0) -> int:
    """Opens ``count`` connections that send malformed HTTP/2: mutated or truncated bytes of a call.

    Returns:
        The number of bytes that were sent.
    """
    host, _, port = target.rpartition(":")
    mutate = Mutator([recorded_call(host, int(port)), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01"], seed)
    sent = 0
    for i in range(count):
        with _connected(host, int(port)) as connection, contextlib.suppress(OSError):
            data = mutate()
            connection.sendall(data)
            sent += len(data)
            if i % 2:
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.05)
                while connection.recv(4096):
                    pass
    return sent


def _connected(host: str, port: int, seconds: float = 30.0) -> socket.socket:
    """Returns a connection. Retries for some seconds, because the server may have to reopen its port."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, port), timeout=20)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def recorded_call(host: str, port: int) -> bytes:
    """Returns the bytes that a gRPC client sends for one call."""
    recorded = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = threading.Thread(target=_relay, args=(listener, host, port, recorded))
        relay.start()
        with grpc.insecure_channel(f"127.0.0.1:{listener.getsockname()[1]}") as channel:
            channel.unary_unary("/pgkeras.v1.PolicyService/Act")(act_seeds()[0], timeout=60)
        relay.join()
    return bytes(recorded)


def _relay(listener: socket.socket, host: str, port: int, recorded: bytearray) -> None:
    client, _ = listener.accept()
    with client, socket.create_connection((host, port)) as server:
        back = threading.Thread(target=lambda: [client.sendall(data) for data in _received(server)])
        back.start()
        for data in _received(client):
            recorded.extend(data)
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)
        back.join()


def _received(connection: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            yield data


def fuzz(scratch: Path, count: int = 100_000) -> dict[str, Any]:
    """Runs all fuzzers against one server: ``count`` inputs each without the transport, as calls and in sessions."""
    with serving(SHIPPED, scratch) as server:
        rss = server.rss_mb()
        found: dict[str, Any] = {
            "past_the_transport": dict(fuzz_edge(count)),
            "calls": dict(asyncio.run(fuzz_calls(server.target, count))),
            "sessions": dict(asyncio.run(fuzz_sessions(server.target, count))),
            "connections": count // 100,
            "connection_bytes": fuzz_connections(server.target, count // 100),
            "afterwards": dict(asyncio.run(fuzz_calls(server.target, 1))),
        }
        log = server.log.read_text()
        found |= {"rss_mb": [rss, server.rss_mb()], "log_bytes": len(log), "exit_status": server.stop()}
        found["tracebacks_of_ours"] = log.count("pgkeras_serving/")
        return found
