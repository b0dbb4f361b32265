"""Where ranks of one job may meet: a port of their node that nobody else was offered."""

from __future__ import annotations

import errno
import socket
import zlib

PORT_FIRST, PORT_LAST = 20_000, 32_767
"""Above Ray's worker ports, below the kernel's ephemeral ones."""
PORT_TRIES_MAX = 512


def free_port(address: str, key: str, taken: frozenset[int]) -> int:
    """A port nobody uses now, for TCP at `address` or for UDP anywhere. Begins at a place derived
    from the key: neighbours rarely meet.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    span = PORT_LAST - PORT_FIRST + 1
    begin = zlib.crc32(key.encode()) % span
    for step in range(PORT_TRIES_MAX):
        port = PORT_FIRST + (begin + step) % span
        if port in taken:
            continue
        with (
            socket.socket(family, socket.SOCK_STREAM) as stream,
            socket.socket(family, socket.SOCK_DGRAM) as datagrams,
        ):
            try:
                stream.bind((address, port))
                datagrams.bind(("", port))
            except OSError:
                continue
        return port
    found = f"no free port on {address} among {PORT_TRIES_MAX} from {PORT_FIRST + begin}"
    raise OSError(errno.EADDRINUSE, found)
