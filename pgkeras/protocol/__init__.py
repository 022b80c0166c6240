"""The protocol ``pgkeras.v1``: Python values to messages and back, and errors to gRPC status codes and back.

``wire.py`` is the one codec; start there. ``values.py`` adds observations made of parts, ``status.py`` the errors.
Client and server share this room, so nothing here opens a connection or knows a policy.
"""
