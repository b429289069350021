"""Runs a command inside an allocation, and releases what it has written (decision 22)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from lrs_trio.cli.command import fill_in, root_variables, run_command
from lrs_trio.cli.output import counted, say, say_error
from lrs_trio.cli.site import Site
from lrs_trio.cli.waiting import says_what_it_waits_for
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import Family, ResourceId
from lrs_trio.sizes import human_size

if TYPE_CHECKING:
    from lrs_trio.client import Allocation, Client

EXIT_NOT_RUNNABLE: Final = 126
EXIT_NOT_FOUND: Final = 127

ADVICE: Final = {
    errno.EINVAL: "the daemon serves no such family (see lrs status), or a medium is blank or named twice; see its log",
    errno.ENOSPC: "too few media are formatted, unlocked, not full, and as asked for: see lrs {family} list",
    errno.ENODEV: "there are not enough devices in service that hold the media or could take them: see lrs status",
    errno.ENXIO: "the DSS or the library does not know it: see lrs {family} list",
    errno.EPERM: "a medium is locked, has failed, or may not be used so: see lrs {family} list",
    errno.EALREADY: "another host or process uses it: see lrs {family} list",
    errno.EBUSY: "it is in a drive that is out of service (see lrs lib scan), or this client asks for too much at once",
    errno.EIO: "a medium or a device has failed: see lrs status and the log of the daemon",
    errno.ETIMEDOUT: "an operation did not end in time, and its device is out of service: see lrs status",
    errno.ECONNREFUSED: "the library of the media cannot be reached: see lrs lib status",
    errno.EHOSTUNREACH: "the library of the media cannot be reached: see lrs lib status",
    errno.ESHUTDOWN: "the daemon is ending",
}
"""What a refusal means here: the daemon answers with a number."""

DEFAULT_LIBRARY: Final = "legacy"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to allocate: room for `size` bytes on each of `copies` media, or without a size `required` of `media`."""

    family: str
    library: str | None
    size: int | None = None
    copies: int = 1
    tags: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    required: int = 1


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a directory: `size` bytes in regular `files`; `empty` if there is nothing at all."""

    size: int
    files: int
    empty: bool


class _CommandFailedError(OSError):
    """Leaves the allocation's block, which gives everything back without a sync."""

    def __init__(self, status: int) -> None:
        super().__init__(errno.ECANCELED, f"the command ended with status {status}")
        self.status = status


def run_in_allocation(site: Site, wanted: Wanted, command: Sequence[str], quiet: bool) -> int:
    """Allocate, run `command`, release; the command's status.

    Raises:
        OSError: the allocation was refused, or what was written is not safe.
        ValueError: `command` has a placeholder for a medium that is not wanted.
        SettingsError: the settings do not say where the daemon is.
    """
    # What becomes of the settings file while we wait and run is no concern of this allocation.
    site = replace(site, socket=site.socket_path)
    try:
        with site.connect() as client, ExitStack() as allocated:
            with says_what_it_waits_for(site, wanted.family):
                allocation = _allocate(client, wanted, allocated)
            if wanted.size is None:
                return _run(command, [held.root for held in allocation.media])
            return _write(allocation, command, quiet, allocated)
    except _CommandFailedError as failed:
        return failed.status


def _write(allocation: Allocation, command: Sequence[str], quiet: bool, allocated: ExitStack) -> int:
    directories = [make_private_directory(held.root) for held in allocation.media]
    try:
        _run(command, [str(directory) for directory in directories])
        contents = [measure(directory) for directory in directories]
    except BaseException:
        for directory in directories:
            _keep_or_remove(directory)
        raise
    for held, directory, content in zip(allocation.media, directories, contents, strict=True):
        held.wrote(content.size, content.files)
        if content.empty:
            directory.rmdir()
    written = [directory for directory, content in zip(directories, contents, strict=True) if not content.empty]
    _release(allocated, written)
    if not quiet:
        for directory, content in zip(directories, contents, strict=True):
            _tell(directory, content)
    return 0


def _release(allocated: ExitStack, written: Sequence[Path]) -> None:
    """Have synced and counted what was `written`.

    Raises:
        OSError: it was not, or nobody knows; what was written where is told.
    """
    try:
        allocated.close()
    except BaseException as error:
        # The daemon counts nothing of what it refuses. Without an answer it may have done its work all the same.
        fate = (
            "revoked or refused, so not accounted for, and yours to keep or to remove"
            if isinstance(error, LrsError)
            else "it is not known whether this is accounted for"
        )
        for directory in written:
            say(f"{fate}: {directory}")
        raise


def _run(command: Sequence[str], roots: Sequence[str]) -> int:
    """Run `command` to its end.

    Raises:
        _CommandFailedError: it did not succeed, or could not be run at all.
    """
    arguments = fill_in(command, roots)
    try:
        status = run_command(arguments, os.environ | root_variables(roots))
    except OSError as error:
        say_error(error, arguments[0])
        raise _CommandFailedError(EXIT_NOT_FOUND if error.errno == errno.ENOENT else EXIT_NOT_RUNNABLE) from None
    if status:
        raise _CommandFailedError(status)
    return status


def _allocate(client: Client, wanted: Wanted, allocated: ExitStack) -> Allocation:
    try:
        return allocated.enter_context(_ask(client, wanted))
    except OSError as error:
        advice = ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        told = f"{describe(error)}; {advice.format(family=wanted.family)}"
        raise LrsError(error.errno or errno.EIO, told) from error


def _ask(client: Client, wanted: Wanted) -> AbstractContextManager[Allocation]:
    family = Family.from_label(wanted.family)
    if wanted.size is not None:
        return client.write(wanted.size, copies=wanted.copies, family=family, tags=wanted.tags, library=wanted.library)
    media = [ResourceId(family, _name(name, family), wanted.library or DEFAULT_LIBRARY) for name in wanted.media]
    return client.read(media, n_required=wanted.required)


def _name(medium: str, family: Family) -> str:
    return os.path.realpath(medium) if family is Family.DIR else medium


def make_private_directory(root: str) -> Path:
    path = Path(root, f"lrs-exec-{uuid4().hex}")
    path.mkdir()
    return path


def _keep_or_remove(directory: Path) -> None:
    """After a failure, which it leaves the one that is told: what the command wrote is its user's."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        say(f"the command has moved or removed {directory}: nothing of it is accounted for")
    except OSError as error:
        why = "" if error.errno == errno.ENOTEMPTY else f" ({describe(error)})"
        say(f"not accounted for, and yours to keep or to remove{why}: {directory}")


def _tell(directory: Path, content: Content) -> None:
    if content.empty:
        say(f"nothing was written in {directory}, it is removed")
    else:
        say(f"{counted(content.files, 'file')}, {human_size(content.size)} in {directory}")


def measure(directory: Path) -> Content:
    """What is below `directory`; links are neither followed nor counted.

    Raises:
        OSError: not all of it can be looked at.
    """

    def fail(error: OSError) -> None:
        raise error

    size = files = entries = 0
    for parent, directories, names in os.walk(directory, onerror=fail):
        entries += len(directories) + len(names)
        for name in names:
            found = os.lstat(os.path.join(parent, name))
            if stat.S_ISREG(found.st_mode):
                size += found.st_size
                files += 1
    return Content(size, files, entries == 0)
