"""Temporary sites whose DSS is at one kind of home: a new SQLite file, or a new database of a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import click

from benchmarks.harness import Site, temporary_site
from benchmarks.postgres import Cluster, temporary_cluster

DssKind = Literal["sqlite", "postgres"]

DSS_KINDS: Final[tuple[DssKind, ...]] = ("sqlite", "postgres")
NAMES: Final[dict[DssKind, str]] = {"sqlite": "SQLite", "postgres": "PostgreSQL"}

dss_option: Final[Callable[[Any], Any]] = click.option(
    "--dss", type=click.Choice(DSS_KINDS), default="sqlite", show_default=True, help="Where the DSS is."
)


@dataclass(frozen=True, slots=True)
class Sites:
    """Makes sites with a database in `cluster`, or an SQLite file without one."""

    cluster: Cluster | None = None

    @contextmanager
    def temporary(self, directories: int, **more: Any) -> Iterator[Site]:
        """As `temporary_site`; the database is dropped after the block."""
        if self.cluster is None:
            with temporary_site(directories, **more) as made:
                yield made
            return
        url = self.cluster.phobos_database()
        try:
            with temporary_site(directories, dss_url=url, **more) as made:
                yield made
        finally:
            self.cluster.drop_database(url)


@contextmanager
def temporary_sites(dss: DssKind, *, parent: Path | None = None) -> Iterator[Sites]:
    """Sites of that kind; for PostgreSQL, a server below `parent` whose commits wait for the disk."""
    if dss == "sqlite":
        yield Sites()
        return
    with temporary_cluster(parent=parent, fsync=True) as cluster:
        yield Sites(cluster)
