"""`lrs tlc` as a process, in front of a program that behaves as mtx does, and our client before it."""

from __future__ import annotations

import errno
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio

from lrs_trio.errors import LibraryUnreachableError, LrsError, MediumMissingError, OperationError
from lrs_trio.storage.elements import ElementKind
from lrs_trio.storage.tlc import TlcClient
from lrs_trio.tlc.mtx import FIRST_DRIVE, parse_status
from tests.cli.conftest import TIMEOUT_S
from tests.cli.robots import DESCRIPTIONS, TlcProcess, behind_mtx, command_line, controller, lrs, write_settings
from tests.processes import child
from tests.tlc.conftest import FAKE, SAMPLES, FakeMtx

SERIALS = ("S1", "S2")


@pytest.fixture
def config(tmp_path: Path, mtx: FakeMtx) -> Path:
    return write_settings(tmp_path / "lrs.toml", main=behind_mtx(mtx, move_s=1.0))


def client_of(running: TlcProcess) -> TlcClient:
    return TlcClient("127.0.0.1", running.port)


async def refused(request: object) -> LrsError:
    with pytest.raises(LrsError) as caught:
        await request  # type: ignore[misc]
    return caught.value


async def test_the_program_is_told_its_changer(tmp_path: Path, mtx: FakeMtx) -> None:
    program = shlex.join([sys.executable, "-I", "-S", str(FAKE)])
    library = behind_mtx(mtx) | {"mtx": f'{program} "%s" -f unheeded', "changer": str(mtx.directory)}
    with controller(write_settings(tmp_path / "lrs.toml", main=library), "main") as running:
        assert await client_of(running).ping()
    assert mtx.calls


async def test_media_are_moved_with_mtx(config: Path, mtx: FakeMtx) -> None:
    with controller(config, "main") as running:
        client = client_of(running)
        assert await client.ping()
        assert (await client.drive_lookup("S1")).label == "P00003L5"
        await client.load("S2", "P00012L5")
        found = await client.drive_lookup("S2")
        assert (found.address - found.first_address, found.label) == (1, "P00012L5")
        assert (await client.unload("S1", "P00003L5")).address == 3
        assert (await client.unload("S2")).address == 3 + 2  # it came from a port: the first slot that is free
        assert (await client.unload("S2")).label == ""
        known = await client.status()
        assert {element.address: element for element in known} == {
            element.address: element for element in await client.status(refresh=True)
        }
        assert {"name": "req.count", "tags": "request=UNLOAD", "value": 3} in await client.stat()
    assert [call for call in mtx.calls if call != "status"] == ["inquiry", "load 12 1", "unload 3 0", "unload 5 1"]


async def test_what_mtx_prints_of_a_library_is_what_a_client_sees(config: Path, mtx: FakeMtx) -> None:
    with controller(config, "main") as running:
        for sample in SAMPLES.iterdir():
            shutil.copyfile(sample, mtx.directory / "status.txt")
            expected = parse_status(sample.read_text().splitlines(), SERIALS)
            assert Counter(await client_of(running).status(refresh=True)) == Counter(expected)
            assert (await client_of(running).drive_lookup("S1")).address == FIRST_DRIVE


async def test_errors_say_who_is_to_blame(config: Path, mtx: FakeMtx) -> None:
    with controller(config, "main") as running:
        client = client_of(running)
        assert isinstance(await refused(client.load("S2", "NOBODY")), MediumMissingError)
        assert (await refused(client.load("S9", "P00001L5"))).errno == errno.ENOENT
        full = await refused(client.load("S1", "P00001L5"))
        assert (type(full), full.errno) == (OperationError, errno.EBUSY)
        assert (await refused(client.unload("S1", "P00001L5"))).errno == errno.EINVAL
        assert set(mtx.calls) == {"status"}

        mtx.fail("load", "1", "mtx: Request Sense: Sense Key=Hardware Error\n")
        broken = await refused(client.load("S2", "P00001L5"))
        assert isinstance(broken, OperationError)
        assert broken.errno == errno.EIO
        assert "Hardware Error" in broken.record["output"]

        mtx.fail("load", "hang")
        assert (await refused(client.load("S2", "P00001L5"))).errno == errno.ETIMEDOUT

        mtx.fail("status", "1", "cannot open SCSI device '/dev/changer' - No such device\n")
        assert isinstance(await refused(client.load("S2", "P00001L5")), LibraryUnreachableError)
        assert isinstance(await refused(client.drive_lookup("S1")), LibraryUnreachableError)
        mtx.heal("status")
        mtx.heal("load")
        await client.refresh()
        await client.load("S2", "P00001L5")


async def test_others_are_answered_while_the_robot_moves(config: Path, mtx: FakeMtx) -> None:
    with controller(write_slow(config, mtx), "main") as running:
        client = client_of(running)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.load, "S2", "P00001L5")
            await under_way(mtx)
            assert await client.ping()
            assert (await client.drive_lookup("S1")).label == "P00003L5"
            assert len(await client.status()) == 14
            (mtx.directory / "slow-moves").unlink()
        assert (await client.drive_lookup("S2")).label == "P00001L5"


async def test_what_is_not_the_protocol_costs_its_own_connection(config: Path, mtx: FakeMtx) -> None:
    hostile = [
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">IB", 5, 14) + b"abcd",
        struct.pack(">IB", 2**31, 2),
        struct.pack(">IB", 31, 2) + b"\xff" * 30,
    ]
    halves = [b"\0", b"\0\0\0\7", b"\0\0\0\7\2", b"\0\0\0\7\2\x08\x01"]
    with controller(config, "main") as running:
        for data in hostile:
            assert ended(running.port, data)
            assert await client_of(running).ping()
        kept = [half(running.port, data) for data in halves]
        assert await client_of(running).ping()
        for connection in kept:
            connection.close()
        await client_of(running).load("S2", "P00001L5")
        running.interrupt()
        assert running.wait() == 0
        assert "Traceback" not in running.log.read_text()


def half(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(TIMEOUT_S)
    connection.sendall(data)
    return connection


def ended(port: int, data: bytes) -> bool:
    """Whether the controller closes a connection on which `data` comes."""
    with half(port, data) as connection:
        try:
            return connection.recv(100) == b""
        except ConnectionResetError:
            return True


# The start


def test_the_library_must_be_one_of_the_settings(config: Path) -> None:
    done = lrs(config, "tlc", "other")
    assert done.returncode == 1
    assert "libraries.other" in done.stderr
    assert "main" in done.stderr


@pytest.mark.parametrize("address", ["20123", ":20123", "localhost:65536"])
def test_where_to_listen_is_checked(config: Path, address: str) -> None:
    done = lrs(config, "tlc", "main", "--listen", address)
    assert done.returncode == 2
    assert "HOST:PORT" in done.stderr


def test_a_library_that_does_not_answer_is_no_start(config: Path, mtx: FakeMtx) -> None:
    mtx.fail("status", "1", "cannot open SCSI device '/dev/changer' - No such device\n")
    done = lrs(config, "tlc", "main", "--listen", "127.0.0.1:0")
    assert done.returncode == errno.EIO
    assert "No such device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "lrs.toml", main={"mtx": "/no/such/mtx -f %s"})
    done = lrs(settings, "tlc", "main", "--listen", "127.0.0.1:0")
    assert done.returncode == errno.ENOENT
    assert "/no/such/mtx" in done.stderr


def test_whoever_has_the_port_has_the_robot(config: Path, mtx: FakeMtx) -> None:
    with controller(config, "main") as running:
        before = mtx.calls
        done = lrs(config, "tlc", "main", "--listen", f"127.0.0.1:{running.port}")
        assert done.returncode == errno.EADDRINUSE
        assert "another controller" in done.stderr
        assert mtx.calls == before


async def test_it_listens_where_the_settings_say(tmp_path: Path, mtx: FakeMtx) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = write_settings(tmp_path / "lrs.toml", main=behind_mtx(mtx, host="localhost", port=port))
    with child(command_line(settings, "tlc", "main"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"127.0.0.1:{port}" in process.stdout.readline()
        assert await TlcClient("localhost", port).ping()


# The end


def write_slow(config: Path, mtx: FakeMtx) -> Path:
    (mtx.directory / "slow-moves").touch()
    return write_settings(config, main=behind_mtx(mtx))


async def under_way(mtx: FakeMtx) -> None:
    """Return when the robot is at it."""
    with trio.fail_after(TIMEOUT_S):
        while not (mtx.directory / "moving").exists():  # noqa: ASYNC110 another process makes it
            await trio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_lets_the_move_end(config: Path, mtx: FakeMtx, number: int) -> None:
    with controller(write_slow(config, mtx), "main") as running:
        client = client_of(running)
        errors: list[LrsError] = []

        async def late() -> None:
            errors.append(await refused(client.unload("S1")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.load, "S2", "P00001L5")
            await under_way(mtx)
            nursery.start_soon(late)
            while not (await client.stat("req", "count", "request=UNLOAD"))[0]["value"]:  # noqa: ASYNC110
                await trio.sleep(0.01)
            running.interrupt(number)
            while "draining" not in running.log.read_text():  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert await client.ping()
            (mtx.directory / "slow-moves").unlink()
        assert running.wait() == 0
        assert [(type(error), error.errno) for error in errors] == [(LibraryUnreachableError, errno.ESHUTDOWN)]
    assert mtx.calls == ["status", "load 1 1"]
    assert "Storage Element 1:Empty" in (mtx.directory / "status.txt").read_text()


async def test_the_second_signal_does_not(config: Path, mtx: FakeMtx) -> None:
    with controller(write_slow(config, mtx), "main") as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, client_of(running).load("S2", "P00001L5"))
            await under_way(mtx)
            running.interrupt()
            while "draining" not in running.log.read_text():  # noqa: ASYNC110
                await trio.sleep(0.01)
            running.interrupt()
        assert running.wait() == 3
        assert "forced end" in running.log.read_text()


# A virtual library


async def test_a_virtual_library_is_served(tmp_path: Path) -> None:
    directory = tmp_path / "library"
    settings = write_settings(tmp_path / "lrs.toml", main={"speed": 1e6})
    assert lrs(settings, "lib", "create", directory, "--from", DESCRIPTIONS / "small.toml").returncode == 0
    with controller(settings, "main", "--virtual", directory, "--listen", "127.0.0.1:0") as running:
        client = client_of(running)
        assert await client.ping()
        elements = await client.status()
        drive = next(element for element in elements if element.kind is ElementKind.DRIVE)
        full = next(element for element in elements if element.kind is ElementKind.SLOT and element.label)
        assert full.label is not None
        await client.load(drive.serial, full.label)
        assert (await client.drive_lookup(drive.serial)).label == full.label
        assert (await client.unload(drive.serial, full.label)).address == full.address
        running.interrupt()
        assert running.wait() == 0


async def test_a_library_with_virtual_drives_is_a_virtual_one(tmp_path: Path) -> None:
    directory = tmp_path / "library"
    virtual = {"robot": "tlc", "drives": "virtual", "speed": 1e6, "directory": str(directory)}
    settings = write_settings(tmp_path / "lrs.toml", main=virtual)
    lrs(settings, "lib", "create", directory, "--from", DESCRIPTIONS / "small.toml")
    with controller(settings, "main") as running:
        assert await client_of(running).ping()


def test_a_virtual_library_that_is_not_there_is_told(config: Path, tmp_path: Path) -> None:
    done = lrs(config, "tlc", "any", "--virtual", tmp_path / "nowhere")
    assert done.returncode == errno.ENOENT
    assert "nowhere" in done.stderr
