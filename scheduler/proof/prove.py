"""Proves claims about a change of policy, each within a time, or finds a world against it."""

from __future__ import annotations

from scheduler.model.proofs import NO_LOOSER, Finding, Proof, Standing, ToProve
from scheduler.model.residency import Policy
from scheduler.model.rules import Invariant
from scheduler.proof import encode
from scheduler.proof.solver import Answer, Formula, Model, Solver, every, never
from scheduler.proof.symbols import Symbols, Universe
from scheduler.proof.worlds import World, world_of


def prove(asked: ToProve) -> Proof:
    """Every claim about a change: the invariants of both policies, and that it is no looser."""
    at = Symbols(Universe((asked.before, asked.after)))
    findings = [
        _invariant(invariant, asked, at) for invariant in _invariants(asked.before, asked.after)
    ]
    return Proof((*findings, _no_looser(asked, at)))


def _invariants(before: Policy, after: Policy) -> tuple[Invariant, ...]:
    """Those of the policy that is proposed, and those in force that it no longer declares."""
    declared = {invariant.id for invariant in after.invariants}
    dropped = [invariant for invariant in before.invariants if invariant.id not in declared]
    return (*after.invariants, *dropped)


def _invariant(invariant: Invariant, asked: ToProve, at: Symbols) -> Finding:
    against = every(
        encode.permits(asked.after, at), never(encode.keeps(invariant, asked.after, at))
    )
    standing, world = _search(against, at, asked.milliseconds_max)
    if world is not None:
        assert world.permitted(asked.after), "the formula permits what the control plane denies"
    return _finding(invariant.id, invariant.text, standing, world)


def _no_looser(asked: ToProve, at: Symbols) -> Finding:
    against = every(encode.permits(asked.after, at), never(encode.permits(asked.before, at)))
    standing, world = _search(against, at, asked.milliseconds_max)
    if world is not None:
        assert world.permitted(asked.after), "the formula permits what the control plane denies"
        assert not world.permitted(asked.before), "the formula denies what is permitted"
    text = f"nothing is permitted that policy {asked.before.name!r} in force does not permit"
    return _finding(NO_LOOSER, text, standing, world)


def _search(against: Formula, at: Symbols, milliseconds_max: int) -> tuple[Standing, World | None]:
    solver = Solver(milliseconds_max, *at.bounds(), against)
    match solver.check():
        case Answer.NONE:
            return Standing.PROVED, None
        case Answer.GAVE_UP:
            return Standing.UNKNOWN, None
        case Answer.FOUND:
            return Standing.BROKEN, world_of(_plainest(solver, at), at)


def _plainest(solver: Solver, at: Symbols) -> Model:
    """The first world that is found is full of what does not matter; a reader wants the rest."""
    model = solver.model()
    waiting = list(reversed(at.plainer()))
    while waiting:
        group = waiting.pop()
        narrower = solver.narrow(group)
        if narrower is not None:
            model = narrower
        elif len(group) > 1:
            waiting += [[each] for each in reversed(group)]
    return model


def _finding(claim: str, text: str, standing: Standing, world: World | None) -> Finding:
    return Finding(claim, text, standing, tuple(world.lines()) if world else ())
