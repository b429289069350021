"""`lrs timeline`: what the devices did all the time, drawn and in per cent, from a recording of the daemon."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrs_trio.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from lrs_trio.observe.recording import Recording
    from lrs_trio.observe.timeline import Timeline


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE.html", help="Where the picture goes.")
@click.option("--from", "begin", type=float, metavar="S", help="Begin so many seconds after the recording began.")
@click.option("--to", "end", type=float, metavar="S", help="End so many seconds after the recording began.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON; a picture only goes to --output.")
def timeline(recording: Path, output: Path | None, begin: float | None, end: float | None, as_json: bool) -> None:
    """Draw what every device did all the time, and how the requests fared.

    RECORDING is the trace that a daemon writes whose settings say events.trace. The picture is one HTML file that any
    browser shows, without a network; it lies beside the recording unless --output says where. What is printed is how
    the time of each device was divided. The recording of a daemon that is running may be drawn at any time; it grows
    until the daemon ends.
    """
    from lrs_trio.observe.recording import read_recording
    from lrs_trio.observe.replay import build_timeline
    from lrs_trio.observe.report import timeline_report

    read = read_recording(recording)
    shown = _cut(build_timeline(read.events, read.header.time), begin, end)
    picture = output if output or as_json else recording.with_suffix(".html")
    if picture is not None:
        write_picture(picture, recording, read, shown)
    if as_json:
        print_json(timeline_report(shown))
        return
    print_shares(shown)
    say(f"the picture is {picture}")


def write_picture(path: Path, source: Path, recording: Recording, shown: Timeline, note: str = "") -> None:
    """Write the picture of `shown`, which comes from the `recording` at `source`; `note` is told its readers.

    Raises:
        OSError: it cannot be written, or (EINVAL) the recording would be lost by it.
    """
    from datetime import UTC, datetime

    from lrs_trio.errors import LrsError
    from lrs_trio.observe.picture import draw

    if path.exists() and path.samefile(source):
        raise LrsError(errno.EINVAL, f"{path}: is the recording itself; say with --output where the picture goes")
    begun = datetime.fromtimestamp(recording.header.wall_clock, UTC)
    page = draw(shown, f"Devices and requests on {recording.header.host}", begun=begun, note=note)
    path.write_text(page, encoding="utf-8")


def print_shares(shown: Timeline) -> None:
    """For each family, how the time of its devices was divided, each and all together.

    The tables fit in a small window; the picture has more.
    """
    from lrs_trio.observe.picture import shares_rows

    for number, family in enumerate(shown.families):
        if number:
            click.echo()
        head, *rows = shares_rows(shown, family)
        print_table(head, rows, right=frozenset(head[1:]), title=f"family {family}")
    if not shown.families:
        say("there is no device in the recording")


def _cut(whole: Timeline, begin: float | None, end: float | None) -> Timeline:
    from lrs_trio.observe.timeline import MICROSECONDS

    if begin is None and end is None:
        return whole
    length = whole.duration / MICROSECONDS
    first, last = 0.0 if begin is None else begin, length if end is None else end
    # Written such that what is no number does not pass.
    if not (first < last and first < length and last > 0):
        raise click.UsageError(f"--from and --to leave nothing of the recording, which is {length:g} s long")
    return whole.between(round(max(first, 0) * MICROSECONDS), round(min(last, length) * MICROSECONDS))
