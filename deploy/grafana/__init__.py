"""Boards for Grafana: `build.py` makes the JSON that is kept in `boards/`."""
