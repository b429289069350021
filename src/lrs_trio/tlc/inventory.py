"""What the controller knows of its library: which medium is where, and what has to be moved for a request. Pure.

The keys of the records are those that clients of other controllers know.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from lrs_trio.errors import OperationError
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.library_status import dump_elements

_SEARCHED: Final = (ElementKind.SLOT, ElementKind.DRIVE, ElementKind.ARM, ElementKind.IMPORT_EXPORT)
"""Where a medium is looked for, in this order."""


@dataclass(frozen=True, slots=True)
class Move:
    """A medium on its way from one address to another; its label is empty if it bears none."""

    label: str
    source: int
    target: int


class Inventory:
    """The elements of a library, by address."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self._elements = {element.address: element for element in elements}

    def __len__(self) -> int:
        return len(self._elements)

    def dump(self) -> str:
        """All elements as JSON."""
        return dump_elements(self._elements.values())

    def first_drive(self) -> int:
        """The lowest address of a drive."""
        return min((element.address for element in self._of(ElementKind.DRIVE)), default=0)

    def drive(self, serial: str) -> Element:
        """The drive with this serial.

        Raises:
            OperationError: ENOENT, there is none.
        """
        return self._drive(serial, "DRIVE_SERIAL_UNKNOWN")

    def plan_load(self, serial: str, label: str) -> Move:
        """What brings the medium `label` into a drive.

        Raises:
            OperationError: ENOENT, there is no such drive or medium; EBUSY, something is in the drive; EIO, the robot
                does not reach the drive.
        """
        drive = self.drive(serial)
        found = next((element for kind in _SEARCHED for element in self._of(kind) if element.label == label), None)
        if found is None:
            raise OperationError(errno.ENOENT, f"no medium has the label {label}", {"MEDIA_LABEL_UNKNOWN": label})
        if drive.full:
            text = f"{drive.label or 'a medium without a label'} is in drive {serial}"
            raise OperationError(errno.EBUSY, text, {"DRIVE_NOT_EMPTY": serial, "LOADED_TAPE": drive.label or ""})
        if not drive.accessible:
            text = f"the robot does not reach drive {serial}"
            raise OperationError(errno.EIO, text, {"DRIVE_NOT_ACCESSIBLE": serial})
        return Move(label, found.address, drive.address)

    def plan_unload(self, serial: str, label: str | None) -> Move | None:
        """What empties a drive, to the slot that its medium came from if that is free; ``None`` if it is empty.

        Raises:
            OperationError: ENOENT, there is no such drive or no free slot; EINVAL, `label` is not in the drive.
        """
        drive = self._drive(serial, "DRIVE_UNKNOWN_SERIAL")
        if not drive.full:
            if label is not None:
                text = f"drive {serial} is empty, {label} is not in it"
                raise OperationError(errno.EINVAL, text, {"EMPTY_DRIVE_DOES_NOT_CONTAIN": label})
            return None
        loaded = drive.label or ""
        if label not in (None, loaded):
            text = f"{loaded or 'a medium without a label'} is in drive {serial}, not {label}"
            raise OperationError(errno.EINVAL, text, {"EXPECTED_TAPE": str(label), "LOADED_TAPE": loaded})
        return Move(loaded, drive.address, self._free_slot(drive.source))

    def moved(self, move: Move) -> None:
        """`move` is done."""
        source, target = self._elements[move.source], self._elements[move.target]
        self._elements[source.address] = replace(source, full=False, label=None, source=None)
        origin = source.address if target.kind is ElementKind.DRIVE else None
        self._elements[target.address] = replace(target, full=True, label=source.label, source=origin)

    def _of(self, kind: ElementKind) -> Iterable[Element]:
        return (element for element in self._elements.values() if element.kind is kind)

    def _drive(self, serial: str, unknown: str) -> Element:
        for element in self._of(ElementKind.DRIVE):
            if serial and element.serial == serial:
                return element
        raise OperationError(errno.ENOENT, f"no drive has the serial {serial}", {unknown: serial})

    def _free_slot(self, wanted: int | None) -> int:
        """The slot `wanted` if it is free, else the first one that is."""
        free = sorted(slot.address for slot in self._of(ElementKind.SLOT) if slot.accessible and not slot.full)
        if not free:
            raise OperationError(errno.ENOENT, "no slot is free", {"NO_FREE_SLOT": "every slot is full"})
        return wanted if wanted in free else free[0]
