"""The demo on directories."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import trio

from lrs_trio.cli.administration import open_administration
from lrs_trio.cli.demo.crowd import Crowd, DrainCrowd, DrainSeen, holders, kill_a_client
from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite, demo_site
from lrs_trio.cli.demo.ledger import make_orders
from lrs_trio.cli.demo.report import print_checks, print_summary
from lrs_trio.cli.demo.running import progress_bar, require_written, run_clients
from lrs_trio.cli.directory_administration import DirectoryAdministration
from lrs_trio.cli.output import counted

DRAIN_CLIENTS: Final = 6
GRACE_S: Final = 30.0
"""How much longer than asked for the whole crowd may take before the demo gives up. Seconds."""


def run_on_directories(
    *, clients: int, files: int, directories: int, seconds: float, base: Path | None, keep: bool
) -> bool:
    """The whole demo; ``True`` if all checks hold.

    Raises:
        OSError: it cannot be done.
    """
    with demo_site(base, directories, keep=keep) as site:
        daemon = DemoDaemon(site)
        try:
            click.echo(f"lrsd runs with pid {daemon.pid}; everything is below {site.base}")
            _add_directories(site)
            crowd, taken_back, seen = _run_clients(site, daemon, clients, files, seconds)
            status = daemon.wait()
        finally:
            daemon.end()
        click.echo(f"drained: lrsd ended with status {status}\n")
        print_summary(crowd.ledger, crowd.syncs)
        click.echo()
        sound = print_checks(site, crowd.ledger, taken_back, seen, status)
        if keep:
            click.echo(f"\nleft in {site.base}; look with: lrs --config {site.config} dir list")
    return sound


def _add_directories(site: DemoSite) -> None:
    """As `lrs dir add` and `lrs dir format --unlock` do it."""
    with open_administration(DirectoryAdministration, site.site) as admin:
        for directory in site.directories:
            admin.add(directory)
            admin.format(directory, unlock=True)
    click.echo(f"{counted(len(site.directories), 'directory', 'directories')} added and formatted")


def _run_clients(
    site: DemoSite, daemon: DemoDaemon, clients: int, files: int, seconds: float
) -> tuple[Crowd, bool, DrainSeen]:
    """The crowd, a client that is killed meanwhile, and the drain; each says how it went."""
    orders = make_orders(files + DRAIN_CLIENTS)
    crowd = Crowd(site.socket, orders[:files], seconds)
    drain = DrainCrowd(site.socket, crowd, daemon.interrupt)
    killed = 0
    taken_back = False

    async def kill() -> None:
        nonlocal killed
        killed = await kill_a_client(site)

    async def work() -> None:
        nonlocal taken_back
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill, name="killer of a client")
            with progress_bar(files) as progress:
                await crowd.run(clients, progress)
        click.echo(f"{counted(clients, 'client')} wrote {counted(len(crowd.ledger.written), 'file')}")
        require_written(daemon, crowd.ledger)
        taken_back = killed > 0 and killed not in await holders(site.socket)
        click.echo(f"SIGINT to lrsd in the middle of {DRAIN_CLIENTS} writes")
        await drain.run(orders[files:])

    run_clients(daemon, work, seconds + GRACE_S)
    return crowd, taken_back, drain.seen
