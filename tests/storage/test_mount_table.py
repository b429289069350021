from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import LrsError
from lrs_trio.storage.mount_table import MountEntry, entries, find

SOURCE = "ltfs:/dev/sg3"

TABLE = r"""22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard
61 28 0:49 / /mnt/lrs-sg30 rw,nosuid shared:2 master:1 - fuse ltfs:/dev/sg30 rw,user_id=0
62 28 0:50 / /mnt/lrs\040x\134\011\012-sg3 rw,nosuid - fuse ltfs:/dev/sg3 rw,user_id=0,group_id=0
63 28 0:51 / /mnt/other\043 rw - fuse.ltfs ltfs:/dev/disk\040b rw
"""


def test_the_mount_point_of_a_source() -> None:
    assert find(TABLE, SOURCE) == MountEntry(SOURCE, "fuse", "/mnt/lrs x\\\t\n-sg3", "/")
    assert find(TABLE, "ltfs:/dev/disk b") == MountEntry("ltfs:/dev/disk b", "fuse.ltfs", "/mnt/other#", "/")


@pytest.mark.parametrize("source", ["ltfs:/dev/sg", "ltfs:/dev/sg33", "/dev/sg3", ""])
def test_only_a_source_that_is_equal_counts(source: str) -> None:
    assert find(TABLE, source) is None


@pytest.mark.parametrize("fs_type", ["tmpfs", "fuseblk", "fusectl", "nfs4"])
def test_what_is_not_mounted_by_fuse_is_refused(fs_type: str) -> None:
    line = f"9 1 0:5 / /mnt/x rw - {fs_type} {SOURCE} rw"
    with pytest.raises(LrsError, match=f"/mnt/x.*{SOURCE}.*{fs_type}") as caught:
        find(line, SOURCE)
    assert caught.value.errno == errno.EMEDIUMTYPE
    assert find(f"{line}\n{TABLE}", SOURCE) is not None


def test_of_several_mounts_it_is_the_oldest_that_shows_everything() -> None:
    def line(root: str, mount_point: str) -> str:
        return f"9 1 0:5 {root} {mount_point} rw - fuse {SOURCE} rw"

    part, first, second = line("/part", "/mnt/part"), line("/", "/mnt/first"), line("/", "/mnt/second")
    for lines, mount_point in (
        ([part, first, second], "/mnt/first"),
        ([second, first], "/mnt/second"),
        ([part], "/mnt/part"),
    ):
        found = find("\n".join(lines), SOURCE)
        assert found is not None
        assert found.mount_point == mount_point


@pytest.mark.parametrize("line", ["", "-", "1 2 3", "9 1 0:5 / /mnt/x rw - fuse", "9 1 0:5 / /mnt/x rw fuse ltfs: rw"])
def test_a_line_of_another_form_does_not_hide_the_others(line: str) -> None:
    assert len(list(entries(f"{line}\n{TABLE}"))) == 5


def test_a_hyphen_among_the_first_fields_is_none() -> None:
    [entry] = entries("9 - 0:5 - /mnt/x - master:1 - fuse - rw")
    assert entry == MountEntry("-", "fuse", "/mnt/x", "-")


@given(st.text(alphabet=st.sampled_from("ab/ \t\n\\#0134é")), st.text(alphabet=st.sampled_from("x/ \t\n\\#0134é")))
def test_escapes_are_undone(source: str, mount_point: str) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{ord(sign):03o}" if sign in " \t\n\\#" else sign for sign in text)

    [entry] = entries(f"9 1 0:5 / {escaped(mount_point)} rw - fuse {escaped(source)} rw")
    assert (entry.source, entry.mount_point) == (source, mount_point)


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    for entry in entries(text):
        find(text, entry.source + "x")


def test_the_table_of_this_machine() -> None:
    found = list(entries(os.fsdecode(Path("/proc/self/mountinfo").read_bytes())))
    assert {"/", "/proc"} <= {entry.mount_point for entry in found}
