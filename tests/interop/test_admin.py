"""What needs no device: ping, monitor, stats, sched fair_share, and other settings of the daemon that runs."""

from __future__ import annotations

import errno
import json

import pytest

from lrs_trio.model import ConfigureOperation, Family, FsType, NotifyOperation, ReadOperation, RequestKind, ResourceId
from lrs_trio.wire.codec import decode_response
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Format,
    Monitor,
    Notified,
    Notify,
    Pong,
    ReadAllocation,
    Release,
    ReleasedMedium,
    RequestBody,
    Stat,
    Statistics,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.interop.captured import assert_as_captured, captured
from tests.interop.conftest import MakeDirectory, MakeHost, MakePhobos, on_another_filesystem, refusal
from tests.interop.phobos import Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import RAID4, Target, copy_create, get, put, putting

CONTENT = b"c" * 1000


def test_ping(phobos: Phobos) -> None:
    with expected_rows(phobos.database.connection):
        phobos.ping()
    assert_as_captured(phobos.said, "01_ping", phobos.host.name)


def test_monitor(phobos: Phobos, directory: MakeDirectory) -> None:
    directories = [directory(str(number)) for number in range(3)]
    phobos.dir_ready(*directories)
    put(phobos, "object", CONTENT, layout=RAID4)
    with expected_rows(phobos.database.connection):
        phobos.monitor()
    assert_as_captured(
        phobos.said, "24_monitor_admin_api", phobos.host.name, [directory.path for directory in directories]
    )


def test_monitor_while_somebody_writes(phobos: Phobos, directory: MakeDirectory, make_phobos: MakePhobos) -> None:
    d1, d2 = directory("1"), directory("2")
    phobos.dir_ready(d1)
    phobos.dir_add(d2)
    writing = putting(phobos, [Target("object", CONTENT)])
    assert next(writing) == "granted"
    found = make_phobos(phobos.host).monitor()
    assert [(device["name"], device["ongoing_io"], device["media"], device["mount_path"]) for device in found] == [
        (str(d1.path), True, str(d1.path), str(d1.path)),
        (str(d2.path), False, str(d2.path), ""),
    ]


def test_stats(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    """The same metrics as those of the C daemon, in its order, and what a few commands do to them."""
    host = make_host("store1")
    host.start()
    phobos = make_phobos(host)
    phobos.ping()
    phobos.stats("req", "count", "request=PING")
    assert_as_captured(phobos.said, "26_stats_filtered", host.name)

    directories = [host.directory(str(number)) for number in range(3)]
    phobos.dir_ready(*directories)
    names = {
        f"{host.name}:{directory.path}": f"vm:/mnt/arch/dirs/cap/d{n}" for n, directory in enumerate(directories, 1)
    }
    reference = [(metric["name"], metric.get("tags", "")) for metric in captured_stats()]
    metrics = phobos.stats()
    found = [(metric["name"], renamed(metric.get("tags", ""), names)) for metric in metrics]
    assert [metric for metric in found if metric in reference] == reference

    put(phobos, "object", CONTENT, layout=RAID4)
    copy_create(phobos, "object", "c2")
    assert get(phobos, "object") == CONTENT
    # Three extents of 500 bytes, and one of 1000.
    assert differences(metrics, phobos.stats()) == {
        "req.count request=READ": 2,
        "req.count request=WRITE": 2,
        "req.count request=RELEASE": 4,
        "req.count request=STAT": 1,
        "req.media_requested request=READ": 4,
        "req.media_requested request=WRITE": 4,
        "req.tosync_media_cnt request=RELEASE": 4,
        "req.tosync_size request=RELEASE": 2500,
        "req.tosync_extents request=RELEASE": 4,
        "req.nosync_media_cnt request=RELEASE": 4,
        "dev.nb_mount": 3,
        "dev.requested_sync": 4,
        "dev.effective_sync": 4,
        "dev.total_tosync_size": 2500,
        "dev.total_tosync_extents": 4,
    }


def captured_stats() -> list[dict[str, object]]:
    (_, response) = captured("25_stats")
    (payload,) = FrameDecoder().feed(response.frame)
    body = decode_response(payload).body
    assert isinstance(body, Statistics)
    found = json.loads(body.stats)
    assert isinstance(found, list)
    return found


def renamed(tags: str, names: dict[str, str]) -> str:
    for name, captured_name in names.items():
        tags = tags.replace(name, captured_name)
    return tags


def differences(before: list[dict[str, object]], after: list[dict[str, object]]) -> dict[str, int]:
    """How much has been added since, in all directories together."""
    sums: dict[str, int] = {}
    for sign, metrics in ((-1, before), (1, after)):
        for metric in metrics:
            tags = str(metric.get("tags", ""))
            name = f"{metric['name']} {tags if tags.startswith('request=') else ''}".strip()
            if not name.startswith("dss."):
                sums[name] = sums.get(name, 0) + sign * int(str(metric["value"]))
    return {name: number for name, number in sums.items() if number}


def test_fair_share(phobos: Phobos) -> None:
    with expected_rows(phobos.database.connection):
        assert phobos.fair_share("LTO5") == ["", ""]
        assert_as_captured(phobos.said, "31_sched_fair_share_get", phobos.host.name)
        phobos.set_fair_share("LTO5", "1,1,1", "2,2,2")
        assert_as_captured(phobos.said, "32_sched_fair_share_set", phobos.host.name)
        assert phobos.fair_share("LTO5") == ["1,1,1", "2,2,2"]
        assert phobos.fair_share("LTO6") == ["", ""]


def test_configuration(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    """What the file says, and nothing where it says nothing; what is set wins."""
    host = make_host("store1")
    host.start(lrs={"policy": "first_fit"})
    phobos = make_phobos(host)
    keys = [("lrs", "families"), ("lrs", "policy"), ("lrs", "max_health"), ("nosuch", "key"), ("lrs", "nosuch")]
    assert phobos.configuration(*keys) == ["dir", "first_fit", "", "", ""]
    phobos.configure(("lrs", "policy", "best_fit"), ("lrs", "max_health", "3"))
    assert phobos.configuration(*keys) == ["dir", "best_fit", "3", "", ""]


def test_settings_that_are_read_again(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    host = make_host("store1")
    host.start()
    phobos = make_phobos(host)
    with on_another_filesystem(host.base) as below:
        two = host.directory("1"), host.directory("2", below=below)
        phobos.dir_ready(*two)
        free = {one: phobos.database.medium(one.medium)["stats"]["phys_spc_free"] for one in two}
        small, large = sorted(free, key=lambda one: free[one])
        with expected_rows(phobos.database.connection) as rows:
            put(phobos, "best fit", CONTENT, grouping="g1")
            rows.count(small, 1, len(CONTENT))
        phobos.configure(("lrs", "policy", "first_fit"), ("lrs", "grouping_on_dir", "true"))
        with expected_rows(phobos.database.connection) as rows:
            put(phobos, "first fit", CONTENT, grouping="g1")
            rows.count(two[0], 1, len(CONTENT))
            rows.medium(two[0], groupings=["g1"])
        phobos.configure(("lrs", "policy", "best_fit"))
        with expected_rows(phobos.database.connection) as rows:
            put(phobos, "of the grouping", CONTENT, grouping="g1")
            put(phobos, "best fit again", CONTENT)
            rows.count(two[0], 1, len(CONTENT))
            rows.count(small, 1, len(CONTENT))
        assert {small, large} == set(two)
        phobos.remove(*two)


def test_thresholds_stay_what_they_were_at_the_start(phobos: Phobos, directory: MakeDirectory) -> None:
    phobos.dir_ready(directory("1"))
    phobos.configure(("lrs", "sync_nb_req", "dir=1"))
    with phobos.command() as command:
        granted = command.connect().ask(0, WriteAllocation((WriteMedium(4096),), Family.DIR), WriteGranted)
    assert granted.thresholds is not None
    assert granted.thresholds.requests == 5


TAPE = ResourceId(Family.TAPE, "P00003L5", "legacy")
UNKNOWN = ResourceId(Family.DIR, "/nowhere", "legacy")
WRITTEN = ReleasedMedium(UNKNOWN, 0, 1000, 1, to_sync=True)


@pytest.mark.parametrize(
    ("body", "number", "kind"),
    [
        (WriteAllocation((WriteMedium(1000),), Family.TAPE), errno.EINVAL, RequestKind.WRITE),
        (WriteAllocation((WriteMedium(1000),), Family.RADOS_POOL), errno.EINVAL, RequestKind.WRITE),
        (WriteAllocation((), Family.DIR), errno.EINVAL, RequestKind.WRITE),
        (WriteAllocation((WriteMedium(1000),), Family.DIR), errno.ENOSPC, RequestKind.WRITE),
        (ReadAllocation(1, (TAPE,)), errno.EINVAL, RequestKind.READ),
        (ReadAllocation(1, ()), errno.EINVAL, RequestKind.READ),
        (ReadAllocation(1, (UNKNOWN,)), errno.ENXIO, RequestKind.READ),
        (ReadAllocation(1, (UNKNOWN,), ReadOperation.DELETE), errno.ENXIO, RequestKind.READ),
        (Release((WRITTEN,), RequestKind.RELEASE_WRITE), errno.ENODEV, RequestKind.RELEASE_WRITE),
        (Release((WRITTEN,), RequestKind.RELEASE_READ), errno.ENODEV, RequestKind.RELEASE_READ),
        (Format(TAPE, FsType.LTFS), errno.EINVAL, RequestKind.FORMAT),
        (Format(UNKNOWN, FsType.POSIX), errno.ENXIO, RequestKind.FORMAT),
        (Notify(UNKNOWN, NotifyOperation.DEVICE_ADD), errno.ENXIO, RequestKind.NOTIFY),
        (Notify(UNKNOWN, NotifyOperation.DEVICE_UNLOCK), errno.ENXIO, RequestKind.NOTIFY),
        (Notify(UNKNOWN, NotifyOperation.MEDIA_UPDATE), errno.ENXIO, RequestKind.NOTIFY),
        (Notify(TAPE, NotifyOperation.DEVICE_ADD), errno.EINVAL, RequestKind.NOTIFY),
        (Monitor(Family.TAPE), errno.EINVAL, RequestKind.MONITOR),
        (Configure(ConfigureOperation.GET, ""), errno.EPROTO, RequestKind.CONFIGURE),
        (Configure(ConfigureOperation.SET, ""), errno.EPROTO, RequestKind.CONFIGURE),
        (Configure(ConfigureOperation.GET, "{"), errno.EINVAL, RequestKind.CONFIGURE),
        (Configure(ConfigureOperation.GET, "{}"), errno.EINVAL, RequestKind.CONFIGURE),
        (Configure(ConfigureOperation.SET, '[{"section":"lrs","key":"policy"}]'), errno.EINVAL, RequestKind.CONFIGURE),
        # This one has no kind of its own in errors.
        (Stat(tags="request"), errno.EINVAL, RequestKind.WRITE),
    ],
)
def test_errors_name_the_kind_of_the_request(phobos: Phobos, body: RequestBody, number: int, kind: RequestKind) -> None:
    with phobos.command() as command, expected_rows(phobos.database.connection):
        assert refusal(command.connect().ask, 7, body, Pong) == (number, kind)


def test_what_is_not_awaited_is_not_answered_even_if_it_fails(phobos: Phobos) -> None:
    silent = ReleasedMedium(UNKNOWN, -errno.EIO, 0, 0, to_sync=False)
    with phobos.command() as command, expected_rows(phobos.database.connection):
        connection = command.connect()
        for operation in NotifyOperation:
            for resource in (UNKNOWN, TAPE):
                connection.tell(Notify(resource, operation, wait=False))
        for kind in (RequestKind.RELEASE_READ, RequestKind.RELEASE_WRITE):
            connection.tell(Release((silent,), kind))
        # Later than any of them is done with.
        assert connection.ask(1, Notify(UNKNOWN, NotifyOperation.DEVICE_LOCK), Notified).resource == UNKNOWN
        connection.assert_silent()


def test_settings_are_set_as_far_as_they_can_be_read(phobos: Phobos) -> None:
    """Those before the one that is wrong stay set."""
    text = '[{"section":"one","key":"key","value":"1"},{"section":"two","key":"key","value":2}]'
    with phobos.command() as command:
        body = Configure(ConfigureOperation.SET, text)
        assert refusal(command.connect().ask, 1, body, Configured) == (errno.EINVAL, RequestKind.CONFIGURE)
    assert phobos.configuration(("one", "key"), ("two", "key")) == ["1", ""]
