"""The trace of a daemon: what it was asked and what it answered, beside what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness import LIBRARY, Site
from lrs_trio.daemon import Daemon
from lrs_trio.dss.operations import AddDirectory
from lrs_trio.errors import AlreadyRunningError
from lrs_trio.model import AdmStatus, Device, Family, FsType, Medium, NotifyOperation, RequestKind, ResourceId
from lrs_trio.observe.recording import read_recording
from lrs_trio.observe.tracefile import TraceReader
from lrs_trio.settings_sources import load_settings
from lrs_trio.simulation.replay.recorded import Held, Workload
from lrs_trio.simulation.replay.recorded_reading import read_workload
from lrs_trio.wire.framing import encode_frame
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    Notified,
    Notify,
    Released,
    Status,
    StatusReport,
    WriteGranted,
)
from tests.daemon.conftest import change_dss, device_of, release, serving, write


async def traced(site: Site, path: Path) -> Workload:
    """The trace of a daemon that formats two directories and has one file written, by a client without manners."""
    async with serving(site, f"events.trace={path}") as running, running.connect() as caller:
        (medium,) = await caller.hold(1234)
        await caller.send_bytes(encode_frame(b"\x08\x05"))
        assert isinstance((await caller.receive()).body, Failed)
        await caller.ask(release(medium, size=1234), Released)
        running.count(medium, size=1234)
    return read_workload(path)


async def test_a_trace_has_every_request_and_response(sqlite_site: Site, tmp_path: Path) -> None:
    workload = await traced(sqlite_site, tmp_path / "trace")
    administrator, client, *_ = workload.conversations
    assert [asked.request.body for asked in administrator.asked] == [
        Format(medium, FsType.POSIX, unlock=True) for medium in sqlite_site.media
    ]
    assert [type(asked.answer.body) for asked in administrator.asked if asked.answer] == [Formatted, Formatted]
    asking, giving_back = client.asked
    assert asking.request.body == write(1234)
    assert asking.answer is not None
    assert isinstance(asking.answer.body, WriteGranted)
    (granted,) = asking.answer.body.media
    assert giving_back.request.body == release(granted.medium, size=1234)
    assert giving_back.gives_back == (Held(0, 0),)
    assert giving_back.answer is not None
    assert giving_back.answer.body == Released((granted.medium,), RequestKind.RELEASE_WRITE)
    assert client.opened < asking.time < asking.answer.time < giving_back.time < giving_back.answer.time
    assert client.closed is not None
    assert client.closed > giving_back.answer.time


async def test_a_trace_has_what_there_was(sqlite_site: Site, tmp_path: Path) -> None:
    inventory = (await traced(sqlite_site, tmp_path / "trace")).inventory
    assert [device.id for device in inventory.devices] == [
        device_of(sqlite_site, medium) for medium in sqlite_site.media
    ]
    assert [medium.id for medium in inventory.media] == list(sqlite_site.media)
    assert {medium.adm_status for medium in inventory.media} == {AdmStatus.LOCKED}
    assert inventory.settings.host == sqlite_site.host


async def test_the_bytes_of_what_nobody_understands_are_kept(sqlite_site: Site, tmp_path: Path) -> None:
    await traced(sqlite_site, tmp_path / "trace")
    raw = [line.values["raw"] for line in TraceReader(tmp_path / "trace") if "raw" in line.values]
    assert raw == ["CAU="]


async def test_reports_are_not_kept(sqlite_site: Site, tmp_path: Path) -> None:
    async with serving(sqlite_site, f"events.trace={tmp_path / 'trace'}") as running:
        report = await running.ask(Status(), StatusReport)
    answers = [line.values for line in TraceReader(tmp_path / "trace") if line.kind == "response"]
    lengths = [values["status"]["length"] for values in answers if "status" in values]
    assert len(report.status) in lengths
    assert report.status not in (tmp_path / "trace").read_text(errors="replace")


async def test_events_come_between_what_causes_them(sqlite_site: Site, tmp_path: Path) -> None:
    await traced(sqlite_site, tmp_path / "trace")
    kinds = [line.kind for line in TraceReader(tmp_path / "trace")]
    granted = kinds.index("allocation.granted")
    assert kinds[granted + 1] == "response"
    given_back = kinds.index("release.begun")
    assert kinds[given_back - 1] == "request"
    assert kinds[-1] == read_recording(tmp_path / "trace").events[-1].kind.value


async def test_a_start_that_fails_leaves_the_trace_of_the_one_that_runs(sqlite_site: Site, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    async with serving(sqlite_site, f"events.trace={path}") as running:
        await running.ask(Status(), StatusReport)
        second = load_settings(
            sqlite_site.config, {}, [f"events.trace={path}", f"dss.url=sqlite://{tmp_path / 'another'}"]
        )
        for _ in range(2):
            with pytest.RaisesGroup(AlreadyRunningError):
                await Daemon(second).run()
    assert list(tmp_path.glob("trace*")) == [path]
    assert {"request", "response"} <= {line.kind for line in TraceReader(path)}


async def test_without_the_setting_nobody_is_told(sqlite_site: Site) -> None:
    async with serving(sqlite_site) as running:
        assert running.daemon.events.on_message is None


async def test_what_is_added_later_is_told_as_it_was_then(sqlite_site: Site, tmp_path: Path) -> None:
    path = sqlite_site.base / "later"
    path.mkdir()
    medium = ResourceId(Family.DIR, str(path), LIBRARY)
    device = Device(device_of(sqlite_site, medium), sqlite_site.host, str(path), AdmStatus.UNLOCKED)
    async with serving(sqlite_site, f"events.trace={tmp_path / 'trace'}") as running, running.connect() as caller:
        assert await caller.refused(Format(medium._replace(name="nowhere"), FsType.POSIX)) != 0
        await change_dss(sqlite_site, AddDirectory(device, Medium(medium, FsType.POSIX)))
        await caller.ask(Notify(device.id, NotifyOperation.DEVICE_ADD), Notified)
        await caller.ask(Format(medium, FsType.POSIX, unlock=True), Formatted)
        await caller.ask(Notify(device.id, NotifyOperation.DEVICE_LOCK), Notified)
    inventory = read_workload(tmp_path / "trace").inventory
    assert inventory.devices[-1] == device
    assert [row.id for row in inventory.media] == [*sqlite_site.media, medium]
    assert inventory.media[-1] == Medium(medium, FsType.POSIX)
