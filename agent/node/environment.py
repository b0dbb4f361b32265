"""Which variables of a rank's environment are its user's to set."""

from __future__ import annotations

from collections.abc import Mapping

from sovshared.sealing import ARRAY_NAMES

RESERVED_NAMES = frozenset(
    [
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
    ]
)
RESERVED_PREFIXES = ("SOV_", "RAY_")

IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start_environment(
    runtime_dir: str, home: str, image: Mapping[str, str] | None
) -> dict[str, str]:
    """What a rank finds set unless its user sets it otherwise; `image`: what the image that it
    runs in sets, None without one. The node's runtime is in no image."""
    path = f"{runtime_dir}/bin:/usr/local/bin:/usr/bin:/bin" if image is None else IMAGE_PATH
    start = {
        "PATH": path,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # Or logs come in lumps.
        **(image or {}),
    }
    return {**start, "HOME": home}


def user_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The user's variables without those that are ours to set."""
    return {
        name: env[name]
        for name in sorted(env)
        if name in ARRAY_NAMES
        or (name not in RESERVED_NAMES and not name.startswith(RESERVED_PREFIXES))
    }
