"""The ordered end of a whole daemon (note 11), as its clients see it."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest

from benchmarks.books import expected_locks, read_books
from benchmarks.harness import Site, format_media
from benchmarks.harness import running as lrsd_on
from lrs_trio.client import connect
from lrs_trio.daemon import EXIT_FORCED
from lrs_trio.model import FsType, NotifyOperation, RequestKind
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    Notify,
    Ping,
    Pong,
    Released,
    Request,
    Response,
    Stat,
    Statistics,
    Status,
    StatusReport,
)
from tests.daemon.conftest import (
    LOOK_AGAIN_S,
    NEVER_DUE,
    PATIENCE_S,
    device_of,
    logged,
    media_of,
    read,
    release,
    serving,
    write,
)
from tests.storage.faults import FaultyFilesystem

pytestmark = pytest.mark.note("11")

ONE_AT_A_TIME = "families.dir.max_concurrent_io=1"


def shut_down(id: int, kind: RequestKind) -> Response:
    return Response(id, Failed(-errno.ESHUTDOWN, kind))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_idle_daemon_ends_at_once(site: Site, number: signal.Signals) -> None:
    async with serving(site) as running:
        await running.unharmed()
        running.interrupt(number)
        assert await running.wait_ended() == 0


@pytest.mark.parametrize("sync_while_io", ["true", "false"])
async def test_the_release_of_ongoing_io_is_awaited_synced_and_answered(site: Site, sync_while_io: str) -> None:
    async with serving(site, *NEVER_DUE, f"families.dir.sync_while_io={sync_while_io}") as running:
        async with running.connect() as writer:
            media = await writer.hold(copies=2)
            await running.drain()
            await writer.ask(Ping(), Pong)
            assert not running.ended.is_set()
            assert (await writer.ask(release(*media), Released, id=5)).media == media
            running.count(*media)
        assert await running.wait_ended() == 0


async def test_a_release_that_waits_for_its_age_is_synced_by_the_drain(site: Site) -> None:
    async with serving(site, *NEVER_DUE) as running:
        async with running.connect() as writer:
            (medium,) = await writer.hold()
            await writer.send(Request(8, release(medium)))
            await running.until(lambda family: sum(d["to_sync"]["requests"] for d in family["devices"]) == 1)
            running.interrupt()
            assert await writer.receive() == Response(8, Released((medium,), RequestKind.RELEASE_WRITE))
            running.count(medium)
        assert await running.wait_ended() == 0


async def test_a_release_waits_for_the_io_beside_it_where_a_sync_excludes_io(site: Site) -> None:
    excludes = ("families.dir.sync_while_io=false", *NEVER_DUE)
    async with serving(site, *excludes) as running, running.connect() as first, running.connect() as second:
        media = await first.hold(copies=2)
        assert set(await second.hold(copies=2)) == set(media)
        await first.send(Request(1, release(*media)))
        await running.drain()
        await running.until(lambda family: sum(d["ongoing"] for d in family["devices"]) == 2)
        await second.ask(release(*media, to_sync=True), Released)
        assert await first.receive() == Response(1, Released(media, RequestKind.RELEASE_WRITE))
        running.count(*media, *media)
        assert await running.wait_ended() == 0


async def test_every_allocation_without_an_answer_is_refused_with_its_own_id(site: Site) -> None:
    async with serving(site, ONE_AT_A_TIME) as running:
        async with running.connect() as holder, running.connect() as queued, running.connect() as other:
            media = await holder.hold(copies=2)
            await queued.send(Request(7, write()), Request(7, write(copies=2)), Request(0, read(*media)))
            await other.send(Request(4_294_967_295, write()))
            await running.until(lambda family: family["queued"]["write"] == 3 and family["queued"]["read"] == 1)
            running.interrupt()
            answers = await queued.receive_many(3)
            assert sorted(answers, key=lambda answer: answer.request_id) == [
                shut_down(0, RequestKind.READ),
                shut_down(7, RequestKind.WRITE),
                shut_down(7, RequestKind.WRITE),
            ]
            assert await other.receive() == shut_down(4_294_967_295, RequestKind.WRITE)
            await holder.ask(release(*media), Released)
            running.count(*media)
        assert await running.wait_ended() == 0


async def test_a_format_under_way_ends_and_a_notify_is_refused(
    site_of_three: Site, filesystems: dict[str, FaultyFilesystem]
) -> None:
    site = site_of_three
    first, second, third = site.media
    async with serving(site, ONE_AT_A_TIME, format=False) as running:
        async with running.connect() as admin, running.connect() as writer, running.connect() as waiting:
            await admin.ask(Format(first, FsType.POSIX, unlock=True), Formatted)
            (held,) = await writer.hold()
            let_go = filesystems[second.name].hold("format")
            await waiting.send(
                Request(11, Format(second, FsType.POSIX, unlock=True)),
                Request(12, Notify(device_of(site, held), NotifyOperation.DEVICE_LOCK, wait=True)),
                Request(13, Notify(device_of(site, held), NotifyOperation.DEVICE_LOCK, wait=False)),
            )
            await running.until(
                lambda family: (
                    "format" in filesystems[second.name].calls
                    and sum(request["kind"] == "notify" for request in family["waiting"]) == 2
                )
            )
            running.interrupt()
            assert await waiting.receive() == shut_down(12, RequestKind.NOTIFY)
            await admin.ask(Ping(), Pong)
            let_go.set()
            assert await waiting.receive() == Response(11, Formatted(second))
            await writer.ask(release(held), Released)
            running.count(held)
            # The last one is answered by nothing at all.
            assert await waiting.rest() == []
        assert await running.wait_ended() == 0
    assert third.name in filesystems


async def test_newcomers_get_what_needs_no_device(site: Site) -> None:
    async with serving(site) as running:
        async with running.connect() as holder:
            (medium,) = await holder.hold()
            await running.drain()
            async with running.connect() as newcomer:
                await newcomer.ask(Ping(), Pong)
                await newcomer.ask(Status(), StatusReport)
                await newcomer.ask(Stat(), Statistics)
                assert (await running.status())["daemon"]["draining"] is True
                lock = Notify(device_of(site, medium), NotifyOperation.DEVICE_LOCK, wait=True)
                for body in (write(), read(medium), Format(medium, FsType.POSIX), lock):
                    assert await newcomer.refused(body, id=21) == errno.ESHUTDOWN
                assert await newcomer.refused(release(medium)) == errno.EINVAL
            await holder.ask(release(medium), Released)
            running.count(medium)
        assert await running.wait_ended() == 0


async def test_a_client_that_dies_does_not_hold_up_the_end(site: Site) -> None:
    async with serving(site, *NEVER_DUE) as running, running.connect() as holder:
        media = await holder.hold(copies=2)
        await running.drain()
        await running.until(lambda family: sum(device["ongoing"] for device in family["devices"]) == 2)
        await holder.hang_up()
        assert await running.wait_ended() == 0
        assert await running.found() == dict.fromkeys(media, (0, 0))


@pytest.mark.parametrize("sync_while_io", ["true", "false"])
async def test_partial_releases_are_served_during_the_drain(site: Site, sync_while_io: str) -> None:
    async with serving(site, *NEVER_DUE, f"families.dir.sync_while_io={sync_while_io}") as running:
        async with running.connect() as writer:
            media = await writer.hold(copies=2)
            await running.drain()
            for number in range(3):
                answer = await writer.ask(release(*media, partial=True), Released, id=number)
                assert answer == Released(media, RequestKind.RELEASE_WRITE, partial=True)
                running.count(*media)
            assert not running.ended.is_set()
            await writer.ask(release(*media), Released)
            running.count(*media)
        assert await running.wait_ended() == 0


async def test_the_second_signal_answers_whoever_waits_and_counts_nothing(
    site: Site, filesystems: dict[str, FaultyFilesystem]
) -> None:
    async with serving(site, expect=EXIT_FORCED) as running:
        async with running.connect() as writer, running.connect() as silent:
            (synced,) = await writer.hold()
            await silent.hold()
            for filesystem in filesystems.values():
                filesystem.hold("sync")
            await writer.send(Request(41, release(synced)))
            await running.drain()
            await running.until(lambda family: any(device["syncing"] for device in family["devices"]))
            running.interrupt(signal.SIGINT)
            assert await writer.receive() == shut_down(41, RequestKind.RELEASE_WRITE)
            assert await writer.rest() == []
            # Granted and never released: the client is not owed an answer.
            assert await silent.rest() == []
        assert await running.wait_ended() == EXIT_FORCED
        assert await running.found() == dict.fromkeys(site.media, (0, 0))
    assert not site.socket.exists()
    filesystems.clear()
    async with serving(site, format=False) as again:
        await again.unharmed()


async def test_a_drain_ends_by_force_at_its_deadline(site: Site) -> None:
    async with serving(site, "drain.deadline_s=0.2", expect=EXIT_FORCED) as running, running.connect() as holder:
        await holder.hold()
        running.interrupt()
        assert await holder.rest() == []
        assert await running.wait_ended() == EXIT_FORCED


async def test_the_log_says_what_the_drain_waits_for(site: Site, lines: list[dict[str, object]]) -> None:
    async with serving(site, "drain.report_s=0.02") as running, running.connect() as holder:
        (medium,) = await holder.hold()
        running.interrupt()
        line = await logged(lines, lambda line: line["event"] == "the drain waits" and medium.name in str(line))
        assert f"pid {os.getpid()}" in str(line["device"])
        assert "write by client" in str(line["device"])
        await holder.ask(release(medium), Released)
        running.count(medium)
        assert await running.wait_ended() == 0
    waited_for = [str(line["device"]).partition(":")[0] for line in lines if line["event"] == "the drain waits"]
    # The other devices may take longer to end than the first report does to come.
    assert waited_for[-1] == medium.name


async def test_a_client_that_never_reads_holds_up_the_end_for_the_flush_time_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrs_trio.server.server.FLUSH_SECONDS", 0.1)
    async with serving(site, f"server.slow_client_s={10 * PATIENCE_S}") as running, running.connect() as deaf:
        await deaf.send(*[Request(number, Status()) for number in range(1000)])
        await running.until(lambda _: running.unsent > 100)
        running.interrupt()
        assert await running.wait_ended() == 0


async def test_answers_that_are_on_their_way_at_the_end_are_flushed(site: Site) -> None:
    async with serving(site) as running, running.connect() as writer:
        media = await writer.hold(copies=2)
        await writer.send(Request(900, release(*media)), *[Request(number, Ping()) for number in range(50)])
        running.interrupt()
        running.count(*media)
        assert await running.wait_ended() == 0
        assert sorted(answer.request_id for answer in await writer.rest()) == [*range(50), 900]


def test_a_forced_end_of_the_program_is_recovered_by_the_next(site: Site) -> None:
    with lrsd_on(site) as daemon:
        format_media(site)
        with connect(site.socket) as client:
            (medium,) = media_of(client.request(write()))
            daemon.terminate()
            while not client.status()["daemon"]["draining"]:
                time.sleep(LOOK_AGAIN_S)
            daemon.terminate()
            assert daemon.wait() == EXIT_FORCED
    books = read_books(site)
    assert books.totals == dict.fromkeys(site.media, (0, 0))
    assert books.not_unlocked == ()
    with lrsd_on(site) as daemon:
        assert read_books(site).locks == expected_locks(site, daemon.pid)
        with connect(site.socket) as client, client.write(10, copies=2) as allocation:
            assert medium in [held.medium for held in allocation.media]
        daemon.terminate()
        assert daemon.wait() == 0
    assert read_books(site).locks == frozenset()
