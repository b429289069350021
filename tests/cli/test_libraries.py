from __future__ import annotations

import errno
import json
import socket
import tomllib
from pathlib import Path

import pytest

from tests.cli.robots import DESCRIPTIONS, behind_mtx, controller, lrs, write_settings
from tests.tlc.conftest import FakeMtx


@pytest.fixture
def config(tmp_path: Path, mtx: FakeMtx) -> Path:
    """One library behind a controller and one that is virtual."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    virtual = {"robot": "virtual", "drives": "virtual", "directory": str(tmp_path / "virtual")}
    return write_settings(
        tmp_path / "lrs.toml", main=behind_mtx(mtx, host="127.0.0.1", port=port), play=virtual | {"speed": 1e6}
    )


@pytest.fixture
def virtual(config: Path, tmp_path: Path) -> Path:
    """The virtual library, made."""
    done = lrs(config, "lib", "create", tmp_path / "virtual", "--from", DESCRIPTIONS / "small.toml")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'virtual'}: created\n")
    return tmp_path / "virtual"


def test_a_scan_shows_every_place(config: Path, mtx: FakeMtx) -> None:
    with controller(config, "main", "--listen", f"127.0.0.1:{port_of(config)}"):
        done = lrs(config, "lib", "scan", "main")
        assert done.returncode == 0
        lines = [line.split() for line in done.stdout.splitlines()]
        assert lines[0] == ["kind", "address", "content", "from", "drive", "remark"]
        assert ["slot", "1", "P00001L5"] in lines
        assert ["slot", "6", "(no", "label)"] in lines
        assert ["import/export", "11"] in lines
        assert ["drive", "60000", "P00003L5", "3", "S1"] in lines
        assert len(lines) == 15

        shown = json.loads(lrs(config, "lib", "scan", "main", "--json").stdout)
        assert {"type": "slot", "address": 1, "full": True, "volume": "P00001L5", "accessible": True} in shown
        assert len(shown) == 14


def test_a_refresh_shows_what_people_have_done(config: Path, mtx: FakeMtx) -> None:
    with controller(config, "main", "--listen", f"127.0.0.1:{port_of(config)}"):
        status = mtx.directory / "status.txt"
        status.write_text(status.read_text().replace("P00001L5", "NEW001L5"))
        assert "NEW001L5" not in lrs(config, "lib", "scan", "main").stdout
        assert "NEW001L5" in lrs(config, "lib", "scan", "main", "--refresh").stdout
        assert "NEW001L5" in lrs(config, "lib", "scan", "main").stdout


def test_the_status_shows_drives_and_room(config: Path, virtual: Path) -> None:
    with controller(config, "main", "--listen", f"127.0.0.1:{port_of(config)}"):
        done = lrs(config, "lib", "status")
        assert done.returncode == 0
        assert "library main: up" in done.stdout
        assert "slots: 6 of 10 full, 4 free" in done.stdout
        assert "import/export slots: 1 of 2 full, 1 free" in done.stdout
        assert "library play: up" in done.stdout
        assert f"virtual library in {virtual}" in done.stdout

        (main,) = json.loads(lrs(config, "lib", "status", "main", "--json").stdout)
        assert main["up"]
        assert main["slots"] == {"total": 10, "full": 6, "free": 4}
        first, second = main["drives"]
        assert (first["number"], first["serial"], first["medium"], first["source"]) == (0, "S1", "P00003L5", 3)
        assert (second["number"], second["full"], second["medium"]) == (1, False, None)


def test_a_virtual_library_is_looked_at_without_a_controller(config: Path, virtual: Path) -> None:
    shown = json.loads(lrs(config, "lib", "scan", "play", "--json").stdout)
    assert {element["type"] for element in shown} >= {"arm", "slot", "drive"}
    (play,) = json.loads(lrs(config, "lib", "status", "play", "--json").stdout)
    assert play["up"]
    assert len(play["drives"]) == sum(element["type"] == "drive" for element in shown)


def test_a_library_that_is_down_is_told_with_the_others(config: Path, virtual: Path) -> None:
    done = lrs(config, "lib", "status")
    assert done.returncode == errno.ECONNREFUSED
    assert "library main: down" in done.stdout
    assert "library play: up" in done.stdout
    assert "ECONNREFUSED" in done.stderr
    main, play = json.loads(lrs(config, "lib", "status", "--json").stdout)
    assert not main["up"]
    assert "127.0.0.1" in main["error"]
    assert play["error"] is None
    done = lrs(config, "lib", "scan", "main")
    assert (done.returncode, done.stdout) == (errno.ECONNREFUSED, "")


def test_a_library_behind_a_controller_that_does_not_reach_it(config: Path, mtx: FakeMtx) -> None:
    with controller(config, "main", "--listen", f"127.0.0.1:{port_of(config)}"):
        mtx.fail("inquiry", "1", "No such device\n")
        done = lrs(config, "lib", "status", "main")
        assert done.returncode == errno.EIO
        assert "library main: down" in done.stdout
        assert lrs(config, "lib", "scan", "main", "--refresh").returncode == 0


def test_a_controller_that_says_nothing_is_not_awaited_for_ever(config: Path) -> None:
    with socket.create_server(("127.0.0.1", port_of(config))):
        done = lrs(config, "lib", "scan", "main", "--timeout", "0.2")
    assert done.returncode == errno.ETIMEDOUT
    assert "0.2 s" in done.stderr


def test_a_library_that_the_settings_do_not_have(config: Path) -> None:
    for command in ("scan", "status"):
        done = lrs(config, "lib", command, "other")
        assert done.returncode == 1
        assert "libraries.other" in done.stderr


def test_a_virtual_library_is_not_made_twice(config: Path, virtual: Path) -> None:
    done = lrs(config, "lib", "create", virtual, "--from", DESCRIPTIONS / "small.toml")
    assert done.returncode == errno.EEXIST
    assert str(virtual) in done.stderr


def port_of(config: Path) -> int:
    return int(tomllib.loads(config.read_text())["libraries"]["main"]["port"])
