"""Minimal HTTP server for a few small pages: GET and HEAD only, one request per connection.

h11 parses and writes the messages. The server shares the event loop with the policies. It therefore limits the size of
a request, the time to receive it and to send the response, and the number of connections.
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

_MAX_BYTES = 16384
_SECONDS = 10.0
_MAX_CONNECTIONS = 64

_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    # The pages have no scripts and no external resources. If one were ever injected, the browser would not run it.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request.

    Args:
        path: The path, without the query.
        headers: Headers by lowercase name. Of a repeated header, the last one.
    """

    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class HttpResponse:
    """An HTTP response.

    Args:
        status: The status.
        body: The body.
        kind: The Content-Type.
        headers: Additional headers.
    """

    status: HTTPStatus
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


def connection_handler(
    handler: Handler,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Returns a callback for ``asyncio.start_server`` that serves one connection.

    Args:
        handler: Answers requests. Must not block the event loop.
    """
    open_connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_connections
        open_connections += 1
        try:
            async with asyncio.timeout(_SECONDS):
                if open_connections > _MAX_CONNECTIONS:
                    return
                await _serve(reader, writer, handler)
        except (TimeoutError, OSError):
            pass  # the client is too slow or has disconnected
        except asyncio.CancelledError:
            pass  # the server is stopping; up to Python 3.11, asyncio would log this as an error
        finally:
            open_connections -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    return handle


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    has_body = True
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_BYTES)
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(_MAX_BYTES))
    except h11.RemoteProtocolError as error:
        response = _refusal(HTTPStatus(error.error_status_hint), f"This is no HTTP/1.1 request: {error}.")
    else:
        if not isinstance(event, h11.Request):  # the connection was closed without a request
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
