"""What a site can set: the keys, their defaults, what is allowed, and how they are read.

Defaults are overridden by the settings file, that by the environment, that by the command line. The
models are frozen; the description of a field says what is allowed, in the words an error message uses.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from lrs_trio.errors import SettingsError
from lrs_trio.location import (
    DEFAULT_SOCKET,
    SOCKET_ALLOWED,
    checked_socket,
    config_file,
    read_toml,
    settings_in,
)
from lrs_trio.logs import LogFormat, LogLevel
from lrs_trio.model import Family, SyncThresholds
from lrs_trio.sizes import SIZE_ALLOWED, exact_size, parse_size

MAX_FRAME_BYTES = 2 * 1024 * 1024
"""No peer may send a longer frame, whatever the settings say."""

MAX_INT64 = 2**63 - 1
MAX_UINT32 = 2**32 - 1

Key = tuple[str, ...]
"""The name of a setting, from the outermost table in."""

_SQLITE_SCHEME = "sqlite:///"
_POSTGRES_SCHEMES = ("postgresql://", "postgres://")

# Enough of a value to recognise it, and an error message stays one line that can be read.
_in_short = reprlib.Repr()
_in_short.maxstring = _in_short.maxother = 120


# The environment and the command line only have text, a TOML file has types: from text, a key takes what
# it would take from TOML, and nothing else (no 1 for true, no 1.0 for 1).


def _whole_number(value: object) -> object:
    return int(value) if isinstance(value, str) else value


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) else value


def _switch(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _group(value: object) -> object:
    return None if value == "" else value


def _dss_url(value: object) -> object:
    if not isinstance(value, str) or (value.startswith(_POSTGRES_SCHEMES) and "\0" not in value):
        return value
    path = value.removeprefix(_SQLITE_SCHEME)
    if path == value or not path.strip("/") or path.endswith("/") or "\0" in path:
        raise ValueError("neither the URL of an SQLite file nor of a PostgreSQL database")
    return value


def _lock_file(value: object) -> object:
    if value == "":
        return None
    if isinstance(value, str | Path):
        path = Path(value)
        if not path.is_absolute() or "\0" in str(path):
            raise ValueError("not an absolute path")
        return path
    return value


Whole = Annotated[int, BeforeValidator(_whole_number)]
Seconds = Annotated[float, BeforeValidator(_number), Field(gt=0, le=10**9, allow_inf_nan=False)]
Age = Annotated[float, BeforeValidator(_number), Field(ge=0, le=10**9, allow_inf_nan=False)]
Deadline = Annotated[float, BeforeValidator(_number), Field(gt=0)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Size = Annotated[int, BeforeValidator(_size), PlainSerializer(exact_size)]

_SWITCH_ALLOWED = "true or false"
_SECONDS_ALLOWED = "a number of seconds above 0"
_DEADLINE_ALLOWED = "a number of seconds above 0, or inf for no deadline"


class Table(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ServerSettings(Table):
    """The socket that clients connect to, and what one client may ask of the daemon."""

    socket: Annotated[Path, BeforeValidator(checked_socket)] = Field(default=DEFAULT_SOCKET, description=SOCKET_ALLOWED)
    """Where the daemon listens."""

    socket_mode: str = Field(
        default="0660", pattern="^0?[0-7]{3}$", description='octal permission bits in quotes, like "0660"'
    )
    """Who may connect, as permission bits of the socket."""

    socket_group: Annotated[str | None, BeforeValidator(_group)] = Field(
        default=None, pattern=r"^\S+$", description="the name of a group, or empty for the group of the daemon"
    )
    """The group that owns the socket."""

    max_frame_bytes: Size = Field(
        default=MAX_FRAME_BYTES, ge=1, le=MAX_FRAME_BYTES, description=f"{SIZE_ALLOWED}, from 1 to 2MiB"
    )
    """A longer frame closes its connection before anything is allocated for it. Bytes."""

    # Twice what a crowded storage host is seen with, and within the descriptors that the systemd unit grants.
    max_connections: Whole = Field(default=10_000, ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    """How many clients may be connected at once."""

    max_requests_per_connection: Whole = Field(
        default=1024, ge=1, le=1_000_000, description="a whole number from 1 to 1000000"
    )
    """How many allocations, formats and notifies of one connection may be unanswered; the next one gets EBUSY."""

    response_channel: Whole = Field(default=1024, ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    """How many unsent responses a connection may have before reading from it stops (note 2.2)."""

    slow_client_s: Seconds = Field(default=30.0, description=_SECONDS_ALLOWED)
    """A connection whose full response channel makes no progress for so long is closed. Seconds."""

    lock_file: Annotated[Path | None, BeforeValidator(_lock_file)] = Field(
        default=None, description="an absolute path, or empty for no such file"
    )
    """One more file that is locked, and there, as long as the daemon runs: what others look for (Phobos does)."""

    @property
    def mode(self) -> int:
        """`socket_mode` as a number."""
        return int(self.socket_mode, 8)


class DssSettings(Table):
    """The state database."""

    url: Annotated[str, BeforeValidator(_dss_url)] = Field(
        default="sqlite:///var/lib/lrs-trio/dss.sqlite",
        description="sqlite:///absolute/path/of/the/file or postgresql://user@host/database",
    )

    recheck_s: Age = Field(default=1.0, description="a number of seconds, 0 or more")
    """How old may be what is known of media when one is granted. Seconds; at 0 they are looked up each time."""

    @property
    def is_postgres(self) -> bool:
        return self.url.startswith(_POSTGRES_SCHEMES)

    @property
    def path(self) -> Path:
        """The SQLite file that `url` names; three or four slashes before it mean the same."""
        return Path("/" + self.url.removeprefix(_SQLITE_SCHEME).lstrip("/"))

    @property
    def shown(self) -> str:
        """`url` for people and logs: without a password."""
        return without_password(self.url)


class SyncSettings(Table):
    """When waiting releases are synced together: the first threshold reached decides (notes 3.0 to 3.2)."""

    time_ms: Whole = Field(
        default=10, ge=0, le=MAX_UINT32, description=f"a whole number of milliseconds from 0 to {MAX_UINT32}"
    )
    """Age of the oldest waiting release. Milliseconds."""

    requests: Whole = Field(default=5, ge=1, le=MAX_UINT32, description=f"a whole number from 1 to {MAX_UINT32}")
    """Number of waiting releases."""

    bytes: Size = Field(default=2**30, ge=1, le=MAX_INT64, description=f"{SIZE_ALLOWED}, at least 1")
    """What the waiting releases have written. Bytes."""

    @property
    def thresholds(self) -> SyncThresholds:
        return SyncThresholds(age=self.time_ms / 1000, requests=self.requests, size=self.bytes)


class FamilySettings(Table):
    """How the devices of one family work."""

    enabled: Switch = Field(default=True, description=_SWITCH_ALLOWED)
    """Whether this daemon serves the family at all."""

    max_concurrent_io: Whole = Field(default=8, ge=1, le=10_000, description="a whole number from 1 to 10000")
    """How many allocations of one device may be granted at once (note 8)."""

    sync_while_io: Switch = Field(default=True, description=_SWITCH_ALLOWED)
    """Whether a due sync goes ahead while clients do I/O; where not, it waits and holds back new I/O."""

    mix_reads_and_writes: Switch = Field(default=True, description=_SWITCH_ALLOWED)
    """Whether reads and writes may go on at once on one device (note 8)."""

    full_threshold_percent: Whole = Field(default=1, ge=1, le=99, description="a whole number from 1 to 99")
    """A medium with less than this part of its space free is full. Percent."""

    max_health: Whole = Field(default=1, ge=1, le=2**31 - 1, description="a whole number from 1 to 2147483647")
    """How many failures in a row set a device to failed."""

    groupings: Switch = Field(default=False, description=_SWITCH_ALLOWED)
    """Whether the groupings that clients ask for decide where they write."""

    policy: Literal["best_fit", "first_fit"] = Field(default="best_fit", description="best_fit or first_fit")
    """Which of the media that have room for a write, and are equally busy, is taken: the one with the least room, or
    the first."""

    locate_expiry_ms: Whole = Field(
        default=0, ge=0, le=2**31 - 1, description="a whole number of milliseconds from 0 to 2147483647"
    )
    """How long a medium that a client has located is kept from other clients' writes; 0: not at all. Milliseconds."""

    operation_timeout_s: Seconds = Field(default=300.0, description=_SECONDS_ALLOWED)
    """The longest that one physical operation (mount, sync, format, unmount) may take. Seconds."""

    sync: SyncSettings = SyncSettings()


class FamiliesSettings(Table):
    """The families that this daemon serves."""

    dir: FamilySettings = FamilySettings()

    @property
    def served(self) -> dict[Family, FamilySettings]:
        return {Family.DIR: self.dir} if self.dir.enabled else {}


class DrainSettings(Table):
    """How the daemon ends after the first signal (note 11)."""

    deadline_s: Deadline = Field(default=300.0, description=_DEADLINE_ALLOWED)
    """What has not ended by then is cancelled. Seconds."""

    report_s: Seconds = Field(default=5.0, description=_SECONDS_ALLOWED)
    """How often it is logged what the drain waits for. Seconds."""


class LogSettings(Table):
    level: LogLevel = Field(default="info", description="debug, verbose, info, warning, error or off")
    format: LogFormat = Field(default="console", description="console, json or phobos")
    syslog: Switch = Field(default=False, description=_SWITCH_ALLOWED)
    """Whether the lines go to syslog instead of the standard error."""


def short_host_name() -> str:
    return os.uname().nodename.partition(".")[0]


class Settings(Table):
    """Everything that can be set."""

    host: str = Field(
        default_factory=short_host_name,
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="a host name, as in the devices of the DSS",
    )
    """The name of this host in the DSS: its devices are those served, its locks those recovered."""

    server: ServerSettings = ServerSettings()
    dss: DssSettings = DssSettings()
    families: FamiliesSettings = FamiliesSettings()
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()


def load_settings(path: Path | None, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> Settings:
    """The settings in effect.

    Args:
        path: the settings file given on the command line; without one, LRS_CONFIG's or the default one if it exists.
        environ: the environment; LRS_DRAIN__DEADLINE_S=60 sets drain.deadline_s.
        overrides: KEY=VALUE texts of the command line, such as drain.deadline_s=60.

    Raises:
        SettingsError: one line for each thing that is wrong: where, the key, the value and what is allowed.
    """
    problems: list[str] = []
    file = config_file(path, environ)
    values: dict[str, object] = {}
    if file is not None:
        try:
            values = read_toml(file)
        except SettingsError as error:
            problems.append(str(error))
    given = [*settings_in(environ), *_command_line(overrides, problems)]
    return _checked(values, given, problems, lambda key: f"{file}: {_problem(key, _given(values, key))}")


def settings_from(
    values: Mapping[Key, object], said: Mapping[Key, str], overrides: Sequence[str], problems: Sequence[str]
) -> Settings:
    """The settings that something else than our own files and variables says.

    Args:
        values: what it says, by key, such as ("drain", "deadline_s").
        said: for keys that can be wrong there, how an error names place, key and value; what is allowed is added.
        overrides: as for `load_settings`.
        problems: lines of the error that is due already.

    Raises:
        SettingsError: one line for each thing that is wrong.
    """
    nested: dict[str, object] = {}
    for key, value in values.items():
        _override(nested, key, value)
    found = [*problems]
    given = list(_command_line(overrides, found))
    return _checked(nested, given, found, lambda key: f"{said[key]}: must be {_ALLOWED[key]}")


def to_toml(settings: Settings, *, changes_only: bool = False) -> str:
    """`settings` as a settings file that says the same; with `changes_only` what is the default is left out."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True, exclude_defaults=changes_only))


def without_password(url: str) -> str:
    """A database's URL for people and logs: what may be a password in it is not shown."""
    if not url.startswith(_POSTGRES_SCHEMES):
        return url
    scheme, _, rest = url.partition("://")
    rest, mark, query = rest.partition("?")
    # Up to the last @, so that a password in which a / or an @ was not escaped is not shown either.
    user, at, place = rest.rpartition("@")
    shown = "&".join(pair for pair in query.split("&") if not pair.startswith(("password=", "sslpassword=")))
    return f"{scheme}://{user.partition(':')[0]}{at}{place}{mark if shown else ''}{shown}"


def _command_line(overrides: Sequence[str], problems: list[str]) -> Iterator[tuple[str, Key, str]]:
    """Each of the KEY=VALUE texts, as `settings_in` gives what the environment sets; what is none is a problem."""
    for override in overrides:
        name, equals, text = override.partition("=")
        if equals:
            yield "command line", tuple(name.strip().split(".")), text
        else:
            problems.append(f"command line: {override!r}: must be KEY=VALUE, such as drain.deadline_s=60")


def _checked(
    values: dict[str, object],
    given: Sequence[tuple[str, Key, str]],
    problems: list[str],
    otherwise: Callable[[Key], str],
) -> Settings:
    """The settings that `values`, and what is `given` by (source, key, text) and wins, make.

    Args:
        problems: what is known to be wrong.
        otherwise: says what is wrong with a value that is not `given`.

    Raises:
        SettingsError: one line for each thing that is wrong.
    """
    sources: dict[Key, str] = {}
    for source, key, text in given:
        if key in _ALLOWED:
            _override(values, key, text)
            sources[key] = source
        else:
            problems.append(f"{source}: {_problem(key, text)}")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as invalid:
        for details in invalid.errors(include_url=False):
            key = tuple(str(part) for part in details["loc"])
            if key in sources:
                problems.append(f"{sources[key]}: {_problem(key, _given(values, key))}")
            else:
                problems.append(otherwise(key))
    else:
        if not problems:
            return settings
    raise SettingsError("\n".join(problems))


def _override(values: dict[str, object], key: Key, value: object) -> None:
    """Set `key` in the nested `values`, unless the file has something else where a table belongs: that is an error."""
    table = values
    for name in key[:-1]:
        below = table.setdefault(name, {})
        if not isinstance(below, dict):
            return
        table = below
    table[key[-1]] = value


def _given(values: dict[str, object], key: Key) -> object:
    """What `values` has for `key`, as it was written."""
    value: object = values
    for name in key:
        value = value[name] if isinstance(value, dict) else None
    return value


def _problem(key: Key, value: object) -> str:
    """What is wrong with `value` as the value of `key`, and what is allowed instead."""
    what = f"{_dotted(key)} = {_in_short.repr(value)}"
    if key in _ALLOWED:
        return f"{what}: must be {_ALLOWED[key]}"
    parent = key[:-1]
    while parent not in _ALLOWED:
        parent = parent[:-1]
    return f"{what}: unknown key; {_dotted(parent) or 'the settings'} must be {_ALLOWED[parent]}"


def _dotted(key: Key) -> str:
    return ".".join(name if re.fullmatch(r"[\w-]+", name) else repr(name) for name in key)


def _allowed(table: type[Table], key: Key = ()) -> Iterator[tuple[Key, str]]:
    """What is allowed for `key`, which is `table`, and for every key below it."""
    yield key, f"a table of {', '.join(table.model_fields)}"
    for name, field in table.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Table):
            yield from _allowed(field.annotation, (*key, name))
        else:
            yield (*key, name), str(field.description)


_ALLOWED = dict(_allowed(Settings))
