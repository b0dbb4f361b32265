"""Where a tenant's key is, and when it is given out: the port, and the file-backed service of it.

A key service belongs to a tenant. It is asked by nodes, with the grant that placed the work and the
work itself, and gives out a data key only if the grant is real and in its time, the work is what
was granted, the tenant's ticket is on it, and what is to be opened belongs to that work. It keeps
a receipt of each release, where the tenant can read it and the operators cannot rewrite it.

`FileKeys` is for tests and development: the wrapping key lies in a directory that the nodes can
read. For anything else a service of the tenant's own answers `release`, over whatever it speaks.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from sovshared import grants, pki, sealing
from sovshared.grants import GrantInvalid, GrantTrust
from sovshared.sealing import Header, SealInvalid, TenantKey

SCHEME = "file:"
KEY_FILE = "key.json"
TRUST_FILE = "trust.pem"
WITHHELD_FILE = "withheld"
RECEIPTS_FILE = "receipts.jsonl"
KEY_FILE_BYTES_MAX = 4096


class KeyWithheld(Exception):
    """No data key is given out; the message says why, and nothing that is secret."""


class KeysInvalid(ValueError):
    """A key service that cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a node shows: the grant, the work as it would be run, the tenant's ticket, and the
    headers of its sealed bundle (None: none) and of what is to be opened now."""

    grant: bytes
    slot: str
    command: list[str]
    env: Mapping[str, str]
    bundle_digest: str
    image: str
    secrets: Mapping[str, str]
    egress: Sequence[str]
    inputs: Sequence[Sequence[str]]
    outputs: Sequence[Sequence[str]]
    ticket: bytes
    bundle: Header | None
    wanted: Header


class KeyService(Protocol):
    """What nodes ask for data keys."""

    def key_ids(self) -> frozenset[str]:
        """The keys that this service has."""
        ...

    def release(self, asking: Asking, now_ms: int) -> bytes:
        """The data key, or KeyWithheld. `now_ms` is UTC."""
        ...


class FileKeys:
    """A key in a directory: `key.json` (0600), `trust.pem` with the CAs whose grants count. A file
    `withheld` there withholds it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._trust = GrantTrust(directory / TRUST_FILE)

    def key(self) -> TenantKey:
        """The wrapping key, for its owner."""
        path = self._directory / KEY_FILE
        try:
            document: dict[str, Any] = json.loads(path.read_bytes()[:KEY_FILE_BYTES_MAX])
            key = TenantKey(
                str(document["key_id"]), base64.b64decode(document["key"], validate=True)
            )
        except OSError as error:
            raise KeysInvalid(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise KeysInvalid(f"{path}: found no key, allowed key_id and key") from error
        if len(key.key) != sealing.KEY_BYTES:
            raise KeysInvalid(f"{path}: key: allowed {sealing.KEY_BYTES} bytes in base64")
        return key

    def key_ids(self) -> frozenset[str]:
        """The one there is; none while it cannot be read."""
        try:
            return frozenset({self.key().key_id})
        except KeysInvalid:
            return frozenset()

    def release(self, asking: Asking, now_ms: int) -> bytes:
        """The data key, if all that is shown belongs together and the tenant lets it."""
        if (self._directory / WITHHELD_FILE).exists():
            raise KeyWithheld("its owner withholds the key")
        try:
            key = self.key()
            opened = self._trust.open(asking.grant)
            grants.check_time(opened, now_ms)
            work = check(key, opened.grant.work_digest, opened.grant.job_id, asking)
            if asking.wanted.purpose == sealing.CHECKPOINT:
                data_key = key.checkpoint_secret(work, opened.grant.job_id)
            else:
                data_key = key.unwrap(asking.wanted)
        except (GrantInvalid, KeysInvalid, SealInvalid) as error:
            raise KeyWithheld(str(error)) from error
        slots = [node.slot for node in opened.grant.nodes]
        if asking.slot not in slots:
            raise KeyWithheld(f"not granted for {asking.slot}")
        self._keep_receipt(asking, opened, now_ms)
        return data_key

    def _keep_receipt(self, asking: Asking, opened: grants.Opened, now_ms: int) -> None:
        """Durably, before the key is out: a release that cannot be written down is none."""
        receipt = {
            "at_ms": now_ms,
            "job": opened.grant.job_id,
            "attempt": opened.grant.attempt,
            "site": opened.grant.site,
            "slot": asking.slot,
            "purpose": asking.wanted.purpose,
            "name": asking.wanted.name,
            "grant": sha256(asking.grant).hexdigest(),
        }
        line = json.dumps(receipt, sort_keys=True, separators=(",", ":")) + "\n"
        path = self._directory / RECEIPTS_FILE
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise KeyWithheld(f"{path.name}: {error.strerror}") from error


def check(key: TenantKey, granted: bytes, job_id: str, asking: Asking) -> bytes:
    """The digest of the work as its tenant asked for it. Raises KeyWithheld unless the work is the
    granted one, the tenant's, and what is to be opened is of it, or the checkpoints of `job_id`,
    which the grant names. Every key service has to ask the same."""
    work = grants.work_digest(
        command=asking.command,
        env=asking.env,
        bundle_digest=asking.bundle_digest,
        image=asking.image,
        secrets=asking.secrets,
        egress=asking.egress,
        inputs=asking.inputs,
        outputs=asking.outputs,
    )
    if work != granted:
        raise KeyWithheld("the work is not what was granted")
    asked = sealing.work_of(
        command=asking.command,
        env=asking.env,
        bundle_digest=asking.bundle_digest,
        image=asking.image,
        secrets=asking.secrets,
        egress=asking.egress,
    )
    if not hmac.compare_digest(asking.ticket, key.ticket(asked, asking.bundle)):
        raise KeyWithheld("the key's owner did not ask for this work: no ticket of theirs is on it")
    allowed = {
        sealing.SECRET: asking.secrets.values(),
        sealing.CHECKPOINT: (job_id,),
    }.get(asking.wanted.purpose, ())
    if asking.wanted != asking.bundle and asking.wanted.name not in allowed:
        raise KeyWithheld("what is to be opened does not belong to the work")
    return asked


def found(directory: Path, trust_pem: bytes, key_id: str, key: bytes) -> FileKeys:
    """Makes a file-backed key service in `directory`; there must be none yet."""
    if (directory / KEY_FILE).exists():
        raise KeysInvalid(f"{directory}: there is a key already")
    grants.roots_in(trust_pem)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki.write_private(directory / TRUST_FILE, trust_pem)
    document = {"key": base64.b64encode(key).decode(), "key_id": key_id}
    pki.write_private(directory / KEY_FILE, json.dumps(document).encode())
    return FileKeys(directory)


def service_of(place: str) -> FileKeys:
    """The key service at `place`, such as "file:/etc/sov/keys"."""
    if not place.startswith(SCHEME) or not place.removeprefix(SCHEME):
        raise KeysInvalid(f"key service: found {place[:200]!r}, allowed {SCHEME}DIRECTORY")
    return FileKeys(Path(place.removeprefix(SCHEME)))
