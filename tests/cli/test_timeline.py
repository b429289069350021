from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from lrs_trio.observe.timeline import Share
from tests.cli.conftest import Lrs
from tests.observe.samples import PlayedTapeSite, write_recording


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "trace.gz"
    write_recording(path, PlayedTapeSite(requests=40, death_s=300).events())
    return path


def test_the_picture_is_written_and_the_shares_are_printed(recording: Path, lrs: Lrs) -> None:
    done = lrs("timeline", recording)
    picture = recording.with_suffix(".html")
    assert (done.returncode, done.stderr) == (0, f"lrs: the picture is {picture}\n")
    page = picture.read_text()
    assert "Devices and requests on silo1" in page
    assert "From 2026-11-18" in page
    title, heading, *rows = done.stdout.splitlines()
    assert title == "family tape"
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert all(share.value in heading for share in Share)
    assert [row.split()[0] for row in rows] == [*(f"10WT{number:06}" for number in range(1, 9)), "all"]
    for row in rows:
        shares = [float(word) for word, sign in zip(row.split(), row.split()[1:], strict=False) if sign == "%"]
        assert len(shares) == len(Share)
        assert sum(shares) == pytest.approx(100, abs=0.4)


def test_json_has_everything_and_no_picture(recording: Path, lrs: Lrs) -> None:
    done = lrs("timeline", recording, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert not recording.with_suffix(".html").exists()
    report = json.loads(done.stdout)
    assert report["version"] == 1
    assert len(report["requests"]) == sum(report["outcomes"].values()) == 40
    assert len(report["devices"]) == 8
    for device in report["devices"]:
        edges = [device["begin_s"], *(interval["end_s"] for interval in device["intervals"])]
        assert [interval["begin_s"] for interval in device["intervals"]] == edges[:-1]
        assert edges[-1] == device["end_s"]
        assert sum(device["shares_s"].values()) == pytest.approx(device["end_s"] - device["begin_s"])
        assert sum(device["percent"].values()) == pytest.approx(100, abs=0.01)
    (dead,) = [device for device in report["devices"] if "quarantined" in device["states_s"]]
    assert [fault["kind"] for fault in dead["faults"]][-2:] == ["medium.unmount_failed", "device.failed"]
    assert report["families"]["tape"]["percent"]["streaming"] > 0
    assert all(release["media"] == 1 for release in report["releases"])


def test_a_part_of_the_time(recording: Path, tmp_path: Path, lrs: Lrs) -> None:
    picture = tmp_path / "part.html"
    done = lrs("timeline", recording, "--from", "100", "--to", "200.5", "--json", "--output", picture)
    report = json.loads(done.stdout)
    assert (report["begin_s"], report["end_s"]) == (100, 200.5)
    assert {device["end_s"] - device["begin_s"] for device in report["devices"]} == {100.5}
    assert "for 1 min 40 s" in picture.read_text()


@pytest.mark.parametrize("begin", ["-1", "-1e308", "-inf"])
def test_before_the_recording_is_where_it_begins(recording: Path, lrs: Lrs, begin: str) -> None:
    whole = json.loads(lrs("timeline", recording, "--json").stdout)
    done = lrs("timeline", recording, "--json", "--from", begin, "--to", "inf")
    assert json.loads(done.stdout) == whole


@pytest.mark.parametrize("part", [("--from", "9", "--to", "9"), ("--from", "1e9"), ("--from", "nan"), ("--to", "-1")])
def test_a_part_with_nothing_in_it_is_a_mistake(recording: Path, lrs: Lrs, part: tuple[str, ...]) -> None:
    done = lrs("timeline", recording, *part)
    assert done.returncode == 2
    assert "leave nothing of the recording" in done.stderr


def test_other_files_are_refused_and_none_is_overwritten(recording: Path, tmp_path: Path, lrs: Lrs) -> None:
    assert lrs("timeline", tmp_path / "nothing").returncode == errno.ENOENT
    other = tmp_path / "other"
    other.write_text("something else\n")
    done = lrs("timeline", other)
    assert done.returncode == errno.EINVAL
    assert "is not a trace" in done.stderr
    before = recording.read_bytes()
    renamed = recording.rename(tmp_path / "events.html")
    done = lrs("timeline", renamed)
    assert (done.returncode, renamed.read_bytes()) == (errno.EINVAL, before)
    assert lrs("timeline", renamed, "--output", tmp_path / "no" / "such").returncode == errno.ENOENT
