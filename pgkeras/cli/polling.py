"""Configures the thread in which gRPC reads from connections."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping

__all__ = ["read_where_polled"]

_VARIABLE = "GRPC_EXPERIMENTS"
_EVENT_ENGINE_OFF = "-event_engine_client,-event_engine_listener"
# gRPC logs an error for unknown experiments, and later versions may remove these.
_LAST_TRIED = (1, 85)


def read_where_polled(environment: MutableMapping[str, str]) -> None:
    """Makes gRPC read from connections in the polling thread instead of an event engine's thread.

    This saves one thread switch per message. It takes effect only before grpc is imported. It changes nothing if the
    variable is already set, or on systems and gRPC versions with which it was not tested.

    Args:
        environment: The process's environment variables.
    """
    from importlib import metadata  # a slow import that --help does not need

    try:
        major, minor, *_ = metadata.version("grpcio").split(".")
    except metadata.PackageNotFoundError:  # reported where grpc is imported
        return
    if sys.platform == "linux" and (int(major), int(minor)) <= _LAST_TRIED:
        environment.setdefault(_VARIABLE, _EVENT_ENGINE_OFF)
