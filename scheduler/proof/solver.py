"""The solver, with types: the only importer of z3, which has few of its own."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol, cast

import z3 as untyped

_z3: Any = untyped

SEED = 1
"""The same claim finds the same counterexample."""


_CONSTANTS = {known: _z3.BoolVal(known) for known in (False, True)}


class Formula(Protocol):
    """Something that is true or false."""


class Number(Protocol):
    """A whole number that is not known."""

    def __ge__(self, other: int | Number) -> Formula: ...
    def __le__(self, other: int | Number) -> Formula: ...


Value = int | bool
"""What a variable is in one world."""
Variable = Formula | Number


def flag(name: str) -> Formula:
    """A variable that is true or false."""
    return _z3.Bool(name)


def number(name: str) -> Number:
    """A variable that is a whole number."""
    return _z3.Int(name)


def true_if(known: bool) -> Formula:
    """What is known already."""
    return _z3.BoolVal(known)


def every(*parts: Formula) -> Formula:
    """All of `parts`; of none, true."""
    return _z3.And(*parts)


def either(*parts: Formula) -> Formula:
    """One of `parts` at least; of none, false."""
    return _z3.Or(*parts)


def never(part: Formula) -> Formula:
    """Not `part`."""
    return _z3.Not(part)


def implies(first: Formula, then: Formula) -> Formula:
    """Where the first holds, the second does."""
    return _z3.Implies(first, then)


def equal(left: Number, right: int) -> Formula:
    """That a number is `right`."""
    return cast(Any, left) == right


def greater(left: Number, right: int) -> Number:
    """The greater of two numbers."""
    return _z3.If(left >= right, left, _z3.IntVal(right))


def evaluate(formula: Formula, values: Iterable[tuple[Variable, Value]]) -> bool:
    """What a formula is where every variable has a value."""
    pairs = [
        (variable, _CONSTANTS[value] if isinstance(value, bool) else _z3.IntVal(value))
        for variable, value in values
    ]
    found = _z3.simplify(_z3.substitute(formula, *pairs))
    assert _z3.is_true(found) or _z3.is_false(found), f"variables without a value: {found}"
    return bool(_z3.is_true(found))


class Answer(Enum):
    """Whether there is a world."""

    FOUND = "found"
    NONE = "none"
    GAVE_UP = "gave up"


class Model:
    """A world that was found."""

    def __init__(self, found: object) -> None:
        self._found: Any = found

    def true(self, variable: Formula) -> bool:
        """What a flag is there."""
        return bool(_z3.is_true(self._found.eval(variable, model_completion=True)))

    def value(self, variable: Number) -> int:
        """What a number is there."""
        return int(self._found.eval(variable, model_completion=True).as_long())


class Solver:
    """Looks for a world in which everything that was added is true."""

    def __init__(self, milliseconds_max: int, *parts: Formula) -> None:
        self._solver: Any = _z3.Solver()
        self._solver.set("timeout", milliseconds_max)
        self._solver.set("random_seed", SEED)
        self._solver.add(*parts)

    def check(self) -> Answer:
        """Whether there is one."""
        answer = self._solver.check()
        if answer == _z3.sat:
            return Answer.FOUND
        return Answer.NONE if answer == _z3.unsat else Answer.GAVE_UP

    def model(self) -> Model:
        """The one that was just found."""
        return Model(self._solver.model())

    def narrow(self, parts: Iterable[Formula]) -> Model | None:
        """Adds `parts` where there is a world with them too: that world, else None."""
        self._solver.push()
        self._solver.add(*parts)
        if self.check() is Answer.FOUND:
            return self.model()
        self._solver.pop()
        return None
