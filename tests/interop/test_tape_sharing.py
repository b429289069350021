"""sched fair_share, and fifo_max_write_per_grouping."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from lrs_trio.model import Family, RequestKind
from lrs_trio.wire.messages import ReadAllocation, ReadGranted, Request, WriteAllocation, WriteGranted, WriteMedium
from tests.interop.captured import assert_as_captured
from tests.interop.conftest import MakeHost, MakeTapePhobos, refusal, until
from tests.interop.host import LIBRARY
from tests.interop.tapes import (
    TapeLibrary,
    TapePhobos,
    drives_of,
    queued,
    start_with_tapes,
    tape_get,
    tape_put,
    tape_rows,
)
from tests.interop.transfers import Target, Wishes, putting, run

CONTENT = b"c" * 1000
WRITE = WriteAllocation((WriteMedium(4096),), Family.TAPE, library=LIBRARY)
SECTION = "io_sched_tape"


@pytest.fixture
def sharing(make_host: MakeHost, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary) -> Iterator[TapePhobos]:
    """A client of a daemon that shares its drives out, of which each kind gets one at most."""
    host = make_host("tape2")
    shares = {"fair_share_LTO8_min": "0,0,0", "fair_share_LTO8_max": "1,1,1"}
    start_with_tapes(host, tape_library, io_sched_tape={"dispatch_algo": "fair_share"} | shares)
    phobos = make_tape_phobos(host)
    yield phobos
    phobos.clear(tape_library)


def letters(phobos: TapePhobos) -> list[str]:
    return sorted(status["currently_dedicated_to"] for status in phobos.drive_status())


def test_the_shares_are_read_and_set(sharing: TapePhobos) -> None:
    with tape_rows(sharing.database.connection):
        assert sharing.fair_share("LTO8") == ["0,0,0", "1,1,1"]
        sharing.set_fair_share("LTO8", "1,1,0", "4,4,1")
        assert sharing.fair_share("LTO8") == ["1,1,0", "4,4,1"]
        assert sharing.fair_share("LTO5") == ["", ""]
        assert_as_captured(sharing.said, "31_sched_fair_share_get", sharing.host.name)
        sharing.set_fair_share("LTO5", "1,1,1", "2,2,2")
        assert_as_captured(sharing.said, "32_sched_fair_share_set", sharing.host.name)
        for wrong in ("1,1", "1,1,x", "-1,0,0", "1, 1, 1"):
            found = refusal(sharing.configure, (SECTION, "fair_share_LTO8_min", wrong))
            assert found == (errno.EINVAL, RequestKind.CONFIGURE)
        assert sharing.fair_share("LTO8") == ["1,1,0", "4,4,1"]


def test_a_kind_gets_no_more_than_its_most(
    sharing: TapePhobos, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary
) -> None:
    """The second write waits though drives are free, until the share is raised while it waits."""
    drives_of(sharing, tape_library, 3)
    one, two = tape_library.tapes(2)
    sharing.tape_ready(one, two)
    assert letters(sharing) == ["", "", "F"]
    writing = putting(sharing, [Target("object", CONTENT)], Wishes(family=Family.TAPE))
    assert next(writing) == "granted"
    assert letters(sharing) == ["", "F", "W"]
    other = make_tape_phobos(sharing.host)
    with other.command() as command:
        connection = command.connect()
        connection.send(Request(7, WRITE))
        until(lambda: queued(sharing) == 1, "the second write waits")
        assert letters(sharing) == ["", "F", "W"]
        make_tape_phobos(sharing.host).set_fair_share("LTO8", "0,0,0", "1,2,1")
        connection.expect(7, WriteGranted)
        assert letters(sharing)[-2:] == ["W", "W"]
    run(writing)
    assert tape_get(sharing, "object") == CONTENT
    assert "R" in letters(sharing)


def test_a_kind_whose_most_is_nothing(
    sharing: TapePhobos, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary
) -> None:
    """It waits, until that is changed."""
    drives_of(sharing, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    sharing.tape_ready(tape)
    tape_put(sharing, "object", CONTENT)
    sharing.set_fair_share("LTO8", "0,0,0", "0,1,1")
    other = make_tape_phobos(sharing.host)
    with other.command() as command:
        connection = command.connect()
        connection.send(Request(7, ReadAllocation(1, (tape.medium,))))
        until(lambda: queued(sharing) == 1, "the read waits")
        tape_put(sharing, "another", CONTENT)
        connection.assert_silent()
        sharing.set_fair_share("LTO8", "0,0,0", "1,1,1")
        assert connection.expect(7, ReadGranted).media[0].medium == tape.medium


def test_no_more_writers_of_a_grouping_than_allowed(
    make_host: MakeHost, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary
) -> None:
    """fifo_max_write_per_grouping: others, and those without a grouping, are not held up."""
    host = make_host("tape2")
    start_with_tapes(host, tape_library, lrs={"fifo_max_write_per_grouping": 1})
    first, second, third = (make_tape_phobos(host) for _ in range(3))
    drives_of(first, tape_library, 3)
    first.tape_ready(*tape_library.tapes(3))
    writing = putting(first, [Target("one", CONTENT)], Wishes(family=Family.TAPE, grouping="g1"))
    assert next(writing) == "granted"
    with second.command() as command:
        connection = command.connect()
        connection.send(Request(0, WriteAllocation((WriteMedium(4096),), Family.TAPE, grouping="g1")))
        until(lambda: queued(third) == 1, "the second writer of the grouping waits")
        tape_put(third, "two", CONTENT, grouping="g2")
        tape_put(third, "three", CONTENT)
        connection.assert_silent()
        run(writing)
        connection.expect(0, WriteGranted)
    first.clear(tape_library)
