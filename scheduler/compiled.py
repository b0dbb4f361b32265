"""Where the planner's compiled modules come from: built from exactly these sources, or not used.

`python -m deploy.compile` has mypyc compile the rooms below into a folder named by the digest of
their sources. Here that digest is worked out anew when a process first imports the scheduler, and
only a folder of that name is looked in: code that was compiled from other sources is never found,
and the sources run as they are, slower. What is compiled decides the same (ADR 52).
"""

from __future__ import annotations

import copyreg
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, cast

PACKAGE = Path(__file__).resolve().parent
BUILT = PACKAGE.parent / "build" / "compiled"
"""One folder per digest; at most one, but for moments."""
ROOMS = ("model", "core")
"""All that compiled modules may have taken a constant, a type or a layout from."""
AS_THEY_ARE = frozenset(
    [
        "scheduler.core.admission_rules",
        "scheduler.core.alarm",
        "scheduler.core.certificates",
        "scheduler.core.custody",
        "scheduler.core.data_rules",
        "scheduler.core.egress",
        "scheduler.core.inner_polygons",
        "scheduler.core.invariants",
        "scheduler.core.lifecycle",
        "scheduler.core.location",
        "scheduler.core.node_history",
        "scheduler.core.operator_access",
        "scheduler.core.service_rules",
        "scheduler.core.stakes",
        "scheduler.core.stays",
        "scheduler.core.tree_rules",
        "scheduler.model.agreements",
        "scheduler.model.dataset",
        "scheduler.model.identity",
        "scheduler.model.operator_access",
        "scheduler.model.outside",
        "scheduler.model.proofs",
        "scheduler.model.rules",
        "scheduler.model.service",
        "scheduler.model.sitelink",
        "scheduler.model.whatif",
    ]
)
"""Modules no plan waits for: they are not compiled, which takes time too."""
BEYOND = ("scheduler.store.known",)
"""Modules of other rooms that take from those two alone, and are compiled with them: a class that
inherits from a compiled one has to be."""
SWITCH = "SOV_COMPILED"
"""An environment variable: where it is "0" a process runs the sources whatever was compiled."""
SOURCES = "0"
SUFFIX = EXTENSION_SUFFIXES[0]
ANNOTATIONS = "annotations.json"
"""Beside what was compiled: those of classes, as the sources have them, by module and name."""


def sources() -> Sequence[Path]:
    """The rooms' modules and those beyond, in order."""
    # Not by `rglob`, which takes longer than all the rest that each process does here.
    walks = (walk for room in ROOMS for walk in os.walk(PACKAGE / room))
    paths = {f"{at}/{name}" for at, _, names in walks for name in names if name.endswith(".py")}
    paths.update(f"{PACKAGE.parent}/{name.replace('.', '/')}.py" for name in BEYOND)
    return [Path(path) for path in sorted(paths)]


def name_of(source: Path) -> str:
    """The module's name: scheduler.core.planner."""
    return ".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts)


def to_compile() -> Sequence[Path]:
    """The sources that are compiled: of the rooms themselves, not of packages inside them."""
    rooms = [PACKAGE / room for room in ROOMS]
    own = {path for path in sources() if path.parent in rooms and path.stem != "__init__"}
    return [
        path
        for path in sources()
        if name_of(path) in BEYOND or (path in own and name_of(path) not in AS_THEY_ARE)
    ]


def digest() -> str:
    """Of the sources, of this one too, which are compiled, and the interpreter they are for."""
    found = hashlib.sha256(SUFFIX.encode())
    found.update(Path(__file__).read_bytes())  # What it looks for may be another.
    for source in sources():
        text, name = source.read_bytes(), name_of(source)
        found.update(f"\n{name} {len(text)} {name in AS_THEY_ARE}\n".encode())
        found.update(text)
    return found.hexdigest()[:32]


def install() -> bool:
    """Has modules imported from now on be the compiled ones, if there are such of these sources;
    whether so. Warns where all that was compiled is of other sources."""
    if os.environ.get(SWITCH) == SOURCES or not BUILT.is_dir():
        return False
    at = BUILT / digest()
    if not at.is_dir():
        if any(BUILT.iterdir()):
            message = "the planner was compiled from other sources, and runs interpreted"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return False
    sys.meta_path.insert(0, _Compiled(at))
    return True


class _Compiled(MetaPathFinder):
    """Finds the modules in one folder: each a file named by its module."""

    def __init__(self, at: Path) -> None:
        self._files = {path.name.removesuffix(SUFFIX): str(path) for path in at.glob(f"*{SUFFIX}")}
        self._annotations: Mapping[str, dict[str, str]] = json.loads(
            (at / ANNOTATIONS).read_text(encoding="utf-8")
        )
        # Of those, the modules whose dataclasses know how they are pickled; and how many imports
        # of compiled modules are under way.
        self._known: set[str] = set()
        self.depth = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, file, self))

    def imported(self) -> None:
        """Gives dataclasses of compiled modules back their annotations, which the store reads, and
        how they are pickled.

        mypyc leaves `type` of an annotation such as `tuple[str, ...]`. And a dataclass with slots
        pickles as its fields; its compiled twin does not know how, and a frozen one would refuse
        to be filled. By their fields in their order, and made again by calling, they also travel
        in a third to half of the time.
        """
        for name in self._files.keys() & sys.modules.keys() - self._known:
            self._known.add(name)
            for value in vars(sys.modules[name]).values():
                if is_dataclass(value) and isinstance(value, type):
                    stated = self._annotations.get(f"{value.__module__}.{value.__name__}")
                    if stated is not None:
                        value.__annotations__ = stated
                    copyreg.pickle(value, _by_fields(value))
                    type.__setattr__(value, "__setstate__", _fill)


class _Loader(ExtensionFileLoader):
    """Loads a compiled module. Those that it imports are loaded by one another, not by this: so
    what is done with each is done after the outermost one."""

    def __init__(self, fullname: str, file: str, finder: _Compiled) -> None:
        super().__init__(fullname, file)
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._finder.depth += 1
        try:
            return super().create_module(spec)
        finally:
            self._finder.depth -= 1

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if not self._finder.depth:
            self._finder.imported()


def _fill(made: object, state: list[object] | tuple[None, Mapping[str, object]]) -> None:
    """Fills a value whose twin in a process that runs the sources was pickled: as the list of its
    fields, or, where it is not frozen, as nothing and its fields by name."""
    if isinstance(state, tuple):
        found = list(state[1].items())
    else:
        names = [field.name for field in fields(cast("Any", made))]
        found = list(zip(names, state, strict=True))
    for name, value in found:
        object.__setattr__(made, name, value)


def _by_fields(kind: type) -> Callable[[object], tuple[type, tuple[object, ...]]]:
    """How values of a dataclass are pickled."""
    names = [field.name for field in fields(kind) if field.init]
    if len(names) > 1:
        values = attrgetter(*names)
        return lambda value: (kind, values(value))
    return lambda value: (kind, tuple(getattr(value, name) for name in names))


RUNS = install()
"""Whether this process runs the compiled modules."""
