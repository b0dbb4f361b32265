"""Nouns of the control plane: frozen dataclasses and enums, the standard library only."""
