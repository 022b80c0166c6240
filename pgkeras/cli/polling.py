"""Selects the thread in which gRPC reads from connections."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping

__all__ = ["read_where_polled"]

_VARIABLE = "GRPC_EXPERIMENTS"
_EVENT_ENGINE_OFF = "-event_engine_client,-event_engine_listener"
# Of a name that it does not know, gRPC complains in the log, and one day these will be gone.
_LAST_TRIED = (1, 85)


def read_where_polled(environment: MutableMapping[str, str]) -> None:
    """Makes gRPC read from connections in the thread that polls for events, not in an event engine's thread.

    That is one thread fewer for a message to wake up. It counts only before grpc is imported. Left alone are an
    environment that says something itself, and systems and versions of gRPC that it was not tried with.

    Args:
        environment: The process's environment variables.
    """
    from importlib import metadata  # which takes a while, and --help has no need of it

    try:
        major, minor, *_ = metadata.version("grpcio").split(".")
    except metadata.PackageNotFoundError:  # whoever needs it will say so
        return
    if sys.platform == "linux" and (int(major), int(minor)) <= _LAST_TRIED:
        environment.setdefault(_VARIABLE, _EVENT_ENGINE_OFF)
