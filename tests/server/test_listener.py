from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from lrs_trio.errors import AlreadyRunningError, LrsError
from lrs_trio.server.credentials import PeerCredentials, peer_credentials
from lrs_trio.server.listener import MAX_PATH_BYTES, open_unix_listener


def stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


async def test_a_client_connects_and_is_known(tmp_path: Path) -> None:
    path = tmp_path / "lrs"
    async with (
        open_unix_listener(path, mode=0o600) as listener,
        await trio.open_unix_socket(path) as client,
        await listener.accept() as served,
    ):
        assert peer_credentials(served) == PeerCredentials(
            os.getpid(), os.getuid(), os.getgid(), frozenset(os.getgroups())
        )
        await client.send_all(b"hello")
        assert await served.receive_some() == b"hello"
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_the_socket_has_the_mode_asked_for_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        async with open_unix_listener(tmp_path / "lrs", mode=mode):
            assert stat.S_IMODE((tmp_path / "lrs").stat().st_mode) == mode
    finally:
        os.umask(before)


async def test_nobody_can_connect_before_the_permissions_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0)
    seen: list[tuple[int, int]] = []
    change_mode = Path.chmod

    def spy(path: Path, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            seen.append((stat.S_IMODE(path.stat().st_mode), probe.connect_ex(str(path))))
        change_mode(path, mode)

    monkeypatch.setattr(Path, "chmod", spy)
    try:
        async with open_unix_listener(tmp_path / "lrs", mode=0o666):
            assert seen == [(0o600, errno.ECONNREFUSED)]
    finally:
        os.umask(before)


async def test_the_group_may_be_a_name_or_a_number(tmp_path: Path) -> None:
    number = os.getgroups()[0] if os.getgroups() else os.getgid()
    async with open_unix_listener(tmp_path / "lrs", mode=0o660, group=str(number)):
        assert (tmp_path / "lrs").stat().st_gid == number


async def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(LrsError, match="'no such group'") as caught:
        async with open_unix_listener(tmp_path / "lrs", mode=0o660, group="no such group"):
            pass
    assert caught.value.errno == errno.EINVAL
    assert not (tmp_path / "lrs").exists()


async def test_a_group_that_we_may_not_give_it_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, owner: int, group: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(LrsError, match="group 4321") as caught:
        async with open_unix_listener(tmp_path / "lrs", mode=0o660, group="4321"):
            pass
    assert caught.value.errno == errno.EPERM
    assert not (tmp_path / "lrs").exists()


async def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lrs"
    stale_socket(path)
    (tmp_path / "lrs.lock").touch()
    async with open_unix_listener(path, mode=0o600):
        stream = await trio.open_unix_socket(path)
        await stream.aclose()


async def test_the_socket_of_a_living_daemon_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lrs"
    async with open_unix_listener(path, mode=0o600):
        with pytest.raises(AlreadyRunningError, match=str(os.getpid())) as caught:
            async with open_unix_listener(path, mode=0o600):
                pass
        assert caught.value.errno == errno.EEXIST
        stream = await trio.open_unix_socket(path)
        await stream.aclose()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_no_socket_is_never_deleted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lrs"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to("nowhere")
    with pytest.raises(LrsError, match=str(path)) as caught:
        async with open_unix_listener(path, mode=0o600):
            pass
    assert caught.value.errno == errno.ENOTSOCK
    assert path.lstat()


async def test_somebody_elses_file_survives_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lrs"
    async with open_unix_listener(path, mode=0o600):
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"


async def test_a_socket_file_that_has_gone_does_not_disturb_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lrs"
    async with open_unix_listener(path, mode=0o600):
        path.unlink()
    async with open_unix_listener(path, mode=0o600):
        assert path.is_socket()


async def test_the_directory_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parent, number in (("missing", errno.ENOENT), ("file", errno.ENOTDIR)):
        with pytest.raises(LrsError, match=f"{tmp_path}/{parent}") as caught:
            async with open_unix_listener(tmp_path / parent / "lrs", mode=0o600):
                pass
        assert caught.value.errno == number


async def test_a_path_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "é" / ("x" * (MAX_PATH_BYTES - len(os.fsencode(tmp_path)) - 4))
    path.parent.mkdir()
    assert len(os.fsencode(path)) == MAX_PATH_BYTES
    async with open_unix_listener(path, mode=0o600):
        assert path.is_socket()
    with pytest.raises(LrsError, match="108 bytes") as caught:
        async with open_unix_listener(path.with_name(path.name + "x"), mode=0o600):
            pass
    assert caught.value.errno == errno.ENAMETOOLONG
