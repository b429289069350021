"""Drives and shelves for one pass of placement, in few words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lrs_trio.errors import LrsError
from lrs_trio.model import (
    AdmStatus,
    Family,
    FsStatus,
    FsType,
    Medium,
    MediumStats,
    ReadOperation,
    RequestKind,
    ResourceId,
)
from lrs_trio.scheduling.library_offers import DriveOffer, Stock
from lrs_trio.scheduling.piles import ShelfMedium
from lrs_trio.scheduling.placement import Never, Outcome, Placed, VolumeOffer, Waits
from lrs_trio.scheduling.queued_reads import held_for_reads, wanted_here
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation, WriteMedium

LIBRARY = "lib"
READ, WRITE, FORMAT = RequestKind.READ, RequestKind.WRITE, RequestKind.FORMAT
ONLY_READ, ONLY_WRITE, ONLY_FORMAT = frozenset({READ}), frozenset({WRITE}), frozenset({FORMAT})
NOBODY = frozenset[RequestKind]()


def tape_id(name: str, library: str = LIBRARY) -> ResourceId:
    return ResourceId(Family.TAPE, name, library)


def tape(
    name: str,
    free: int = 1000,
    *,
    library: str = LIBRARY,
    model: str | None = "LTO8",
    fs_status: FsStatus = FsStatus.USED,
    adm_status: AdmStatus = AdmStatus.UNLOCKED,
    **more: Any,
) -> Medium:
    stats = MediumStats(phys_spc_free=free)
    return Medium(tape_id(name, library), FsType.LTFS, adm_status, fs_status, name, model=model, stats=stats, **more)


def drive(
    name: str,
    medium: Medium | None = None,
    *,
    library: str = LIBRARY,
    model: str | None = "TD8",
    available: int | None = None,
    mounted: bool = False,
    loaded: bool | None = None,
    busy: bool = False,
    serving: bool = True,
    idle: bool = True,
    slots: int = 1,
    kinds: frozenset[RequestKind] = frozenset({READ, WRITE}),
    mixes: bool = False,
    load: int = 0,
    pending: int = 0,
    used: float = 0.0,
    technology: str | None = "LTO8",
    **more: Any,
) -> DriveOffer:
    """A drive at rest, with `medium` loaded; `busy` with one grant that leaves no room for another."""
    free = medium.stats.phys_spc_free if medium is not None else 0
    return DriveOffer(
        device=tape_id(name, library),
        model=model,
        medium=medium,
        volume=VolumeOffer(free, free if available is None else available),
        mounted=mounted,
        loaded=(medium is not None and not mounted) if loaded is None else loaded,
        serving=serving,
        idle=idle and not busy,
        slots=0 if busy else slots,
        kinds=kinds,
        mixes=mixes,
        load=1 if busy else load,
        pending=pending,
        used=used,
        technology=technology,
        **more,
    )


def fits_by_name(medium: Medium, drive_model: str | None) -> bool:
    """LTO8 goes into TD8 and TD9, LTO9 into TD9 only: like a real site."""
    return drive_model in {"LTO8": ("TD8", "TD9"), "LTO9": ("TD9",)}.get(medium.model or "", ())


def stock(
    drives: Iterable[DriveOffer],
    shelf: Iterable[Medium] = (),
    *,
    refused: Mapping[str, LrsError] | None = None,
    barred: Collection[tuple[str, str]] = (),
    wanted: Collection[str] = (),
    absent: Mapping[ResourceId, LrsError] | None = None,
    grouped: bool = False,
    leaving: Iterable[Medium] = (),
) -> Stock:
    refusals = refused or {}
    return Stock(
        drives=list(drives),
        shelf={medium.id: ShelfMedium(medium, refusals.get(medium.id.name)) for medium in shelf},
        compatible=fits_by_name,
        barred={(tape_id(drive), tape_id(medium)) for drive, medium in barred},
        wanted={tape_id(name) for name in wanted},
        absent=absent or {},
        grouped=grouped,
        leaving={medium.id: medium for medium in leaving},
    )


def wanted_by_reads(requests: Iterable[ReadAllocation], drives: Sequence[DriveOffer]) -> set[ResourceId]:
    """The media in drives that any of `requests` wants, if it needs nothing else."""
    held = held_for_reads(drives)
    return {medium for request in requests for medium in wanted_here(request, held)}


def write(*sizes: int, tags: tuple[str, ...] = (), empty: bool = False, **more: Any) -> WriteAllocation:
    return WriteAllocation(tuple(WriteMedium(size, tags, empty) for size in sizes), Family.TAPE, **more)


def read(required: int, *names: str, operation: ReadOperation = ReadOperation.READ) -> ReadAllocation:
    return ReadAllocation(required, tuple(map(tape_id, names)), operation)


def pairs(outcome: Outcome) -> list[tuple[str, str]]:
    """What is placed: media and the drives for them."""
    assert isinstance(outcome, Placed), outcome
    return [(take.medium.id.name, take.device.name) for take in outcome.takes]


def waits(outcome: Outcome) -> bool:
    assert isinstance(outcome, Waits), outcome
    return True


def refused(outcome: Outcome) -> int | None:
    assert isinstance(outcome, Never), outcome
    return outcome.error.errno


def settle(outcome: Outcome, kind: RequestKind) -> None:
    """What a family does with an outcome, on the stock alone."""
    if isinstance(outcome, Placed):
        outcome.take(kind)
    elif isinstance(outcome, Waits):
        outcome.keep()
