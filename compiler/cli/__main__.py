"""``python -m dlas.compiler.cli``: the ``dlas`` command without its entry point."""

from __future__ import annotations

import sys

from dlas.compiler.cli import main

if __name__ == "__main__":
    sys.exit(main())
