"""Tape drives in a tree of files that looks as sysfs does."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lrs_trio.errors import LrsError
from lrs_trio.model import Device, Family, ResourceId
from lrs_trio.storage.protocols import Drive, DriveIdentity
from lrs_trio.storage.scsi_tape import ScsiTapeDrive, identify, scan

MODEL = "ULT3580-TD8"


class Sysfs:
    def __init__(self, directory: Path) -> None:
        self.root = directory / "class" / "scsi_tape"
        self.root.mkdir(parents=True)
        self._directory = directory

    def add(self, tape: str, sg: str, serial: bytes, model: bytes = b"ULT3580-TD8     \n") -> Path:
        """The directory of a new drive."""
        device = self._directory / "devices" / tape
        (device / "scsi_generic" / sg).mkdir(parents=True)
        (device / "vpd_pg80").write_bytes(page(serial))
        (device / "model").write_bytes(model)
        (device / "generic").symlink_to(f"scsi_generic/{sg}")
        for name in (tape, f"n{tape}", f"{tape}a", f"n{tape}m"):
            (self.root / name).mkdir()
            (self.root / name / "device").symlink_to(device)
        return device


def page(serial: bytes) -> bytes:
    return b"\x01\x80" + len(serial).to_bytes(2, "big") + serial


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def device(serial: str, model: str | None = MODEL) -> Device:
    return Device(ResourceId(Family.TAPE, serial, "legacy"), "store1", "/dev/old", model=model)


def test_drives_are_found_by_their_tape_names_in_order(sysfs: Sysfs) -> None:
    sysfs.add("st10", "sg3", b"SERIAL10")
    sysfs.add("st9", "sg12", b"\0\0  1013000123\0", model=b"ULTRIUM-HH8")
    (sysfs.root / "st").mkdir()
    assert scan(sysfs.root) == [
        DriveIdentity("/dev/sg12", "1013000123", "ULTRIUM-HH8"),
        DriveIdentity("/dev/sg3", "SERIAL10", MODEL),
    ]


def test_without_the_kernels_driver_there_are_none(tmp_path: Path) -> None:
    assert scan(tmp_path / "scsi_tape") == []


def no_page(drive: Path) -> None:
    (drive / "vpd_pg80").unlink()


def a_short_page(drive: Path) -> None:
    (drive / "vpd_pg80").write_bytes(page(b"SERIAL")[:-1])


def an_empty_page(drive: Path) -> None:
    (drive / "vpd_pg80").write_bytes(b"")


def another_page(drive: Path) -> None:
    (drive / "vpd_pg80").write_bytes(b"\x01\x83\0\x01x")


def a_blank_serial(drive: Path) -> None:
    (drive / "vpd_pg80").write_bytes(page(b" \0 "))


def no_model(drive: Path) -> None:
    (drive / "model").unlink()


def no_generic_device(drive: Path) -> None:
    (drive / "generic").unlink()


def an_odd_generic_device(drive: Path) -> None:
    (drive / "generic").unlink()
    (drive / "generic").symlink_to("scsi_generic/bsg1")


@pytest.mark.parametrize(
    "damage",
    [
        no_page,
        a_short_page,
        an_empty_page,
        another_page,
        a_blank_serial,
        no_model,
        no_generic_device,
        an_odd_generic_device,
    ],
)
def test_a_drive_that_cannot_be_read_hides_no_other(sysfs: Sysfs, damage: Callable[[Path], None]) -> None:
    damage(sysfs.add("st0", "sg0", b"BROKEN"))
    sysfs.add("st1", "sg1", b"WHOLE")
    with capture_logs() as lines:
        assert [drive.serial for drive in scan(sysfs.root)] == ["WHOLE"]
    [line] = lines
    assert (line["log_level"], line["drive"]) == ("warning", "st0")
    assert str(sysfs.root / "st0" / "device") in line["error"]


def test_a_serial_longer_than_a_byte_can_say_and_one_that_is_no_text(sysfs: Sysfs) -> None:
    sysfs.add("st0", "sg0", b"S" * 300)
    sysfs.add("st1", "sg1", b"\xff1", model=b"  ")
    assert [(drive.serial, drive.model) for drive in scan(sysfs.root)] == [("S" * 300, MODEL), ("\\xff1", None)]


async def test_a_drive_is_queried_by_its_serial_wherever_it_is_now(sysfs: Sysfs) -> None:
    drive: Drive = ScsiTapeDrive(sysfs.root)
    with pytest.raises(LrsError, match=r"SERIAL1.*there are none") as caught:
        await drive.query(device("SERIAL1"))
    assert caught.value.errno == errno.ENOENT
    sysfs.add("st0", "sg4", b"SERIAL0")
    with pytest.raises(LrsError, match=r"SERIAL1.*there are SERIAL0;"):
        await drive.query(device("SERIAL1"))
    sysfs.add("st1", "sg5", b"SERIAL1")
    assert await drive.query(device("SERIAL1", f" {MODEL} ")) == DriveIdentity("/dev/sg5", "SERIAL1", MODEL)


@pytest.mark.parametrize(
    ("in_dss", "found"), [("ULT3580-TD9", MODEL), (None, MODEL), (MODEL, ""), ("ULT3580-TD80", MODEL)]
)
async def test_a_drive_of_another_model_is_refused(sysfs: Sysfs, in_dss: str | None, found: str) -> None:
    sysfs.add("st0", "sg4", b"SERIAL0", found.encode())
    with pytest.raises(LrsError, match=r"SERIAL0.*/dev/sg4.*add it again") as caught:
        await ScsiTapeDrive(sysfs.root).query(device("SERIAL0", in_dss))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("in_dss", [None, "", " "])
async def test_a_drive_may_have_no_model_at_all(sysfs: Sysfs, in_dss: str | None) -> None:
    sysfs.add("st0", "sg4", b"SERIAL0", b"    ")
    assert (await ScsiTapeDrive(sysfs.root).query(device("SERIAL0", in_dss))).model is None


def test_a_drive_is_identified_by_its_tape_name_before_its_generic_one(sysfs: Sysfs, tmp_path: Path) -> None:
    sysfs.add("st3", "sg1", b"THREE")
    sysfs.add("st4", "sg0", b"FOUR")
    for name, serial in (("st3", "THREE"), ("sg1", "THREE"), ("st4", "FOUR"), ("sg0", "FOUR")):
        (tmp_path / name).touch()
        assert identify(str(tmp_path / name), sysfs.root).serial == serial
    (tmp_path / "by-id").symlink_to("st4")
    assert identify(str(tmp_path / "by-id"), sysfs.root) == DriveIdentity("/dev/sg0", "FOUR", MODEL)


def test_what_is_no_drive_is_not_identified(sysfs: Sysfs, tmp_path: Path) -> None:
    sysfs.add("st3", "sg1", b"THREE")
    with pytest.raises(FileNotFoundError, match="sg9"):
        identify(str(tmp_path / "sg9"), sysfs.root)
    (tmp_path / "sg9").touch()
    with pytest.raises(LrsError, match=r"sg9 is no tape drive.*/dev/st3 \(/dev/sg1\)") as caught:
        identify(str(tmp_path / "sg9"), sysfs.root)
    assert caught.value.errno == errno.ENOENT
