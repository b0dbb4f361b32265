"""The yardsticks of `bench submit`: a bare gRPC server that parses the same messages and answers;
and, where it is told a file, keeps the rows of each job there before it does (`submit_rows`).

The same TLS, options and event loop as the control plane's main port; no caller is looked at,
nothing is checked. Run as `python -m bench.submit_echo CREDENTIALS [FILE]`; prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from bench.submit_rows import Rows
from scheduler.__main__ import HAND_OVER_S
from scheduler.runtime import event_loop
from sovapi.v1 import jobs_pb2
from sovshared import tls

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
JOB_ID = "job-aaaaaaaaaaaaa"


class Echo:
    """Answers as if every job had been accepted; once it is kept in `rows`, where there are any."""

    def __init__(self, rows: Rows | None) -> None:
        self._rows = rows

    async def submit(
        self, request: jobs_pb2.SubmitRequest, _context: Context
    ) -> jobs_pb2.SubmitResponse:
        """One answer to one request, as large as if it had been accepted."""
        if self._rows is not None:
            await self._rows.keep((request,))
        job = jobs_pb2.Job(id=JOB_ID, name=request.spec.name, spec=request.spec)
        return jobs_pb2.SubmitResponse(job=job)

    async def submit_many(
        self, requests: AsyncIterator[jobs_pb2.SubmitManyRequest], _context: Context
    ) -> jobs_pb2.SubmitManyResponse:
        """A result for each, in one answer."""
        results: list[jobs_pb2.SubmitResult] = []
        kept: list[asyncio.Future[None]] = []
        async for message in requests:
            results += [jobs_pb2.SubmitResult(job_id=JOB_ID) for _ in message.requests]
            if self._rows is not None:
                kept.append(self._rows.keep(message.requests))
        if kept:
            await asyncio.wait(kept)
        return jobs_pb2.SubmitManyResponse(results=results)

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """By method."""
        return {
            "Submit": grpc.unary_unary_rpc_method_handler(
                self.submit,
                request_deserializer=jobs_pb2.SubmitRequest.FromString,
                response_serializer=jobs_pb2.SubmitResponse.SerializeToString,
            ),
            "SubmitMany": grpc.stream_unary_rpc_method_handler(
                self.submit_many,
                request_deserializer=jobs_pb2.SubmitManyRequest.FromString,
                response_serializer=jobs_pb2.SubmitManyResponse.SerializeToString,
            ),
        }


async def serve(credentials: Path, file: Path | None) -> None:
    """Serves until the process is ended."""
    sys.setswitchinterval(HAND_OVER_S)
    server = grpc.aio.server(options=tls.server_options())
    echo = Echo(None if file is None else Rows(file))
    service = grpc.method_handlers_generic_handler("sovapi.v1.JobService", echo.handlers())
    server.add_generic_rpc_handlers((service,))
    demanded = tls.server_credentials(credentials, tls.ClientCertificates.REQUIRED)
    port = server.add_secure_port("127.0.0.1:0", demanded)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    event_loop.run(serve(paths[0], paths[1] if len(paths) > 1 else None))
