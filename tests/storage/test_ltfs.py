"""LTFS through real processes: small programs that behave as the real ones can, and real mounts where one may mount."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Final

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from lrs_trio.errors import LabelError, LrsError, OperationError
from lrs_trio.model import Family, FsType, Medium, ResourceId, Space
from lrs_trio.settings import LtfsSettings
from lrs_trio.storage import ltfs
from lrs_trio.storage.ltfs import LtfsFilesystem, System, release_drive
from lrs_trio.storage.protocols import TapeFilesystem
from lrs_trio.storage.space import FullThreshold
from tests.processes import PATIENCE_S, Descendants, child, descendants
from tests.storage.ltfs_scenarios import SCENARIOS

DEVICE: Final = "/dev/sg3"
SOURCE: Final = f"ltfs:{DEVICE}"
LABEL: Final = "AB0001L8"
GIB: Final = 2**30


def medium(label: str = LABEL, name: str = LABEL) -> Medium:
    return Medium(ResourceId(Family.TAPE, name, "legacy"), FsType.LTFS, fs_label=label)


def statvfs(blocks: int = 1000, free: int = 600, flags: int = 0) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, blocks, free, free, 0, 0, 0, flags, 255))


class Site:
    """A host with one drive. Its programs are shell scripts, and its mount table is a file that they write."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.table = directory / "mountinfo"
        self.table.touch()
        self.prefix = f"{directory}/lrs-"
        self.root = f"{self.prefix}sg3"
        self.label: bytes | OSError = LABEL.encode()
        self.sync: OSError | None = None
        self.counts: os.statvfs_result | OSError = statvfs()
        self.written: list[tuple[str, str, bytes]] = []
        self.program("mount", self.line_for())
        self.program("unmount", self.no_line)
        self.program("format", "echo LTFS15000I Starting; echo '3c1 LTFS15024I Volume capacity is 5731 GB.' >&2")
        self.program("release", 'test "$1" = /dev/sg3')

    def line_for(self, source: str = SOURCE, fs_type: str = "fuse") -> str:
        """A line of shell that puts the mount into the table."""
        return f'echo "99 20 0:50 / $2 rw,nosuid - {fs_type} {source} rw" >> {quote(str(self.table))}'

    @property
    def no_line(self) -> str:
        return f": > {quote(str(self.table))}"

    def program(self, name: str, script: str | None) -> None:
        """What a command does; without a script there is none."""
        file = self._directory / name
        file.unlink(missing_ok=True)
        if script is not None:
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o700)

    def command(self, name: str) -> str:
        return f'{self._directory}/{name} "%s" "%s"'

    @property
    def settings(self) -> LtfsSettings:
        return LtfsSettings(
            mount=self.command("mount"),
            unmount=self.command("unmount"),
            format=self.command("format"),
            release=f"{self._directory}/release %s",
        )

    async def filesystem(self) -> LtfsFilesystem:
        system = System(self._getxattr, self._setxattr, self._statvfs, self.table)
        filesystem = LtfsFilesystem(self.settings, self.prefix, FullThreshold(5), system)
        await filesystem.open(DEVICE)
        return filesystem

    async def mounted(self) -> LtfsFilesystem:
        filesystem = await self.filesystem()
        await filesystem.mount(medium())
        return filesystem

    def _getxattr(self, path: str, name: str) -> bytes:
        assert (path, name) == (self.root, "user.ltfs.volumeName")
        if isinstance(self.label, OSError):
            raise self.label
        return self.label

    def _setxattr(self, path: str, name: str, value: bytes) -> None:
        if self.sync is not None:
            raise self.sync
        self.written.append((path, name, value))

    def _statvfs(self, path: str) -> os.statvfs_result:
        assert path == self.root
        if isinstance(self.counts, OSError):
            raise self.counts
        return self.counts


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Descendants]:
    """Whatever the test starts; it is gone afterwards."""
    with descendants() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


# Programs that do what they should.


async def test_a_medium_is_mounted_below_the_prefix_and_unmounted(site: Site) -> None:
    filesystem: TapeFilesystem = await site.filesystem()
    assert filesystem.volume == SOURCE
    assert await filesystem.adopt() is None
    assert await filesystem.mount(medium()) == site.root
    assert os.stat(site.root).st_mode & 0o777 == 0o750
    assert await filesystem.adopt() == site.root
    await filesystem.unmount()
    assert await filesystem.adopt() is None
    assert await filesystem.mount(medium()) == site.root
    await filesystem.close()


async def test_slow_programs_are_awaited(site: Site) -> None:
    site.program("mount", f"echo wait; sleep 0.05; {site.line_for()}")
    assert await (await site.filesystem()).mount(medium()) == site.root


async def test_one_that_serves_in_the_background_with_its_output_open_is_not(site: Site, started: Descendants) -> None:
    site.program("mount", f"{site.line_for()}\nsetsid sleep 1000 &")
    with trio.fail_after(PATIENCE_S):
        assert await (await site.filesystem()).mount(medium()) == site.root
    assert started.pids()


@pytest.mark.parametrize("fs_type", ["fuse", "fuse.ltfs"])
async def test_what_a_predecessor_mounted_elsewhere_is_adopted_and_unmounted(site: Site, fs_type: str) -> None:
    site.table.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n9 1 0:5 / /mnt/phobos-sg33 rw - fuse {SOURCE}3 rw\n"
        f"8 1 0:5 / /mnt/a\\040b rw shared:1 - {fs_type} {SOURCE} rw\n"
    )
    site.program("unmount", f'test "$1 $2" = "{DEVICE} /mnt/a b" && {site.no_line}')
    filesystem = await site.filesystem()
    assert await filesystem.adopt() == "/mnt/a b"
    await filesystem.unmount()
    assert await filesystem.adopt() is None


async def test_something_else_that_is_mounted_from_there_is_refused(site: Site) -> None:
    site.table.write_text(f"8 1 0:5 / /mnt/x rw - tmpfs {SOURCE} rw\n")
    with pytest.raises(LrsError, match="/mnt/x") as caught:
        await (await site.filesystem()).adopt()
    assert caught.value.errno == errno.EMEDIUMTYPE


async def test_a_format_tells_the_capacity(site: Site) -> None:
    site.program("format", f'test "$1 $2" = "{DEVICE} {LABEL}" && echo "a1 LTFS15024I Volume capacity is 5731 GB."')
    assert await (await site.filesystem()).format(medium("")) == Space(used=0, free=5731 * GIB)


async def test_one_that_does_not_leaves_nothing_free_and_a_warning(site: Site) -> None:
    site.program("format", "echo LTFS15024I Volume capacity is unknown; echo Volume capacity is 7 GB")
    with capture_logs() as lines:
        assert await (await site.filesystem()).format(medium("")) == Space(used=0, free=0)
    assert [line["log_level"] for line in lines if line["log_level"] != "debug"] == ["warning"]


async def test_a_drive_is_released(site: Site) -> None:
    await release_drive(DEVICE, site.settings)
    with pytest.raises(OperationError) as caught:
        await release_drive("/dev/sg4", site.settings)
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["release"])


# A predecessor that was killed.


PREDECESSOR: Final = """
import sys, trio
from lrs_trio.model import Family, FsType, Medium, ResourceId
from lrs_trio.settings import LtfsSettings
from lrs_trio.storage.ltfs import LtfsFilesystem
from lrs_trio.storage.space import FullThreshold
async def main(settings, prefix, device, operation):
    filesystem = LtfsFilesystem(LtfsSettings.model_validate_json(settings), prefix, FullThreshold(5))
    await filesystem.open(device)
    medium = Medium(ResourceId(Family.TAPE, "AB0001L8", "legacy"), FsType.LTFS)
    await (filesystem.unmount() if operation == "unmount" else getattr(filesystem, operation)(medium))
trio.run(main, *sys.argv[1:])
"""


class Left:
    """What a daemon that was killed during `operation` has left: its command, which will go on with `script`."""

    def __init__(self, site: Site, directory: Path, operation: str, script: str) -> None:
        self._go = directory / "go"
        ready = directory / "ready"
        os.mkfifo(self._go)
        os.mkfifo(ready)
        site.program(operation, f"echo ready > {quote(str(ready))}; read line < {quote(str(self._go))}; {script}")
        program = [sys.executable, "-c", PREDECESSOR, site.settings.model_dump_json(), site.prefix, DEVICE, operation]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with child(program, stdout=subprocess.DEVNULL, env=environment):
            assert ready.read_text() == "ready\n"

    async def go_on(self) -> None:
        await trio.to_thread.run_sync(self._go.write_text, "\n")


async def adopted(filesystem: LtfsFilesystem, left: Left) -> str | None:
    """What `filesystem` adopts; it must wait for what was left."""
    found: list[str | None] = []

    async def adopt() -> None:
        found.append(await filesystem.adopt())

    with capture_logs() as lines, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(adopt)
            while not any("still work on the drive" in line["event"] for line in lines):  # noqa: ASYNC110
                await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not found
            await left.go_on()
    return found[0]


@pytest.mark.usefixtures("started")
async def test_a_mount_that_a_killed_daemon_has_begun_is_awaited_and_adopted(site: Site, tmp_path: Path) -> None:
    left = Left(site, tmp_path, "mount", f"{site.line_for()}\nsetsid sleep 1000 &")
    filesystem = await site.filesystem()
    assert await adopted(filesystem, left) == site.root
    # The server has its lifeline until it ends. What is mounted is adopted at once nevertheless.
    with capture_logs() as lines:
        assert await (await site.filesystem()).adopt() == site.root
    assert not lines


@pytest.mark.usefixtures("started")
async def test_one_that_fails_at_last_leaves_the_drive_to_be_used(site: Site, tmp_path: Path) -> None:
    left = Left(site, tmp_path, "mount", "exit 5")
    assert await adopted(await site.filesystem(), left) is None


@pytest.mark.usefixtures("started")
async def test_nothing_is_granted_on_what_a_killed_daemon_is_unmounting(site: Site, tmp_path: Path) -> None:
    await site.mounted()
    left = Left(site, tmp_path, "unmount", site.no_line)
    assert await adopted(await site.filesystem(), left) is None


@pytest.mark.usefixtures("started")
async def test_a_format_that_a_killed_daemon_has_begun_is_awaited(site: Site, tmp_path: Path) -> None:
    left = Left(site, tmp_path, "format", "echo done")
    assert await adopted(await site.filesystem(), left) is None


async def test_a_server_that_still_writes_its_index_is_awaited(site: Site, tmp_path: Path) -> None:
    go = tmp_path / "written"
    os.mkfifo(go)
    site.program("mount", f"{site.line_for()}\nsetsid sh -c 'read line < {go}' &")
    filesystem = await site.mounted()
    await filesystem.unmount()
    with trio.move_on_after(0.05) as scope:
        await filesystem.adopt()
    assert scope.cancelled_caught
    await trio.to_thread.run_sync(go.write_text, "\n")
    with trio.fail_after(PATIENCE_S):
        assert await filesystem.adopt() is None


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("operation", ["mount", "unmount", "format"])
async def test_what_a_command_that_has_ended_leaves_behind_keeps_no_drive(site: Site, operation: str) -> None:
    """Some scripts leave something in the background. Of a mount that has failed, that is no server either."""
    filesystem = await site.mounted() if operation == "unmount" else await site.filesystem()
    status = 5 if operation == "mount" else 0
    site.program(operation, f"{site.no_line if operation == 'unmount' else ''}\nsetsid sleep 1000 &\nexit {status}")
    with suppress(OperationError):
        await (filesystem.unmount() if operation == "unmount" else getattr(filesystem, operation)(medium()))
    with capture_logs() as lines, trio.fail_after(PATIENCE_S):
        assert await (await site.filesystem()).adopt() is None
    assert not lines


async def test_what_a_mount_has_left_behind_is_not_awaited_for_ever(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    site.program("mount", f"{site.line_for()}\nsetsid sh -c 'read line < {go}' &")
    filesystem = await site.mounted()
    await filesystem.unmount()
    monkeypatch.setattr(ltfs, "_SERVER_ENDS_S", 0.0)
    with trio.fail_after(PATIENCE_S):
        assert await filesystem.adopt() is None
    await trio.to_thread.run_sync(go.write_text, "\n")


async def test_commands_run_where_no_lifeline_can_be(site: Site) -> None:
    os.mkdir(f"{site.root}.mount.lock")
    with capture_logs() as lines:
        filesystem = await site.mounted()
    assert [line["command"] for line in lines if line["log_level"] == "warning"] == ["mount"]
    assert await filesystem.adopt() == site.root


# Labels.


@pytest.mark.parametrize(
    ("recorded", "found"),
    [
        (LABEL, LABEL.encode()),
        (LABEL, LABEL.encode() + b"\0"),
        ("x" * 32, b"x" * 40),
        ("", b"whatever"),
        ("NULL", b"whatever"),
    ],
)
async def test_a_label_that_fits_or_that_nobody_has_recorded(site: Site, recorded: str, found: bytes) -> None:
    site.label = found
    assert await (await site.filesystem()).mount(medium(recorded)) == site.root


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (b"AB0002L8", "AB0002L8"),
        (b"AB0001L8X", "AB0001L8X"),
        (b"AB0001", "AB0001"),
        (b"\xff", "\\xff"),
        (OSError(errno.ENODATA, ""), ""),
    ],
)
async def test_the_label_of_another_medium_is_an_error_of_its_own(
    site: Site, found: bytes | OSError, shown: str
) -> None:
    site.label = found
    filesystem = await site.filesystem()
    with pytest.raises(LabelError, match=f"{LABEL}.*{DEVICE}") as caught:
        await filesystem.mount(medium())
    assert caught.value.errno == errno.EINVAL
    assert caught.value.record == {"label mismatch": f"found: {shown}, expected: {LABEL}"}
    assert await filesystem.adopt() == site.root
    await filesystem.unmount()


async def test_a_label_is_read_from_what_is_mounted(site: Site) -> None:
    filesystem = await site.mounted()
    assert await filesystem.read_label() == LABEL
    site.label = OSError(errno.ENODATA, "")
    assert await filesystem.read_label() is None
    site.label = b""
    assert await filesystem.read_label() is None
    site.label = OSError(errno.EIO, "")
    with pytest.raises(OperationError, match=site.root) as caught:
        await filesystem.read_label()
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["get_label"])


async def test_a_label_that_cannot_be_read_fails_the_mount(site: Site) -> None:
    site.label = OSError(errno.ENOTCONN, "")
    with pytest.raises(OperationError) as caught:
        await (await site.filesystem()).mount(medium())
    assert (caught.value.errno, list(caught.value.record)) == (errno.ENOTCONN, ["get_label"])


# Space and sync.


async def test_a_sync_is_one_attribute_and_then_a_measurement(site: Site) -> None:
    filesystem = await site.mounted()
    assert await filesystem.sync() == Space(used=400 * 4096, free=600 * 4096)
    assert site.written == [(site.root, "user.ltfs.sync", (1).to_bytes(4, sys.byteorder))]


async def test_the_full_threshold_and_a_protected_cartridge(site: Site) -> None:
    filesystem = await site.mounted()
    site.counts = statvfs(1000, 40, os.ST_RDONLY)
    assert await filesystem.space() == Space(used=960 * 4096, free=0, read_only=True)
    site.counts = statvfs(1000, 600, os.ST_RDONLY | os.ST_NOSUID)
    assert await filesystem.space() == Space(used=400 * 4096, free=600 * 4096, read_only=True)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
async def test_a_sync_that_fails_measures_nothing(site: Site, number: int) -> None:
    filesystem = await site.mounted()
    site.sync = OSError(number, os.strerror(number))
    site.counts = OSError(errno.ENOTCONN, "")
    with pytest.raises(OperationError, match=site.root) as caught:
        await filesystem.sync()
    assert (caught.value.errno, list(caught.value.record)) == (number, ["sync"])


async def test_what_cannot_be_measured_is_an_error_of_the_operation(site: Site) -> None:
    filesystem = await site.mounted()
    site.counts = OSError(errno.ENOTCONN, "")
    with pytest.raises(OperationError, match=site.root) as caught:
        await filesystem.space()
    assert (caught.value.errno, list(caught.value.record)) == (errno.ENOTCONN, ["df"])


# Programs that fail.

FAILURES: Final = {
    "exit 3": ("echo 'LTFS11006E trouble'; exit 3", "exited with status 3"),
    "die": ("kill -KILL $$", "was ended by SIGKILL"),
    "rubbish": ("head -c 100000 /dev/zero | tr '\\0' '\\377'; exit 1", "exited with status 1"),
    "many lines": ("seq 2000; exit 1", "exited with status 1"),
}


async def mount(filesystem: LtfsFilesystem) -> None:
    await filesystem.mount(medium())


async def unmount(filesystem: LtfsFilesystem) -> None:
    await filesystem.unmount()


async def format_medium(filesystem: LtfsFilesystem) -> None:
    await filesystem.format(medium())


OPERATIONS: Final[list[tuple[str, str, Callable[[LtfsFilesystem], Awaitable[None]]]]] = [
    ("mount", "mount", mount),
    ("unmount", "umount", unmount),
    ("format", "format", format_medium),
]


@pytest.mark.parametrize(("script", "how"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize(("name", "key", "operation"), OPERATIONS)
async def test_a_program_that_fails(
    site: Site, name: str, key: str, operation: Callable[[LtfsFilesystem], Awaitable[None]], script: str, how: str
) -> None:
    filesystem = await site.mounted()
    site.program(name, script)
    with pytest.raises(OperationError) as caught:
        await operation(filesystem)
    assert caught.value.errno == errno.EIO, "never the exit status"
    [(found, text)] = caught.value.record.items()
    assert found == key
    assert f"/{name} {DEVICE} " in text
    assert how in text
    assert how in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(("name", "key", "operation"), OPERATIONS)
async def test_a_program_that_is_not_there(
    site: Site, name: str, key: str, operation: Callable[[LtfsFilesystem], Awaitable[None]]
) -> None:
    filesystem = await site.mounted()
    site.program(name, None)
    with pytest.raises(OperationError, match=r"families\.tape\.ltfs") as caught:
        await operation(filesystem)
    assert (caught.value.errno, list(caught.value.record)) == (errno.ENOENT, [key])


@pytest.mark.parametrize(("name", "key", "operation"), OPERATIONS)
async def test_a_program_that_hangs_ends_when_it_is_given_up(
    site: Site,
    started: Descendants,
    tmp_path: Path,
    name: str,
    key: str,
    operation: Callable[[LtfsFilesystem], Awaitable[None]],
) -> None:
    filesystem = await site.mounted()
    hangs = tmp_path / "hangs"
    os.mkfifo(hangs)
    site.program(name, f"echo > {quote(str(hangs))}; exec sleep 1000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operation, filesystem)
        await trio.to_thread.run_sync(hangs.read_bytes)
        assert len(started.pids()) == 1
        nursery.cancel_scope.cancel()
    assert not started.pids()


async def test_a_name_that_no_command_can_take_blames_nobody(site: Site) -> None:
    with pytest.raises(LrsError, match="null character") as caught:
        await (await site.filesystem()).format(medium(name="AB\0L8"))
    assert (caught.value.errno, type(caught.value)) == (errno.EINVAL, LrsError)


async def test_a_mount_point_that_cannot_be_made(site: Site) -> None:
    site.prefix += "nowhere/"
    with pytest.raises(OperationError, match="nowhere/sg3") as caught:
        await (await site.filesystem()).mount(medium())
    assert (caught.value.errno, list(caught.value.record)) == (errno.ENOENT, ["mkdir"])


async def test_a_mount_that_is_none_is_not_believed(site: Site) -> None:
    """Clients would write to the disk below."""
    site.program("mount", f"{site.line_for(source=f'{SOURCE}0')}; exit 0")
    with pytest.raises(OperationError, match=f"{LABEL}.*{SOURCE}") as caught:
        await (await site.filesystem()).mount(medium())
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["mount"])


async def test_an_unmount_that_failed_although_it_is_unmounted_is_one(site: Site) -> None:
    filesystem = await site.mounted()
    site.program("unmount", f"{site.no_line}; echo 'no ltfs process found'; exit 2")
    with capture_logs() as lines:
        await filesystem.unmount()
    [warning] = [line for line in lines if line["log_level"] == "warning"]
    assert "no ltfs process found" in warning["error"]
    assert warning["drive"] == DEVICE


async def test_an_unmount_that_did_nothing_is_not_believed(site: Site) -> None:
    filesystem = await site.mounted()
    site.program("unmount", "exit 0")
    with pytest.raises(OperationError, match=f"{site.root} is still mounted") as caught:
        await filesystem.unmount()
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["umount"])


async def test_what_is_in_use_stays_mounted(site: Site) -> None:
    filesystem = await site.mounted()
    site.program("unmount", 'echo "umount: $2: target is busy." >&2; exit 32')
    with pytest.raises(LrsError, match=site.root) as caught:
        await filesystem.unmount()
    assert (caught.value.errno, type(caught.value)) == (errno.EBUSY, LrsError)
    assert await filesystem.read_label() == LABEL


async def test_one_that_is_only_mounted_elsewhere_has_not_stayed(site: Site) -> None:
    filesystem = await site.mounted()
    site.program("unmount", f"{site.no_line}; set - $1 /mnt/bound; {site.line_for()}; echo busy; exit 1")
    with pytest.raises(OperationError, match="/mnt/bound is still mounted") as caught:
        await filesystem.unmount()
    assert caught.value.errno == errno.EIO


async def test_a_mount_that_was_given_up_can_be_undone(site: Site) -> None:
    filesystem = await site.filesystem()
    site.program("mount", "exit 1")
    with pytest.raises(OperationError):
        await filesystem.mount(medium())
    site.program("unmount", f'test "$2" = {quote(site.root)} || kill -KILL $$')
    await filesystem.unmount()


async def test_nothing_works_on_what_is_not_open_or_not_mounted(site: Site) -> None:
    filesystem = LtfsFilesystem(site.settings, site.prefix, FullThreshold(5))
    for not_open in (filesystem.adopt, filesystem.unmount):
        with pytest.raises(RuntimeError, match="not open"):
            await not_open()
    await filesystem.open(DEVICE)
    not_mounted: list[Callable[[], Awaitable[object]]] = [filesystem.space, filesystem.sync, filesystem.read_label]
    for operation in not_mounted:
        with pytest.raises(RuntimeError, match="nothing is mounted"):
            await operation()


# Real mounts, in a namespace of their own, of a FUSE filesystem of ours.

NAMESPACES: Final = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])
MAY_MOUNT: Final = 'exec 3<>/dev/fuse && mount -t tmpfs ltfs:/dev/null "$0"'


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The beginning of a command line that runs the rest of it where it may mount."""
    directory = str(tmp_path_factory.mktemp("probe"))
    refusals = []
    for words in NAMESPACES:
        tried = subprocess.run([*words, "sh", "-c", MAY_MOUNT, directory], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return words
        refusals.append(f"{' '.join(words)}: {tried.stderr.strip()}")
    pytest.skip(f"this machine does not let us mount in a namespace: {'; '.join(refusals)}")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_real_mounts(namespace: list[str], tmp_path: Path, started: Descendants, scenario: str) -> None:
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.storage.ltfs_scenarios", scenario, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
