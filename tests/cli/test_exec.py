from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lrs_trio.cli.allocation import measure
from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite
from lrs_trio.client import connect
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S, Lrs, add_directories, command_line


def books(lrs: Lrs) -> list[tuple[int, int]]:
    """Objects and bytes of each directory."""
    rows = json.loads(lrs("dir", "list", "--json").stdout)
    return [(row["medium"]["stats"]["nb_obj"], row["medium"]["stats"]["logc_spc_used"]) for row in rows]


def status(lrs: Lrs) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lrs("status", "--json").stdout)
    return found


def grants(lrs: Lrs) -> list[dict[str, Any]]:
    return [grant for device in status(lrs)["families"][0]["devices"] for grant in device["grants"]]


def leftovers(directories: tuple[Path, ...]) -> list[Path]:
    return [path for directory in directories for path in directory.glob("lrs-exec-*")]


def test_one_copy(directories: tuple[Path, ...], lrs: Lrs) -> None:
    done = lrs(
        "exec",
        "--write",
        "1MiB",
        "--",
        "sh",
        "-c",
        "mkdir {root}/d; cat > {root}/d/file; : > $LRS_ROOT/none",
        stdin="x" * 5000,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(books(lrs)) == [(0, 0), (2, 5000)]
    (made,) = leftovers(directories)
    assert made.joinpath("d", "file").read_text() == "x" * 5000
    assert done.stderr == f"lrs: 2 files, 4.9 KiB in {made}\n"


def test_two_copies(directories: tuple[Path, ...], lrs: Lrs) -> None:
    script = 'tee "$LRS_ROOT_2/copy" > {root1}/copy; test {root} = "$LRS_ROOT"; test {root2} = "$LRS_ROOT_2"'
    done = lrs("exec", "-q", "--write", "1MiB", "--copies", "2", "--", "sh", "-ec", script, stdin="hello")
    assert (done.returncode, done.stderr) == (0, "")
    assert books(lrs) == [(1, 5), (1, 5)]
    assert {path.parent for path in leftovers(directories)} == set(directories)


def test_nothing_written_leaves_nothing(directories: tuple[Path, ...], lrs: Lrs) -> None:
    done = lrs("exec", "--write", "1", "--", "true")
    assert done.returncode == 0
    assert "nothing was written" in done.stderr
    assert leftovers(directories) == []
    assert books(lrs) == [(0, 0), (0, 0)]


def test_reading_gives_the_medium_itself(directories: tuple[Path, ...], lrs: Lrs) -> None:
    directories[1].joinpath("song").write_text("la la")
    done = lrs("exec", "--read", directories[1], "--", "cat", "{root}/song")
    assert (done.returncode, done.stdout) == (0, "la la")
    assert books(lrs) == [(0, 0), (0, 0)]


@pytest.mark.parametrize("spelling", [["--read", "{0}", "{1}"], ["--read", "{0}", "--read", "{1}"]])
def test_reading_from_several_media(directories: tuple[Path, ...], lrs: Lrs, spelling: list[str]) -> None:
    words = [word.format(*directories) for word in spelling]
    both = lrs("exec", *words, "--", "echo", "{root1} {root2}")
    assert both.stdout.split() == [str(path) for path in directories]
    one = lrs("exec", *words, "--required", "1", "--", "sh", "-c", "env | grep ^LRS_ROOT")
    assert sorted(one.stdout.split()) == [f"LRS_ROOT={directories[0]}", f"LRS_ROOT_1={directories[0]}"]


@pytest.mark.usefixtures("directories")
def test_dashes_may_be_left_out_and_given_twice(lrs: Lrs) -> None:
    assert lrs("exec", "--write", "1", "echo", "-n", "a").stdout == "a"
    assert lrs("exec", "--write", "1", "--", "echo", "--", "b").stdout == "-- b\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["/no/such/command"], 127),
        (["/etc/hostname"], 126),
    ],
)
def test_a_failing_command_is_not_accounted_for(
    directories: tuple[Path, ...], lrs: Lrs, command: list[str], expected: int
) -> None:
    done = lrs("exec", "--write", "1KiB", "--copies", "2", "--", *command)
    assert done.returncode == expected
    assert books(lrs) == [(0, 0), (0, 0)]
    assert grants(lrs) == []
    assert leftovers(directories) == []


@pytest.mark.parametrize(("ends", "expected"), [("exit 3", 3), ("exit 0", 125)])
def test_a_command_that_moves_its_directory_away_is_told_of_it(
    directories: tuple[Path, ...], lrs: Lrs, ends: str, expected: int
) -> None:
    moves = f"echo half > {{root}}/half; mv {{root}} {{root}}.mine; {ends}"
    done = lrs("exec", "--write", "1KiB", "--", "sh", "-c", moves)
    (moved,) = leftovers(directories)
    assert done.returncode == expected
    assert f"the command has moved or removed {str(moved).removesuffix('.mine')}:" in done.stderr
    assert moved.joinpath("half").read_text() == "half\n"
    assert books(lrs) == [(0, 0), (0, 0)]
    assert grants(lrs) == []


def test_what_a_failing_command_wrote_is_kept_and_named(directories: tuple[Path, ...], lrs: Lrs) -> None:
    done = lrs("exec", "--write", "1KiB", "--", "sh", "-c", "echo half > {root}/half; exit 1")
    (left,) = leftovers(directories)
    assert done.returncode == 1
    assert str(left) in done.stderr
    assert left.joinpath("half").read_text() == "half\n"
    assert books(lrs) == [(0, 0), (0, 0)]


def test_what_was_written_under_a_revoked_grant_is_named(
    directories: tuple[Path, ...], site: DemoSite, lrs: Lrs
) -> None:
    script = 'echo all > "$LRS_ROOT_2/all"; exec "$@" --pid $PPID'
    revokes = ["sh", "-c", script, "sh", *command_line(site, "revoke")]
    done = lrs("exec", "--write", "1KiB", "--copies", "2", "--", *revokes)
    (left,) = leftovers(directories)
    assert done.returncode == 125
    told, error = done.stderr.splitlines()
    assert told == f"lrs: revoked or refused, so not accounted for, and yours to keep or to remove: {left}"
    assert error.endswith("[EINVAL]")
    assert left.joinpath("all").read_text() == "all\n"
    assert books(lrs) == [(0, 0), (0, 0)]


def test_what_was_written_is_named_if_the_daemon_goes_before_it_is_released(
    directories: tuple[Path, ...], daemon: DemoDaemon, lrs: Lrs
) -> None:
    kills = f"echo all > {{root}}/all; kill -KILL {daemon.pid}"
    done = lrs("exec", "--write", "1KiB", "--", "sh", "-c", kills)
    (left,) = leftovers(directories)
    assert done.returncode == 125
    told, error = done.stderr.splitlines()
    assert told == f"lrs: it is not known whether this is accounted for: {left}"
    assert "the daemon closed the connection" in error
    assert error.endswith("[ECONNRESET]")


@pytest.mark.parametrize(
    "words",
    [
        ["--write", "1"],
        ["--write", "a lot", "--", "true"],
        ["--write", "1", "--read", "/a", "--", "true"],
        ["--", "true"],
        ["--write", "1", "extra", "--", "true"],
        ["--write", "1", "--", "cp", "a", "{root2}"],
        ["--write", "1", "--required", "1", "--", "true"],
        ["--read", "/a", "--required", "2", "--", "true"],
        ["--read", "/a", "--copies", "2", "--", "true"],
        ["--no-such-option", "--", "true"],
        ["--write", "16777216TiB", "--", "true"],
        ["--write", "1", "--copies", "9999999999", "--", "true"],
        ["--read", "", "--", "true"],
        ["--read", "/a", "", "--", "true"],
    ],
)
def test_wrong_command_lines(lrs: Lrs, words: list[str]) -> None:
    done = lrs("exec", *words)
    assert done.returncode == 125
    assert "Error: " in done.stderr


@pytest.mark.usefixtures("directories")
def test_no_allocation_no_command(site: DemoSite, lrs: Lrs) -> None:
    mark = site.base / "mark"
    done = lrs("exec", "--write", "1", "--copies", "3", "--", "touch", mark)
    assert done.returncode == 125
    assert "[ENOSPC]" in done.stderr
    assert "lrs dir list" in done.stderr
    assert not mark.exists()


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("words", [["--read", "bad\udcff"], ["--write", "1", "--tag", "bad\udcff"]])
def test_a_word_that_is_not_utf8_ends_as_every_failure_of_ours(lrs: Lrs, words: list[str]) -> None:
    done = lrs("exec", *words, "--", "true")
    assert done.returncode == 125
    assert done.stderr.endswith("bad\\udcff: cannot be expressed in utf-8 [EINVAL]\n")


@pytest.mark.usefixtures("daemon")
def test_a_family_that_is_not_served_is_named_as_a_reason(lrs: Lrs) -> None:
    done = lrs("exec", "--family", "tape", "--write", "1", "--", "true")
    assert done.returncode == 125
    assert "the daemon serves no such family" in done.stderr


def test_no_daemon(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    daemon.end()
    done = lrs("exec", "--write", "1", "--", "true")
    assert done.returncode == 125
    assert "[ECONNREFUSED]" in done.stderr


def started(site: DemoSite, *words: str) -> subprocess.Popen[str]:
    """`lrs exec` with a command that has begun: it says so with its first line."""
    process = subprocess.Popen(
        command_line(site, "exec", *words), stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=ENVIRONMENT, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_status_shows_it_while_it_runs(directories: tuple[Path, ...], site: DemoSite, lrs: Lrs) -> None:
    with started(site, "--write", "10MiB", "--copies", "2", "--", "sh", "-c", "echo ready; cat > {root}/in") as process:
        (family,) = status(lrs)["families"]
        assert [device["ongoing"] for device in family["devices"]] == [1, 1]
        assert {grant["pid"] for grant in grants(lrs)} == {process.pid}
        shown = lrs("status").stdout
        assert str(directories[0]) in shown
        assert str(process.pid) in shown
        assert "1/8" in shown
        process.communicate("end")
    assert process.returncode == 0
    assert grants(lrs) == []


def test_a_killed_one_takes_its_command_along(directories: tuple[Path, ...], site: DemoSite, lrs: Lrs) -> None:
    script = "echo half > {root}/half; echo ready; exec sleep 600"
    with started(site, "--write", "1MiB", "--copies", "2", "--", "sh", "-c", script) as process:
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""  # the command held the other end
    done = lrs("exec", "--write", "1", "--", "sh", "-c", "echo -n abc > {root}/whole")
    assert done.returncode == 0
    assert sorted(books(lrs)) == [(0, 0), (1, 3)]
    assert process.pid not in {grant["pid"] for grant in grants(lrs)}


@pytest.mark.usefixtures("directories")
def test_sigterm_ends_the_command_and_frees_the_media(site: DemoSite, lrs: Lrs) -> None:
    with started(site, "--write", "1MiB", "--", "sh", "-c", "echo ready; exec sleep 600") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert grants(lrs) == []


@pytest.mark.note("11")
@pytest.mark.usefixtures("directories")
def test_a_drain_waits_for_it(site: DemoSite, daemon: DemoDaemon) -> None:
    with started(site, "--write", "1MiB", "--", "sh", "-c", "echo ready; cat > {root}/in") as process:
        daemon.interrupt()
        process.communicate("the end")
        assert process.returncode == 0
    assert daemon.wait() == 0


@contextmanager
def waiting_on_a_terminal(
    site: DemoSite, *more: str
) -> Iterator[tuple[subprocess.Popen[str], int, subprocess.Popen[bytes]]]:
    """One that holds all directories, the terminal of one that waits for them, and that one itself."""
    site.config.write_text(site.config.read_text() + "\n[families.dir]\nmax_concurrent_io = 1\n")
    daemon = DemoDaemon(site)
    add_directories(site)
    master, slave = pty.openpty()
    words = command_line(site, "exec", "--write", "1", *more, "--", "true")
    try:
        with (
            started(site, "--write", "1", "--copies", "2", "--", "sh", "-c", "echo ready; cat") as holder,
            subprocess.Popen(words, stderr=slave, env=ENVIRONMENT) as waiting,
        ):
            yield holder, master, waiting
    finally:
        os.close(master)
        os.close(slave)
        daemon.end()


def test_on_a_terminal_it_says_what_it_waits_for(site: DemoSite) -> None:
    with waiting_on_a_terminal(site) as (holder, terminal, waiting):
        said = os.read(terminal, 4096).decode()
        assert "waiting: " in said
        assert f"busy, 1 of 1 I/Os by pid {holder.pid}" in said
        holder.communicate("")
        assert waiting.wait(TIMEOUT_S) == 0


def test_it_keeps_its_place_while_the_settings_cannot_be_read(site: DemoSite) -> None:
    with (
        waiting_on_a_terminal(site, "--copies", "2") as (holder, terminal, waiting),
        connect(site.socket) as client,
    ):
        settings = site.config.read_text()
        assert f"by pid {holder.pid}" in os.read(terminal, 4096).decode()
        site.config.write_text("server.socket = ")
        client.revoke([str(site.directories[0])])
        # It has looked again: that one directory is not held any more.
        assert "waiting: " in os.read(terminal, 4096).decode()
        site.config.write_text(settings)
        holder.communicate("")
        assert waiting.wait(TIMEOUT_S) == 0


def test_only_regular_files_are_measured(tmp_path: Path) -> None:
    assert measure(tmp_path).empty
    tmp_path.joinpath("a").write_bytes(b"123")
    tmp_path.joinpath("d").mkdir()
    tmp_path.joinpath("d", "b").write_bytes(b"4567")
    tmp_path.joinpath("link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    content = measure(tmp_path)
    assert (content.size, content.files, content.empty) == (7, 2, False)
