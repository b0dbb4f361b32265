"""The site agent's journal on disk: one file, replaced whole, durable before it is acted upon.

A header line with a checksum, then JSON. A journal that is missing or does not match its checksum
is no journal: the agent starts at generation 0, is sent everything, and learns from the spools what
already runs. An older copy is never used instead: it could bring a forgotten attempt back.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from google.protobuf.message import DecodeError

from agent.site.state import Journal, Memory, Verdict
from sovapi.v1.sitelink_pb2 import AttemptPhase, DesiredAttempt

BYTES_MAX = 256 * 1024 * 1024
MAGIC = "sov-journal 1"
QUARANTINE_SUFFIX = ".damaged"

_log = logging.getLogger(__name__)


class JournalUnwritable(Exception):
    """The journal could not be made durable; the one before it stands."""


class JournalDamaged(Exception):
    """The file holds something else than a whole journal."""


class JournalFile:
    """The journal in one directory. One process at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / "journal"

    def load(self) -> Journal:
        """What was last written; an empty journal if there is none that can be trusted."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Journal()
        try:
            return decode(content)
        except JournalDamaged as damage:
            _log.error("%s: %s; starting without it", self.path, damage)
            self.path.rename(self.path.with_name(self.path.name + QUARANTINE_SUFFIX))
            return Journal()

    def store(self, journal: Journal) -> None:
        """Replace the journal, durably; JournalUnwritable leaves the one before in force."""
        content = encode(journal)
        if len(content) > BYTES_MAX:
            raise JournalUnwritable(f"{len(content)} bytes: allowed at most {BYTES_MAX}")
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise JournalUnwritable(f"{self.path}: {error.strerror}") from error


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def encode(journal: Journal) -> bytes:
    """The bytes of a journal; equal journals have equal bytes."""
    body = json.dumps(
        {
            "epoch": journal.epoch,
            "generation": journal.generation,
            "rows": {key: _encode_row(row) for key, row in sorted(journal.rows.items())},
            "memory": {key: _encode_memory(m) for key, m in sorted(journal.memory.items())},
        },
        separators=(",", ":"),
    ).encode()
    return f"{MAGIC} {hashlib.sha256(body).hexdigest()} {len(body)}\n".encode() + body


def decode(content: bytes) -> Journal:
    """The journal in `content`, or JournalDamaged."""
    header, _, body = content.partition(b"\n")
    if header.decode("ascii", "replace") != (
        f"{MAGIC} {hashlib.sha256(body).hexdigest()} {len(body)}"
    ):
        raise JournalDamaged("its header does not match its content")
    try:
        document = cast("dict[str, Any]", json.loads(body))
        return Journal(
            epoch=int(document["epoch"]),
            generation=int(document["generation"]),
            rows={key: _decode_row(row) for key, row in document["rows"].items()},
            memory={key: _decode_memory(held) for key, held in document["memory"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, DecodeError) as error:
        raise JournalDamaged(f"it cannot be read: {error}") from error


def _encode_row(row: DesiredAttempt) -> str:
    return base64.b64encode(row.SerializeToString(deterministic=True)).decode()


def _decode_row(text: str) -> DesiredAttempt:
    try:
        return DesiredAttempt.FromString(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise JournalDamaged("a row is not base64") from error


def _encode_memory(memory: Memory) -> dict[str, object]:
    verdict = memory.verdict
    return {
        "boots": dict(sorted(memory.boots.items())),
        "unsure": memory.unsure,
        "verdict": verdict
        and {
            "phase": AttemptPhase.Name(verdict.phase),
            "reason": verdict.reason,
            "detail": verdict.detail,
        },
    }


def _decode_memory(document: Mapping[str, Any]) -> Memory:
    verdict = document["verdict"]
    return Memory(
        boots={str(slot): str(boot) for slot, boot in document["boots"].items()},
        unsure=bool(document["unsure"]),
        verdict=verdict
        and Verdict(
            cast("AttemptPhase", AttemptPhase.Value(verdict["phase"])),
            verdict["reason"],
            verdict["detail"],
        ),
    )
