"""`lrs`: what people and scripts ask of the daemon.

This module and those of the commands import next to nothing: each command imports what it needs when it
runs, so that `lrs ping` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from lrs_trio import __version__
from lrs_trio.cli.inherited import heed_children
from lrs_trio.cli.output import EXIT_INTERRUPTED, EXIT_STATUS_HELP, REPORTED, say_error
from lrs_trio.cli.site import Site

COMMANDS: Final = {
    "config": "lrs_trio.cli.configuration:configuration",
    "demo": "lrs_trio.cli.demo.command:demo",
    "dir": "lrs_trio.cli.directories:directories",
    "drive": "lrs_trio.cli.drives:drives",
    "dss": "lrs_trio.cli.database:database",
    "exec": "lrs_trio.cli.exec:execute",
    "lib": "lrs_trio.cli.libraries:libraries",
    "ping": "lrs_trio.cli.ping:ping",
    "revoke": "lrs_trio.cli.revoke:revoke",
    "simulate": "lrs_trio.cli.simulate.command:simulate",
    "stats": "lrs_trio.cli.status:stats",
    "status": "lrs_trio.cli.status:status",
    "tape": "lrs_trio.cli.tapes:tapes",
    "timeline": "lrs_trio.cli.timeline:timeline",
    "tlc": "lrs_trio.cli.tlc:tlc",
}
"""Where each command is."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named, and whose errors are lines, not tracebacks."""

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever reads our output has gone, no daemon: that would be ECONNRESET; click ends quietly
        except REPORTED as error:
            ctx.exit(say_error(error))
        except KeyboardInterrupt:
            click.echo(err=True)  # ends the line that the terminal has begun with ^C
            ctx.exit(EXIT_INTERRUPTED)


def _socket(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is None:
        return None
    from lrs_trio.location import checked_socket

    path = value.absolute()
    try:
        return checked_socket(path)
    except ValueError as error:
        raise click.BadParameter(f"{path}: must be {error}", ctx, param) from None


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=EXIT_STATUS_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file; else LRS_CONFIG names it, else /etc/lrs-trio/lrs.toml.",
)
@click.option(
    "--phobos-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A Phobos configuration instead of settings of ours, for a daemon that runs with one.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    callback=_socket,
    help="Where the daemon listens, instead of what the settings say.",
)
@click.version_option(__version__, prog_name="lrs")
@click.pass_context
def lrs(ctx: click.Context, config: Path | None, phobos_config: Path | None, socket: Path | None) -> None:
    """Use and administer the Local Resource Scheduler of this host."""
    if config and phobos_config:
        raise click.UsageError("--config and --phobos-config exclude each other")
    ctx.obj = Site(config, socket, phobos_config=phobos_config)


def main() -> None:
    heed_children()
    lrs(prog_name="lrs")


if __name__ == "__main__":
    main()
