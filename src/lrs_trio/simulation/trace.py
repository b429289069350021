"""Everything that happens in a simulated run, as lines with the virtual time, and their digest."""

from __future__ import annotations

from collections import deque
from dataclasses import fields
from hashlib import blake2b
from typing import Final, TextIO

import trio

from lrs_trio.events import Event

KEPT: Final = 2_000
"""Lines that are kept to be shown after a failure."""

_FIELDS: Final = tuple((field.name, field.default) for field in fields(Event)[2:])


class Trace:
    """Takes lines; two runs are the same if their digests are.

    `sink` gets every line as it comes, if there is one.
    """

    def __init__(self, sink: TextIO | None = None) -> None:
        self.lines = 0
        self.last: deque[str] = deque(maxlen=KEPT)
        self._digest = blake2b(digest_size=16)
        self._sink = sink

    @property
    def digest(self) -> str:
        """Of all lines so far, in hexadecimal digits."""
        return self._digest.hexdigest()

    def note(self, kind: str, /, **values: object) -> None:
        """Add a line: `kind` happens now. Values must read the same in every process: no set, no address."""
        told = " ".join(f"{name}={value}" for name, value in values.items())
        line = f"{trio.current_time():.6f} {kind} {told}".rstrip()
        self.lines += 1
        self.last.append(line)
        self._digest.update(line.encode())
        self._digest.update(b"\n")
        if self._sink is not None:
            print(line, file=self._sink)

    def event(self, event: Event) -> None:
        """Add what the daemon tells."""
        self.note(
            event.kind.value,
            **{name: value for name, empty in _FIELDS if (value := getattr(event, name)) != empty},
        )
