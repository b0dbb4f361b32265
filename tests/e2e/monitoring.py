"""A monitor with an identity of its own, for tests that read metrics as Prometheus would."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sovshared import pki


@dataclass(frozen=True)
class Monitor:
    """A Prometheus of our own, with an identity from the cluster's CA."""

    credentials: Path

    def page(self, address: str) -> str:
        """What is served there as metrics."""
        context = ssl.create_default_context(cafile=str(self.credentials / pki.TRUST_FILE))
        context.check_hostname = False  # Who serves is told by its SPIFFE id.
        context.load_cert_chain(self.credentials / pki.IDENTITY_FILE)
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=60) as plain,
            context.wrap_socket(plain) as secured,
        ):
            secured.sendall(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: secured.recv(65_536), b"")).decode()
        head, _, body = answer.partition("\r\n\r\n")
        assert " 200 " in head.splitlines()[0], answer[:200]
        return body

    def scrape(self, address: str) -> dict[tuple[str, str], float]:
        """Samples by name and last label's value."""
        return {
            (sample.name, [*sample.labels.values()][-1]): sample.value
            for family in text_string_to_metric_families(self.page(address))
            for sample in family.samples
        }
