"""HOST:PORT, taken apart."""

from __future__ import annotations


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of an address that settings have checked; brackets of IPv6 hosts are removed."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
