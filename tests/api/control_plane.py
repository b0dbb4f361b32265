"""A real control plane as a child process, and callers of every kind, for tests of any program."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc

from scheduler.api import ca as ca_module
from scheduler.api.ca import AltNames, Ca
from scheduler.model.identity import NO_CLAIMS, Claims
from scheduler.runtime import clock
from sovshared import pki, spiffe, tls
from sovshared.spiffe import Name

TRUST_DOMAIN = spiffe.DEFAULT_TRUST_DOMAIN
START_S_MAX = 120
STOP_S_MAX = 60
_SERVING = re.compile(
    r"serving: main port (\d+), join port (\d+), telemetry port (\d+), metrics port (\d+)"
)


@dataclass
class ControlPlane:
    """A running control plane. `directory` holds its state and its first operator's credentials."""

    directory: Path
    process: subprocess.Popen[str]
    main_port: int = 0
    join_port: int = 0
    telemetry_port: int = 0
    metrics_port: int = 0
    log: list[str] = field(default_factory=list[str])
    _served: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        """Where callers with certificates are served."""
        return f"127.0.0.1:{self.main_port}"

    @property
    def join_endpoint(self) -> str:
        """Where Join is served."""
        return f"127.0.0.1:{self.join_port}"

    @property
    def operator_credentials(self) -> Path:
        """A credentials directory of /operator/olga."""
        return self.directory / "olga"

    @property
    def ca(self) -> Ca:
        """The control plane's own CA."""
        return ca_module.load(self.directory / "state", TRUST_DOMAIN)

    def identity(self, name: Name, claims: Claims = NO_CLAIMS) -> pki.Identity:
        """An identity of `name`, as if it had joined and somebody had vouched for `claims`."""
        key = pki.new_key()
        issued = self.ca.issue(name, key.public_key(), AltNames(), clock.now_ms(), claims)
        return pki.Identity(pki.key_to_pem(key), issued.chain_pem, issued.trust_pem)

    def credentials(self, name: Name) -> Path:
        """A credentials directory of `name`."""
        directory = self.directory / "credentials" / name.path.strip("/").replace("/", "-")
        if not directory.exists():
            pki.save(directory, self.identity(name))
        return directory

    def channel(self, identity: pki.Identity) -> grpc.aio.Channel:
        """A connection to the main port; close it."""
        return channel(self.endpoint, tls.channel_credentials(identity))

    def channel_as(self, name: Name) -> grpc.aio.Channel:
        """A connection of `name` to the main port; close it."""
        return self.channel(self.identity(name))

    def anonymous(self, endpoint: str) -> grpc.aio.Channel:
        """A connection without a certificate; close it."""
        return channel(endpoint, tls.anonymous_credentials(self.ca.trust_pem))

    def follow(self, stream: IO[str]) -> None:
        """Reads the log until the process ends."""
        for line in stream:
            self.log.append(line)
            if found := _SERVING.search(line):
                ports = map(int, found.groups())
                self.main_port, self.join_port, self.telemetry_port, self.metrics_port = ports
                self._served.set()
        self._served.set()

    def wait_served(self) -> None:
        """Until it serves; fails with its log when it does not."""
        assert self._served.wait(START_S_MAX), "".join(self.log)
        assert self.main_port, "".join(self.log)

    def errors(self) -> list[str]:
        """Tracebacks in the log: bugs."""
        return [line for line in self.log if "traceback" in line or '"ERROR"' in line]

    def stop(self) -> int:
        """Tells it to stop and waits; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S_MAX)


def channel(endpoint: str, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    """A connection that expects the control plane, and shares nothing with others."""
    options = tls.channel_options(spiffe.control_plane(), TRUST_DOMAIN)
    options.append(("grpc.use_local_subchannel_pool", 1))
    return grpc.aio.secure_channel(endpoint, credentials, options)


def found(directory: Path) -> None:
    """Makes a control plane in `directory`."""
    subprocess.run(
        [
            *(sys.executable, "-m", "scheduler", "init", "--operator", "olga"),
            *("--country", "GB", "--clearance", "SC"),
            *("--state-dir", str(directory / "state"), "--credentials", str(directory / "olga")),
        ],
        check=True,
        capture_output=True,
        timeout=START_S_MAX,
    )


def start(directory: Path, *, store_url: str = "") -> ControlPlane:
    """Starts the control plane in `directory` on ports of its own."""
    command = [sys.executable, "-m", "scheduler", "serve", "--state-dir", str(directory / "state")]
    command += ["--store-url", store_url]
    for flag in ("--listen", "--join-listen", "--telemetry-listen", "--metrics-listen"):
        command += [flag, "127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    made = ControlPlane(directory, process)
    assert process.stderr is not None
    threading.Thread(target=made.follow, args=(process.stderr,), daemon=True).start()
    try:
        made.wait_served()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return made


def running(directory: Path) -> Generator[ControlPlane]:
    """Founds and runs a control plane; it must end well and its log be free of bugs."""
    found(directory)
    made = start(directory)
    try:
        yield made
        assert made.stop() == 0, "".join(made.log)
        assert not made.errors(), "".join(made.errors())
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def lines(log: list[str]) -> list[dict[str, object]]:
    """A log, parsed."""
    return [json.loads(line) for line in log if line.startswith("{")]
