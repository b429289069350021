from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from lrs_trio.client.asynchronous import Client, open_client_on
from lrs_trio.errors import LrsError
from lrs_trio.model import RequestKind
from lrs_trio.wire.messages import Failed, Ping, Release, ReleasedMedium, WriteAllocation
from tests.client.samples import A, B, Script, frame, usual_answer


@asynccontextmanager
async def talking_to(script: Script) -> AsyncIterator[Client]:
    """A client of `script`; everything that the client has sent has been heard when the block is left."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def listen() -> None:
        while data := await theirs.receive_some():
            if said := script.hear(bytes(data)):
                await theirs.send_all(said)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        async with open_client_on(ours) as client:
            yield client


@pytest.mark.note("1")
async def test_write_releases_with_a_sync() -> None:
    script = Script()
    async with talking_to(script) as client, client.write(100, copies=2, grouping="g") as allocation:
        first, second = allocation.media
        first.wrote(100)
        second.wrote(90, extents=2)
        await allocation.sync()
        second.wrote(10)
    asked, partial, final = script.bodies
    assert isinstance(asked, WriteAllocation)
    assert partial == Release(
        (ReleasedMedium(A, 0, 100, 1, True, "g"), ReleasedMedium(B, 0, 90, 2, True, "g")),
        RequestKind.RELEASE_WRITE,
        partial=True,
    )
    assert final == Release(
        (ReleasedMedium(A, 0, 0, 0, True, "g"), ReleasedMedium(B, 0, 10, 1, True, "g")), RequestKind.RELEASE_WRITE
    )


@pytest.mark.note("1")
async def test_read_and_delete_are_released() -> None:
    script = Script()
    async with talking_to(script) as client:
        async with client.read([A]):
            pass
        async with client.delete([B]) as allocation:
            allocation.media[0].deleted(5)
    assert script.releases == [
        Release((ReleasedMedium(A),), RequestKind.RELEASE_READ),
        Release((ReleasedMedium(B, 0, -5, -1, True),), RequestKind.RELEASE_READ),
    ]


async def test_failed_write_is_given_back_uncounted() -> None:
    script = Script()
    async with talking_to(script) as client:

        async def fail() -> None:
            async with client.write(100) as allocation:
                allocation.media[0].wrote(50)
                raise OSError(errno.EDQUOT, "disk")

        with pytest.raises(OSError, match="disk") as caught:
            await fail()
        assert caught.value.errno == errno.EDQUOT
    assert script.releases == [Release((ReleasedMedium(A, -errno.EDQUOT),), RequestKind.RELEASE_WRITE)]


async def test_explicit_release_is_the_only_one() -> None:
    script = Script()
    async with talking_to(script) as client, client.write(1) as allocation:
        await allocation.release()
        await allocation.release()
    assert len(script.releases) == 1


@pytest.mark.note("0")
async def test_answers_in_any_order_reach_the_task_that_asked() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    script = Script(lambda body: None)
    errors: dict[int, int | None] = {}

    async def ask(size: int) -> None:
        with pytest.raises(LrsError) as caught:
            await client.request(WriteAllocation((), A.family, grouping=str(size)))
        errors[size] = caught.value.errno

    async with open_client_on(ours) as client, trio.open_nursery() as nursery:
        for size in range(1, 6):
            nursery.start_soon(ask, size)
        while len(script.requests) < 5:
            script.hear(bytes(await theirs.receive_some()))
        assert len({request.id for request in script.requests}) == 5
        for request in reversed(script.requests):
            assert isinstance(request.body, WriteAllocation)
            await theirs.send_all(frame(request.id, Failed(-int(request.body.grouping or 0), RequestKind.WRITE)))
    assert errors == {size: size for size in range(1, 6)}


async def test_grant_for_a_cancelled_task_is_released_and_others_go_on() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    script = Script(lambda body: None)
    async with open_client_on(ours) as client, trio.open_nursery() as nursery:
        waiting = trio.CancelScope()

        async def wait_in_vain() -> None:
            with waiting:
                async with client.write(1):
                    raise AssertionError("granted to a task that was cancelled")

        nursery.start_soon(wait_in_vain)
        script.hear(bytes(await theirs.receive_some()))
        waiting.cancel()
        await trio.testing.wait_all_tasks_blocked()

        (asked,) = script.requests
        grant = usual_answer(asked.body)
        assert grant is not None
        await theirs.send_all(frame(asked.id, grant))
        script.answer = usual_answer
        nursery.start_soon(client.ping)
        while not any(isinstance(body, Ping) for body in script.bodies) or not script.releases:
            if said := script.hear(bytes(await theirs.receive_some())):
                await theirs.send_all(said)
    (release,) = script.releases
    assert [(element.medium, element.to_sync) for element in release.media] == [(A, False)]


async def test_cancelled_inside_the_block_gives_back_uncounted() -> None:
    script = Script()
    async with talking_to(script) as client:
        with trio.CancelScope() as scope:
            async with client.write(1) as allocation:
                allocation.media[0].wrote(1)
                scope.cancel()
                await trio.sleep_forever()
        await client.ping()
    assert script.releases == [Release((ReleasedMedium(A, -errno.EIO),), RequestKind.RELEASE_WRITE)]


async def test_all_who_wait_learn_that_the_daemon_has_gone() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    lost: list[int | None] = []

    async def ask() -> None:
        with pytest.raises(ConnectionError) as caught:
            await client.ping()
        lost.append(caught.value.errno)

    async with open_client_on(ours) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await theirs.aclose()
        await ask()
    assert lost == [errno.ECONNRESET] * 3
