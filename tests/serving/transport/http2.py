"""Encodes HTTP/2 frames by hand, for clients that misbehave in ways that no library allows."""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, CONTINUATION = 0x0, 0x1, 0x4, 0x9
END, ACKNOWLEDGED, LAST_HEADERS = 0x1, 0x1, 0x4  # flags of DATA, SETTINGS and HEADERS frames


def frame(kind: int, payload: bytes, flags: int = 0, stream: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def call_headers(path: bytes, more: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """The header block of a gRPC call, without compression."""
    pseudo = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
    grpc = [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in [*pseudo, *grpc, *(more or [])])


def _string(text: bytes) -> bytes:
    """An HPACK string literal (RFC 7541, section 5.2) without Huffman coding."""
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    prefix, length = bytearray([127]), length - 127
    while length >= 128:
        prefix.append(length % 128 + 128)
        length //= 128
    return bytes([*prefix, length]) + text
