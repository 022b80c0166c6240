"""The light client, which needs only NumPy and gRPC.

Start with ``client.py`` (``PolicyClient``, one call per batch of observations), then ``session.py`` (``PlaySession``,
the stream of a simulator). ``connection.py`` handles addresses, TLS and tokens. ``conversion.py`` has the conversions
that calls and sessions share.
"""

from pgkeras.client.client import Actions, EpisodesPlayed, Limits, Mode, Output, PolicyClient, PolicyInfo, Tls
from pgkeras.client.session import PlaySession

__all__ = ["Actions", "EpisodesPlayed", "Limits", "Mode", "Output", "PlaySession", "PolicyClient", "PolicyInfo", "Tls"]
