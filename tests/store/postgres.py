"""A PostgreSQL server of our own: on a socket in a folder of its own, gone when it is closed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import psycopg

OWNER = "postgres"
"""Whom a server runs as when we are root, which it refuses to be; Debian's package makes it."""
READY_S_MAX = 60
PROGRAMS = "/usr/lib/postgresql"


def programs() -> Path | None:
    """Where the newest server's programs are; None where there is none."""
    found = sorted(Path(PROGRAMS).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class Cluster:
    """A running server. Each `url` is an empty database as far as its user sees."""

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="sov-pg-"))
        self._user = OWNER if os.geteuid() == 0 else None
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(self._root, entry.pw_uid, entry.pw_gid)
        self._numbers = count(1)
        told = ["-A", "trust", "-U", "sov", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run([str(programs / "initdb"), "-D", str(self._root / "data"), *told])
        settings = ["listen_addresses=", f"unix_socket_directories={self._root}"]
        if not durable:
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        options = [part for setting in settings for part in ("-c", setting)]
        self._log = (self._root / "log").open("wb")
        self._server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(self._root / "data"), *options],
            cwd=self._root,
            user=self._user,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._wait()

    def url(self) -> str:
        """Where a new, empty database is."""
        name = f"s{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return (
            f"postgresql+psycopg://sov@/postgres?host={self._root}&options=-csearch_path%3D{name}"
        )

    def close(self) -> None:
        """Ends the server and removes all it had."""
        self._server.terminate()
        try:
            self._server.wait(READY_S_MAX)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._log.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(f"host={self._root} user=sov dbname=postgres", autocommit=True)

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, cwd=self._root, user=self._user, check=True, capture_output=True)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + READY_S_MAX
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline_s or self._server.poll() is not None:
                    self.close()
                    raise RuntimeError("PostgreSQL does not start") from error
                time.sleep(0.05)
            else:
                return
