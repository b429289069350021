"""Clients of other users at the real socket; what the kernel would say of them is made up."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from benchmarks.harness import Site
from lrs_trio.machine import ThisMachine
from lrs_trio.model import Family, FsType, NotifyOperation, ReadOperation, RequestKind
from lrs_trio.server.credentials import PeerCredentials
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Monitor,
    Monitored,
    Notify,
    Ping,
    Pong,
    ReadGranted,
    Released,
    Request,
    RequestBody,
    Revoke,
    Revoked,
    Status,
    StatusReport,
)
from tests.daemon.conftest import read, release, serving, taken, write

USER, OPERATORS = 4321, 8765


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> list[PeerCredentials]:
    """Whoever connects is the last of these; oneself, as long as there is none."""
    others: list[PeerCredentials] = []
    real = ThisMachine.credentials

    def credentials(stream: trio.SocketStream) -> PeerCredentials:
        return others[-1] if others else real(stream)

    monkeypatch.setattr(ThisMachine, "credentials", staticmethod(credentials))
    return others


async def test_others_read_and_write_and_do_nothing_else(
    sqlite_site: Site, somebody: list[PeerCredentials], lines: list[Any]
) -> None:
    async with serving(sqlite_site) as running:
        somebody.append(PeerCredentials(77, USER, USER))
        async with running.connect() as client:
            (medium,) = await client.hold()
            refused: dict[RequestKind, RequestBody] = {
                RequestKind.FORMAT: Format(medium, FsType.POSIX),
                RequestKind.NOTIFY: Notify(medium, NotifyOperation.MEDIA_UPDATE),
                RequestKind.WRITE: Revoke((medium.name,)),
            }
            for kind, body in refused.items():
                assert await client.ask(body, Failed) == Failed(-errno.EPERM, kind)
            silent = Notify(medium, NotifyOperation.DEVICE_LOCK, wait=False)
            await client.send(Request(2, silent), Request(3, Monitor(Family.DIR)))
            response = await client.receive()
            assert (response.request_id, type(response.body)) == (3, Monitored)
            await client.ask(Status(), StatusReport)
            await client.ask(release(medium, size=1000), Released)
            running.count(medium)
            await client.ask(read(medium, operation=ReadOperation.DELETE), ReadGranted)
        said = [line for line in lines if line["event"] == "request not permitted"]
        assert [line["request"] for line in said] == ["format", "notify", "revoke", "notify"]
        assert all(line["client"].endswith(f"(pid 77, uid {USER})") for line in said)
        somebody.clear()
        await running.unharmed()


async def test_who_has_all_connections_can_be_seen_and_revoked(
    sqlite_site: Site, somebody: list[PeerCredentials], lines: list[Any]
) -> None:
    async with serving(sqlite_site, "server.max_connections=3") as running, AsyncExitStack() as stack:
        somebody.append(PeerCredentials(77, USER, USER))
        crowd = [await stack.enter_async_context(running.connect()) for _ in range(3)]
        (medium,) = await crowd[0].hold()
        for caller in crowd[1:]:
            await caller.ask(Ping(), Pong)
        async with running.connect() as refused:
            assert await refused.rest() == []
        (line,) = [line for line in lines if "connection refused" in line["event"]]
        assert (line["limit"], line["most"]) == (3, f"uid {USER} has 3")
        somebody.clear()
        answer = await running.ask(Revoke((medium.name,)), Revoked)
        assert '"pid": 77' in answer.revoked
        await running.until(lambda family: not taken(family))
        for caller in crowd:
            await caller.hang_up()
        await running.unharmed()


async def test_members_of_a_group_may_do_what_it_may(sqlite_site: Site, somebody: list[PeerCredentials]) -> None:
    async with serving(sqlite_site, "access.everyone=read", f"access.groups.{OPERATORS}=admin") as running:
        async with running.connect() as holder:
            await holder.hold(copies=2)
            somebody.append(PeerCredentials(77, USER, USER, frozenset({1, OPERATORS})))
            async with running.connect() as operator:
                assert await operator.refused(write()) == errno.EPERM
                answer = await operator.ask(Revoke((str(sqlite_site.directories[0]),)), Revoked)
                assert '"kind": "write"' in answer.revoked
            somebody.append(PeerCredentials(78, USER, OPERATORS))
            async with running.connect() as operator:
                await operator.ask(Revoke(client=1), Revoked)
            somebody.clear()
        await running.unharmed()
