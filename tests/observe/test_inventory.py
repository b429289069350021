"""What a daemon had at its start, there and back."""

from __future__ import annotations

import json

import pytest

from lrs_trio.model import (
    AddressType,
    AdmStatus,
    Device,
    Family,
    FsStatus,
    FsType,
    Medium,
    MediumStats,
    ResourceId,
)
from lrs_trio.observe.inventory import Inventory, InventoryReader, inventory_lines
from lrs_trio.settings import (
    DrainSettings,
    DssSettings,
    FairShareSettings,
    FamiliesSettings,
    LtfsSettings,
    ServerSettings,
    Settings,
    TapeSettings,
    TapeSyncSettings,
)

DRIVE = Device(ResourceId(Family.TAPE, "1013005381", "legacy"), "silo1", "/dev/sg3", AdmStatus.UNLOCKED, "ULT3580-TD8")
TAPE = Medium(
    ResourceId(Family.TAPE, "P00003L8", "legacy"),
    FsType.LTFS,
    AdmStatus.UNLOCKED,
    FsStatus.USED,
    "P00003L8",
    AddressType.PATH,
    "LTO8",
    MediumStats(nb_obj=4, logc_spc_used=2**40, phys_spc_used=2**40, phys_spc_free=2**43, nb_load=3),
    ("blue", "nightly"),
    ("project-1",),
    delete=False,
)
SETTINGS = Settings(
    host="silo1",
    server=ServerSettings(response_channel=8, socket_group="lrs"),
    dss=DssSettings(url="postgresql://lrs:secret@dbhost/lrs", recheck_s=2.0),
    families=FamiliesSettings(
        tape=TapeSettings(
            enabled=True,
            fair_share={"LTO8": FairShareSettings(min=(1, 1, 0), max=(4, 4, 1))},
            drive_types={"LTO8_drive": ("ULT3580-TD8",)},
            sync=TapeSyncSettings(bytes=3 * 2**30),
            ltfs=LtfsSettings(release='/opt/secret "%s"'),
        )
    ),
    drain=DrainSettings(deadline_s=float("inf")),
)


def there_and_back(inventory: Inventory) -> Inventory | None:
    reader = InventoryReader()
    for line in inventory_lines(inventory):
        assert reader.take(json.loads(json.dumps(line)))
    return reader.inventory()


def test_devices_and_media_come_back_whole() -> None:
    read = there_and_back(Inventory(SETTINGS, (DRIVE,), (TAPE,)))
    assert read is not None
    assert (read.devices, read.media) == ((DRIVE,), (TAPE,))


def test_the_settings_that_matter_for_requests_come_back() -> None:
    read = there_and_back(Inventory(SETTINGS, (), ()))
    assert read is not None
    there, here = SETTINGS.families, read.settings.families
    assert read.settings.host == SETTINGS.host
    assert read.settings.server.response_channel == 8
    assert read.settings.dss.recheck_s == 2.0
    assert here.dir == there.dir
    assert here.tape == there.tape.model_copy(update={"ltfs": LtfsSettings()})


def test_no_password_command_or_group_of_the_site_is_told() -> None:
    told = json.dumps(list(inventory_lines(Inventory(SETTINGS, (DRIVE,), (TAPE,)))))
    for secret in ("secret", "dbhost", "socket"):
        assert secret not in told


def test_without_settings_there_is_no_inventory() -> None:
    reader = InventoryReader()
    assert not reader.take({"kind": "device.added", "device": "d1"})
    assert reader.inventory() is None


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "inventory.settings"},
        {"kind": "inventory.settings", "settings": {"host": 5}},
        {"kind": "inventory.device", "device": "d1"},
        {"kind": "inventory.device", "device": {"host": "silo1"}},
        {"kind": "inventory.medium", "medium": {"id": {"family": "disk", "name": "a", "library": "b"}}},
    ],
)
def test_damaged_lines_are_refused(line: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        InventoryReader().take(line)
