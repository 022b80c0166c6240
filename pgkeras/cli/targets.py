"""Where a policy is: on disk, or behind a server."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["is_address"]

_ADDRESS = re.compile(r"(\[[^\]]+\]|[^/\\:]+):\d{1,5}")


def is_address(target: str) -> bool:
    """Whether ``target`` is HOST:PORT rather than a path."""
    return _ADDRESS.fullmatch(target) is not None and not Path(target).exists()
