"""pgkeras: train policies with REINFORCE in TensorFlow/Keras, serve them over gRPC to simulators in any language.

::

    import pgkeras

    pgkeras.train("CartPole-v1", seed=0).export("saved_models")

    with pgkeras.PolicyClient("localhost:50051") as client:
        actions = client.act([0.0, 0.0, 0.0, 0.0])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.client.client import PolicyClient
    from pgkeras.client.connection import Tls
    from pgkeras.errors import PgkerasError
    from pgkeras.runs.callbacks import Callback
    from pgkeras.runs.training import Training, train
    from pgkeras.settings.config import Config

__version__ = "0.1.0"

__all__ = ["Callback", "Config", "PgkerasError", "PolicyClient", "Tls", "Training", "__version__", "train"]

# Imported when first used, so that the light client never waits for TensorFlow.
__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Callback": "pgkeras.runs.callbacks",
        "Config": "pgkeras.settings.config",
        "PgkerasError": "pgkeras.errors",
        "PolicyClient": "pgkeras.client",
        "Tls": "pgkeras.client.connection",
        "Training": "pgkeras.runs.training",
        "train": "pgkeras.runs.training",
    },
)
