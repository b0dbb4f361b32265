"""Trains a small regression on every rank's own data and keeps the ranks in step by an all-reduce.

Needs NumPy and the variables that torchrun sets: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT. Rank 0
adds up the gradients that the others send it over TCP and sends the mean back: the smallest thing
that fails when ranks cannot reach each other, and that learns nothing when they are out of step.
"""

from __future__ import annotations

import os
import socket
import sys
import time

import numpy as np

RANK = int(os.environ["RANK"])
WORLD = int(os.environ["WORLD_SIZE"])
MASTER = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
STEPS = int(os.environ.get("STEPS", "20"))
PAUSE_S = float(os.environ.get("STEP_PAUSE_S", "0.2"))
CONNECT_TIMEOUT_S = 60.0
FEATURES = 32
SAMPLES = 4096
LEARNING_RATE = 0.2


def receive(peer: socket.socket, size: int) -> np.ndarray:
    """Exactly `size` float64 values from `peer`."""
    data = bytearray()
    while len(data) < size * 8:
        part = peer.recv(size * 8 - len(data))
        if not part:
            raise ConnectionError("another rank has gone")
        data += part
    return np.frombuffer(bytes(data), dtype=np.float64)


def gather_peers() -> list[socket.socket]:
    """Rank 0: a socket to every other rank. Others: one socket, to rank 0."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    if RANK == 0:
        listener = socket.create_server(MASTER)
        listener.settimeout(CONNECT_TIMEOUT_S)
        return [listener.accept()[0] for _ in range(WORLD - 1)]
    while True:
        try:
            return [socket.create_connection(MASTER, timeout=CONNECT_TIMEOUT_S)]
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def mean_over_ranks(value: np.ndarray, peers: list[socket.socket]) -> np.ndarray:
    """The mean of every rank's `value`, the same on every rank."""
    if RANK == 0:
        total = value + sum(receive(peer, value.size) for peer in peers)
        for peer in peers:
            peer.sendall((total / WORLD).tobytes())
        return total / WORLD
    peers[0].sendall(value.tobytes())
    return receive(peers[0], value.size)


def main() -> int:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    print(f"rank {RANK} of {WORLD} on {os.uname().nodename}, GPUs [{gpus}]", flush=True)
    truth = np.random.default_rng(0).normal(size=FEATURES)
    own = np.random.default_rng(1000 + RANK)
    inputs = own.normal(size=(SAMPLES, FEATURES))
    targets = inputs @ truth + own.normal(scale=0.01, size=SAMPLES)
    weights = np.zeros(FEATURES)
    peers = gather_peers()
    for step in range(1, STEPS + 1):
        error = inputs @ weights - targets
        reduced = mean_over_ranks(np.append(inputs.T @ error / SAMPLES, error @ error), peers)
        weights -= LEARNING_RATE * reduced[:-1]
        print(f"step {step:3d}  loss {reduced[-1] / SAMPLES:.6f}", flush=True)
        time.sleep(PAUSE_S)
    for peer in peers:
        peer.close()
    print("done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
