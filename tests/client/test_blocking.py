from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lrs_trio.client import connect
from lrs_trio.client.blocking import Client
from lrs_trio.errors import LrsError
from lrs_trio.model import Family, FsType, NotifyOperation, ReadOperation, RequestKind
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Failed,
    Format,
    Formatted,
    Notified,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    ReleasedMedium,
    RequestBody,
    ResponseBody,
    Statistics,
    StatusReport,
    WriteAllocation,
    WriteMedium,
)
from tests.client.samples import A, B, Script, frame, granted


@contextmanager
def talking_to(script: Script) -> Iterator[Client]:
    """A client of `script`; everything that the client has sent has been heard when the block is left."""
    ours, theirs = socket.socketpair()

    def listen() -> None:
        with theirs:
            while data := theirs.recv(65536):
                theirs.sendall(script.hear(data))

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        with Client(ours) as client:
            yield client
            ours.shutdown(socket.SHUT_WR)
            listener.join()
    finally:
        ours.close()
        listener.join()


def answering(body: ResponseBody) -> Callable[[RequestBody], ResponseBody | None]:
    return lambda request: body


@pytest.mark.note("1")
def test_write_asks_for_copies_and_releases_with_a_sync() -> None:
    script = Script()
    with (
        talking_to(script) as client,
        client.write(100, copies=2, tags=["t"], library="legacy", grouping="g", qos=1, priority=2) as allocation,
    ):
        first, second = allocation.media
        assert (first.medium, first.root, first.avail_size) == (A, "/mnt/media/a", 500)
        first.wrote(60)
        first.wrote(40, extents=2)
        second.wrote(100)
    asked, released = script.requests
    assert asked.body == WriteAllocation(
        (WriteMedium(100, ("t",)), WriteMedium(100, ("t",))), Family.DIR, library="legacy", grouping="g"
    )
    assert (asked.qos, asked.priority) == (1, 2)
    assert released.body == Release(
        (ReleasedMedium(A, 0, 100, 3, True, "g"), ReleasedMedium(B, 0, 100, 1, True, "g")), RequestKind.RELEASE_WRITE
    )


@pytest.mark.note("1")
def test_read_is_released_without_waiting() -> None:
    script = Script()
    with talking_to(script) as client, client.read([A, B], n_required=1) as allocation:
        assert [held.medium for held in allocation.media] == [A]
    assert script.bodies == [
        ReadAllocation(1, (A, B)),
        Release((ReleasedMedium(A),), RequestKind.RELEASE_READ),
    ]


@pytest.mark.note("1")
def test_delete_is_released_with_negative_sizes_and_a_sync() -> None:
    script = Script()
    with talking_to(script) as client, client.delete([A]) as allocation:
        allocation.media[0].deleted(70, 2)
    assert script.bodies == [
        ReadAllocation(1, (A,), ReadOperation.DELETE),
        Release((ReleasedMedium(A, 0, -70, -2, True),), RequestKind.RELEASE_READ),
    ]


@pytest.mark.parametrize(("error", "rc"), [(OSError(errno.ENOSPC, "full"), -errno.ENOSPC), (KeyError("x"), -errno.EIO)])
def test_failed_write_is_given_back_uncounted(error: Exception, rc: int) -> None:
    script = Script()
    with talking_to(script) as client:

        def fail() -> None:
            with client.write(100) as allocation:
                allocation.media[0].wrote(50)
                raise error

        with pytest.raises(type(error)) as caught:
            fail()
        assert caught.value is error
    assert script.releases == [Release((ReleasedMedium(A, rc),), RequestKind.RELEASE_WRITE)]


def test_sync_counts_what_was_written_so_far_once() -> None:
    script = Script()
    with talking_to(script) as client, client.write(100) as allocation:
        allocation.media[0].wrote(30)
        allocation.sync()
        allocation.media[0].wrote(20)
    partial, final = script.releases
    assert partial == Release((ReleasedMedium(A, 0, 30, 1, True),), RequestKind.RELEASE_WRITE, partial=True)
    assert final == Release((ReleasedMedium(A, 0, 20, 1, True),), RequestKind.RELEASE_WRITE)


def test_explicit_release_is_the_only_one() -> None:
    script = Script()
    with talking_to(script) as client, client.write(100) as allocation:
        allocation.release()
        allocation.release()
    assert len(script.releases) == 1


def test_refusal_has_the_errno_and_names_the_resource() -> None:
    script = Script(answering(Failed(-errno.EBUSY, RequestKind.FORMAT)))
    with talking_to(script) as client, pytest.raises(LrsError, match="format of dir:legacy:/media/a") as caught:
        client.format(A, fs_type=FsType.POSIX, unlock=True)
    assert caught.value.errno == errno.EBUSY
    assert script.bodies == [Format(A, FsType.POSIX, unlock=True)]


def test_refused_allocation_does_not_enter_the_block() -> None:
    script = Script(answering(Failed(-errno.ENOSPC, RequestKind.WRITE)))
    with talking_to(script) as client, pytest.raises(OSError, match="write") as caught, client.write(1):
        raise AssertionError("the block ran without media")
    assert caught.value.errno == errno.ENOSPC
    assert script.releases == []


def test_answer_to_another_question_is_an_error() -> None:
    with talking_to(Script(answering(Formatted(A)))) as client, pytest.raises(LrsError) as caught:
        client.status()
    assert caught.value.errno == errno.EPROTO


def test_notify_waits_only_when_asked_to() -> None:
    script = Script(lambda body: Notified(A) if isinstance(body, Notify) and body.wait else None)
    with talking_to(script) as client:
        client.notify(NotifyOperation.DEVICE_ADD, A)
        client.notify(NotifyOperation.DEVICE_LOCK, A, wait=False)
    assert script.bodies == [
        Notify(A, NotifyOperation.DEVICE_ADD, wait=True),
        Notify(A, NotifyOperation.DEVICE_LOCK, wait=False),
    ]


def test_formats_are_told_of_as_they_come() -> None:
    """The daemon that plays here answers what it has heard backwards."""
    ours, theirs = socket.socketpair()
    media = [A._replace(name=f"/media/{number}") for number in range(4)]
    script = Script(lambda body: None)
    with theirs, Client(ours) as client:
        formats = client.format_all(media, force=True, at_once=2)
        told = []
        for heard in (2, 4):
            # What is asked for next goes out when the generator is asked for more.
            answers = threading.Thread(target=_answer_backwards, args=(theirs, script, heard))
            answers.start()
            told += [next(formats), next(formats)]
            answers.join()
            assert len(script.requests) == heard
        assert list(formats) == []
    assert [medium for medium, _ in told] == [media[1], media[0], media[3], media[2]]
    assert [error and error.errno for _, error in told] == [errno.EBUSY, None, errno.EBUSY, None]
    assert script.bodies == [Format(medium, FsType.POSIX, force=True) for medium in media]


def _answer_backwards(connection: socket.socket, script: Script, heard: int) -> None:
    """Once there are `heard` formats, refuse the last, then do the one before it."""
    while len(script.requests) < heard:
        script.hear(connection.recv(65536))
    first, second = script.requests[-2:]
    assert isinstance(first.body, Format)
    connection.sendall(frame(second.id, Failed(-errno.EBUSY, RequestKind.FORMAT)))
    connection.sendall(frame(first.id, Formatted(first.body.medium)))


def test_what_was_given_up_among_many_is_not_mistaken_for_another() -> None:
    script = Script(lambda body: Pong() if isinstance(body, Ping) else Formatted(A))
    with talking_to(script) as client:
        formats = client.format_all([A, B])
        next(formats)
        assert isinstance(formats, Generator)
        formats.close()
        client.ping()


def test_reports_are_parsed() -> None:
    with talking_to(Script(answering(StatusReport('{"version": 1}')))) as client:
        assert client.status() == {"version": 1}
    with talking_to(Script(answering(Statistics('[{"name": "req.count", "value": 2}]')))) as client:
        assert client.stats("req") == [{"name": "req.count", "value": 2}]


def test_configuration_is_read_in_the_order_asked() -> None:
    script = Script(answering(Configured('["1,1,0",""]')))
    with talking_to(script) as client:
        assert client.configure_get([{"section": "s", "key": "k"}, {"section": "s", "key": "l"}]) == ["1,1,0", ""]
    (asked,) = script.bodies
    assert isinstance(asked, Configure)


@pytest.mark.note("0")
def test_requests_have_distinct_ids() -> None:
    script = Script()
    with talking_to(script) as client:
        for _ in range(20):
            client.ping()
    assert len({request.id for request in script.requests}) == 20


def test_late_grant_that_nobody_waits_for_is_released() -> None:
    script = Script()
    # As if an interrupt had ended the wait for request 999.
    late = frame(999, ReadGranted((granted(B),)))
    ours, theirs = socket.socketpair()
    with theirs, Client(ours) as client:
        theirs.sendall(late + frame(1, Pong()))
        client.ping()
        script.hear(theirs.recv(65536))
    assert [element.medium for release in script.releases for element in release.media] == [B]
    assert not any(element.to_sync for release in script.releases for element in release.media)


def test_daemon_that_goes_away_is_a_connection_error() -> None:
    ours, theirs = socket.socketpair()
    with Client(ours) as client:
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError) as caught:
            client.ping()
        theirs.close()
    assert caught.value.errno == errno.ECONNRESET


@pytest.mark.parametrize("name", ["absent", "stale"])
def test_nobody_listens(tmp_path: Path, name: str) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    with pytest.raises(OSError, match=name) as caught:
        connect(tmp_path / name)
    assert caught.value.errno == {"absent": errno.ENOENT, "stale": errno.ECONNREFUSED}[name]


def test_blocking_client_imports_neither_trio_nor_pydantic() -> None:
    code = "import sys, lrs_trio.client; print(*sorted({'trio', 'pydantic', 'asyncio', 'apsw'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_grants_of_one_connection_are_held_side_by_side() -> None:
    script = Script()
    with talking_to(script) as client, client.read([A]) as reading, client.write(10) as writing:
        assert reading.media[0].root == granted(A).root
        writing.media[0].wrote(10)
    assert [release.kind for release in script.releases] == [RequestKind.RELEASE_WRITE, RequestKind.RELEASE_READ]
