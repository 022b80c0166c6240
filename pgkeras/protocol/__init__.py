"""Codec of the protocol ``pgkeras.v1``: converts Python values to messages, and errors to gRPC status codes.

Start with ``wire.py``. ``values.py`` adds structured observations, and ``status.py`` converts errors. Client and server
share this package, so it opens no connections and depends on no policy.
"""
