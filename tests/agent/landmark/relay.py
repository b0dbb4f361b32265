"""A relay for UDP that forwards after a delay: a longer way, on one machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

LOOK_S = 0.2


class Relay:
    """Stands before `target`; each packet, either way, waits for `delay_s`. `change` may put
    another answer in the place of one."""

    def __init__(
        self,
        target: tuple[str, int],
        delay_s: float = 0.0,
        change: Callable[[bytes], bytes] = lambda answer: answer,
    ) -> None:
        self._target, self._delay_s, self._change = target, delay_s, change
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._front.settimeout(LOOK_S)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", int(self._front.getsockname()[1]))

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._front.close()

    def _serve(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.settimeout(LOOK_S)
            back.connect(self._target)
            while not self._stop.is_set():
                try:
                    packet, sender = self._front.recvfrom(2_048)
                    time.sleep(self._delay_s)
                    back.send(packet)
                    answer = back.recv(2_048)
                    time.sleep(self._delay_s)
                    self._front.sendto(self._change(answer), sender)
                except OSError:
                    continue
