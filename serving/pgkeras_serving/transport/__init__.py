"""Everything that knows grpcio: the servicer, errors to status, access, TLS, tokens, limits.

Start with ``servicer.py``; ``front.py`` owns grpcio's server. Nothing below this room imports grpc.
"""
