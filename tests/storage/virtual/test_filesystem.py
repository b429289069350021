"""LTFS on virtual cartridges, in virtual time: mounts, syncs, formats, space, and what goes wrong."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.errors import LabelError, LrsError, OperationError
from lrs_trio.model import FsStatus, Space
from lrs_trio.storage.virtual.faults import Fault
from lrs_trio.storage.virtual.library import VirtualLibrary
from tests.storage.virtual.shelf import (
    BLANK,
    D1,
    D2,
    MIB,
    PROTECTED,
    A,
    B,
    device,
    generation,
    medium,
    mounted,
    shelf,
    unit,
)


def write(root: Path, name: str, size: int) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    with (root / name).open("wb") as file:
        file.truncate(size)


# Mounting.


async def test_mount_and_unmount(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    start = trio.current_time()
    root = Path(await found.filesystem.mount(medium(A)))
    assert trio.current_time() - start == generation(library).mount_s(0)
    assert root == tmp_path / "mnt-virtual-shelf-1"
    write(root, "a/object", 10)
    await found.filesystem.unmount()
    assert not root.is_symlink()
    assert await found.filesystem.mount(medium(A)) == str(root)
    assert (root / "a/object").stat().st_size == 10


async def test_an_index_of_many_files_takes_longer_to_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    found, root = await mounted(library, tmp_path)
    for number in range(50):
        write(root, f"d{number % 3}/{number}", 1)
    await found.filesystem.unmount()
    start = trio.current_time()
    await found.filesystem.mount(medium(A))
    assert trio.current_time() - start == pytest.approx(generation(library).mount_s(50))


async def test_an_unmount_with_nothing_new_is_quick(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, stream_at_sync=False)
    found, root = await mounted(library, tmp_path)
    start = trio.current_time()
    await found.filesystem.unmount()
    assert trio.current_time() - start == generation(library).unmount_s(0, 0)
    await found.filesystem.mount(medium(A))
    write(root, "object", 10)
    await found.filesystem.sync()
    start = trio.current_time()
    await found.filesystem.unmount()
    assert trio.current_time() - start == pytest.approx(generation(library).unmount_s(1, 10))


async def test_a_drive_is_opened_by_its_path(tmp_path: Path) -> None:
    filesystem = unit(shelf(tmp_path), tmp_path).filesystem
    await filesystem.open("/dev/virtual-shelf-1")
    assert filesystem.volume == "/dev/virtual-shelf-1"
    with pytest.raises(LrsError, match="/dev/nst0") as caught:
        await filesystem.open("/dev/nst0")
    assert caught.value.errno == errno.ENOENT
    await filesystem.close()


async def test_mounts_that_cannot_be(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, cartridges=BLANK)
    found = unit(library, tmp_path)
    with pytest.raises(OperationError, match="the drive is empty") as empty:
        await found.filesystem.mount(medium(A))
    assert (empty.value.errno, list(empty.value.record)) == (errno.ENOMEDIUM, ["mount"])
    await found.library.load(device(D1), A)
    with pytest.raises(OperationError, match="format it first") as blank:
        await found.filesystem.mount(medium(A))
    assert (blank.value.errno, list(blank.value.record)) == (errno.EINVAL, ["mount"])
    await found.filesystem.format(medium(A))
    root = Path(await found.filesystem.mount(medium(A)))
    with pytest.raises(OperationError, match=f"mounted already, at {root}") as twice:
        await found.filesystem.mount(medium(A))
    assert twice.value.errno == errno.EBUSY


async def test_a_label_that_is_another_ones(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="wrong_cartridge"))
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    with pytest.raises(LabelError, match=f"label {B}, not that of {A}") as caught:
        await found.filesystem.mount(medium(A))
    assert caught.value.errno == errno.EINVAL
    assert caught.value.record == {"label mismatch": f"found: {B}, expected: {A}"}
    assert await found.filesystem.adopt() is None
    # Who imports it takes whatever is there, and so does who has recorded that label.
    await found.filesystem.mount(replace(medium(A), fs_status=FsStatus.IMPORTING))
    await found.filesystem.unmount()
    await found.filesystem.mount(replace(medium(A), fs_label=B))


@pytest.mark.parametrize("obstacle", ["file", "directory", "foreign link"])
async def test_something_else_is_where_the_mount_should_be(
    tmp_path: Path, autojump_clock: MockClock, obstacle: str
) -> None:
    library = shelf(tmp_path)
    place = tmp_path / "mnt-virtual-shelf-1"
    if obstacle == "file":
        place.touch()
    elif obstacle == "directory":
        place.mkdir()
    else:
        place.symlink_to(tmp_path)
    with pytest.raises(OperationError, match=str(place)) as caught:
        await mounted(library, tmp_path)
    assert (caught.value.errno, caught.value.record) == (errno.EEXIST, {"mkdir": str(place)})
    assert await unit(library, tmp_path).filesystem.adopt() is None


@pytest.mark.parametrize("left_over", ["gone", "shelf/cartridges/V00002L8/content"])
async def test_a_link_that_is_left_over_gives_way(tmp_path: Path, autojump_clock: MockClock, left_over: str) -> None:
    library = shelf(tmp_path)
    (tmp_path / "mnt-virtual-shelf-1").symlink_to(tmp_path / left_over)
    _, root = await mounted(library, tmp_path)
    assert root.readlink() == tmp_path / "shelf/cartridges/V00001L8/content"


async def test_a_mount_point_without_its_directory(tmp_path: Path, autojump_clock: MockClock) -> None:
    with pytest.raises(OperationError, match="no/mnt-") as caught:
        await mounted(shelf(tmp_path), tmp_path / "no")
    assert (caught.value.errno, list(caught.value.record)) == (errno.ENOENT, ["mkdir"])


async def test_a_successor_adopts_what_is_mounted(tmp_path: Path, autojump_clock: MockClock) -> None:
    first, root = await mounted(shelf(tmp_path), tmp_path)
    write(root, "object", 100)
    await first.filesystem.close()
    successor = unit(VirtualLibrary.open(tmp_path / "shelf"), tmp_path)
    await successor.filesystem.open("/dev/virtual-shelf-1")
    assert await successor.filesystem.adopt() == str(root)
    assert (await successor.filesystem.sync()).used == 100
    await successor.filesystem.unmount()
    assert await successor.filesystem.adopt() is None


async def test_a_mount_that_a_restart_of_the_host_has_removed(tmp_path: Path, autojump_clock: MockClock) -> None:
    found, root = await mounted(shelf(tmp_path, cartridges=PROTECTED), tmp_path)
    content = root.resolve()
    root.unlink()
    assert await found.filesystem.adopt() is None
    assert content.stat().st_mode & 0o200
    with pytest.raises(OperationError, match="not mounted"):
        await found.filesystem.sync()
    await found.filesystem.mount(medium(A))


# Format.


async def test_format(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    found, root = await mounted(library, tmp_path)
    write(root, "a/object", MIB)
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(OperationError, match=f"mounted at {root}") as caught:
        await found.filesystem.format(medium(A))
    assert (caught.value.errno, list(caught.value.record)) == (errno.EBUSY, ["format"])
    await found.filesystem.unmount()
    start = trio.current_time()
    # No threshold counts yet: that is what mkltfs would say.
    assert await found.filesystem.format(medium("another")) == Space(0, 10 * MIB)
    assert trio.current_time() - start == generation(library).format_s()
    assert await found.filesystem.read_label() == "another"
    await found.filesystem.mount(medium("another"))
    assert list(root.iterdir()) == []
    assert await found.filesystem.space() == Space(0, 10 * MIB)
    assert tmp_path.exists()


async def test_a_format_that_fails_leaves_no_label(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="format"))
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    with pytest.raises(OperationError, match="format as") as caught:
        await found.filesystem.format(medium(A))
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["format"])
    assert await found.filesystem.read_label() is None
    await found.filesystem.format(medium(A))
    await found.filesystem.mount(medium(A))


async def test_a_format_that_is_given_up_leaves_no_label(tmp_path: Path, autojump_clock: MockClock) -> None:
    found = unit(shelf(tmp_path), tmp_path)
    await found.library.load(device(D1), A)
    with trio.move_on_after(100):
        await found.filesystem.format(medium(A))
    assert await found.filesystem.read_label() is None


# Sync and space.


async def test_a_sync_streams_what_is_new_and_writes_the_index(tmp_path: Path, autojump_clock: MockClock) -> None:
    big = [{"generation": "lto8", "count": 1, "formatted": True}]
    library = shelf(tmp_path, cartridges=big)
    lto8 = generation(library)
    found, root = await mounted(library, tmp_path)
    for number, size in enumerate((36 * 10**9, 18 * 10**9), 1):
        write(root, f"object{number}", size)
        start = trio.current_time()
        await found.filesystem.sync()
        assert trio.current_time() - start == pytest.approx(size / 360e6 + lto8.sync_s(number))
    write(root, "last", 360 * 10**6)
    start = trio.current_time()
    await found.filesystem.unmount()
    assert trio.current_time() - start == pytest.approx(1 + lto8.unmount_s(3, 1))


async def test_clients_that_take_their_time_themselves_pay_for_the_index_only(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    library = shelf(tmp_path, stream_at_sync=False)
    found, root = await mounted(library, tmp_path)
    write(root, "object", 10 * MIB)
    start = trio.current_time()
    await found.filesystem.sync()
    assert trio.current_time() - start == pytest.approx(generation(library).sync_s(1))


async def test_space(tmp_path: Path, autojump_clock: MockClock) -> None:
    found, root = await mounted(shelf(tmp_path), tmp_path)
    assert await found.filesystem.space() == Space(0, 10 * MIB)
    write(root, "a/b/object", 3 * MIB)
    assert await found.filesystem.space() == await found.filesystem.sync() == Space(3 * MIB, 7 * MIB)
    write(root, "more", 7 * MIB)
    assert await found.filesystem.space() == Space(10 * MIB, 0)
    write(root, "too much", MIB)
    assert await found.filesystem.space() == Space(11 * MIB, 0)


async def test_what_is_deleted_does_not_come_free(tmp_path: Path, autojump_clock: MockClock) -> None:
    found, root = await mounted(shelf(tmp_path), tmp_path)
    write(root, "object", 3 * MIB)
    await found.filesystem.sync()
    (root / "object").unlink()
    assert await found.filesystem.sync() == Space(3 * MIB, 7 * MIB)
    write(root, "object", MIB)
    assert await found.filesystem.sync() == Space(4 * MIB, 6 * MIB)


async def test_the_full_threshold(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    _, root = await mounted(library, tmp_path)
    write(root, "object", 10 * MIB * 94 // 100)
    assert (await unit(library, tmp_path, percent=5).filesystem.space()).free > 0
    assert (await unit(library, tmp_path, percent=7).filesystem.space()).free == 0


async def test_the_end_of_the_medium_comes_early(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="end_of_medium", cartridge=A, at=2))
    found, root = await mounted(library, tmp_path)
    write(root, "object", MIB)
    assert (await found.filesystem.sync()).free == 9 * MIB
    assert await found.filesystem.sync() == await found.filesystem.space() == Space(MIB, 0)
    await found.filesystem.unmount()
    assert (await found.filesystem.format(medium(A))).free == 10 * MIB


async def test_a_sync_that_fails(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="sync"))
    found, root = await mounted(library, tmp_path)
    write(root, "object", 10)
    with pytest.raises(OperationError, match=f"sync of {A} in {D1}") as caught:
        await found.filesystem.sync()
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["sync"])
    await found.filesystem.sync()


async def test_what_is_not_mounted(tmp_path: Path, autojump_clock: MockClock) -> None:
    found = unit(shelf(tmp_path), tmp_path)
    await found.library.load(device(D1), A)
    filesystem = found.filesystem
    for operation, key in ((filesystem.sync, "sync"), (filesystem.space, "df"), (filesystem.unmount, "umount")):
        with pytest.raises(OperationError, match="not mounted") as caught:
            await operation()
        assert (caught.value.errno, list(caught.value.record)) == (errno.EINVAL, [key])


# Write protection.


async def test_a_write_protected_cartridge(tmp_path: Path, autojump_clock: MockClock) -> None:
    found, root = await mounted(shelf(tmp_path, cartridges=PROTECTED), tmp_path)
    content = root.resolve()
    before = content.parent.stat().st_mode & 0o777
    assert await found.filesystem.space() == Space(0, 10 * MIB, read_only=True)
    assert content.stat().st_mode & 0o222 == 0
    await found.filesystem.unmount()
    assert content.stat().st_mode & 0o777 == before
    with pytest.raises(OperationError, match="write-protected") as caught:
        await found.filesystem.format(medium(A))
    assert (caught.value.errno, list(caught.value.record)) == (errno.EROFS, ["format"])


async def test_a_cartridge_is_found_to_be_write_protected(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="write_protected"))
    found, _ = await mounted(library, tmp_path)
    assert (await found.filesystem.space()).read_only
    await found.filesystem.unmount()
    await found.library.unload(device(D1), A)
    found, _ = await mounted(library, tmp_path, A, D2)
    assert (await found.filesystem.space()).read_only


async def test_a_drive_that_can_only_read_the_cartridge(tmp_path: Path, autojump_clock: MockClock) -> None:
    older = tmp_path / "lto8.toml"
    shelf(tmp_path)
    older.write_text(
        (tmp_path / "shelf/lto8.toml").read_text().replace('writes = ["LTO7", "LTO8"]', 'writes = []\nreads = ["LTO8"]')
    )
    (tmp_path / "shelf/library.toml").unlink()
    found, _ = await mounted(shelf(tmp_path), tmp_path)
    assert (await found.filesystem.space()).read_only


# What else goes wrong.


async def test_a_mount_that_fails(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="mount", drive=D1))
    with pytest.raises(OperationError, match=f"of {A} in {D1}") as caught:
        await mounted(library, tmp_path)
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["mount"])
    await unit(library, tmp_path).filesystem.mount(medium(A))


async def test_a_mount_that_hangs_until_somebody_gives_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="mount_hang"))
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(100_000):
            await found.filesystem.mount(medium(A))
    assert await found.filesystem.adopt() is None
    await found.filesystem.mount(medium(A))


async def test_an_unmount_while_somebody_uses_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="unmount_busy", count=2))
    found, root = await mounted(library, tmp_path)
    for _ in range(2):
        with pytest.raises(OperationError, match=f"somebody uses {root}") as caught:
            await found.filesystem.unmount()
        assert (caught.value.errno, list(caught.value.record)) == (errno.EBUSY, ["umount"])
        assert await found.filesystem.adopt() == str(root)
    await found.filesystem.unmount()


async def test_a_drive_dies_in_the_middle_of_a_sync(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    found, root = await mounted(library, tmp_path)
    library.faults.inject(Fault(kind="drive_death", drive=D1, after_s=1))
    start = trio.current_time()
    with pytest.raises(OperationError, match="dead") as caught:
        await found.filesystem.sync()
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["sync"])
    assert trio.current_time() - start == 1
    with pytest.raises(OperationError, match="dead"):
        await found.filesystem.unmount()
    # The other drive does not mind.
    await mounted(library, tmp_path, B, D2)
    # The technician leaves everything as it is.
    library.mend(D1)
    assert await found.filesystem.adopt() == str(root)


@pytest.mark.parametrize("seconds", range(1, 100, 6))
async def test_whatever_is_given_up_the_next_one_goes_on(
    tmp_path: Path, autojump_clock: MockClock, seconds: int
) -> None:
    library = shelf(tmp_path)
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    root = tmp_path / "mnt-virtual-shelf-1"
    with trio.move_on_after(seconds):
        await found.filesystem.mount(medium(A))
        write(root, "object", MIB)
        await found.filesystem.sync()
        await found.filesystem.unmount()
    successor = unit(library, tmp_path)
    if await successor.filesystem.adopt() is None:
        await successor.filesystem.mount(medium(A))
    write(root, "object", MIB)
    assert (await successor.filesystem.sync()).used == MIB
    await successor.filesystem.unmount()
    await successor.library.unload(device(D1), A)


# With threads, on the real clock.


async def test_a_durable_library_writes_to_the_disk(tmp_path: Path) -> None:
    library = shelf(tmp_path, speed=10**6, durable=True)
    found, root = await mounted(library, tmp_path)
    (root / "object").write_bytes(b"x" * 1000)
    assert await found.filesystem.sync() == Space(1000, 10 * MIB - 1000)
    await found.filesystem.unmount()
    await found.filesystem.format(medium(A))
    await found.filesystem.mount(medium(A))
    assert list(root.iterdir()) == []
    await found.filesystem.close()


async def test_a_disk_that_fails_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = shelf(tmp_path, speed=10**6, durable=True)
    found, _ = await mounted(library, tmp_path)

    def broken(self: object) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr("lrs_trio.storage.root.Root.syncfs", broken)
    with pytest.raises(OperationError, match="the disk below fails") as caught:
        await found.filesystem.sync()
    assert (caught.value.errno, list(caught.value.record)) == (errno.EIO, ["sync"])
    await found.filesystem.close()
