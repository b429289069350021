from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from lrs_trio import __version__
from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite
from lrs_trio.cli.lrs import lrs as lrs_group
from lrs_trio.cli.ping import REQUEST, RESPONSE
from lrs_trio.cli.site import Site
from lrs_trio.cli.status import stats
from lrs_trio.client import Client, connect
from lrs_trio.errors import LrsError
from lrs_trio.wire.codec import encode_request, encode_response
from lrs_trio.wire.messages import Ping, Pong, Request, Response
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S, Lrs, command_line
from tests.processes import child

TELLS_MODULES = (
    "import atexit, sys; from lrs_trio.cli.lrs import main; "
    "atexit.register(lambda: print(*sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)); main()"
)
HEAVY = {"trio", "pydantic", "apsw", "rich", "structlog", "google"}


def test_ping(daemon: DemoDaemon, lrs: Lrs) -> None:
    done = lrs("ping")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["ping"], ["--help"], ["exec", "--help"], ["--version"]])
def test_what_must_be_quick_imports_little(site: DemoSite, daemon: DemoDaemon, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELLS_MODULES, "--config", str(site.config), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    assert "click" in modules
    assert not modules & HEAVY


def test_ping_speaks_as_the_codec_does() -> None:
    assert encode_request(Request(1, Ping(False))) == REQUEST
    for value in (False, True):
        assert encode_response(Response(1, Pong(value))).startswith(RESPONSE)


def pinged(site: DemoSite, read: int, answer: bytes) -> tuple[int, str]:
    """The status of a ping of somebody who reads so many bytes and answers, and what it says of that."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.socket))
        listener.listen()
        with child(command_line(site, "ping"), stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
            connection, _ = listener.accept()
            with connection:
                connection.recv(read)
                connection.sendall(answer)
            _, said = process.communicate(timeout=TIMEOUT_S)
            return process.returncode, said


def test_ping_knows_a_daemon_from_another_program(site: DemoSite) -> None:
    status, said = pinged(site, 100, b"HTTP/1.1 400 Bad Request\r\n")
    assert status == errno.EPROTO
    assert "is no daemon of ours" in said


@pytest.mark.parametrize("read", [1, 100])
def test_ping_says_that_it_was_left_without_an_answer(site: DemoSite, read: int) -> None:
    status, said = pinged(site, read, b"")
    assert status == errno.ECONNRESET
    assert said.startswith(f"lrs: the daemon on {site.socket} closed the connection: it has ended, or has too many")


def take_all_places(site: DemoSite, clients: ExitStack) -> None:
    while True:
        clients.enter_context(connect(site.socket)).ping()


def test_a_daemon_with_too_many_clients_says_so(site: DemoSite, lrs: Lrs) -> None:
    site.config.write_text(site.config.read_text().replace("[server]", "[server]\nmax_connections = 1"))
    daemon = DemoDaemon(site)
    try:
        with ExitStack() as clients:
            with pytest.raises(ConnectionResetError, match="has too many clients"):
                take_all_places(site, clients)
            for words in (["ping"], ["status"], ["stats"], ["revoke", "--pid", "1"]):
                done = lrs(*words)
                assert done.returncode == errno.ECONNRESET
                assert "server.max_connections" in done.stderr
    finally:
        daemon.end()


@pytest.mark.parametrize("words", [["status"], ["stats"], ["revoke", "--pid", "1"], ["drive", "status"]])
def test_a_daemon_that_hangs_is_not_waited_for_without_end(
    site: DemoSite, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("lrs_trio.cli.site.ANSWERS_WITHIN_S", 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.socket))
        listener.listen()
        done = CliRunner().invoke(lrs_group, ["--socket", str(site.socket), *words])
    assert done.exit_code == errno.ETIMEDOUT
    assert f"lrs: {site.socket}: the daemon has not answered within 0.01 s" in done.output


@pytest.mark.parametrize("timeout", ["inf", "nan", "-1", "1e10"])
def test_what_is_no_time_is_a_wrong_command_line(lrs: Lrs, timeout: str) -> None:
    done = lrs("ping", "--timeout", timeout)
    assert done.returncode == 2
    assert "Error: Invalid value for '--timeout'" in done.stderr


def test_a_socket_that_cannot_be_one_is_a_wrong_command_line(lrs: Lrs) -> None:
    done = lrs("--socket", "x" * 200, "ping")
    assert done.returncode == 2
    assert "must be an absolute path of at most 107 bytes" in done.stderr


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("words", [["revoke"], ["stats", "--tags"]])
def test_a_word_that_is_not_utf8_is_an_error_and_no_traceback(lrs: Lrs, words: list[str]) -> None:
    done = lrs(*words, "bad\udcff")
    assert done.returncode == errno.EINVAL
    assert done.stderr == "lrs: bad\\udcff: cannot be expressed in utf-8 [EINVAL]\n"


@pytest.mark.usefixtures("directories")
@pytest.mark.parametrize(("closed", "words"), [(">&-", ["dir", "list"]), ("2>&-", ["exec", "--write", "1", "true"])])
def test_a_stream_that_is_closed_is_no_traceback(site: DemoSite, closed: str, words: list[str]) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command_line(site, *words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ping_does_not_wait_for_ever(site: DemoSite, lrs: Lrs) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.socket))
        listener.listen()
        done = lrs("ping", "--timeout", "0.05")
    assert done.returncode == errno.ETIMEDOUT
    assert "[ETIMEDOUT]" in done.stderr


def test_no_daemon_is_an_error_with_its_errno(site: DemoSite, lrs: Lrs) -> None:
    for command in ("ping", "status", "stats"):
        done = lrs(command)
        assert done.returncode == errno.ENOENT
        assert done.stderr.startswith("lrs: ")
        assert done.stderr.endswith(" [ENOENT]\n")
        assert str(site.socket) in done.stderr


def test_a_dead_daemon_refuses(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    daemon.end()
    assert lrs("ping").returncode == errno.ECONNREFUSED


def test_the_socket_may_be_named(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    site.config.unlink()
    assert lrs("ping").returncode == 1
    quick = [sys.executable, "-m", "lrs_trio.cli.lrs", "--socket", str(site.socket), "ping"]
    assert subprocess.run(quick, check=False, env=ENVIRONMENT, timeout=TIMEOUT_S).returncode == 0


def test_status_of_an_idle_daemon(directories: tuple[Path, ...], daemon: DemoDaemon, lrs: Lrs) -> None:
    shown = lrs("status").stdout
    assert f"pid {daemon.pid}: serving" in shown
    for path in directories:
        (line,) = [line for line in shown.splitlines() if line.startswith(str(path))]
        assert "0/8" in line
        assert "empty" in line
    report = json.loads(lrs("status", "--json").stdout)
    assert report["version"] == 1
    assert report["daemon"]["pid"] == daemon.pid
    assert [device["path"] for device in report["families"][0]["devices"]] == [str(path) for path in directories]


def test_more_statistics_than_fit_are_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise LrsError(errno.EMSGSIZE, "stat: Message too long")

    monkeypatch.setattr(Client, "stats", refuse)
    monkeypatch.setattr(Site, "connect", lambda site: Client(socket.socket(socket.AF_UNIX)))
    result = CliRunner().invoke(stats, [], obj=Site(None, None, {}))
    assert isinstance(result.exception, LrsError)
    assert result.exception.errno == errno.EMSGSIZE
    assert "name one, such as dev.effective_sync" in str(result.exception)


def test_stats_by_name_and_tags(directories: tuple[Path, ...], lrs: Lrs) -> None:
    lrs("exec", "--write", "1KiB", "--copies", "2", "--", "sh", "-c", "echo > {root1}/a; echo > {root2}/a")
    heading, *rows = lrs("stats", "dev.effective_sync").stdout.splitlines()
    assert heading.split() == ["metric", "tags", "value"]
    assert len(rows) == 2
    assert all(row.startswith("dev.effective_sync") for row in rows)
    metrics = json.loads(lrs("stats", "--json", "dev", "--tags", "family=dir").stdout)
    written = [metric["value"] for metric in metrics if metric["name"] == "dev.total_tosync_size"]
    assert written == [1, 1]
    refused = lrs("stats", "--tags", "nonsense")
    assert (refused.returncode, "--tags is KEY=VALUE" in refused.stderr) == (errno.EINVAL, True)


def test_shell_completion_knows_the_commands(lrs: Lrs) -> None:
    done = lrs(_LRS_COMPLETE="bash_complete", COMP_WORDS="lrs st", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,stats", "plain,status"]


def test_ctrl_c_is_no_traceback(directories: tuple[Path, ...], site: DemoSite) -> None:
    holder = command_line(site, "exec", "--write", "1", "--copies", "2", "--", "sh", "-c", "echo ready; cat")
    with child(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        waiting = command_line(site, "dir", "lock", directories[0])
        with child(waiting, stderr=subprocess.PIPE, env=ENVIRONMENT) as lock:
            with connect(site.socket) as client:
                while not any(device["stopping"] for device in client.status()["families"][0]["devices"]):
                    pass
            lock.send_signal(signal.SIGINT)
            assert lock.wait(TIMEOUT_S) == 130
            assert lock.stderr is not None
            assert lock.stderr.read() == b"\n"
        process.communicate(b"")


def test_version(lrs: Lrs) -> None:
    assert lrs("--version").stdout == f"lrs, version {__version__}\n"


def test_a_reader_that_leaves_is_no_error(directories: tuple[Path, ...], site: DemoSite) -> None:
    with child(
        [sys.executable, "-m", "lrs_trio.cli.lrs", "--config", str(site.config), "stats"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
