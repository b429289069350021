from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite
from lrs_trio.cli.revoke import revoke
from lrs_trio.cli.site import Site
from lrs_trio.client import connect
from lrs_trio.client.common import held_by, write_body
from lrs_trio.errors import LrsError
from lrs_trio.wire.messages import Revoke
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S, Lrs, add_directories, command_line
from tests.processes import child

SOMEBODY = """
import os, sys
from lrs_trio.client import connect
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with connect(sys.argv[1]) as client:
    assert client.status()["version"] == 1
    with client.write(1):
        pass
    client.revoke(pid=1)
"""


def grants(site: DemoSite) -> list[dict[str, Any]]:
    with connect(site.socket) as client:
        return [grant for device in client.status()["families"][0]["devices"] for grant in device["grants"]]


def books(lrs: Lrs) -> list[tuple[int, str]]:
    rows = json.loads(lrs("dir", "list", "--json").stdout)
    return [(row["medium"]["stats"]["nb_obj"], row["medium"]["fs_status"]) for row in rows]


@contextmanager
def holder(site: DemoSite) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds both directories, and has written to them, until its standard input ends."""
    script = "echo x > {root1}/f; echo x > {root2}/f; echo ready; cat"
    command = command_line(site, "exec", "--write", "1", "--copies", "2", "--", "sh", "-c", script)
    pipe = subprocess.PIPE
    with child(command, stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


def test_a_client_that_holds_for_ever_is_visible_and_loses_what_it_holds(
    directories: tuple[Path, ...], site: DemoSite, lrs: Lrs
) -> None:
    with holder(site) as process:
        for line in lrs("status").stdout.splitlines()[-2:]:
            medium, kind, state, _, pid, uid, *_ = line.split()
            assert Path(medium) in directories
            assert (kind, state, pid, uid) == ("write", "ongoing", str(process.pid), str(os.getuid()))
        done = lrs("revoke", directories[0])
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{directories[0]}: revoked; client ")
        assert f", pid {process.pid}, uid {os.getuid()} had it for a write since " in done.stdout
        assert [grant["medium"] for grant in grants(site)] == [str(directories[1])]
        done = lrs("revoke", "--pid", str(process.pid), "--json")
        (told,) = json.loads(done.stdout)
        assert (told["medium"], told["pid"], told["kind"]) == (str(directories[1]), process.pid, "write")
        assert grants(site) == []
        # Nothing else has synced them: an empty medium on which something may have been written counts as used then.
        deadline = time.monotonic() + TIMEOUT_S
        while books(lrs) != [(0, "used"), (0, "used")]:
            assert time.monotonic() < deadline
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 125
        assert b"[EINVAL]" in errors
    assert books(lrs) == [(0, "used"), (0, "used")]
    assert "was revoked by an administrator" in site.log.read_text()


def test_a_client_is_named_by_its_number(directories: tuple[Path, ...], site: DemoSite, lrs: Lrs) -> None:
    with connect(site.socket) as first, connect(site.socket) as second:
        held = {client: held_by(client.request(write_body(1))) for client in (first, second)}
        one, other = sorted(grant["client"] for grant in grants(site))
        assert lrs("revoke", "--client", str(other)).returncode == 0
        assert [grant["client"] for grant in grants(site)] == [one]
        assert [grant["client"] for grant in second.revoke(client=one)] == [one]
        for client in (first, second):
            with pytest.raises(LrsError, match="Invalid argument") as caught:
                client.request(held[client].finish())
            assert caught.value.errno == errno.EINVAL
            client.ping()


def test_all_are_taken_however_many_they_are(site: DemoSite, lrs: Lrs) -> None:
    site.configure({"families": {"dir": {"max_concurrent_io": 600}}})
    running = DemoDaemon(site)
    try:
        add_directories(site)
        with connect(site.socket) as client:
            bodies = [write_body(1) for _ in range(1100)]
            answers = [answer for _, answer in client.request_all(bodies, at_once=100)]
            assert not any(isinstance(answer, LrsError) for answer in answers)
            done = lrs("revoke", "--pid", str(os.getpid()))
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.count(": revoked; client ") == 1100
            assert grants(site) == []
    finally:
        running.end()
    assert site.log.read_text().count(" grant revoked ") == 1100


class Daemon:
    """Answers revocations with what a test says; a connection to it."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[Revoke] = []

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def revocation(self, body: Revoke) -> dict[str, Any]:
        self.asked.append(body)
        return {"version": 1} | self.answers.pop(0)

    def invoke(self, monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
        monkeypatch.setattr(Site, "connect", lambda site: self)
        return CliRunner().invoke(revoke, args, obj=Site(None, None, {}))


GRANT = {"medium": "m", "kind": "write", "state": "ongoing", "client": 7, "pid": 9, "uid": 1, "held_s": 5.0}


def test_those_that_have_waited_for_the_medium_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(
        {"revoked": [GRANT] * 3, "more": 2, "untouched": 0},
        {"revoked": [GRANT] * 3, "more": 4, "untouched": 0},
    )
    done = daemon.invoke(monkeypatch, "m", "--client", "7")
    assert daemon.asked == [Revoke(("m",), None, 7, None)] * 2
    assert done.stdout.count("m: revoked; client 7, pid 9, uid 1 had it for a write since 5.0 s\n") == 6
    assert done.stderr.startswith("lrs: 4 grants left that were given meanwhile")
    assert done.exit_code == 1


def test_what_was_not_read_yet_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Daemon({"revoked": [GRANT | {"state": "ready"}], "more": 0, "untouched": 2}).invoke(monkeypatch, "m")
    told = "client 7, pid 9, uid 1 has not read for 5.0 s that it was granted for a write, and is refused"
    assert done.stdout == f"m: revoked; {told}\n"
    assert done.stderr == "lrs: 2 grants left: only planned, or being synced for a partial release\n"
    assert done.exit_code == 0


def test_what_cannot_be_revoked_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Daemon({"revoked": [], "more": 0, "untouched": 1}).invoke(monkeypatch, "m")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "lrs: 1 grant left: only planned, or being synced for a partial release\n"


def test_nothing_to_revoke_is_said(directories: tuple[Path, ...], lrs: Lrs) -> None:
    done = lrs("revoke", directories[0])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("lrs: nothing is revoked")
    done = lrs("revoke", "--json", "--client", "99")
    assert (done.returncode, json.loads(done.stdout)) == (1, [])


@pytest.mark.parametrize("words", [(), ("--library", "legacy"), ("--client", "-1"), ("--pid", "x")])
def test_what_is_revoked_must_be_named(site: DemoSite, lrs: Lrs, words: tuple[str, ...]) -> None:
    done = lrs("revoke", *words)
    assert done.returncode == 2
    assert "Usage: lrs revoke" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_others_may_read_and_write_but_not_revoke(
    directories: tuple[Path, ...], site: DemoSite, daemon: DemoDaemon
) -> None:
    for path in (site.base, site.base.parent):
        path.chmod(0o755)
    site.socket.chmod(0o666)
    done = subprocess.run(
        [sys.executable, "-c", SOMEBODY, str(site.socket)],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert "revocation of grants (pid 1): Operation not permitted" in done.stderr
    (line,) = [line for line in site.log.read_text().splitlines() if "not permitted" in line]
    assert "uid 65534" in line
    assert "revoke" in line
    assert "needs the right admin" in line
