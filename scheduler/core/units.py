"""The units of a node that jobs have whole: its GPUs, and the instances of those that are cut.

Numbered as `model.mig` says, and sets of them are bits of one integer.
"""

from __future__ import annotations

from scheduler.model.fleet import Node, NodeReport


def units_of(node: Node, profile: str) -> int:
    """The units, as declared, that a job can be given: GPUs that are not cut where `profile` is
    empty, instances of that profile otherwise."""
    if profile:
        mask = 0
        for at, instance in enumerate(node.mig):
            if instance.profile == profile:
                mask |= 1 << node.gpus + at
        return mask
    mask = (1 << node.gpus) - 1
    for instance in node.mig:
        mask &= ~(1 << instance.gpu)
    return mask


def all_units(node: Node) -> int:
    """All units that jobs can be given, as declared."""
    return units_of(node, "") | (1 << len(node.mig)) - 1 << node.gpus


def capacity_of(node: Node, report: NodeReport | None) -> int:
    """Those of them that are there: declared and reported. Before a first report the declaration
    stands for both; such a node is not ready.

    Of a node that reports fewer GPUs than it was declared with, the lowest indices count. A GPU
    that only one of the two calls cut is not there; and where the cuts are not as declared no
    instance is, as their numbers would not mean the same to the node.
    """
    if report is None:
        return all_units(node)
    mask = units_of(node, "") & (1 << report.gpus) - 1
    if not node.mig and not report.mig:
        return mask
    for instance in report.mig:
        mask &= ~(1 << instance.gpu)
    if report.mig == node.mig and report.gpus == node.gpus:
        mask |= (1 << len(node.mig)) - 1 << node.gpus
    return mask
