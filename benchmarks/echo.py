"""The upper bound: a bare ``grpc.aio`` server that decodes a request and returns a constant response."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from pgkeras.v1 import service_pb2, service_pb2_grpc


async def _serve(response: service_pb2.ActResponse) -> None:
    class Echo(service_pb2_grpc.PolicyServiceServicer):
        async def Act(self, request: service_pb2.ActRequest, context: Any) -> service_pb2.ActResponse:  # noqa: N802
            return response

        async def Play(self, requests: AsyncIterator[service_pb2.PlayRequest], context: Any) -> None:  # noqa: N802
            async for _ in requests:
                await context.write(played)

    played = service_pb2.PlayResponse(id=1, act=response)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    service_pb2_grpc.add_PolicyServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(service_pb2.ActResponse.FromString(bytes.fromhex(sys.argv[1]))))
