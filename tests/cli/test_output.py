from __future__ import annotations

import errno
import os

import pytest

from lrs_trio.cli.output import counted, error_lines, exit_status, human_age
from lrs_trio.errors import DssUnavailableError, LrsError, SettingsError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LrsError(errno.EBUSY, "in use"), errno.EBUSY),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/x"), errno.ENOENT),
        (LrsError(errno.ESTALE, "stale"), errno.ESTALE),
        (LrsError(errno.ENOKEY, "the shell uses 126 for itself"), 1),
        (OSError("no number at all"), 1),
        (SettingsError("bad"), 1),
        (DssUnavailableError("later"), errno.EAGAIN),
        (UnicodeEncodeError("utf-8", "/\udcff", 1, 2, "surrogates not allowed"), errno.EINVAL),
    ],
)
def test_the_exit_status_is_the_errno_where_the_shell_leaves_room(error: Exception, status: int) -> None:
    assert exit_status(error) == status


def test_an_error_names_its_errno() -> None:
    assert error_lines(LrsError(errno.ENOSPC, "no room")) == ["no room [ENOSPC]"]


def test_an_error_says_what_it_is_about_only_once() -> None:
    assert error_lines(LrsError(errno.EINVAL, "no room"), "/a") == ["/a: no room [EINVAL]"]
    assert error_lines(LrsError(errno.EINVAL, "/a has no room"), "/a") == ["/a has no room [EINVAL]"]


def test_what_cannot_be_encoded_is_named_with_its_line_only() -> None:
    word = UnicodeEncodeError("utf-8", "/\udcff/x", 1, 2, "surrogates not allowed")
    assert error_lines(word, "/\udcff/x") == ["/\udcff/x: cannot be expressed in utf-8 [EINVAL]"]
    table = UnicodeEncodeError("ascii", "one\ntwö x\nthree", 6, 7, "ordinal not in range(128)")
    assert error_lines(table) == ["twö x: cannot be expressed in ascii [EINVAL]"]


def test_settings_errors_have_a_line_for_each_problem() -> None:
    assert error_lines(SettingsError("one\ntwo")) == ["one", "two"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12 ms"), (2.34, "2.3 s"), (300, "5 min"), (7200, "2 h"), (10 * 86400, "10 d")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert human_age(seconds) == text


def test_one_is_singular() -> None:
    assert (counted(1, "copy", "copies"), counted(0, "copy", "copies"), counted(2, "file")) == (
        "1 copy",
        "0 copies",
        "2 files",
    )
