from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from lrs_trio.cli.demo.crowd import DrainSeen
from lrs_trio.cli.demo.daemon import DemoSite
from lrs_trio.cli.demo.ledger import (
    Failure,
    Ledger,
    Order,
    Written,
    locks_left,
    make_orders,
    unsound_files,
    wrong_books,
)
from lrs_trio.cli.demo.report import print_checks
from lrs_trio.dss.operations import AddDirectory, MediumUpdate, TakeLock, UpdateMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.model import Device, Family, FsType, LockOwner, LockType, Medium, ResourceId
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S


def test_orders_are_of_all_kinds_and_always_the_same() -> None:
    orders = make_orders(200)
    assert orders == make_orders(200)
    assert {order.copies for order in orders} == {1, 2}
    assert any(order.size == 0 for order in orders)
    assert [order.number for order in orders] == list(range(200))
    assert len(orders[1].content) == orders[1].size


@pytest.fixture
def written(tmp_path: Path) -> Written:
    order = Order(7, 100, 2)
    paths = (tmp_path / "a", tmp_path / "b")
    for path in paths:
        path.write_bytes(order.content)
    return Written(order, paths, ("/m/a", "/m/b"))


def test_files_as_promised_are_sound(written: Written) -> None:
    assert unsound_files([written]) == []


def test_missing_and_changed_files_are_told(written: Written) -> None:
    written.paths[0].unlink()
    content = bytearray(written.order.content)
    content[50] ^= 1
    written.paths[1].write_bytes(content)
    assert len(unsound_files([written])) == 2


@pytest.fixture
def dss(tmp_path: Path) -> Path:
    """Knows /m/a with one object of 100 bytes, and /m/b with nothing."""
    path = tmp_path / "dss.sqlite"
    with SqliteHome.open(path) as home:
        for name in ("/m/a", "/m/b"):
            device = Device(ResourceId(Family.DIR, f"host:{name}", "legacy"), "host", name)
            home.execute(AddDirectory(device, Medium(ResourceId(Family.DIR, name, "legacy"), FsType.POSIX)))
        update = MediumUpdate(ResourceId(Family.DIR, "/m/a", "legacy"), add_objects=1, add_logical=100)
        home.execute(UpdateMedia((update,)))
    return path


def test_books_that_agree(dss: Path) -> None:
    assert wrong_books([Written(Order(7, 100, 1), (), ("/m/a",))], dss, Family.DIR) == []


@pytest.mark.parametrize(
    ("size", "media", "wrong"),
    [
        (100, ("/m/a", "/m/b"), ["/m/b"]),
        (99, ("/m/a",), ["/m/a"]),
        (100, (), ["/m/a"]),
        (100, ("/m/a", "/m/c"), ["/m/c"]),
    ],
)
def test_books_that_disagree(dss: Path, size: int, media: tuple[str, ...], wrong: list[str]) -> None:
    problems = wrong_books([Written(Order(7, size, 1), (), media)], dss, Family.DIR)
    assert [problem.partition(":")[0] for problem in problems] == wrong


def test_locks_are_told(dss: Path) -> None:
    assert locks_left(dss) == []
    with SqliteHome.open(dss) as home:
        home.execute(TakeLock(LockType.MEDIA, ResourceId(Family.DIR, "/m/a", "legacy"), LockOwner("host", 5)))
    assert len(locks_left(dss)) == 1


def test_one_broken_promise_fails_the_demo(
    tmp_path: Path, dss: Path, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    site = DemoSite(tmp_path, ())
    site.log.write_text("the daemon's last words\n")
    seen = DrainSeen(under_way=1, refused=True, answered=1)
    assert print_checks(site, Ledger(), True, seen, 0) is False  # the DSS counts an object that nobody has written
    ledger = Ledger(written=[Written(Order(7, 100, 1), (written.paths[0],), ("/m/a",))])
    capsys.readouterr()
    assert print_checks(site, ledger, True, seen, 0) is True
    assert "FAILED" not in capsys.readouterr().out
    for killed, drain, status, failures in [
        (False, seen, 0, []),
        (True, DrainSeen(1, False, 1), 0, []),
        (True, DrainSeen(2, True, 1), 0, []),
        (True, seen, 3, []),
        (True, seen, None, []),
        (True, seen, 0, [Failure(0.0, errno.ENOSPC, "no space")]),
    ]:
        ledger.failures = failures
        assert print_checks(site, ledger, killed, drain, status) is False
        shown = capsys.readouterr().out
        assert shown.count("FAILED") == 1
        assert "last words" in shown


def demo(base: Path, *args: str) -> subprocess.CompletedProcess[str]:
    options = ["--base", str(base), "--clients", "6", "--files", "60", "--seconds", "5"]
    return subprocess.run(
        [sys.executable, "-m", "lrs_trio.cli.lrs", "demo", *options, *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )


@pytest.mark.note("11")
def test_the_main_job(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [line for line in done.stdout.splitlines() if line.startswith(("ok", "FAILED"))]
    assert len(checks) == 7
    assert all(line.startswith("ok") for line in checks)
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_can_be_looked_at(tmp_path: Path) -> None:
    done = demo(tmp_path, "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    (base,) = tmp_path.iterdir()
    listed = subprocess.run(
        [sys.executable, "-m", "lrs_trio.cli.lrs", "--config", str(base / "demo.toml"), "dir", "list"],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == 1 + 4
