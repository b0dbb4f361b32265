"""The keys that sign placement grants: made, vouched for by the CA, and replaced in time.

A key signs for a day, and what it signed is good for another: two are good at once, and nobody has
to be told of a new one, because each grant brings its key's statement along. A key that somebody
else may have seen is replaced at once (`sov-scheduler rotate-grant-key --retire-older`): sites
refuse older ones from the first grant on that the new one signed.

keys/grants-<number>.pem        the key, as every key that signs statements is kept
keys/grants-<number>.vouched    the CA's word on it
"""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

from google.protobuf.message import DecodeError

from scheduler.api.ca import Ca
from sovapi.v1.grants_pb2 import GrantKey, SignedGrant
from sovshared import grants, pki, signing
from sovshared.grants import Vouched

ROTATE_AFTER_MS = 24 * 3600 * 1000
LIFE_MS = 2 * ROTATE_AFTER_MS
KEYS_KEPT_MAX = 8
"""Older files go: what they signed is long over."""

_NAME = re.compile(r"grants-(\d{1,19})\.vouched")


class GrantKeys:
    """The keys in `directory`, and the CA that vouches for new ones. Thread-safe."""

    def __init__(self, directory: Path, ca: Ca) -> None:
        self._directory = directory
        self._ca = ca
        self._lock = threading.Lock()
        self._stamp = 0
        self._current: tuple[GrantKey, Vouched] | None = None

    def at(self, now_ms: int) -> Vouched:
        """The key to sign with at `now_ms` (UTC); a new one where there is none, or it is a day
        old. One that another process made meanwhile is taken up."""
        with self._lock:
            self._take_up()
            if self._current is not None:
                made_ms = self._current[0].not_before_ms
                if made_ms - grants.SKEW_MS <= now_ms < made_ms + ROTATE_AFTER_MS:
                    return self._current[1]
            oldest = 0 if self._current is None else self._current[0].oldest
            return self._make(now_ms, oldest)

    def rotate(self, now_ms: int, *, retire_older: bool) -> int:
        """Makes a new key, and has sites refuse all older ones if so asked; its number."""
        with self._lock:
            self._take_up()
            kept = 0 if self._current is None else self._current[0].oldest
            self._make(now_ms, self._next(now_ms) if retire_older else kept)
            assert self._current is not None
            return self._current[0].number

    def _take_up(self) -> None:
        """Reads the newest key, if the directory changed since."""
        try:
            stamp = self._directory.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if stamp == self._stamp:
            return
        numbers = self._numbers()
        if numbers:
            self._current = self._load(numbers[-1])
        self._stamp = stamp

    def _numbers(self) -> list[int]:
        found = (_NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(name[1]) for name in found if name)

    def _load(self, number: int) -> tuple[GrantKey, Vouched]:
        path = self._file(number, "vouched")
        try:
            word = SignedGrant.FromString(path.read_bytes()[: signing.KEY_FILE_BYTES_MAX])
            statement = GrantKey.FromString(word.key)
        except (OSError, DecodeError) as error:
            raise pki.PkiInvalid(f"{path}: found no statement that can be read") from error
        signer = signing.load(self._file(number, "pem"))
        if statement.public_key != signer.public_key:
            raise pki.PkiInvalid(f"{path}: found the statement of another key")
        return statement, Vouched(signer, word.key, word.key_signature)

    def _next(self, now_ms: int) -> int:
        """Numbers are moments, so that those of several control planes come in their order too."""
        last = 0 if self._current is None else self._current[0].number
        return max(now_ms, last + 1)

    def _make(self, now_ms: int, oldest: int) -> Vouched:
        number = self._next(now_ms)
        signer = signing.kept_in(self._file(number, "pem"))
        vouched = grants.vouch(
            signer,
            self._ca.key,
            number=number,
            oldest=oldest,
            not_before_ms=now_ms,
            not_after_ms=now_ms + LIFE_MS,
        )
        word = SignedGrant(key=vouched.key, key_signature=vouched.key_signature)
        pki.write_private(self._file(number, "vouched"), word.SerializeToString())
        for old in self._numbers()[:-KEYS_KEPT_MAX]:
            for ending in ("pem", "vouched"):
                with contextlib.suppress(FileNotFoundError):
                    self._file(old, ending).unlink()
        self._current = (GrantKey.FromString(vouched.key), vouched)
        self._stamp = self._directory.stat().st_mtime_ns
        return vouched

    def _file(self, number: int, ending: str) -> Path:
        return self._directory / f"grants-{number}.{ending}"
