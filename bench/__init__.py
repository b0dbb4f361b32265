"""Measurements: each prints its conditions, and its figure against a yardstick of the same run."""
