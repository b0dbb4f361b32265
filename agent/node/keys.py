"""Opening what a tenant sealed, for one rank: asked of the tenant's key service, with the grant.

A data key lives in this process for as long as it takes to open what it opens, and is kept nowhere.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agent.node.asked import KeysAsked
from sovshared import key_service, sealing
from sovshared.checkpoint_keys import CheckpointOpener
from sovshared.key_service import Asking, KeysInvalid, KeyWithheld
from sovshared.sealing import Header, SealInvalid


class StaysShut(Exception):
    """Something of the rank stays shut, so it does not start; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What a key service is told of a rank."""

    grant: bytes
    slot: str
    command: Sequence[str]
    env: Mapping[str, str]
    bundle_digest: str
    egress: Sequence[str]
    inputs: Sequence[Sequence[str]]
    outputs: Sequence[Sequence[str]]
    keys: KeysAsked
    image: str = ""


class Opener:
    """Opens what belongs to one rank. `services` name the key services that this node may ask."""

    def __init__(
        self, services: Sequence[str], rank: Rank, bundle: IO[bytes] | None, now_ms: int
    ) -> None:
        """`bundle` stands at its beginning, and behind its header afterwards if it is sealed."""
        self._services = services
        self._rank = rank
        self._now_ms = now_ms
        self._bundle = bundle
        self._header = None if bundle is None else _header_of(bundle)

    def secrets(self) -> dict[str, str]:
        """The values of the rank's secrets, by variable."""
        keys, values = self._rank.keys, dict[str, str]()
        for variable, name in sorted(keys["secrets"].items()):
            if variable not in keys["sealed"]:
                raise StaysShut(f"secret {variable}: it is not there any more")
            source = io.BytesIO(base64.b64decode(keys["sealed"][variable]))
            try:
                header = sealing.read_header(source)
                if header.name != name:
                    raise StaysShut(f"secret {variable}: found another one's value")
                data_key = self._ask(header, f"secret {variable}")
                values[variable] = b"".join(sealing.unseal(source, header, data_key)).decode()
            except (SealInvalid, UnicodeDecodeError) as error:
                raise StaysShut(f"secret {variable}: {error}") from error
        return values

    def bundle(self, folder: Path) -> IO[bytes] | None:
        """The bundle as it was before it was sealed: in a file without a name in `folder`."""
        if self._bundle is None or self._header is None:
            return self._bundle
        data_key = self._ask(self._header, "bundle")
        plain = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller's
        try:
            for chunk in sealing.unseal(self._bundle, self._header, data_key):
                plain.write(chunk)
        except SealInvalid as error:
            plain.close()
            raise StaysShut(f"bundle: {error}") from error
        plain.seek(0)
        return plain

    def checkpoints(self, job_id: str) -> CheckpointOpener | None:
        """What opens the job's checkpoints; none where its tenant has no key of its own."""
        if not self._rank.keys["ticket"]:
            return None
        told = ""
        for place in self._services:
            for key_id in sorted(key_service.service_of(place).key_ids()):
                wanted = Header(key_id, sealing.CHECKPOINT, job_id, b"", b"", b"")
                try:
                    return CheckpointOpener(self._ask(wanted, "checkpoints"))
                except StaysShut as error:
                    told = told or str(error)
        raise StaysShut(told or "checkpoints: this node may ask no key service that has a key")

    def _ask(self, wanted: Header, what: str) -> bytes:
        rank = self._rank
        asking = Asking(
            grant=rank.grant,
            slot=rank.slot,
            command=list(rank.command),
            env=rank.env,
            bundle_digest=rank.bundle_digest,
            image=rank.image,
            secrets=rank.keys["secrets"],
            egress=rank.egress,
            inputs=rank.inputs,
            outputs=rank.outputs,
            ticket=base64.b64decode(rank.keys["ticket"]),
            bundle=self._header,
            wanted=wanted,
        )
        try:
            for place in self._services:
                service = key_service.service_of(place)
                if wanted.key_id in service.key_ids():
                    return service.release(asking, self._now_ms)
        except (KeyWithheld, KeysInvalid) as error:
            raise StaysShut(f"{what}: {error}") from error
        raise StaysShut(f"{what}: no key service that this node may ask has key {wanted.key_id}")


def _header_of(bundle: IO[bytes]) -> Header | None:
    """The header of a sealed bundle, None of any other."""
    sealed = sealing.is_sealed(bundle.read(sealing.HEAD_BYTES))
    bundle.seek(0)
    if not sealed:
        return None
    try:
        return sealing.read_header(bundle)
    except SealInvalid as error:
        raise StaysShut(f"bundle: {error}") from error
