from __future__ import annotations

from typing import Any

from lrs_trio.cli.waiting import what_is_in_the_way

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
