"""The yardstick of `bench submit`: a bare gRPC server that parses the same messages and answers.

The same TLS, options and event loop as the control plane's main port; no caller is looked at,
nothing is checked, kept or written. Run as `python -m bench.submit_echo CREDENTIALS`; prints its
port.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from scheduler.runtime import event_loop
from sovapi.v1 import jobs_pb2
from sovshared import tls

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
JOB_ID = "job-aaaaaaaaaaaaa"


async def submit(request: jobs_pb2.SubmitRequest, _context: Context) -> jobs_pb2.SubmitResponse:
    """One answer to one request, as large as if it had been accepted."""
    job = jobs_pb2.Job(id=JOB_ID, name=request.spec.name, spec=request.spec)
    return jobs_pb2.SubmitResponse(job=job)


async def submit_many(
    requests: AsyncIterator[jobs_pb2.SubmitManyRequest], _context: Context
) -> jobs_pb2.SubmitManyResponse:
    """A result for each, in one answer."""
    results: list[jobs_pb2.SubmitResult] = []
    async for message in requests:
        results += [jobs_pb2.SubmitResult(job_id=JOB_ID) for _ in message.requests]
    return jobs_pb2.SubmitManyResponse(results=results)


HANDLERS = {
    "Submit": grpc.unary_unary_rpc_method_handler(
        submit,
        request_deserializer=jobs_pb2.SubmitRequest.FromString,
        response_serializer=jobs_pb2.SubmitResponse.SerializeToString,
    ),
    "SubmitMany": grpc.stream_unary_rpc_method_handler(
        submit_many,
        request_deserializer=jobs_pb2.SubmitManyRequest.FromString,
        response_serializer=jobs_pb2.SubmitManyResponse.SerializeToString,
    ),
}


async def serve(credentials: Path) -> None:
    """Serves until the process is ended."""
    server = grpc.aio.server(options=tls.server_options())
    service = grpc.method_handlers_generic_handler("sovapi.v1.JobService", HANDLERS)
    server.add_generic_rpc_handlers((service,))
    demanded = tls.server_credentials(credentials, tls.ClientCertificates.REQUIRED)
    port = server.add_secure_port("127.0.0.1:0", demanded)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    event_loop.run(serve(Path(sys.argv[1])))
