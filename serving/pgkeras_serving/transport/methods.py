"""Registers a servicer's methods with grpcio, which passes each request on as bytes."""

from __future__ import annotations

from typing import Any

import grpc

__all__ = ["generic_handler"]


def generic_handler(service: Any, servicer: Any) -> grpc.GenericRpcHandler:
    """Builds grpcio's generic handler for a servicer.

    Args:
        service: The service's descriptor.
        servicer: Has a method for each of its methods, which takes and gives bytes.
    """
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers: dict[str, Any] = {
        method.name: kinds[method.client_streaming, method.server_streaming](getattr(servicer, method.name))
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)
