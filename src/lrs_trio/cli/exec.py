"""`lrs exec`: any command inside an allocation (decision 22)."""

from __future__ import annotations

import sys
from typing import Final

import click

from lrs_trio.cli.output import EXIT_INTERRUPTED, REPORTED, say_error
from lrs_trio.cli.site import Site, pass_site

EXIT_OURS: Final = 125

MOST_BYTES: Final = 2**64 - 1
"""What the protocol has room for."""

MOST_COPIES: Final = 1024
"""More than anybody has devices for; each costs memory here before the daemon can refuse it."""

EXEC_STATUS_HELP: Final = """
Exit status: the command's own (128 and the signal's number if a signal ended it); 127 if there is no such
command, 126 if it cannot be run, 125 for every failure of lrs exec itself: no allocation, a failed sync, a
wrong command line.
"""


class ExecUsageError(click.UsageError):
    """A wrong command line; it has an exit status that no command of the user's is likely to have."""

    exit_code = EXIT_OURS


class ExecCommand(click.Command):
    """Splits the words at the first ``--``: what stands before it and is no option names further media."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            if "--" not in args:
                return super().parse_args(ctx, args)
            split = args.index("--")
            ctx.allow_interspersed_args = True
            ctx.meta[_SPLIT] = args[split + 1 :]
            return super().parse_args(ctx, args[:split])
        except click.UsageError as error:
            raise ExecUsageError(error.format_message(), error.ctx) from error


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from lrs_trio.sizes import parse_size

    if value is None:
        return None
    try:
        size = parse_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: must be {error}", ctx, param) from None
    if size > MOST_BYTES:
        raise click.BadParameter(f"{value!r}: must be less than {MOST_BYTES + 1} bytes", ctx, param)
    return size


_SPLIT: Final = "lrs_trio.command"


@click.command(
    cls=ExecCommand,
    epilog=EXEC_STATUS_HELP,
    context_settings={"allow_interspersed_args": False},
    options_metavar="(--write SIZE | --read MEDIUM...) [OPTIONS]",
)
@click.option(
    "--write", "size", metavar="SIZE", callback=_size, help="Room for this much on each copy's medium, such as 10MiB."
)
@click.option(
    "--read", "media", multiple=True, metavar="MEDIUM...", help="Media to read: paths of directories, labels of tapes."
)
@click.option(
    "--copies",
    type=click.IntRange(1, MOST_COPIES),
    default=1,
    help="With --write: media to write on.",
    show_default=True,
)
@click.option("--required", type=click.IntRange(1), help="With --read: how many of the media are needed; else all.")
@click.option("--family", type=click.Choice(["dir", "tape", "rados_pool"]), default="dir", show_default=True)
@click.option("--library", help="Only media of this library; those to read are of 'legacy' if none is named.")
@click.option("--tag", "tags", multiple=True, help="With --write: only media with this tag; may be repeated.")
@click.option("--quiet", "-q", is_flag=True, help="Do not tell what was written and where.")
@click.argument("words", nargs=-1, metavar="-- COMMAND...")
@pass_site
@click.pass_context
def execute(
    ctx: click.Context,
    site: Site,
    size: int | None,
    media: tuple[str, ...],
    copies: int,
    required: int | None,
    family: str,
    library: str | None,
    tags: tuple[str, ...],
    quiet: bool,
    words: tuple[str, ...],
) -> None:
    """Run a command inside an allocation.

    {root} in the command's words (and LRS_ROOT in its environment) is the directory it shall use, {root1},
    {root2}... (LRS_ROOT_1, LRS_ROOT_2...) are those of several media. To write, it is a fresh directory of
    the command's own on the medium; to read, the root of the medium.

    When the command succeeds, what it wrote is measured and released with a sync: once lrs exec ends with
    status 0 it is safe. When it fails, the allocation is given back without one, and what it wrote is not
    accounted for.

    The command gets the signals sent to lrs exec. If lrs exec is killed, the kernel kills the command (not
    what the command has started itself), and the daemon takes the allocation back.

    \b
    lrs exec --write 10MiB -- cp film.mkv {root}
    lrs exec --write 1GiB --copies 2 -- sh -c 'tee {root1}/a > {root2}/a < a'
    lrs exec --read /mnt/a /mnt/b --required 1 -- ls -R {root}
    """
    command = ctx.meta.get(_SPLIT)
    if command is None:
        command = list(words)
    elif words and not media:
        raise ExecUsageError(f"{words[0]}: only the media of --read stand before --")
    else:
        media += words
    if not command:
        raise ExecUsageError("there is no command to run; it follows --")
    if (size is None) == (not media):
        raise ExecUsageError("say either --write SIZE or --read MEDIUM...")
    if "" in media:
        raise ExecUsageError("an empty word names no medium to read")
    if required is not None and (not media or required > len(media)):
        raise ExecUsageError("--required goes with --read and is not more than the media named")
    if media and (copies > 1 or tags):
        raise ExecUsageError("--copies and --tag go with --write")
    # Not at import: `lrs --help` has no use for the client library.
    from lrs_trio.cli.allocation import Wanted, run_in_allocation
    from lrs_trio.cli.command import fill_in

    try:
        fill_in(command, ["/"] * (copies if size is not None else required or len(media)))
    except ValueError as error:
        raise ExecUsageError(str(error)) from None
    wanted = Wanted(family, library, size, copies, tags, media=media, required=required or len(media))
    try:
        status = run_in_allocation(site, wanted, command, quiet)
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except REPORTED as error:
        say_error(error)
        status = EXIT_OURS
    sys.exit(status)
