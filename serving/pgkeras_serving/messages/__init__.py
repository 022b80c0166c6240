"""Bytes to arrays and back, for one policy: requests checked, responses encoded, states sealed.

Start with ``act.py`` (one request) and ``steps.py`` (one message of a session). Knows neither gRPC nor how a batch
is computed.
"""
