"""`lrsd`: the daemon's command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrs_trio import __version__, tuning
from lrs_trio.cli.inherited import heed_children
from lrs_trio.errors import SettingsError

if TYPE_CHECKING:
    from lrs_trio.settings import Settings


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file; else LRS_CONFIG names it, else /etc/lrs-trio/lrs.toml.",
)
@click.option(
    "--phobos-config",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Behave as phobosd with its configuration; without FILE, PHOBOS_CFG_FILE names it, else /etc/phobos.conf.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one key, such as drain.deadline_s=60; wins over file and environment.",
)
@click.option("--check", is_flag=True, help="Check the settings, print those in effect without a password, and end.")
@click.version_option(__version__, prog_name="lrsd")
def lrsd(config: Path | None, phobos_config: str | None, overrides: tuple[str, ...], check: bool) -> None:
    """Schedule the storage resources of this host, in the foreground, until SIGINT or SIGTERM.

    The first signal drains: what is going on ends in order. A second one ends at once.

    Exit status: 0 after a clean drain, 3 after a forced one, 17 if another daemon runs here already, 1 for
    bad settings or a defect; if the daemon cannot start for another reason, the number of that error.
    """
    if config is not None and phobos_config is not None:
        raise click.UsageError("--config and --phobos-config exclude each other")
    tuning.do_without_displays()
    # Not at import: --help and --version have no use for them.
    from lrs_trio.settings_sources import load_settings

    warnings: tuple[str, ...] = ()
    configuration = None
    try:
        if phobos_config is None:
            settings = load_settings(config, os.environ, overrides)
        else:
            from lrs_trio.phobos.settings import load_phobos_settings

            loaded = load_phobos_settings(Path(phobos_config) if phobos_config else None, os.environ, overrides)
            settings, warnings, configuration = loaded.settings, loaded.warnings, loaded.configuration
    except SettingsError as error:
        for line in str(error).splitlines():
            click.echo(f"lrsd: {line}", err=True)
        sys.exit(1)
    if check:
        for warning in warnings:
            click.echo(f"lrsd: {warning}", err=True)
        _show(settings)
        return
    from lrs_trio.daemon import run_daemon

    sys.exit(run_daemon(settings, warnings=warnings, configuration=configuration))


def _show(settings: Settings) -> None:
    """Print `settings` as a settings file, but for the password of the database: what people look at, they show."""
    from lrs_trio.settings_sources import to_toml

    dss = settings.dss
    if dss.shown != dss.url:
        click.echo("lrsd: the password in dss.url is left out", err=True)
    shown = settings.model_copy(update={"dss": dss.model_copy(update={"url": dss.shown})})
    # A path of a Phobos configuration need not be UTF-8.
    click.echo(to_toml(shown).encode(errors="surrogateescape"), nl=False)


def main() -> None:
    heed_children()
    lrsd(prog_name="lrsd")


if __name__ == "__main__":
    main()
