"""pgkeras: train policies with REINFORCE in TensorFlow/Keras, serve them over gRPC to simulators in any language."""

from __future__ import annotations

__version__ = "0.1.0"
