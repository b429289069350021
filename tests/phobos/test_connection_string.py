from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import asyncpg
import psycopg
import pytest
import trio_asyncio
from asyncpg import connect_utils
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.postgres import Cluster
from lrs_trio.dss.postgres.target import read_target
from lrs_trio.phobos.connection_string import connection_url, parse_connection_string
from lrs_trio.settings import DssSettings

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = TEXTS.filter(bool)
KEYWORDS = st.sampled_from(["user", "password", "dbname", "host", "port", "application_name", "options", "service"])


def libpq(text: str) -> dict[str, Any] | None:
    """What libpq makes of it; ``None`` if it does not take it."""
    try:
        return conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        return None


def ours(text: str) -> dict[str, str] | None:
    try:
        return parse_connection_string(text)
    except ValueError:
        return None


def driver(url: str) -> tuple[list[Any], Any]:
    """The addresses and the parameters that the driver makes of `url`, told of one server at a time, as by our home."""
    names = "user password passfile database ssl direct_tls server_settings target_session_attrs krbsrvname gsslib"
    nothing = dict.fromkeys([*names.split(), "service", "servicefile"])
    parse: Any = vars(connect_utils)["_parse_connect_dsn_and_args"]
    target = read_target(url, os.environ)
    addresses: list[Any] = []
    parameters: Any = None
    for server in target.servers:
        host, port = (server.host, server.port) if server.host else (None, None)
        found, parameters = parse(dsn=target.url, host=host, port=port, **nothing)
        addresses += found
    return addresses, parameters


# Reading, with libpq itself as the oracle

PIECES = st.sampled_from(
    [" ", "\t", "\n", "\v", "=", "'", "\\", "\\'", "\\\\", "dbname", "user", "nonsense", "x", "é", "\u00a0", "''", ","]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@example("dbname=phobos host=localhost")
@example("dbname='phobos' user = 'ph obos' password= 'it\\'s \\\\'host='h'")
@example("dbname= user=x")
@example("dbname=a\\ b\\'c'd\\")
@example("dbname='a")
@example("dbname=a dbname=b requiressl=1")
@example("requiressl=0 sslmode=require")
@example("")
@example("Postgresql://h/d")
def test_a_list_is_read_as_libpq_does(text: str) -> None:
    assert ours(text) == libpq(text)


@given(st.dictionaries(KEYWORDS, TEXTS))
def test_a_list_that_libpq_writes_is_read_back(values: Mapping[str, str]) -> None:
    assert parse_connection_string(make_conninfo("", **values)) == values


URI_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
ENCODED = URI_TEXTS.map(lambda text: quote(text, safe=""))


@st.composite
def uris(draw: st.DrawFn) -> str:
    """URIs of every shape, most of them right."""
    uri = draw(st.sampled_from(["postgresql://", "postgres://"]))
    if draw(st.booleans()):
        uri += draw(ENCODED) + draw(st.sampled_from(["", ":"])) + draw(ENCODED) + "@"
    host = st.one_of(ENCODED, st.sampled_from(["db.example", "[::1]", "[fe80::1]", "[", "[]", "[::1]x", "10.0.0.1"]))
    port = st.sampled_from(["", ":", ":5432", ":x"])
    uri += ",".join(draw(host) + draw(port) for _ in range(draw(st.integers(1, 3))))
    if draw(st.booleans()):
        uri += "/" + draw(ENCODED)
    keyword = st.sampled_from(["connect_timeout", "user", "host", "sslmode", "ssl", "options", "requiressl", "no", ""])
    pair = st.tuples(keyword, st.sampled_from(["=", "=", "=", "", "=="]), st.one_of(ENCODED, st.just("true")))
    pairs = draw(st.lists(pair.map("".join), max_size=3))
    return uri + ("?" if pairs else "") + "&".join(pairs) + draw(st.sampled_from(["", "", "", "&", "%", "%zz", "%00"]))


@given(uris())
@example("postgresql://")
@example("postgresql://u:p@h:1,h2:2/db?connect_timeout=3")
@example("postgresql:///db?host=/run/postgresql&port=5433")
@example("postgresql://u@h@i/db")
@example("postgresql://h/a/b?user=x?y")
@example("postgresql://u%40:p%2f@%2Frun/db?ssl=true")
@example("postgresql://h/db?user=a&")
def test_a_uri_is_read_as_libpq_does(uri: str) -> None:
    found, expected = ours(uri), libpq(uri)
    # libpq leaves out most of what is empty, and we do so later.
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert _without_empty(found) == _without_empty(expected)


def _without_empty(values: Mapping[str, str]) -> dict[str, str]:
    return {keyword: value for keyword, value in values.items() if value}


@pytest.mark.parametrize("uri", ["postgresql://h /db", "postgresql://h/db?user=a b", "postgresql://h/\td"])
def test_blanks_in_a_uri_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="has a blank"):
        parse_connection_string(uri)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dbname=phobos password='secret", "has no end for the quote at character 24"),
        ("password=my secret", "has no KEYWORD=VALUE at character 13"),
        ("dbname=x hots=y", "has the unknown keyword 'hots'"),
        ("dbname=x\0", "has a null character"),
        (
            "postgresql://u:secret%@h",
            "has a blank, %00, or a % that is not followed by two hexadecimal digits in a URI",
        ),
        ("postgresql://h?user", "has something else than KEYWORD=VALUE after its question mark"),
        ("postgresql://[::1", "has something else than [IPv6 address]:port where there are square brackets"),
    ],
)
def test_what_libpq_would_not_take_is_refused_without_showing_a_secret(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        parse_connection_string(text)


# The URL, as the driver understands it


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("dbname=phobos host=localhost", "postgresql://localhost/phobos"),
        (
            "dbname='phobos' user='phobos' password='keep it: secret' host='db1'",
            "postgresql://phobos:keep%20it%3A%20secret@db1/phobos",
        ),
        ("", "postgresql://"),
        ("dbname='' host='' port=''", "postgresql://"),
        ("user=u@x", "postgresql://u%40x@"),
        ("password=p dbname=d", "postgresql://:p@/d"),
        ("port=5433 dbname=d", "postgresql:///d?port=5433"),
        ("host=/run/postgresql dbname=d", "postgresql:///d?host=/run/postgresql"),
        ("host=/run/postgresql port=5433", "postgresql://?host=/run/postgresql&port=5433"),
        ("host=db1,db2 port=5433 dbname=d", "postgresql://db1:5433,db2:5433/d"),
        ("host=db1,/run/pg,::1 port=1,,3", "postgresql://db1:1,%2Frun%2Fpg,[::1]:3"),
        ("hostaddr=10.0.0.1", "postgresql://10.0.0.1"),
        ("host=db1 application_name=a fallback_application_name=b", "postgresql://db1?application_name=a"),
        ("host=db1 fallback_application_name=b", "postgresql://db1?application_name=b"),
        (
            "host=db1 options='-c statement_timeout=5s'",
            "postgresql://db1?options=-c%20statement_timeout%3D5s",
        ),
        ("service=s passfile=/a/b sslmode=verify-full", "postgresql://?service=s&passfile=/a/b&sslmode=verify-full"),
        ("sslcert=/c sslrootcert=/d", "postgresql://?sslcert=/c&sslrootcert=/d"),
        ("target_session_attrs=primary", "postgresql://?target_session_attrs=primary"),
        ("postgres://u:p%40@[::1]:5433/d?sslmode=disable", "postgresql://u:p%40@[::1]:5433/d?sslmode=disable"),
    ],
)
def test_the_url(text: str, url: str) -> None:
    assert connection_url(text).url == url
    assert connection_url(text).left_out == ()
    assert connection_url(url).url == url  # it is a URI of libpq, too


HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True),
    st.from_regex(r"/[a-z0-9 %?#@:é/-]{0,20}", fullmatch=True),
    st.ip_addresses(v=6).map(str),
)


@given(user=VALUES, password=VALUES, dbname=VALUES, name=VALUES, hosts=st.lists(HOSTS, min_size=1), data=st.data())
def test_the_driver_connects_where_libpq_would(
    user: str, password: str, dbname: str, name: str, hosts: list[str], data: st.DataObject
) -> None:
    ports = data.draw(st.lists(st.integers(1, 65535), min_size=len(hosts), max_size=len(hosts)))
    given = {"user": user, "password": password, "dbname": dbname, "application_name": name}
    given |= {"host": ",".join(hosts), "port": ",".join(map(str, ports)), "connect_timeout": "3"}
    found = connection_url(make_conninfo("", **given))
    assert found.left_out == ("connect_timeout",)
    assert found.url.isascii()
    addresses, parameters = driver(found.url)
    assert addresses == [
        f"{host.removesuffix('/')}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        for host, port in zip(hosts, ports, strict=True)
    ]
    assert (parameters.user, parameters.password, parameters.database) == (user, password, dbname)
    assert parameters.server_settings == {"application_name": name}
    shown = DssSettings(url=found.url).shown
    assert found.url.replace(f":{quote(password, safe='')}@", "@", 1) == shown


def test_the_driver_fills_in_what_is_left_open_as_libpq_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USER": "u", "DATABASE": "d", "PASSWORD": "p", "HOST": "h", "PORT": "1"}.items():
        monkeypatch.setenv(f"PG{name}", value)
    for text, addresses, said in (
        ("", [("h", 1)], ("u", "p", "d")),
        ("user=v", [("h", 1)], ("v", "p", "d")),
        ("dbname=e", [("h", 1)], ("u", "p", "e")),
        ("host=i,j password=q", [("i", 1), ("j", 1)], ("u", "q", "d")),
        # An empty item of a list is the port that PostgreSQL is built with, whatever PGPORT says.
        ("host=i,j port=,2", [("i", 5432), ("j", 2)], ("u", "p", "d")),
    ):
        found, parameters = driver(connection_url(text).url)
        assert found == addresses
        assert (parameters.user, parameters.password, parameters.database) == said
        assert not parameters.server_settings


def test_every_keyword_of_libpq_is_read_said_otherwise_or_left_out_by_name() -> None:
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    assert {"dbname", "connect_timeout", "keepalives", "sslmode"} < known
    read = {"service", "passfile", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "krbsrvname", "options"}
    values = {
        "port": "5432",
        "sslmode": "disable",
        "sslnegotiation": "postgres",
        "ssl_min_protocol_version": "TLSv1.2",
        "ssl_max_protocol_version": "TLSv1.3",
        "gsslib": "gssapi",
        "target_session_attrs": "any",
    }
    said = {"user", "password", "dbname", "host", "hostaddr", "application_name", "fallback_application_name"}
    for keyword in known:
        found = connection_url(f"{keyword}={values.get(keyword, 'x')}")
        if keyword in read | said | set(values):
            assert found.left_out == ()
            assert found.url != "postgresql://"
        else:
            assert found.left_out == (keyword,)
            assert found.url == "postgresql://"
        if not keyword.startswith("ssl"):  # where the driver would look for files
            _, parameters = driver(found.url)
            assert set(parameters.server_settings or ()) <= {"application_name", "options"}


def test_a_host_is_looked_up_even_if_its_address_is_given() -> None:
    found = connection_url("host=db1 hostaddr=10.0.0.1 keepalives=1")
    assert found.url == "postgresql://db1"
    assert found.left_out == ("hostaddr", "keepalives")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port=0", "has a port that is no number from 1 to 65535"),
        ("port=5432x", "has a port that is no number from 1 to 65535"),
        ("port=٣", "has a port that is no number from 1 to 65535"),
        ("postgresql://u:s3c/ret@h:secret/x", "has a port that is no number from 1 to 65535"),
        ("host=a,b port=1,2,3", "has 3 ports for 2 hosts"),
        ("port=1,2", "has 2 ports for 1 hosts"),
        ("host=a,,b", "has a host that is neither a name nor the directory of a socket"),
        ("host=@abstract", "has a host that is neither a name nor the directory of a socket"),
        ("postgresql://u:p@@ssword@h/x", "has a host that is neither a name nor the directory of a socket"),
        ("host=a:b", "has a host that is neither a name nor an address"),
        (
            "sslmode=on",
            "has sslmode='on', which must be one of disable, allow, prefer, require, verify-ca, verify-full",
        ),
        ("target_session_attrs=best", "has target_session_attrs='best', which must be one of any, "),
        ("ssl_min_protocol_version=TLSv2", "has ssl_min_protocol_version='TLSv2', which must be one of TLSv1, "),
        ("gsslib=sspi", "has gsslib='sspi', which must be one of gssapi"),
        ("sslrootcert=system", "has sslrootcert=system; name the file of the certificates"),
    ],
)
def test_what_the_driver_cannot_do_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        connection_url(text)


# Against a server


async def test_a_server_takes_what_comes_of_it(cluster: Cluster) -> None:
    database = cluster.create_database('it\'s a "test"/%')
    try:
        given = conninfo_to_dict(database) | {
            "application_name": "a+b & c",
            "options": "-c statement_timeout=4321 -c lrs.word=x\\ y",
            "connect_timeout": "10",
            "client_encoding": "LATIN1",
            "keepalives_idle": "5",
        }
        found = connection_url(make_conninfo("", **given))
        assert found.left_out == ("client_encoding", "connect_timeout", "keepalives_idle")
        async with trio_asyncio.open_loop():
            connection = await trio_asyncio.aio_as_trio(asyncpg.connect)(found.url)
            try:
                row = await trio_asyncio.aio_as_trio(connection.fetchrow)(
                    "SELECT current_database(), current_setting('application_name'),"
                    " current_setting('statement_timeout'), current_setting('lrs.word')"
                )
            finally:
                await trio_asyncio.aio_as_trio(connection.close)()
        assert tuple(row) == ('it\'s a "test"/%', "a+b & c", "4321ms", "x y")
    finally:
        cluster.drop_database(database)
