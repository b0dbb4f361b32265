"""A rank's secrets on their way from the executor to it: a file that only root reads, and that is
gone before the rank becomes its program. Standard library only, as all the shim loads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

SECRETS_FILE = "secrets.json"


def keep_secrets(home: str, values: Mapping[str, str]) -> str:
    """Puts variables down in a rank's directory; where. It is not made durable: nothing needs it
    after the node went down."""
    path = os.path.join(os.path.realpath(home), SECRETS_FILE)
    if os.path.lexists(path):
        os.unlink(path)  # A start that was cut off left it.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(dict(values), file)
    return path


def take_secrets(spec: Mapping[str, Any]) -> dict[str, str]:
    """The variables that were put down for the rank of `spec`, which nobody reads after this."""
    path = spec.get("secrets_file")
    if path is None:
        return {}
    with open(path, encoding="utf-8") as file:
        values: dict[str, str] = json.load(file)
    os.unlink(path)
    return values
