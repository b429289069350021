"""Which program this is, so that a failure can be shown again with the same one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lrs_trio import __version__


def program() -> str:
    """The version, and the commit where the program runs from a working tree of its own."""
    commit = _commit()
    return f"lrs-trio {__version__}, commit {commit}" if commit else f"lrs-trio {__version__}"


def _commit() -> str:
    """Empty if this very file is in no repository: that of somebody who has only installed us says nothing."""
    here = Path(__file__)
    if not _git(here, "ls-files", here.name):
        return ""
    return _git(here, "describe", "--always", "--dirty=-changed", "--exclude=*")


def _git(here: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(here.parent), *arguments], check=False, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
