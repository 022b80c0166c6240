"""HTTP: a server for a few small pages, which answers GET and HEAD, one request a connection, and nothing else.

It stands beside the event loop's real work, so everything about it is bounded: the request's size, the time that it may
take to come and that the answer may take to leave, and the number of connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

__all__ = ["Handler", "Request", "Response", "connection_handler"]

logger = logging.getLogger(__name__)

_MOST_BYTES = 16384
_SECONDS = 10.0
_MOST_CONNECTIONS = 64

_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    # The pages have no scripts and nothing from elsewhere; should one ever slip in, the browser does not run it.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Request:
    """A request.

    Args:
        path: The path, without the query.
        headers: By name in lower case; of one that came twice, the last.
    """

    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Response:
    """A response.

    Args:
        status: The status.
        body: The body.
        kind: Its Content-Type.
        headers: More headers.
    """

    status: HTTPStatus
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Response]


class _BadRequestError(Exception):
    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.response = Response(status, f"{reason}\n".encode())


def connection_handler(
    handler: Handler,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Serves one connection; the callback of ``asyncio.start_server``.

    Args:
        handler: Answers requests; must not block.
    """
    open_connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_connections
        open_connections += 1
        try:
            async with asyncio.timeout(_SECONDS):
                if open_connections > _MOST_CONNECTIONS:
                    return
                await _serve(reader, writer, handler)
        except (TimeoutError, OSError):
            pass  # the other side is slow, or has left
        finally:
            open_connections -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    return handle


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    has_body = True
    try:
        method, request = _parse(await _head(reader))
        has_body = method != "HEAD"
        response = handler(request)
    except _BadRequestError as error:
        response = error.response
    except Exception:
        logger.exception("a page failed")
        response = Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"This page failed; the server's log has the reason.\n")
    status = response.status
    headers = {"Content-Type": response.kind, "Content-Length": str(len(response.body)), **_HEADERS, **response.headers}
    head = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + (response.body if has_body else b""))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        part = await reader.read(_MOST_BYTES)
        if not part:
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "The request ends before its headers do.")
        head += part
        if len(head) > _MOST_BYTES:
            raise _BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request is too large.")
    return head.partition(b"\r\n\r\n")[0]


def _parse(head: bytes) -> tuple[str, Request]:
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        raise _BadRequestError(HTTPStatus.BAD_REQUEST, "This is no HTTP/1.1 request for a path.")
    if words[0] not in ("GET", "HEAD"):
        raise _BadRequestError(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "A header is malformed.")
        headers[name.lower()] = value.strip()
    return words[0], Request(words[1].partition("?")[0], headers)
