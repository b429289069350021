"""Values that the tests of the DSS share."""

from __future__ import annotations

import json

from lrs_trio.dss.operations import AddDirectory, LogEntry
from lrs_trio.model import Device, Family, FsType, LockOwner, Medium, ResourceId

LIBRARY = "legacy"
HOST = "store1"
DAEMON = LockOwner(HOST, 4711)
COMMAND = LockOwner(HOST, 4712)
ELSEWHERE = LockOwner("store2", 4711)


def device_id(path: str = "/srv/a") -> ResourceId:
    return ResourceId(Family.DIR, f"{HOST}:{path}", LIBRARY)


def medium_id(path: str = "/srv/a") -> ResourceId:
    return ResourceId(Family.DIR, path, LIBRARY)


def directory(path: str = "/srv/a") -> AddDirectory:
    return AddDirectory(Device(device_id(path), HOST, path), Medium(medium_id(path), FsType.POSIX))


def tape_id(name: str = "P00001L8") -> ResourceId:
    return ResourceId(Family.TAPE, name, LIBRARY)


def tape(name: str = "P00001L8") -> Medium:
    return Medium(tape_id(name), FsType.LTFS, model="LTO8")


def drive(serial: str = "1013005381") -> Device:
    return Device(ResourceId(Family.TAPE, serial, LIBRARY), HOST, "/dev/sg3", model="ULT3580-TD8")


def log_entry(number: int, path: str = "/srv/a", text: str = "") -> LogEntry:
    return LogEntry(device_id(path), path, number, "LTFS sync", json.dumps({"sync": text}))
