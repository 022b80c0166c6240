"""Bundles on the Hugging Face Hub: ``hub.py`` pushes and pulls them, ``card.py`` writes the page that describes one.

No TensorFlow: what is pulled can be served or played without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.hub.card import card
    from pgkeras.hub.hub import pull, push, stage

__all__ = ["card", "pull", "push", "stage"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {"card": "pgkeras.hub.card", "pull": "pgkeras.hub.hub", "push": "pgkeras.hub.hub", "stage": "pgkeras.hub.hub"},
)
