"""What a report says, read to its end."""

from __future__ import annotations

from typing import Any

from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.report import family_status


def reported_devices(family: FamilyScheduler) -> list[dict[str, Any]]:
    """The devices in the status of `family`."""
    devices: Any = family_status(family)["devices"]
    return list(devices)
