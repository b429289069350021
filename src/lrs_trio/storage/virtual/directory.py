"""A virtual library that is kept in a directory, which any number of processes share."""

from __future__ import annotations

from pathlib import Path

import structlog

from lrs_trio.errors import LrsError, describe
from lrs_trio.storage.virtual.content import DirectoryContents
from lrs_trio.storage.virtual.faults import Fault, FaultTable
from lrs_trio.storage.virtual.state import StateFile
from lrs_trio.storage.virtual.tables import read_table

log = structlog.get_logger()

FAULTS = "faults.toml"


class FaultFile:
    """The faults that people write down for a library that runs; the file need not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int, int] | None = None

    def read_if_changed(self) -> tuple[Fault, ...] | None:
        """What is in the file, if it is another one than before; one that is no good is told of and left alone."""
        try:
            found = self._path.stat()
            signature = found.st_ino, found.st_mtime_ns, found.st_size
        except FileNotFoundError:
            signature = None
        if signature == self._known:
            return None
        self._known = signature
        if signature is None:
            return ()
        try:
            return read_table(self._path, FaultTable).faults
        except LrsError as error:
            log.warning("faults not read", file=str(self._path), error=describe(error))
            return None


class KeptInDirectory:
    """All of the library in `directory`; `durable` makes what is changed and synced survive the host's end."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self.name = directory.name
        self.place = str(directory)
        self.state = StateFile(directory, durable=durable)
        self.contents = DirectoryContents(directory, durable=durable)
        self._fault_file = FaultFile(directory / FAULTS)

    def listed_faults(self) -> tuple[Fault, ...] | None:
        return self._fault_file.read_if_changed()
