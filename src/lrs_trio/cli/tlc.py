"""`lrs tlc`: the controller of one tape library, in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrs_trio.cli.site import Site, pass_site
from lrs_trio.errors import SettingsError

if TYPE_CHECKING:
    from lrs_trio.settings import LibrarySettings, Settings
    from lrs_trio.tlc.changer import Changer

HIGHEST_PORT = 65535


@click.command()
@click.argument("library")
@click.option("--listen", metavar="HOST:PORT", help="Where to listen, instead of the library's host and port.")
@click.option(
    "--virtual",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Serve the virtual library in this directory, instead of a changer.",
)
@pass_site
def tlc(site: Site, library: str, listen: str | None, virtual: Path | None) -> None:
    """Have the media of a tape library moved for whoever asks over TCP.

    LIBRARY is one of the settings. Its changer is driven with the program mtx; a library whose drives are virtual,
    or any name with --virtual, is a virtual one. Whoever can connect can move media: listen where only the
    storage hosts can.

    It runs in the foreground until SIGINT or SIGTERM. The first signal drains: the move under way ends and is
    answered, those that wait are refused. A second one ends at once.

    Exit status: 0 after a clean drain, 3 after a forced one, 1 for bad settings or a defect; if it cannot start for
    another reason, the number of that error (98: somebody listens there already).
    """
    settings = site.settings()
    chosen = library_settings(settings, library, optional=virtual is not None)
    host, port = (chosen.host, chosen.port) if listen is None else _address(listen)
    from lrs_trio.tlc.service import Service, run_service

    def tell(addresses: list[str]) -> None:
        click.echo(f"{library} is served on {' and '.join(addresses)}")

    service = Service(library, _changer(chosen, virtual), on_ready=tell)
    sys.exit(run_service(service, host, port, settings.log))


def library_settings(settings: Settings, library: str, *, optional: bool = False) -> LibrarySettings:
    """What the settings say of `library`; with `optional` the defaults if they do not have it.

    Raises:
        SettingsError: they do not have it.
    """
    from lrs_trio.settings import LibrarySettings

    found = settings.libraries.get(library)
    if found is None and not optional:
        known = ", ".join(settings.libraries) or "none"
        raise SettingsError(f"libraries.{library}: the settings have no such library; they have: {known}")
    return found or LibrarySettings()


def _changer(settings: LibrarySettings, virtual: Path | None) -> Changer:
    directory = virtual or (settings.directory if settings.drives == "virtual" else None)
    if directory is not None:
        from lrs_trio.storage.virtual.library import VirtualLibrary
        from lrs_trio.tlc.virtual import VirtualChanger

        return VirtualChanger(VirtualLibrary.open(directory, speed=settings.speed))
    from lrs_trio.command_line import split_command
    from lrs_trio.tlc.mtx import MtxChanger

    return MtxChanger(
        split_command(settings.mtx, settings.changer),
        settings.serials,
        move_s=settings.move_s,
        retries=settings.retries,
        retry_s=settings.retry_s,
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise click.BadParameter(f"{text!r} is not HOST:PORT, such as localhost:20123", param_hint="--listen")
    return host, int(port)
