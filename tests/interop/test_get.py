"""get: any of the media that hold an object, in the order of its layout; and what cannot be had."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from lrs_trio.model import Family, ReadOperation, RequestKind, ResourceId
from lrs_trio.wire.messages import ReadAllocation, ReadGranted, Request
from tests.interop.captured import assert_as_captured
from tests.interop.conftest import MakeDirectory, MakePhobos, refusal, until
from tests.interop.host import Directory
from tests.interop.phobos import Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import ONE, RAID4, Layout, delete_hard, get, getting, put, raid1

CONTENT = bytes(range(256)) * 100


@pytest.mark.parametrize(
    ("layout", "case"),
    [(ONE, "17_get"), (raid1(2), "18_get_raid1"), (RAID4, "19_get_raid4")],
    ids=["one", "raid1", "raid4"],
)
def test_get(phobos: Phobos, directory: MakeDirectory, layout: Layout, case: str) -> None:
    phobos.dir_ready(*(directory(str(number)) for number in range(layout.media)))
    put(phobos, "object", CONTENT, layout=layout)
    with expected_rows(phobos.database.connection):
        assert get(phobos, "object") == CONTENT
    assert_as_captured(phobos.said, case, phobos.host.name)


def media_of(phobos: Phobos, oid: str) -> list[ResourceId]:
    """In the order of the layout."""
    _, extents = phobos.database.copy(oid, "source")
    return [ResourceId(Family.DIR, extent["medium_id"], extent["medium_library"]) for extent in extents]


def granted(phobos: Phobos, needed: int, *media: ResourceId) -> list[ResourceId]:
    """The media that a read is granted, which ends at once."""
    with phobos.command() as command:
        found = command.connect().ask(0, ReadAllocation(needed, media), ReadGranted)
    return [medium.medium for medium in found.media]


@pytest.mark.parametrize("layout", [raid1(2), RAID4], ids=["1 of 2", "2 of 3"])
def test_get_from_the_first_that_are_free(
    phobos: Phobos, directory: MakeDirectory, make_phobos: MakePhobos, layout: Layout
) -> None:
    """The first of the layout is used by somebody: the next one stands in."""
    phobos.dir_ready(*(directory(str(number)) for number in range(layout.media)))
    put(phobos, "object", CONTENT, layout=layout)
    first, *others = media_of(phobos, "object")
    with make_phobos(phobos.host).command() as command, expected_rows(phobos.database.connection):
        command.connect().ask(0, ReadAllocation(1, (first,)), ReadGranted)
        assert granted(phobos, layout.needed, first, *others) == others
        assert get(phobos, "object") == CONTENT


@pytest.mark.parametrize("layout", [raid1(2), RAID4], ids=["1 of 2", "2 of 3"])
def test_get_where_one_medium_cannot_be_read(phobos: Phobos, directory: MakeDirectory, layout: Layout) -> None:
    directories = [directory(str(number)) for number in range(layout.media)]
    phobos.dir_ready(*directories)
    put(phobos, "object", CONTENT, layout=layout)
    first, *others = media_of(phobos, "object")
    (forbidden,) = [one for one in directories if one.medium == first]
    phobos.dir_update(forbidden, get=False)
    with expected_rows(phobos.database.connection):
        assert granted(phobos, layout.needed, first, *others) == others
        assert get(phobos, "object") == CONTENT
    (another,) = [one for one in directories if one.medium == others[0]]
    phobos.dir_update(another, get=False)
    with expected_rows(phobos.database.connection):
        assert refusal(get, phobos, "object") == (errno.EPERM, RequestKind.READ)


def test_get_waits_until_a_medium_is_free(phobos: Phobos, directory: MakeDirectory, make_phobos: MakePhobos) -> None:
    phobos.dir_ready(directory("1"))
    put(phobos, "object", CONTENT)
    (medium,) = media_of(phobos, "object")
    other = make_phobos(phobos.host)
    with other.command() as command:
        reading = getting(phobos, "object")
        assert next(reading) == "granted"
        connection = command.connect()
        connection.send(Request(0, ReadAllocation(1, (medium,))))
        connection.assert_silent()
        with pytest.raises(StopIteration) as end:
            next(reading)
        assert end.value.value == CONTENT
        assert connection.expect(0, ReadGranted).media[0].medium == medium


def test_get_by_a_client_that_ends_at_once(phobos: Phobos, directory: MakeDirectory) -> None:
    """No answer to the release is awaited: the connection ends behind it. The medium is free for others."""
    phobos.dir_ready(directory("1"))
    put(phobos, "object", CONTENT)
    with expected_rows(phobos.database.connection):
        for _ in range(20):
            assert get(phobos, "object") == CONTENT
            assert phobos.said[-1].direction == "request"
    put(phobos, "another", CONTENT)


def test_get_with_an_error_of_the_client(phobos: Phobos, directory: MakeDirectory) -> None:
    """It says so and ends. What it has read, or not, is no matter of the medium's."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", CONTENT)
    _, (extent,) = phobos.database.copy("object", "source")
    (d1.path / extent["address"]).unlink()
    for transfer in (get, delete_hard):
        with expected_rows(phobos.database.connection), pytest.raises(FileNotFoundError):
            transfer(phobos, "object")
        assert [said.direction for said in phobos.said] == ["request", "response", "request"]
    put(phobos, "another", CONTENT)


Prepare = Callable[[Phobos, Directory], None]


def unknown(phobos: Phobos, directory: Directory) -> None:
    """Neither device nor medium."""


def blank(phobos: Phobos, directory: Directory) -> None:
    phobos.dir_add(directory, unlock=True)


def locked(phobos: Phobos, directory: Directory) -> None:
    phobos.dir_ready(directory)
    phobos.dir_update(directory, adm_status="locked")


def failed(phobos: Phobos, directory: Directory) -> None:
    phobos.dir_ready(directory)
    phobos.dir_update(directory, adm_status="failed")


def not_to_be_read(phobos: Phobos, directory: Directory) -> None:
    phobos.dir_ready(directory)
    phobos.dir_update(directory, get=False)


def out_of_service(phobos: Phobos, directory: Directory) -> None:
    phobos.dir_ready(directory)
    phobos.device_lock(directory)


def locked_and_out_of_service(phobos: Phobos, directory: Directory) -> None:
    phobos.dir_ready(directory)
    phobos.dir_lock(directory)
    until(lambda: not phobos.database.locks(), "the daemon lets go of it")


def on_another_host(phobos: Phobos, directory: Directory) -> None:
    phobos.dir_ready(directory)
    phobos.device_lock(directory)
    phobos.database.lock("media", directory.locks["media"], host="store2")


@pytest.mark.parametrize(
    ("prepare", "number"),
    [
        (unknown, errno.ENXIO),
        (blank, errno.EINVAL),
        (locked, errno.EPERM),
        (failed, errno.EPERM),
        (not_to_be_read, errno.EPERM),
        (out_of_service, errno.ENODEV),
        (locked_and_out_of_service, errno.EPERM),
        (on_another_host, errno.EALREADY),
    ],
)
def test_get_of_a_medium_that_cannot_be_had(
    phobos: Phobos, directory: MakeDirectory, prepare: Prepare, number: int
) -> None:
    d1 = directory("1")
    prepare(phobos, d1)
    with expected_rows(phobos.database.connection):
        assert refusal(granted, phobos, 1, d1.medium) == (number, RequestKind.READ)
    phobos.database.write("DELETE FROM lock WHERE hostname = 'store2'")


def test_delete_of_a_medium_that_is_not_to_be_deleted_from(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    phobos.dir_update(d1, delete=False)
    with phobos.command() as command, expected_rows(phobos.database.connection):
        connection = command.connect()
        body = ReadAllocation(1, (d1.medium,), ReadOperation.DELETE)
        assert refusal(connection.ask, 0, body, ReadGranted) == (errno.EPERM, RequestKind.READ)
    assert granted(phobos, 1, d1.medium) == [d1.medium]
