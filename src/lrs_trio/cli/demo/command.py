"""`lrs demo`: the main job with one command, on real files and with a real daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--tape", is_flag=True, help="On a virtual tape library instead of directories.")
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=32, show_default=True, help="Clients at the same time."
)
@click.option("--files", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="Files to write.")
@click.option("--directories", type=click.IntRange(2, 64), show_default="4", help="Directories to write in.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), show_default="10; 50 with --tape", help="Start no file later."
)
@click.option(
    "--speed",
    type=click.FloatRange(1, 10_000),
    show_default="200",
    help="With --tape: how much faster than a real one the library is.",
)
@click.option(
    "--timeline",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    show_default="lrs-demo-tape.html",
    help="With --tape: where the picture of what the drives did goes.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where to make the demo's directory; else where temporary files go.",
)
@click.option("--keep", is_flag=True, help="Leave the demo's directory there, to be looked at.")
def demo(
    tape: bool,
    clients: int,
    files: int,
    directories: int | None,
    seconds: float | None,
    speed: float | None,
    timeline: Path | None,
    base: Path | None,
    keep: bool,
) -> None:
    """Show the main job on temporary directories, or on a virtual tape library.

    Makes a DSS and some directories, starts lrsd, lets a crowd of clients write and read files with one and
    with two copies, kills a client, interrupts the daemon while I/O is under way, and checks that
    everything that was promised is true. Exit status 0 if all checks hold.

    With --tape there are 40 tapes, in a library with 8 drives that takes its time for all it does. All files are
    written twice, a drive breaks in the middle, and in the end there is a picture of what every drive did all the time
    and how the requests fared.
    """
    # Not at import: the other commands have no use for trio.
    if tape:
        from lrs_trio.cli.demo.tapes import run_on_tapes

        if directories is not None:
            raise click.UsageError("--directories does not go with --tape")
        sound = run_on_tapes(
            clients=clients,
            files=files,
            seconds=seconds or 50.0,
            speed=speed or 200.0,
            picture=timeline or Path("lrs-demo-tape.html"),
            base=base,
            keep=keep,
        )
    else:
        from lrs_trio.cli.demo.directories import run_on_directories

        for name, value in (("--speed", speed), ("--timeline", timeline)):
            if value is not None:
                raise click.UsageError(f"{name} goes with --tape only")
        sound = run_on_directories(
            clients=clients, files=files, directories=directories or 4, seconds=seconds or 10.0, base=base, keep=keep
        )
    sys.exit(0 if sound else 1)
