"""Connection strings of libpq, and what they are as a URL that our driver, asyncpg, understands.

asyncpg reads fewer keywords than libpq and takes any other for a setting of the server, which then refuses the
connection. So each keyword is one that it reads too, one that can be said otherwise, or one that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import quote, unquote, urlencode

_SAME: Final[tuple[str, ...]] = (
    "service",
    "passfile",
    "sslmode",
    "sslnegotiation",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "krbsrvname",
    "gsslib",
    "target_session_attrs",
    # Settings of the server for libpq as well: they go to it as they are.
    "options",
    "application_name",
)
"""What asyncpg knows by the same name."""

_SAID_OTHERWISE: Final = frozenset(
    {"user", "password", "dbname", "host", "hostaddr", "port", "fallback_application_name"}
)

_LEFT_OUT: Final = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "gssdelegation",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "oauth_client_id",
        "oauth_client_secret",
        "oauth_issuer",
        "oauth_scope",
        "replication",
        "require_auth",
        "requirepeer",
        "scram_client_key",
        "scram_server_key",
        "servicefile",
        "sslcertmode",
        "sslcompression",
        "sslcrldir",
        "sslkeylogfile",
        "sslsni",
        "tcp_user_timeout",
    }
)
"""What asyncpg has nothing for."""

_KEYWORDS: Final = _SAID_OTHERWISE | _LEFT_OUT | frozenset(_SAME)

_TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_ALLOWED: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "gsslib": ("gssapi",),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
"""The values that there are."""

_HIGHEST_PORT: Final = 65535

_BLANKS: Final = " \t\n\v\f\r"
_KEYWORD: Final = re.compile(rf"([^={_BLANKS}]+)[{_BLANKS}]*=[{_BLANKS}]*")
_QUOTED: Final = re.compile(rf"'((?:[^'\\]|\\.)*)'[{_BLANKS}]*", re.DOTALL)
_PLAIN: Final = re.compile(rf"((?:[^\\{_BLANKS}]|\\.)*)\\?[{_BLANKS}]*", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)

_SCHEME: Final = re.compile("postgres(?:ql)?://")
_SERVERS: Final = re.compile(r"(?:\[[^]]*\]|[^/?])*")
_SERVER: Final = re.compile(r"(?:\[([^]]+)\]|(?!\[)([^:,]*))(?::([^,]*))?(,|\Z)")
_NO_PART: Final = re.compile(f"%(?![0-9A-Fa-f]{{2}})|%00|[{_BLANKS}]")


@dataclass(frozen=True, slots=True)
class ConnectionUrl:
    """Where a database is, in the words of our driver."""

    url: str
    left_out: tuple[str, ...]
    """The keywords that the driver has nothing for."""


def connection_url(text: str) -> ConnectionUrl:
    """The URL of the database that libpq finds with the connection string `text`.

    What the string does not say stays open: the driver, like libpq, then looks at PG* variables and files.

    Raises:
        ValueError: libpq would not take it, or the driver cannot do what it asks. The text shows no password.
    """
    return url_of(parse_connection_string(text))


def url_of(said: Mapping[str, str]) -> ConnectionUrl:
    """The same for a connection string that is parsed already."""
    given = {keyword: value for keyword, value in said.items() if value}
    _check(given)
    query = {keyword: given[keyword] for keyword in _SAME if keyword in given}
    if name := given.get("fallback_application_name"):
        query.setdefault("application_name", name)
    left_out = given.keys() & _LEFT_OUT
    if given.keys() >= {"host", "hostaddr"}:
        left_out.add("hostaddr")
    servers, in_query = _servers(given)
    user, password, database = (given.get(keyword) for keyword in ("user", "password", "dbname"))
    url = "postgresql://"
    if user or password:
        url += _quoted(user or "") + (f":{_quoted(password)}" if password else "") + "@"
    url += servers
    if database:
        url += f"/{_quoted(database)}"
    if query := in_query | query:
        url += "?" + urlencode(query, safe="/", quote_via=quote, errors="surrogateescape")
    return ConnectionUrl(url, tuple(sorted(left_out)))


def parse_connection_string(text: str) -> dict[str, str]:
    """The keywords and values of `text`, which is a list of them or a URI; of several values the last one counts.

    Raises:
        ValueError: it is neither. The text shows keywords and places, but no values: they may be passwords.
    """
    if "\0" in text:
        raise ValueError("has a null character")
    scheme = _SCHEME.match(text)
    found = dict(map(_renamed, _of_uri(text[scheme.end() :]) if scheme else _of_pairs(text)))
    for keyword in found:
        if keyword not in _KEYWORDS:
            raise ValueError(f"has the unknown keyword {keyword!r}")
    return found


def _renamed(pair: tuple[str, str]) -> tuple[str, str]:
    keyword, value = pair
    if keyword == "requiressl":  # how sslmode was called once
        return "sslmode", "require" if value[:1] in ("1", "") else "prefer"
    return pair


def _of_pairs(text: str) -> Iterator[tuple[str, str]]:
    """The pairs of a list like ``dbname=phobos password='two words'``."""
    text = text.lstrip(_BLANKS)
    position = 0
    while position < len(text):
        keyword = _KEYWORD.match(text, position)
        if keyword is None:
            raise ValueError(f"has no KEYWORD=VALUE at character {position + 1}")
        position = keyword.end()
        value = (_QUOTED if text.startswith("'", position) else _PLAIN).match(text, position)
        if value is None:
            raise ValueError(f"has no end for the quote at character {position + 1}")
        yield keyword[1], _ESCAPE.sub(r"\1", value[1])
        position = value.end()


def _of_uri(rest: str) -> Iterator[tuple[str, str]]:
    """The pairs of a URI like ``user:password@host:port,host:port/database?keyword=value``."""
    if "@" in rest.partition("/")[0]:
        login, _, rest = rest.partition("@")
        user, _, password = login.partition(":")
        yield "user", _decoded(user)
        yield "password", _decoded(password)
    servers = _SERVERS.match(rest)
    end = servers.end() if servers else 0
    hosts, ports = zip(*_hosts_and_ports(rest[:end]), strict=True)
    yield "host", _decoded(",".join(hosts))
    yield "port", _decoded(",".join(ports))
    database, _, query = rest[end:].partition("?")
    yield "dbname", _decoded(database.removeprefix("/"))
    for pair in query.removesuffix("&").split("&") if query else ():
        keyword, _, value = pair.partition("=")
        if pair.count("=") != 1:
            raise ValueError("has something else than KEYWORD=VALUE after its question mark")
        keyword, value = _decoded(keyword), _decoded(value)
        yield ("sslmode", "require") if (keyword, value) == ("ssl", "true") else (keyword, value)


def _hosts_and_ports(servers: str) -> Iterator[tuple[str, str]]:
    """Those in the part of a URI like ``host:port,[IPv6 address]:port``."""
    position, more = 0, True
    while more:
        server = _SERVER.match(servers, position)
        if server is None:
            raise ValueError("has something else than [IPv6 address]:port where there are square brackets")
        address, host, port, comma = server.groups(default="")
        yield address or host, port
        position, more = server.end(), bool(comma)


def _decoded(part: str) -> str:
    if _NO_PART.search(part):
        raise ValueError("has a blank, %00, or a % that is not followed by two hexadecimal digits in a URI")
    return unquote(part, errors="surrogateescape")


def _check(given: Mapping[str, str]) -> None:
    for keyword, allowed in _ALLOWED.items():
        if keyword in given and given[keyword] not in allowed:
            raise ValueError(f"has {keyword}={given[keyword]!r}, which must be one of {', '.join(allowed)}")
    if given.get("sslrootcert") == "system":
        raise ValueError("has sslrootcert=system; name the file of the certificates")


def _servers(given: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """How the URL names the servers: what comes before the name of the database, and what goes into its query.

    Errors show no host and no port: of a URI whose password has a / or an @ that is not escaped, they are parts of it.
    """
    hosts = (given.get("host") or given.get("hostaddr") or "").split(",")
    ports = given.get("port", "").split(",")
    for port in ports:
        if port and not (port.isdecimal() and port.isascii() and 1 <= int(port) <= _HIGHEST_PORT):
            raise ValueError(f"has a port that is no number from 1 to {_HIGHEST_PORT}")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError(f"has {len(ports)} ports for {len(hosts)} hosts")
    if len(hosts) == 1 and (not hosts[0] or hosts[0].startswith("/")):
        # A directory with sockets, or whatever is the default, is easier to read there.
        return "", {keyword: text for keyword, text in (("host", hosts[0]), ("port", ports[0])) if text}
    return ",".join(map(_server, hosts, ports)), {}


def _server(host: str, port: str) -> str:
    if not host or host.startswith("@"):
        raise ValueError("has a host that is neither a name nor the directory of a socket")
    if ":" in host and not host.startswith("/"):
        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError("has a host that is neither a name nor an address") from None
        name = f"[{quote(host, safe=':')}]"
    else:
        name = _quoted(host)
    return f"{name}:{port}" if port else name


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")
