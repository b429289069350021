"""The requests of a real store and of its administrators, frame by frame, against a whole daemon."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import LIBRARY, Site
from lrs_trio.dss.operations import MediumUpdate, ReadLocks, ReadMedium, SetDeviceStatus, UpdateMedia
from lrs_trio.model import (
    AddressType,
    AdmStatus,
    ConfigureOperation,
    Family,
    FsStatus,
    FsType,
    Medium,
    NotifyOperation,
    ReadOperation,
    RequestKind,
    ResourceId,
    SyncThresholds,
)
from lrs_trio.wire.codec import decode_request, decode_response
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Failed,
    Format,
    Formatted,
    Monitor,
    Monitored,
    Notified,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    Response,
    Stat,
    Statistics,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.daemon.conftest import (
    NEVER_DUE,
    Caller,
    Running,
    change_dss,
    device_of,
    media_of,
    read,
    read_dss,
    release,
    serving,
    taken,
    write,
)

CAPTURED = Path(__file__).parent.parent / "vectors" / "phobos-3.3-frames.jsonl"
CAPTURED_HOST = "vm"
CAPTURED_BASE = "/mnt/arch/dirs/cap/"


async def row(site: Site, medium: ResourceId) -> Medium:
    """What the DSS says of `medium`."""
    found = await read_dss(site, ReadMedium(medium))
    assert found is not None
    return found.medium


# What clients of Phobos 3.3 have sent, in their order, with our media for theirs.


class Replay:
    """Sends captured requests and compares the answers with the captured ones, but for the names and the figures."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.site = running.site
        # Which medium is chosen is the scheduler's business: what was granted there goes by what is granted here.
        self.ours: dict[ResourceId, ResourceId] = {}

    def resource(self, captured: ResourceId) -> ResourceId:
        if captured in self.ours:
            return self.ours[captured]
        host, _, path = captured.name.rpartition(":")
        path = str(self.site.base / path.removeprefix(CAPTURED_BASE))
        return captured._replace(name=f"{self.site.host}:{path}" if host == CAPTURED_HOST else path)

    def request(self, captured: Request) -> Request:
        body = captured.body
        match body:
            case ReadAllocation():
                body = replace(body, media=tuple(map(self.resource, body.media)))
            case Release():
                media = tuple(replace(element, medium=self.resource(element.medium)) for element in body.media)
                body = replace(body, media=media)
                self.note(body)
            case Format():
                body = replace(body, medium=self.resource(body.medium))
            case Notify():
                body = replace(body, resource=self.resource(body.resource))
        return replace(captured, body=body)

    def note(self, body: Release) -> None:
        for element in body.media:
            self.running.count(element.medium, size=element.size_written, extents=element.extents_written)

    async def expect(self, client: Caller, captured: list[Response]) -> None:
        """The answers to what was asked together come in any order."""
        found = await client.receive_many(len(captured))
        for theirs in captured:
            (ours,) = [answer for answer in found if same_request(answer, theirs)]
            self.compare(theirs, ours)

    def compare(self, captured: Response, found: Response) -> None:
        match captured.body, found.body:
            case WriteGranted() as theirs, WriteGranted() as ours:
                assert ours.thresholds == theirs.thresholds
                self.granted(theirs, ours)
                assert all(medium.avail_size > 0 for medium in ours.media)
            case ReadGranted() as theirs, ReadGranted() as ours:
                self.granted(theirs, ours)
            case Released() as theirs, Released() as ours:
                assert ours == replace(theirs, media=tuple(map(self.resource, theirs.media)))
            case Formatted(medium), Formatted(ours):
                assert ours == self.resource(medium)
            case Notified(resource), Notified(ours):
                assert ours == self.resource(resource)
            case Monitored(theirs), Monitored(ours):
                assert [device.keys() for device in json.loads(ours)] == [
                    device.keys() for device in json.loads(theirs)
                ]
            case Statistics(theirs), Statistics(ours):
                assert kinds_of(ours) >= kinds_of(theirs)
            case theirs, ours:
                assert ours == theirs

    def granted(self, theirs: WriteGranted | ReadGranted, ours: WriteGranted | ReadGranted) -> None:
        assert len(ours.media) == len(theirs.media)
        for captured, found in zip(theirs.media, ours.media, strict=True):
            self.ours[captured.medium] = found.medium
            assert (found.fs_type, found.address_type) == (captured.fs_type, captured.address_type)
            assert found.root == found.medium.name


def same_request(one: Response, other: Response) -> bool:
    return one.request_id == other.request_id and type(one.body) is type(other.body)


def kinds_of(stats: str) -> set[tuple[str, str]]:
    """The statistics that there are, without the names of devices."""
    return {
        (metric["name"], metric.get("tags", "").partition(",device=")[0])
        for metric in json.loads(stats)
        # Other families are not served here.
        if "tape" not in metric.get("tags", "") and "rados" not in metric.get("tags", "")
    }


def captured_cases() -> Iterator[tuple[str, list[tuple[int, Request | Response]]]]:
    lines = map(json.loads, CAPTURED.read_text().splitlines())
    for case, frames in groupby(lines, key=lambda line: line["case"]):
        yield str(case), [(frame["connection"], decoded(frame)) for frame in frames]


def decoded(frame: dict[str, Any]) -> Request | Response:
    (message,) = FrameDecoder().feed(bytes.fromhex(frame["frame"]))
    return decode_request(message) if frame["direction"] == "request" else decode_response(message)


async def administer(site: Site, case: str) -> None:
    """What the captured command did to the DSS before it told the daemon."""
    first, second, third = site.media
    for medium in (first, second) if case == "02_dir_add_unlock" else (third,) if case.startswith("03") else ():
        await change_dss(site, SetDeviceStatus(device_of(site, medium), AdmStatus.UNLOCKED))
    match case:
        case "03_dir_add_tags_locked":
            await change_dss(site, UpdateMedia((MediumUpdate(third, tags=("foo", "bar")),)))
        case "07_put":
            # They had been added with --unlock.
            await change_dss(
                site, UpdateMedia(tuple(MediumUpdate(m, adm_status=AdmStatus.UNLOCKED) for m in (first, second)))
            )
        case "27_dir_lock":
            await change_dss(site, SetDeviceStatus(device_of(site, third), AdmStatus.LOCKED))
            await change_dss(site, UpdateMedia((MediumUpdate(third, adm_status=AdmStatus.LOCKED),)))
        case "28_dir_unlock":
            await change_dss(site, SetDeviceStatus(device_of(site, third), AdmStatus.UNLOCKED))
            await change_dss(site, UpdateMedia((MediumUpdate(third, adm_status=AdmStatus.UNLOCKED),)))


@pytest.mark.note("0", "1")
async def test_the_captured_commands_of_real_clients_work(site_of_three: Site) -> None:
    site = site_of_three
    for medium in site.media:
        await change_dss(site, SetDeviceStatus(device_of(site, medium), AdmStatus.LOCKED))
    async with serving(site, format=False) as running:
        replay = Replay(running)
        for case, conversation in captured_cases():
            await administer(site, case)
            if case == "07_put":
                for medium in site.media:
                    await running.ask(Notify(medium, NotifyOperation.MEDIA_UPDATE), Notified)
            for _, numbered in groupby(conversation, key=lambda item: item[0]):
                async with running.connect() as client:
                    for _, together in groupby((message for _, message in numbered), key=type):
                        messages = list(together)
                        await client.send(*[replay.request(m) for m in messages if isinstance(m, Request)])
                        await replay.expect(client, [m for m in messages if isinstance(m, Response)])
                    await client.ask(Ping(), Pong, id=123)
            replay.ours.clear()
            await running.until(lambda family: not taken(family))


# Puts.


@pytest.mark.note("7")
async def test_a_put_of_several_copies_is_on_as_many_media(site_of_three: Site) -> None:
    async with serving(site_of_three) as running, running.connect() as client:
        for copies in (1, 2, 3):
            granted = await client.ask(write(copies=copies), WriteGranted, id=0)
            media = media_of(granted)
            assert len(set(media)) == copies
            assert granted.thresholds == SyncThresholds(age=0.01, requests=5, size=2**30)
            for medium in granted.media:
                assert medium.root == medium.medium.name
                assert medium.avail_size >= 1000
                assert (medium.fs_type, medium.address_type) == (FsType.POSIX, AddressType.HASH1)
            assert await client.ask(release(*media), Released, id=0) == Released(media, RequestKind.RELEASE_WRITE)
            running.count(*media)
        assert await client.refused(write(copies=4), id=0) == errno.ENOSPC
        await running.unharmed()


@pytest.mark.note("7")
async def test_a_put_goes_where_its_tags_and_its_library_say(site_of_three: Site) -> None:
    site = site_of_three
    plain, tagged, both = site.media
    await change_dss(
        site,
        UpdateMedia((MediumUpdate(tagged, tags=("fast",)), MediumUpdate(both, tags=("fast", "safe")))),
    )
    async with serving(site) as running, running.connect() as client:

        async def where(*tags: str, library: str | None = LIBRARY, **more: Any) -> set[ResourceId]:
            """Every medium that such a write can get."""
            found: set[ResourceId] = set()
            for count in range(1, 4):
                body = WriteAllocation((WriteMedium(10, tags),) * count, Family.DIR, library=library, **more)
                await client.send(Request(0, body))
                answer = await client.receive()
                if isinstance(answer.body, Failed):
                    assert answer.body == Failed(-errno.ENOSPC, RequestKind.WRITE)
                    break
                found = set(media_of(answer.body))
                await client.send(Request(0, release(*found, to_sync=False)))
            return found

        assert await where() == {plain, tagged, both}
        assert await where(library=None) == {plain, tagged, both}
        assert await where("fast") == {tagged, both}
        assert await where("safe", "fast") == {both}
        assert await where("nosuch") == set()
        assert await where("fast", "nosuch") == set()
        assert await where(library="another") == set()
        assert await where(grouping="g1", no_split=True) == {plain, tagged, both}
        await running.unharmed()


@pytest.mark.parametrize("kept", [True, False])
async def test_groupings_gather_puts_where_the_family_keeps_them(site_of_three: Site, kept: bool) -> None:
    site = site_of_three
    async with serving(site, f"families.dir.groupings={str(kept).lower()}") as running, running.connect() as client:
        (first,) = await client.hold(grouping="g1")
        element = ReleasedMedium(first, 0, 1000, 1, True, "g1")
        await client.ask(Release((element,), RequestKind.RELEASE_WRITE), Released)
        running.count(first)
        assert (await row(site, first)).groupings == (("g1",) if kept else ())
        again = {medium for _ in range(3) for medium in await client.hold(grouping="g1")}
        # Held one beside the other: without groupings the least busy directory is taken each time.
        assert again == ({first} if kept else set(site.media))


async def test_a_put_that_is_split_releases_and_asks_again_with_one_id(site: Site) -> None:
    async with serving(site) as running, running.connect() as client:
        (medium,) = await client.hold()
        for number in range(5):
            await client.send(Request(0, release(medium, size=1000 + number)), Request(0, write()))
            answers = [answer.body for answer in await client.receive_many(2)]
            (granted,) = [body for body in answers if isinstance(body, WriteGranted)]
            assert Released((medium,), RequestKind.RELEASE_WRITE) in answers
            running.count(medium, size=1000 + number)
            (medium,) = media_of(granted)
        await client.ask(release(medium), Released)
        running.count(medium)
        await running.unharmed()


@pytest.mark.parametrize("sync_while_io", ["true", "false"])
async def test_a_put_of_many_objects_keeps_its_media(site: Site, sync_while_io: str) -> None:
    """Partial releases: synced and counted at once, answered, and the media stay the client's."""
    settings = (*NEVER_DUE, f"families.dir.sync_while_io={sync_while_io}")
    async with serving(site, *settings) as running, running.connect() as client:
        media = await client.hold(copies=2)
        for number in range(3):
            answer = await client.ask(release(*media, partial=True), Released, id=number)
            assert answer == Released(media, RequestKind.RELEASE_WRITE, partial=True)
            running.count(*media)
            assert await running.found() == running.expected()
            family = await running.family()
            assert [(d["ongoing"], d["reserved"], d["planned"]) for d in family["devices"]] == [(1, 0, 0)] * 2
        # A part that has nothing to sync is never answered, and keeps its grant.
        await client.send(Request(9, release(*media, partial=True, to_sync=False)), Request(10, Ping()))
        assert await client.receive() == Response(10, Pong())
        assert [device["ongoing"] for device in (await running.family())["devices"]] == [1, 1]
        await client.send(Request(11, release(*media)))
        running.interrupt()
        assert await client.receive() == Response(11, Released(media, RequestKind.RELEASE_WRITE))
        running.count(*media)


async def test_a_partial_release_of_one_of_two_media(site: Site) -> None:
    async with serving(site) as running, running.connect() as client:
        media = await client.hold(copies=2)
        answer = await client.ask(release(media[0], partial=True), Released)
        assert answer == Released(media[:1], RequestKind.RELEASE_WRITE, partial=True)
        await client.ask(release(*media), Released)
        running.count(media[0], *media)
        await running.unharmed()


# Gets, deletions, copies.


@pytest.mark.note("6")
async def test_a_get_has_the_media_in_the_order_asked_for(site_of_three: Site) -> None:
    site = site_of_three
    first, second, third = site.media
    async with serving(site) as running, running.connect() as client:
        for wanted, n_required in (((third, first), 1), ((second, third, first), 2), ((first, second, third), 3)):
            priority = -1_795_459_452_207_945
            await client.send(Request(0, read(*wanted, n_required=n_required), qos=0, priority=priority))
            granted = await client.receive()
            assert media_of(granted.body) == wanted[:n_required]
            done = release(*wanted[:n_required], size=0, extents=0, to_sync=False, kind=RequestKind.RELEASE_READ)
            await client.send(Request(0, done))
        await client.ask(Ping(), Pong)
        await running.unharmed()


@pytest.mark.note("6")
async def test_a_get_makes_do_with_the_media_that_may_be_read(site_of_three: Site) -> None:
    site = site_of_three
    locked, unreadable, good = site.media
    async with serving(site) as running, running.connect() as client:
        await change_dss(
            site, UpdateMedia((MediumUpdate(locked, adm_status=AdmStatus.LOCKED), MediumUpdate(unreadable, get=False)))
        )
        for medium in (locked, unreadable):
            await client.ask(Notify(medium, NotifyOperation.MEDIA_UPDATE), Notified)
        assert media_of(await client.ask(read(*site.media), ReadGranted)) == (good,)
        assert await client.refused(read(*site.media, n_required=2)) == errno.EPERM
        assert await client.refused(read(locked)) == errno.EPERM
        # What may not be got may still be deleted from.
        deletion = read(unreadable, operation=ReadOperation.DELETE)
        assert media_of(await client.ask(deletion, ReadGranted)) == (unreadable,)


@pytest.mark.note("1")
async def test_deletions_lower_the_counters_and_never_below_zero(site: Site) -> None:
    async with serving(site) as running, running.connect() as client:
        (medium,) = await client.hold()
        await client.ask(release(medium, size=5000, extents=3), Released)
        running.count(medium, size=5000, extents=3)

        async def delete(size: int, extents: int) -> None:
            await client.ask(read(medium, operation=ReadOperation.DELETE), ReadGranted, id=0)
            gone = release(medium, size=-size, extents=-extents, kind=RequestKind.RELEASE_READ)
            assert await client.ask(gone, Released, id=0) == Released((medium,), RequestKind.RELEASE_READ)

        await delete(1000, 1)
        running.count(medium, size=-1000, extents=-1)
        assert await running.found() == running.expected()
        await delete(10_000, 1)
        assert (await running.found())[medium] == (1, 0)
        await delete(0, 10)
        assert (await running.found())[medium] == (0, 0)
        await running.expect_books()
        await running.unharmed()


async def test_a_copy_has_a_read_and_a_write_outstanding_with_one_id(site: Site) -> None:
    async with serving(site) as running, running.connect() as client:
        source = site.media[0]
        await client.send(Request(0, read(source)), Request(0, write(prevent_duplicate=False)))
        answers = [answer.body for answer in await client.receive_many(2)]
        (reading,) = [body for body in answers if isinstance(body, ReadGranted)]
        (writing,) = [body for body in answers if isinstance(body, WriteGranted)]
        (target,) = media_of(writing)
        assert media_of(reading) == (source,)
        await client.send(
            Request(0, release(source, size=0, extents=0, to_sync=False, kind=RequestKind.RELEASE_READ)),
            Request(0, release(target)),
        )
        assert await client.receive() == Response(0, Released((target,), RequestKind.RELEASE_WRITE))
        running.count(target)
        await running.unharmed()


async def test_a_read_grant_may_be_released_within_the_release_of_a_write(site: Site) -> None:
    """What moves objects from one medium to another releases both in one go (decision 4)."""
    async with serving(site) as running, running.connect() as client:
        source, _ = site.media
        await client.ask(read(source), ReadGranted)
        (target,) = await client.hold()
        elements = (ReleasedMedium(source, 0, -10, -1, True), ReleasedMedium(target, 0, 10, 1, True))
        answer = await client.ask(Release(elements, RequestKind.RELEASE_WRITE), Released)
        assert answer.media == (source, target)
        await running.expect_books()
        await running.unharmed()


# Formats and news from administrators.


@pytest.mark.note("5.1")
async def test_a_medium_is_formatted_once(site: Site) -> None:
    medium = site.media[0]
    async with serving(site, format=False) as running, running.connect() as admin:
        again = Format(medium, FsType.POSIX, unlock=True)
        await admin.send(Request(0, again), Request(1, again), Request(2, again))
        answers = {answer.request_id: answer.body for answer in await admin.receive_many(3)}
        assert answers.pop(0) == Formatted(medium)
        assert set(answers.values()) == {Failed(-errno.EINVAL, RequestKind.FORMAT)}
        assert await admin.refused(again) == errno.EINVAL
        found = await row(site, medium)
        assert (found.fs_status, found.adm_status) == (FsStatus.EMPTY, AdmStatus.UNLOCKED)
        assert await running.write_cycle() == (medium,)
        assert (await row(site, medium)).fs_status is FsStatus.USED


@pytest.mark.note("5.1")
async def test_a_medium_that_is_formatted_but_locked_is_not_written(site: Site) -> None:
    medium = site.media[0]
    async with serving(site, format=False) as running, running.connect() as admin:
        await admin.ask(Format(medium, FsType.POSIX), Formatted)
        assert (await row(site, medium)).adm_status is AdmStatus.LOCKED
        assert await admin.refused(write()) == errno.ENOSPC
        await change_dss(site, UpdateMedia((MediumUpdate(medium, adm_status=AdmStatus.UNLOCKED),)))
        # It need not be told: nobody is refused on old knowledge.
        assert await running.write_cycle() == (medium,)
        await admin.ask(Notify(medium, NotifyOperation.MEDIA_UPDATE), Notified)
        assert await running.write_cycle() == (medium,)


async def test_a_device_is_locked_when_its_io_has_ended(site: Site) -> None:
    """Locked with and without waiting, unlocked again; nobody else is held up meanwhile."""
    async with serving(site, *NEVER_DUE) as running, running.connect() as writer, running.connect() as admin:
        for wait in (True, False):
            (held,) = await writer.hold()
            (other,) = set(site.media) - {held}
            device = device_of(site, held)
            await change_dss(site, SetDeviceStatus(device, AdmStatus.LOCKED))
            await admin.send(Request(3, Notify(device, NotifyOperation.DEVICE_LOCK, wait=wait)), Request(4, Ping()))
            assert await admin.receive() == Response(4, Pong())
            await running.until(lambda family: any(found["stopping"] for found in family["devices"]))
            # New I/O goes elsewhere, and a read of what is here is refused.
            async with running.connect() as client:
                assert await client.hold() == (other,)
                assert await client.refused(read(held)) == errno.ENODEV
            await writer.ask(release(held), Released)
            running.count(held)
            if wait:
                assert await admin.receive() == Response(3, Notified(device))
            await running.until(lambda family: len(family["devices"]) == 1)
            assert held.name not in {lock.id.rpartition("_")[0] for lock in await read_dss(site, ReadLocks())}
            await change_dss(site, SetDeviceStatus(device, AdmStatus.UNLOCKED))
            await admin.send(Request(5, Notify(device, NotifyOperation.DEVICE_UNLOCK, wait=wait)), Request(6, Ping()))
            expected = {6: Pong()} | ({5: Notified(device)} if wait else {})
            answers = await admin.receive_many(len(expected))
            assert {answer.request_id: answer.body for answer in answers} == expected
            await running.until(lambda family: len(family["devices"]) == 2)
            await running.until(lambda family: all(found["status"] == "mounted" for found in family["devices"]))


async def test_requests_that_wait_for_a_device_move_when_it_is_locked(site: Site) -> None:
    """A put that waits may go to the other directory; a get of what is locked can never be served."""
    async with (
        serving(site, "families.dir.max_concurrent_io=1") as running,
        running.connect() as holder,
        running.connect() as waiting,
        running.connect() as admin,
    ):
        held = await holder.hold(copies=2)
        first = held[0]
        await waiting.send(Request(1, read(first)), Request(2, write(copies=2)))
        await running.until(lambda family: sum(family["queued"].values()) == 2)
        await change_dss(site, SetDeviceStatus(device_of(site, first), AdmStatus.LOCKED))
        await admin.send(Request(7, Notify(device_of(site, first), NotifyOperation.DEVICE_LOCK)))
        refused = {answer.request_id: answer.body for answer in await waiting.receive_many(2)}
        assert refused == {
            1: Failed(-errno.ENODEV, RequestKind.READ),
            2: Failed(-errno.ENODEV, RequestKind.WRITE),
        }
        await holder.ask(release(*held), Released)
        running.count(*held)
        assert await admin.receive() == Response(7, Notified(device_of(site, first)))
        assert await running.write_cycle() == (held[1],)


async def test_access_flags_and_tags_take_effect_when_told(site: Site) -> None:
    closed, open_ = site.media
    async with serving(site) as running, running.connect() as admin:
        await change_dss(site, UpdateMedia((MediumUpdate(closed, put=False), MediumUpdate(open_, tags=("t1",)))))
        for medium in site.media:
            assert await admin.ask(Notify(medium, NotifyOperation.MEDIA_UPDATE), Notified) == Notified(medium)
        assert await admin.refused(write(copies=2)) == errno.ENOSPC
        for _ in range(3):
            assert await running.write_cycle() == (open_,)
        tagged = WriteAllocation((WriteMedium(1, ("t1",)),), Family.DIR)
        assert media_of(await admin.ask(tagged, WriteGranted)) == (open_,)


# What administrators see.


async def test_the_monitor_has_the_keys_that_existing_tools_read(site: Site) -> None:
    formatted, blank = site.media
    async with serving(site, format=False) as running, running.connect() as admin:
        await admin.ask(Format(formatted, FsType.POSIX, unlock=True), Formatted)
        await admin.hold()
        devices = json.loads((await admin.ask(Monitor(Family.DIR), Monitored)).status)
        by_name = {device["name"]: device for device in devices}
        assert by_name[formatted.name] == {
            "name": formatted.name,
            "library": LIBRARY,
            "device": formatted.name,
            "serial": device_of(site, formatted).name,
            "currently_dedicated_to": "RWF",
            "adm_status": "unlocked",
            "address": 0,
            "ongoing_io": True,
            "mount_path": formatted.name,
            "media": formatted.name,
        }
        assert by_name[blank.name] == by_name[formatted.name] | {
            "name": blank.name,
            "device": blank.name,
            "serial": device_of(site, blank).name,
            "ongoing_io": False,
            "mount_path": "",
            "media": blank.name,
        }


async def test_statistics_count_what_was_asked_and_done(site: Site) -> None:
    async with serving(site) as running, running.connect() as admin:
        media = await admin.hold(copies=2)
        await admin.ask(release(*media, size=700, extents=2), Released)
        running.count(*media, size=700, extents=2)
        (medium,) = await admin.hold()
        await admin.send(Request(0, release(medium, size=50, to_sync=False)))
        await admin.ask(Ping(), Pong)

        async def stats(**filter: str) -> dict[tuple[str, str], int]:
            answer = await admin.ask(Stat(**filter), Statistics)
            metrics = json.loads(answer.stats)
            assert all(metric.keys() <= {"name", "tags", "value"} for metric in metrics)
            return {(metric["name"], metric.get("tags", "")): metric["value"] for metric in metrics}

        found = await stats()
        release_tags = "request=RELEASE"
        assert found["req.count", "request=WRITE"] == 2
        assert found["req.media_requested", "request=WRITE"] == 3
        assert found["req.count", release_tags] == 2
        assert found["req.tosync_media_cnt", release_tags] == 2
        assert found["req.tosync_size", release_tags] == 1400
        assert found["req.tosync_extents", release_tags] == 4
        assert found["req.nosync_media_cnt", release_tags] == 1
        assert found["req.nosync_size", release_tags] == 50
        assert found["req.count", "request=FORMAT"] == 2
        for medium in site.media:
            tags = f"family=dir,device={device_of(site, medium).name}"
            assert found["dev.requested_sync", tags] == 1
            assert found["dev.total_tosync_size", tags] == 700
            assert found["dev.total_tosync_extents", tags] == 2
            assert found["dev.tosync_count", tags] == 0
        assert await stats(ns="req", name="count", tags="request=PING") == {("req.count", "request=PING"): 1}
        assert await stats(ns="NOSUCH") == {}


async def test_configure_gives_back_what_was_set(site: Site) -> None:
    async with serving(site) as running, running.connect() as admin:

        async def get(*keys: str) -> list[str]:
            wanted = [{"section": "io_sched_tape", "key": key} for key in keys]
            answer = await admin.ask(Configure(ConfigureOperation.GET, json.dumps(wanted)), Configured)
            values: list[str] = json.loads(answer.configuration or "")
            return values

        assert await get("min", "max") == ["", ""]
        both = [{"section": "io_sched_tape", "key": key, "value": value} for key, value in (("min", "1"), ("max", "2"))]
        answer = await admin.ask(Configure(ConfigureOperation.SET, json.dumps(both)), Configured)
        assert answer == Configured(None)
        assert await get("max", "nosuch", "min", "max") == ["2", "", "1", "2"]
        wrong = json.dumps([{"section": "io_sched_tape", "key": "min", "value": "9"}, {"section": "x"}])
        assert await admin.refused(Configure(ConfigureOperation.SET, wrong)) == errno.EINVAL
        # What comes before the fault stays, as clients know it.
        assert await get("min") == ["9"]
        await running.unharmed()


# Space.


async def test_a_disk_beyond_its_threshold_is_full(site: Site) -> None:
    medium = site.media[0]
    async with serving(site) as running:
        await running.unharmed()
    # Of any real disk more than 1 % is used.
    full = serving(site, "families.dir.full_threshold_percent=99", format=False)
    async with full as running, running.connect() as client:
        assert await client.refused(write(1)) == errno.ENOSPC
        assert await client.refused(write(1, no_split=True)) == errno.ENOSPC
        # It can still be read and deleted from; the sync of that notes that it is full.
        assert (await running.device(medium))["free"] == 0
        await client.ask(read(medium, operation=ReadOperation.DELETE), ReadGranted)
        gone = release(medium, size=0, extents=0, kind=RequestKind.RELEASE_READ)
        await client.ask(gone, Released)
        assert (await running.device(medium))["fs_status"] == "full"
        assert (await row(site, medium)).fs_status is FsStatus.FULL
        assert media_of(await client.ask(read(medium), ReadGranted)) == (medium,)
    async with serving(site, format=False) as running:
        # There is space again, which its next sync finds out.
        await running.ask(Notify(medium, NotifyOperation.MEDIA_UPDATE), Notified)
        async with running.connect() as client:
            await client.ask(read(medium, operation=ReadOperation.DELETE), ReadGranted)
            gone = release(medium, size=0, extents=0, kind=RequestKind.RELEASE_READ)
            await client.ask(gone, Released)
            assert (await row(site, medium)).fs_status is FsStatus.USED
            assert set(await client.hold(copies=2)) == set(site.media)


@pytest.mark.note("7")
async def test_space_that_is_granted_is_not_granted_again(site: Site) -> None:
    """Both directories are on one disk: what is reserved on one is gone on the other."""
    async with serving(site) as running, running.connect() as greedy, running.connect() as other:
        (device, _) = (await running.family())["devices"]
        large = device["free"] * 3 // 4
        assert len(await greedy.hold(large)) == 1
        await other.send(Request(1, write(large)), Request(2, Ping()))
        assert await other.receive() == Response(2, Pong())
        await running.until(lambda family: family["queued"]["write"] == 1)
        await greedy.hang_up()
        assert (await other.receive()).request_id == 1
