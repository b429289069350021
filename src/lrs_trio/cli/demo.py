"""`lrs demo`: the main job with one command, on real files and with a real daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lrs_trio.cli.output import counted
from lrs_trio.errors import LrsError

if TYPE_CHECKING:
    from lrs_trio.cli.demo_crowd import Crowd, DrainSeen, Syncs
    from lrs_trio.cli.demo_daemon import DemoDaemon, DemoSite
    from lrs_trio.cli.demo_ledger import Ledger

DRAIN_CLIENTS: Final = 6
GRACE_S: Final = 30.0
"""How much longer than asked for the whole crowd may take before the demo gives up. Seconds."""


@click.command()
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=32, show_default=True, help="Clients at the same time."
)
@click.option("--files", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="Files to write.")
@click.option(
    "--directories", type=click.IntRange(2, 64), default=4, show_default=True, help="Directories to write in."
)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=10, show_default=True, help="Start no file later.")
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where to make the demo's directory; else where temporary files go.",
)
@click.option("--keep", is_flag=True, help="Leave the demo's directory there, to be looked at.")
def demo(clients: int, files: int, directories: int, seconds: float, base: Path | None, keep: bool) -> None:
    """Show the main job on temporary directories.

    Makes a DSS and some directories, starts lrsd, lets a crowd of clients write and read files with one and
    with two copies, kills a client, interrupts the daemon while I/O is under way, and checks that
    everything that was promised is true. Exit status 0 if all checks hold.
    """
    # Not at import: the other commands have no use for trio.
    from lrs_trio.cli.demo_daemon import DemoDaemon, demo_site
    from lrs_trio.cli.demo_report import print_checks, print_summary

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
    sys.exit(0 if sound else 1)


def _add_directories(site: DemoSite) -> None:
    """As `lrs dir add` and `lrs dir format --unlock` do it."""
    from lrs_trio.cli.administration import open_administration

    with open_administration(site.site) as admin:
        for directory in site.directories:
            admin.add(directory)
            admin.format(directory, unlock=True)
    click.echo(f"{counted(len(site.directories), 'directory', 'directories')} added and formatted")


def _run_clients(
    site: DemoSite, daemon: DemoDaemon, clients: int, files: int, seconds: float
) -> tuple[Crowd, bool, DrainSeen]:
    """The crowd, a client that is killed meanwhile, and the drain; each says how it went."""
    import trio

    from lrs_trio.cli.demo_crowd import Crowd, DrainCrowd, holders, kill_a_client
    from lrs_trio.cli.demo_ledger import make_orders

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
        with trio.fail_after(seconds + GRACE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill, name="killer of a client")
                with _progress(files) as progress:
                    await crowd.run(clients, progress)
            click.echo(f"{counted(clients, 'client')} wrote {counted(len(crowd.ledger.written), 'file')}")
            if not crowd.ledger.written:
                raise daemon.failure(f"no file could be written: {next(iter(crowd.ledger.errors), 'no time for it')}")
            taken_back = killed > 0 and killed not in await holders(site.socket)
            click.echo(f"SIGINT to lrsd in the middle of {DRAIN_CLIENTS} writes")
            await drain.run(orders[files:])

    try:
        trio.run(work)
    except trio.TooSlowError:
        raise daemon.failure(f"the clients had not ended {GRACE_S:g} s after their time") from None
    except (OSError, BaseExceptionGroup) as error:
        if isinstance(error, LrsError):
            raise  # told already
        if isinstance(error, BaseExceptionGroup):
            if error.subgroup(KeyboardInterrupt):
                raise KeyboardInterrupt from None
            if error.split(OSError)[1] is not None:
                raise
        raise daemon.failure("lrsd cannot be reached any more") from None
    return crowd, taken_back, drain.seen


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Ledger, Syncs], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stdout.isatty():
        yield lambda ledger, syncs: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("files"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    # No refreshing thread: each call of `show` draws.
    with Progress(*columns, auto_refresh=False) as bar:
        task = bar.add_task("", total=total)

        def show(ledger: Ledger, syncs: Syncs) -> None:
            text = f"{syncs.physical} syncs for {syncs.requested} releases of media"
            bar.update(task, completed=len(ledger.written), description=text, refresh=True)

        yield show
