"""Decodes and checks the requests for one policy, encodes its responses, and seals memory states.

Start with ``act.py`` (one request) and ``steps.py`` (one message of a session). This package depends neither on gRPC
nor on batching.
"""
