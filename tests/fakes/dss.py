"""A DSS in memory that does what `dss/operations.py` says, may be slow, and may be away for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import trio

from lrs_trio.dss.books import updated_medium
from lrs_trio.dss.operations import (
    AddDevice,
    AddDirectory,
    AddMedia,
    AppendLog,
    DeleteDevice,
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    DeviceRow,
    LogEntry,
    LoggedOperation,
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
from lrs_trio.dss.refusals import already_known, given_twice, in_use, not_empty, not_locked, unknown
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Device, Lock, LockOwner, LockType, Medium, ResourceId, lock_id

T = TypeVar("T")


class FakeDss:
    """Each operation takes `delay()` seconds and is then done as a whole, between two checkpoints.

    `committed` lists what was done, oldest first, with its time. An operation whose type is in `refusals` is
    refused with that error.
    """

    def __init__(self) -> None:
        self.devices: dict[ResourceId, Device] = {}
        self.media: dict[ResourceId, Medium] = {}
        self.locks: dict[tuple[LockType, str], Lock] = {}
        self.log: list[LogEntry] = []
        self.committed: list[tuple[float, Operation[Any]]] = []
        self.refusals: dict[type[Operation[Any]], LrsError] = {}
        self.delay: Callable[[], float] = lambda: 0.0
        self._submitted: list[tuple[Operation[Any], Callable[[Any], None]]] = []
        self._writing = False
        self._away_since: float | None = None
        self._back = trio.Event()
        self._answered: dict[ResourceId, Medium] = {}

    @property
    def unavailable_since(self) -> float | None:
        return self._away_since

    def go_away(self) -> None:
        self._away_since = trio.current_time()
        self._back = trio.Event()

    def come_back(self) -> None:
        self._away_since = None
        self._back.set()

    async def execute(self, operation: Operation[T]) -> T:
        await self._wait_turn()
        return self._execute(operation)

    async def execute_all(self, operations: Sequence[Operation[T]]) -> list[T | LrsError]:
        await self._wait_turn()
        outcomes: list[T | LrsError] = []
        for operation in operations:
            try:
                outcomes.append(self._execute(operation))
            except LrsError as error:
                outcomes.append(error)
        return outcomes

    def submit(self, operation: Operation[T], done: Callable[[T | LrsError], None]) -> None:
        self._submitted.append((operation, done))
        if not self._writing:
            self._writing = True
            trio.lowlevel.spawn_system_task(self._write, name="fake dss writer")

    async def _write(self) -> None:
        """What is submitted meanwhile is done together."""
        while batch := self._submitted:
            self._submitted = []
            await self._wait_turn()
            for operation, done in batch:
                try:
                    outcome = self._execute(operation)
                except LrsError as error:
                    outcome = error
                done(outcome)
        self._writing = False

    async def _wait_turn(self) -> None:
        await trio.sleep(self.delay())
        while self._away_since is not None:
            await self._back.wait()

    def _execute(self, operation: Operation[T]) -> T:
        refusal = self.refusals.get(type(operation))
        if refusal is not None:
            raise refusal
        result = self._do(operation)
        self.committed.append((trio.current_time(), operation))
        return cast(T, result)

    def updates(self, medium: ResourceId | None = None) -> list[MediumUpdate]:
        """Every update of `medium`, or of all, that was committed."""
        return [
            update
            for _, operation in self.committed
            if isinstance(operation, UpdateMedia)
            for update in operation.updates
            if medium is None or update.id == medium
        ]

    def add_lock(self, kind: LockType, resource: ResourceId, owner: LockOwner, **more: Any) -> Lock:
        lock = Lock(kind, lock_id(resource), owner, more.pop("timestamp", 0.0), **more)
        self.locks[kind, lock.id] = lock
        return lock

    def _do(self, operation: Operation[Any]) -> object:
        match operation:
            case ReadDevices():
                return tuple(
                    self._device_row(device)
                    for _, device in sorted(self.devices.items())
                    if operation.family in (None, device.id.family) and operation.host in (None, device.host)
                )
            case ReadDevice():
                device = self.devices.get(operation.id)
                return None if device is None else self._device_row(device)
            case ReadMedia():
                return tuple(self._medium_row(id) for id in sorted(self.media) if operation.family in (None, id.family))
            case ReadMedium():
                return self._medium_row(operation.id) if operation.id in self.media else None
            case ReadNamedMedia():
                malformed = self.refusals.get(ReadMedium)
                return tuple(
                    malformed or (self._medium_row(id) if id in self.media else None) for id in operation.media
                )
            case ReadChangedMedia():
                return tuple(
                    self._medium_row(id) for id in sorted(operation.media) if self._changed(id, operation.owner)
                )
            case ReadHealthLog():
                return tuple(
                    entry.errno
                    for entry in self.log
                    if (entry.device.library, entry.device.family) == (operation.library, operation.family)
                    and operation.device in (None, entry.device.name)
                    and operation.medium in (None, entry.medium)
                )
            case ReadLocks():
                return tuple(lock for lock in self.locks.values() if operation.host in (None, lock.owner.host))
            case TakeLock():
                return self._take_lock(operation)
            case ReplaceLock():
                return self._replace_lock(operation)
            case ReleaseLock():
                return self._release_lock(operation)
            case DeleteLocks():
                same = [lock for lock in operation.locks if self.locks.get((lock.type, lock.id)) == lock]
                for lock in same:
                    del self.locks[lock.type, lock.id]
                return len(same)
            case UpdateMedia():
                if operation.together and not all(medium in self.media for medium in operation.media):
                    return tuple(map(self.media.get, operation.media))
                return tuple(map(self._update, operation.updates))
            case SetDeviceStatus():
                if operation.id not in self.devices:
                    return False
                self.devices[operation.id] = replace(self.devices[operation.id], adm_status=operation.adm_status)
                return True
            case AddDevice():
                self._add((operation.device,), ())
            case AddMedia():
                self._add((), operation.media)
            case AddDirectory():
                self._add((operation.device,), (operation.medium,))
            case DeleteDevice():
                self._check_unused({LockType.DEVICE: operation.id})
                if not operation.in_service:
                    self._check_locked(operation.id)
                self._delete({LockType.DEVICE: operation.id})
            case DeleteMedium():
                self._check_unused({LockType.MEDIA: operation.id})
                self._delete({LockType.MEDIA: operation.id})
            case DeleteDirectory():
                self._delete_directory(operation)
            case AppendLog():
                self.log.append(operation.entry)
            case ReadLog():
                return self._read_log(operation)
            case _:
                raise NotImplementedError(f"the tests of the daemon do not ask for {operation}")
        return None

    def _update(self, update: MediumUpdate) -> Medium | None:
        if update.id not in self.media:
            return None
        self.media[update.id] = self._answered[update.id] = updated_medium(self.media[update.id], update)
        return self.media[update.id]

    def _changed(self, id: ResourceId, owner: LockOwner) -> bool:
        if id not in self.media:
            return False
        lock = self.locks.get((LockType.MEDIA, lock_id(id)))
        return self._answered.get(id) != self.media[id] or lock is None or lock.owner != owner

    def _add(self, devices: Sequence[Device], media: Sequence[Medium]) -> None:
        if refusal := given_twice(medium.id for medium in media):
            raise refusal
        for device in devices:
            if device.id in self.devices:
                raise already_known(LockType.DEVICE, device.id)
        for medium in media:
            if medium.id in self.media:
                raise already_known(LockType.MEDIA, medium.id)
        self.devices |= {device.id: device for device in devices}
        self.media |= {medium.id: medium for medium in media}

    def _delete_directory(self, operation: DeleteDirectory) -> None:
        resources = {LockType.DEVICE: operation.device, LockType.MEDIA: operation.medium}
        self._check_unused(resources)
        if operation.medium in self.media:
            if not operation.in_service:
                self._check_locked(operation.device)
            if not operation.with_objects and self.media[operation.medium].stats.nb_obj:
                raise not_empty(operation.medium)
        self._delete(resources)

    def _check_unused(self, resources: Mapping[LockType, ResourceId]) -> None:
        first, resource = next(iter(resources.items()))
        if resource not in self._tables[first]:
            raise unknown(first, resource)
        for type_, resource in resources.items():
            if holder := self.locks.get((type_, lock_id(resource))):
                raise in_use(resource, holder)

    def _check_locked(self, device: ResourceId) -> None:
        if self.devices[device].adm_status is AdmStatus.UNLOCKED:
            raise not_locked(device)

    def _delete(self, resources: Mapping[LockType, ResourceId]) -> None:
        for type_, resource in resources.items():
            self._tables[type_].pop(resource, None)

    @property
    def _tables(self) -> dict[LockType, dict[ResourceId, Any]]:
        return {LockType.DEVICE: self.devices, LockType.MEDIA: self.media}

    def _read_log(self, operation: ReadLog) -> tuple[LoggedOperation, ...]:
        """What a test has put into the log itself was there at time 0."""
        times = [time for time, done in self.committed if isinstance(done, AppendLog)]
        times = [0.0] * (len(self.log) - len(times)) + times
        found = tuple(
            LoggedOperation(
                entry.device,
                ResourceId(entry.device.family, entry.medium, entry.device.library),
                entry.errno,
                entry.cause,
                entry.message,
                time,
            )
            for entry, time in zip(self.log, times, strict=True)
            if entry.device.family is operation.family
        )
        return found[-operation.limit :]

    def _take_lock(self, operation: TakeLock) -> Lock | None:
        key = operation.type, lock_id(operation.resource)
        holder = self.locks.get(key)
        ours_to_take = holder is None or (holder.is_weak and holder.owner.host == operation.owner.host)
        if ours_to_take:
            last_locate = None if holder is None else holder.last_locate
            self.locks[key] = Lock(*key, operation.owner, trio.current_time(), last_locate=last_locate)
            return None
        return None if holder is not None and holder.owner == operation.owner else holder

    def _replace_lock(self, operation: ReplaceLock) -> bool:
        expected = operation.expected
        key = expected.type, expected.id
        if self.locks.get(key) != expected:
            return False
        self.locks[key] = Lock(*key, operation.owner, trio.current_time())
        return True

    def _release_lock(self, operation: ReleaseLock) -> bool:
        key = operation.type, lock_id(operation.resource)
        holder = self.locks.get(key)
        if holder is None or not (holder.is_weak or holder.owner == operation.owner):
            return False
        del self.locks[key]
        return True

    def _device_row(self, device: Device) -> DeviceRow:
        return DeviceRow(device, self.locks.get((LockType.DEVICE, lock_id(device.id))))

    def _medium_row(self, id: ResourceId) -> MediumRow:
        medium = self._answered[id] = self.media[id]
        return MediumRow(medium, self.locks.get((LockType.MEDIA, lock_id(medium.id))))
