"""The PostgreSQL server that tests and benchmarks have for themselves."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from benchmarks.postgres import Cluster, find_programs, temporary_cluster
from benchmarks.postgres_keeper import end_all, working_below
from tests.processes import child

PATIENCE_S = 30.0
LOOK_AGAIN_S = 0.01

HOLD_ONE = """
import time
from benchmarks.postgres import temporary_cluster
with temporary_cluster() as cluster:
    print(cluster.base, cluster.pid, flush=True)
    time.sleep(1000)
"""

INSERT_LOCK = "INSERT INTO lock (type, id, hostname, owner) VALUES ('media', %s, 'store1', 1)"


def value(url: str, query: bytes) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def shared_memory_of(pid: int) -> list[str]:
    """The segments that the process has made and that nobody has removed."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    return [line for line in lines[1:] if line.split()[4] == str(pid)]


def test_it_is_run_by_nobody_special(cluster: Cluster) -> None:
    lines = Path(f"/proc/{cluster.pid}/status").read_text().splitlines()
    (users,) = [set(line.split()[1:]) for line in lines if line.startswith("Uid:")]
    (user,) = map(int, users)
    if os.geteuid() == 0:
        assert pwd.getpwuid(user).pw_name in ("postgres", "nobody")
    else:
        assert user == os.geteuid()


def test_it_is_reached_by_its_socket_only_and_nobody_else_gets_there(cluster: Cluster) -> None:
    assert value(cluster.url("postgres"), b"SHOW listen_addresses") == ""
    assert cluster.base.stat().st_mode & 0o077 == 0


def test_variables_of_the_environment_do_not_matter(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, misleading in (("PGPORT", "1"), ("PGHOST", "/nowhere"), ("PGUSER", "x"), ("PGDATABASE", "x")):
        monkeypatch.setenv(name, misleading)
    assert value(cluster.url("postgres"), b"SELECT current_database()") == "postgres"


def test_texts_are_what_they_are_on_every_machine(cluster: Cluster, postgres_url: str) -> None:
    assert value(postgres_url, b"SHOW server_encoding") == "UTF8"
    assert value(postgres_url, b"SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C"


def test_each_database_is_new(cluster: Cluster, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(INSERT_LOCK, ["a"])
    other = cluster.phobos_database()
    assert value(other, b"SELECT version FROM schema_info") == "3.3"
    assert value(other, b"SELECT count(*) FROM lock") == 0
    cluster.drop_database(other)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(other)


def test_a_database_is_dropped_whoever_uses_it_and_whatever_its_name(cluster: Cluster) -> None:
    name = 'a b/c?d=e&f#g%41"é'
    url = cluster.create_database(name)
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (name,)
        cluster.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_what_was_committed_survives_an_immediate_restart(cluster: Cluster, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as client:
        client.execute(INSERT_LOCK, ["committed"])
        client.commit()
        client.execute(INSERT_LOCK, ["not committed"])
        before = cluster.pid
        cluster.restart("immediate")
        assert cluster.pid != before
        with pytest.raises(psycopg.OperationalError):
            client.commit()
    assert value(postgres_url, b"SELECT string_agg(id, ',') FROM lock") == "committed"


def test_what_was_committed_survives_a_kill(cluster: Cluster, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as client:
        client.execute(INSERT_LOCK, ["committed"])
        client.commit()
        killed = cluster.pid
        assert client.info.backend_pid in cluster.connections()
        assert set(cluster.connections()) < set(cluster.processes()) < set(working_below(cluster.data))
        cluster.kill()
        assert list(working_below(cluster.data)) == []
        with pytest.raises(RuntimeError, match="is not running"):
            cluster.kill()
        cluster.start()
        with pytest.raises(psycopg.OperationalError):
            client.execute(b"SELECT 1")
    assert value(postgres_url, b"SELECT id FROM lock") == "committed"
    assert shared_memory_of(killed) == []


def test_the_settings_are_those_that_were_asked_for() -> None:
    with temporary_cluster(fsync=True, max_connections=7, settings={"timezone": "Asia/Tokyo"}) as cluster:
        url = cluster.url("postgres")
        assert value(url, b"SHOW fsync") == value(url, b"SHOW full_page_writes") == "on"
        assert value(url, b"SHOW max_connections") == "7"
        assert value(url, b"SHOW timezone") == "Asia/Tokyo"
        cluster.stop("fast")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        with pytest.raises(RuntimeError, match="is not running"):
            cluster.stop()
        cluster.start()
        with pytest.raises(RuntimeError, match="is running"):
            cluster.start()
        assert value(url, b"SHOW timezone") == "Asia/Tokyo"


def test_nothing_is_left_of_it() -> None:
    with temporary_cluster() as cluster:
        base, pid = cluster.base, cluster.pid
        assert pid in set(working_below(base))
        assert shared_memory_of(pid)
    assert not base.exists()
    assert list(working_below(base)) == []
    assert shared_memory_of(pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_it_if_its_program_is_ended(number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    options = {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with child([sys.executable, "-c", HOLD_ONE], **options) as program:
        assert program.stdout is not None
        base, _, pid = program.stdout.readline().rpartition(" ")
        assert int(pid) in set(working_below(Path(base)))
        program.send_signal(number)
        program.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while Path(base).exists() and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_S)
    assert not Path(base).exists()
    assert list(working_below(Path(base))) == []
    assert shared_memory_of(int(pid)) == []


def test_a_process_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.postgres_keeper.PATIENCE_S", 0.0)
    command = "import signal, time; signal.signal(signal.SIGQUIT, signal.SIG_IGN); print(flush=True); time.sleep(1000)"
    with child([sys.executable, "-c", command], cwd=tmp_path, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        assert list(working_below(tmp_path)) == [stubborn.pid]
        end_all(tmp_path)
        assert stubborn.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_server_that_cannot_start_says_why() -> None:
    unfit = temporary_cluster(settings={"shared_buffers": "plenty"})
    with pytest.raises(RuntimeError, match='invalid value for parameter "shared_buffers"'), unfit:
        raise AssertionError("it has started")


def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / ("x" * 100)
    parent.mkdir()
    with pytest.raises(RuntimeError, match="too long for a socket"), temporary_cluster(parent=parent):
        raise AssertionError("it has started")
    assert list(parent.iterdir()) == []


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "installed"


def install(directory: Path, *programs: str) -> Path:
    directory.mkdir(parents=True)
    for program in programs:
        (directory / program).touch(0o755)
    return directory


def test_the_newest_server_is_taken(nothing_installed: Path) -> None:
    for version in ("9.6", "17", "8.4"):
        install(nothing_installed / version / "bin", "postgres", "initdb")
    install(nothing_installed / "18" / "bin", "psql")
    assert find_programs(nothing_installed) == nothing_installed / "17" / "bin"


def test_a_server_in_path_will_do(nothing_installed: Path, tmp_path: Path) -> None:
    real = install(tmp_path / "real", "postgres", "initdb")
    (tmp_path / "bin").mkdir()
    for program in real.iterdir():
        (tmp_path / "bin" / program.name).symlink_to(program)
    assert find_programs(nothing_installed) == real


def test_where_there_is_no_server_the_error_says_how_to_get_one(nothing_installed: Path) -> None:
    with pytest.raises(RuntimeError, match=r"run requirements/postgresql\.sh"):
        find_programs(nothing_installed)
