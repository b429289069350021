"""What a site of Phobos counts on, against a whole daemon: changes that nobody tells of, locks of others, configure."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import Site
from lrs_trio.dss.operations import (
    MediumUpdate,
    Operation,
    ReadLocks,
    ReadMedium,
    ReleaseLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.model import (
    LABEL_LENGTH,
    AdmStatus,
    ConfigureOperation,
    FsStatus,
    FsType,
    LockOwner,
    LockType,
    Medium,
    NotifyOperation,
    RequestKind,
    ResourceId,
)
from lrs_trio.storage.root import LABEL_FILE
from lrs_trio.wire.codec import decode_response
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Format,
    Formatted,
    Notified,
    Notify,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    Stat,
    Statistics,
    WriteGranted,
)
from tests.daemon.conftest import (
    Running,
    books_of,
    change_dss,
    device_of,
    media_of,
    mounted,
    read,
    read_dss,
    release,
    serving,
    write,
)

CAPTURED = Path(__file__).parent.parent / "vectors" / "phobos-3.3-frames.jsonl"
ELSEWHERE = LockOwner("elsewhere", 1)
EACH_TIME = "dss.recheck_s=0"
"""For a test that changes the DSS beside the daemon and does not want to wait."""


async def row(site: Site, medium: ResourceId) -> Medium:
    found = await read_dss(site, ReadMedium(medium))
    assert found is not None
    return found.medium


async def lock_of(site: Site, medium: ResourceId) -> LockOwner | None:
    found = await read_dss(site, ReadMedium(medium))
    assert found is not None
    return found.lock.owner if found.lock else None


def changed(medium: ResourceId, **columns: Any) -> Operation[Any]:
    return UpdateMedia((MediumUpdate(medium, **columns),))


# Changes that nobody tells of.


async def test_what_somebody_else_changes_is_noticed_before_the_next_grant(site: Site) -> None:
    first, second = site.media
    async with serving(site, EACH_TIME) as running, running.connect() as client:
        for closed, open_ in ((first, second), (second, first)):
            await change_dss(site, changed(closed, put=False), changed(open_, put=True))
            for _ in range(3):
                assert await running.write_cycle() == (open_,)
        await change_dss(site, changed(second, get=False))
        assert await client.refused(read(second)) == errno.EPERM
        await change_dss(site, changed(first, adm_status=AdmStatus.LOCKED))
        assert await client.refused(write()) == errno.ENOSPC
        await change_dss(site, changed(first, adm_status=AdmStatus.UNLOCKED), changed(second, put=True, get=True))
        await running.unharmed()


async def test_a_medium_that_another_host_locks_is_let_alone_until_it_is_free(site: Site) -> None:
    theirs, ours = site.media
    async with serving(site, EACH_TIME) as running, running.connect() as client:
        daemon = await lock_of(site, theirs)
        assert daemon is not None
        await change_dss(site, ReleaseLock(LockType.MEDIA, theirs, daemon))
        await change_dss(site, TakeLock(LockType.MEDIA, theirs, ELSEWHERE))
        assert await client.refused(read(theirs)) == errno.EALREADY
        for _ in range(3):
            assert await running.write_cycle() == (ours,)
        device = await running.device(theirs)
        assert str(ELSEWHERE) in device["reason"]
        assert await lock_of(site, theirs) == ELSEWHERE
        await change_dss(site, ReleaseLock(LockType.MEDIA, theirs, ELSEWHERE))
        await client.ask(read(theirs), ReadGranted)
        assert await lock_of(site, theirs) == daemon
        assert not (await running.device(theirs))["reason"]


async def test_locks_that_were_cleaned_are_taken_again(site: Site) -> None:
    async with serving(site, EACH_TIME) as running:
        before = (await books_of(site)).locks
        locks = await read_dss(site, ReadLocks())
        resources = {LockType.DEVICE: [device_of(site, medium) for medium in site.media], LockType.MEDIA: site.media}
        cleaned = [ReleaseLock(kind, resource, locks[0].owner) for kind in resources for resource in resources[kind]]
        await change_dss(site, *cleaned)
        assert (await books_of(site)).locks == type(before)()
        assert set(await running.write_cycle(copies=2)) == set(site.media)
        assert (await books_of(site)).locks == before


# Devices whose locks another host has.


@pytest.mark.parametrize("kind", [LockType.DEVICE, LockType.MEDIA])
async def test_a_device_is_served_when_another_host_has_let_go_of_it(site: Site, kind: LockType) -> None:
    theirs, ours = site.media
    async with serving(site) as running:
        await running.unharmed()
    resource = device_of(site, theirs) if kind is LockType.DEVICE else theirs
    await change_dss(site, TakeLock(kind, resource, ELSEWHERE))
    async with serving(site, format=False) as running, running.connect() as client:
        assert (await running.device(theirs))["status"] == "waiting"
        assert await running.write_cycle() == (ours,)
        assert await client.refused(read(theirs)) == (errno.EALREADY if kind is LockType.MEDIA else errno.ENODEV)
        assert await client.refused(write(copies=2)) == errno.ENOSPC
        unlock = Notify(device_of(site, theirs), NotifyOperation.DEVICE_UNLOCK)
        assert await client.refused(unlock) == errno.EALREADY
        await change_dss(site, ReleaseLock(kind, resource, ELSEWHERE))
        # The write itself makes the device look again.
        assert set(await running.write_cycle(copies=2)) == {theirs, ours}


# Imports.


async def test_a_directory_that_was_formatted_elsewhere_is_imported_and_used(site: Site) -> None:
    """As ``phobos dir import`` goes: the medium is read, its row changed, and nobody is told."""
    medium, other = site.media
    label = f"{medium.name}.as-it-was-called-on-another-host"[-LABEL_LENGTH - 20 :]
    Path(medium.name, LABEL_FILE).write_text(label)
    device = device_of(site, medium)
    await change_dss(site, SetDeviceStatus(device, AdmStatus.LOCKED))
    async with serving(site, EACH_TIME, format=False) as running, running.connect() as client:
        await client.ask(Format(other, FsType.POSIX), Formatted)
        importing = changed(medium, fs_status=FsStatus.IMPORTING, adm_status=AdmStatus.LOCKED, get=False)
        await change_dss(site, importing, SetDeviceStatus(device, AdmStatus.UNLOCKED))
        await client.ask(Notify(device, NotifyOperation.DEVICE_ADD), Notified)
        await change_dss(site, changed(medium, fs_label=label[:LABEL_LENGTH]))
        assert media_of(await client.ask(read(medium), ReadGranted, id=0)) == (medium,)
        assert await client.refused(write(), id=2) == errno.ENOSPC
        figures = {"set_objects": 3, "set_logical": 300, "fs_status": FsStatus.USED}
        await change_dss(site, changed(medium, adm_status=AdmStatus.UNLOCKED, get=True, **figures))
        await client.send(Request(1, release(medium, size=0, extents=0, to_sync=False, kind=RequestKind.RELEASE_READ)))
        await running.expect_books()
        assert await running.write_cycle() == (medium,)
    async with serving(site, format=False) as running:
        # The label is that of another path, and the DSS knows it.
        await running.until(lambda family: mounted(family) == 2)
        assert await running.write_cycle() == (medium,)


# Configure.


async def configure(running: Running, **values: str) -> Configured:
    """Set values, by names like lrs__policy."""
    names = [name.partition("__")[::2] for name in values]
    items = [
        {"section": section, "key": key, "value": value}
        for (section, key), value in zip(names, values.values(), strict=True)
    ]
    return await running.ask(Configure(ConfigureOperation.SET, json.dumps(items)), Configured)


async def test_groupings_are_kept_from_when_they_are_switched_on(site: Site) -> None:
    async with serving(site) as running, running.connect() as client:

        async def put(grouping: str) -> ResourceId:
            (medium,) = media_of(await client.ask(write(grouping=grouping), WriteGranted))
            back = ReleasedMedium(medium, 0, 1000, 1, True, grouping)
            await client.ask(Release((back,), RequestKind.RELEASE_WRITE), Released)
            running.count(medium)
            return medium

        assert (await row(site, await put("g1"))).groupings == ()
        assert await configure(running, lrs__grouping_on_dir="true") == Configured()
        medium = await put("g2")
        assert (await row(site, medium)).groupings == ("g2",)
        for _ in range(3):
            assert await put("g2") == medium


async def test_the_full_threshold_counts_from_the_next_sync(site: Site) -> None:
    async with serving(site) as running, running.connect() as client:
        await running.unharmed()
        # Of any real disk more than 1 % is used.
        await configure(running, dir__dir_full_threshold="99")
        media = await client.hold(copies=2)
        await client.ask(release(*media), Released)
        running.count(*media)
        assert {(await row(site, medium)).fs_status for medium in media} == {FsStatus.FULL}
        assert await client.refused(write()) == errno.ENOSPC


# Statistics.


async def test_statistics_are_shown_in_the_order_of_phobos(site_of_three: Site) -> None:
    async with serving(site_of_three) as running:
        await running.unharmed()
        ours = json.loads((await running.ask(Stat(), Statistics)).stats)
    lines = map(json.loads, CAPTURED.read_text().splitlines())
    (frame,) = (line["frame"] for line in lines if (line["case"], line["direction"]) == ("25_stats", "response"))
    body = decode_response(next(FrameDecoder().feed(bytes.fromhex(frame)))).body
    assert isinstance(body, Statistics)

    def shown(metrics: list[dict[str, Any]]) -> list[tuple[str, str]]:
        """Names and tags, each device's own once: the devices come in the order in which they came up."""
        names = [(metric["name"], metric.get("tags", "").partition(",device=")[0]) for metric in metrics]
        return list(dict.fromkeys(names))

    theirs = shown(json.loads(body.stats))
    assert [name for name in shown(ours) if name in theirs] == theirs
    assert all(list(metric) == [key for key in ("name", "tags", "value") if key in metric] for metric in ours)
