from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lrs_trio.errors import LrsError
from lrs_trio.model import Family, FsType, Medium, ResourceId
from lrs_trio.storage.root import LABEL_FILE, Root, label_names, label_recorded
from lrs_trio.storage.syncfs import syncfs


def opened(path: Path, sync: Callable[[int], None] = syncfs) -> Root:
    root = Root(str(path), sync)
    root.open()
    return root


def descriptors(path: Path) -> int:
    """How many descriptors of this process are open on `path`."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(link) == str(path)
        except FileNotFoundError:
            continue  # the listing's own
    return count


def test_the_label_is_the_whole_name_and_private(tmp_path: Path) -> None:
    root = opened(tmp_path)
    root.write_label("/srv/objects")
    file = tmp_path / LABEL_FILE
    assert file.read_bytes() == b"/srv/objects"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert root.read_label() == "/srv/objects"
    root.release()


def test_a_directory_without_label_file_has_no_label(tmp_path: Path) -> None:
    root = opened(tmp_path)
    assert root.read_label() is None
    root.release()


def test_a_label_that_is_no_utf8_can_be_read(tmp_path: Path) -> None:
    (tmp_path / LABEL_FILE).write_bytes(b"/d\xff")
    root = opened(tmp_path)
    label = root.read_label()
    assert label is not None
    assert os.fsencode(label) == b"/d\xff"
    root.release()


def test_a_label_behind_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("/srv/objects")
    (tmp_path / LABEL_FILE).symlink_to("elsewhere")
    root = opened(tmp_path)
    with pytest.raises(OSError, match=LABEL_FILE) as caught:
        root.read_label()
    assert caught.value.errno == errno.ELOOP
    root.release()


def test_another_mediums_label_stays(tmp_path: Path) -> None:
    root = opened(tmp_path)
    root.write_label("first")
    with pytest.raises(LrsError, match="'first'") as caught:
        root.write_label("second")
    assert caught.value.errno == errno.EEXIST
    assert root.read_label() == "first"
    root.release()


def test_a_format_whose_end_was_lost_succeeds_again(tmp_path: Path) -> None:
    root = opened(tmp_path)
    root.write_label("first")
    (tmp_path / "lost+found").mkdir()
    root.write_label("first")
    assert root.read_label() == "first"
    root.release()


def test_a_labelled_directory_with_objects_is_not_formatted_again(tmp_path: Path) -> None:
    root = opened(tmp_path)
    root.write_label("first")
    (tmp_path / "object").touch()
    with pytest.raises(LrsError) as caught:
        root.write_label("first")
    assert caught.value.errno == errno.EEXIST
    root.release()


def test_an_empty_label_is_an_unfinished_format(tmp_path: Path) -> None:
    (tmp_path / LABEL_FILE).touch()
    (tmp_path / "object").touch()
    root = opened(tmp_path)
    root.write_label("first")
    assert root.read_label() == "first"
    assert (tmp_path / "object").exists()
    root.release()


@pytest.mark.parametrize("name", ["/srv/a", "/srv/" + "a" * 60, "/srv/" + "é" * 40, "/srv/données/" + "é" * 12 + "/x"])
def test_a_label_names_its_medium_whole_or_cut_after_32_bytes_or_characters(name: str) -> None:
    assert label_names(name, name)
    assert label_names(os.fsdecode(os.fsencode(name)[:32]), name)
    assert label_names(name[:32], name)


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("", "/srv/a"),
        ("/srv/b", "/srv/a"),
        ("/srv/", "/srv/a"),
        ("/srv/a" + "x" * 40 + "1", "/srv/a" + "x" * 40 + "2"),
        ("/srv/a" + "x" * 40, "/srv/a" + "x" * 41),
    ],
)
def test_another_label_does_not(found: str, name: str) -> None:
    assert not label_names(found, name)


LONG = "/mnt/archive/directories/number"  # 31 characters


@pytest.mark.parametrize(
    ("found", "recorded", "name", "expected"),
    [
        ("/old", "/old", "/new", True),
        (LONG + "/1/x", LONG + "/", "/new", True),
        ("/srv/" + "é" * 40, "/srv/" + "é" * 27, "/new", True),
        ("/old", "", "/new", False),
        ("", "", "/new", False),
        ("/old", "/older", "/new", False),
        ("/older", "/old", "/new", False),
        # The beginning of the own name: it would be the beginning of a neighbour's as well.
        (LONG + "/2", LONG + "/", LONG + "/1", False),
        (LONG + "/1", LONG + "/", LONG + "/1", False),
        ("/new", "/new", "/new", False),
        ("/ne", "/ne", "/new", False),
    ],
)
def test_a_recorded_label_counts_where_the_own_name_does_not_begin_so(
    found: str, recorded: str, name: str, expected: bool
) -> None:
    medium = Medium(ResourceId(Family.DIR, name, "legacy"), FsType.POSIX, fs_label=recorded)
    assert label_recorded(found, medium) == expected


def test_a_replaced_directory_is_noticed(tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    root = opened(place)
    root.check_in_place()
    place.rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError, match=str(place)):
        root.check_in_place()
    place.mkdir()
    with pytest.raises(LrsError, match="not the directory any more") as caught:
        root.check_in_place()
    assert caught.value.errno == errno.ESTALE
    root.release()


def test_labels_go_to_the_opened_directory_wherever_it_is_now(tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    root = opened(place)
    place.rename(tmp_path / "old")
    place.mkdir()
    root.write_label("first")
    assert (tmp_path / "old" / LABEL_FILE).exists()
    assert not (place / LABEL_FILE).exists()
    root.release()


def test_errors_of_the_system_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "missing")):
        opened(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=str(tmp_path / "file")):
        opened(tmp_path / "file")


def test_the_system_call_reports_its_errno() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syncfs(-1)
    assert caught.value.errno == errno.EBADF


def test_a_descriptor_that_has_reported_an_error_never_succeeds_again(tmp_path: Path) -> None:
    reports = iter([None, errno.EIO, None])

    def reported_once(descriptor: int) -> None:
        if (number := next(reports)) is not None:
            raise OSError(number, os.strerror(number))

    root = opened(tmp_path, reported_once)
    root.syncfs()
    for _ in range(2):
        with pytest.raises(OSError, match=str(tmp_path)) as caught:
            root.syncfs()
        assert caught.value.errno == errno.EIO
    root.release()
    assert next(reports, "none left") is None  # the second failure did not ask the system again


def test_the_descriptor_closes_with_the_release(tmp_path: Path) -> None:
    root = opened(tmp_path)
    assert descriptors(tmp_path) == 1
    root.release()
    assert descriptors(tmp_path) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        root.syncfs()


def test_the_descriptor_stays_open_for_a_call_under_way(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hang(descriptor: int) -> None:
        begun.set()
        go_on.wait()

    root = opened(tmp_path, hang)
    thread = threading.Thread(target=root.syncfs)
    thread.start()
    begun.wait()
    root.release()
    assert descriptors(tmp_path) == 1
    go_on.set()
    thread.join()
    assert descriptors(tmp_path) == 0


def test_a_directory_that_opens_after_the_release_is_closed_at_once(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    root.release()
    root.open()
    assert descriptors(tmp_path) == 0
