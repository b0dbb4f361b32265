"""Files that operators write into the state directory, and change while the control plane runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from sovshared import yamlio
from sovshared.pki import PkiInvalid

_log = logging.getLogger(__name__)
ModelT = TypeVar("ModelT", bound=BaseModel)
T = TypeVar("T")


class Strict(BaseModel):
    """A part of such a file: what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def matching(pattern: re.Pattern[str], allowed: str) -> AfterValidator:
    """Text that is wholly of a pattern; a refusal says what is `allowed`."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"found {text[:80]!r}, allowed {allowed}")
        return text

    return AfterValidator(check)


def load_yaml(path: Path, model: type[ModelT], bytes_max: int) -> ModelT | None:
    """The file, checked; None when there is none. Raises PkiInvalid with every fault."""
    if not path.exists():
        return None
    try:
        value = yamlio.load(path, bytes_max=bytes_max).value
        return model.model_validate({} if value is None else value)
    except yamlio.YamlInvalid as error:
        raise PkiInvalid(str(error)) from error
    except ValidationError as error:
        faults = (
            f"{path}: {'.'.join(map(str, f['loc'])) or 'document'}: "
            f"{f['msg'].removeprefix('Value error, ')}"
            for f in error.errors()
        )
        raise PkiInvalid("; ".join(faults)) from error


class Declarations(Generic[T]):
    """What the file at `path` declares, as it is now; while it cannot be read, what it last did."""

    def __init__(self, path: Path, load: Callable[[Path], T]) -> None:
        self._path = path
        self._load = load
        self._stamp = _stamp(path)
        self._declared = load(path)

    def __call__(self) -> T:
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._declared = self._load(self._path)
            except PkiInvalid as error:
                _log.error("what was declared before stays in force: %s", error)
        return self._declared


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
