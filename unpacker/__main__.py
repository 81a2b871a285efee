"""``python -m unpacker`` is the toolbox, as ``unpacker`` is."""

from __future__ import annotations

import sys

from unpacker.cli import main

if __name__ == "__main__":
    sys.exit(main())
