"""`python -m edgecnn` is the command `edgecnn`."""

from __future__ import annotations

import sys

from edgecnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
