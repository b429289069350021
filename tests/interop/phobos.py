"""A stand-in for the commands of a Phobos 3.3 client: what they say to the daemon, and what they write themselves."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from lrs_trio.model import (
    LABEL_LENGTH,
    ConfigureOperation,
    Family,
    FsType,
    LockOwner,
    NotifyOperation,
    ReadOperation,
    RequestKind,
)
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
    ReleasedMedium,
    Request,
    Stat,
    Statistics,
)
from tests.interop.database import Database, LockError
from tests.interop.host import Directory, HasDevice, HasMedium, StorageHost
from tests.interop.wire import Command, Connection, RefusedError, Said

LABEL_FILE: Final = ".phobos_dir_label"
FILESYSTEMS: Final = {Family.DIR: FsType.POSIX, Family.TAPE: FsType.LTFS}


class BusyError(OSError):
    """A command finds that a device is in use."""


class Phobos:
    """A user of the commands on one host. `said` is what the last one that has ended, or is under way, has said."""

    def __init__(self, host: StorageHost) -> None:
        self.host = host
        self.database = Database(host.url, LockOwner(host.name, os.getpid()))
        self.said: list[Said] = []
        self._commands: list[Command] = []

    def close(self) -> None:
        """End whatever is left of commands that were not run to their end."""
        for command in self._commands:
            command.end()
        self.database.close()

    @contextmanager
    def command(self) -> Iterator[Command]:
        """One run of a command, whose connections end with it."""
        command = Command(self.host.socket)
        self.said = command.said
        self._commands.append(command)
        try:
            yield command
        finally:
            command.end()

    # Directories.

    def dir_add(self, *directories: Directory, unlock: bool = False, tags: Sequence[str] = ()) -> None:
        with self.command() as command:
            admin = command.connect()
            for directory in directories:
                self.database.insert_medium(directory, adm_status="unlocked" if unlock else "locked", tags=tags)
                try:
                    self.device_add(admin, directory)
                except RefusedError:
                    self.database.delete_medium(directory)
                    raise

    def device_add(self, admin: Connection, directory: Directory) -> None:
        """The device's part of `dir add`."""
        self.database.insert_device(directory)
        try:
            self.notify_add(admin, directory)
        except RefusedError:
            self.database.delete_device(directory)
            raise

    def notify_add(self, admin: Connection, one: HasDevice) -> None:
        """What `dir add` says when all rows are there."""
        _notify(admin, one, NotifyOperation.DEVICE_ADD)

    def dir_del(self, directory: Directory) -> None:
        """Raises `LockError` EEXIST where somebody serves the directory, or its medium."""
        database, (device, medium) = self.database, (directory.locks["device"], directory.locks["media"])
        with self.command() as command:
            command.connect()
            with database.locked("device", device):
                row = database.device(directory)
                database.delete_device(directory)
            try:
                with database.locked("media", medium):
                    database.delete_medium(directory)
            except LockError:
                database.insert_device(directory, adm_status=row["adm_status"])
                raise

    def dir_lock(self, directory: Directory) -> None:
        """The daemon lets go of the directory when nobody uses it any more, which nobody waits for here."""
        with self.command() as command:
            admin = command.connect()
            self._media_update(command, directory, adm_status="locked")
            self._device_lock(admin, directory, wait=False)

    def dir_unlock(self, directory: Directory) -> None:
        with self.command() as command:
            admin = command.connect()
            self._media_update(command, directory, adm_status="unlocked")
            if self.database.lock_of("device", directory.device):
                raise BusyError(f"{directory.device} is in use")
            self.database.set_device(directory, "unlocked")
            _notify(admin, directory, NotifyOperation.DEVICE_UNLOCK)

    def device_lock(self, one: HasDevice) -> None:
        """As `drive lock --wait` for tapes: the daemon has let go of the device when this returns."""
        with self.command() as command:
            self._device_lock(command.connect(), one, wait=True)

    def _device_lock(self, admin: Connection, one: HasDevice, *, wait: bool) -> None:
        lock = self.database.lock_of("device", one.device)
        if one.host != self.host.name and lock:
            raise BusyError(f"{one.device} is in use by {lock['hostname']}")
        self.database.set_device(one, "locked")
        self.notify_lock(admin, one, wait=wait)
        if wait:
            self.locked(admin, one)

    def notify_lock(self, admin: Connection, one: HasDevice, *, wait: bool) -> None:
        """What is said when the row is changed; `locked` takes the answer, if there will be one."""
        admin.send(Request(1, Notify(one.device, NotifyOperation.DEVICE_LOCK, wait)))

    def locked(self, admin: Connection, one: HasDevice) -> None:
        assert admin.expect(1, Notified).resource == one.device

    def dir_update(self, directory: Directory, **columns: Any) -> None:
        """As `dir update` for tags, and `dir set-access` for the flags."""
        with self.command() as command:
            self._media_update(command, directory, **columns)

    def _media_update(self, command: Command, one: HasMedium, **columns: Any) -> None:
        """Change its row, and tell the daemon of this host if it has the medium, on a connection of its own."""
        self.database.update_medium(one, **columns)
        lock = self.database.lock_of("media", one.medium)
        if lock and lock["hostname"] == self.host.name:
            resource = one.medium
            answer = command.connect().ask(1, Notify(resource, NotifyOperation.MEDIA_UPDATE, wait=True), Notified)
            assert answer.resource == resource

    def format(self, *media: HasMedium, unlock: bool = False, force: bool = False, streams: int = 0) -> None:
        """Ask for `streams` formats at a time, all at once by default, and raise the first error when all are over."""
        with self.command() as command:
            self.format_all(command.connect(), media, unlock=unlock, force=force, streams=streams)

    def format_all(
        self,
        admin: Connection,
        media: Sequence[HasMedium],
        *,
        unlock: bool,
        force: bool = False,
        streams: int,
        on_window: Callable[[int], None] = lambda outstanding: None,
    ) -> None:
        """As `format`; `on_window` is told before each wait how many are outstanding."""
        waiting = deque(enumerate(media))
        outstanding: dict[int, HasMedium] = {}
        errors: list[RefusedError] = []
        while waiting or outstanding:
            while waiting and (not streams or len(outstanding) < streams):
                id_, one = waiting.popleft()
                admin.send(Request(id_, Format(one.medium, FILESYSTEMS[one.medium.family], unlock=unlock, force=force)))
                outstanding[id_] = one
            on_window(len(outstanding))
            response = admin.receive()
            one = outstanding.pop(response.request_id)
            if isinstance(response.body, Formatted):
                assert response.body.medium == one.medium
            else:
                assert isinstance(response.body, Failed), response
                errors.append(RefusedError(response.body.rc, response.body.kind))
        if errors:
            raise errors[0]

    def dir_ready(self, *directories: Directory, tags: Sequence[str] = ()) -> None:
        """Whatever it takes until they can be written."""
        for directory in directories:
            self.dir_add(directory, unlock=True, tags=tags)
        self.format(*directories)

    def dir_known(self, *directories: Directory) -> None:
        """As `dir_ready`, without a daemon: what is there when one has done that and has ended."""
        for directory in directories:
            self.database.insert_medium(directory, adm_status="unlocked")
            self.database.insert_device(directory)
            (directory.path / LABEL_FILE).write_text(str(directory.path))
            label = str(directory.path)[:LABEL_LENGTH]
            space = os.statvfs(directory.path)
            self.database.update_medium(directory, fs_status="empty", fs_label=label, **_figures(space))

    def import_(self, directory: Directory, objects: Mapping[str, bytes]) -> None:
        """Make a directory known that bears a label and holds files of a site that is no more.

        `objects` are those that the directory is expected to hold; each is one file, which is called like it.
        """
        with self.command() as command:
            admin = command.connect()
            self.database.insert_medium(directory, adm_status="unlocked", fs_status="importing")
            self.device_add(admin, directory)
            label = (directory.path / LABEL_FILE).read_text()[:LABEL_LENGTH]
            self.database.update_medium(directory, fs_label=label)
            read = ReadAllocation(1, (directory.medium,), ReadOperation.READ)
            (granted,) = admin.ask(0, read, ReadGranted).media
            assert granted.medium == directory.medium
            found = {path.name: path.read_bytes() for path in sorted(directory.path.iterdir()) if path.name in objects}
            assert found == objects
            for oid, content in found.items():
                row = self.database.begin_object(oid, len(content), None, overwrite=False)
                extent = {"uuid": row["object_uuid"], "size": len(content), "address": oid, "offset": 0}
                place = {"family": "dir", "medium": str(directory.path), "library": directory.library}
                layout = {"name": "raid1", "major": 0, "minor": 2, "attrs": {"raid1.repl_count": "1"}}
                self.database.complete_copy(row, "source", layout, [extent | place])
            size = sum(map(len, found.values()))
            space = os.statvfs(granted.root)
            self.database.update_medium(
                directory, nb_obj=len(found), logc_spc_used=size, fs_status="used", **_figures(space)
            )
            element = ReleasedMedium(directory.medium, 0, 0, 0, to_sync=False)
            admin.send(Request(1, Release((element,), RequestKind.RELEASE_READ)))

    def locate(self, oid: str) -> str:
        """The host that has a copy of the object, where its media are kept for us for a while from now on."""
        _, extents = self.database.copy(oid, "source")
        hosts = set()
        for extent in extents:
            id_ = f"{extent['medium_id']}_{extent['medium_library']}"
            (lock,) = self.database.rows("SELECT * FROM lock WHERE type = 'media' AND id = %s", id_)
            self.database.refresh_locate("media", id_)
            hosts.add(lock["hostname"])
        (host,) = hosts
        assert isinstance(host, str)
        return host

    # What needs no device.

    def ping(self) -> None:
        with self.command() as command:
            assert command.connect().ask(1, Ping(False), Pong) == Pong(False)

    def monitor(self, family: Family = Family.DIR) -> list[dict[str, Any]]:
        with self.command() as command:
            found = json.loads(command.connect().ask(0, Monitor(family), Monitored).status)
        assert isinstance(found, list)
        return found

    def stats(self, namespace: str | None = None, name: str | None = None, tags: str | None = None) -> Any:
        with self.command() as command:
            return json.loads(command.connect().ask(0, Stat(namespace, name, tags), Statistics).stats)

    def fair_share(self, technology: str) -> list[str]:
        """The least and the most drives for reads, writes and formats."""
        keys = [("io_sched_tape", f"fair_share_{technology}_{end}") for end in ("min", "max")]
        return self.configuration(*keys)

    def set_fair_share(self, technology: str, least: str, most: str) -> None:
        section = "io_sched_tape"
        self.configure(
            (section, f"fair_share_{technology}_min", least), (section, f"fair_share_{technology}_max", most)
        )

    def configuration(self, *keys: tuple[str, str]) -> list[str]:
        """What the daemon has for these sections and keys."""
        asked = _compact([{"section": section, "key": key} for section, key in keys])
        with self.command() as command:
            answer = command.connect().ask(1, Configure(ConfigureOperation.GET, asked), Configured)
        found = json.loads(answer.configuration or "")
        assert isinstance(found, list)
        return found

    def configure(self, *values: tuple[str, str, str]) -> None:
        """Set sections and keys in the daemon that runs."""
        given = _compact([{"section": section, "key": key, "value": value} for section, key, value in values])
        with self.command() as command:
            answer = command.connect().ask(1, Configure(ConfigureOperation.SET, given), Configured)
        assert answer.configuration is None

    # After a test.

    def remove(self, *directories: Directory) -> None:
        """Let nothing of them be left."""
        for directory in directories:
            self.device_lock(directory)
            self.dir_del(directory)
        self.database.forget_objects()


def _notify(admin: Connection, one: HasDevice, operation: NotifyOperation) -> None:
    assert admin.ask(1, Notify(one.device, operation, wait=True), Notified).resource == one.device


def _figures(space: os.statvfs_result) -> dict[str, int]:
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    return {"phys_spc_used": used, "phys_spc_free": space.f_bavail * space.f_frsize}


def _compact(items: list[dict[str, str]]) -> str:
    return json.dumps(items, separators=(",", ":"))
