"""Policies as formulas: what a policy can never permit is proved, or shown by a counterexample.

Loads a solver, and is therefore a process of its own: the control plane starts `scheduler.proof`
and never imports it.
"""
