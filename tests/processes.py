"""Child processes of tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def child(arguments: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is gone after the block, so that a test that fails does not wait for what never ends."""
    with subprocess.Popen(arguments, **options) as process:
        try:
            yield process
        finally:
            process.kill()
