"""The schema of PostgreSQL: made once, by whoever may; recognised; compared in words."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from benchmarks.postgres import Cluster, find_programs
from lrs_trio.dss.description import Comparison, compare
from lrs_trio.dss.postgres import schema
from lrs_trio.dss.postgres.bridge import run_blocking
from lrs_trio.dss.postgres.connection import connect
from lrs_trio.dss.postgres.maintenance import check, make
from lrs_trio.errors import LrsError
from tests.dss.postgres.write_description import describe

SHOWN = "postgresql://lrs@db/site"

Role = Callable[[str, str], str]


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[str]:
    """A database in which nothing is."""
    url = cluster.create_database()
    yield url
    cluster.drop_database(url)


@pytest.fixture(scope="module")
def untouched(cluster: Cluster) -> str:
    """A database of Phobos in which no test leaves anything."""
    return cluster.phobos_database()


@pytest.fixture
def ordinary(cluster: Cluster) -> Iterator[Role]:
    """The URL of a database for an ordinary role, which is made: ordinary(name, url)."""
    names = []

    def role(name: str, url: str) -> str:
        sql(cluster.url("postgres"), f"CREATE ROLE {name} LOGIN")
        names.append(name)
        return url.replace("//lrs@", f"//{name}@")

    yield role
    for name in names:
        sql(cluster.url("postgres"), f"DROP ROLE {name}")


def sql(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def refusal(function: Callable[..., object], url: str) -> LrsError:
    """The error with which `make` or `check` refuses the database."""
    with pytest.raises(LrsError) as refused:
        run_blocking(function, url, SHOWN)  # type: ignore[arg-type]
    assert str(refused.value.strerror).startswith(f"DSS {SHOWN}: ")
    assert "\n" not in str(refused.value)
    return refused.value


# Made


def test_the_description_is_that_of_the_script(untouched: str) -> None:
    assert describe(untouched) == schema.expected_description(), "run: make schema"


def test_an_empty_database_gets_the_schema(empty: str) -> None:
    run_blocking(make, empty, SHOWN)

    assert run_blocking(check, empty, SHOWN) == Comparison((), ())
    assert rows(empty, "SELECT version FROM schema_info") == [("3.3",)]


def test_what_clients_leave_out_gets_its_default(empty: str) -> None:
    run_blocking(make, empty, SHOWN)
    sql(empty, "INSERT INTO logs (family, errno, cause, message, library) VALUES ('dir', 0, 'LTFS sync', '{}', 'l')")
    sql(empty, "INSERT INTO object (oid) VALUES ('a'), ('b')")
    sql(empty, "INSERT INTO lock (type, id, hostname, owner) VALUES ('media', 'm_l', 'store1', 1)")
    sql(empty, "INSERT INTO media (family, id, library) VALUES ('dir', '/srv', 'l')")

    assert rows(empty, "SELECT length(uuid), time <= now()::timestamp FROM logs") == [(36, True)]
    assert rows(empty, "SELECT count(DISTINCT object_uuid), max(version), max(size) FROM object") == [(2, 1, -1)]
    assert rows(empty, "SELECT is_weak, last_locate, timestamp IS NULL FROM lock") == [(False, None, False)]
    assert rows(empty, "SELECT put, get, delete, stats FROM media") == [(True, True, True, None)]


def test_what_is_there_is_left_alone(postgres_url: str) -> None:
    sql(postgres_url, "INSERT INTO media (family, id, library) VALUES ('dir', '/srv', 'l')")

    error = refusal(make, postgres_url)

    assert error.errno == errno.EEXIST
    assert "table device, table extent, table layout, table lock" in str(error)
    assert "type fs_status" in str(error)
    assert len(rows(postgres_url, "SELECT 1 FROM media")) == 1
    assert run_blocking(check, postgres_url, SHOWN) == Comparison((), ())


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("CREATE TABLE logs (line text)", "table logs"),
        ("CREATE VIEW object AS SELECT 1 AS one", "table object"),
        ("CREATE TYPE fs_type AS ENUM ('ext4')", "type fs_type"),
        ("CREATE TYPE media AS ENUM ('paper')", '"media" already exists'),
        ("CREATE TABLE copy_status (status text)", "type copy_status"),
    ],
)
def test_one_name_that_is_taken_is_enough_to_refuse(empty: str, statement: str, found: str) -> None:
    sql(empty, statement)
    before = describe(empty)

    error = refusal(make, empty)

    assert error.errno == errno.EEXIST
    assert found in str(error)
    assert describe(empty) == before


def test_other_tables_may_be_there(empty: str) -> None:
    sql(empty, "CREATE TABLE site_notes (note text)")
    sql(empty, "CREATE SCHEMA other; CREATE TABLE other.media (title text)")

    run_blocking(make, empty, SHOWN)

    assert run_blocking(check, empty, SHOWN) == Comparison((), ("table site_notes is not of this schema",))


def test_of_several_that_make_it_at_once_one_does(empty: str) -> None:
    def attempt(_: int) -> int | None:
        try:
            run_blocking(make, empty, SHOWN)
        except LrsError as error:
            return error.errno
        return None

    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(attempt, range(3)))

    assert sorted(results, key=str) == [errno.EEXIST, errno.EEXIST, None]
    assert run_blocking(check, empty, SHOWN) == Comparison((), ())


def test_an_extension_that_is_not_installed(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = schema.script().replace("btree_gin", "no_such_extension")
    monkeypatch.setattr(schema, "script", lambda: script)

    error = refusal(make, empty)

    assert error.errno == errno.ENOPKG
    assert "no_such_extension" in str(error)
    assert "contrib" in str(error)
    assert describe(empty).tables == {}


# By whom


def test_the_owner_of_the_database_needs_no_more_rights(empty: str, ordinary: Role) -> None:
    url = ordinary("owner_of_it", empty)
    (name,) = rows(empty, "SELECT current_database()")[0]
    sql(empty, f"ALTER DATABASE {name} OWNER TO owner_of_it")

    run_blocking(make, url, SHOWN)

    assert run_blocking(check, url, SHOWN) == Comparison((), ())
    sql(empty, f"ALTER DATABASE {name} OWNER TO lrs; REASSIGN OWNED BY owner_of_it TO lrs")


def test_a_role_without_rights_is_told_which_it_needs(empty: str, ordinary: Role) -> None:
    url = ordinary("newcomer", empty)
    (name,) = rows(empty, "SELECT current_database()")[0]
    grants = (f"GRANT CREATE ON DATABASE {name} TO newcomer", "GRANT CREATE ON SCHEMA public TO newcomer")

    for missing in ("permission denied to create extension", "permission denied for schema public"):
        error = refusal(make, url)
        assert error.errno == errno.EACCES
        assert missing in str(error)
        assert "; ".join(grants) in str(error)
        assert f"ALTER DATABASE {name} OWNER TO newcomer" in str(error)
        assert describe(empty).tables == {}
        sql(empty, grants[missing.endswith("public")])
    run_blocking(make, url, SHOWN)

    assert run_blocking(check, url, SHOWN) == Comparison((), ())
    sql(empty, "DROP OWNED BY newcomer CASCADE")


def test_with_the_extensions_there_the_right_to_make_tables_is_enough(empty: str, ordinary: Role) -> None:
    url = ordinary("tablemaker", empty)
    sql(empty, 'CREATE EXTENSION "uuid-ossp"; CREATE EXTENSION btree_gin; GRANT CREATE ON SCHEMA public TO tablemaker')

    run_blocking(make, url, SHOWN)

    assert run_blocking(check, url, SHOWN) == Comparison((), ())
    sql(empty, "DROP OWNED BY tablemaker CASCADE")


def test_check_needs_one_right_and_says_which(postgres_url: str, ordinary: Role) -> None:
    url = ordinary("reader", postgres_url)

    error = refusal(check, url)
    assert error.errno == errno.EACCES
    assert "GRANT SELECT ON schema_info TO reader" in str(error)

    sql(postgres_url, "GRANT SELECT ON schema_info TO reader")
    assert run_blocking(check, url, SHOWN) == Comparison((), ())
    sql(postgres_url, "DROP OWNED BY reader")


# The version


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE schema_info", "no schema_info"),
        ("ALTER TABLE schema_info RENAME version TO edition", "no schema_info"),
        ("DELETE FROM schema_info", "its schema_info is empty"),
        ("UPDATE schema_info SET version = '3.2'", "its schema_info says 3.2, "),
        ("UPDATE schema_info SET version = '3.30'", "its schema_info says 3.30, "),
        ("INSERT INTO schema_info VALUES ('2.2')", "its schema_info says 2.2, 3.3, "),
    ],
)
def test_another_version_is_refused(postgres_url: str, statement: str, said: str) -> None:
    sql(postgres_url, statement)

    error = refusal(check, postgres_url)

    assert error.errno == errno.EINVAL
    assert said in str(error)


def test_an_empty_database_is_told_how_to_become_one(empty: str) -> None:
    assert "lrs dss init makes one in an empty database" in str(refusal(check, empty))


# Compared


def difference(url: str, statement: str) -> Comparison:
    """How the database differs once `statement` is done; it is undone again."""

    async def alter_and_compare() -> Comparison:
        connection = await connect(url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(statement)
            return compare(schema.expected_description(), await schema.describe(connection))
        finally:
            await connection.close()

    return run_blocking(alter_and_compare)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("DROP TABLE copy", "table copy is missing"),
        ("ALTER TABLE layout RENAME TO layouts", "table layout is missing"),
        ("ALTER TABLE media DROP groupings", "table media: column groupings is missing"),
        (
            "ALTER TABLE lock ALTER owner TYPE bigint",
            "table lock: column owner is bigint NOT NULL, expected integer NOT NULL",
        ),
        (
            "ALTER TABLE device ALTER host TYPE varchar(64)",
            "table device: column host is character varying(64), expected character varying(128)",
        ),
        (
            "ALTER TABLE lock ALTER last_locate TYPE timestamptz",
            "table lock: column last_locate is timestamp with time zone, expected timestamp without time zone",
        ),
        (
            "ALTER TABLE lock ALTER hostname DROP NOT NULL",
            "table lock: column hostname is character varying(256), expected character varying(256) NOT NULL",
        ),
        (
            "ALTER TABLE media ALTER fs_label SET NOT NULL",
            "table media: column fs_label is character varying(32) NOT NULL, expected character varying(32)",
        ),
        (
            "ALTER TABLE media ALTER put DROP DEFAULT",
            "table media: column put is boolean, expected boolean DEFAULT true",
        ),
        (
            "ALTER TABLE media ALTER get SET DEFAULT false",
            "table media: column get is boolean DEFAULT false, expected boolean DEFAULT true",
        ),
        (
            "ALTER TABLE copy ALTER copy_status DROP DEFAULT",
            "table copy: column copy_status is copy_status, expected copy_status DEFAULT 'incomplete'",
        ),
        (
            "ALTER TABLE media ALTER stats SET DEFAULT '{}'",
            "table media: column stats is jsonb DEFAULT '{}', expected jsonb",
        ),
        (
            "ALTER TABLE device ADD rack int NOT NULL",
            "table device: column rack is not expected, and no row can be added without it",
        ),
        ("ALTER TABLE lock DROP CONSTRAINT lock_pkey", "table lock: primary key (type, id) is missing"),
        (
            "ALTER TABLE object DROP CONSTRAINT object_object_uuid_key",
            "table object: unique (object_uuid) is missing",
        ),
        ("DROP INDEX device_host_idx", "table device: index gin (host) is missing"),
        ("DROP INDEX media_expr_idx", "table media: index (((stats ->> 'phys_spc_free'::text))) is missing"),
        ("ALTER TABLE device ADD UNIQUE (path)", "table device: unique (path) is not expected"),
        ("CREATE UNIQUE INDEX ON lock (owner)", "table lock: unique (owner) is not expected"),
        ("ALTER TABLE lock ADD CHECK (owner > 0)", "table lock: CHECK ((owner > 0)) is not expected"),
        (
            "ALTER TABLE extent ADD FOREIGN KEY (extent_uuid) REFERENCES logs",
            "table extent: FOREIGN KEY (extent_uuid) REFERENCES logs(uuid) is not expected",
        ),
        ("ALTER TYPE fs_status RENAME TO fs_state", "type fs_status is missing"),
        ("ALTER TYPE fs_type ADD VALUE 'EXT4'", "type fs_type: label 'EXT4' is not expected"),
        ("ALTER TYPE fs_status RENAME VALUE 'importing' TO 'imported'", "type fs_status: label 'importing' is missing"),
        ('DROP EXTENSION "uuid-ossp" CASCADE', "extension uuid-ossp is missing"),
        ("DROP EXTENSION btree_gin CASCADE", "extension btree_gin is missing"),
    ],
)
def test_every_difference_is_told(untouched: str, statement: str, line: str) -> None:
    assert line in difference(untouched, statement).differences


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("CREATE TABLE site_notes (note text)", "table site_notes is not of this schema"),
        ("ALTER TABLE device ADD rack int", "table device: column rack is not of this schema"),
        ("ALTER TABLE device ADD rack int NOT NULL DEFAULT 1", "table device: column rack is not of this schema"),
        ("CREATE INDEX ON logs (time)", 'table logs: index ("time") is not expected'),
        ("ALTER TABLE extent ADD UNIQUE (extent_uuid)", "table extent: unique (extent_uuid) is not expected"),
    ],
)
def test_what_does_no_harm_is_only_noted(untouched: str, statement: str, line: str) -> None:
    assert difference(untouched, statement) == Comparison((), (line,))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER INDEX lock_pkey RENAME TO lock_type_id",
        "ALTER TABLE object DROP CONSTRAINT object_object_uuid_key; CREATE UNIQUE INDEX ON object (object_uuid)",
        "ALTER TABLE object ALTER size SET DEFAULT '-1'",
        "ALTER TABLE media DROP fs_label, ADD fs_label varchar(32)",
    ],
)
def test_names_of_keys_spellings_of_defaults_and_the_order_of_columns_do_not_matter(
    untouched: str, statement: str
) -> None:
    assert difference(untouched, statement) == Comparison((), ())


def test_the_order_of_labels_is_noted(untouched: str) -> None:
    note = "type extent_state: the labels have another order, in which its values are sorted"
    statement = (
        "ALTER TYPE extent_state RENAME VALUE 'sync' TO 'x'; ALTER TYPE extent_state RENAME VALUE 'orphan' TO 'sync';"
        "ALTER TYPE extent_state RENAME VALUE 'x' TO 'orphan'"
    )
    assert difference(untouched, statement) == Comparison((), (note,))


def test_tables_are_found_wherever_the_search_path_leads(postgres_url: str) -> None:
    sql(
        postgres_url,
        "ALTER SCHEMA public RENAME TO phobos; CREATE SCHEMA public; ALTER ROLE lrs SET search_path = mine, phobos",
    )
    try:
        assert run_blocking(check, postgres_url, SHOWN) == Comparison((), ())
    finally:
        sql(postgres_url, "ALTER ROLE lrs RESET search_path")


def test_check_changes_nothing(postgres_url: str) -> None:
    sql(postgres_url, "ALTER TABLE media DROP groupings; INSERT INTO lock VALUES ('media', 'm_l', 'store1', 1)")
    before = dump(postgres_url)

    comparison = run_blocking(check, postgres_url, SHOWN)

    assert comparison.differences == ("table media: column groupings is missing",)
    assert dump(postgres_url) == before


def dump(url: str) -> list[str]:
    done = subprocess.run([find_programs() / "pg_dump", url], check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict ", "\\unrestrict "))]


# The way there


def test_a_database_that_does_not_exist(cluster: Cluster) -> None:
    for function in (make, check):
        error = refusal(function, cluster.url("nowhere"))
        assert error.errno == errno.ENOENT
        assert "create the database" in str(error)


def test_a_server_that_does_not_run() -> None:
    for function in (make, check):
        assert refusal(function, "postgresql://lrs@/db?host=/nonexistent").errno == errno.ENOTCONN


def test_whatever_else_the_server_says_is_passed_on(postgres_url: str) -> None:
    sql(postgres_url, "DROP TABLE schema_info; CREATE VIEW schema_info AS SELECT 1 / 0 AS version")

    error = refusal(check, postgres_url)

    assert error.errno == errno.EIO
    assert "division by zero" in str(error)
