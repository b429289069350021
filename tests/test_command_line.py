from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.command_line import split_command
from lrs_trio.errors import LrsError


@pytest.mark.parametrize(
    ("template", "arguments", "words"),
    [
        (
            '/usr/sbin/helper mount "%s" "%s"',
            ("/dev/sg3", "/mnt/a b"),
            ["/usr/sbin/helper", "mount", "/dev/sg3", "/mnt/a b"],
        ),
        ("ltfs -o devname=%s %s", ("/dev/sg3", "/mnt"), ["ltfs", "-o", "devname=/dev/sg3", "/mnt"]),
        ("echo 100%% '%s'", ("%s $HOME",), ["echo", "100%", "%s $HOME"]),
        ("sh -c 'umount \"$1\"' sh %s", ("x y",), ["sh", "-c", 'umount "$1"', "sh", "x y"]),
        ("true # %s", ("a",), ["true", "#", "a"]),
        ("x %s", ("",), ["x", ""]),
    ],
)
def test_arguments_take_the_places_of_the_settings_words(
    template: str, arguments: tuple[str, ...], words: list[str]
) -> None:
    assert split_command(template, *arguments) == words


@given(st.text().filter(lambda text: "\0" not in text), st.text().filter(lambda text: "\0" not in text))
def test_an_argument_stays_whole_whatever_it_contains(first: str, second: str) -> None:
    assert split_command('x "%s" y%s', first, second) == ["x", first, "y" + second]


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        ("ltfs %s", ("a", "b")),
        ("ltfs %s %s %s", ("a", "b")),
        ("ltfs", ("a",)),
        ("ltfs %d", ("a",)),
        ("ltfs %", ()),
        ("ltfs '%s", ("a",)),
        ("  ", ()),
        ("ltfs %s", ("a\0b",)),
        ("ltfs \0", ()),
    ],
)
def test_what_is_no_command_for_its_arguments_is_refused_by_its_text(template: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(LrsError) as caught:
        split_command(template, *arguments)
    assert caught.value.errno == errno.EINVAL
    assert repr(template) in str(caught.value)
