"""`lrs dir`: the directories of this host as devices and media."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrs_trio.cli.output import print_json, print_table, say
from lrs_trio.cli.results import Result, each, finish, first, kept, report
from lrs_trio.cli.rows import shown_lock, shown_medium, used_by
from lrs_trio.cli.site import Site, pass_site
from lrs_trio.sizes import human_size

if TYPE_CHECKING:
    from lrs_trio.dss.operations import DeviceRow, MediumRow


class NamedPath(click.Path):
    """A path that somebody has named: an empty one, such as an unset variable makes, is not the working directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):
            self.fail("an empty path; the working directory is .", param, ctx)
        return super().convert(value, param, ctx)


PATHS = click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=NamedPath())
LIBRARY = click.option("--library", default="legacy", show_default=True, help="Library that the directory belongs to.")


@click.group()
def directories() -> None:
    """Administer directories.

    Each is a device and the medium in it. A new directory is added, then formatted; it takes part once both
    device and medium are unlocked.
    """


@directories.command()
@PATHS
@click.option("--unlock", is_flag=True, help="Let the medium be used as soon as it is formatted.")
@click.option("--tag", "tags", multiple=True, help="Tag of the medium; may be repeated.")
@LIBRARY
@pass_site
def add(site: Site, paths: tuple[Path, ...], unlock: bool, tags: tuple[str, ...], library: str) -> None:
    """Make directories known.

    Each becomes a device with a blank medium.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.directory_administration import DirectoryAdministration

    with open_administration(DirectoryAdministration, site, library, create=True) as admin:
        failed = report(each(paths, lambda path: admin.add(path, unlock=unlock, tags=tags)), "added")
        untold = admin.untold
    finish(failed, len(paths), untold, "it will find them when it starts")


@directories.command()
@PATHS
@click.option("--unlock", is_flag=True, help="Unlock the medium as well.")
@LIBRARY
@pass_site
def format(site: Site, paths: tuple[Path, ...], unlock: bool, library: str) -> None:
    """Label blank directories.

    Then they can be written, once their media are unlocked. The daemon does it; files in them stay.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.directory_administration import DirectoryAdministration

    with open_administration(DirectoryAdministration, site, library) as admin:
        results: list[Result] = []
        failed = report(kept(each(paths, lambda path: admin.format(path, unlock=unlock)), results), "formatted")
        formatted = [result.name for result in results if result.error is None]
        locked = [name for name in formatted if admin.is_formatted_but_locked(Path(name))]
    if locked:
        say(f"not in use until unlocked: lrs dir unlock {shlex.join(locked)}")
    sys.exit(first(failed))


@directories.command()
@PATHS
@click.option("--no-wait", is_flag=True, help="Do not wait until what is going on there has ended.")
@LIBRARY
@pass_site
def lock(site: Site, paths: tuple[Path, ...], no_wait: bool, library: str) -> None:
    """Take directories out of service. I/O and syncs that are going on there end first."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.directory_administration import DirectoryAdministration

    with open_administration(DirectoryAdministration, site, library) as admin:
        failed = report(each(paths, lambda path: admin.lock(path, wait=not no_wait)), "locked")
        untold = admin.untold
    finish(failed, len(paths), untold, "it will leave them alone when it starts")


@directories.command()
@PATHS
@LIBRARY
@pass_site
def unlock(site: Site, paths: tuple[Path, ...], library: str) -> None:
    """Put directories into service.

    Those that had failed included.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.directory_administration import DirectoryAdministration

    with open_administration(DirectoryAdministration, site, library) as admin:
        failed = report(each(paths, admin.unlock), "unlocked")
        untold = admin.untold
    finish(failed, len(paths), untold, "it will use them when it starts")


@directories.command()
@PATHS
@click.option("--force", is_flag=True, help="Also directories that hold objects.")
@LIBRARY
@pass_site
def delete(site: Site, paths: tuple[Path, ...], force: bool, library: str) -> None:
    """Forget directories. They must be locked, also where no daemon runs; their files stay where they are."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.directory_administration import DirectoryAdministration

    with open_administration(DirectoryAdministration, site, library) as admin:
        failed = report(each(paths, lambda path: admin.delete(path, force=force)), "deleted from the DSS")
    sys.exit(first(failed))


@directories.command("list")
@click.option("--library", help="Only this library's.")
@click.option("--json", "as_json", is_flag=True, help="Print all fields as JSON.")
@pass_site
def list_(site: Site, library: str | None, as_json: bool) -> None:
    """Show the directories in the DSS."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.directory_administration import DirectoryAdministration

    with open_administration(DirectoryAdministration, site) as admin:
        rows = [_shown(device, medium) for device, medium in admin.list()]
    rows = [row for row in rows if library in (None, row["library"])]
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            "directory",
            "host",
            "library",
            "device",
            "medium",
            "filesystem",
            "objects",
            "written",
            "free",
            "tags",
            "used by",
        ],
        map(_cells, rows),
        right=frozenset({"objects", "written", "free"}),
    )


def _shown(device: DeviceRow | None, medium: MediumRow | None) -> dict[str, Any]:
    """One directory with all that the DSS says of it. Sizes are bytes."""
    row: dict[str, Any] = {"device": None, "medium": None}
    if device is not None:
        row |= {"path": device.device.path, "host": device.device.host, "library": device.device.id.library}
        row["device"] = {
            "name": device.device.id.name,
            "adm_status": device.device.adm_status.value,
            "lock": shown_lock(device.lock),
        }
    if medium is not None:
        found = medium.medium
        row = {"path": found.id.name, "host": None, "library": found.id.library} | row
        row["medium"] = shown_medium(medium)
    return row


def _cells(row: dict[str, Any]) -> list[str]:
    device = row["device"] or {"adm_status": "missing", "lock": None}
    medium = row["medium"] or {"adm_status": "missing", "fs_status": "", "stats": {}, "tags": [], "lock": None}
    stats = medium["stats"]
    lock = device["lock"] or medium["lock"]
    return [
        row["path"],
        row["host"] or "",
        row["library"],
        device["adm_status"],
        medium["adm_status"],
        medium["fs_status"],
        str(stats.get("nb_obj", "")),
        human_size(stats["logc_spc_used"]) if stats else "",
        human_size(stats["phys_spc_free"]) if stats else "",
        " ".join(medium["tags"]),
        used_by(lock),
    ]
