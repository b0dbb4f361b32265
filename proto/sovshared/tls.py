"""gRPC credentials and channel options from an identity.

Servers read their identity anew when its file changes, so a renewed certificate needs no restart.
gRPC cannot do that for clients: whoever renews dials again with a new channel.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

import grpc

from sovshared import limits, pki, spiffe

_log = logging.getLogger(__name__)

Options: TypeAlias = list[tuple[str, str | int]]


class ClientCertificates(Enum):
    """Whether a listener demands a certificate of its clients. It is never optional: gRPC for
    Python knows only these two."""

    REQUIRED = True
    NONE = False


@dataclass(slots=True)
class _Reloader:
    """Hands gRPC the identity in `directory`, read again when its file is another one."""

    directory: Path
    demand: ClientCertificates
    stamp: tuple[int, ...] = ()

    def initial(self) -> grpc.ServerCertificateConfiguration:
        self.stamp = self._stamp()
        return self._read()

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at every handshake; None keeps what is in use."""
        try:
            stamp = self._stamp()
            if stamp == self.stamp:
                return None
            configuration = self._read()
        except (OSError, pki.PkiInvalid) as error:
            _log.warning("cannot read the renewed identity, keeping the old one: %s", error)
            return None
        self.stamp = stamp
        return configuration

    def _stamp(self) -> tuple[int, ...]:
        names = (pki.IDENTITY_FILE, pki.TRUST_FILE)
        stats = [os.stat(self.directory / name) for name in names]
        return tuple(part for s in stats for part in (s.st_ino, s.st_mtime_ns, s.st_size))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        identity = pki.load(self.directory)
        trust = identity.trust_pem if self.demand is ClientCertificates.REQUIRED else None
        pair = (identity.key_pem, identity.chain_pem)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=trust)


def server_credentials(directory: Path, demand: ClientCertificates) -> grpc.ServerCredentials:
    """Credentials of a listener, kept up to date with the identity in `directory`."""
    reloader = _Reloader(directory, demand)
    return grpc.dynamic_ssl_server_credentials(
        reloader.initial(),
        reloader,  # pyright: ignore[reportArgumentType] - may answer None; the stub forgets it.
        require_client_authentication=demand.value,
    )


def server_options() -> Options:
    """Limits and keepalive of every server."""
    return [
        ("grpc.max_receive_message_length", limits.REQUEST_BYTES_MAX),
        ("grpc.max_send_message_length", limits.ANSWER_BYTES_MAX),
        ("grpc.max_metadata_size", limits.METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", limits.KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", limits.PING_INTERVAL_MIN_MS),
        ("grpc.so_reuseport", 0),
    ]


def channel_credentials(identity: pki.Identity) -> grpc.ChannelCredentials:
    """Credentials of a client that shows its certificate."""
    return grpc.ssl_channel_credentials(
        root_certificates=identity.trust_pem,
        private_key=identity.key_pem,
        certificate_chain=identity.chain_pem,
    )


def anonymous_credentials(trust_pem: bytes) -> grpc.ChannelCredentials:
    """Credentials of a client that has no certificate yet: it can only join."""
    return grpc.ssl_channel_credentials(root_certificates=trust_pem)


def channel_options(server: spiffe.Name | None, trust_domain: str) -> Options:
    """Limits, keepalive, and whom to expect at the other end, whatever address was dialled.

    With `server` None the server must prove the host name of the address instead: for a control
    plane whose certificates another CA issued.
    """
    options: Options = [
        ("grpc.max_receive_message_length", limits.ANSWER_BYTES_MAX),
        ("grpc.max_send_message_length", limits.REQUEST_BYTES_MAX),
        ("grpc.max_metadata_size", limits.METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", limits.KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
    ]
    if server is not None:
        dns_name = spiffe.server_dns_name(server, trust_domain)
        if dns_name is None:
            raise spiffe.NameInvalid(f"{server.path} serves nothing")
        options.append(("grpc.ssl_target_name_override", dns_name))
    return options
