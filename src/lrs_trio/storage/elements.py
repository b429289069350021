"""What a tape library is made of, as a robot sees it: places for cartridges, each with its address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class ElementKind(Enum):
    """The values are the words of the status that a tape library controller gives, in the order that it gives."""

    ARM = "arm"
    SLOT = "slot"
    IMPORT_EXPORT = "import/export"
    DRIVE = "drive"


@dataclass(frozen=True, slots=True)
class Element:
    """One place. `label` is the barcode of the cartridge in it, ``None`` if there is none or it bears none.

    `source` is the address of the slot that a drive's cartridge came from. `device_id` names a drive; its last
    word is the serial. What is not `accessible` cannot be reached by the robot: a drive that is down.
    """

    kind: ElementKind
    address: int
    full: bool = False
    label: str | None = None
    source: int | None = None
    device_id: str = ""
    accessible: bool = True

    @property
    def serial(self) -> str:
        """The serial of a drive."""
        return self.device_id.rpartition(" ")[2]


def in_order(elements: Iterable[Element]) -> list[Element]:
    """By kind and address: arms, slots, import/export slots, drives."""
    kinds = list(ElementKind)
    return sorted(elements, key=lambda element: (kinds.index(element.kind), element.address))
