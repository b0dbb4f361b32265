"""The control plane: turns requests and site reports into facts, and facts into plans."""

from scheduler import compiled as compiled  # Before any other: it decides where they come from.
