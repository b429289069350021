from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from lrs_trio.cli.site import Site
from lrs_trio.cli.waiting import says_what_it_waits_for, what_is_in_the_way
from lrs_trio.client import Client
from lrs_trio.errors import SettingsError

ME = 77


def device(**given: Any) -> dict[str, Any]:
    return {
        "path": "/a",
        "status": "mounted",
        "reason": "",
        "ongoing": 0,
        "planned": 0,
        "reserved": 0,
        "max_concurrent_io": 8,
        "grants": [],
        "free": 1000,
        "reserved_bytes": 0,
    } | given


def report(*devices: dict[str, Any], pids: tuple[int, ...] = (ME,), unavailable: float | None = None) -> dict[str, Any]:
    return {
        "daemon": {"dss": {"url": "", "unavailable_s": unavailable}},
        "families": [
            {"family": "tape", "waiting": [{"pid": ME}], "devices": []},
            {"family": "dir", "waiting": [{"pid": pid} for pid in pids], "devices": list(devices)},
        ],
    }


def test_nothing_to_say_of_a_request_that_does_not_wait() -> None:
    assert what_is_in_the_way(report(device(), pids=(1, 2)), "dir", ME) == ""


def test_requests_ahead_are_counted() -> None:
    assert what_is_in_the_way(report(device(), pids=(1, 2, ME, 3)), "dir", ME) == "waiting: 2 requests ahead"


def test_busy_devices_say_who_is_there() -> None:
    busy = device(ongoing=7, reserved=1, grants=[{"pid": 5}, {"pid": 6}, {"pid": 5}, {"pid": None}])
    assert what_is_in_the_way(report(busy, device(path="/b")), "dir", ME) == (
        "waiting: /a busy, 8 of 8 I/Os by pid 5, 6"
    )


def test_devices_out_of_order_say_why() -> None:
    text = what_is_in_the_way(
        report(device(status="failed", reason="I/O error"), device(reserved_bytes=1000)), "dir", ME
    )
    assert text == "waiting: /a failed: I/O error; /a all free space is reserved"


def test_a_dss_that_does_not_answer_is_named() -> None:
    assert "the DSS has not answered for 3.0 s" in what_is_in_the_way(report(unavailable=3.0), "dir", ME)


@dataclass(frozen=True)
class Unreachable(Site):
    """A site of which one look after the other learns nothing."""

    why: Callable[[], Exception] = OSError

    def connect(self) -> Client:
        raise self.why()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Site], str]:
    """What a person at a terminal is told when the time to look has come."""

    def look(site: Site) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with says_what_it_waits_for(site, "dir"):
            signal.raise_signal(signal.SIGALRM)
        return capsys.readouterr().err

    return look


@pytest.mark.parametrize("error", [SettingsError("is not TOML"), OSError(errno.ECONNREFUSED, "gone")])
def test_a_look_that_fails_does_not_end_what_waits(looked: Callable[[Site], str], error: Exception) -> None:
    assert looked(Unreachable(why=lambda: error)) == ""


def test_a_daemon_that_does_not_answer_is_told_of(looked: Callable[[Site], str]) -> None:
    error = TimeoutError(errno.ETIMEDOUT, "no answer", "/run/lrs")
    assert looked(Unreachable(why=lambda: error)) == "lrs: waiting: /run/lrs: no answer\n"


def test_a_look_is_not_begun_before_the_last_one_has_ended(looked: Callable[[Site], str]) -> None:
    looks = 0

    def interrupted() -> Exception:
        nonlocal looks
        looks += 1
        assert looks == 1
        signal.raise_signal(signal.SIGALRM)
        return OSError(errno.ECONNREFUSED, "gone")

    assert looked(Unreachable(why=interrupted)) == ""
    assert looks == 1
