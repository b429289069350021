"""The embedded home of the DSS: one SQLite file, used directly by commands and through a thread by the daemon.

Every batch is one transaction that is on the disk when `SqliteHome.commit` returns: WAL with
``synchronous=FULL`` syncs the log before a COMMIT succeeds. Whatever SQLite answers that means "not
now" becomes `DssUnavailableError`, that the file is damaged an `LrsError`; a wrong use of SQLite stays what it is.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, cast

import apsw

from lrs_trio.dss.migrations import Migration, bundled_migrations, migrate, refuse_unknown_schema
from lrs_trio.dss.operations import (
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    MediumRow,
    Operation,
    Outcome,
    ReadChangedMedia,
    ReleaseLock,
    ReplaceLock,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.refusals import not_accepted
from lrs_trio.dss.sqlite_books import update_media_together
from lrs_trio.dss.sqlite_operations import READS, WRITES, Handler, read_readable_media
from lrs_trio.errors import DssUnavailableError, LrsError
from lrs_trio.model import LockOwner, ResourceId

T = TypeVar("T")

FILE_MODE: Final = 0o660
"""The group of the DSS file may administer; SQLite gives the files beside it the same mode."""

BUSY_TIMEOUT_S: Final = 5.0
"""How long to wait for another process that writes. The commands write for milliseconds at a time."""

_LOOK_AGAIN_S: Final = 0.002
"""How often to look whether the other process still writes; nobody looks while nobody else does."""

_NOT_ACCEPTED: Final = (apsw.ConstraintError, apsw.TooBigError, UnicodeError)
"""What a single operation says, or asks for, cannot be written or read."""

_NOT_NOW: Final = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.ProtocolError,
    apsw.NoMemError,
)
"""What an administrator, or a moment of patience, can mend without touching the daemon."""

_LOCK_CHANGES: Final = frozenset({TakeLock, ReplaceLock, ReleaseLock, DeleteLocks, DeleteDirectory, DeleteMedium})


class SqliteHome:
    """A DSS in one SQLite file. To be used by one thread at a time, not always the same; `open` makes one."""

    def __init__(self, db: apsw.Connection, path: str) -> None:
        self._db = db
        self._path = path
        # The data version at which these media were last answered, locked by that owner. It changes when
        # another connection has committed anything, and with no commit of ours.
        self._answered: dict[tuple[ResourceId, LockOwner], int] = {}
        self._answering: dict[tuple[ResourceId, LockOwner], int] = {}

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        migrations: Sequence[Migration] | None = None,
        busy_timeout: float = BUSY_TIMEOUT_S,
        vfs: str | None = None,
        exclusive: bool = False,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
    ) -> Self:
        """Open the DSS at `path`; create it, or bring its schema up to date, where needed.

        Args:
            migrations: the steps of the schema, those that come with this program by default.
            busy_timeout: seconds to wait for another process that writes.
            vfs: the name of an SQLite VFS that holds the file, the operating system's by default.
            exclusive: keep every other connection out, which needs no shared memory from the VFS.
            synchronous: less than ``FULL`` loses what was committed when the power fails: for data that
                may be thrown away.

        Raises:
            LrsError: the file cannot be made or used, holds something else, is damaged, or has a newer schema.
            DssUnavailableError: not now; another process was writing for longer than `busy_timeout`.
        """
        name = os.fspath(path)
        migrations = bundled_migrations() if migrations is None else migrations
        if vfs is None:
            _create_file(Path(name))
        try:
            db = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs=vfs)
            try:
                _tune(db, busy_timeout)
                if exclusive:
                    # Before the first access: the index of the log is then kept in our memory.
                    db.execute("PRAGMA locking_mode = EXCLUSIVE")
                refuse_unknown_schema(db, name, migrations)
                _keep_write_ahead_log(db, name, synchronous)
                migrate(db, migrations)
            except BaseException:
                db.close(True)
                raise
        except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
            raise LrsError(
                errno.EACCES,
                f"DSS {name}: cannot be opened for writing by user id {os.geteuid()} ({error}); "
                "the file and its directory must be writable for that user or one of its groups",
            ) from error
        except apsw.NotADBError as error:
            raise LrsError(
                errno.EINVAL, f"DSS {name}: not an SQLite database; name the DSS file, or one that does not exist yet"
            ) from error
        except apsw.CorruptError as error:
            raise damaged(name, error) from error
        except _NOT_NOW as error:
            raise _unavailable(name, error) from error
        return cls(db, name)

    def close(self) -> None:
        """Close the file; the last process to do so folds the log into it."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> str:
        return self._path

    def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """Execute `batch` in one transaction; when this returns it is on the disk.

        The answer holds for each operation its result, or the `LrsError` that refused it: that one did
        nothing, the others did. The batch's reads see all its writes.

        Raises:
            DssUnavailableError: nothing of the batch was done; it may be tried again.
            LrsError: EIO, the file is damaged; nothing of the batch was done.
        """
        writing = any(type(operation) in WRITES for operation in batch)
        if any(type(operation) in _LOCK_CHANGES for operation in batch):
            self._answered.clear()
        self._answering.clear()
        try:
            self._roll_back()  # What an earlier roll-back could not: it is never left half done.
            self._db.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
            try:
                outcomes = self._execute(batch)
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        except apsw.CorruptError as error:
            raise damaged(self._path, error) from error
        except _NOT_NOW as error:
            raise _unavailable(self._path, error) from error
        self._answered |= self._answering
        return outcomes

    def execute(self, operation: Operation[T]) -> T:
        """Commit one operation and return its result; raises also the `LrsError` that refused it."""
        (outcome,) = self.commit([operation])
        if isinstance(outcome, LrsError):
            raise outcome
        return cast(T, outcome)

    def _execute(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """Writes in their order, then reads; books, of which there are most, as many at once as follow each other."""
        outcomes: dict[int, Outcome] = {}
        in_order = sorted(range(len(batch)), key=lambda place: type(batch[place]) not in WRITES)
        for are_books, run in groupby(in_order, key=lambda place: isinstance(batch[place], UpdateMedia)):
            places = tuple(run)
            operations = [batch[place] for place in places]
            found = self._keep_books(operations) if are_books else None
            outcomes.update(zip(places, found or map(self._attempt, operations), strict=True))
        return [outcomes[place] for place in range(len(batch))]

    def _keep_books(self, operations: Sequence[Any]) -> Sequence[Outcome] | None:
        """The outcomes of `operations`; ``None`` if they have to be tried one by one.

        They write with one statement, of which SQLite leaves nothing if it refuses anything.
        """
        try:
            return update_media_together(self._db, operations)
        except _NOT_ACCEPTED:
            return None

    def _attempt(self, operation: Operation[Any]) -> Outcome:
        """The result of `operation`, or the error that refused it, with nothing of it done."""
        if isinstance(operation, ReadChangedMedia):
            return self._result(self._changed_media, operation)
        if type(operation) in READS:
            return self._result(READS[type(operation)], operation)
        self._db.execute("SAVEPOINT operation")
        outcome = self._result(WRITES[type(operation)], operation)
        if isinstance(outcome, LrsError):
            self._db.execute("ROLLBACK TO operation")
        self._db.execute("RELEASE operation")
        return outcome

    def _changed_media(self, db: apsw.Connection, operation: ReadChangedMedia) -> tuple[MediumRow, ...]:
        owner, version = operation.owner, cast(int, db.execute("PRAGMA data_version").get)
        doubtful = [medium for medium in operation.media if self._answered.get((medium, owner)) != version]
        rows = read_readable_media(db, doubtful)
        held = (row.medium.id for row in rows if row.lock is not None and row.lock.owner == owner)
        self._answering |= {(medium, owner): version for medium in held}
        return rows

    def _result(self, handler: Handler, operation: Operation[Any]) -> Outcome:
        try:
            return handler(self._db, operation)
        except LrsError as error:
            return error
        except _NOT_ACCEPTED as error:
            return not_accepted(self._path, operation, str(error))

    def _roll_back(self) -> None:
        # SQLite ends the transaction by itself after some errors.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _create_file(path: Path) -> None:
    """Make the file with our mode, if it is not there: SQLite's own would not let the group write.

    A file that is there is not opened: closing it again would drop the locks that other connections of
    this process hold on it, as POSIX has it.
    """
    if not path.parent.is_dir():
        raise LrsError(
            errno.ENOENT,
            f"DSS {path}: its directory {path.parent} does not exist; create it, writable for the daemon's user",
        )
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        if path.is_dir():
            raise LrsError(errno.EISDIR, f"DSS {path}: this is a directory; name a file in it") from None
        return
    except OSError as error:
        number = error.errno or errno.EIO
        raise LrsError(
            number,
            f"DSS {path}: cannot be created by user id {os.geteuid()}: {os.strerror(number)}; "
            f"make {path.parent} writable for that user",
        ) from error
    try:
        os.fchmod(descriptor, FILE_MODE)
        if os.geteuid() == 0:
            # Root may prepare the DSS before the daemon, which runs as somebody else, starts for the first time.
            parent = path.parent.stat()
            os.fchown(descriptor, parent.st_uid, parent.st_gid)
    finally:
        os.close(descriptor)


def _tune(db: apsw.Connection, busy_timeout: float) -> None:
    # SQLite's own busy timeout soon looks only every 100 ms: beside a daemon under load, which writes most
    # of the time, a command would miss the gaps between its batches for seconds.
    def wait(looks: int) -> bool:
        time.sleep(_LOOK_AGAIN_S)
        return looks * _LOOK_AGAIN_S < busy_timeout

    db.set_busy_handler(wait)
    # A plan that does not depend on the values bound: otherwise each new value prepares the joins anew.
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def _keep_write_ahead_log(db: apsw.Connection, path: str, synchronous: str) -> None:
    mode = db.execute("PRAGMA journal_mode = WAL").get
    if mode != "wal":
        raise LrsError(
            errno.EINVAL,
            f"DSS {path}: SQLite cannot keep a write-ahead log there (journal mode is {mode}); "
            "put the DSS on a local filesystem",
        )
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA foreign_keys = ON")


def damaged(path: str, error: apsw.CorruptError) -> LrsError:
    return LrsError(errno.EIO, f"DSS {path}: it is damaged ({error}); lrs dss check says more, or put back a copy")


def _unavailable(path: str, error: apsw.Error) -> DssUnavailableError:
    return DssUnavailableError(f"DSS {path}: {error} ({type(error).__name__}); nothing was written, try again")
