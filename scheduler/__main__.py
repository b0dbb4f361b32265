"""`sov-scheduler`: founds a control plane (`init`), runs it (`serve`), writes its log's hashes as
files for a web server (`tiles`), and copies its store (`backup`)."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scheduler import compiled
from scheduler.api import state as state_module
from scheduler.api.app import App, Listeners, Sources, Words, running
from scheduler.api.ca import AltNames
from scheduler.api.claims import CLAIMS_LIFE_MS
from scheduler.api.state import State
from scheduler.model.identity import Claims, Clearance
from scheduler.model.reasons import Refused
from scheduler.runtime import backup, clock, event_loop, logs, tiles
from scheduler.runtime.backup import BackupRefused
from scheduler.runtime.clock import ClockIsBehind
from scheduler.runtime.lineage import StoreIsOlder
from scheduler.settings import SchedulerSettings
from scheduler.store.backup import CopyFailed
from scheduler.store.merkle import SALT_BYTES
from scheduler.store.migrations import SchemaMismatch
from scheduler.store.store import ReadStore, StoreFailed
from sovshared import pki, spiffe

FOUNDER = "/control-plane"
"""Who vouches for the first operator: whoever founds the control plane."""
DISTRIBUTION = "sovereign-compute-scheduler"
SECRET_BYTES = 24
EXIT_USAGE = 2
EXIT_FAILED = 1
SALTS_DRAWN = 256
"""Salts of one draw of chance."""
GARBAGE_OBJECTS = 10_000
"""New containers until the collector looks at the youngest. With the default, 700, it looks
hundreds of times a second while jobs come in, each time in the way of every call. Of each call gRPC
leaves it five: after 50,000 it was in the way for 27 ms, once in 6,000 calls, and whatever call was
under way then was among the slowest hundredth."""
HAND_OVER_S = 0.0005
"""After so long a thread that others wait for lets them run. With the default, 5 ms, whoever calls
waits for the writer ten times as long, at every hand-over of the interpreter's lock; what is left
of the difference is a few switches a commit."""

_log = logging.getLogger("scheduler")


class UsageError(Exception):
    """What was asked for on the command line cannot be; the message says what can."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The program."""
    asked = vars(_parser().parse_args(arguments))
    command = asked.pop("command")
    try:
        COMMANDS[command](asked)
    except StoreFailed as error:
        print(f"sov-scheduler: store_url: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except (UsageError, pki.PkiInvalid, SchemaMismatch, StoreIsOlder, ClockIsBehind) as error:
        print(f"sov-scheduler: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sov-scheduler", description="The control plane.")
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="make a new control plane's CA and first operator")
    init.add_argument("--operator", required=True, help="name of the first operator")
    init.add_argument("--credentials", type=Path, required=True, help="where to keep their key")
    init.add_argument("--country", default="", help="where they work, such as GB")
    init.add_argument(
        "--clearance", choices=sorted(c.name for c in Clearance if c), help="their clearance"
    )
    rotate = commands.add_parser(
        "rotate-grant-key", help="sign placement grants with a new key from now on"
    )
    rotate.add_argument(
        "--retire-older", action="store_true", help="have sites refuse every older key"
    )
    serve = commands.add_parser("serve", help="run the control plane")
    for command in (init, rotate):
        command.add_argument("--state-dir", type=Path, default=argparse.SUPPRESS)
        command.add_argument("--trust-domain", default=argparse.SUPPRESS)
    export = commands.add_parser("tiles", help="write the log's hashes for a static web server")
    export.add_argument(
        "directory", type=Path, help="where to; run it again to bring it up to date"
    )
    export.add_argument("--state-dir", type=Path, default=argparse.SUPPRESS)
    export.add_argument("--store-url", default=argparse.SUPPRESS)
    copy = commands.add_parser("backup", help="copy the store to a directory in the home zone")
    copy.add_argument(
        "directory", type=Path, help="where to: in one of backup_targets, in a country of home"
    )
    for name in ("state-dir", "store-url", "backup-targets", "home"):
        copy.add_argument(f"--{name}", default=argparse.SUPPRESS)
    for name, field in SchedulerSettings.model_fields.items():
        default = "" if field.is_required() else f" (default: {_shown(field.default)})"
        serve.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{field.description or name.replace('_', ' ')}{default}; or SOV_{name.upper()}",
        )
    return parser


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(str(word) for word in default)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return str(default) or "empty"


def settings_from(asked: Mapping[str, Any]) -> SchedulerSettings:
    """Flags before variables before defaults; every fault at once, each naming its field."""
    try:
        return SchedulerSettings(**asked)
    except ValidationError as error:
        raise UsageError("; ".join(_fault(fault) for fault in error.errors())) from error


def _fault(fault: ErrorDetails) -> str:
    field = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return (
            f"{field}: found nothing, needed (--{field.replace('_', '-')} or SOV_{field.upper()})"
        )
    message = fault["msg"].removeprefix("Value error, ")
    return (
        f"{field}: {message}"
        if "found" in message
        else (f"{field}: found {str(fault['input'])[:100]!r}; {message}")
    )


def _init(asked: Mapping[str, Any]) -> None:
    """Founds a control plane: its CA, and the credentials of its first operator."""
    credentials: Path = asked["credentials"]
    settings = _where(asked)
    try:
        operator = spiffe.operator(asked["operator"])
    except spiffe.NameInvalid as error:
        raise UsageError(f"operator: {error}") from error
    if (credentials / pki.IDENTITY_FILE).exists():
        raise UsageError(
            f"credentials: found an identity in {credentials}, allowed a new directory"
        )
    now_ms = clock.now_ms()
    state = state_module.found(settings.state_dir, settings.trust_domain, now_ms)
    clearance = Clearance[asked["clearance"]] if asked["clearance"] else Clearance.UNSPECIFIED
    claims = Claims(asked["country"], clearance, FOUNDER, now_ms + CLAIMS_LIFE_MS)
    identity = state_module.issue_identity(
        state.ca, operator, credentials, AltNames(), now_ms, claims
    )
    print(f"control plane of {settings.trust_domain} founded in {settings.state_dir}")
    print(f"credentials of {identity.facts().spiffe_id} are in {credentials}")


def _tiles(asked: Mapping[str, Any]) -> None:
    """Writes the log's tiles; the control plane may run meanwhile."""
    directory: Path = asked["directory"]
    given = {name: asked[name] for name in ("state_dir", "store_url") if name in asked}
    settings = settings_from(given)
    store = ReadStore(settings.store_url or _store_file(settings))
    try:
        store.open()
        with store.read() as snapshot:
            exported = tiles.export(snapshot, directory)
    except OSError as error:
        raise UsageError(f"{error.filename or directory}: {error.strerror}") from error
    finally:
        store.close()
    if exported is None:
        raise UsageError("the log has no checkpoint yet: has this control plane ever run?")
    print(f"{exported.size} leaves, {exported.tiles} tiles written to {directory}")


def _backup(asked: Mapping[str, Any]) -> None:
    """Copies the store; the control plane may run meanwhile."""
    directory: Path = asked["directory"]
    settings = settings_from({k: v for k, v in asked.items() if k != "directory"})
    if settings.store_url:
        raise UsageError("store_url: found a database of its own, which has means for backups")
    store = _store_file(settings)
    split = (entry.rpartition("=") for entry in settings.backup_targets)
    targets = {Path(path): country for path, _, country in split}
    try:
        country = backup.country_of(directory, targets, settings.home)
        about = backup.make(store, directory, country, clock.now_ms())
    except BackupRefused as error:
        raise UsageError(f"directory: {error}") from error
    except CopyFailed as error:
        print(f"sov-scheduler: no backup was made: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        raise UsageError(f"{error.filename or directory}: {error.strerror}") from error
    print(f"{about.store_bytes} bytes, {about.log_size} leaves, in {directory} ({country})")


def _store_file(settings: SchedulerSettings) -> Path:
    """The SQLite store of a control plane that has one."""
    place = settings.state_dir / state_module.STORE_FILE
    if not place.exists():
        raise UsageError(f"state_dir: found no store in {settings.state_dir}")
    return place


def _rotate_grant_key(asked: Mapping[str, Any]) -> None:
    """Makes a new key for placement grants; a control plane that runs takes it up by itself."""
    settings = _where(asked)
    state = state_module.load(settings.state_dir, settings.trust_domain)
    number = state.grant_keys().rotate(clock.now_ms(), retire_older=asked["retire_older"])
    told = "older ones are refused from its first grant on" if asked["retire_older"] else "is next"
    print(f"grant key {number}: {told}")


def _where(asked: Mapping[str, Any]) -> SchedulerSettings:
    """The settings of a verb that needs to know only which control plane is meant."""
    return settings_from(
        {name: asked[name] for name in ("state_dir", "trust_domain") if name in asked}
    )


def _serve(asked: Mapping[str, Any]) -> None:
    settings = settings_from(asked)
    logs.set_up(settings.log_level)
    state = state_module.load(settings.state_dir, settings.trust_domain)
    try:
        event_loop.run(_run(settings, state))
    except* Refused as refusals:
        # Another scheduler took over, most likely: the supervisor decides what comes next.
        _log.error("the control plane ended: %s", refusals.exceptions[0])
        sys.exit(EXIT_FAILED)


def _salts() -> Iterator[bytes]:
    """Salts of audit leaves, drawn many at once: each draw lets other threads run before it."""
    while True:
        drawn = os.urandom(SALT_BYTES * SALTS_DRAWN)
        for at in range(0, len(drawn), SALT_BYTES):
            yield drawn[at : at + SALT_BYTES]


async def _run(settings: SchedulerSettings, state: State) -> None:
    sys.setswitchinterval(HAND_OVER_S)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sources = Sources(
        now_ms=clock.Steady().now_ms,
        boot_ms=clock.boot_ms,
        salts=_salts().__next__,
        new_secret=lambda: secrets.token_urlsafe(SECRET_BYTES),
        incarnation=secrets.token_hex(4),
        version=version(DISTRIBUTION),
    )
    listeners = Listeners(
        main=settings.listen,
        join=settings.join_listen,
        telemetry=settings.telemetry_listen,
        metrics=settings.metrics_listen,
        names=AltNames(settings.dns_names, settings.ip_addresses),
    )
    words = Words(settings.restored, settings.clock_was_ahead)
    async with running(state, settings.store_url, listeners, sources, words) as app:
        gc.collect()
        gc.freeze()  # What there is now stays until the end.
        gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
        _say(app)
        await stop.wait()
        _log.info("stopping")
        await app.drain(settings.stop_grace_ms)


def _say(app: App) -> None:
    """What we serve on: the ports too, for whoever started this with port 0."""
    _log.info("event loop: %s", event_loop.name())
    _log.info("planner: %s", "compiled" if compiled.RUNS else "interpreted")
    _log.info(
        "serving: main port %d, join port %d, telemetry port %d, metrics port %d",
        app.main_port,
        app.join_port,
        app.telemetry_port,
        app.metrics_port,
    )


COMMANDS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "backup": _backup,
    "init": _init,
    "rotate-grant-key": _rotate_grant_key,
    "serve": _serve,
    "tiles": _tiles,
}

if __name__ == "__main__":
    main()
