"""A real daemon with a virtual tape library: what its clients, its signals and its crashes see."""

from __future__ import annotations

import errno
import json
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks.harness import Lrsd, Site, administer
from benchmarks.sites import Sites
from lrs_trio.dss.operations import AddDevice, AddMedia, ReadDevices, ReadMedium
from lrs_trio.model import AdmStatus, Device, Family, FsStatus, FsType, Medium, RequestKind, ResourceId
from lrs_trio.storage.virtual.library import VirtualLibrary, create
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    Monitor,
    Monitored,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    RequestBody,
    Stat,
    Statistics,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.daemon.conftest import (
    Caller,
    Running,
    change_dss,
    configure,
    logged,
    media_of,
    read,
    read_dss,
    release,
    serving,
    write,
)

SMALL = Path(__file__).parents[2] / "settings" / "virtual" / "small.toml"
FAST = 100_000.0
SLOW = 500.0
"""Moves and formats take part of a second, and long enough to be met."""

LEGACY = "legacy"
DRIVES = ("VD0001", "VD0002")


def tape(number: int, library: str = LEGACY) -> ResourceId:
    return ResourceId(Family.TAPE, f"V{number:05}L8", library)


def drive(serial: str, library: str = LEGACY) -> ResourceId:
    return ResourceId(Family.TAPE, serial, library)


@contextmanager
def tape_site(sites: Sites, *libraries: str, speed: float = FAST) -> Iterator[Site]:
    """Libraries of two drives and eight blank tapes each, all known and unlocked."""
    with sites.temporary(0) as made:
        described = {}
        for name in libraries:
            create(made.base / name, SMALL)
            virtual = {"robot": "virtual", "drives": "virtual", "directory": str(made.base / name), "speed": speed}
            described[name] = virtual
            add_library(made, name)
        sync = {"time_ms": 1, "requests": 1}
        tapes = {"enabled": True, "mount_prefix": f"{made.base}/mnt-{''.join(libraries)}-", "sync": sync}
        configure(made, families={"dir": {"enabled": False}, "tape": tapes}, libraries=described)
        yield made


def add_library(site: Site, name: str) -> None:
    """Make its drives and tapes known, as administrators do."""
    elements = VirtualLibrary.open(site.base / name)
    drives = [
        Device(drive(found.serial, name), site.host, f"{found.path}-{name}", AdmStatus.UNLOCKED, found.model)
        for found in elements.drives
    ]
    media = tuple(
        Medium(ResourceId(Family.TAPE, found.label, name), FsType.LTFS, AdmStatus.UNLOCKED, model=found.model)
        for found in elements.cartridges
    )
    administer(site, *map(AddDevice, drives), AddMedia(media))


@pytest.fixture
def tapes(sites: Sites) -> Iterator[Site]:
    with tape_site(sites, LEGACY) as made:
        yield made


@pytest.fixture
def two_libraries(sites: Sites) -> Iterator[Site]:
    """Drives and tapes have the same names in both."""
    with tape_site(sites, LEGACY, "north") as made:
        yield made


@pytest.fixture
def slow_tapes(sites: Sites) -> Iterator[Site]:
    with tape_site(sites, LEGACY, speed=SLOW) as made:
        yield made


def tape_write(copies: int = 1, size: int = 1000, **more: Any) -> WriteAllocation:
    return WriteAllocation((WriteMedium(size),) * copies, Family.TAPE, **more)


async def formatted(caller: Caller, *media: ResourceId) -> None:
    for medium in media:
        await caller.ask(Format(medium, FsType.LTFS, unlock=True), Formatted)


async def write_files(caller: Caller, *, copies: int = 1, size: int = 1000, **more: Any) -> dict[ResourceId, Path]:
    """Write one file on each of so many tapes, and return where they are when that is acknowledged."""
    granted = await caller.ask(tape_write(copies, size, **more), WriteGranted)
    files = {medium.medium: Path(medium.root, "file") for medium in granted.media}
    for path in files.values():
        path.write_bytes(b"x" * size)
    answer = await caller.ask(release(*files, size=size), Released)
    assert answer.media == tuple(files)
    return files


async def drives_of(running: Running) -> dict[str, dict[str, Any]]:
    return {device["name"]: device for device in (await running.family())["devices"]}


async def counters(running: Running) -> Mapping[tuple[str, str], int]:
    """The counters of the drives, by name and drive."""
    metrics = json.loads((await running.ask(Stat(ns="dev"), Statistics)).stats)
    found: Counter[tuple[str, str]] = Counter()
    for metric in metrics:
        tags = dict(item.split("=", 1) for item in metric["tags"].split(","))
        found[metric["name"], tags["device"]] = metric["value"]
    return found


async def test_two_copies_are_written_and_read_back(tapes: Site) -> None:
    async with serving(tapes, format=False) as running, running.connect() as caller:
        await formatted(caller, tape(1), tape(2))
        files = await write_files(caller, copies=2)
        assert files.keys() == {tape(1), tape(2)}
        running.count(*files)
        granted = await caller.ask(read(*files, n_required=2), ReadGranted)
        for medium in granted.media:
            assert Path(medium.root, "file").read_bytes() == b"x" * 1000
        await caller.send(Request(2, release(*files, to_sync=False, kind=RequestKind.RELEASE_READ)))
        await running.until(lambda family: not any(device["grants"] for device in family["devices"]))
        row = await read_dss(tapes, ReadMedium(tape(1)))
        assert row is not None
        assert (row.medium.fs_status, row.medium.fs_label) == (FsStatus.USED, "V00001L8")


async def test_what_is_told_of_the_drives(tapes: Site) -> None:
    async with serving(tapes, format=False) as running, running.connect() as caller:
        await formatted(caller, tape(1))
        for _ in range(3):
            running.count(*await write_files(caller))
        (used,) = [name for name, found in (await drives_of(running)).items() if found["medium"] is not None]
        (idle,) = {*DRIVES} - {used}
        found = await counters(running)
        names = ("nb_load", "nb_unload", "nb_mount", "nb_umount", "nb_format", "effective_sync", "requested_sync")
        assert [found[f"dev.{name}", used] for name in names] == [1, 0, 1, 0, 1, 3, 3]
        assert [found[f"dev.{name}", idle] for name in names] == [0] * 7
        status = (await drives_of(running))[used]
        expected = {"status": "mounted", "medium": "V00001L8", "fs_status": "used", "dedicated_to": "RWF"}
        assert {key: status[key] for key in expected} == expected
        assert status["times"].keys() >= {"adopting", "empty", "loading", "loaded", "formatting", "mounting", "mounted"}
        monitored = json.loads((await caller.ask(Monitor(Family.TAPE), Monitored)).status)
        by_serial = {found["serial"]: found for found in monitored}
        assert by_serial.keys() == {*DRIVES}
        assert by_serial[used]["media"] == "V00001L8"
        assert by_serial[used]["mount_path"] == status["root"]
        assert "media" not in by_serial[idle]
        assert sorted(found["address"] for found in monitored) == [0, 1]
        family = await running.family()
        assert family["media"] == {"drives": 1, "shelf": 7}
        assert family["volumes"] == 1


async def test_more_tapes_than_drives(tapes: Site) -> None:
    async with serving(tapes, format=False) as running:

        async def format_and_write(number: int) -> None:
            async with running.connect() as caller:
                await formatted(caller, tape(number))
                running.count(*await write_files(caller))

        async with trio.open_nursery() as nursery:
            for number in range(1, 7):
                nursery.start_soon(format_and_write, number)
        async with running.connect() as caller:
            for number in range(1, 7):
                granted = await caller.ask(read(tape(number)), ReadGranted)
                assert media_of(granted) == (tape(number),)
                await caller.send(Request(2, release(tape(number), to_sync=False, kind=RequestKind.RELEASE_READ)))


@pytest.mark.note("11")
def test_a_daemon_that_is_killed_leaves_a_mounted_tape_to_the_next_one(tapes: Site) -> None:
    async def write_one() -> tuple[int, dict[ResourceId, Path]]:
        async with await trio.open_unix_socket(str(tapes.socket)) as stream:
            caller = Caller(stream)
            await formatted(caller, tape(1))
            files = await write_files(caller)
            # One that is lost with the daemon.
            await caller.ask(tape_write(), WriteGranted)
            return len(files), files

    async def adopt(files: dict[ResourceId, Path]) -> None:
        async with serving(tapes, format=False) as running, running.connect() as caller:
            (adopted,) = [found for found in (await drives_of(running)).values() if found["medium"] is not None]
            assert (adopted["status"], adopted["root"]) == ("mounted", str(files[tape(1)].parent))
            await caller.ask(read(tape(1)), ReadGranted)
            assert files[tape(1)].read_bytes() == b"x" * 1000
            await caller.send(Request(2, release(tape(1), to_sync=False, kind=RequestKind.RELEASE_READ)))
            running.count(*await write_files(caller))
            found = await counters(running)
            assert sum(found[name, serial] for name in ("dev.nb_load", "dev.nb_mount") for serial in DRIVES) == 0

    with Lrsd(tapes) as daemon:
        daemon.wait_ready()
        count, files = trio.run(write_one)
        assert count == 1
        daemon.kill()
        daemon.wait()
    trio.run(adopt, files)


@pytest.mark.note("11")
async def test_a_drain_while_a_tape_is_loaded(tapes: Site) -> None:
    async with serving(tapes, format=False) as running, running.connect() as caller:
        await formatted(caller, tape(1), tape(2), tape(3))
        in_drives = {found["medium"] for found in (await drives_of(running)).values()}
    (shelved,) = {tape(1), tape(2), tape(3)} - {ResourceId(Family.TAPE, name, LEGACY) for name in in_drives}
    async with serving(tapes, f"libraries.{LEGACY}.speed={SLOW}", format=False) as running, running.connect() as caller:
        await caller.send(Request(7, read(shelved)))
        await running.until(lambda family: any(device["status"] == "loading" for device in family["devices"]))
        await running.drain(signal.SIGTERM)
        response = await caller.receive()
        assert (response.request_id, response.body) == (7, Failed(-errno.ESHUTDOWN, RequestKind.READ))
        await running.wait_ended()
    # The move was not torn in half: the next one finds the tape in a drive.
    async with serving(tapes, format=False) as running:
        assert shelved.name in {found["medium"] for found in (await drives_of(running)).values()}


@pytest.mark.note("5.1", "11")
async def test_a_drain_while_a_tape_is_formatted(slow_tapes: Site) -> None:
    async with serving(slow_tapes, format=False) as running, running.connect() as caller:
        await caller.send(Request(7, Format(tape(1), FsType.LTFS, unlock=True)))
        await running.until(lambda family: any(device["status"] == "formatting" for device in family["devices"]))
        await running.drain(signal.SIGTERM)
        async with running.connect() as late:
            assert await late.refused(tape_write()) == errno.ESHUTDOWN
        response = await caller.receive()
        assert (response.request_id, response.body) == (7, Formatted(tape(1)))
        await running.wait_ended()
    row = await read_dss(slow_tapes, ReadMedium(tape(1)))
    assert row is not None
    assert (row.medium.fs_status, row.lock) == (FsStatus.EMPTY, None)


async def test_two_libraries(two_libraries: Site) -> None:
    async with serving(two_libraries, format=False) as running, running.connect() as caller:
        assert len((await running.family())["devices"]) == 2 * len(DRIVES)
        await formatted(caller, tape(1), tape(1, "north"))
        for library in (LEGACY, "north"):
            files = await write_files(caller, library=library)
            assert files.keys() == {tape(1, library)}
            running.count(*files)
        both = await caller.ask(read(tape(1), tape(1, "north"), n_required=2), ReadGranted)
        assert len({medium.root for medium in both.media}) == 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (read(tape(99)), errno.ENXIO),
        (read(tape(1)), errno.EINVAL),  # it is blank
        (read(tape(1, "south")), errno.ENXIO),
        (read(tape(1), n_required=2), errno.EINVAL),
        (read(tape(1), tape(1), n_required=2), errno.EINVAL),
        (read(), errno.EINVAL),
        (tape_write(0), errno.EINVAL),
        (tape_write(), errno.ENOSPC),  # nothing is formatted
        (tape_write(1000), errno.ENOSPC),
        (write(), errno.EINVAL),  # no such family is served
        (Format(tape(99), FsType.LTFS), errno.ENXIO),
        (Format(tape(1), FsType.POSIX), errno.EINVAL),
        (Format(tape(1), FsType.RADOS, force=True), errno.EINVAL),
    ],
)
async def test_requests_that_can_never_be(tapes: Site, body: RequestBody, error: int) -> None:
    async with serving(tapes, format=False) as running, running.connect() as caller:
        assert await caller.refused(body) == error
        assert await running.stat("dev.nb_load") == 0


async def test_a_release_of_a_tape_that_is_in_no_drive(tapes: Site) -> None:
    async with serving(tapes, format=False) as running, running.connect() as caller:
        assert await caller.refused(release(tape(1))) == errno.ENODEV
        await formatted(caller, tape(1))
        assert await caller.refused(release(tape(1))) == errno.EINVAL
        elements = tuple(ReleasedMedium(tape(number), 0, 1, 1, True) for number in (1, 1, 99))
        await caller.send(Request(3, Release(elements, RequestKind.RELEASE_WRITE)))
        response = await caller.receive()
        assert isinstance(response.body, Failed)


async def test_a_drive_of_a_library_that_the_settings_do_not_know(tapes: Site, lines: list[Any]) -> None:
    stranger = Device(drive("SX", "gone"), tapes.host, "/dev/SX", AdmStatus.UNLOCKED)
    await change_dss(tapes, AddDevice(stranger))
    async with serving(tapes, format=False) as running, running.connect() as caller:
        line = await logged(lines, lambda line: line["event"] == "device not usable")
        assert "[libraries.gone]" in line["error"]
        found = (await drives_of(running))["SX"]
        assert found["status"] == "failed"
        assert "[libraries.gone]" in found["reason"]
        await formatted(caller, tape(1))
        running.count(*await write_files(caller))
        # Nothing is wrong with the drive itself.
        rows = await read_dss(tapes, ReadDevices(Family.TAPE))
        assert {row.device.adm_status for row in rows} == {AdmStatus.UNLOCKED}
