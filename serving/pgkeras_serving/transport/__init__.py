"""Everything that knows grpcio: the servicer, errors to status, access, TLS, tokens, limits.

Start with ``servicer.py``. Nothing below this room imports grpc.
"""
