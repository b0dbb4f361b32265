"""Backups of the store, in the home zone alone.

A store holds what every tenant did, so where a copy of it lies is a question of law like any other:
each directory that may hold one is declared with its country, and what is not declared, or not at
home, gets none. The keys of the control plane are not in it; they are kept as keys are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scheduler.store import backup
from scheduler.store.store import ReadStore
from sovshared import pki

STORE_FILE = "store.db"
ABOUT_FILE = "backup.json"


class BackupRefused(Exception):
    """Nothing was written there: what was found, and what is allowed."""


@dataclass(frozen=True, slots=True)
class About:
    """What a backup holds, as `backup.json` says it."""

    made_at_ms: int
    country: str
    store_bytes: int
    store_sha256: str
    log_size: int
    """Leaves of the log under its newest checkpoint; 0: it has none yet."""
    checkpoint: str


def country_of(directory: Path, targets: Mapping[Path, str], home: Sequence[str]) -> str:
    """The country where a backup in `directory` lies. Raises `BackupRefused` unless that is home.

    `targets`: declared directories and their countries; the innermost one that holds it decides,
    wherever links lead.
    """
    real = Path(os.path.realpath(directory))
    holding = [path for path in targets if real.is_relative_to(os.path.realpath(path))]
    if not holding:
        declared = ", ".join(sorted(map(str, targets))) or "none is declared"
        raise BackupRefused(f"found {real}, allowed: what backup_targets declares ({declared})")
    inner = max(holding, key=lambda path: len(os.path.realpath(path)))
    if targets[inner] not in home:
        allowed = ", ".join(home)
        raise BackupRefused(f"found {inner}, which is in {targets[inner]}; allowed: {allowed}")
    return targets[inner]


def make(store: Path, directory: Path, country: str, now_ms: int) -> About:
    """Writes a copy of the store and `backup.json` to `directory`, in the place of older ones.

    Raises `CopyFailed` and `OSError`; what was there before is then as it was.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ahead = directory / f".{STORE_FILE}.{os.getpid()}"
    try:
        os.close(os.open(ahead, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        backup.copy(store, ahead)
        about = _about(ahead, country, now_ms)
        with ahead.open("rb") as file:
            os.fsync(file.fileno())
        ahead.replace(directory / STORE_FILE)
    finally:
        ahead.unlink(missing_ok=True)
    # Makes the names in the directory durable, that of the copy too.
    pki.write_private(directory / ABOUT_FILE, (json.dumps(asdict(about), indent=2) + "\n").encode())
    return about


def _about(copied: Path, country: str, now_ms: int) -> About:
    with copied.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    store = ReadStore(copied)
    try:
        store.open()
        with store.read() as snapshot:
            checkpoint = snapshot.checkpoints.newest()
    finally:
        store.close()
    return About(
        made_at_ms=now_ms,
        country=country,
        store_bytes=copied.stat().st_size,
        store_sha256=digest,
        log_size=0 if checkpoint is None else checkpoint.size,
        checkpoint="" if checkpoint is None else checkpoint.whole().decode(),
    )
