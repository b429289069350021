"""The daemon is told to end while clients wait, write and ask."""

from __future__ import annotations

import errno

from lrs_trio.model import Family, FsType, NotifyOperation, RequestKind
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Monitor,
    Monitored,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    Request,
    Response,
    WriteAllocation,
    WriteMedium,
)
from tests.interop.conftest import MakeHost, MakePhobos, until
from tests.interop.host import LIBRARY
from tests.interop.tables import expected_rows
from tests.interop.transfers import Target, putting

CONTENT = b"c" * 1000
WRITE = WriteAllocation((WriteMedium(4096),), Family.DIR, library=LIBRARY)


def refused(id_: int, kind: RequestKind) -> Response:
    return Response(id_, Failed(-errno.ESHUTDOWN, kind))


def test_requests_at_the_end_of_the_daemon(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    """Who waits is refused with the id of the request; who writes ends in peace; nothing stays locked."""
    host = make_host("store1")
    host.start()
    writer, second_writer, other = make_phobos(host), make_phobos(host), make_phobos(host)
    d1, d2 = host.directory("1"), host.directory("2")
    other.dir_ready(d1, d2)
    with expected_rows(other.database.connection) as rows, other.command() as command:
        writing = [
            putting(client, [Target(f"object{number}", CONTENT)])
            for number, client in enumerate((writer, second_writer))
        ]
        assert [next(steps) for steps in writing] == ["granted", "granted"]
        connection = command.connect()
        connection.send(
            Request(21, WRITE),
            Request(0, ReadAllocation(1, (d1.medium,)), qos=0, priority=-1),
            Request(0, WRITE),
            Request(22, Notify(d2.device, NotifyOperation.DEVICE_LOCK, wait=True)),
        )
        connection.assert_silent()
        host.daemon.terminate()
        found = [connection.receive() for _ in range(4)]
        assert sorted(found, key=lambda response: (response.request_id, response.body.kind)) == [  # type: ignore[union-attr]
            refused(0, RequestKind.WRITE),
            refused(0, RequestKind.READ),
            refused(21, RequestKind.WRITE),
            refused(22, RequestKind.NOTIFY),
        ]
        connection.send(
            Request(31, WRITE),
            Request(32, ReadAllocation(1, (d1.medium,))),
            Request(33, Format(d1.medium, FsType.POSIX)),
            Request(34, Notify(d1.medium, NotifyOperation.MEDIA_UPDATE, wait=True)),
        )
        assert [connection.receive() for _ in range(4)] == [
            refused(31, RequestKind.WRITE),
            refused(32, RequestKind.READ),
            refused(33, RequestKind.FORMAT),
            refused(34, RequestKind.NOTIFY),
        ]
        assert connection.ask(35, Ping(False), Pong) == Pong(False)
        connection.ask(36, Monitor(Family.DIR), Monitored)
        # Others than those that were there may still come, to ask.
        make_phobos(host).ping()
        assert [list(steps) for steps in writing] == [["released"], ["released"]]
        host.wait_drained()
        for directory in (d1, d2):
            rows.count(directory, 1, len(CONTENT))
            rows.release(directory)


def test_a_client_that_dies_does_not_hold_up_the_end(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    host = make_host("store1")
    host.start()
    phobos = make_phobos(host)
    d1 = host.directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        writing = putting(phobos, [Target("object", CONTENT)])
        assert next(writing) == "granted"
        host.daemon.terminate()
        until(lambda: "draining" in host.daemon.said(), "the drain has begun")
        writing.close()
        host.wait_drained()
        rows.count(d1, 0, 0)
        rows.release(d1)
