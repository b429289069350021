from __future__ import annotations

from typing import Any

import pytest

from lrs_trio.cli.family_report import print_family
from tests.cli.samples import drive_report, family_report


def printed(capsys: pytest.CaptureFixture[str], report: dict[str, object]) -> list[list[str]]:
    """The lines of each table that is printed, without the blanks between its columns."""
    print_family(report)
    tables = capsys.readouterr().out.strip().split("\n\n")
    return [[" ".join(line.split()) for line in table.splitlines()] for table in tables]


def test_tapes(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = {"requests": 3, "bytes": 2**30, "age_s": 4.0}
    grant = {"medium": "P1L8", "kind": "write", "state": "ongoing", "client": 7, "pid": 99, "uid": 1000, "age_s": 2.0}
    drives = [
        drive_report(
            "/dev/st1",
            "BBB2",
            address=257,
            status="failed",
            since_s=7200.0,
            times={"mounted": 90.0, "failed": 7200.0},
            reason="the drive does not answer",
        ),
        drive_report(
            "/dev/st0",
            "AAA1",
            address=256,
            status="mounted",
            since_s=61.5,
            times={"loading": 30.0, "mounted": 61.5},
            dedicated_to="RW",
            medium="P1L8",
            medium_adm_status="locked",
            fs_status="used",
            ongoing=1,
            sync_cost={"base_s": 2.52, "per_file_s": 0.000104, "syncs": 32},
            grants=[grant],
            to_sync=waiting,
            free=2**40,
        ),
    ]
    report = family_report(
        "tape",
        drives,
        volumes=1,
        free=2**40,
        queued={"write": 2, "read": 0, "format": 0},
        waiting=[{"kind": "read", "state": "queued", "client": 8, "pid": None, "uid": None, "age_s": 1.5}],
        media={"shelf": 38, "drives": 1},
        suspects=[{"drive": "AAA1", "medium": "P00002L8", "what": "2 failed loads"}, {"drive": None, "medium": "X"}],
    )
    drives_table, times, costs, *others = printed(capsys, report)
    assert costs == [
        "what a sync takes",
        "drive medium at least per file on it syncs",
        "/dev/st0 P1L8 2.5 s 0.10 ms 32",
    ]
    assert drives_table == [
        "family tape: 2 write queued, 1.0 TiB free on 1 writable medium; 1 in drives, 38 on the shelf",
        "drive serial library status for medium filesystem I/O planned serves to sync free remark",
        "/dev/st0 AAA1 legacy mounted 61.5 s P1L8 used 1/1 0 RW 3 releases, 1.0 GiB, 4.0 s old 1.0 TiB locked medium",
        "/dev/st1 BBB2 legacy failed 2 h none 0/1 0 - - the drive does not answer",
    ]
    assert times == [
        "time in each status",
        "drive loading mounted failed",
        "/dev/st0 30.0 s 61.5 s -",
        "/dev/st1 - 90.0 s 2 h",
    ]
    assert others == [
        ["2 suspects", "drive medium what", "AAA1 P00002L8 2 failed loads", "- X -"],
        ["1 request without an answer yet", "request state client pid uid age", "read queued 8 - - 1.5 s"],
        ["1 grant", "medium I/O state client pid uid age", "P1L8 write ongoing 7 99 1000 2.0 s"],
    ]


def test_tapes_of_a_daemon_that_says_less(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = printed(
        capsys, family_report("tape", [drive_report("/dev/st0", "AAA1")], media={"shelf": 0, "drives": 0})
    )
    assert table[0] == "family tape: no request queued, 0 B free on 0 writable media; 0 in drives, 0 on the shelf"
    assert table[2] == "/dev/st0 AAA1 legacy empty - none 0/1 0 - -"


def test_directories_have_filesystems(capsys: pytest.CaptureFixture[str]) -> None:
    directory = drive_report("/a", "here:/a", status="mounted", medium="/a", fs_status="used", free=1024)
    (table,) = printed(capsys, family_report("dir", [directory], volumes=1, free=1024))
    title, heading, row = table
    assert title == "family dir: no request queued, 1.0 KiB free on 1 filesystem"
    assert heading.startswith("device library status medium")
    assert row == "/a legacy mounted unlocked used 0/1 0 - 1.0 KiB"


def directory_report(path: str, **more: Any) -> dict[str, Any]:
    return drive_report(path, path, **({"status": "mounted"} | more))


def test_of_very_many_devices_those_that_matter_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    devices = [directory_report(f"/srv/{number}") for number in range(200)]
    devices[150] = directory_report("/srv/broken", status="failed", reason="no such directory")
    devices[170] = directory_report("/srv/busy", ongoing=1)
    report = family_report("dir", devices, volumes=1, free=1, queued={"write": 100_000, "read": 0, "format": 0})
    counts, _, _, first, second, *others = printed(capsys, report)[0]
    assert counts == ("200 devices (199 mounted, 1 failed), 1 I/O, 0 planned; 60 of them follow, --all shows all")
    assert (first.split()[0], second.split()[0], len(others)) == ("/srv/broken", "/srv/busy", 58)
    print_family(report, everything=True)
    assert len(capsys.readouterr().out.splitlines()) == 202


def test_the_oldest_of_very_many_requests_and_grants_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    request = {"kind": "read", "state": "queued", "client": 8, "pid": 1, "uid": 0, "age_s": 5.0}
    grants = [
        {"medium": "m", "kind": "write", "state": "ongoing", "client": 7, "pid": 9, "uid": 1, "age_s": float(age)}
        for age in range(100)
    ]
    report = family_report(
        "dir", [directory_report("/srv/a", grants=grants)], volumes=1, free=1, waiting=[request] * 200
    )
    _, waiting, held = printed(capsys, report | {"unanswered": 100_000})
    assert (waiting[0], len(waiting)) == ("100000 requests without an answer yet, the oldest 60", 62)
    assert (held[0], len(held)) == ("100 grants, the oldest 60", 62)
    assert held[2].endswith("99.0 s")
    *_, held = printed(capsys, report | {"grants_left_out": 900})
    assert (held[0], len(held)) == ("1000 grants, the oldest 60", 62)
    print_family(report | {"grants_left_out": 900}, everything=True)
    assert "1000 grants, the oldest 100\n" in capsys.readouterr().out


def test_the_oldest_grants_are_shown_whatever_their_devices_are(capsys: pytest.CaptureFixture[str]) -> None:
    grant = {"kind": "write", "state": "ready", "client": 7, "pid": 9, "uid": 1}
    devices = [
        directory_report(f"/srv/{number}", planned=1, grants=[{"medium": f"m{number}", "age_s": float(number)} | grant])
        for number in range(200)
    ]
    *_, held = printed(capsys, family_report("dir", devices, volumes=1, free=1))
    assert (held[0], len(held)) == ("200 grants, the oldest 60", 62)
    assert held[2] == "m199 write ready 7 9 1 3 min"
