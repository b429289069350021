"""A SCSI changer, by the program `mtx`.

The program numbers storage elements from 1 and drives from 0 and does not tell SCSI addresses. Addresses here are
made of its numbers: a storage element's is its number, a drive's its number after `FIRST_DRIVE`. Neither does the
program tell the serials of drives: the settings do. It says nothing of the arm.
"""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Sequence
from typing import Final

import structlog
import trio

from lrs_trio.errors import OperationError, describe
from lrs_trio.storage.command import Finished, run_command
from lrs_trio.storage.elements import Element, ElementKind

log = structlog.get_logger()

FIRST_DRIVE: Final = 60_000
"""Beyond the storage elements of the largest libraries, and within 16 bits as SCSI addresses are."""

QUERY_SECONDS: Final = 120.0
"""How long a library may take to say what is where. Seconds."""

_MOST_LINES: Final = 2 * FIRST_DRIVE

_HEADER: Final = re.compile(r"\s*Storage Changer .*:(\d+) Drives, (\d+) Slots \( *(\d+) Import/Export *\)")
_DRIVE: Final = re.compile(r"\s*Data Transfer Element (\d+):\s*(.*)")
_STORAGE: Final = re.compile(r"\s*Storage Element (\d+)( IMPORT/EXPORT)?:\s*(.*)")
_CONTENT: Final = re.compile(
    r"(?P<state>\w+)\s*(?:\((?:Storage Element (?P<source>\d+) Loaded|[^)]*)\))?"
    r"\s*(?::VolumeTag *=(?P<label>[^:]*))?(?::AlternateVolumeTag *=.*)?"
)
_MAY_PASS: Final = re.compile(r"Sense Key=(Unit Attention|Not Ready)")
"""A library that has been opened, or is still about to become ready, has not moved anything."""


def parse_status(lines: Sequence[str], serials: Sequence[str] = ()) -> tuple[Element, ...]:
    """The elements in what ``mtx status`` prints; `serials` are those of the drives, by their numbers.

    Lines of other kinds are passed over. A drive that is neither full nor empty, or that is counted and not listed,
    is down.

    Raises:
        ValueError: that is no status, or not all of one.
    """
    header = next(filter(None, map(_HEADER.match, lines)), None)
    if header is None:
        raise ValueError("no line says how many drives and slots there are")
    drives, slots = int(header[1]), int(header[2])
    if slots >= FIRST_DRIVE:
        raise ValueError(f"{slots} slots are more than the {FIRST_DRIVE - 1} that can be addressed")
    storage = [_storage(found) for found in filter(None, map(_STORAGE.match, lines))]
    if len(storage) < slots:
        raise ValueError(f"{slots} slots are announced and {len(storage)} are listed")
    listed = {int(found[1]): found[2] for found in filter(None, map(_DRIVE.match, lines))}
    numbers = sorted(listed.keys() | set(range(drives)))
    return (*storage, *(_drive(number, listed.get(number, ""), serials) for number in numbers))


def _storage(found: re.Match[str]) -> Element:
    kind = ElementKind.IMPORT_EXPORT if found[2] else ElementKind.SLOT
    return _element(kind, int(found[1]), found[3])


def _drive(number: int, text: str, serials: Sequence[str]) -> Element:
    device_id = serials[number] if number < len(serials) else ""
    return _element(ElementKind.DRIVE, FIRST_DRIVE + number, text, device_id)


def _element(kind: ElementKind, address: int, text: str, device_id: str = "") -> Element:
    content = _CONTENT.match(text)
    state = content["state"].lower() if content else ""
    if content is None or state != "full":
        return Element(kind, address, device_id=device_id, accessible=state == "empty")
    source = int(content["source"]) if content["source"] else None
    return Element(kind, address, True, (content["label"] or "").strip() or None, source, device_id)


def move_arguments(source: int, target: int) -> tuple[str, ...]:
    """What `mtx` has to be told to carry a medium from one address to another.

    Raises:
        OperationError: ENOTSUP, from a drive to a drive.
    """
    from_drive, to_drive = source >= FIRST_DRIVE, target >= FIRST_DRIVE
    if from_drive and to_drive:
        text = "mtx carries no medium from drive to drive; unload the one that it is in first"
        raise OperationError(errno.ENOTSUP, text, {"MEDIUM_IN_DRIVE": text})
    if to_drive:
        return "load", str(source), str(target - FIRST_DRIVE)
    if from_drive:
        return "unload", str(target), str(source - FIRST_DRIVE)
    return "transfer", str(source), str(target)


class MtxChanger:
    """A `Changer` that runs `mtx`.

    Args:
        command: the program and the arguments that name the changer.
        serials: of the drives, in the order of their numbers.
        move_s: how long one move may take. Seconds.
        retries: how often a command is given again when the library says that it is not ready.
        retry_s: the pause before that. Seconds.
    """

    def __init__(
        self, command: Sequence[str], serials: Sequence[str], *, move_s: float, retries: int, retry_s: float
    ) -> None:
        self._command = tuple(command)
        self._serials = tuple(serials)
        self._move_s = move_s
        self._retries = retries
        self._retry_s = retry_s

    async def elements(self) -> tuple[Element, ...]:
        lines = await self._run("status", seconds=QUERY_SECONDS)
        try:
            elements = parse_status(lines, self._serials)
        except ValueError as error:
            text = f"what mtx prints is not understood: {error}"
            raise OperationError(errno.EIO, text, {"mtx status": text}) from None
        nameless = [
            element.address - FIRST_DRIVE
            for element in elements
            if element.kind is ElementKind.DRIVE and not element.device_id
        ]
        if nameless:
            log.warning("the settings name no serials of these drives: nobody can use them", numbers=nameless)
        return elements

    async def move(self, source: int, target: int) -> None:
        await self._run(*move_arguments(source, target), seconds=self._move_s)

    async def check(self) -> bool:
        try:
            await self._run("inquiry", seconds=QUERY_SECONDS)
        except OSError as error:
            log.debug("the changer does not answer", error=describe(error))
            return False
        return True

    async def _run(self, *arguments: str, seconds: float) -> list[str]:
        """What `mtx` prints, after as many attempts as are allowed; each may take `seconds`.

        Raises:
            OperationError: EIO, it fails; ETIMEDOUT, it takes too long.
            OSError: it cannot be started.
        """
        attempts_left = self._retries
        while True:
            lines, finished = await self._attempt(arguments, seconds)
            if finished.ok:
                return lines
            if not attempts_left or not any(map(_MAY_PASS.search, lines)):
                record = {f"mtx {arguments[0]}": finished.how, "output": "\n".join(finished.last_lines)}
                raise OperationError(errno.EIO, str(finished), record)
            attempts_left -= 1
            log.info("the library is not ready, trying again", command=finished.command, seconds=self._retry_s)
            await trio.sleep(self._retry_s)

    async def _attempt(self, arguments: Sequence[str], seconds: float) -> tuple[list[str], Finished]:
        lines: list[str] = []

        def keep(line: str) -> None:
            if len(lines) < _MOST_LINES:
                lines.append(line)

        try:
            with trio.fail_after(seconds):
                return lines, await run_command([*self._command, *arguments], on_line=keep)
        except trio.TooSlowError:
            text = f"{shlex.join([*self._command, *arguments])} has not ended within {seconds:g} s and was given up"
            raise OperationError(errno.ETIMEDOUT, text, {f"mtx {arguments[0]}": text}) from None
