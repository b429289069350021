"""What a site can set: the keys, their defaults, and what is allowed.

The models are frozen; the description of a field says what is allowed, in the words an error message uses.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)

from lrs_trio.command_line import split_command
from lrs_trio.errors import LrsError
from lrs_trio.location import DEFAULT_SOCKET, SOCKET_ALLOWED, checked_socket
from lrs_trio.logs import LogFormat, LogLevel
from lrs_trio.model import Family, Phase, SyncThresholds
from lrs_trio.sizes import SIZE_ALLOWED, exact_size, parse_size

MAX_FRAME_BYTES = 2 * 1024 * 1024
"""No peer may send a longer frame, whatever the settings say."""

MAX_INT64 = 2**63 - 1
MAX_UINT32 = 2**32 - 1

_SQLITE_SCHEME = "sqlite:///"
_POSTGRES_SCHEMES = ("postgresql://", "postgres://")


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


def _tuple(value: object) -> object:
    """TOML has arrays, text has commas, and neither has tuples."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",")) if value.strip() else ()
    return tuple(value) if isinstance(value, list) else value


def _group(value: object) -> object:
    return None if value == "" else value


def _dss_url(value: object) -> object:
    if not isinstance(value, str) or (value.startswith(_POSTGRES_SCHEMES) and "\0" not in value):
        return value
    path = value.removeprefix(_SQLITE_SCHEME)
    if path == value or not path.strip("/") or path.endswith("/") or "\0" in path:
        raise ValueError("neither the URL of an SQLite file nor of a PostgreSQL database")
    return value


def _command(arguments: int) -> AfterValidator:
    """A command line that takes so many arguments."""

    def checked(text: str) -> str:
        try:
            split_command(text, *[""] * arguments)
        except LrsError as error:
            raise ValueError(str(error)) from None
        return text

    return AfterValidator(checked)


def _optional_path(value: object) -> object:
    return None if value == "" else _absolute_path(value)


def _absolute_path(value: object) -> object:
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
Prefix = Annotated[str, Field(pattern=r"^/[^\x00]*$")]
Share = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=2**31 - 1)]
Shares = Annotated[tuple[Share, Share, Share], BeforeValidator(_tuple)]
"""For reads, writes and formats."""
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_tuple)]
DriveModels = Annotated[Names, Field(description="a list of models of drives")]
DriveTypes = Annotated[Names, Field(description="a list of types of drives")]

_SWITCH_ALLOWED = "true or false"
_SECONDS_ALLOWED = "a number of seconds above 0"
_COMMAND_ALLOWED = "a command line with %s {}, and %% for a per cent sign"
_ONE_ARGUMENT = _COMMAND_ALLOWED.format("once")
_TWO_ARGUMENTS = _COMMAND_ALLOWED.format("twice")
_PATH_ALLOWED = "an absolute path"
_SHARES_ALLOWED = "three whole numbers, 0 or more: for reads, writes and formats"
_DEADLINE_ALLOWED = "a number of seconds above 0, or inf for no deadline"
_MODE_ALLOWED = "thresholds or adaptive"
_RIGHTS_ALLOWED = "a list of read, write, format and admin"

Rights = Annotated[
    tuple[Literal["read", "write", "format", "admin"], ...],
    BeforeValidator(_tuple),
    Field(description=_RIGHTS_ALLOWED),
]
"""The values of `Right`."""


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
    """How many clients may be connected at once. Four more may be root, the daemon's user, or named for `admin`."""

    max_requests_per_connection: Whole = Field(
        default=1024, ge=1, le=1_000_000, description="a whole number from 1 to 1000000"
    )
    """How many allocations, formats and notifies of one connection may be unanswered; the next one gets EBUSY."""

    response_channel: Whole = Field(default=1024, ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    """How many unsent responses a connection may have before reading from it stops (note 2.2)."""

    slow_client_s: Seconds = Field(default=30.0, description=_SECONDS_ALLOWED)
    """A connection that takes too little of what waits for it in that time is closed; 16 KiB are enough. Seconds."""

    lock_file: Annotated[Path | None, BeforeValidator(_optional_path)] = Field(
        default=None, description="an absolute path, or empty for no such file"
    )
    """One more file that is locked, and there, as long as the daemon runs: what others look for (Phobos does)."""

    @property
    def mode(self) -> int:
        """`socket_mode` as a number."""
        return int(self.socket_mode, 8)


class AccessSettings(Table):
    """What those who may connect may do. Root and the daemon's own user may do everything, whatever this says.

    A connection may do what everyone may, what its user may, and what any of its groups may.
    """

    everyone: Rights = Field(default=("read", "write"), description=_RIGHTS_ALLOWED)
    """What each who may connect may do."""

    users: dict[str, Rights] = Field(default={}, description="a table of lists of rights, by user")
    """By the name or the number of a user."""

    groups: dict[str, Rights] = Field(default={}, description="a table of lists of rights, by group")
    """By the name or the number of a group; it may be the user's own or one of its others."""


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
    """When waiting releases are synced together: at the first threshold reached, at the latest (notes 3.0 to 3.2)."""

    mode: Literal["thresholds", "adaptive"] = Field(default="adaptive", description=_MODE_ALLOWED)
    """Whether only the thresholds decide, or a sync starts before where nobody could join those that wait."""

    time_ms: Whole = Field(
        default=10, ge=0, le=MAX_UINT32, description=f"a whole number of milliseconds from 0 to {MAX_UINT32}"
    )
    """Age of the oldest waiting release. Milliseconds."""

    requests: Whole = Field(default=5, ge=1, le=MAX_UINT32, description=f"a whole number from 1 to {MAX_UINT32}")
    """Number of waiting releases."""

    bytes: Size = Field(default=2**30, ge=1, le=MAX_INT64, description=f"{SIZE_ALLOWED}, at least 1")
    """What the waiting releases have written. Bytes."""

    @cached_property
    def thresholds(self) -> SyncThresholds:
        return SyncThresholds(age=self.time_ms / 1000, requests=self.requests, size=self.bytes)

    @property
    def adaptive(self) -> bool:
        return self.mode == "adaptive"

    @property
    def share_to_stream(self) -> float | None:
        """For what share of its time a device is kept with its clients' I/O; ``None`` where that is of no interest."""
        return None


class TapeSyncSettings(SyncSettings):
    """The same for tapes, where a sync takes long and is worth waiting for company."""

    mode: Literal["thresholds", "adaptive"] = Field(default="thresholds", description=_MODE_ALLOWED)
    """Adaptive: also as soon as the drive has streamed for long enough to be worth a sync."""

    streaming_share: Annotated[float, BeforeValidator(_number), Field(gt=0, lt=1)] = Field(
        default=0.9, description="a number above 0 and below 1"
    )
    """If adaptive: the part of a drive's time that is for the clients' I/O; syncs get the rest."""

    time_ms: Whole = Field(
        default=10_000, ge=0, le=MAX_UINT32, description=f"a whole number of milliseconds from 0 to {MAX_UINT32}"
    )

    @property
    def share_to_stream(self) -> float | None:
        return self.streaming_share if self.adaptive else None


class FamilySettings(Table, ABC):
    """How the devices of a family work, as far as all families have that in common."""

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
    """How many failures in a row set a device or a medium to failed."""

    groupings: Switch = Field(default=False, description=_SWITCH_ALLOWED)
    """Whether the groupings that clients ask for decide where they write."""

    policy: Literal["best_fit", "first_fit"] = Field(default="best_fit", description="best_fit or first_fit")
    """Which of the media that have room for a write, and are equally busy, is taken: the one with the least room, or
    the first."""

    locate_expiry_ms: Whole = Field(
        default=0, ge=0, le=2**31 - 1, description="a whole number of milliseconds from 0 to 2147483647"
    )
    """How long a medium that a client has located is kept from other clients' writes; 0: not at all. Milliseconds."""

    sync: SyncSettings = SyncSettings()

    @abstractmethod
    def limit(self, phase: Phase) -> float:
        """The longest that `phase` of a device may take. Seconds."""


class DirectorySettings(FamilySettings):
    """How directories are served: they stay where they are, and take many clients at once."""

    operation_timeout_s: Seconds = Field(default=300.0, description=_SECONDS_ALLOWED)
    """The longest that one physical operation (mount, sync, format, unmount) may take. Seconds."""

    def limit(self, phase: Phase) -> float:
        return self.operation_timeout_s


class TimeoutSettings(Table):
    """How long each operation on tape may take before its drive is quarantined. Seconds."""

    look_up_s: Seconds = Field(default=60.0, description=_SECONDS_ALLOWED)
    """Asking the library or the system about a drive."""

    load_s: Seconds = Field(default=1800.0, description=_SECONDS_ALLOWED)
    """A robot that is stalled for ten minutes is awaited; a new LTO-9 cartridge needs up to two hours once."""

    unload_s: Seconds = Field(default=1200.0, description=_SECONDS_ALLOWED)

    mount_s: Seconds = Field(default=1800.0, description=_SECONDS_ALLOWED)
    """The index of millions of files takes minutes to read."""

    unmount_s: Seconds = Field(default=1200.0, description=_SECONDS_ALLOWED)

    format_s: Seconds = Field(default=7200.0, description=_SECONDS_ALLOWED)

    sync_s: Seconds = Field(default=1200.0, description=_SECONDS_ALLOWED)


class LtfsSettings(Table):
    """The commands that work on LTFS, each with %s for its arguments in order; no shell reads them."""

    mount: Annotated[str, _command(2)] = Field(
        default='/usr/sbin/pho_ldm_helper mount_ltfs "%s" "%s"', description=_TWO_ARGUMENTS
    )
    """Arguments: device, mount point."""

    unmount: Annotated[str, _command(2)] = Field(
        default='/usr/sbin/pho_ldm_helper umount_ltfs "%s" "%s"', description=_TWO_ARGUMENTS
    )
    """Arguments: device, mount point."""

    format: Annotated[str, _command(2)] = Field(
        default='/usr/sbin/pho_ldm_helper format_ltfs "%s" "%s"', description=_TWO_ARGUMENTS
    )
    """Arguments: device, label."""

    release: Annotated[str, _command(1)] = Field(
        default='/usr/sbin/pho_ldm_helper release_ltfs "%s"', description=_ONE_ARGUMENT
    )
    """Argument: device. What an administrator uses on a drive that a dead host has reserved."""


class FairShareSettings(Table):
    """How many drives of one technology reads, writes and formats get at least and at most."""

    min: Shares = Field(default=(0, 0, 0), description=_SHARES_ALLOWED)
    max: Shares = Field(default=(2**31 - 1, 2**31 - 1, 2**31 - 1), description=_SHARES_ALLOWED)


class TapeSettings(FamilySettings):
    """How tapes are served: a medium comes and goes, and one stream at a time is what a drive is good at."""

    enabled: Switch = Field(default=False, description=_SWITCH_ALLOWED)
    max_concurrent_io: Whole = Field(default=1, ge=1, le=10_000, description="a whole number from 1 to 10000")
    sync_while_io: Switch = Field(default=False, description=_SWITCH_ALLOWED)
    mix_reads_and_writes: Switch = Field(default=False, description=_SWITCH_ALLOWED)
    full_threshold_percent: Whole = Field(default=5, ge=1, le=99, description="a whole number from 1 to 99")
    groupings: Switch = Field(default=True, description=_SWITCH_ALLOWED)
    sync: TapeSyncSettings = TapeSyncSettings()

    mount_prefix: Prefix = Field(default="/mnt/lrs-", description="the beginning of an absolute path")
    """A drive's media are mounted at this and the last part of the drive's path."""

    read_algorithm: Literal["fifo", "grouped_read"] = Field(default="grouped_read", description="fifo or grouped_read")
    """Whether a tape stays in its drive as long as somebody waits to read it."""

    ordered_grouped_read: Switch = Field(default=True, description=_SWITCH_ALLOWED)
    """Whether those who wait for one tape are served by their priorities, or as they came."""

    dispatch: Literal["none", "fair_share"] = Field(default="none", description="none or fair_share")
    """Whether drives are shared out between reads, writes and formats."""

    fair_share: dict[str, FairShareSettings] = Field(
        default={}, description="a table for each technology (LTO8...) with min and max"
    )
    """By technology; one without an entry is not shared out."""

    max_writers_per_grouping: Whole = Field(
        default=0, ge=0, le=2**31 - 1, description="a whole number from 0 to 2147483647"
    )
    """How many clients may write one grouping at once; 0: any number."""

    drive_types: dict[str, DriveModels] = Field(
        default={}, description="a table of lists of models of drives, by the name of a type of drives"
    )
    """Which models of drives make up a type, such as LTO8_drive = ["ULT3580-TD8"]."""

    tape_types: dict[str, DriveTypes] = Field(
        default={}, description="a table of lists of types of drives, by the model of the tapes that they write"
    )
    """Which types of drives write which tapes, such as LTO7 = ["LTO7_drive", "LTO8_drive"]."""

    models: Names = Field(
        default=("LTO5", "LTO6", "LTO7", "LTO8", "LTO9", "T10KB", "T10KC", "T10KD"),
        description="a list of models of tapes",
    )
    """The models of tapes that there may be. A drive's technology is the X of these whose X_drive has its model."""

    ltfs: LtfsSettings = LtfsSettings()
    timeouts: TimeoutSettings = TimeoutSettings()

    def limit(self, phase: Phase) -> float:
        return {
            Phase.LOOK_UP: self.timeouts.look_up_s,
            Phase.OPEN: self.timeouts.look_up_s,
            Phase.LOAD: self.timeouts.load_s,
            Phase.UNLOAD: self.timeouts.unload_s,
            Phase.MOUNT: self.timeouts.mount_s,
            Phase.UNMOUNT: self.timeouts.unmount_s,
            Phase.FORMAT: self.timeouts.format_s,
            Phase.SYNC: self.timeouts.sync_s,
        }[phase]


class FamiliesSettings(Table):
    """The families that this daemon serves."""

    dir: DirectorySettings = DirectorySettings()
    tape: TapeSettings = TapeSettings()

    @property
    def served(self) -> dict[Family, FamilySettings]:
        families = {Family.DIR: self.dir, Family.TAPE: self.tape}
        return {family: settings for family, settings in families.items() if settings.enabled}


class LibrarySettings(Table):
    """One tape library: who moves its media, and what its drives are."""

    robot: Literal["tlc", "virtual"] = Field(default="tlc", description="tlc or virtual")
    """Whether a tape library controller is asked over TCP, or the daemon plays the robot of a virtual library."""

    host: str = Field(default="localhost", pattern=r"^\S+$", description="a host name or an address")
    """Where the controller is."""

    port: Whole = Field(default=20123, ge=1, le=65535, description="a whole number from 1 to 65535")
    """Where the controller listens."""

    drives: Literal["ltfs", "virtual"] = Field(default="ltfs", description="ltfs or virtual")
    """Whether the drives are real ones with LTFS, or those of the virtual library in `directory`."""

    directory: Annotated[Path | None, BeforeValidator(_absolute_path)] = Field(
        default=None, validate_default=True, description=f"{_PATH_ALLOWED}; what is virtual needs one"
    )
    """Where the virtual library is kept."""

    speed: Annotated[float, BeforeValidator(_number), Field(gt=0, le=10**6, allow_inf_nan=False)] = Field(
        default=1.0, description="a number above 0, at most 1000000"
    )
    """How much faster than a real one the virtual library is."""

    log_moves: Switch = Field(default=True, description=_SWITCH_ALLOWED)
    """Whether the daemon writes loads and unloads to the operation log; phobos_tlc does that itself."""

    changer: Prefix = Field(default="/dev/changer", description=_PATH_ALLOWED)
    """What `lrs tlc` moves media with."""

    mtx: Annotated[str, _command(1)] = Field(default='mtx -f "%s"', description=_ONE_ARGUMENT)
    """The program that speaks to the changer. Argument: the changer."""

    serials: Names = Field(default=(), description="a list of serials")
    """The serials of the drives, in the order of the numbers that the mtx program gives them."""

    move_s: Seconds = Field(default=900.0, description=_SECONDS_ALLOWED)
    """How long `lrs tlc` lets the robot take for one move. Seconds."""

    retries: Whole = Field(default=5, ge=0, le=1000, description="a whole number from 0 to 1000")
    """How often `lrs tlc` gives a command again when the library is not ready."""

    retry_s: Seconds = Field(default=5.0, description=_SECONDS_ALLOWED)
    """The pause before that. Seconds."""

    @field_validator("directory")
    @classmethod
    def _there_if_virtual(cls, directory: Path | None, info: ValidationInfo) -> Path | None:
        if directory is None and "virtual" in (info.data.get("robot"), info.data.get("drives")):
            raise ValueError("missing")
        return directory


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


class EventsSettings(Table):
    """What becomes of all that happens in the daemon."""

    trace: Annotated[Path | None, BeforeValidator(_optional_path)] = Field(
        default=None, description="an absolute path, or empty for no such file"
    )
    """Where it is written down, for `lrs timeline`, `lrs simulate --replay` and others; see docs/trace.md."""


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
    access: AccessSettings = AccessSettings()
    dss: DssSettings = DssSettings()
    families: FamiliesSettings = FamiliesSettings()
    libraries: dict[str, LibrarySettings] = Field(default={}, description="a table for each library, by its name")
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()
    events: EventsSettings = EventsSettings()


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
