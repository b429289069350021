from __future__ import annotations

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
    grant = {"kind": "write", "state": "ongoing", "client": 7, "pid": 99, "uid": 0, "age_s": 2.0}
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
    drives_table, times, *others = printed(capsys, report)
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
        ["1 request without an answer yet", "request state client pid age", "read queued 8 - 1.5 s"],
        ["1 grant", "medium I/O state client pid age", "P1L8 write ongoing 7 99 2.0 s"],
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
