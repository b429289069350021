"""`lrs dss`, for both homes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import psycopg
import pytest

from benchmarks.postgres import Cluster
from lrs_trio.cli.demo.daemon import DemoSite
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S, Lrs

WITHOUT_MODULE = """
import sys
sys.modules[sys.argv.pop(1)] = None
from lrs_trio.cli.lrs import main
main()
"""


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[str]:
    """A PostgreSQL database in which nothing is."""
    url = cluster.create_database()
    yield url
    cluster.drop_database(url)


def alter(path: Path, statement: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(statement)
    db.close()


# SQLite


def test_init_makes_the_file(site: DemoSite, lrs: Lrs) -> None:
    done = lrs("dss", "init")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"DSS sqlite://{site.dss}: made, schema version 1\n"

    checked = lrs("dss", "check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"DSS sqlite://{site.dss}: schema version 1, as it should be\n"


def test_init_leaves_what_is_there_alone(site: DemoSite, lrs: Lrs) -> None:
    lrs("dss", "init")
    lrs("dir", "add", site.directories[0])

    done = lrs("dss", "init")

    assert done.returncode == errno.EEXIST
    assert "lrs dss check" in done.stderr
    assert len(json.loads(lrs("dir", "list", "--json").stdout)) == 1


def test_init_says_what_is_in_its_way(site: DemoSite, lrs: Lrs) -> None:
    done = lrs("dss", "init", LRS_DSS__URL=f"sqlite://{site.base}/nowhere/dss.sqlite")
    assert done.returncode == errno.ENOENT
    assert f"its directory {site.base}/nowhere does not exist" in done.stderr


def test_check_while_the_daemon_works(site: DemoSite, directories: tuple[Path, ...], lrs: Lrs) -> None:
    assert lrs("dss", "check").returncode == 0
    assert lrs("exec", "--write", "1", "--", "true").returncode == 0


def test_check_does_not_make_a_dss_by_mistake(site: DemoSite, lrs: Lrs) -> None:
    done = lrs("dss", "check")
    assert done.returncode == errno.ENOENT
    assert "lrs dss init" in done.stderr
    assert not site.dss.exists()


def test_check_tells_what_differs(site: DemoSite, lrs: Lrs) -> None:
    lrs("dss", "init")
    alter(site.dss, "ALTER TABLE media DROP fs_label; CREATE TABLE site_notes (note TEXT)")

    done = lrs("dss", "check")

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"DSS sqlite://{site.dss}: schema version 1, 1 difference",
        "  table media: column fs_label is missing",
        "  note: table site_notes is not of this schema",
    ]


def test_check_as_json(site: DemoSite, lrs: Lrs) -> None:
    lrs("dss", "init")
    alter(site.dss, "DROP TABLE logs; CREATE TABLE site_notes (note TEXT)")
    done = lrs("dss", "check", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "dss": f"sqlite://{site.dss}",
        "home": "sqlite",
        "version": "1",
        "differences": ["table logs is missing"],
        "notes": ["table site_notes is not of this schema"],
    }


# PostgreSQL


def test_init_makes_the_tables_of_phobos(lrs: Lrs, empty: str) -> None:
    done = lrs("dss", "init", LRS_DSS__URL=empty)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"DSS {empty}: made, schema version 3.3\n"

    checked = lrs("dss", "check", LRS_DSS__URL=empty)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"DSS {empty}: schema version 3.3, as it should be\n"

    again = lrs("dss", "init", LRS_DSS__URL=empty)
    assert again.returncode == errno.EEXIST
    assert "table media" in again.stderr
    assert "Traceback" not in again.stderr


def test_check_tells_what_differs_from_phobos(lrs: Lrs, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("ALTER TABLE media DROP groupings")
        connection.execute("CREATE TABLE site_notes (note text)")

    done = lrs("dss", "check", LRS_DSS__URL=postgres_url)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"DSS {postgres_url}: schema version 3.3, 1 difference",
        "  table media: column groupings is missing",
        "  note: table site_notes is not of this schema",
    ]

    told = lrs("dss", "check", "--json", LRS_DSS__URL=postgres_url)
    assert told.returncode == 1
    assert json.loads(told.stdout) == {
        "dss": postgres_url,
        "home": "postgresql",
        "version": "3.3",
        "differences": ["table media: column groupings is missing"],
        "notes": ["table site_notes is not of this schema"],
    }


def test_check_of_an_empty_database(lrs: Lrs, empty: str) -> None:
    done = lrs("dss", "check", LRS_DSS__URL=empty)
    assert done.returncode == errno.EINVAL
    assert "lrs dss init" in done.stderr


def test_passwords_are_not_shown(lrs: Lrs, postgres_url: str) -> None:
    secret = postgres_url.replace("//lrs@", "//lrs:open%20sesame@")
    for command in ("check", "init"):
        done = lrs("dss", command, LRS_DSS__URL=secret)
        assert postgres_url in done.stdout + done.stderr
        assert "sesame" not in done.stdout + done.stderr


@pytest.mark.parametrize(("command", "module"), [("init", "asyncpg"), ("check", "trio_asyncio")])
def test_without_the_extra_it_is_said_how_to_get_it(site: DemoSite, command: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MODULE, module, "--config", str(site.config), "dss", command],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT | {"LRS_DSS__URL": "postgresql://lrs@db/site"},
    )
    assert done.returncode == errno.ENOPKG
    assert f"needs the package {module}" in done.stderr
    assert "lrs-trio[postgres]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_server(site: DemoSite, lrs: Lrs) -> None:
    done = lrs("dss", "check", LRS_DSS__URL=f"postgresql://lrs@/site?host={site.base}")
    assert done.returncode == errno.ENOTCONN
    assert "no connection" in done.stderr
