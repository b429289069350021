"""The demo on tapes: a virtual library, a drive that breaks, and a picture of it all."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any, Final

import click
import trio

from lrs_trio.cli.administration import open_administration
from lrs_trio.cli.demo.crowd import Crowd, DrainCrowd
from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite
from lrs_trio.cli.demo.ledger import make_tape_orders
from lrs_trio.cli.demo.running import progress_bar, require_written, run_clients
from lrs_trio.cli.demo.tape_report import Outcome, Record, print_checks, print_summary
from lrs_trio.cli.demo.tape_site import MAGNIFICATION, TapePace, kill_drive, open_library, tape_site
from lrs_trio.cli.drive_administration import DriveAdministration
from lrs_trio.cli.output import counted
from lrs_trio.cli.tape_administration import TapeAdministration
from lrs_trio.cli.timeline import write_picture
from lrs_trio.client.asynchronous import open_client
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.errors import LrsError
from lrs_trio.model import Family

DRAIN_CLIENTS: Final = 3
"""So many writes of two copies each find room in seven drives."""

CLIENTS_PER_READER: Final = 8
LOOK_S: Final = 0.01

GRACE_S: Final = 4 * 3600.0
DRAIN_S: Final = 4000.0
"""How much longer than asked for the crowd may take, and the drain, in the time of the library. Seconds."""


def run_on_tapes(
    *, clients: int, files: int, seconds: float, speed: float, picture: Path, base: Path | None, keep: bool
) -> bool:
    """The whole demo; ``True`` if all checks hold.

    Raises:
        OSError: it cannot be done, or the picture cannot be written.
    """
    _check_writable(picture)
    with tape_site(base, speed, keep=keep) as site:
        pace = TapePace(open_library(site).drives[0].generation, speed)
        daemon = DemoDaemon(site)
        try:
            click.echo(f"lrsd runs with pid {daemon.pid}; everything is below {site.base}")
            _add_and_format(site, daemon, speed)
            outcome = _run_clients(site, daemon, pace, clients, files, seconds)
            outcome.status = daemon.wait(pace.limit(DRAIN_S))
        finally:
            daemon.end()
        click.echo(f"drained: lrsd ended with status {outcome.status}\n")
        record = Record.read(site.trace, speed)
        note = (
            f"A demonstration: this library was {speed:g} times as fast as a real one, and the files {MAGNIFICATION:,}"
            " times smaller; the times and sizes here are a real one's."
        )
        write_picture(picture, site.trace, record.recording, record.timeline, note)
        print_summary(outcome, record, speed)
        click.echo()
        sound = print_checks(site, outcome, record)
        click.echo(f"\nwhat every drive did all the time, and how the requests fared: {picture.absolute()}")
        if keep:
            click.echo(f"left in {site.base}; look with: lrs --config {site.config} tape list")
    return sound


def _check_writable(picture: Path) -> None:
    """Find out before the work begins.

    Raises:
        LrsError: the picture cannot be written there.
    """
    place = picture if picture.exists() else picture.absolute().parent
    if not os.access(place, os.W_OK):
        number = errno.EACCES if place.exists() else errno.ENOENT
        raise LrsError(number, f"{picture}: cannot be written: {os.strerror(number)}; name another with --timeline")


def _add_and_format(site: DemoSite, daemon: DemoDaemon, speed: float) -> None:
    """As `lrs drive add --unlock`, `lrs tape add` and `lrs tape format --unlock` do it."""
    library = open_library(site)
    with open_administration(DriveAdministration, site.site) as drives:
        for drive in library.drives:
            drives.add(drive.serial, unlock=True)
    labels = [cartridge.label for cartridge in library.cartridges]
    begun = time.monotonic()
    with open_administration(TapeAdministration, site.site) as tapes:
        added = [*tapes.add(labels, library.cartridges[0].model), *tapes.format(labels, unlock=True)]
    problem = next((result.error for result in added if result.error is not None), None)
    if problem is not None:
        raise daemon.failure(str(problem))
    took = time.monotonic() - begun
    click.echo(
        f"{counted(len(library.drives), 'drive')} and {counted(len(labels), 'tape')} added, and the tapes formatted:"
        f" {took:.1f} s, or {took * speed / 60:.0f} min in a real library, for this one is {speed:g} times as fast"
    )


def _run_clients(
    site: DemoSite, daemon: DemoDaemon, pace: TapePace, clients: int, files: int, seconds: float
) -> Outcome:
    """The crowd, a drive that breaks meanwhile, and the drain."""
    orders = make_tape_orders(files + DRAIN_CLIENTS)
    crowd = Crowd(site.socket, orders[:files], seconds, Family.TAPE, pace)
    drain = DrainCrowd(site.socket, crowd, daemon.interrupt)
    outcome = Outcome(crowd.ledger, drain.seen)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_break_a_drive, site, crowd, outcome, name="breaker of a drive")
            with progress_bar(files) as progress:
                await crowd.run(clients, progress, readers=-(-clients // CLIENTS_PER_READER))
        click.echo(f"{counted(clients, 'client')} wrote {counted(len(crowd.ledger.written), 'file')}")
        require_written(daemon, crowd.ledger)
        outcome.reports = await _drives(site)
        click.echo(f"SIGINT to lrsd in the middle of {DRAIN_CLIENTS} writes")
        await drain.run(orders[files:])

    run_clients(daemon, work, seconds + pace.limit(GRACE_S))
    return outcome


async def _break_a_drive(site: DemoSite, crowd: Crowd, outcome: Outcome) -> None:
    """In the middle, and while a client uses it unless all of them are too fast."""
    await crowd.wait_half()
    drives = await _mounted(site)
    while not crowd.all_written and not any(drive["ongoing"] for drive in drives):
        await trio.sleep(LOOK_S)
        drives = await _mounted(site)
    if not drives:
        return  # nothing could be written, which will be told
    chosen = next((drive for drive in drives if drive["ongoing"]), drives[0])
    outcome.broken, outcome.stuck, outcome.broken_at = chosen["name"], chosen["medium"], trio.current_time()
    kill_drive(site, outcome.broken)
    click.echo(f"drive {outcome.broken} breaks, with the tape {outcome.stuck} in it")


async def _mounted(site: DemoSite) -> list[dict[str, Any]]:
    return [drive for drive in await _drives(site) if drive["status"] == DeviceStatus.MOUNTED.value]


async def _drives(site: DemoSite) -> list[dict[str, Any]]:
    """What the daemon says of its drives."""
    async with open_client(site.socket) as client:
        report = await client.status()
    devices: list[dict[str, Any]] = report["families"][0]["devices"]
    return devices
