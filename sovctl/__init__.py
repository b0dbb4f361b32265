"""The SDK and command line of tenants and operators; imports neither ray nor sqlalchemy.

from sovctl import Client, JobSpec, Resources

with Client() as client:
    job = client.submit(JobSpec(name="hello", command="echo hello", resources=Resources()))
    for chunk in job.logs(follow=True):
        print(chunk.data.decode(), end="")
    job.wait(check=True)
"""

from sovctl.async_client import AsyncClient
from sovctl.async_jobs import AsyncJob, Forecast, SubmitOutcome
from sovctl.client import Client, Job
from sovctl.commands import CommandResult
from sovctl.config import Context
from sovctl.errors import (
    BundleError,
    ConfigError,
    DeadlineError,
    Denial,
    InternalError,
    InvalidArgumentError,
    JobFailedError,
    NotFoundError,
    PermissionDeniedError,
    RefusedError,
    SovError,
    SpecError,
    UnauthenticatedError,
    UnavailableError,
)
from sovctl.logs import LogChunk
from sovctl.results import AttemptInfo, JobInfo, RankInfo
from sovctl.spec import (
    Array,
    Dependency,
    Input,
    JobSpec,
    Output,
    Preemption,
    Residency,
    Resources,
    Retries,
    SignalBeforeEnd,
    Spread,
    Topology,
)

__all__ = [
    "Array",
    "AsyncClient",
    "AsyncJob",
    "AttemptInfo",
    "BundleError",
    "Client",
    "CommandResult",
    "ConfigError",
    "Context",
    "DeadlineError",
    "Denial",
    "Dependency",
    "Forecast",
    "Input",
    "InternalError",
    "InvalidArgumentError",
    "Job",
    "JobFailedError",
    "JobInfo",
    "JobSpec",
    "LogChunk",
    "NotFoundError",
    "Output",
    "PermissionDeniedError",
    "Preemption",
    "RankInfo",
    "RefusedError",
    "Residency",
    "Resources",
    "Retries",
    "SignalBeforeEnd",
    "SovError",
    "SpecError",
    "Spread",
    "SubmitOutcome",
    "Topology",
    "UnauthenticatedError",
    "UnavailableError",
]
