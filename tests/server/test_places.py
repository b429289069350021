"""Who is let in when there are nearly too many: a real socket, and users that are made up."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from lrs_trio.server.access import Access
from lrs_trio.server.credentials import PeerCredentials
from lrs_trio.server.listener import open_unix_listener
from lrs_trio.server.server import KEPT_PLACES, Server
from lrs_trio.settings import AccessSettings, ServerSettings
from lrs_trio.wire.messages import Ping
from tests.fakes.house import LONG, house_of
from tests.fakes.peer import DAEMON_UID, door_of, frame

ROOT, USER, OTHER, OPERATORS = 0, 1234, 4321, 8765
PLACES = 3


class Entrance:
    """Clients that have their descriptors already connect here, one after the other."""

    def __init__(self, path: Path, clients: list[trio.socket.SocketType]) -> None:
        self._path = str(path)
        self._clients = clients
        self._user = PeerCredentials(1, USER, USER)

    def credentials(self, _stream: object) -> PeerCredentials:
        return self._user

    async def enter(self, uid: int, group: int = USER) -> trio.socket.SocketType | None:
        """Connect as somebody; ``None`` if he is not served."""
        self._user = PeerCredentials(1, uid, USER, frozenset({group}))
        client = self._clients.pop()
        await client.connect(self._path)
        with trio.fail_after(LONG):
            try:
                await client.send(frame(1, Ping()))
                return client if await client.recv(100) else None
            except ConnectionError:
                return None


@asynccontextmanager
async def entrance_of(tmp_path: Path, access: AccessSettings) -> AsyncIterator[Entrance]:
    path, settings = tmp_path / "lrs", ServerSettings(max_connections=PLACES)
    async with AsyncExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(12)]
        entrance = Entrance(path, list(map(trio.socket.from_stdlib_socket, clients)))
        house = await stack.enter_async_context(house_of())
        door = await stack.enter_async_context(door_of(house))
        rules = Access(access, DAEMON_UID)
        server = Server(settings, door.dispatcher, house.site.events, entrance.credentials, rules)
        listener = await stack.enter_async_context(open_unix_listener(path, mode=0o600))
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(server.run, listener)
        yield entrance
        nursery.cancel_scope.cancel()


@pytest.fixture
async def entrance(tmp_path: Path) -> AsyncIterator[Entrance]:
    access = AccessSettings(everyone=("read",), groups={str(OPERATORS): ("admin",)})
    async with entrance_of(tmp_path, access) as made:
        yield made


@pytest.fixture
def lines() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.mark.parametrize(
    ("uid", "group"), [(ROOT, USER), (DAEMON_UID, USER), (OTHER, OPERATORS)], ids=["root", "daemon", "operator"]
)
async def test_some_places_are_kept_for_administrators(
    entrance: Entrance, lines: list[structlog.typing.EventDict], uid: int, group: int
) -> None:
    for _ in range(PLACES):
        assert await entrance.enter(USER)
    assert await entrance.enter(OTHER) is None
    for _ in range(KEPT_PLACES):
        assert await entrance.enter(uid, group)
    assert await entrance.enter(uid, group) is None
    assert {(line["event"], line["limit"]) for line in lines} == {("connection refused: there are too many", PLACES)}
    assert [line["client"] for line in lines] == [f"pid 1, uid {OTHER}", f"pid 1, uid {uid}"]


async def test_administrators_take_the_places_of_all_first(entrance: Entrance) -> None:
    for _ in range(PLACES):
        assert await entrance.enter(ROOT)
    assert await entrance.enter(USER) is None
    for _ in range(KEPT_PLACES):
        assert await entrance.enter(ROOT)


async def test_what_everyone_may_makes_nobody_an_administrator(tmp_path: Path) -> None:
    async with entrance_of(tmp_path, AccessSettings(everyone=("admin",))) as entrance:
        for _ in range(PLACES):
            assert await entrance.enter(USER)
        assert await entrance.enter(USER) is None
        assert await entrance.enter(ROOT)


async def test_it_is_told_who_has_most_connections(entrance: Entrance, lines: list[structlog.typing.EventDict]) -> None:
    first = await entrance.enter(OTHER)
    assert first is not None
    for _ in range(PLACES - 1):
        assert await entrance.enter(USER)
    assert await entrance.enter(OTHER) is None
    first.close()
    await trio.testing.wait_all_tasks_blocked()
    assert await entrance.enter(USER)
    assert await entrance.enter(OTHER) is None
    assert [line["most"] for line in lines] == [f"uid {USER} has 2", f"uid {USER} has 3"]


async def test_the_last_descriptors_are_not_for_connections_and_the_first_of_them_for_administrators(
    entrance: Entrance, lines: list[structlog.typing.EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    with monkeypatch.context() as changed:
        changed.setattr("lrs_trio.server.server.room_for_connections", lambda _: lowest - KEPT_PLACES)
        assert await entrance.enter(ROOT) is None
        changed.setattr("lrs_trio.server.server.room_for_connections", lambda _: lowest)
        assert await entrance.enter(USER) is None
        assert await entrance.enter(ROOT)
    assert await entrance.enter(USER)
    assert {line["event"] for line in lines} == {"connection refused: too few file descriptors are left"}
    assert [line["most"] for line in lines] == ["nobody has any"] * 2
