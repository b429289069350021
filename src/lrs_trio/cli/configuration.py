"""`lrs config`: settings files, made from those of others."""

from __future__ import annotations

from pathlib import Path

import click

from lrs_trio.cli.output import one_line, say
from lrs_trio.cli.site import Site, pass_site
from lrs_trio.errors import SettingsError


@click.group()
def configuration() -> None:
    """Make settings files."""


@configuration.command("from-phobos")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@pass_site
def from_phobos(site: Site, file: Path | None) -> None:
    """Print the settings that a Phobos configuration makes.

    FILE is the configuration; without it, PHOBOS_CFG_FILE names it, else it is /etc/phobos.conf. PHOBOS_*
    variables count as they do for phobosd. What has no effect here is named on the standard error. The
    result is a settings file for lrsd, with everything that is not the default. It holds the password of the
    database if the configuration does.
    """
    from lrs_trio.phobos.settings import load_phobos_settings
    from lrs_trio.settings_sources import to_toml

    loaded = load_phobos_settings(file or site.phobos_config, site.environ)
    for warning in loaded.warnings:
        say(warning)
    text = to_toml(loaded.settings, changes_only=True)
    try:
        click.echo(text.encode(), nl=False)
    except UnicodeEncodeError as error:
        raise SettingsError("\n".join(map(_inexpressible, filter(_is_not_utf8, text.splitlines())))) from error


def _is_not_utf8(line: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in line)


def _inexpressible(line: str) -> str:
    return f"{one_line(line)}: a settings file is UTF-8 and cannot say this; give it another name first"
