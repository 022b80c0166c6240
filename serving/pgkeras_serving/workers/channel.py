"""Channel: questions and replies between a supervisor and one of its workers, over a pair of sockets.

Both ends are processes of one release that the supervisor has started, so objects are pickled.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from pgkeras import errors
from pgkeras.errors import BundleError, PgkerasError, PolicyServiceError

__all__ = ["Channel", "WorkerLostError"]

logger = logging.getLogger(__name__)

_LOST = "a worker has ended; what it wrote before says why"
_LENGTH = struct.Struct("<Q")


class WorkerLostError(PgkerasError):
    """The other end is gone."""


class Channel:
    """One end of it. Either end may ask; replies come in any order.

    Args:
        reader: Of the socket.
        writer: Of the socket.
        answer: Answers a question; a :class:`pgkeras.errors.PgkerasError` that it raises is raised at the other end.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[Any], Awaitable[Any]]
    ) -> None:
        self._reader, self._writer, self._answer = reader, writer, answer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, end: socket.socket, answer: Callable[[Any], Awaitable[Any]]) -> Channel:
        """A channel on one end of a pair of sockets."""
        return cls(*await asyncio.open_unix_connection(sock=end), answer)

    @property
    def is_open(self) -> bool:
        """Whether the other end is there."""
        return not self._reading.done()

    async def ask(self, question: Any) -> Any:
        """Asks, and waits for the reply.

        Raises:
            WorkerLostError: The other end is gone, or goes before it replies.
            PgkerasError: The other end has refused.
        """
        if not self.is_open:
            raise WorkerLostError(_LOST)
        number = next(self._numbers)
        reply = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send(number, True, question)
        return await reply

    async def closed(self) -> None:
        """Waits until the other end is gone."""
        await asyncio.wait([self._reading])

    def _send(self, number: int, is_question: bool, content: Any) -> None:
        data = pickle.dumps((number, is_question, content))
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def _read(self) -> None:
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                number, is_question, content = pickle.loads(await self._reader.readexactly(length))
                if is_question:
                    task = asyncio.create_task(self._reply(number, content))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                    continue
                reply = self._asked.pop(number)
                if not reply.done():  # or nobody waits for it any more
                    reply.set_exception(content.error()) if isinstance(content, _Refusal) else reply.set_result(content)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the other end is gone
        finally:
            for reply in self._asked.values():
                if not reply.done():
                    reply.set_exception(WorkerLostError(_LOST))

    async def _reply(self, number: int, question: Any) -> None:
        try:
            content = await self._answer(question)
        except PgkerasError as error:
            content = _Refusal(type(error).__name__, str(error))
        except Exception as error:  # of any kind: who has asked must not wait for ever
            logger.exception("a question of the other process could not be answered")
            content = _Refusal(PgkerasError.__name__, f"{type(error).__name__}: {error}")
        self._send(number, False, content)


class _Refusal:
    """An error as it travels: classes of errors differ in what they are made from."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message

    def error(self) -> PgkerasError:
        kind = getattr(errors, self.kind, PgkerasError)
        if issubclass(kind, BundleError | errors.ConfigError) and not issubclass(kind, PolicyServiceError):
            made: PgkerasError = kind(self.message)
            return made
        return PgkerasError(self.message)
