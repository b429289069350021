from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lrs_trio.cli.demo.crowd import LIBRARY, DrainSeen
from lrs_trio.cli.demo.daemon import DemoSite
from lrs_trio.cli.demo.ledger import Failure, Ledger, Order, Written, make_tape_orders
from lrs_trio.cli.demo.tape_checks import (
    misplaced,
    on_cartridges,
    other_times,
    single_copies,
    syncs_during_io,
    time_lost,
    unexplained,
    without_end,
)
from lrs_trio.cli.demo.tape_report import Outcome, Record, print_checks, print_summary
from lrs_trio.cli.demo.tape_site import MAGNIFICATION, TapePace, kill_drive, open_library
from lrs_trio.cli.lrs import lrs
from lrs_trio.dss.operations import (
    AddDevice,
    AddMedia,
    MediumUpdate,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.errors import LrsError
from lrs_trio.events import Event, EventKind
from lrs_trio.model import AdmStatus, Device, Family, FsType, LockOwner, LockType, Medium, ResourceId
from lrs_trio.observe.recording import Recording
from lrs_trio.observe.replay import build_timeline
from lrs_trio.observe.timeline import DeviceLife, Interval, State
from lrs_trio.observe.timeline import Outcome as RequestOutcome
from lrs_trio.observe.tracefile import Header
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.space import FullThreshold
from lrs_trio.storage.virtual.content import content_of
from lrs_trio.storage.virtual.description import description_path
from lrs_trio.storage.virtual.library import create
from lrs_trio.storage.virtual.state import StateFile
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S

BROKEN = "VD0003"
TAPES = ("V00001L8", "V00002L8")


def test_files_for_tapes_are_always_the_same_and_have_two_copies() -> None:
    orders = make_tape_orders(50)
    assert orders == make_tape_orders(50)
    assert {order.copies for order in orders} == {2}
    assert all(order.size for order in orders)


def test_clients_take_the_time_of_a_tape(site: DemoSite) -> None:
    generation = open_library(site).drives[0].generation
    pace = TapePace(generation, 100)
    assert pace.write_s(generation.rate // MAGNIFICATION) == pytest.approx(0.01, rel=1e-3)
    assert pace.read_s(1000, 10**6) > pace.read_s(1000, 0) > pace.write_s(1000)
    assert pace.limit(1000) > pace.real(1000) == 10


async def test_a_drive_is_killed_in_a_library_that_is_open(site: DemoSite) -> None:
    library = open_library(site)
    devices = [Device(resource(drive.serial), "host", drive.path, model=drive.model) for drive in library.drives]
    kill_drive(site, BROKEN)
    for device in devices:
        drive = library.unit(device, f"{site.base}/mnt-", FullThreshold(5)).drive
        if device.id.name == BROKEN:
            with pytest.raises(LrsError, match="dead"):
                await drive.query(device)
        else:
            assert (await drive.query(device)).serial == device.id.name


# What is checked, each with what violates it.


def written(name: str = "000007", media: tuple[str, ...] = TAPES) -> Written:
    return Written(Order(7, 100, 2), (Path("/mnt/files", name),), media)


def test_copies_on_one_tape_are_told() -> None:
    assert single_copies([written()]) == []
    assert len(single_copies([written(media=("V00001L8", "V00001L8")), written(media=("V00001L8",))])) == 2


def test_files_are_looked_for_on_the_cartridges() -> None:
    (file,) = on_cartridges([written()], Path("/lib"))
    assert file.paths == tuple(content_of(Path("/lib"), name) / "files" / "000007" for name in TAPES)


@pytest.mark.parametrize(
    ("time", "number", "media", "explained"),
    [
        (11, errno.EIO, TAPES, True),
        (11, errno.EIO, (), True),
        (11, errno.ESHUTDOWN, (), True),
        (9, errno.ENOSPC, (), True),
        (9, errno.EIO, TAPES, False),  # nothing was broken then
        (11, errno.EIO, TAPES[1:], False),  # it is another tape that is in the drive
        (11, errno.EINVAL, (), False),
        (11, errno.ECONNRESET, TAPES, False),
        (11, 0, TAPES, False),
    ],
)
def test_failures_have_a_reason(time: float, number: int, media: tuple[str, ...], explained: bool) -> None:
    assert (unexplained([Failure(time, number, "write", media)], 10, TAPES[0]) == []) is explained


def event(time: float, kind: EventKind, device: str = "VD0001", **more: Any) -> Event:
    return Event(time, kind, family="tape", device=device, **more)


def test_requests_without_an_end_are_told() -> None:
    queued = event(1, EventKind.ALLOCATION_QUEUED, "", request="WRITE", client="c", serial=1)
    refused = event(2, EventKind.ALLOCATION_REFUSED, "", client="c", serial=1)
    for events, outcome in (
        ([queued], RequestOutcome.UNFINISHED),
        ([queued, refused], RequestOutcome.REFUSED),
    ):
        (request,) = build_timeline(events).requests
        assert request.outcome is outcome
        assert len(without_end([request])) == 1
    assert without_end(build_timeline([queued, replace(refused, errno=errno.ESHUTDOWN)]).requests) == []


def test_syncs_while_io_goes_on_are_told() -> None:
    began, ended = event(1, EventKind.IO_BEGUN, serial=1), event(2, EventKind.IO_ENDED, serial=1)
    started, finished = event(3, EventKind.SYNC_STARTED), event(4, EventKind.SYNC_FINISHED)
    assert syncs_during_io([began, ended, started, finished, began, ended]) == []
    assert syncs_during_io([began, event(2, EventKind.SYNC_STARTED, "VD0002"), ended]) == []
    assert len(syncs_during_io([began, started, ended])) == 1
    assert len(syncs_during_io([started, began, finished])) == 1
    assert len(syncs_during_io([began, event(1, EventKind.IO_BEGUN, serial=2), ended, started])) == 1
    assert syncs_during_io([started, event(3, EventKind.SYNC_FAILED), began]) == []


def life(*intervals: Interval, begin: int = 0, end: int = 30) -> DeviceLife:
    return DeviceLife("tape", "VD0001", begin, end, intervals)


def test_drives_whose_times_do_not_add_up_are_told() -> None:
    first, second = Interval(State.EMPTY, 0, 10), Interval(State.MOUNTED, 10, 30)
    assert time_lost([life(first, second)], ["VD0001"]) == []
    assert time_lost([life(first)], ["VD0001"]) != []
    assert time_lost([life(first, replace(second, begin=11))], ["VD0001"]) != []  # a gap
    assert time_lost([life(first, replace(second, begin=9))], ["VD0001"]) != []  # two at a time
    assert time_lost([life(replace(first, end=20), second, end=40)], ["VD0001"]) != []
    assert time_lost([life(first, second)], ["VD0001", "VD0002"]) == ["VD0002: nothing is known of it"]


def test_the_recording_and_the_daemons_own_account_are_compared() -> None:
    drive = build_timeline(
        [
            event(0, EventKind.DEVICE_STATUS, detail="empty"),
            event(5, EventKind.DEVICE_STATUS, detail="mounted"),
            event(6, EventKind.SYNC_STARTED),
            event(8, EventKind.SYNC_FINISHED),
            event(20, EventKind.DEVICE_STATUS, detail="unmounting"),
        ],
        0,
        30,
    ).devices

    def told(**times: float) -> list[str]:
        return other_times(drive, [{"name": "VD0001", "times": times}])

    assert told(empty=5, mounted=10) == []
    assert told(empty=5, mounted=15, unmounting=3) == []
    assert len(told(empty=6, mounted=9)) == 2
    assert len(told(empty=5, mounted=15, failed=3)) == 2
    assert other_times(drive, [{"name": "VD0002", "times": {"empty": 1}}]) != []


def test_cartridges_that_are_not_in_one_place_are_told() -> None:
    slot, drive = Element(ElementKind.SLOT, 1001, True, "A"), Element(ElementKind.DRIVE, 256, True, "B")
    empty, arm = Element(ElementKind.SLOT, 1002), Element(ElementKind.ARM, 0, True, "C")
    assert misplaced([slot, drive, empty], ["A", "B"]) == []
    assert misplaced([slot, drive, empty], ["A", "B", "C"]) == ["C: is in no place"]
    assert misplaced([slot, drive, arm], ["A", "B", "C"]) == ["C: is in arm 0"]
    assert misplaced([slot, replace(slot, address=1003)], ["A"]) == ["A: is in slot 1001 and in slot 1003"]
    assert misplaced([slot, drive], ["A"]) == []


# The whole, with one promise broken after the other.


@pytest.fixture
def site(tmp_path: Path) -> DemoSite:
    """As the demo leaves it: a library, and a DSS in which one file is on two tapes and one drive has failed."""
    site = DemoSite(tmp_path, ())
    create(site.library, description_path("demo"))
    site.log.write_text("the daemon's last words\n")
    library = open_library(site)
    with SqliteHome.open(site.dss) as home:
        for drive in library.drives:
            status = AdmStatus.FAILED if drive.serial == BROKEN else AdmStatus.UNLOCKED
            home.execute(AddDevice(Device(resource(drive.serial), "host", drive.path, status, drive.model)))
        media = [
            Medium(resource(cartridge.label), FsType.LTFS, AdmStatus.UNLOCKED, model=cartridge.model)
            for cartridge in library.cartridges
        ]
        home.execute(AddMedia(tuple(media)))
        home.execute(UpdateMedia(tuple(MediumUpdate(resource(t), add_objects=1, add_logical=100) for t in TAPES)))
    for file in on_cartridges([written()], site.library):
        for path in file.paths:
            path.parent.mkdir()
            path.write_bytes(file.order.content)
    return site


def resource(name: str) -> ResourceId:
    return ResourceId(Family.TAPE, name, LIBRARY)


def a_record(*more: Event, drives: int = 8) -> Record:
    events = [
        event(time, EventKind.DEVICE_STATUS, f"VD{number:04}", detail=status)
        for time, status in ((0, "adopting"), (1, "empty"), (9, "stopped"))
        for number in range(1, drives + 1)
    ]
    recording = Recording(Header("host", 1, 0.0, 0.0, "1.2.3"), (*events, *more))
    timeline = build_timeline(recording.events, 0.0)
    return Record(recording, timeline, timeline)


def an_outcome() -> Outcome:
    ledger = Ledger(written=[written()], failures=[Failure(6.0, errno.EIO, "write", TAPES)])
    reports = [{"name": f"VD{number:04}", "times": {"adopting": 1.0, "empty": 4.0}} for number in range(1, 9)]
    return Outcome(ledger, DrainSeen(1, True, 1), BROKEN, 5.0, TAPES[0], reports, 0)


def test_a_demo_as_it_should_be(site: DemoSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_checks(site, an_outcome(), a_record()) is True
    assert "FAILED" not in capsys.readouterr().out


def _spoil(site: DemoSite, outcome: Outcome) -> None:
    (content_of(site.library, TAPES[1]) / "files" / "000007").write_bytes(b"something else")


def _lose(site: DemoSite, outcome: Outcome) -> None:
    (content_of(site.library, TAPES[0]) / "files" / "000007").unlink()


def _misread(site: DemoSite, outcome: Outcome) -> None:
    outcome.ledger.spoilt.append("other content")


def _fail_early(site: DemoSite, outcome: Outcome) -> None:
    outcome.broken_at = 7.0


def _fail_elsewhere(site: DemoSite, outcome: Outcome) -> None:
    outcome.stuck = "V00009L8"


def _count_more(site: DemoSite, outcome: Outcome) -> None:
    with SqliteHome.open(site.dss) as home:
        home.execute(UpdateMedia((MediumUpdate(resource(TAPES[0]), add_objects=1),)))


def _fail_another_drive(site: DemoSite, outcome: Outcome) -> None:
    with SqliteHome.open(site.dss) as home:
        home.execute(SetDeviceStatus(resource("VD0001"), AdmStatus.FAILED))


def _spare_the_drive(site: DemoSite, outcome: Outcome) -> None:
    with SqliteHome.open(site.dss) as home:
        home.execute(SetDeviceStatus(resource(BROKEN), AdmStatus.UNLOCKED))


def _fail_a_tape(site: DemoSite, outcome: Outcome) -> None:
    with SqliteHome.open(site.dss) as home:
        home.execute(UpdateMedia((MediumUpdate(resource("V00009L8"), adm_status=AdmStatus.FAILED),)))


def _break_no_drive(site: DemoSite, outcome: Outcome) -> None:
    outcome.broken = ""


def _tell_other_times(site: DemoSite, outcome: Outcome) -> None:
    outcome.reports[0]["times"]["failed"] = 1.0


def _go_on_during_the_drain(site: DemoSite, outcome: Outcome) -> None:
    outcome.seen.refused = False


def _forget_a_write_in_the_drain(site: DemoSite, outcome: Outcome) -> None:
    outcome.seen.answered = 0


def _end_badly(site: DemoSite, outcome: Outcome) -> None:
    outcome.status = 3


def _hang(site: DemoSite, outcome: Outcome) -> None:
    outcome.status = None


def _keep_a_lock(site: DemoSite, outcome: Outcome) -> None:
    with SqliteHome.open(site.dss) as home:
        home.execute(TakeLock(LockType.MEDIA, resource(TAPES[0]), LockOwner("host", 5)))


@pytest.mark.parametrize(
    "violate",
    [
        _spoil,
        _lose,
        _misread,
        _fail_early,
        _fail_elsewhere,
        _count_more,
        _fail_another_drive,
        _spare_the_drive,
        _fail_a_tape,
        _break_no_drive,
        _tell_other_times,
        _go_on_during_the_drain,
        _forget_a_write_in_the_drain,
        _end_badly,
        _hang,
        _keep_a_lock,
    ],
)
def test_one_broken_promise_fails_the_demo(
    site: DemoSite, violate: Callable[[DemoSite, Outcome], None], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = an_outcome()
    violate(site, outcome)
    assert print_checks(site, outcome, a_record()) is False
    shown = capsys.readouterr().out
    assert shown.count("FAILED") == 1
    assert "last words" in shown


@pytest.mark.parametrize(
    "more",
    [
        (event(2, EventKind.IO_BEGUN, serial=1), event(3, EventKind.SYNC_STARTED), event(4, EventKind.IO_ENDED)),
        (event(2, EventKind.ALLOCATION_QUEUED, "", request="WRITE", serial=1),),
    ],
)
def test_a_bad_recording_fails_the_demo(
    site: DemoSite, more: tuple[Event, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_checks(site, an_outcome(), a_record(*more)) is False
    assert "FAILED" in capsys.readouterr().out


def test_a_drive_that_is_not_in_the_recording_fails_the_demo(
    site: DemoSite, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = an_outcome()
    outcome.reports.pop()
    assert print_checks(site, outcome, a_record(drives=7)) is False
    assert "VD0008: nothing is known of it" in capsys.readouterr().out


def test_a_tape_that_has_vanished_fails_the_demo(site: DemoSite, capsys: pytest.CaptureFixture[str]) -> None:
    with StateFile(site.library, durable=False).change() as state:
        place = state.place_of("V00040L8")
        assert place is not None
        state.places[place] = None
    assert print_checks(site, an_outcome(), a_record()) is False
    assert "V00040L8: is in no place" in capsys.readouterr().out


def test_the_summary_counts_failures_by_their_errno(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = an_outcome()
    outcome.ledger.failures += [Failure(7.0, errno.EIO, "write"), Failure(8.0, errno.EPROTO, "write")]
    outcome.ledger.given_up = 1
    print_summary(outcome, a_record(), 100)
    shown = capsys.readouterr().out
    assert "2 with EIO (the drive broke), 1 with EPROTO (nobody knows why)" in shown
    assert "1 given up" in shown


# The command.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--tape", "--directories", "3"], "--directories does not go with --tape"),
        (["--speed", "3"], "--speed goes with --tape only"),
        (["--timeline", "x.html"], "--timeline goes with --tape only"),
        (["--tape", "--timeline", "/nowhere/x.html"], "/nowhere/x.html: cannot be written"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(lrs, ["demo", *options])
    assert result.exit_code == 2  # both of the command line, and ENOENT
    assert complaint in result.output


@pytest.mark.note("11")
def test_the_main_job_on_tapes(tmp_path: Path) -> None:
    picture = tmp_path / "picture.html"
    base = tmp_path / "base"
    base.mkdir()
    options = ["--clients", "8", "--files", "40", "--seconds", "4", "--speed", "2000", "--timeline", str(picture)]
    done = subprocess.run(
        [sys.executable, "-m", "lrs_trio.cli.lrs", "demo", "--tape", "--base", str(base), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [line for line in done.stdout.splitlines() if line.startswith(("ok", "FAILED"))]
    assert len(checks) == 11
    assert all(line.startswith("ok") for line in checks)
    assert "VD0008" in picture.read_text()
    assert str(picture) in done.stdout
    assert list(base.iterdir()) == []
