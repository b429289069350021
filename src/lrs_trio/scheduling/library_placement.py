"""Which medium in which drive for reads and formats, where media come and go: pure decisions (notes 5, 6)."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from lrs_trio.errors import LrsError
from lrs_trio.model import Medium, ReadOperation, RequestKind, ResourceId
from lrs_trio.scheduling.assignment import assign
from lrs_trio.scheduling.library_offers import DriveClaim, DriveTake, Stock
from lrs_trio.scheduling.placement import (
    Never,
    Outcome,
    Placed,
    Waits,
    being_formatted,
    busy_error,
    format_error,
    no_device,
    read_error,
)
from lrs_trio.scheduling.ways import Ways
from lrs_trio.wire.messages import Format, ReadAllocation


def place_read(request: ReadAllocation, stock: Stock) -> Outcome:
    """Choose `n_required` of the media, each in a drive of its own (note 6).

    What is mounted comes before what is loaded, and that before what has to be fetched; apart from that the client's
    order counts.
    """
    refusal, usable = _readable(request, stock)
    if refusal is not None:
        return Never(refusal)
    usable.sort(key=lambda medium: stock.steps(medium.id))
    slots = [usable] * request.n_required
    ways = Ways(stock, RequestKind.READ, considerate=stock.grouped)
    chosen = _choose(slots, ways)
    if stock.grouped and len(chosen) < request.n_required:
        insisting = Ways(stock, RequestKind.READ)
        insisted = _choose(slots, insisting)
        if chosen:
            # It holds others up while it waits, maybe those for whom it would wait.
            ways, chosen = insisting, insisted
        elif insisted:
            # Only tapes that others want are in its way: those go first, and nothing may hold them up.
            return Waits(())
    if len(chosen) == request.n_required:
        return Placed(chosen)
    if not ways.suffice(slots):
        return Waits((), in_turn=False)
    picked = {take.medium.id for take in chosen}
    lacking = [medium for medium in usable if medium.id not in picked]
    return ways.rearrange(slots) or ways.waits(chosen, lacking, request.n_required, DriveClaim)


def place_format(request: Format, stock: Stock) -> Outcome:
    """The drive that has the medium, once nothing else goes on there, or one that can be given to it (note 5)."""
    medium, refusal = stock.known(request.medium), format_refusal(request, stock)
    if refusal is not None or medium is None:
        return Never(refusal or no_device(request.medium))
    ways = Ways(stock, RequestKind.FORMAT)
    drives = ways(medium)
    if drives:
        return Placed((ways.take(medium, drives[0]),))
    if not ways.suffice([[medium]]):
        return Waits((), in_turn=False)
    return ways.rearrange([[medium]]) or ways.waits((), [medium], 1, lambda drive: DriveClaim(drive, exclusive=True))


def read_refusal(request: ReadAllocation, stock: Stock) -> LrsError | None:
    """Why a read can never be served, if so."""
    return _readable(request, stock)[0]


def format_refusal(request: Format, stock: Stock) -> LrsError | None:
    """Why a format can never be done, if so."""
    medium = stock.known(request.medium)
    error = _absent(request.medium, stock) if medium is None else _format_error(request, medium, stock)
    return busy_error(error)


def drives_for_read(request: ReadAllocation, stock: Stock) -> tuple[ResourceId, ...]:
    """As `Ways.suited`."""
    return Ways(stock, RequestKind.READ).suited([_usable(request, stock)[0]] * request.n_required)


def drives_for_format(request: Format, stock: Stock) -> tuple[ResourceId, ...]:
    """As `Ways.suited`."""
    medium = stock.known(request.medium)
    return () if medium is None else Ways(stock, RequestKind.FORMAT).suited([[medium]])


def _readable(request: ReadAllocation, stock: Stock) -> tuple[LrsError | None, list[Medium]]:
    """Why a read can never be served, if so, and the media that it could be served with, in the client's order."""
    usable, error = _usable(request, stock)
    if len(usable) < request.n_required:
        return error or LrsError(errno.EINVAL, "more media are required than were named"), usable
    if None in assign([usable] * request.n_required, stock.ever):
        text = f"there are not enough drives to read {request.n_required} of these media at once"
        return LrsError(errno.ENODEV, text), usable
    return None, usable


def _usable(request: ReadAllocation, stock: Stock) -> tuple[list[Medium], LrsError | None]:
    """The media that can be read at all, in the client's order, and what is wrong with the first of the others."""
    usable, first_error = [], None
    for name in request.media:
        medium = stock.known(name)
        error = _absent(name, stock) if medium is None else _read_error(request.operation, medium, stock)
        if medium is not None and error is None:
            usable.append(medium)
        first_error = first_error or error
    return usable, first_error


def _choose(slots: Sequence[Sequence[Medium]], ways: Ways) -> tuple[DriveTake, ...]:
    return tuple(ways.take(*pair) for pair in assign(slots, ways) if pair is not None)


def _read_error(operation: ReadOperation, medium: Medium, stock: Stock) -> LrsError | None:
    return read_error(operation, medium) or stock.refusal(medium.id) or _no_drive(medium, stock)


def _format_error(request: Format, medium: Medium, stock: Stock) -> LrsError | None:
    error = format_error(request, medium)
    home = stock.home(medium.id)
    if error is None and home is not None and home.formatting:
        error = being_formatted(medium.id)
    return error or stock.refusal(medium.id) or _no_drive(medium, stock)


def _no_drive(medium: Medium, stock: Stock) -> LrsError | None:
    if stock.ever(medium):
        return None
    return LrsError(errno.ENODEV, f"{medium.id}: no usable drive of this host takes it")


def _absent(medium: ResourceId, stock: Stock) -> LrsError:
    return stock.absent.get(medium, no_device(medium))
