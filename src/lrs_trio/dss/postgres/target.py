"""Where the database is and who we are there: what a URL, ``PG*`` variables and files say, as libpq takes it.

The driver takes less: what it does not know is said to it in other words here.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from lrs_trio.dss.postgres.password_file import DEFAULT_PLACE, read_password
from lrs_trio.phobos.connection_string import parse_connection_string, url_of

DEFAULT_PORT: Final = 5432

_VARIABLES: Final = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "options": "PGOPTIONS",
    "timezone": "PGTZ",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""By the keywords of libpq."""

_OF_THE_SERVER: Final = ("options", "timezone")
"""Settings of a session that libpq sends, and the driver does not if variables say them."""


class Server(NamedTuple):
    host: str
    """A name, an address or a directory of sockets; empty if nobody says."""
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """A database, on one of its `servers`; `url` names it to the driver, without them.

    The driver is told one server at a time. It could not read all that a URL may say of several: with the address
    of one in brackets behind others, Python takes the URL for malformed.
    """

    url: str
    servers: tuple[Server, ...]
    _said: Mapping[str, str]

    @property
    def settings(self) -> dict[str, str]:
        """What the site wants to have for our sessions."""
        return {name: self._said[name] for name in _OF_THE_SERVER if name in self._said}

    @property
    def any_server(self) -> bool:
        """The site says which of several servers is good, as against: one that takes writes."""
        return "target_session_attrs" in self._said

    @property
    def service(self) -> str | None:
        """What the file of services calls it, which the driver reads."""
        return self._said.get("service")

    def password(self, server: Server) -> str | None:
        """For `server`; empty if there is none, ``None`` if only the driver can find it, in the file of services.

        Raises:
            KeyError, OSError: nobody says who we are.
        """
        said = self._said
        if "password" in said or "service" in said:
            return said.get("password")
        user = said.get("user") or getpass.getuser()
        path = said.get("passfile", DEFAULT_PLACE)
        return read_password(path, server.host, str(server.port), said.get("dbname", user), user) or ""


def read_target(url: str, environ: Mapping[str, str]) -> Target:
    """What `url` says, and `environ` where it says nothing.

    Raises:
        ValueError: libpq would not take it. The text does not show the URL.
    """
    said = {keyword: value for keyword, value in parse_connection_string(url).items() if value}
    if not said.get("port", "").strip(","):
        # A URL of several servers without ports says only how many they are.
        said.pop("port", None)
    variables = {keyword: environ.get(variable, "") for keyword, variable in _VARIABLES.items()}
    if "service" in said or variables["service"]:
        # What a service says comes before the variables, and only the driver reads that file.
        variables = {keyword: variables[keyword] for keyword in ("service", *_OF_THE_SERVER)}
    said = {keyword: value for keyword, value in variables.items() if value} | said
    apart = ("host", "hostaddr", "port") if said.keys() & {"host", "hostaddr"} else ()
    return Target(
        url_of({keyword: value for keyword, value in said.items() if keyword not in apart}).url, _servers(said), said
    )


def _servers(said: Mapping[str, str]) -> tuple[Server, ...]:
    hosts = (said.get("host") or said.get("hostaddr", "")).split(",")
    ports = said.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError(f"has {len(ports)} ports for {len(hosts)} hosts")
    return tuple(Server(host, int(port or DEFAULT_PORT)) for host, port in zip(hosts, ports, strict=True))
