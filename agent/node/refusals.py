"""What an executor raises where it does not start a rank, and how its site's port calls each."""

from __future__ import annotations

from typing import ClassVar


class ExecutorError(Exception):
    """The node cannot do what was asked; the message says why. Nothing was started."""

    reason: ClassVar[str] = "rank_refused"
    """How the site's port of execution calls it."""


class NotGranted(ExecutorError):
    """The control plane's grant does not let this node start the rank."""

    reason: ClassVar[str] = "grant_refused"


class DataMissing(ExecutorError):
    """What the rank is to read is not in the site's store."""

    reason: ClassVar[str] = "data_missing"


class ImageMissing(ExecutorError):
    """The image that the rank runs in cannot be had from the site's store."""

    reason: ClassVar[str] = "image_unavailable"


class KeyRefused(ExecutorError):
    """Something of the rank's is sealed, and nobody gave this node the key."""

    reason: ClassVar[str] = "key_withheld"
