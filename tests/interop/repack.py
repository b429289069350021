"""tape repack: what lives on a tape is copied to an empty one, and the tape is formatted for reuse."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from lrs_trio.model import Family, FsType, RequestKind
from lrs_trio.wire.messages import (
    Format,
    Formatted,
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
from tests.interop.tables import Row
from tests.interop.tapes import Tape, TapePhobos
from tests.interop.transfers import Steps
from tests.interop.wire import Connection, RefusedError


def repacking(phobos: TapePhobos, tape: Tape, tags: Sequence[str] | None = None) -> Steps[None]:
    """Steps: read (the source is granted), written (the target too), released, formatted."""
    database = phobos.database
    row = database.medium(tape.medium)
    live = database.rows(
        "SELECT * FROM extent WHERE medium_family = 'tape' AND medium_id = %s AND medium_library = %s"
        " AND extent_uuid IN (SELECT extent_uuid FROM layout) ORDER BY address",
        tape.label,
        tape.medium.library,
    )
    with phobos.command() as command:
        connection = command.connect()
        if live:
            yield from _copying(phobos, connection, tape, live, row["tags"] if tags is None else tags)
        body = Format(tape.medium, FsType.LTFS, unlock=True, force=True)
        assert connection.ask(0, body, Formatted).medium == tape.medium
        yield "formatted"
    database.write("DELETE FROM extent WHERE state = 'orphan' AND medium_id = %s", tape.label)


def _copying(
    phobos: TapePhobos, connection: Connection, tape: Tape, live: Sequence[Row], tags: Sequence[str]
) -> Steps[None]:
    (source,) = connection.ask(1, ReadAllocation(1, (tape.medium,)), ReadGranted).media
    yield "read"
    size = sum(extent["size"] for extent in live)
    wanted = (WriteMedium(size, tuple(tags), empty_medium=True),)
    try:
        granted = connection.ask(2, WriteAllocation(wanted, Family.TAPE, prevent_duplicate=True), WriteGranted)
    except RefusedError:
        element = ReleasedMedium(tape.medium, 0, 0, 0, to_sync=False)
        connection.send(Request(3, Release((element,), RequestKind.RELEASE_READ)))
        raise
    (target,) = granted.media
    yield "written"
    fresh = [extent | {"old": extent["extent_uuid"], "extent_uuid": str(uuid4())} for extent in live]
    for extent in fresh:
        copy = Path(target.root, extent["address"])
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(source.root, extent["address"]), copy)
        phobos.database.write(
            "INSERT INTO extent (extent_uuid, state, size, medium_family, medium_id, address, hash, info, offsetof,"
            " medium_library) VALUES (%s, 'pending', %s, 'tape', %s, %s, '{}', '{}', %s, %s)",
            extent["extent_uuid"],
            extent["size"],
            target.medium.name,
            extent["address"],
            extent["offsetof"],
            target.medium.library,
        )
    elements = (
        ReleasedMedium(tape.medium, 0, 0, 0, to_sync=False),
        ReleasedMedium(target.medium, 0, size, len(live), to_sync=True),
    )
    released = connection.ask(3, Release(elements, RequestKind.RELEASE_WRITE), Released)
    assert released == Released((target.medium,), RequestKind.RELEASE_WRITE, False)
    for extent in fresh:
        uuids = extent["extent_uuid"], extent["old"]
        phobos.database.write("UPDATE layout SET extent_uuid = %s WHERE extent_uuid = %s", *uuids)
        phobos.database.write("UPDATE extent SET state = 'sync' WHERE extent_uuid = %s", uuids[0])
        phobos.database.write("UPDATE extent SET state = 'orphan' WHERE extent_uuid = %s", uuids[1])
    yield "released"
