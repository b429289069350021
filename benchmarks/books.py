"""What the DSS and the directories must say after a load: the oracle of benchmarks, soak and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.harness import Lrsd, Site, administer
from benchmarks.load import Written
from lrs_trio.dss.operations import ReadDevices, ReadLocks, ReadMedia
from lrs_trio.model import AdmStatus, LockType, ResourceId, lock_id

Totals = Mapping[ResourceId, tuple[int, int]]
"""Objects and bytes by medium."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the DSS says at one moment."""

    totals: dict[ResourceId, tuple[int, int]]
    locks: frozenset[tuple[LockType, str, int]]
    """Type, key and pid of the locks of this host."""
    not_unlocked: tuple[ResourceId, ...]
    """Devices and media that are locked or failed."""


def read_books(site: Site) -> Books:
    """Read everything at one moment. Not for a thread that runs trio."""
    media, devices, locks = administer(site, ReadMedia(), ReadDevices(), ReadLocks(site.host))
    resources = [row.medium for row in media], [row.device for row in devices]
    return Books(
        {row.medium.id: (row.medium.stats.nb_obj, row.medium.stats.logc_spc_used) for row in media},
        frozenset((lock.type, lock.id, lock.owner.pid) for lock in locks),
        tuple(resource.id for kind in resources for resource in kind if resource.adm_status is not AdmStatus.UNLOCKED),
    )


def expected_locks(site: Site, pid: int) -> frozenset[tuple[LockType, str, int]]:
    """Those of a daemon that has adopted all directories of the site."""
    media = {(LockType.MEDIA, lock_id(medium), pid) for medium in site.media}
    devices = {(LockType.DEVICE, f"{site.host}:{lock_id(medium)}", pid) for medium in site.media}
    return frozenset(media | devices)


def wrong_while_serving(site: Site, daemon: Lrsd, books: Books) -> list[str]:
    """What `books` say that they must not while `daemon` serves all directories of the site."""
    lines = []
    if books.not_unlocked:
        lines.append(f"failed or locked while the daemon serves: {books.not_unlocked}")
    if books.locks != expected_locks(site, daemon.pid):
        lines.append(f"locks while the daemon {daemon.pid} serves: {books.locks}")
    return lines


def wrong_after_drain(site: Site, daemon: Lrsd) -> list[str]:
    """What is wrong with the end of `daemon`, which was asked to drain; waits for it."""
    status = daemon.wait()
    locks = read_books(site).locks
    return [
        *([f"a drain ended with status {status}{daemon.said()}"] if status != 0 else []),
        *([f"locks after a drain: {locks}"] if locks else []),
    ]


def differences(found: Totals, expected: Totals) -> list[str]:
    """One line for each medium whose counters are not those of the releases."""
    lines = []
    for medium in sorted({*found, *expected}):
        is_, should_be = found.get(medium, (0, 0)), expected.get(medium, (0, 0))
        if is_ != should_be:
            lines.append(
                f"{medium}: the DSS counts {is_[0]} objects and {is_[1]} bytes,"
                f" the releases make {should_be[0]} and {should_be[1]}"
            )
    return lines


def sum_of(*parts: Totals) -> dict[ResourceId, tuple[int, int]]:
    sums: dict[ResourceId, tuple[int, int]] = {}
    for part in parts:
        for medium, (objects, size) in part.items():
            before = sums.get(medium, (0, 0))
            sums[medium] = before[0] + objects, before[1] + size
    return sums


def committed_unanswered(found: Totals, acknowledged: Totals, unanswered: Iterable[Written]) -> list[Written]:
    """Which of the `unanswered` releases the DSS has counted beyond the `acknowledged` ones, by their marks.

    Whether that explains all that was found is for `differences` to say.
    """
    return [
        written
        for written in unanswered
        if all(
            (found[medium][0] - acknowledged.get(medium, (0, 0))[0]) & mark
            for medium, mark in zip(written.media, written.extents, strict=True)
        )
    ]


def unsound_files(written: Iterable[Written]) -> list[str]:
    """What is wrong with files whose releases were acknowledged."""
    lines = []
    for file in written:
        for path in file.paths:
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                lines.append(f"{path}: was acknowledged and is not there")
                continue
            if size != file.order.size:
                lines.append(f"{path}: {size} bytes instead of {file.order.size}")
    return lines
