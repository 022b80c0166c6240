"""The light client: NumPy and gRPC, and nothing that trains.

Start with ``client.py`` (``PolicyClient``, one call for a batch of observations), then ``session.py``
(``PlaySession``, one simulator's stream). ``connection.py`` has addresses, TLS and tokens; ``conversion.py`` what
calls and sessions share.
"""

from pgkeras.client.client import Actions, EpisodesPlayed, Limits, Mode, Output, PolicyClient, PolicyInfo, Tls
from pgkeras.client.session import PlaySession

__all__ = ["Actions", "EpisodesPlayed", "Limits", "Mode", "Output", "PlaySession", "PolicyClient", "PolicyInfo", "Tls"]
