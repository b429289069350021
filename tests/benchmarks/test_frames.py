"""What the load sends is what the daemon's own codec reads."""

from __future__ import annotations

import pytest

from benchmarks.driver import frames
from benchmarks.driver.frames import FIRST_ID, ID_FIELDS, IDS, WRITTEN, Body
from benchmarks.harness import LIBRARY
from lrs_trio.model import Family, RequestKind, ResourceId
from lrs_trio.wire.codec import decode_request
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import (
    Ping,
    ReadAllocation,
    Release,
    ReleasedMedium,
    Request,
    RequestBody,
    WriteAllocation,
    WriteMedium,
)


def medium(name: str) -> ResourceId:
    return ResourceId(Family.DIR, name, LIBRARY)


def released(name: str) -> ReleasedMedium:
    return ReleasedMedium(medium(name), size_written=WRITTEN, extents_written=1, to_sync=True)


@pytest.mark.parametrize("number", [0, 1, IDS - 1])
@pytest.mark.parametrize(
    ("body", "meant"),
    [
        (frames.ping(), Ping()),
        (frames.write(1), WriteAllocation((WriteMedium(WRITTEN),), Family.DIR, library=LIBRARY)),
        (frames.write(2), WriteAllocation((WriteMedium(WRITTEN),) * 2, Family.DIR, library=LIBRARY)),
        (frames.read("/d1"), ReadAllocation(1, (medium("/d1"),))),
        (
            frames.release_written(("/d1", "/d2")),
            Release((released("/d1"), released("/d2")), RequestKind.RELEASE_WRITE),
        ),
        (frames.release_read("/d1"), Release((ReleasedMedium(medium("/d1")),), RequestKind.RELEASE_READ)),
    ],
)
def test_the_daemon_reads_what_is_meant(body: Body, meant: RequestBody, number: int) -> None:
    (message,) = FrameDecoder().feed(body.before + ID_FIELDS[number] + body.after)
    request = decode_request(message)
    assert (request.id, type(request.body)) == (FIRST_ID + number, type(meant))
    assert request == Request(FIRST_ID + number, meant) or isinstance(meant, Ping)
