"""What every home of the DSS does with every operation."""

from __future__ import annotations

import errno
import json
import time
from dataclasses import replace
from typing import Any

import pytest
import trio

from lrs_trio.dss.homes import open_command_home, open_daemon_home
from lrs_trio.dss.operations import (
    AddDevice,
    AddMedia,
    AppendLog,
    DeleteDevice,
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    DeviceRow,
    Dss,
    LogEntry,
    MediumRow,
    MediumUpdate,
    Operation,
    ReadChangedMedia,
    ReadDevice,
    ReadDevices,
    ReadHealthLog,
    ReadLocks,
    ReadLog,
    ReadMedia,
    ReadMedium,
    ReadNamedMedia,
    ReleaseLock,
    ReplaceLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.errors import LrsError
from lrs_trio.model import (
    AddressType,
    AdmStatus,
    Device,
    Family,
    FsStatus,
    FsType,
    Lock,
    LockOwner,
    LockType,
    MediumStats,
    ResourceId,
    lock_id,
)
from lrs_trio.settings import DssSettings

from .samples import (
    COMMAND,
    DAEMON,
    ELSEWHERE,
    HOST,
    LIBRARY,
    device_id,
    directory,
    drive,
    log_entry,
    medium_id,
    tape,
    tape_id,
)

WHOLE = replace(
    tape(),
    adm_status=AdmStatus.UNLOCKED,
    fs_status=FsStatus.USED,
    fs_label="étiquette",
    address_type=AddressType.OPAQUE,
    stats=MediumStats(1, 2, 3, 4, 5, 6, 7),
    tags=("fast", "tape é"),
    groupings=("projet é",),
    put=False,
    get=True,
    delete=False,
)
"""A medium of which no column is what it is by default."""


async def update(dss: Dss, change: MediumUpdate) -> None:
    (medium,) = await dss.execute(UpdateMedia((change,)))
    assert medium is not None


async def lock_on(dss: Dss, type_: LockType, resource: ResourceId) -> Lock:
    (lock,) = [lock for lock in await dss.execute(ReadLocks()) if (lock.type, lock.id) == (type_, lock_id(resource))]
    return lock


# Devices and media


async def test_an_added_directory_reads_back_as_it_was_given(dss: Dss) -> None:
    given = directory()
    medium = replace(
        given.medium,
        adm_status=AdmStatus.UNLOCKED,
        fs_status=FsStatus.USED,
        fs_label="étiquette",
        address_type=AddressType.PATH,
        stats=MediumStats(1, 2, 3, 4, 5, 6, 7),
        tags=("fast", "ssd"),
        groupings=("projet é",),
        put=False,
        get=True,
        delete=False,
    )
    given = replace(given, medium=medium, device=replace(given.device, adm_status=AdmStatus.UNLOCKED))

    await dss.execute(given)

    assert await dss.execute(ReadDevice(device_id())) == DeviceRow(given.device, None)
    assert await dss.execute(ReadMedium(medium_id())) == MediumRow(given.medium, None)


async def test_what_is_not_there_reads_as_none(dss: Dss) -> None:
    assert await dss.execute(ReadDevice(device_id())) is None
    assert await dss.execute(ReadMedium(medium_id())) is None
    assert await dss.execute(ReadNamedMedia((medium_id(), tape_id()))) == (None, None)
    assert await dss.execute(ReadNamedMedia(())) == ()
    assert await dss.execute(ReadDevices()) == ()
    assert await dss.execute(ReadMedia()) == ()
    assert await dss.execute(ReadLocks()) == ()


@pytest.mark.parametrize(
    ("name", "library"), [("/srv/a\0", LIBRARY), ("/srv/a", "\0"), ("", ""), ("x" * 10_000, LIBRARY)]
)
async def test_names_that_nothing_can_have_read_as_none(dss: Dss, name: str, library: str) -> None:
    """Clients may ask for anything."""
    await dss.execute(directory("/srv/a"))
    asked = ResourceId(Family.DIR, name, library)
    assert await dss.execute(ReadDevice(asked)) is None
    assert await dss.execute(ReadMedium(asked)) is None
    known, unknown = await dss.execute(ReadNamedMedia((medium_id("/srv/a"), asked)))
    assert (isinstance(known, MediumRow), unknown) == (True, None)
    assert await dss.execute(SetDeviceStatus(asked, AdmStatus.LOCKED)) is False


async def test_devices_and_media_are_listed_by_id_family_and_host(dss: Dss) -> None:
    there = directory("/srv/b")
    there = replace(there, device=replace(there.device, host="store2"))
    tape = directory("/srv/0")
    tape = replace(
        tape,
        device=replace(tape.device, id=ResourceId(Family.TAPE, "drive", LIBRARY), model="ULT3580-TD8"),
        medium=replace(tape.medium, id=ResourceId(Family.TAPE, "P00001L8", LIBRARY), fs_type=FsType.LTFS, model="LTO8"),
    )
    here = directory("/srv/a")
    for addition in (there, tape, here):
        await dss.execute(addition)

    async def devices(family: Family | None = None, host: str | None = None) -> list[object]:
        return [row.device for row in await dss.execute(ReadDevices(family, host))]

    assert await devices() == [tape.device, here.device, there.device]
    assert await devices(family=Family.DIR) == [here.device, there.device]
    assert await devices(host=HOST) == [tape.device, here.device]
    assert await devices(Family.DIR, "store2") == [there.device]
    assert [row.medium for row in await dss.execute(ReadMedia())] == [tape.medium, here.medium, there.medium]
    assert [row.medium for row in await dss.execute(ReadMedia(Family.TAPE))] == [tape.medium]


async def test_a_directory_is_added_whole_or_not_at_all(dss: Dss) -> None:
    await dss.execute(directory())
    other = directory("/srv/b")

    with pytest.raises(LrsError, match="device dir:legacy:store1:/srv/a is in the DSS already") as known_device:
        await dss.execute(replace(other, device=directory().device))
    with pytest.raises(LrsError, match="medium dir:legacy:/srv/a is in the DSS already") as known_medium:
        await dss.execute(replace(other, medium=directory().medium))

    assert known_device.value.errno == known_medium.value.errno == errno.EEXIST
    assert len(await dss.execute(ReadDevices())) == len(await dss.execute(ReadMedia())) == 1


async def test_a_value_that_no_table_takes_is_refused_and_nothing_of_it_is_kept(dss: Dss) -> None:
    given = directory()
    too_long = replace(given, medium=replace(given.medium, fs_label="x" * 33))

    with pytest.raises(LrsError) as refused:
        await dss.execute(too_long)

    assert refused.value.errno == errno.EINVAL
    assert await dss.execute(ReadDevices()) == ()


async def test_a_directory_is_deleted_with_its_medium(dss: Dss) -> None:
    await dss.execute(directory("/srv/a"))
    await dss.execute(directory("/srv/b"))

    await dss.execute(DeleteDirectory(device_id("/srv/a"), medium_id("/srv/a")))

    assert [row.device.id for row in await dss.execute(ReadDevices())] == [device_id("/srv/b")]
    assert [row.medium.id for row in await dss.execute(ReadMedia())] == [medium_id("/srv/b")]


async def test_deleting_an_unknown_directory_is_an_error(dss: Dss) -> None:
    with pytest.raises(LrsError) as unknown:
        await dss.execute(DeleteDirectory(device_id(), medium_id()))
    assert unknown.value.errno == errno.ENOENT


@pytest.mark.parametrize(("type_", "resource"), [(LockType.DEVICE, device_id()), (LockType.MEDIA, medium_id())])
async def test_a_directory_somebody_holds_is_not_deleted(dss: Dss, type_: LockType, resource: ResourceId) -> None:
    await dss.execute(directory())
    await dss.execute(TakeLock(type_, resource, DAEMON))

    with pytest.raises(LrsError, match="pid 4711 on store1 holds a lock") as busy:
        await dss.execute(DeleteDirectory(device_id(), medium_id()))

    assert busy.value.errno == errno.EBUSY
    assert await dss.execute(ReadDevice(device_id())) is not None
    assert await dss.execute(ReadMedium(medium_id())) is not None


async def test_a_directory_in_service_is_deleted_only_where_that_is_asked_for(dss: Dss) -> None:
    await dss.execute(directory())
    await dss.execute(SetDeviceStatus(device_id(), AdmStatus.UNLOCKED))

    with pytest.raises(LrsError, match="device dir:legacy:store1:/srv/a is in service; lock it first") as refused:
        await dss.execute(DeleteDirectory(device_id(), medium_id()))

    assert refused.value.errno == errno.EBUSY
    assert await dss.execute(ReadDevice(device_id())) is not None
    assert await dss.execute(ReadMedium(medium_id())) is not None
    assert await dss.execute(ReadLocks()) == ()
    await dss.execute(DeleteDirectory(device_id(), medium_id(), in_service=True))
    assert await dss.execute(ReadDevices()) == ()
    assert await dss.execute(ReadMedia()) == ()


async def test_a_directory_that_has_failed_is_in_nobodys_service(dss: Dss) -> None:
    await dss.execute(directory())
    await dss.execute(SetDeviceStatus(device_id(), AdmStatus.FAILED))
    await dss.execute(DeleteDirectory(device_id(), medium_id()))
    assert await dss.execute(ReadDevices()) == ()


async def test_a_device_without_its_medium_is_in_nobodys_service(dss: Dss) -> None:
    await dss.execute(AddDevice(replace(directory().device, adm_status=AdmStatus.UNLOCKED)))
    await dss.execute(DeleteDirectory(device_id(), medium_id()))
    assert await dss.execute(ReadDevices()) == ()


async def test_a_directory_with_objects_is_deleted_only_where_that_is_asked_for(dss: Dss) -> None:
    await dss.execute(directory())
    await dss.execute(UpdateMedia((MediumUpdate(medium_id(), add_objects=1),)))

    with pytest.raises(LrsError, match="medium dir:legacy:/srv/a holds objects") as refused:
        await dss.execute(DeleteDirectory(device_id(), medium_id()))

    assert refused.value.errno == errno.ENOTEMPTY
    assert await dss.execute(ReadDevice(device_id())) is not None
    assert await dss.execute(ReadMedium(medium_id())) is not None
    assert await dss.execute(ReadLocks()) == ()
    await dss.execute(DeleteDirectory(device_id(), medium_id(), with_objects=True))
    assert await dss.execute(ReadDevices()) == ()
    assert await dss.execute(ReadMedia()) == ()


async def test_a_drive_in_service_is_deleted_only_where_that_is_asked_for(dss: Dss) -> None:
    await dss.execute(AddDevice(replace(drive(), adm_status=AdmStatus.UNLOCKED)))

    with pytest.raises(LrsError, match=f"device {drive().id} is in service; lock it first") as refused:
        await dss.execute(DeleteDevice(drive().id))

    assert refused.value.errno == errno.EBUSY
    assert len(await dss.execute(ReadDevices())) == 1
    await dss.execute(DeleteDevice(drive().id, in_service=True))
    assert await dss.execute(ReadDevices()) == ()


@pytest.mark.parametrize("device", [drive(), replace(drive(), model=None, adm_status=AdmStatus.UNLOCKED)])
async def test_an_added_device_reads_back_as_it_was_given(dss: Dss, device: Device) -> None:
    await dss.execute(AddDevice(device))
    assert await dss.execute(ReadDevices()) == (DeviceRow(device, None),)
    assert await dss.execute(ReadMedia()) == ()


async def test_added_media_read_back_as_they_were_given(dss: Dss) -> None:
    media = (WHOLE, replace(tape("P00002L8"), model=None), tape("P00000L7"))
    await dss.execute(AddMedia(media))
    assert [row.medium for row in await dss.execute(ReadMedia())] == sorted(media, key=lambda medium: medium.id)
    assert await dss.execute(ReadMedium(WHOLE.id)) == MediumRow(WHOLE, None)
    assert await dss.execute(ReadDevices()) == ()


async def test_no_media_are_added_in_vain(dss: Dss) -> None:
    await dss.execute(AddMedia(()))
    assert await dss.execute(ReadMedia()) == ()


async def test_thousands_of_media_are_added_at_once(dss: Dss) -> None:
    media = tuple(tape(f"P{number:05}L8") for number in range(3000))
    await dss.execute(AddMedia(media))
    assert tuple(row.medium for row in await dss.execute(ReadMedia())) == media


async def test_a_device_that_is_known_is_not_added_again(dss: Dss) -> None:
    await dss.execute(AddDevice(drive()))
    with pytest.raises(LrsError, match="device tape:legacy:1013005381 is in the DSS already") as known:
        await dss.execute(AddDevice(replace(drive(), path="/dev/sg4")))
    assert known.value.errno == errno.EEXIST
    assert await dss.execute(ReadDevices()) == (DeviceRow(drive(), None),)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("P1", "P2", "P3"), "medium tape:legacy:P2 is in the DSS already"),
        (("P1", "P3", "P1"), "medium tape:legacy:P1 is given twice"),
    ],
)
async def test_media_are_added_all_or_none(dss: Dss, names: tuple[str, ...], complaint: str) -> None:
    await dss.execute(AddMedia((tape("P2"),)))
    with pytest.raises(LrsError, match=complaint) as refused:
        await dss.execute(AddMedia(tuple(map(tape, names))))
    assert refused.value.errno == errno.EEXIST
    assert [row.medium for row in await dss.execute(ReadMedia())] == [tape("P2")]


async def test_a_medium_that_no_table_takes_costs_those_that_come_with_it(dss: Dss) -> None:
    media = [tape(f"P{number}") for number in range(100)]
    with pytest.raises(LrsError, match="does not accept AddMedia") as refused:
        await dss.execute(AddMedia((*media, replace(tape("P100"), fs_label="x" * 33))))
    assert refused.value.errno == errno.EINVAL
    assert len(str(refused.value)) < 1000
    assert await dss.execute(ReadMedia()) == ()


async def test_a_device_and_a_medium_are_deleted_by_themselves(dss: Dss) -> None:
    await dss.execute(AddDevice(drive("one")))
    await dss.execute(AddDevice(drive("two")))
    await dss.execute(AddMedia((tape("P1"), tape("P2"))))

    await dss.execute(DeleteDevice(drive("one").id))
    await dss.execute(DeleteMedium(tape_id("P2")))

    assert [row.device for row in await dss.execute(ReadDevices())] == [drive("two")]
    assert [row.medium for row in await dss.execute(ReadMedia())] == [tape("P1")]
    assert await dss.execute(ReadLocks()) == ()


@pytest.mark.parametrize("deletion", [DeleteDevice(drive().id), DeleteMedium(tape_id())])
async def test_what_is_unknown_cannot_be_deleted(dss: Dss, deletion: DeleteDevice | DeleteMedium) -> None:
    with pytest.raises(LrsError, match=f"{deletion.id} is not in the DSS") as unknown:
        await dss.execute(deletion)
    assert unknown.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("type_", "deletion"),
    [(LockType.DEVICE, DeleteDevice(drive().id)), (LockType.MEDIA, DeleteMedium(tape_id()))],
)
@pytest.mark.parametrize("holder", [DAEMON, ELSEWHERE])
async def test_what_somebody_holds_is_not_deleted(
    dss: Dss, type_: LockType, deletion: DeleteDevice | DeleteMedium, holder: LockOwner
) -> None:
    await dss.execute(AddDevice(drive()))
    await dss.execute(AddMedia((tape(),)))
    await dss.execute(TakeLock(type_, deletion.id, holder))

    with pytest.raises(LrsError, match=f"{deletion.id} is in use, {holder} holds a lock") as busy:
        await dss.execute(deletion)

    assert busy.value.errno == errno.EBUSY
    assert len(await dss.execute(ReadDevices())) == len(await dss.execute(ReadMedia())) == 1
    await dss.execute(ReleaseLock(type_, deletion.id, holder))
    await dss.execute(deletion)
    assert await dss.execute(ReadLocks()) == ()


async def test_a_lock_of_another_kind_keeps_nothing_from_being_deleted(dss: Dss) -> None:
    await dss.execute(AddDevice(drive()))
    await dss.execute(AddMedia((tape(),)))
    await dss.execute(TakeLock(LockType.MEDIA, drive().id, DAEMON))
    await dss.execute(TakeLock(LockType.DEVICE, tape_id(), DAEMON))
    await dss.execute(DeleteDevice(drive().id))
    await dss.execute(DeleteMedium(tape_id()))
    assert len(await dss.execute(ReadLocks())) == 2


async def test_a_device_status_is_set(dss: Dss) -> None:
    await dss.execute(directory("/srv/a"))
    await dss.execute(directory("/srv/b"))

    assert await dss.execute(SetDeviceStatus(device_id("/srv/a"), AdmStatus.FAILED)) is True
    assert await dss.execute(SetDeviceStatus(device_id("/srv/c"), AdmStatus.FAILED)) is False

    statuses = [row.device.adm_status for row in await dss.execute(ReadDevices())]
    assert statuses == [AdmStatus.FAILED, AdmStatus.LOCKED]


# The books of a medium


@pytest.mark.note("2.5d")
async def test_written_sizes_are_added_to_the_medium_and_never_pass_zero(dss: Dss) -> None:
    await dss.execute(directory())
    await update(dss, MediumUpdate(medium_id(), add_objects=3, add_logical=1000))
    await update(dss, MediumUpdate(medium_id(), add_objects=1, add_logical=-400, phys_spc_used=70, phys_spc_free=30))

    row = await dss.execute(ReadMedium(medium_id()))
    assert row is not None
    assert row.medium.stats == MediumStats(nb_obj=4, logc_spc_used=600, phys_spc_used=70, phys_spc_free=30)

    await update(dss, MediumUpdate(medium_id(), add_objects=-5, add_logical=-601, phys_spc_free=-1))
    row = await dss.execute(ReadMedium(medium_id()))
    assert row is not None
    assert row.medium.stats == MediumStats(phys_spc_used=70)


@pytest.mark.note("2.5d")
async def test_the_answer_to_an_update_is_the_medium_as_it_is_now(dss: Dss) -> None:
    await dss.execute(directory())

    (answer,) = await dss.execute(
        UpdateMedia(
            (
                MediumUpdate(
                    medium_id(),
                    set_objects=7,
                    set_logical=8,
                    adm_status=AdmStatus.UNLOCKED,
                    fs_status=FsStatus.EMPTY,
                    mark_used=True,
                    fs_label="/srv/a",
                    tags=("t",),
                    add_groupings=("g", "g", "h"),
                    put=False,
                    get=False,
                    delete=False,
                ),
            )
        )
    )

    row = await dss.execute(ReadMedium(medium_id()))
    assert row is not None
    assert row.medium == answer
    assert answer == replace(
        directory().medium,
        adm_status=AdmStatus.UNLOCKED,
        fs_status=FsStatus.USED,
        fs_label="/srv/a",
        stats=MediumStats(nb_obj=7, logc_spc_used=8),
        tags=("t",),
        groupings=("g", "h"),
        put=False,
        get=False,
        delete=False,
    )


@pytest.mark.note("2.5d")
async def test_the_books_of_a_release_are_written_for_all_its_media_or_none(dss: Dss) -> None:
    await dss.execute(directory("/srv/a"))
    await dss.execute(directory("/srv/b"))

    with pytest.raises(LrsError):
        await dss.execute(
            UpdateMedia(
                (
                    MediumUpdate(medium_id("/srv/a"), add_objects=1),
                    MediumUpdate(medium_id("/srv/b"), add_objects=1, fs_label="x" * 33),
                )
            )
        )

    assert [row.medium.stats.nb_obj for row in await dss.execute(ReadMedia())] == [0, 0]


async def test_a_medium_that_is_gone_answers_none_and_holds_up_nobody(dss: Dss) -> None:
    await dss.execute(directory("/srv/b"))

    gone, there = await dss.execute(
        UpdateMedia(
            (MediumUpdate(medium_id("/srv/a"), add_objects=1), MediumUpdate(medium_id("/srv/b"), add_objects=1))
        )
    )

    assert gone is None
    assert there is not None
    assert there.stats.nb_obj == 1


async def test_updates_that_belong_together_are_not_made_if_a_medium_is_gone(dss: Dss) -> None:
    await dss.execute(directory("/srv/b"))
    both = (MediumUpdate(medium_id("/srv/b"), add_objects=1), MediumUpdate(medium_id("/srv/a"), add_objects=1))

    there, gone = await dss.execute(UpdateMedia(both, together=True))

    assert gone is None
    assert there is not None
    assert there.stats.nb_obj == 0


async def test_loads_and_errors_are_counted(dss: Dss) -> None:
    await dss.execute(AddMedia((replace(tape(), stats=MediumStats(nb_obj=9, nb_load=3)),)))

    await update(dss, MediumUpdate(tape_id(), add_loads=1, last_load=1_764_000_000))
    await update(dss, MediumUpdate(tape_id(), add_errors=2))

    row = await dss.execute(ReadMedium(tape_id()))
    assert row is not None
    assert row.medium.stats == MediumStats(nb_obj=9, nb_load=4, nb_errors=2, last_load=1_764_000_000)


async def test_one_medium_may_be_updated_twice_in_one_operation(dss: Dss) -> None:
    await dss.execute(directory())
    change = MediumUpdate(medium_id(), add_objects=1)

    first, second = await dss.execute(UpdateMedia((change, change)))

    assert first is not None
    assert second is not None
    assert (first.stats.nb_obj, second.stats.nb_obj) == (1, 2)


# Locks


@pytest.mark.parametrize("type_", list(LockType))
async def test_a_free_resource_is_locked_and_released(dss: Dss, type_: LockType) -> None:
    assert await dss.execute(TakeLock(type_, device_id(), DAEMON)) is None

    lock = await lock_on(dss, type_, device_id())
    assert (lock.owner, lock.is_weak, lock.last_locate) == (DAEMON, False, None)

    assert await dss.execute(ReleaseLock(type_, device_id(), DAEMON)) is True
    assert await dss.execute(ReleaseLock(type_, device_id(), DAEMON)) is False
    assert await dss.execute(ReadLocks()) == ()


async def test_a_lock_shows_on_its_own_device_and_medium_only(dss: Dss) -> None:
    await dss.execute(directory("/srv/a"))
    await dss.execute(directory("/srv/b"))
    await dss.execute(TakeLock(LockType.DEVICE, device_id("/srv/a"), DAEMON))
    await dss.execute(TakeLock(LockType.MEDIA, medium_id("/srv/b"), DAEMON))
    await dss.execute(TakeLock(LockType.MEDIA_UPDATE, medium_id("/srv/a"), DAEMON))

    on_device = await lock_on(dss, LockType.DEVICE, device_id("/srv/a"))
    on_medium = await lock_on(dss, LockType.MEDIA, medium_id("/srv/b"))

    assert [row.lock for row in await dss.execute(ReadDevices())] == [on_device, None]
    assert [row.lock for row in await dss.execute(ReadMedia())] == [None, on_medium]


async def test_taking_a_lock_that_one_has_already_is_no_conflict_and_changes_nothing(dss: Dss) -> None:
    await dss.execute(TakeLock(LockType.MEDIA, medium_id(), DAEMON))
    before = await lock_on(dss, LockType.MEDIA, medium_id())

    assert await dss.execute(TakeLock(LockType.MEDIA, medium_id(), DAEMON)) is None

    assert await lock_on(dss, LockType.MEDIA, medium_id()) == before


@pytest.mark.parametrize("rival", [COMMAND, ELSEWHERE])
async def test_a_lock_in_the_way_is_answered_with_its_row_and_stays(dss: Dss, rival: LockOwner) -> None:
    await dss.execute(TakeLock(LockType.MEDIA, medium_id(), DAEMON))
    held = await lock_on(dss, LockType.MEDIA, medium_id())

    assert await dss.execute(TakeLock(LockType.MEDIA, medium_id(), rival)) == held
    assert await dss.execute(ReleaseLock(LockType.MEDIA, medium_id(), rival)) is False
    assert await lock_on(dss, LockType.MEDIA, medium_id()) == held


async def test_locks_are_read_by_host(dss: Dss) -> None:
    await dss.execute(TakeLock(LockType.MEDIA, medium_id("/srv/a"), DAEMON))
    await dss.execute(TakeLock(LockType.MEDIA, medium_id("/srv/b"), ELSEWHERE))

    (lock,) = await dss.execute(ReadLocks(host="store2"))

    assert lock.owner == ELSEWHERE
    assert len(await dss.execute(ReadLocks())) == 2


async def test_a_lock_is_replaced_only_if_the_very_row_is_still_there(dss: Dss) -> None:
    await dss.execute(TakeLock(LockType.MEDIA, medium_id(), COMMAND))
    seen = await lock_on(dss, LockType.MEDIA, medium_id())

    for other in (
        replace(seen, owner=ELSEWHERE),
        replace(seen, timestamp=seen.timestamp - 0.001),
        replace(seen, type=LockType.DEVICE),
        replace(seen, id=lock_id(medium_id("/srv/b"))),
    ):
        assert await dss.execute(ReplaceLock(other, DAEMON)) is False
    assert await lock_on(dss, LockType.MEDIA, medium_id()) == seen

    assert await dss.execute(ReplaceLock(seen, DAEMON)) is True
    assert (await lock_on(dss, LockType.MEDIA, medium_id())).owner == DAEMON
    assert await dss.execute(ReplaceLock(seen, ELSEWHERE)) is False


async def test_only_the_very_rows_given_are_deleted(dss: Dss) -> None:
    for path in ("/srv/a", "/srv/b", "/srv/c"):
        await dss.execute(TakeLock(LockType.MEDIA, medium_id(path), COMMAND))
    a, b, c = await dss.execute(ReadLocks())

    assert await dss.execute(DeleteLocks((a, replace(b, timestamp=b.timestamp - 1)))) == 1

    assert await dss.execute(ReadLocks()) == (b, c)


# Media that others change


async def change_beside(settings: DssSettings, *operations: Operation[Any]) -> None:
    """What a command does on a connection of its own, in one transaction."""

    def change() -> None:
        with open_command_home(settings) as home:
            assert not [outcome for outcome in home.commit(operations) if isinstance(outcome, LrsError)]

    await trio.to_thread.run_sync(change)


async def held(dss: Dss, *paths: str) -> tuple[ResourceId, ...]:
    """Media that are known, locked by the daemon, and looked up once: none of them is news any more."""
    media = tuple(map(medium_id, paths))
    for path in paths:
        await dss.execute(directory(path))
        await dss.execute(TakeLock(LockType.MEDIA, medium_id(path), DAEMON))
    await changed(dss, *media)
    assert await changed(dss, *media) == {}
    return media


async def changed(dss: Dss, *media: ResourceId) -> dict[ResourceId, MediumRow]:
    rows = await dss.execute(ReadChangedMedia(media, DAEMON))
    assert list(rows) == sorted(rows, key=lambda row: row.medium.id)
    assert {row.medium.id for row in rows} <= set(media)
    return {row.medium.id: row for row in rows}


async def test_media_that_nobody_has_changed_are_no_news(dss: Dss) -> None:
    a, b = await held(dss, "/srv/a", "/srv/b")
    for _ in range(3):
        assert await changed(dss, b, a) == {}
        assert await changed(dss) == {}


async def test_media_that_were_never_looked_up_may_be_news_once(dss: Dss) -> None:
    (a,) = await held(dss, "/srv/a")
    await dss.execute(directory("/srv/b"))
    await dss.execute(TakeLock(LockType.MEDIA, medium_id("/srv/b"), DAEMON))
    assert set(await changed(dss, a, medium_id("/srv/b"))) <= {a, medium_id("/srv/b")}
    assert await changed(dss, a, medium_id("/srv/b")) == {}


async def test_a_medium_that_another_connection_has_changed_is_news_once(dss: Dss, dss_settings: DssSettings) -> None:
    a, b = await held(dss, "/srv/a", "/srv/b")
    for tags in (("one",), ("one", "two")):
        await change_beside(dss_settings, UpdateMedia((MediumUpdate(a, tags=tags),)))
        news = await changed(dss, a, b)
        assert news[a].medium.tags == tags
        assert news[a].lock == await lock_on(dss, LockType.MEDIA, a)
        assert await changed(dss, a, b) == {}


async def test_a_change_is_news_for_each_that_is_asked_for_later(dss: Dss, dss_settings: DssSettings) -> None:
    """The answer about one medium does not use up what there is to say of another."""
    a, b = await held(dss, "/srv/a", "/srv/b")
    changes = tuple(MediumUpdate(medium, put=False) for medium in (a, b))
    await change_beside(dss_settings, UpdateMedia(changes))
    assert not (await changed(dss, a))[a].medium.put
    assert not (await changed(dss, a, b))[b].medium.put


@pytest.mark.parametrize("read", [ReadMedia(), ReadMedium(medium_id()), ReadNamedMedia((medium_id(),))])
async def test_a_change_that_another_reader_sees_first_is_still_news(
    dss: Dss, dss_settings: DssSettings, read: Operation[Any]
) -> None:
    """The catalogue reads the same media, and tells nobody of them."""
    (a,) = await held(dss, "/srv/a")
    await change_beside(dss_settings, UpdateMedia((MediumUpdate(a, put=False),)))
    await dss.execute(read)
    assert not (await changed(dss, a))[a].medium.put
    assert await changed(dss, a) == {}


async def test_what_was_changed_here_is_no_news(dss: Dss) -> None:
    a, b = await held(dss, "/srv/a", "/srv/b")
    await update(dss, MediumUpdate(a, add_objects=1, add_logical=10, tags=("t",)))
    await dss.execute(SetDeviceStatus(device_id("/srv/a"), AdmStatus.UNLOCKED))
    await dss.execute(AppendLog(log_entry(0)))
    assert await changed(dss, a, b) == {}


async def test_a_change_of_another_is_not_hidden_by_one_of_ours(dss: Dss, dss_settings: DssSettings) -> None:
    """It is in the answer to our own change, or is news afterwards."""
    (a,) = await held(dss, "/srv/a")
    await change_beside(dss_settings, UpdateMedia((MediumUpdate(a, tags=("theirs",)),)))
    (own,) = await dss.execute(UpdateMedia((MediumUpdate(a, add_objects=1),)))
    assert own is not None
    news = await changed(dss, a)
    assert own.tags == ("theirs",) or news[a].medium.tags == ("theirs",)


async def test_a_change_that_was_rolled_back_is_no_news(dss: Dss, dss_settings: DssSettings) -> None:
    (a,) = await held(dss, "/srv/a")
    refused = MediumUpdate(a, put=False), MediumUpdate(a, fs_label="x" * 33)

    def try_in_vain() -> None:
        with open_command_home(dss_settings) as home, pytest.raises(LrsError):
            home.execute(UpdateMedia(refused))

    await trio.to_thread.run_sync(try_in_vain)
    assert all(row.medium.put for row in (await changed(dss, a)).values())
    assert await changed(dss, a) == {}


@pytest.mark.parametrize("holder", [None, COMMAND, ELSEWHERE])
async def test_a_medium_whose_lock_is_not_held_is_news_each_time(
    dss: Dss, dss_settings: DssSettings, holder: LockOwner | None
) -> None:
    a, b = await held(dss, "/srv/a", "/srv/b")
    taken = [TakeLock(LockType.MEDIA, a, holder)] if holder is not None else []
    await change_beside(dss_settings, ReleaseLock(LockType.MEDIA, a, DAEMON))
    await change_beside(dss_settings, *taken)
    for _ in range(3):
        row = (await changed(dss, a, b))[a]
        assert (row.lock.owner if row.lock else None) == holder
    await change_beside(dss_settings, *[ReleaseLock(LockType.MEDIA, a, owner) for owner in [holder] if owner])
    await dss.execute(TakeLock(LockType.MEDIA, a, DAEMON))
    await changed(dss, a, b)
    assert await changed(dss, a, b) == {}


async def test_a_lock_that_was_given_back_here_makes_its_medium_news(dss: Dss) -> None:
    a, b = await held(dss, "/srv/a", "/srv/b")
    await dss.execute(ReleaseLock(LockType.MEDIA, a, DAEMON))
    for _ in range(2):
        assert (await changed(dss, a, b))[a].lock is None


async def test_a_lock_counts_for_its_own_owner_only(dss: Dss) -> None:
    (a,) = await held(dss, "/srv/a")
    for _ in range(2):
        (row,) = await dss.execute(ReadChangedMedia((a,), COMMAND))
        assert row.lock is not None
        assert row.lock.owner == DAEMON
    assert await changed(dss, a) == {}


async def test_a_medium_that_is_gone_is_left_out(dss: Dss, dss_settings: DssSettings) -> None:
    a, b = await held(dss, "/srv/a", "/srv/b")
    await change_beside(dss_settings, ReleaseLock(LockType.MEDIA, a, DAEMON))
    await change_beside(dss_settings, DeleteDirectory(device_id("/srv/a"), a))
    for _ in range(2):
        assert a not in await changed(dss, a, b)
    assert await changed(dss, medium_id("/srv/unknown")) == {}
    await change_beside(dss_settings, directory("/srv/a"))
    assert (await changed(dss, a, b))[a].lock is None


async def test_a_medium_that_was_deleted_and_added_anew_is_news(dss: Dss) -> None:
    await dss.execute(AddMedia((tape(),)))
    await dss.execute(TakeLock(LockType.MEDIA, tape_id(), DAEMON))
    await changed(dss, tape_id())
    assert await changed(dss, tape_id()) == {}
    await dss.execute(ReleaseLock(LockType.MEDIA, tape_id(), DAEMON))
    await changed(dss, tape_id())
    await dss.execute(DeleteMedium(tape_id()))
    assert await changed(dss, tape_id()) == {}
    await dss.execute(AddMedia((WHOLE,)))
    assert (await changed(dss, tape_id()))[tape_id()].medium == WHOLE


async def test_the_reads_of_a_batch_see_its_writes(dss_settings: DssSettings) -> None:
    """Else what a task learns could be older than what another one, which wrote at the same moment, has learnt."""
    medium = medium_id()
    async with open_daemon_home(dss_settings, DAEMON) as home:
        await home.commit([directory()])
        for number in range(1, 4):
            reads = [
                ReadMedium(medium),
                ReadNamedMedia((medium,)),
                ReadChangedMedia((medium,), DAEMON),
                ReadMedia(),
            ]
            write = UpdateMedia((MediumUpdate(medium, add_objects=1),))
            found: list[Any] = await home.commit([*reads, write])
            row, (named,), (news,), (listed,), (written,) = found
            media = (row.medium, named.medium, news.medium, listed.medium, written)
            assert [m.stats.nb_obj for m in media] == [number] * 5


# The operation log


async def test_health_is_read_by_device_or_medium_in_the_order_of_writing(dss: Dss) -> None:
    for number, path in ((-5, "/srv/a"), (0, "/srv/a"), (-28, "/srv/b"), (-30, "/srv/a")):
        await dss.execute(AppendLog(log_entry(number, path)))

    assert await dss.execute(ReadHealthLog(LIBRARY, Family.DIR, device=device_id("/srv/a").name)) == (-5, 0, -30)
    assert await dss.execute(ReadHealthLog(LIBRARY, Family.DIR, medium="/srv/b")) == (-28,)
    assert await dss.execute(ReadHealthLog("other", Family.DIR, medium="/srv/b")) == ()
    assert await dss.execute(ReadHealthLog(LIBRARY, Family.TAPE, medium="/srv/b")) == ()


@pytest.mark.parametrize(
    "entry",
    [
        LogEntry(device_id(), "/srv/a", errno.EIO, "LTFS sync", "{}"),
        LogEntry(device_id(), "/srv/a", -errno.EIO, "Coffee", "{}"),
        LogEntry(device_id(), "/srv/a", -errno.EIO, "LTFS sync", "no JSON"),
        LogEntry(device_id(), "/srv/a", -errno.EIO, "LTFS sync", "[]"),
    ],
)
async def test_a_log_entry_that_readers_of_the_log_would_choke_on_is_refused(dss: Dss, entry: LogEntry) -> None:
    with pytest.raises(LrsError) as refused:
        await dss.execute(AppendLog(entry))
    assert refused.value.errno == errno.EINVAL


CAUSES = [
    "Device load",
    "Device unload",
    "LTFS mount",
    "LTFS umount",
    "LTFS format",
    "LTFS df",
    "LTFS sync",
]
"""What happens to a tape in a drive."""


async def test_what_happens_to_tapes_is_logged_and_read_back_in_order(dss: Dss) -> None:
    device, begun = drive().id, time.time()
    messages = [json.dumps({"what": f"the {cause} of é", "n": number}) for number, cause in enumerate(CAUSES)]
    numbers = [0, *range(-1, -len(CAUSES), -1)]
    for cause, message, number in zip(CAUSES, messages, numbers, strict=True):
        await dss.execute(AppendLog(LogEntry(device, "P00001L8", number, cause, message)))
        await trio.sleep(0.002)  # the times of SQLite are milliseconds

    found = await dss.execute(ReadLog(Family.TAPE))

    assert [entry.cause for entry in found] == CAUSES
    assert [entry.errno for entry in found] == numbers
    assert [json.loads(entry.message) for entry in found] == list(map(json.loads, messages))
    assert {(entry.device, entry.medium) for entry in found} == {(device, tape_id())}
    times = [entry.time for entry in found]
    assert times == sorted(times)
    assert begun - 1 < times[0] < times[-1] < time.time() + 1
    assert await dss.execute(ReadLog(Family.TAPE, limit=2)) == found[-2:]


async def test_the_log_is_read_by_family(dss: Dss) -> None:
    await dss.execute(AppendLog(log_entry(-5)))
    assert await dss.execute(ReadLog(Family.TAPE)) == ()
    (entry,) = await dss.execute(ReadLog(Family.DIR))
    assert (entry.device, entry.medium, entry.errno) == (device_id(), medium_id(), -5)


async def test_what_was_logged_at_once_is_read_in_one_order(dss_settings: DssSettings) -> None:
    """Whatever that is: two readers see the same."""
    async with open_daemon_home(dss_settings, DAEMON) as home:
        await home.commit([AppendLog(log_entry(-number)) for number in range(50)])
        (whole,) = await home.commit([ReadLog(Family.DIR)])
        (newest,) = await home.commit([ReadLog(Family.DIR, limit=20)])
    assert isinstance(whole, tuple)
    assert {entry.errno for entry in whole} == set(range(-49, 1))
    assert newest == whole[-20:]


# Together


async def test_of_many_at_once_the_refused_fail_alone(dss: Dss) -> None:
    await dss.execute(directory("/srv/7"))
    refused = []

    async def add(number: int) -> None:
        try:
            await dss.execute(directory(f"/srv/{number}"))
        except LrsError as error:
            refused.append((number, error.errno))

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(add, number)

    assert refused == [(7, errno.EEXIST)]
    assert len(await dss.execute(ReadMedia())) == 16


async def test_a_task_reads_what_it_wrote(dss: Dss) -> None:
    async def write_and_read(path: str) -> None:
        await dss.execute(directory(path))
        for count in range(1, 6):
            await update(dss, MediumUpdate(medium_id(path), add_objects=1))
            row = await dss.execute(ReadMedium(medium_id(path)))
            assert row is not None
            assert row.medium.stats.nb_obj == count

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(write_and_read, f"/srv/{number}")
