"""pgkeras: train policies with REINFORCE in TensorFlow/Keras, serve them over gRPC to simulators in any language.

::

    import pgkeras

    pgkeras.train("CartPole-v1", seed=0).export("saved_models")

    with pgkeras.PolicyClient("localhost:50051") as client:
        actions = client.act([0.0, 0.0, 0.0, 0.0])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgkeras.callbacks import Callback
    from pgkeras.client import PolicyClient
    from pgkeras.config import Config
    from pgkeras.connection import Tls
    from pgkeras.errors import PgkerasError
    from pgkeras.training import Training, train

__version__ = "0.1.0"

__all__ = ["Callback", "Config", "PgkerasError", "PolicyClient", "Tls", "Training", "__version__", "train"]

# Imported when first used, so that the light client never waits for TensorFlow.
_HOMES = {
    "Callback": "pgkeras.callbacks",
    "Config": "pgkeras.config",
    "PgkerasError": "pgkeras.errors",
    "PolicyClient": "pgkeras.client",
    "Tls": "pgkeras.connection",
    "Training": "pgkeras.training",
    "train": "pgkeras.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pgkeras' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
