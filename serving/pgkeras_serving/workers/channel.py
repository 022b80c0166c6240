"""Channel: requests and replies between the supervisor and a worker, over a socket pair.

Objects are pickled. This is safe because both processes run the same release and were started by the supervisor.
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

_LOST = "a worker has ended; its log says why"
_LENGTH = struct.Struct("<Q")


class WorkerLostError(PgkerasError):
    """The process at the other end of a channel has ended."""


class Channel:
    """One end of a channel. Either end may send requests; replies arrive in any order.

    Args:
        reader: The socket's reader.
        writer: The socket's writer.
        answer: Handles a request. A :class:`pgkeras.errors.PgkerasError` that it raises is raised at the other end.
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
        """Creates a channel on one end of a socket pair."""
        return cls(*await asyncio.open_unix_connection(sock=end), answer)

    @property
    def is_open(self) -> bool:
        """Whether the other end is open."""
        return not self._reading.done()

    async def ask(self, question: Any) -> Any:
        """Sends a request and returns the reply.

        Raises:
            WorkerLostError: The other process has ended, or ends before it replies.
            PgkerasError: The other process has raised it.
        """
        if not self.is_open:
            raise WorkerLostError(_LOST)
        number = next(self._numbers)
        reply = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send(number, True, question)
        return await reply

    async def closed(self) -> None:
        """Waits until the other end is closed."""
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
                if not reply.done():  # it is done if the caller was canceled
                    reply.set_exception(content.error()) if isinstance(content, _Refusal) else reply.set_result(content)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the other end is closed
        finally:
            for reply in self._asked.values():
                if not reply.done():
                    reply.set_exception(WorkerLostError(_LOST))

    async def _reply(self, number: int, question: Any) -> None:
        try:
            content = await self._answer(question)
        except PgkerasError as error:
            content = _Refusal(type(error).__name__, str(error))
        except Exception as error:  # otherwise the other end would wait forever
            logger.exception("a request of the other process failed")
            content = _Refusal(PgkerasError.__name__, f"{type(error).__name__}: {error}")
        self._send(number, False, content)


class _Refusal:
    """An error in transit. Errors are not pickled themselves, because their constructors differ."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message

    def error(self) -> PgkerasError:
        kind = getattr(errors, self.kind, PgkerasError)
        if issubclass(kind, BundleError | errors.ConfigError) and not issubclass(kind, PolicyServiceError):
            made: PgkerasError = kind(self.message)
            return made
        return PgkerasError(self.message)
