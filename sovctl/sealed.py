"""Sealing what leaves this machine with the tenant's key: bundles, secrets, tickets for work."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from sovapi.v1 import jobs_pb2
from sovctl.bundle import MEMORY_BYTES_MAX, Bundle, digest_of
from sovctl.errors import BundleError, ConfigError, InternalError, InvalidArgumentError
from sovshared import key_service, limits, sealing
from sovshared.checkpoint_keys import CheckpointOpener
from sovshared.key_service import KeysInvalid
from sovshared.sealing import Header, SealInvalid, TenantKey


def key_at(place: str) -> TenantKey:
    """The key of the key service at `place`."""
    try:
        return key_service.service_of(place).key()
    except KeysInvalid as error:
        raise ConfigError(str(error)) from None


def seal_bundle(made: Bundle, key: TenantKey) -> tuple[Bundle, Header]:
    """The same bundle, sealed; `made` is closed by whoever made it."""
    made.file.seek(0)
    file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX)  # noqa: SIM115 - the bundle's
    try:
        header = sealing.seal(made.file, file, key, sealing.BUNDLE, "")
        size_bytes = file.tell()
        _check_size(size_bytes)
        return Bundle(file, digest_of(file), size_bytes, made.entries), header
    except BaseException:
        file.close()
        raise


def _check_size(size_bytes: int) -> None:
    if size_bytes > limits.BUNDLE_BYTES_MAX:
        allowed = f"allowed {limits.BUNDLE_BYTES_MAX}"
        raise BundleError(f"working_dir: found {size_bytes} bytes when sealed, {allowed}")


def seal_secret(name: str, value: bytes, key: TenantKey) -> bytes:
    """A secret's value, for this name alone."""
    if not 1 <= len(value) <= sealing.SECRET_BYTES_MAX:
        allowed = f"allowed 1 to {sealing.SECRET_BYTES_MAX}"
        raise InvalidArgumentError(f"value: found {len(value)} bytes, {allowed}")
    try:
        value.decode()
    except UnicodeDecodeError:
        raise InvalidArgumentError("value: found no UTF-8, allowed text") from None
    target = io.BytesIO()
    sealing.seal(io.BytesIO(value), target, key, sealing.SECRET, sealing.opaque(name))
    return target.getvalue()


def put_ticket(spec: jobs_pb2.JobSpec, key: TenantKey, bundle: Header | None) -> None:
    """Says, to the key service and to nobody else, that this work is ours."""
    spec.key_ticket = key.ticket(_work_of(spec), bundle)


def open_checkpoint(sealed: Path, spec: jobs_pb2.JobSpec, job_id: str, key: TenantKey) -> Path:
    """Opens a checkpoint of a job of ours beside itself, as a tar; where it is.

    Raises:
        InternalError: It is not what the job's nodes sealed.
    """
    opener = CheckpointOpener(key.checkpoint_secret(_work_of(spec), job_id))
    target = sealed.with_suffix(".tar")
    part = target.with_name(f".{target.name}.part")
    try:
        with sealed.open("rb") as source, part.open("wb") as plain:
            header = sealing.read_header(source)
            for chunk in sealing.unseal(source, header, opener.unwrap(header)):
                plain.write(chunk)
        part.replace(target)
    except SealInvalid as error:
        raise InternalError(f"{sealed}: {error}") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def _work_of(spec: jobs_pb2.JobSpec) -> bytes:
    return sealing.work_of(
        command=list(spec.command),
        env=dict(spec.env),
        bundle_digest=spec.bundle_digest,
        image=spec.image,
        secrets={variable: sealing.opaque(name) for variable, name in spec.secrets.items()},
        egress=list(spec.egress),
    )
