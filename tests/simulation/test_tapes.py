"""The tape library of a simulated world: what survives whom, what goes wrong, and what must never be."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, Never

import pytest
import trio

from lrs_trio.errors import LabelError, LibraryUnreachableError, LrsError
from lrs_trio.settings import TapeSettings
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.world import Process, ProcessKilledError
from lrs_trio.storage.protocols import DriveUnit
from tests.simulation.library import (
    BLANK,
    CAPACITY,
    D1,
    D2,
    LTO8,
    ROOT_1,
    A,
    B,
    Site,
    device,
    medium,
    plan,
    run,
)

UNLOADED_S = LTO8.unload_s(0) + LTO8.move_s()
LOADED_S = LTO8.move_s() + LTO8.load_s()
LONG_S = 100_000.0


async def inside(unit: DriveUnit, serial: str = D1) -> str | None:
    return (await unit.library.lookup(device(serial))).medium


async def fails(number: int, operation: Awaitable[object]) -> LrsError:
    """How `operation` fails, which has to be with the errno `number`."""
    with pytest.raises(LrsError) as caught:
        await operation
    assert caught.value.errno == number, caught.value
    return caught.value


async def given_up(seconds: float, operation: Awaitable[object]) -> None:
    """Give `operation` up after so long, which it must take."""
    with pytest.raises(trio.TooSlowError), trio.fail_after(seconds):
        await operation


# A cartridge comes and goes.


def test_a_cartridge_is_loaded_mounted_written_synced_and_taken_out() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted(A)
        assert trio.current_time() == LOADED_S + LTO8.mount_s(0)
        content = site.library.content_at(ROOT_1)
        assert content is site.library.content(A)
        file = content.write(1000)
        before = trio.current_time()
        space = await unit.filesystem.sync()
        assert trio.current_time() - before == pytest.approx(LTO8.sync_s(1))
        assert (space.used, space.free, space.read_only) == (1000, CAPACITY - 1000, False)
        assert file.durable
        await unit.filesystem.unmount()
        assert site.library.content_at(ROOT_1) is None
        await unit.library.unload(device(D1), A)
        assert await inside(unit) is None

    run(scenario)


def test_the_adapters_are_those_of_a_drive() -> None:
    async def scenario(site: Site) -> None:
        assert [drive.serial for drive in site.library.drives] == [D1, D2]
        assert [cartridge.label for cartridge in site.library.cartridges][-1] == BLANK
        unit = site.unit(D2)
        identity = await unit.drive.query(device(D2))
        assert (identity.serial, identity.model) == (D2, LTO8.drive_model)
        await unit.filesystem.open(identity.path)
        assert unit.filesystem.volume == identity.path
        await unit.filesystem.close()
        await fails(errno.ENOENT, site.unit("VD0099").library.lookup(device("VD0099")))
        tapes = site.library.adapters(site.process(), site.settings)
        tapes.change(TapeSettings(mount_prefix="/other/"))
        assert tapes.logs_moves("lib")
        unit = tapes.unit(device(D1))
        await unit.library.load(device(D1), A)
        assert await unit.filesystem.mount(medium(A)) == "/other/virtual-simulated-1"

    run(scenario)


def test_an_unmount_makes_durable_what_nobody_has_synced() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        file = site.library.content(A).write(10)
        await unit.filesystem.unmount()
        assert file.durable

    run(scenario)


def test_what_is_written_during_a_sync_is_not_durable() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        files = [site.library.content(A).write(10)]

        async def write() -> None:
            await trio.sleep(1)
            files.append(site.library.content(A).write(10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await unit.filesystem.sync()
        assert [file.durable for file in files] == [True, False]

    run(scenario)


def test_a_blank_cartridge_is_formatted() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), BLANK)
        assert await unit.filesystem.read_label() is None
        await fails(errno.EINVAL, unit.filesystem.mount(medium(BLANK)))
        assert (await unit.filesystem.format(medium(BLANK))).free == CAPACITY
        assert await unit.filesystem.mount(medium(BLANK)) == ROOT_1

    run(scenario)


# Who dies, and what goes on.


def test_a_load_that_is_given_up_is_done_all_the_same() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await given_up(LTO8.move_s() / 2, unit.library.load(device(D1), A))
        before = trio.current_time()
        assert await inside(unit) == A
        assert trio.current_time() - before == LOADED_S - LTO8.move_s() / 2

    run(scenario)


def test_a_load_outlives_its_daemon() -> None:
    async def scenario(site: Site) -> None:
        process = site.process()
        unit = site.unit(process=process)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unit.library.load, device(D1), A)
            await trio.sleep(1)
            kill(site, process, nursery)
        assert trio.current_time() == 1
        assert await inside(site.unit()) == A
        assert trio.current_time() == LOADED_S
        with pytest.raises(ProcessKilledError):
            await unit.library.unload(device(D1), A)
        with pytest.raises(ProcessKilledError):
            await unit.library.load(device(D2), B)

    run(scenario)


def test_what_waits_for_its_turn_with_a_drive_dies_with_its_daemon() -> None:
    async def scenario(site: Site) -> None:
        process = site.process()
        unit = site.unit(process=process)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unit.library.load, device(D1), A)
            await trio.sleep(1)
            nursery.start_soon(unit.library.unload, device(D1), A)
            await trio.sleep(1)
            kill(site, process, nursery)
        await trio.sleep(LONG_S)
        assert await inside(site.unit()) == A

    run(scenario)


def kill(site: Site, process: Process, nursery: trio.Nursery) -> None:
    process.alive = False
    nursery.cancel_scope.cancel()
    site.library.kill()


def test_the_next_daemon_adopts_what_is_mounted() -> None:
    async def scenario(site: Site) -> None:
        process = site.process()
        await site.mounted(process=process)
        file = site.library.content(A).write(10)
        process.alive = False
        site.library.kill()
        assert site.library.content_at(ROOT_1) is site.library.content(A)
        unit = site.unit()
        assert await inside(unit) == A
        assert await unit.filesystem.adopt() == ROOT_1
        assert await unit.filesystem.read_label() == A
        assert not file.durable
        await unit.filesystem.sync()
        assert file.durable

    run(scenario)


@pytest.mark.parametrize("command", ["mount", "unmount", "sync", "format"])
def test_a_command_dies_with_its_daemon(command: str) -> None:
    """At the very moment of its end: the task goes on, and has no effect."""

    async def scenario(site: Site) -> None:
        process = site.process()
        unit = await site.mounted(process=process)
        file = site.library.content(A).write(10)
        if command in ("mount", "format"):
            await unit.filesystem.unmount()
        operations: dict[str, tuple[Callable[[], Awaitable[object]], float]] = {
            "mount": (lambda: unit.filesystem.mount(medium(A)), LTO8.mount_s(1)),
            "unmount": (unit.filesystem.unmount, LTO8.unmount_s(1, 10)),
            "sync": (unit.filesystem.sync, LTO8.sync_s(1)),
            "format": (lambda: unit.filesystem.format(medium(A)), LTO8.format_s()),
        }
        operation, seconds = operations[command]

        async def die() -> None:
            await trio.sleep(seconds / 2)
            process.alive = False
            site.library.kill()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(die)
            with pytest.raises(ProcessKilledError):
                await operation()
        unit = site.unit()
        root = await unit.filesystem.adopt()
        assert root == (ROOT_1 if command in ("unmount", "sync") else None)
        assert file.durable == (command in ("mount", "format"))
        if command == "format":
            assert await unit.filesystem.read_label() is None
            assert site.library.content(A).used == 0
        elif command == "mount":
            await unit.filesystem.mount(medium(A))
        await (unit.filesystem.unmount() if command != "format" else unit.filesystem.format(medium(A)))

    run(scenario)


def test_a_power_cut_leaves_nothing_mounted() -> None:
    async def scenario(site: Site) -> None:
        process = site.process()
        unit = await site.mounted(process=process)
        content = site.library.content(A)
        safe = content.write(10)
        await unit.filesystem.sync()
        files = [content.write(10) for _ in range(40)]
        process.alive = False
        site.library.cut_power()
        assert site.library.content_at(ROOT_1) is None
        assert safe.durable
        assert not safe.lost
        assert {file.lost for file in files} == {True, False}
        assert all(file.durable != file.lost for file in files)
        unit = site.unit()
        assert await inside(unit) == A
        assert await unit.filesystem.adopt() is None
        assert await unit.filesystem.mount(medium(A)) == ROOT_1
        assert (await unit.filesystem.space()).used == 10 + 10 * sum(file.durable for file in files)

    run(scenario)


def test_the_library_has_its_own_power() -> None:
    async def scenario(site: Site) -> None:
        process = site.process()
        unit = site.unit(process=process)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unit.library.load, device(D1), A)
            await trio.sleep(1)
            process.alive = False
            site.library.cut_power()
            nursery.cancel_scope.cancel()
        assert await inside(site.unit()) == A

    run(scenario)


# Faults.


def hit(site: Site, kind: FaultKind, times: int = 1) -> None:
    assert {found: count for found, count in site.world.faults.hits.items() if found is kind} == {kind: times}


def stop(site: Site) -> None:
    site.world.faults.stop()


def test_a_sync_that_fails_loses_what_was_written() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        file = site.library.content(A).write(10)
        await fails(errno.EIO, unit.filesystem.sync())
        hit(site, FaultKind.SYNC_ERROR)
        stop(site)
        await unit.filesystem.sync()
        assert file.lost
        assert not file.durable

    run(scenario, {FaultKind.SYNC_ERROR: 1})


def test_a_sync_that_lies() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        await unit.filesystem.sync()
        assert not site.world.faults.hits, "there was nothing to lie about"
        file = site.library.content(A).write(10)
        await unit.filesystem.sync()
        hit(site, FaultKind.SYNC_LIE)
        assert (file.durable, file.lost, file.betrayed) == (False, True, True)

    run(scenario, {FaultKind.SYNC_LIE: 1})


async def mend_in(site: Site, seconds: float) -> None:
    await trio.sleep(seconds)
    stop(site)
    site.library.mend()


HANGING: dict[FaultKind, Callable[[DriveUnit], Awaitable[object]]] = {
    FaultKind.SYNC_HANG: lambda unit: unit.filesystem.sync(),
    FaultKind.MOUNT_HANG: lambda unit: unit.filesystem.mount(medium(A)),
    FaultKind.UNMOUNT_HANG: lambda unit: unit.filesystem.unmount(),
    FaultKind.LOAD_HANG: lambda unit: unit.library.load(device(D1), A),
    FaultKind.UNLOAD_HANG: lambda unit: unit.library.unload(device(D1), A),
}


async def prepared_for(kind: FaultKind, site: Site) -> DriveUnit:
    unit = site.unit()
    if kind is not FaultKind.LOAD_HANG:
        await unit.library.load(device(D1), A)
    if kind in (FaultKind.SYNC_HANG, FaultKind.UNMOUNT_HANG):
        await unit.filesystem.mount(medium(A))
    return unit


@pytest.mark.parametrize("kind", HANGING)
def test_what_hangs_does_so_until_it_is_mended(kind: FaultKind) -> None:
    async def scenario(site: Site) -> None:
        unit = await prepared_for(kind, site)
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mend_in, site, LONG_S)
            await HANGING[kind](unit)
        assert trio.current_time() - start >= LONG_S
        hit(site, kind)

    run(scenario, {kind: 1})


@pytest.mark.parametrize("kind", HANGING)
def test_what_hangs_is_given_up(kind: FaultKind) -> None:
    async def scenario(site: Site) -> None:
        unit = await prepared_for(kind, site)
        file = site.library.content(A).write(1)
        await given_up(LONG_S, HANGING[kind](unit))
        hit(site, kind)
        stop(site)
        assert (file.durable, file.lost) == (False, False)
        # Commands end with the daemon's patience; what moves does so in the end.
        assert await inside(unit) == (None if kind is FaultKind.UNLOAD_HANG else A)
        root = ROOT_1 if kind in (FaultKind.SYNC_HANG, FaultKind.UNMOUNT_HANG) else None
        assert site.library.content_at(ROOT_1) is (site.library.content(A) if root else None)

    run(scenario, {kind: 1})


def test_the_end_of_a_medium_comes_early() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        content = site.library.content(A)
        content.write(10)
        assert (await unit.filesystem.sync()).free == 0
        assert (await unit.filesystem.sync()).free == 0
        assert (await unit.filesystem.space()).free == 0
        hit(site, FaultKind.EARLY_END)
        assert content.free == 0
        await unit.filesystem.unmount()
        await unit.filesystem.format(medium(A))
        assert content.free == CAPACITY

    run(scenario, {FaultKind.EARLY_END: 1})


def test_a_label_that_somebody_has_changed() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), A)
        for _ in range(2):
            with pytest.raises(LabelError):
                await unit.filesystem.mount(medium(A))
        hit(site, FaultKind.LABEL_MISMATCH)
        stop(site)
        site.library.mend()
        await unit.filesystem.mount(medium(A))

    run(scenario, {FaultKind.LABEL_MISMATCH: 1})


def test_mending_labels_leaves_alone_what_was_formatted_since() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), A)
        with pytest.raises(LabelError):
            await unit.filesystem.mount(medium(A))
        stop(site)
        await unit.filesystem.format(medium("other"))
        site.library.mend()
        assert await unit.filesystem.read_label() == "other"

    run(scenario, {FaultKind.LABEL_MISMATCH: 1})


def test_a_format_that_fails() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), BLANK)
        await fails(errno.EIO, unit.filesystem.format(medium(BLANK)))
        hit(site, FaultKind.FORMAT_FAILURE)
        assert await unit.filesystem.read_label() is None

    run(scenario, {FaultKind.FORMAT_FAILURE: 1})


def test_a_mount_that_fails() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), A)
        await fails(errno.EIO, unit.filesystem.mount(medium(A)))
        hit(site, FaultKind.MOUNT_FAILURE)
        assert await unit.filesystem.adopt() is None

    run(scenario, {FaultKind.MOUNT_FAILURE: 1})


def test_an_unmount_that_fails() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        file = site.library.content(A).write(1)
        await fails(errno.EIO, unit.filesystem.unmount())
        hit(site, FaultKind.UNMOUNT_FAILURE)
        assert await unit.filesystem.adopt() == ROOT_1
        assert file.lost

    run(scenario, {FaultKind.UNMOUNT_FAILURE: 1})


def test_an_unmount_of_what_somebody_uses() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        file = site.library.content(A).write(1)
        await fails(errno.EBUSY, unit.filesystem.unmount())
        hit(site, FaultKind.UNMOUNT_BUSY)
        stop(site)
        await unit.filesystem.unmount()
        assert file.durable

    run(scenario, {FaultKind.UNMOUNT_BUSY: 1})


def test_a_cartridge_that_is_found_to_be_protected() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        assert (await unit.filesystem.space()).read_only
        await unit.filesystem.unmount()
        await unit.filesystem.mount(medium(A))
        hit(site, FaultKind.WRITE_PROTECTED)

    run(scenario, {FaultKind.WRITE_PROTECTED: 1})


def test_a_drive_that_gives_its_cartridge_back() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await fails(errno.EIO, unit.library.load(device(D1), A))
        hit(site, FaultKind.LOAD_FAILURE)
        assert await inside(unit) is None

    run(scenario, {FaultKind.LOAD_FAILURE: 1})


def test_a_cartridge_that_does_not_come_out() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), A)
        await fails(errno.EIO, unit.library.unload(device(D1), A))
        hit(site, FaultKind.UNLOAD_FAILURE)
        assert await inside(unit) == A

    run(scenario, {FaultKind.UNLOAD_FAILURE: 1})


def test_a_robot_that_stalls() -> None:
    async def scenario(site: Site) -> None:
        await site.unit().library.load(device(D1), A)
        hit(site, FaultKind.ROBOT_STALL)
        assert LOADED_S + 60 <= trio.current_time() <= LOADED_S + 600

    run(scenario, {FaultKind.ROBOT_STALL: 1})


def test_a_controller_that_cannot_be_reached_for_a_while() -> None:
    """Whether the request has arrived, and whether it is done then, goes by chance."""
    seen = set()

    async def scenario(site: Site) -> None:
        unit = site.unit()
        with pytest.raises(LibraryUnreachableError) as caught:
            await unit.library.load(device(D1), A)
        stop(site)
        with pytest.raises(LibraryUnreachableError) as again:
            await inside(unit)
        assert not again.value.asked
        hit(site, FaultKind.ROBOT_UNREACHABLE)
        await trio.sleep(1000)
        seen.add((caught.value.asked, await inside(unit)))

    for seed in range(20):
        run(scenario, {FaultKind.ROBOT_UNREACHABLE: 1}, seed=seed)
    assert seen == {(False, None), (True, None), (True, A)}


def test_a_controller_that_is_mended_answers() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        with pytest.raises(LibraryUnreachableError):
            await inside(unit)
        stop(site)
        site.library.mend()
        assert await inside(unit) is None

    run(scenario, {FaultKind.ROBOT_UNREACHABLE: 1})


def test_a_wrong_cartridge_is_back_in_its_place_once_it_is_mended() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), A)
        hit(site, FaultKind.WRONG_CARTRIDGE)
        assert await inside(unit) == A
        assert await unit.filesystem.read_label() == B
        with pytest.raises(LabelError):
            await unit.filesystem.mount(medium(A))
        stop(site)
        await fails(errno.EIO, unit.library.load(device(D2), B))
        site.library.mend()
        await unit.filesystem.mount(medium(A))
        assert site.library.content_at(ROOT_1) is site.library.content(A)
        await unit.library.load(device(D2), B)

    run(scenario, {FaultKind.WRONG_CARTRIDGE: 1})


def test_nothing_is_taken_for_a_blank_cartridge() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await unit.library.load(device(D1), BLANK)
        assert await unit.filesystem.read_label() is None
        assert not site.world.faults.hits

    run(scenario, {FaultKind.WRONG_CARTRIDGE: 1})


def test_nothing_is_mistaken_where_there_is_nothing_else() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        for serial, name in ((D1, B), (D2, A)):
            await unit.library.load(device(serial), name)
        assert not site.world.faults.hits

    # Of two cartridges the second one is blank.
    run(scenario, {FaultKind.WRONG_CARTRIDGE: 1}, furnished=plan(tapes=1))


def test_a_drive_dies_until_it_is_mended() -> None:
    async def scenario(site: Site) -> None:
        unit = site.unit()
        await fails(errno.EIO, unit.library.load(device(D1), A))
        hit(site, FaultKind.DRIVE_DEATH)
        await fails(errno.EIO, unit.filesystem.mount(medium(A)))
        await fails(errno.EIO, unit.drive.query(device(D1)))
        hit(site, FaultKind.DRIVE_DEATH)
        stop(site)
        site.library.mend()
        await unit.filesystem.mount(medium(A))
        await unit.drive.query(device(D1))

    run(scenario, {FaultKind.DRIVE_DEATH: 1})


def test_a_dead_process_counts_no_fault() -> None:
    async def scenario(site: Site) -> None:
        process = site.process()
        unit = site.unit(process=process)
        await unit.library.load(device(D1), A)
        process.alive = False
        for operation in (unit.filesystem.mount(medium(A)), unit.filesystem.unmount(), unit.filesystem.sync()):
            with pytest.raises(ProcessKilledError):
                await operation
        assert not site.world.faults.hits

    run(scenario, dict.fromkeys((FaultKind.MOUNT_FAILURE, FaultKind.UNMOUNT_BUSY, FaultKind.SYNC_ERROR), 1.0))


# What must never be.


@pytest.mark.parametrize("doing", ["sync", "unmount", "unload", "format"])
def test_io_that_is_cut_off_is_found(doing: str) -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        if doing in ("unload", "format"):
            await unit.filesystem.unmount()
        site.library.content(A).users = 1
        match doing:
            case "sync":
                await unit.filesystem.sync()
            case "unmount":
                await fails(errno.EBUSY, unit.filesystem.unmount())
            case "unload":
                await unit.library.unload(device(D1), A)
            case "format":
                await unit.filesystem.format(medium(A))
        assert f"{doing} of {A} while 1 clients do I/O on it" in site.world.violations.found[0]

    run(scenario, violations=True)


def test_io_that_begins_during_a_sync_is_found() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unit.filesystem.sync)
            await trio.sleep(1)
            site.library.content(A).users = 1

    run(scenario, violations=True)


def test_a_sync_during_io_is_right_where_that_is_allowed() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        site.library.content(A).users = 1
        await unit.filesystem.sync()

    run(scenario, settings=TapeSettings(sync_while_io=True))


def test_the_users_of_a_daemon_that_has_gone_are_not_the_next_ones() -> None:
    async def scenario(site: Site) -> None:
        process = site.process()
        await site.mounted(process=process)
        content = site.library.content(A)
        content.users = 1
        process.alive = False
        site.library.kill()
        unit = site.unit()
        await unit.filesystem.adopt()
        await unit.filesystem.sync()
        await fails(errno.EBUSY, unit.filesystem.unmount())
        content.users = 0
        await unit.filesystem.unmount()

    run(scenario)


def test_two_syncs_at_once_are_found() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unit.filesystem.sync)
            await trio.sleep(1)
            nursery.start_soon(unit.filesystem.sync)
        assert "two syncs at once in VD0001" in site.world.violations.found[0]

    run(scenario, violations=True)


def test_the_world_refuses_what_cannot_be() -> None:
    async def scenario(site: Site) -> None:
        unit = await site.mounted()
        other = site.unit(D2)
        await fails(errno.EBUSY, other.library.load(device(D2), A))
        await fails(errno.EINVAL, unit.library.load(device(D1), B))
        await fails(errno.EBUSY, unit.library.unload(device(D1), A))
        await fails(errno.EBUSY, unit.filesystem.format(medium(A)))
        await fails(errno.ENOMEDIUM, other.filesystem.mount(medium(B)))
        await fails(errno.ENOMEDIUM, other.filesystem.unmount())
        await unit.filesystem.unmount()
        await fails(errno.EINVAL, unit.filesystem.sync())

    run(scenario)


# The run.

EVERYTHING = {
    kind: 0.15
    for kind in FaultKind
    if kind.name.startswith(("SYNC", "MOUNT", "UNMOUNT", "LOAD", "UNLOAD", "ROBOT", "WRONG", "DRIVE", "EARLY", "LABEL"))
}


def busy(seed: int) -> Site:
    """Two drives that are kept busy in a world where much goes wrong."""

    async def round_trip(site: Site, unit: DriveUnit, serial: str, name: str) -> None:
        for operation in (
            lambda: unit.library.load(device(serial), name),
            lambda: unit.filesystem.mount(medium(name)),
            unit.filesystem.sync,
            unit.filesystem.unmount,
            lambda: unit.library.unload(device(serial), name),
        ):
            with trio.move_on_after(3600):
                try:
                    await operation()
                except OSError as error:
                    site.world.trace.note("failed", error=error)

    async def work(site: Site, serial: str, name: str) -> None:
        for _ in range(20):
            await round_trip(site, site.unit(serial), serial, name)
            site.library.content(name).write(1)
            site.library.mend()

    async def scenario(site: Site) -> None:
        async with trio.open_nursery() as nursery:
            for serial, name in ((D1, A), (D2, B)):
                nursery.start_soon(work, site, serial, name)

    return run(scenario, EVERYTHING, seed=seed)


def test_the_same_seed_is_the_same_run() -> None:
    one, again, other = busy(7), busy(7), busy(8)
    assert one.world.trace.digest == again.world.trace.digest
    assert one.world.faults.hits == again.world.faults.hits
    assert one.world.trace.digest != other.world.trace.digest


def test_every_fault_of_a_library_has_a_place_to_strike() -> None:
    hits = [busy(seed).world.faults.hits for seed in range(4)]
    assert set().union(*hits) == EVERYTHING.keys()


class Unsearched(dict[Any, Any]):
    """Can be looked up in, and not gone through."""

    def __iter__(self) -> Never:
        raise AssertionError("searched")

    items = values = __iter__


def test_a_large_library_is_not_searched() -> None:
    async def scenario(site: Site) -> None:
        tapes = site.library.adapters(site.process(), site.settings)
        units = {serial: tapes.unit(device(serial)) for serial in (drive.serial for drive in site.library.drives)}
        loaded = {D1: A, "VD0512": "V02000L8"}
        for serial, name in loaded.items():
            await units[serial].library.load(device(serial), name)
        state = site.library._state.read()
        state.places, state.bays = Unsearched(state.places), Unsearched(state.bays)
        state.cartridges = Unsearched(state.cartridges)
        for serial, name in loaded.items():
            unit = units[serial]
            root = await unit.filesystem.mount(medium(name))
            assert site.library.content_at(root) is site.library.content(name)
            await unit.filesystem.sync()
            await unit.filesystem.unmount()
            await unit.library.unload(device(serial), name)
        for serial, unit in units.items():
            assert await inside(unit, serial) is None

    run(scenario, furnished=plan(512, 2000))
