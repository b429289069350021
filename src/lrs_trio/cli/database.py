"""`lrs dss`: the state database as a whole."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

import click

from lrs_trio.cli.output import counted, print_json
from lrs_trio.cli.site import Site, pass_site
from lrs_trio.errors import LrsError

if TYPE_CHECKING:
    from lrs_trio.dss.description import Comparison
    from lrs_trio.settings import DssSettings

EXIT_DIFFERENT: Final = 1


@click.group("dss")
def database() -> None:
    """Make and check the state database that dss.url names."""


@database.command()
@pass_site
def init(site: Site) -> None:
    """Make the state database.

    An SQLite file that does not exist is created. A PostgreSQL database must exist and must not have tables of
    these names; it gets those of Phobos 3.3.
    """
    dss = site.settings().dss
    version = _init_postgres(dss) if dss.is_postgres else _init_sqlite(dss)
    click.echo(f"DSS {dss.shown}: made, schema version {version}")


@database.command(epilog="Exit status: 0 if nothing is different, 1 if something is; else the number of the error.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_site
def check(site: Site, as_json: bool) -> None:
    """Compare the state database with what lrs dss init makes.

    What is missing or different is listed; what is there besides and does no harm is noted. An SQLite file is also
    checked for damage. Nothing is changed, and the daemon may run meanwhile.
    """
    dss = site.settings().dss
    version, comparison = _check_postgres(dss) if dss.is_postgres else _check_sqlite(dss)
    differences = comparison.differences
    if as_json:
        print_json(
            {
                "dss": dss.shown,
                "home": "postgresql" if dss.is_postgres else "sqlite",
                "version": version,
                "differences": differences,
                "notes": comparison.notes,
            }
        )
    else:
        result = counted(len(differences), "difference") if differences else "as it should be"
        click.echo(f"DSS {dss.shown}: schema version {version}, {result}")
        for line in differences:
            click.echo(f"  {line}")
        for line in comparison.notes:
            click.echo(f"  note: {line}")
    sys.exit(EXIT_DIFFERENT if differences else 0)


def _init_sqlite(dss: DssSettings) -> str:
    from lrs_trio.dss.migrations import bundled_migrations
    from lrs_trio.dss.sqlite import SqliteHome

    if dss.path.exists():
        raise LrsError(errno.EEXIST, f"DSS {dss.shown}: the file exists already; lrs dss check looks into it")
    SqliteHome.open(dss.path).close()
    return str(bundled_migrations()[-1].version)


def _check_sqlite(dss: DssSettings) -> tuple[str, Comparison]:
    from lrs_trio.dss.sqlite_check import check_sqlite

    version, comparison = check_sqlite(dss.path)
    return str(version), comparison


def _init_postgres(dss: DssSettings) -> str:
    from lrs_trio.dss.homes import postgres_extra

    with postgres_extra():
        from lrs_trio.dss.postgres.bridge import run_blocking
        from lrs_trio.dss.postgres.maintenance import make
        from lrs_trio.dss.postgres.schema import VERSION

    run_blocking(make, dss.url, dss.shown)
    return VERSION


def _check_postgres(dss: DssSettings) -> tuple[str, Comparison]:
    from lrs_trio.dss.homes import postgres_extra

    with postgres_extra():
        from lrs_trio.dss.postgres.bridge import run_blocking
        from lrs_trio.dss.postgres.maintenance import check
        from lrs_trio.dss.postgres.schema import VERSION

    return VERSION, run_blocking(check, dss.url, dss.shown)
