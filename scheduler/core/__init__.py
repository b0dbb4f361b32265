"""Verbs of the control plane: pure functions over the model, the standard library only."""
