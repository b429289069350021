"""What a daemon has when it starts, for a trace: its settings, devices and media."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from lrs_trio.model import Device, Medium
from lrs_trio.plain import from_plain, to_plain
from lrs_trio.settings import Settings

if TYPE_CHECKING:
    from pydantic.main import IncEx

SETTINGS: Final = "inventory.settings"
DEVICE: Final = "inventory.device"
MEDIUM: Final = "inventory.medium"

_THAT_MATTER: Final[Mapping[str, IncEx | bool]] = {
    "host": True,
    "server": {"max_frame_bytes", "max_requests_per_connection", "response_channel", "slow_client_s"},
    "dss": {"recheck_s"},
    "families": True,
}
"""Settings that decide how requests fare. Places, commands and names of users are no business of a trace's readers."""

_OTHERS: Final[Mapping[str, IncEx | bool]] = {"families": {"tape": {"ltfs", "mount_prefix"}}}


@dataclass(frozen=True, slots=True)
class Inventory:
    """The `devices` of one host in the order of their names, the `media` that may be in them, and the settings of who
    schedules them."""

    settings: Settings
    devices: tuple[Device, ...]
    media: tuple[Medium, ...]

    @property
    def resources(self) -> tuple[Device | Medium, ...]:
        return *self.devices, *self.media


def inventory_lines(inventory: Inventory) -> Iterator[dict[str, object]]:
    """`inventory` as plain values, one for each part of it."""
    settings = inventory.settings.model_dump(mode="json", include=_THAT_MATTER, exclude=_OTHERS)
    yield {"kind": SETTINGS, "settings": settings}
    for resource in inventory.resources:
        yield resource_line(resource)


def resource_line(resource: Device | Medium) -> dict[str, object]:
    """A device or medium as plain values."""
    if isinstance(resource, Device):
        return {"kind": DEVICE, "device": to_plain(resource)}
    return {"kind": MEDIUM, "medium": to_plain(resource)}


class InventoryReader:
    """Puts an inventory together from its lines; of what was added later it has all that was found then."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._devices: list[Device] = []
        self._media: list[Medium] = []

    def take(self, line: Mapping[str, Any]) -> bool:
        """``False`` if `line` is of another kind.

        Raises:
            ValueError: it lacks what its kind has.
        """
        kind = line.get("kind")
        if kind == SETTINGS:
            self._settings = _settings(line.get("settings"))
        elif kind == DEVICE:
            self._devices.append(from_plain(Device, line.get("device")))
        elif kind == MEDIUM:
            self._media.append(from_plain(Medium, line.get("medium")))
        return kind in (SETTINGS, DEVICE, MEDIUM)

    def inventory(self) -> Inventory | None:
        """``None`` if there are no settings: the daemon did not get so far."""
        if self._settings is None:
            return None
        return Inventory(self._settings, tuple(self._devices), tuple(self._media))


def _settings(plain: object) -> Settings:
    """What is not said is as by default.

    Raises:
        ValueError: these are no settings.
    """
    try:
        return Settings.model_validate(plain)
    except ValidationError as error:
        raise ValueError(str(error)) from None
