"""gRPC transport: servicer, status codes, access control, TLS, tokens and limits.

Start with ``servicer.py``; ``grpc_server.py`` owns grpcio's server. The packages below this one do not import grpc.
"""
