"""`lrs drive`: the tape drives of this host."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

import click

from lrs_trio.cli.output import print_json, print_table, say
from lrs_trio.cli.results import each, finish, first, report
from lrs_trio.cli.rows import shown_lock, used_by
from lrs_trio.cli.site import Site, pass_site
from lrs_trio.errors import LrsError
from lrs_trio.model import Family

if TYPE_CHECKING:
    from lrs_trio.dss.operations import DeviceRow

PATHS = click.argument("paths", metavar="PATH...", nargs=-1, required=True)
DRIVES = click.argument("names", metavar="DRIVE...", nargs=-1, required=True)
LIBRARY = click.option("--library", help="Library that the drive is in, where there is a choice.")


@click.group()
def drives() -> None:
    """Administer tape drives.

    A new drive is added, then unlocked. DRIVE is its serial or its path.
    """


@drives.command()
@PATHS
@click.option("--unlock", is_flag=True, help="Put them into service at once.")
@click.option("--library", help="Library that they are in; by default the only one that the settings have, or legacy.")
@pass_site
def add(site: Site, paths: tuple[str, ...], unlock: bool, library: str | None) -> None:
    """Make drives known.

    PATH is such as /dev/st0 or /dev/sg3; the system tells serial and model. A drive of a virtual library may be named
    by its serial as well.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.drive_administration import DriveAdministration

    with open_administration(DriveAdministration, site, library, create=True) as admin:
        failed = report(each(paths, lambda path: admin.add(path, unlock=unlock)), "added")
        untold = admin.untold if unlock else ""
    if not unlock and len(failed) < len(paths):
        say("not in use until unlocked: lrs drive unlock DRIVE...")
    finish(failed, len(paths), untold, "it will use them when it starts")


@drives.command()
@DRIVES
@click.option("--no-wait", is_flag=True, help="Do not wait until what is going on there has ended.")
@LIBRARY
@pass_site
def lock(site: Site, names: tuple[str, ...], no_wait: bool, library: str | None) -> None:
    """Take drives out of service. I/O and syncs that are going on there end first."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.drive_administration import DriveAdministration

    with open_administration(DriveAdministration, site, library) as admin:
        failed = report(each(names, lambda name: admin.lock(name, wait=not no_wait)), "locked")
        untold = admin.untold
    finish(failed, len(names), untold, "it will leave them alone when it starts")


@drives.command()
@DRIVES
@LIBRARY
@pass_site
def unlock(site: Site, names: tuple[str, ...], library: str | None) -> None:
    """Put drives into service.

    Those that had failed included.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.drive_administration import DriveAdministration

    with open_administration(DriveAdministration, site, library) as admin:
        failed = report(each(names, admin.unlock), "unlocked")
        untold = admin.untold
    finish(failed, len(names), untold, "it will use them when it starts")


@drives.command()
@DRIVES
@LIBRARY
@pass_site
def delete(site: Site, names: tuple[str, ...], library: str | None) -> None:
    """Forget drives. They must be locked, also where no daemon runs."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.drive_administration import DriveAdministration

    with open_administration(DriveAdministration, site, library) as admin:
        failed = report(each(names, admin.delete), "deleted from the DSS")
    sys.exit(first(failed))


@drives.command()
@DRIVES
@LIBRARY
@pass_site
def release(site: Site, names: tuple[str, ...], library: str | None) -> None:
    """Free drives that a dead host has reserved.

    Runs families.tape.ltfs.release of the settings for each. The drives must be locked, or in no daemon's use.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.drive_administration import DriveAdministration

    with open_administration(DriveAdministration, site, library) as admin:
        failed = report(each(names, admin.release), "released")
    sys.exit(first(failed))


@drives.command("list")
@click.option("--library", help="Only this library's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_site
def list_(site: Site, library: str | None, as_json: bool) -> None:
    """Show the drives in the DSS, of all hosts."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.drive_administration import DriveAdministration

    with open_administration(DriveAdministration, site) as admin:
        rows = [_shown(row) for row in admin.drives() if library in (None, row.device.id.library)]
    if as_json:
        print_json(rows)
        return
    print_table(["drive", "serial", "model", "host", "library", "status", "used by"], map(_cells, rows))


@drives.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_site
def status(site: Site, as_json: bool) -> None:
    """Show what the daemon's drives are doing.

    Sorted by their addresses in the library; "serves" are the kinds of requests that a drive is for now: R reads,
    W writes, F formats.
    """
    from lrs_trio.cli.family_report import by_address, print_drives

    with site.connect() as client:
        families = client.status()["families"]
    tape = next((family for family in families if family["family"] == Family.TAPE.label), None)
    if tape is None:
        raise LrsError(errno.EINVAL, "the daemon does not serve tapes; see families.tape.enabled in the settings")
    found = by_address(tape["devices"])
    if as_json:
        print_json(found)
    else:
        print_drives(found)


def _shown(row: DeviceRow) -> dict[str, Any]:
    device = row.device
    return {
        "path": device.path,
        "serial": device.id.name,
        "model": device.model,
        "host": device.host,
        "library": device.id.library,
        "adm_status": device.adm_status.value,
        "lock": shown_lock(row.lock),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["path"],
        row["serial"],
        row["model"] or "",
        row["host"],
        row["library"],
        row["adm_status"],
        used_by(row["lock"]),
    ]
