"""`sovctl`, and `python -m sovctl`."""

from __future__ import annotations

import sys

from sovctl.cli.main import run


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
