"""Transfers of a Phobos 3.3 client: put, get, copy and hard delete, step by step.

Each is a generator that says what has just happened and goes on when it is asked to, so that a test can look at
what is there in between, or let the client die. `run` goes through all of it.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

from lrs_trio.model import Family, ReadOperation, RequestKind, ResourceId
from lrs_trio.wire.messages import (
    Failed,
    GrantedMedium,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.interop.host import LIBRARY
from tests.interop.phobos import Phobos
from tests.interop.tables import Row
from tests.interop.wire import Connection, RefusedError

T = TypeVar("T")
Steps = Generator[str, None, T]

BLOCKS: Final = {Family.DIR: 1024, Family.TAPE: 512 * 1024}
"""What sizes are rounded up to, and of which three more are asked for with each object. Bytes."""

SOURCE: Final = "source"


def run(steps: Steps[T]) -> T:
    """All steps to the end, and the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


@dataclass(frozen=True, slots=True)
class Layout:
    """How an object is cut: each of `media` gets a piece, any `needed` of which make it whole again."""

    name: str
    minor: int
    media: int
    needed: int
    attributes: tuple[tuple[str, str], ...] = ()

    def piece_size(self, size: int) -> int:
        return -(-size // self.needed)

    def pieces(self, content: bytes) -> list[bytes]:
        """What each medium gets of `content`."""
        if self.needed == 1:
            return [content] * self.media
        size = self.piece_size(len(content))
        data = [content[start : start + size].ljust(size, b"\0") for start in range(0, size * self.needed, size)]
        return [*data, reduce(_xor, data)]

    def whole(self, pieces: dict[int, bytes], size: int) -> bytes:
        """The content of `size` bytes, from the pieces of `needed` media by their place in the layout."""
        if self.needed == 1:
            (content,) = pieces.values()
            return content
        parity = self.media - 1
        missing = [index for index in range(parity) if index not in pieces]
        for index in missing:
            pieces[index] = reduce(_xor, (piece for at, piece in pieces.items() if at != index))
        return b"".join(pieces[index] for index in range(parity))[:size]

    def description(self) -> dict[str, object]:
        return {"name": self.name, "major": 0, "minor": self.minor, "attrs": dict(self.attributes)}


def raid1(copies: int) -> Layout:
    return Layout("raid1", 2, copies, 1, (("raid1.repl_count", str(copies)),))


ONE: Final = raid1(1)
RAID4: Final = Layout("raid4", 1, 3, 2)


@dataclass(slots=True)
class Target:
    """An object to be put: its content, or only how many bytes long it is, of which nobody reads any."""

    oid: str
    content: bytes = b""
    hole: int = 0
    written: int = 0
    row: Row = field(default_factory=dict)
    extents: list[Row] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content) or self.hole

    @property
    def left(self) -> int:
        return self.size - self.written


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of a put."""

    layout: Layout = ONE
    tags: tuple[str, ...] = ()
    grouping: str | None = None
    library: str | None = LIBRARY
    no_split: bool = False
    overwrite: bool = False
    family: Family = Family.DIR


def put(phobos: Phobos, oid: str, content: bytes, **wishes: Any) -> None:
    """One object, to the end."""
    run(putting(phobos, [Target(oid, content)], Wishes(**wishes)))


def putting(
    phobos: Phobos, targets: Sequence[Target], wishes: Wishes = Wishes(), clock: Callable[[], float] = lambda: 0.0
) -> Steps[None]:
    """Steps: granted, partial (a partial release was answered), written (a target, others follow), released.

    An OSError that is thrown in is an error of the client's own. `clock` tells when a medium was last synced, in
    seconds; by default no time passes, so that the same is said each time.
    """
    for target in targets:
        target.row = phobos.database.begin_object(target.oid, target.size, wishes.grouping, overwrite=wishes.overwrite)
    try:
        with phobos.command() as command:
            yield from Writer(command.connect(), targets, wishes, clock).steps()
    except (RefusedError, OSError):
        for target in targets:
            phobos.database.roll_back(target.row)
        raise
    for target in targets:
        phobos.database.complete_copy(target.row, SOURCE, wishes.layout.description(), target.extents)


class Writer:
    """The writing half of a transfer, on a connection that the reading half may share."""

    def __init__(
        self, connection: Connection, targets: Sequence[Target], wishes: Wishes, clock: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._left = list(targets)
        self._wishes = wishes
        self._clock = clock
        self._granted = WriteGranted(())
        self._written: dict[ResourceId, tuple[int, int]] = {}
        self._since = 0.0

    def steps(self) -> Steps[None]:
        self._connection.send(self.allocation())
        self.take(self._connection.expect(0, WriteGranted))
        yield from self.go_on()

    def allocation(self) -> Request:
        """Room for all that is left, on as many media as the layout has."""
        layout, block = self._wishes.layout, BLOCKS[self._wishes.family]
        size = sum((-(-layout.piece_size(target.left) // block) + 3) * block for target in self._left)
        wanted = (WriteMedium(size, self._wishes.tags),) * layout.media
        body = WriteAllocation(
            wanted,
            self._wishes.family,
            library=self._wishes.library,
            no_split=self._wishes.no_split,
            grouping=self._wishes.grouping,
        )
        return Request(0, body)

    def take(self, granted: WriteGranted) -> None:
        assert len(granted.media) == self._wishes.layout.media
        assert len({medium.medium for medium in granted.media}) == len(granted.media)
        assert granted.thresholds is not None, "clients need the thresholds"
        self._granted = granted
        self._forget_written()

    def go_on(self) -> Steps[None]:
        """From the first grant on."""
        try:
            while True:
                yield "granted"
                yield from self._write_split()
                if not self._left:
                    break
                self._connection.send(self._release(), self.allocation())
                self._take_both()
            self._connection.send(self._release())
            self._check_released(self._connection.expect(0, Released), partial=False)
            yield "released"
        except OSError as error:
            self._connection.send(self._release(error))
            raise

    def _write_split(self) -> Steps[None]:
        """Write what these media have room for."""
        layout = self._wishes.layout
        room = min(medium.avail_size for medium in self._granted.media)
        while self._left:
            target = self._left[0]
            part = min(target.left, room * layout.needed)
            self._write(target, part)
            room -= layout.piece_size(part)
            if target.left:
                return
            self._left.pop(0)
            if not self._left or layout.piece_size(self._left[0].left) > room:
                return
            if self._is_sync_due():
                self._connection.send(self._release(partial=True))
                self._check_released(self._connection.expect(0, Released), partial=True)
                self._forget_written()
                yield "partial"
            else:
                yield "written"

    def _write(self, target: Target, part: int) -> None:
        layout = self._wishes.layout
        content = target.content[target.written : target.written + part]
        pieces = layout.pieces(content) if target.content else [b""] * layout.media
        size = layout.piece_size(part)
        for medium, piece in zip(self._granted.media, pieces, strict=True):
            uuid = str(uuid4())
            address = _address(target.oid, uuid)
            path = Path(medium.root, address)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(piece)
                file.truncate(size)
            target.extents.append(
                {
                    "uuid": uuid,
                    "size": size,
                    "family": medium.medium.family.label,
                    "medium": medium.medium.name,
                    "library": medium.medium.library,
                    "address": address,
                    "offset": target.written,
                }
            )
            bytes_, extents = self._written[medium.medium]
            self._written[medium.medium] = (bytes_ + size, extents + 1)
        target.written += part

    def _is_sync_due(self) -> bool:
        thresholds = self._granted.thresholds
        assert thresholds is not None
        return (
            any(size >= thresholds.size or count >= thresholds.requests for size, count in self._written.values())
            or self._clock() - self._since > thresholds.age
        )

    def _release(self, error: OSError | None = None, *, partial: bool = False) -> Request:
        rc = 0 if error is None else -(error.errno or errno.EIO)
        elements = tuple(
            ReleasedMedium(medium, rc, size, extents, error is None, self._wishes.grouping)
            for medium, (size, extents) in self._written.items()
        )
        return Request(0, Release(elements, RequestKind.RELEASE_WRITE, partial))

    def _take_both(self) -> None:
        """The answers to a release and to the allocation that was sent with it, in any order."""
        granted: WriteGranted | None = None
        for _ in range(2):
            response = self._connection.receive()
            assert response.request_id == 0, response
            match response.body:
                case Released():
                    self._check_released(response.body, partial=False)
                case WriteGranted():
                    granted = response.body
                case Failed(rc, kind):
                    raise RefusedError(rc, kind)
                case other:
                    raise AssertionError(other)
        assert granted is not None
        self.take(granted)

    def _check_released(self, released: Released, *, partial: bool) -> None:
        assert sorted(released.media) == sorted(self._written)
        assert (released.kind, released.partial) == (RequestKind.RELEASE_WRITE, partial)

    def _forget_written(self) -> None:
        self._written = {medium.medium: (0, 0) for medium in self._granted.media}
        self._since = self._clock()


def get(phobos: Phobos, oid: str) -> bytes:
    """The content of an object, got to the end."""
    return run(getting(phobos, oid))


def getting(phobos: Phobos, oid: str, name: str = SOURCE) -> Steps[bytes]:
    """Step: granted, once for each split. The release is not answered, and the client ends when it has sent it."""
    row, extents = phobos.database.copy(oid, name)
    with phobos.command() as command:
        connection = command.connect()
        content = b""
        for split in _splits(row, extents):
            connection.send(_read_allocation(row, split))
            granted = connection.expect(0, ReadGranted)
            yield "granted"
            try:
                content += _read_split(row, split, granted)
            except OSError as error:
                connection.send(_read_release(granted, error))
                raise
            connection.send(_read_release(granted))
    phobos.database.touch_copy(row)
    return content


def copy_create(phobos: Phobos, oid: str, name: str) -> None:
    """One more copy, of one extent. A read and a write are asked for at once, with one id."""
    row, extents = phobos.database.copy(oid, SOURCE)
    (split,) = _splits(row, extents)
    phobos.database.begin_copy(row, name)
    with phobos.command() as command:
        connection = command.connect()
        target = Target(oid, b"?" * row["size"])
        writer = Writer(connection, [target], Wishes(), lambda: 0.0)
        connection.send(_read_allocation(row, split), writer.allocation())
        answers = [connection.receive(), connection.receive()]
        assert {answer.request_id for answer in answers} == {0}
        bodies = [answer.body for answer in answers]
        (read,) = [body for body in bodies if isinstance(body, ReadGranted)]
        (written,) = [body for body in bodies if isinstance(body, WriteGranted)]
        target.content = _read_split(row, split, read)
        writer.take(written)
        connection.send(_read_release(read))
        run(writer.go_on())
    phobos.database.complete_copy(row, name, ONE.description(), target.extents)


def delete_hard(phobos: Phobos, oid: str, name: str = SOURCE, *, with_object: bool = True) -> None:
    """The object with its only copy or, without the object, one copy of it: the files too."""
    row, extents = phobos.database.copy(oid, name)
    with phobos.command() as command:
        connection = command.connect()
        for split in _splits(row, extents):
            connection.send(_read_allocation(row, split, ReadOperation.DELETE))
            granted = connection.expect(0, ReadGranted)
            assert len(granted.media) == len(split)
            roots = {medium.medium: medium.root for medium in granted.media}
            try:
                for extent in split:
                    Path(roots[_medium_of(extent)], extent["address"]).unlink()
            except OSError as error:
                connection.send(_read_release(granted, error))
                raise
            elements = tuple(
                ReleasedMedium(_medium_of(extent), 0, -extent["size"], -1, to_sync=True) for extent in split
            )
            connection.send(Request(0, Release(elements, RequestKind.RELEASE_READ)))
            released = connection.expect(0, Released)
            assert len(released.media) == len(split)
            assert (released.kind, released.partial) == (RequestKind.RELEASE_READ, False)
    phobos.database.delete_copy(row, extents, with_object=with_object)


def delete_from_tape(phobos: Phobos, oid: str) -> None:
    """The object with its only copy; the daemon is not asked, as nothing is ever deleted on a tape."""
    row, extents = phobos.database.copy(oid, SOURCE)
    with phobos.command() as command:
        command.connect()
    phobos.database.orphan_copy(row, extents, with_object=True)


def _splits(row: Row, extents: Sequence[Row]) -> list[Sequence[Row]]:
    """The extents of a copy, those together that were written with one allocation."""
    width = _layout_of(row).media
    return [extents[start : start + width] for start in range(0, len(extents), width)]


def _layout_of(row: Row) -> Layout:
    attributes = row["lyt_info"]["attrs"]
    if row["lyt_info"]["name"] == RAID4.name:
        return RAID4
    return raid1(int(attributes["raid1.repl_count"]))


def _read_allocation(row: Row, split: Sequence[Row], operation: ReadOperation = ReadOperation.READ) -> Request:
    """The older a copy, the earlier: its priority is minus the microseconds at which it was made."""
    media = tuple(_medium_of(extent) for extent in split)
    needed = len(split) if operation is ReadOperation.DELETE else _layout_of(row).needed
    return Request(0, ReadAllocation(needed, media, operation), qos=0, priority=-int(row["created"] * 1_000_000))


def _read_split(row: Row, split: Sequence[Row], granted: ReadGranted) -> bytes:
    layout = _layout_of(row)
    assert len(granted.media) == layout.needed
    by_medium = {_medium_of(extent): index for index, extent in enumerate(split)}
    pieces = {
        by_medium[medium.medium]: _read_piece(medium, split[by_medium[medium.medium]]) for medium in granted.media
    }
    piece = split[0]
    return layout.whole(pieces, min(piece["size"] * layout.needed, row["size"] - piece["offsetof"]))


def _read_piece(medium: GrantedMedium, extent: Row) -> bytes:
    return Path(medium.root, extent["address"]).read_bytes()


def _read_release(granted: ReadGranted, error: OSError | None = None) -> Request:
    """One that is not answered: nothing was written, or nobody knows what was deleted."""
    rc = 0 if error is None else -(error.errno or errno.EIO)
    elements = tuple(ReleasedMedium(medium.medium, rc, 0, 0, to_sync=False) for medium in granted.media)
    return Request(0, Release(elements, RequestKind.RELEASE_READ))


def _medium_of(extent: Row) -> ResourceId:
    return ResourceId(Family.from_label(extent["medium_family"]), extent["medium_id"], extent["medium_library"])


def _address(oid: str, uuid: str) -> str:
    """Where an extent is below the root of its medium: two directories, and what tells it from all others."""
    digest = hashlib.sha1(f"{oid}{uuid}".encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{oid}.{uuid}"


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))
