"""HTTP: a server for a few small pages, which answers GET and HEAD, one request a connection, and nothing else.

h11 parses and writes the messages. The server shares the event loop with the policies, so everything about it is
bounded: the size of a request, the seconds for receiving it and sending the response, and the number of connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

__all__ = ["Handler", "HttpRequest", "HttpResponse", "connection_handler"]

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
class HttpRequest:
    """A request.

    Args:
        path: The path, without the query.
        headers: By name in lower case; of one that came twice, the last.
    """

    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class HttpResponse:
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


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


def connection_handler(
    handler: Handler,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Serves one connection; the callback of ``asyncio.start_server``.

    Args:
        handler: Answers requests; must not hold up the event loop.
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
        except asyncio.CancelledError:
            pass  # the server has stopped, which asyncio would log as an error up to Python 3.11
        finally:
            open_connections -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    return handle


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    has_body = True
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_BYTES)
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(_MOST_BYTES))
    except h11.RemoteProtocolError as error:
        response = _refusal(HTTPStatus(error.error_status_hint), f"This is no HTTP/1.1 request: {error}.")
    else:
        if not isinstance(event, h11.Request):  # the connection was closed before a request came
            return
        has_body = event.method != b"HEAD"
        response = await _answer(event, handler)
    headers = {"Content-Type": response.kind, "Content-Length": str(len(response.body)), **_HEADERS, **response.headers}
    head = h11.Response(status_code=response.status, reason=response.status.phrase, headers=[*headers.items()])
    for part in (head, h11.Data(data=response.body if has_body else b""), h11.EndOfMessage()):
        writer.write(connection.send(part) or b"")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _answer(request: h11.Request, handler: Handler) -> HttpResponse:
    if request.http_version not in (b"1.0", b"1.1") or not request.target.startswith(b"/"):
        return _refusal(HTTPStatus.BAD_REQUEST, "This is no HTTP/1.1 request for a path.")
    if request.method not in (b"GET", b"HEAD"):
        return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.", {"Allow": "GET, HEAD"})
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    try:
        return await handler(HttpRequest(request.target.decode("latin-1").partition("?")[0], headers))
    except Exception:
        logger.exception("a page failed")
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "This page failed; the server's log has the reason.")


def _refusal(status: HTTPStatus, reason: str, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status, f"{reason}\n".encode(), headers=headers or {})
