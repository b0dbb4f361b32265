"""Placement policies for the packing replay: published references, and the project's own score."""
