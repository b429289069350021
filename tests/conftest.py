"""What all tests share: hypothesis draws the same examples in every run and minds no clock; a PostgreSQL server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from benchmarks.postgres import Cluster, temporary_cluster

settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")

# A shell starts what it runs in the background with this one ignored, and the programs under test would
# inherit that: Ctrl-C could not be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# They change what every client of PostgreSQL does, in this process and in those that tests start.
for name in [name for name in os.environ if name.startswith("PG")]:
    del os.environ[name]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server, which may be restarted but has to run when a test ends."""
    with temporary_cluster(max_connections=200) as running:
        yield running


@pytest.fixture
def postgres_url(cluster: Cluster) -> Iterator[str]:
    """A database of the test's own, with the tables of Phobos, all empty."""
    url = cluster.phobos_database()
    yield url
    cluster.drop_database(url)
