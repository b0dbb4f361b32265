"""Answers landmarks: what shows how near the holder of this node's location key is.

One thread and one socket, nothing kept: a packet that is no probe costs a look at its first bytes,
and probes past so many a second are dropped, which can only make a place harder to prove.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

from sovshared import landmarks
from sovshared.signing import Signer

ANSWERS_A_SECOND_MAX = 500
"""A signature takes 50 us: a flood costs at most a fortieth of a core."""
PACKET_BYTES_MAX = 2_048
LOOK_S = 0.5

_log = logging.getLogger(__name__)


class Allowance:
    """So many a second, counted anew each second."""

    def __init__(self, per_second: int, boot_ms: Callable[[], int]) -> None:
        self._per_second = per_second
        self._boot_ms = boot_ms
        self._second = -1
        self._left = 0

    def take(self) -> bool:
        """Whether one more is allowed."""
        second = self._boot_ms() // 1000
        if second != self._second:
            self._second, self._left = second, self._per_second
        self._left -= 1
        return self._left >= 0


class Responder:
    """Answers on `address` as `agent` (its SPIFFE path) while the block lasts."""

    def __init__(
        self, address: tuple[str, int], agent: str, signer: Signer, boot_ms: Callable[[], int]
    ) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(LOOK_S)
        self._address = address
        self._agent = agent
        self._signer = signer
        self._allowance = Allowance(ANSWERS_A_SECOND_MAX, boot_ms)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="landmarks", daemon=True)
        self.answered = 0
        self.dropped = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Responder:
        self._socket.bind(self._address)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                packet, sender = self._socket.recvfrom(PACKET_BYTES_MAX)
            except TimeoutError:
                continue
            except OSError as error:  # A sender's host says that nobody is there: no matter.
                _log.debug("landmarks: %s", error)
                continue
            probe = landmarks.probe_of(packet)
            if probe is None or not self._allowance.take():
                self.dropped += 1
                continue
            with contextlib.suppress(OSError):
                answer = landmarks.answer_bytes(probe, self._agent, self._signer)
                self._socket.sendto(answer, sender)
                self.answered += 1
