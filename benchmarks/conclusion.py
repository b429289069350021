"""How a long run ends: everything that was wrong, one line each, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def conclude(problems: Sequence[str], all_well: str = "no violation") -> NoReturn:
    """Print `problems`, or that there are none, and exit: 1 if anything was wrong."""
    for problem in problems:
        print(f"WRONG: {problem}")
    print(f"{len(problems)} violations" if problems else all_well)
    sys.exit(1 if problems else 0)
