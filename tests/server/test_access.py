"""Who may ask for what, and what becomes of those who ask for more."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import sys

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from lrs_trio.errors import LrsError
from lrs_trio.model import (
    ConfigureOperation,
    Family,
    FsType,
    NotifyOperation,
    ReadOperation,
    RequestKind,
    Right,
)
from lrs_trio.server.access import ALL_RIGHTS, Access, needed_right
from lrs_trio.server.credentials import PeerCredentials, peer_credentials
from lrs_trio.settings import AccessSettings
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Failed,
    Format,
    Monitor,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    RequestBody,
    Revoke,
    Stat,
    Status,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import back, house_of
from tests.fakes.peer import DAEMON_UID, Peer, door_of
from tests.fakes.site import device_id, medium_id

A = "/srv/a"
USER = 1234

WRITE = WriteAllocation((WriteMedium(1),), Family.DIR)
READ = ReadAllocation(1, (medium_id(A),))
DELETE = ReadAllocation(1, (medium_id(A),), ReadOperation.DELETE)
FORMAT = Format(medium_id(A), FsType.POSIX)
NOTIFY = Notify(medium_id(A), NotifyOperation.MEDIA_UPDATE)
SET = Configure(ConfigureOperation.SET, "[]")
GET = Configure(ConfigureOperation.GET, "[]")
REVOKE = Revoke((A,))
RELEASE = Release((back(A),), RequestKind.RELEASE_WRITE)
UNCHANGED = Release((back(A, to_sync=False),), RequestKind.RELEASE_READ)

NEEDED: dict[RequestBody, Right | None] = {
    WRITE: Right.WRITE,
    READ: Right.READ,
    DELETE: Right.WRITE,
    FORMAT: Right.FORMAT,
    NOTIFY: Right.ADMIN,
    SET: Right.ADMIN,
    REVOKE: Right.ADMIN,
    GET: None,
    RELEASE: Right.WRITE,
    UNCHANGED: None,
    Ping(): None,
    Monitor(Family.DIR): None,
    Stat(): None,
    Status(): None,
}


@pytest.mark.parametrize(("body", "right"), NEEDED.items(), ids=lambda value: type(value).__name__)
def test_what_a_request_needs(body: RequestBody, right: Right | None) -> None:
    assert needed_right(body) is right


def test_every_kind_of_request_is_thought_of() -> None:
    assert {type(body) for body in NEEDED} == set(RequestBody.__args__)


# The rights of a connection.


def peer(uid: int = USER, gid: int = USER, groups: frozenset[int] = frozenset()) -> PeerCredentials:
    return PeerCredentials(1, uid, gid, groups)


@pytest.mark.parametrize("uid", [0, DAEMON_UID])
def test_root_and_the_user_of_the_daemon_may_do_everything(uid: int) -> None:
    assert Access(AccessSettings(everyone=()), DAEMON_UID).rights(peer(uid)) == ALL_RIGHTS


def test_everybody_else_may_read_and_write() -> None:
    assert Access(AccessSettings(), DAEMON_UID).rights(peer()) == {Right.READ, Right.WRITE}


def test_users_and_groups_are_found_by_their_names() -> None:
    user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name
    access = Access(AccessSettings(everyone=(), users={user: ("format",)}, groups={group: ("admin",)}), DAEMON_UID)
    assert access.rights(peer(gid=0)) == {Right.ADMIN}
    assert access.rights(peer(uid=0)) == ALL_RIGHTS


def test_who_is_named_by_name_and_number_has_both() -> None:
    name = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid != 0)
    uid = pwd.getpwnam(name).pw_uid
    access = Access(AccessSettings(everyone=(), users={name: ("format",), str(uid): ("read",)}), DAEMON_UID)
    assert access.rights(peer(uid)) == {Right.FORMAT, Right.READ}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (AccessSettings(users={"nobody-of-that-name": ()}), "access.users.nobody-of-that-name: there is no such user"),
        (AccessSettings(groups={"none-of-that-name": ()}), "access.groups.none-of-that-name: there is no such group"),
        (AccessSettings(users={"-1": ()}), "access.users.-1: there is no such user"),
        (AccessSettings(users={"": ()}), "there is no such user"),
    ],
)
def test_a_name_that_the_host_does_not_know_is_an_error(settings: AccessSettings, says: str) -> None:
    with pytest.raises(LrsError, match=says) as caught:
        Access(settings, DAEMON_UID)
    assert caught.value.errno == errno.EINVAL


rights = st.sets(st.sampled_from([str(right) for right in Right])).map(tuple)
numbers = st.integers(1, 5)
tables = st.dictionaries(numbers.map(str), rights)


@given(rights, tables, tables, numbers, numbers, st.frozensets(numbers))
def test_rights_add_up(
    everyone: tuple[str, ...],
    users: dict[str, tuple[str, ...]],
    groups: dict[str, tuple[str, ...]],
    uid: int,
    gid: int,
    others: frozenset[int],
) -> None:
    settings = AccessSettings.model_validate({"everyone": everyone, "users": users, "groups": groups})
    expected = {*everyone, *users.get(str(uid), ())}
    for group in {gid, *others}:
        expected |= set(groups.get(str(group), ()))
    assert Access(settings, DAEMON_UID).rights(peer(uid, gid, others)) == expected


# What the kernel says of a client.

CLIENT = """
import os, socket
os.setgroups(range(1000, 1000 + {count}))
os.setgid(77)
os.setuid(78)
socket.socket(socket.AF_UNIX).connect({name!r})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("count", [0, 3, 256, 257, 5000])
async def test_the_groups_of_a_client_are_known_however_many_there_are(count: int) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")  # a name without a file: whoever knows it may connect
        listening.listen()
        name = listening.getsockname().decode()
        await trio.run_process([sys.executable, "-c", CLIENT.format(count=count, name=name)])
        accepted, _ = listening.accept()
        async with trio.SocketStream(trio.socket.from_stdlib_socket(accepted)) as stream:
            found = peer_credentials(stream)
    assert (found.uid, found.gid) == (78, 77)
    assert found.groups == set(range(1000, 1000 + count))


async def test_where_the_kernel_tells_no_groups_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrs_trio.server.credentials.SO_PEERGROUPS", 9999)
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX)
    async with trio.SocketStream(ours) as stream, trio.SocketStream(theirs):
        assert peer_credentials(stream) == PeerCredentials(os.getpid(), os.getuid(), os.getgid())


# Refusals.


async def ask(peer: Peer, body: RequestBody) -> object:
    await peer.send((5, body))
    return (await peer.receive()).body


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (FORMAT, RequestKind.FORMAT),
        (NOTIFY, RequestKind.NOTIFY),
        (SET, RequestKind.CONFIGURE),
        (REVOKE, RequestKind.WRITE),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_not_permitted_is_refused_and_logged(
    autojump_clock: MockClock, body: RequestBody, kind: RequestKind
) -> None:
    async with house_of(A) as house, door_of(house) as door:
        with structlog.testing.capture_logs() as lines:
            assert await ask(door.connect(uid=USER), body) == Failed(-errno.EPERM, kind)
    (line,) = lines
    assert line["client"] == f"client 1 (pid 1001, uid {USER})"
    assert line["request"] == type(body).__name__.lower()
    assert f"needs the right {needed_right(body)};" in line["error"]


async def test_what_everybody_may_do_is_done(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        client = door.connect(uid=USER)
        assert isinstance(await ask(client, WRITE), WriteGranted)
        assert isinstance(await ask(client, READ), ReadGranted)
        assert isinstance(await ask(client, DELETE), ReadGranted)
        assert await ask(client, GET) == Configured("[]")
        assert await ask(client, Ping()) == Pong()


@pytest.mark.parametrize(
    ("everyone", "allowed", "refused"),
    [
        (("read",), READ, {WRITE: RequestKind.WRITE, DELETE: RequestKind.READ}),
        (("write",), DELETE, {READ: RequestKind.READ}),
        (("admin",), SET, {FORMAT: RequestKind.FORMAT, WRITE: RequestKind.WRITE}),
    ],
)
async def test_the_settings_decide(
    autojump_clock: MockClock, everyone: tuple[str, ...], allowed: RequestBody, refused: dict[RequestBody, RequestKind]
) -> None:
    settings = AccessSettings.model_validate({"everyone": everyone})
    async with house_of(A) as house, door_of(house, access=settings) as door:
        client = door.connect(uid=USER)
        assert not isinstance(await ask(client, allowed), Failed)
        for body, kind in refused.items():
            assert await ask(client, body) == Failed(-errno.EPERM, kind)


async def test_a_refused_notify_that_nobody_waits_for_is_not_answered(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        client = door.connect(uid=USER)
        await client.send((1, Notify(device_id(A), NotifyOperation.DEVICE_LOCK, wait=False)), (2, Ping()))
        assert (await client.receive()).request_id == 2


async def test_a_refused_request_does_not_count_against_the_limit(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house, limit=1) as door:
        client = door.connect(uid=USER)
        await client.send(*((number, FORMAT) for number in range(3)), (3, WRITE))
        answers = [await client.receive() for _ in range(4)]
    assert [answer.body for answer in answers[:3]] == [Failed(-errno.EPERM, RequestKind.FORMAT)] * 3
    assert isinstance(answers[3].body, WriteGranted)
