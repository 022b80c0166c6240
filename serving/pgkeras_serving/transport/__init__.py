"""Everything that knows grpcio: the servicer, errors to status, access, TLS, tokens, limits.

Start with ``servicer.py``; ``grpc_server.py`` owns grpcio's server. Nothing below this room imports grpc.
"""
