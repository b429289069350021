from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio import location
from lrs_trio.errors import SettingsError
from lrs_trio.model import Family, SyncThresholds
from lrs_trio.settings import (
    AccessSettings,
    DirectorySettings,
    DrainSettings,
    DssSettings,
    FairShareSettings,
    FamiliesSettings,
    LibrarySettings,
    LogSettings,
    LtfsSettings,
    ServerSettings,
    Settings,
    SyncSettings,
    TapeSettings,
    TapeSyncSettings,
)
from lrs_trio.settings_sources import changed, load_settings, to_toml

FILES = Path(__file__).parent.parent / "settings"

NAMED = Settings(
    access=AccessSettings(users={"BACKUP": ("format",)}, groups={"OPERATORS": ("format", "admin")}),
    families=FamiliesSettings(
        tape=TapeSettings(
            fair_share={"LTO8": FairShareSettings(min=(1, 1, 0), max=(4, 4, 1))},
            drive_types={"LTO8_DRIVE": ("ULT3580-TD8", "HH LTO Gen 8")},
            tape_types={"LTO8": ("LTO8_DRIVE",)},
        )
    ),
    libraries={"LEGACY": LibrarySettings()},
)
"""The defaults, and one of everything that a site has to name itself."""


@pytest.fixture(autouse=True)
def no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(location, "DEFAULT_CONFIG", tmp_path / "absent.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lrs.toml"


def problems(path: Path | None, environ: Mapping[str, str] | None = None, overrides: Sequence[str] = ()) -> list[str]:
    """The lines of the error that these settings are."""
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environ or {}, overrides)
    return str(caught.value).splitlines()


def leaves(table: Mapping[str, object], prefix: str = "") -> set[str]:
    keys = set()
    for name, value in table.items():
        keys |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"}
    return keys


# Where a value comes from


def test_later_sources_win(file: Path) -> None:
    file.write_text("[drain]\ndeadline_s = 1\nreport_s = 1\n[log]\nlevel = 'error'\n[server]\nresponse_channel = 1\n")
    environ = {"LRS_DRAIN__DEADLINE_S": "2", "LRS_DRAIN__REPORT_S": "2", "LRS_LOG__LEVEL": "debug"}
    settings = load_settings(file, environ, ["drain.deadline_s=3", "drain.report_s=9", "drain.report_s=3"])
    assert settings.drain == DrainSettings(deadline_s=3, report_s=3)
    assert settings.log == LogSettings(level="debug")
    assert settings.server == ServerSettings(response_channel=1)
    assert settings.families == FamiliesSettings()


def test_without_any_source_the_defaults_hold() -> None:
    assert load_settings(None, {}) == Settings()
    assert Settings().host == os.uname().nodename.split(".")[0]


def test_the_environment_names_the_file(file: Path) -> None:
    file.write_text("host = 'elsewhere'\n")
    assert load_settings(None, {"LRS_CONFIG": str(file)}).host == "elsewhere"


def test_the_default_file_is_read_if_it_exists(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("host = 'elsewhere'\n")
    monkeypatch.setattr(location, "DEFAULT_CONFIG", file)
    assert load_settings(None, {}).host == "elsewhere"


def test_variables_of_any_case_count_and_those_of_exec_do_not() -> None:
    environ = {"lrs_families__DIR__sync__Requests": "7", "LRS_ROOT": "/a", "LRS_ROOT_1": "/a", "PATH": "/bin"}
    assert load_settings(None, environ).families.dir.sync.requests == 7


def test_text_becomes_what_the_key_takes() -> None:
    environ = {
        "LRS_SERVER__SOCKET": "/tmp/lrs",
        "LRS_SERVER__SOCKET_MODE": "666",
        "LRS_SERVER__SOCKET_GROUP": "archive",
        "LRS_SERVER__MAX_FRAME_BYTES": "64 KiB",
        "LRS_SERVER__SLOW_CLIENT_S": "0.5",
        "LRS_FAMILIES__DIR__SYNC_WHILE_IO": "false",
        "LRS_FAMILIES__DIR__SYNC__BYTES": "12345",
    }
    settings = load_settings(None, environ)
    assert settings.server == ServerSettings(
        socket=Path("/tmp/lrs"), socket_mode="666", socket_group="archive", max_frame_bytes=65536, slow_client_s=0.5
    )
    assert settings.families.dir == DirectorySettings(sync_while_io=False, sync=SyncSettings(bytes=12345))


def test_an_empty_group_or_lock_file_takes_back_what_the_file_says(file: Path) -> None:
    file.write_text("[server]\nsocket_group = 'archive'\nlock_file = '/run/lock/lrs'\n")
    assert load_settings(file, {}).server.lock_file == Path("/run/lock/lrs")
    server = load_settings(file, {}, ["server.socket_group=", "server.lock_file="]).server
    assert server.socket_group is None
    assert server.lock_file is None


def test_what_tapes_have_in_common_with_directories_has_other_defaults(file: Path) -> None:
    file.write_text("[families.tape.sync]\nrequests = 3\n[families.dir.sync]\nrequests = 3\n")
    families = load_settings(file, {}).families
    assert families.tape.sync.thresholds == SyncThresholds(age=10, requests=3, size=2**30)
    assert families.dir.sync.thresholds == SyncThresholds(age=0.01, requests=3, size=2**30)
    assert (families.tape.max_concurrent_io, families.dir.max_concurrent_io) == (1, 8)
    assert (families.tape.sync_while_io, families.dir.sync_while_io) == (False, True)


# Names that a site gives


def test_a_variable_finds_the_name_that_the_file_has_in_any_case(file: Path) -> None:
    file.write_text(
        "[libraries.legacy]\nport = 1\n[libraries.Other]\n[families.tape.fair_share.LTO8]\nmin = [1, 1, 1]\n"
        "[families.tape.drive_types]\nLTO8_drive = ['a']\n"
    )
    environ = {
        "LRS_LIBRARIES__LEGACY__PORT": "2",
        "LRS_LIBRARIES__Other__Host": "h",
        "LRS_FAMILIES__TAPE__FAIR_SHARE__LTO8__MAX": "3, 2,1",
        "LRS_FAMILIES__TAPE__DRIVE_TYPES__LTO8_DRIVE": "ULT3580-TD8,HH LTO Gen 8",
    }
    settings = load_settings(file, environ)
    assert settings.libraries == {"legacy": LibrarySettings(port=2), "Other": LibrarySettings(host="h")}
    assert settings.families.tape.fair_share == {"LTO8": FairShareSettings(min=(1, 1, 1), max=(3, 2, 1))}
    assert settings.families.tape.drive_types == {"LTO8_drive": ("ULT3580-TD8", "HH LTO Gen 8")}


def test_a_name_that_differs_in_case_only_is_another_one_if_the_file_has_both(file: Path) -> None:
    file.write_text("[libraries.legacy]\nport = 1\n[libraries.LEGACY]\nport = 2\n")
    libraries = load_settings(file, {"LRS_LIBRARIES__LEGACY__HOST": "h"}).libraries
    assert (libraries["legacy"].host, libraries["LEGACY"].host) == ("localhost", "h")


def test_a_name_that_the_file_does_not_have_is_as_the_variable_or_the_command_line_says() -> None:
    environ = {"lrs_libraries__New__port": "2", "LRS_FAMILIES__TAPE__TAPE_TYPES__LTO8": "LTO8_drive"}
    settings = load_settings(None, environ, ["libraries.Newer.port=3", "families.tape.models="])
    assert settings.libraries == {"New": LibrarySettings(port=2), "Newer": LibrarySettings(port=3)}
    assert settings.families.tape.tape_types == {"LTO8": ("LTO8_drive",)}
    assert settings.families.tape.models == ()


@pytest.mark.parametrize("what", ["robot", "drives"])
def test_what_is_virtual_needs_a_directory(file: Path, what: str) -> None:
    complaint = "libraries.v.directory is missing: must be an absolute path; what is virtual needs one"
    file.write_text(f"[libraries.v]\n{what} = 'virtual'\n")
    assert problems(file) == [f"{file}: {complaint}"]
    assert problems(None, {f"LRS_LIBRARIES__v__{what}": "virtual"}) == [f"LRS_LIBRARIES__v__{what}: {complaint}"]
    assert problems(None, {}, [f"libraries.v.{what}=virtual"]) == [f"command line: {complaint}"]
    library = load_settings(file, {}, ["libraries.v.directory=/srv/virtual"]).libraries["v"]
    assert library.directory == Path("/srv/virtual")


def test_one_problem_in_a_list_or_many_are_told_once(file: Path) -> None:
    file.write_text("[families.tape]\nmodels = ['', 1, '']\n")
    (line,) = problems(file)
    assert line == f"{file}: families.tape.models = ['', 1, '']: must be a list of models of tapes"


# Changes while the daemon runs


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
        (("policy",), "first_fit", TapeSettings(policy="first_fit")),
        (("sync", "bytes"), "2GiB", TapeSettings(sync=TapeSyncSettings(bytes=2**31))),
        (("ltfs", "mount"), "m %s %s", TapeSettings(ltfs=LtfsSettings(mount="m %s %s"))),
        (("tape_types", "LTO8"), ["a"], TapeSettings(tape_types={"LTO8": ("a",)})),
        (("fair_share", "LTO8", "max"), (1, 2, 3), TapeSettings(fair_share={"LTO8": FairShareSettings(max=(1, 2, 3))})),
    ],
)
def test_one_value_of_a_family_is_changed(key: tuple[str, ...], value: object, result: TapeSettings) -> None:
    assert changed(TapeSettings(), key, value) == result
    assert changed(result, key, value) == result


def test_a_change_leaves_the_rest_as_it_is() -> None:
    before = TapeSettings(
        enabled=True, fair_share={"LTO8": FairShareSettings(min=(1, 1, 1))}, drive_types={"a": ("b", "c")}
    )
    after = changed(before, ("fair_share", "LTO8", "max"), (2, 2, 2))
    share = {"LTO8": FairShareSettings(min=(1, 1, 1), max=(2, 2, 2))}
    assert after == before.model_copy(update={"fair_share": share})


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        (("policy",), "worst_fit", "best_fit or first_fit"),
        (("fair_share", "X", "min"), "1,2", "three whole numbers, 0 or more: for reads, writes and formats"),
        (("drive_types", "X"), ["a", ""], "a list of models of drives"),
    ],
)
def test_a_wrong_change_says_what_is_allowed(key: tuple[str, ...], value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"^must be {allowed}$"):
        changed(TapeSettings(), key, value)


@pytest.mark.parametrize("source", ["variable", "file"])
def test_a_drain_may_last_for_ever(file: Path, source: str) -> None:
    file.write_text("[drain]\ndeadline_s = inf\n")
    path, environ = (file, {}) if source == "file" else (None, {"LRS_DRAIN__DEADLINE_S": "inf"})
    settings = load_settings(path, environ)
    assert settings.drain.deadline_s == math.inf
    file.write_text(to_toml(settings))
    assert load_settings(file, {}) == settings


# What is refused, and how it is said

NUMBER = "a whole number from 1 to 1000000"
COUNT = "a whole number from 1 to 4294967295"
DATABASE = "sqlite:///absolute/path/of/the/file or postgresql://user@host/database"
SIZE = "a number of bytes, plain or with KiB, MiB, GiB, TiB, KB, MB, GB or TB"

SHARES = "three whole numbers, 0 or more: for reads, writes and formats"
TWO_ARGUMENTS = "a command line with %s twice, and %% for a per cent sign"

COMMON = [
    ("enabled", "'on'", "true or false"),
    ("policy", "'worst_fit'", "best_fit or first_fit"),
    ("locate_expiry_ms", "'-1'", "a whole number of milliseconds from 0 to 2147483647"),
    ("max_concurrent_io", "'0'", "a whole number from 1 to 10000"),
    ("sync_while_io", "'yes'", "true or false"),
    ("mix_reads_and_writes", "'1'", "true or false"),
    ("groupings", "''", "true or false"),
    ("full_threshold_percent", "'0'", "a whole number from 1 to 99"),
    ("full_threshold_percent", "'100'", "a whole number from 1 to 99"),
    ("max_health", "'0'", "a whole number from 1 to 2147483647"),
    ("sync.mode", "'threshold'", "thresholds or adaptive"),
    ("sync.time_ms", "'-1'", "a whole number of milliseconds from 0 to 4294967295"),
    ("sync.time_ms", "'4294967296'", "a whole number of milliseconds from 0 to 4294967295"),
    ("sync.requests", "'0'", COUNT),
    ("sync.requests", "'4294967296'", COUNT),
    ("sync.bytes", "'0'", f"{SIZE}, at least 1"),
    ("sync.bytes", "'1 parsec'", f"{SIZE}, at least 1"),
    ("sync.bytes", "'9223372036854775808'", f"{SIZE}, at least 1"),
]

RIGHTS = "a list of read, write, format and admin"
REFUSED = [
    ("access.everyone", "'read,wirte'", RIGHTS),
    ("access.users.BACKUP", "'all'", RIGHTS),
    ("access.groups.OPERATORS", "'admin,'", RIGHTS),
    ("host", "'a b'", "a host name, as in the devices of the DSS"),
    ("host", "''", "a host name, as in the devices of the DSS"),
    ("server.socket", "'run/lrs'", "an absolute path of at most 107 bytes"),
    ("server.socket", repr("/" + 107 * "x"), "an absolute path of at most 107 bytes"),
    ("server.socket_mode", "'0999'", 'octal permission bits in quotes, like "0660"'),
    ("server.socket_mode", "'12345'", 'octal permission bits in quotes, like "0660"'),
    ("server.socket_group", "'two words'", "the name of a group, or empty for the group of the daemon"),
    ("server.max_frame_bytes", "'3MiB'", f"{SIZE}, from 1 to 2MiB"),
    ("server.max_frame_bytes", "'0'", f"{SIZE}, from 1 to 2MiB"),
    ("server.max_connections", "'0'", NUMBER),
    ("server.max_connections", "'many'", NUMBER),
    ("server.max_requests_per_connection", "'1.0'", NUMBER),
    ("server.response_channel", "'-1'", NUMBER),
    ("server.slow_client_s", "'0'", "a number of seconds above 0"),
    ("server.slow_client_s", "'nan'", "a number of seconds above 0"),
    ("server.lock_file", "'run/lock'", "an absolute path, or empty for no such file"),
    ("dss.url", "'sqlite:///'", DATABASE),
    ("dss.url", "'sqlite:///var/lib/'", DATABASE),
    ("dss.recheck_s", "'-1'", "a number of seconds, 0 or more"),
    ("dss.recheck_s", "'inf'", "a number of seconds, 0 or more"),
    *[(f"families.dir.{key}", value, allowed) for key, value, allowed in COMMON],
    ("families.dir.operation_timeout_s", "'soon'", "a number of seconds above 0"),
    *[(f"families.tape.{key}", value, allowed) for key, value, allowed in COMMON],
    ("families.tape.sync.streaming_share", "'0'", "a number above 0 and below 1"),
    ("families.tape.sync.streaming_share", "'1'", "a number above 0 and below 1"),
    ("families.tape.sync.streaming_share", "'nan'", "a number above 0 and below 1"),
    ("families.tape.sync.streaming_share", "'90%'", "a number above 0 and below 1"),
    ("families.tape.mount_prefix", "'mnt/x'", "the beginning of an absolute path"),
    ("families.tape.read_algorithm", "'lifo'", "fifo or grouped_read"),
    ("families.tape.ordered_grouped_read", "'1'", "true or false"),
    ("families.tape.dispatch", "'fair'", "none or fair_share"),
    ("families.tape.max_writers_per_grouping", "'-1'", "a whole number from 0 to 2147483647"),
    ("families.tape.models", "'LTO7,,LTO8'", "a list of models of tapes"),
    ("families.tape.fair_share.LTO8.min", "'1,1'", SHARES),
    ("families.tape.fair_share.LTO8.min", "'1,1,1,1'", SHARES),
    ("families.tape.fair_share.LTO8.max", "'1,1,-1'", SHARES),
    ("families.tape.fair_share.LTO8.max", "'1,x,1'", SHARES),
    ("families.tape.fair_share.LTO8.max", "''", SHARES),
    ("families.tape.drive_types.LTO8_DRIVE", "'a,'", "a list of models of drives"),
    ("families.tape.tape_types.LTO8", "','", "a list of types of drives"),
    ("families.tape.ltfs.mount", "'mount %s'", TWO_ARGUMENTS),
    ("families.tape.ltfs.mount", "'mount %s %s %s'", TWO_ARGUMENTS),
    ("families.tape.ltfs.mount", "'mount %s %s 50%'", TWO_ARGUMENTS),
    ("families.tape.ltfs.unmount", """'umount "%s %s'""", TWO_ARGUMENTS),
    ("families.tape.ltfs.format", "''", TWO_ARGUMENTS),
    ("families.tape.ltfs.release", "'release %d'", "a command line with %s once, and %% for a per cent sign"),
    *[
        (f"families.tape.timeouts.{phase}_s", "'0'", "a number of seconds above 0")
        for phase in ("look_up", "load", "unload", "mount", "unmount", "format", "sync")
    ],
    ("libraries.LEGACY.robot", "'arm'", "tlc or virtual"),
    ("libraries.LEGACY.host", "''", "a host name or an address"),
    ("libraries.LEGACY.port", "'65536'", "a whole number from 1 to 65535"),
    ("libraries.LEGACY.drives", "'lto'", "ltfs or virtual"),
    ("libraries.LEGACY.directory", "'virtual'", "an absolute path; what is virtual needs one"),
    ("libraries.LEGACY.speed", "'0'", "a number above 0, at most 1000000"),
    ("libraries.LEGACY.speed", "'nan'", "a number above 0, at most 1000000"),
    ("libraries.LEGACY.log_moves", "'no'", "true or false"),
    ("libraries.LEGACY.changer", "'changer'", "an absolute path"),
    ("libraries.LEGACY.mtx", "'mtx'", "a command line with %s once, and %% for a per cent sign"),
    ("libraries.LEGACY.serials", "'1,,2'", "a list of serials"),
    ("libraries.LEGACY.move_s", "'-1'", "a number of seconds above 0"),
    ("libraries.LEGACY.retries", "'-1'", "a whole number from 0 to 1000"),
    ("libraries.LEGACY.retry_s", "'0'", "a number of seconds above 0"),
    ("drain.deadline_s", "'0'", "a number of seconds above 0, or inf for no deadline"),
    ("drain.deadline_s", "'-inf'", "a number of seconds above 0, or inf for no deadline"),
    ("drain.deadline_s", "'nan'", "a number of seconds above 0, or inf for no deadline"),
    ("drain.report_s", "'-5'", "a number of seconds above 0"),
    ("drain.report_s", "'inf'", "a number of seconds above 0"),
    ("log.level", "'loud'", "debug, verbose, info, warning, error or off"),
    ("log.format", "'xml'", "console, json or phobos"),
    ("log.syslog", "'yes'", "true or false"),
    ("events.trace", "'trace.gz'", "an absolute path, or empty for no such file"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), REFUSED)
def test_a_bad_value_names_source_key_value_and_what_is_allowed(file: Path, key: str, value: str, allowed: str) -> None:
    complaint = f"{key} = {value}: must be {allowed}"
    table, _, name = key.rpartition(".")
    file.write_text((f"[{table}]\n" if table else "") + f"{name} = {value}\n")
    assert problems(file) == [f"{file}: {complaint}"]
    variable = "LRS_" + key.upper().replace(".", "__")
    text = value[1:-1]
    assert problems(None, {variable: text}) == [f"{variable}: {complaint}"]
    assert problems(None, {}, [f"{key}={text}"]) == [f"command line: {complaint}"]


@pytest.mark.parametrize("secret", ["postgres:/u:s3cret@h/db", "mysql://h/db?password=s3cret", "s3cret"])
def test_what_is_wrong_with_the_dss_is_told_without_its_password(file: Path, secret: str) -> None:
    complaint = f"dss.url: must be {DATABASE}"
    for text in (f"dss.url = '{secret}'", f"dss.url = ['{secret}']"):
        file.write_text(text)
        assert problems(file) == [f"{file}: {complaint}"]
    assert problems(None, {"LRS_DSS__URL": secret}) == [f"LRS_DSS__URL: {complaint}"]
    assert problems(None, {}, [f"dss.url={secret}"]) == [f"command line: {complaint}"]
    file.write_text(f"dss = '{secret}'")
    assert problems(file) == [f"{file}: dss: must be a table of url, recheck_s"]
    (unknown,) = problems(None, {"LRS_DSS__PASSWORD": secret})
    assert unknown == "LRS_DSS__PASSWORD: dss.password: unknown key; dss must be a table of url, recheck_s"


def test_the_url_of_a_user_is_shown_nowhere() -> None:
    secret = "postgresql://u:s3cret@h/db"
    (unknown,) = problems(None, {"LRS_DDS__URL": secret})
    assert unknown.startswith("LRS_DDS__URL: dds.url: unknown key; ")
    assert problems(None, {}, [secret]) == [
        "command line: what was given: must be KEY=VALUE, such as drain.deadline_s=60"
    ]


def test_every_key_has_a_value_that_is_refused() -> None:
    # The errors' text comes from each field: one that lacks it would show here.
    known = leaves(NAMED.model_dump())
    assert known == {key for key, _, _ in REFUSED}


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("families.dir.max_concurrent_io", "true", "True"),
        ("families.dir.max_concurrent_io", "8.0", "8.0"),
        ("families.dir.sync_while_io", "1", "1"),
        ("server.socket_mode", "0o660", "432"),
        ("server.socket", "['/run/lrs']", "['/run/lrs']"),
        ("drain.deadline_s", "true", "True"),
        ("drain.deadline_s", "nan", "nan"),
        ("server.lock_file", "5", "5"),
        ("host", "5", "5"),
    ],
)
def test_a_value_of_another_type_is_refused(file: Path, key: str, value: str, shown: str) -> None:
    file.write_text(f"{key} = {value}\n")
    (line,) = problems(file)
    assert line.startswith(f"{file}: {key} = {shown}: must be ")


@pytest.mark.parametrize(
    ("key", "table", "known"),
    [
        ("nonsense", "the settings", "host, server, access, dss, families, libraries, drain, log, events"),
        ("drain.deadline", "drain", "deadline_s, report_s"),
        ("families.rados_pool", "families", "dir, tape"),
        ("families.dir.sync.size", "families.dir.sync", "mode, time_ms, requests, bytes"),
        ("families.tape.fair_share.LTO8.mean", "families.tape.fair_share.LTO8", "min, max"),
        ("libraries.LEGACY.hostname", "libraries.LEGACY", ", ".join(LibrarySettings.model_fields)),
    ],
)
def test_an_unknown_key_names_its_source_and_the_known_ones(file: Path, key: str, table: str, known: str) -> None:
    complaint = f"{key} = '1': unknown key; {table} must be a table of {known}"
    file.write_text(f"{key} = '1'\n")
    assert problems(file) == [f"{file}: {complaint}"]
    variable = "LRS_" + key.upper().replace(".", "__")
    assert problems(None, {variable: "1"}) == [f"{variable}: {complaint}"]
    assert problems(None, {}, [f"{key}=1"]) == [f"command line: {complaint}"]


def test_a_key_below_a_value_and_a_value_for_a_table_are_refused(file: Path) -> None:
    file.write_text("server = 5\nfamilies = 'dir'\nlibraries.legacy = 'tlc'\n")
    environ = {
        "LRS_SERVER__SOCKET": "/tmp/lrs",
        "LRS_DRAIN": "fast",
        "LRS_HOST__NAME": "x",
        "LRS_LIBRARIES__LEGACY__PORT": "1",
    }
    tables = "max_connections, max_requests_per_connection, response_channel, slow_client_s, lock_file"
    assert sorted(problems(file, environ)) == sorted(
        [
            f"{file}: server = 5: must be a table of socket, socket_mode, socket_group, max_frame_bytes, {tables}",
            f"{file}: families = 'dir': must be a table of dir, tape",
            f"{file}: libraries.legacy = 'tlc': must be a table of {', '.join(LibrarySettings.model_fields)}",
            "LRS_DRAIN: drain = 'fast': must be a table of deadline_s, report_s",
            "LRS_HOST__NAME: host.name = 'x': unknown key; host must be a host name, as in the devices of the DSS",
        ]
    )


def test_all_problems_are_told_at_once(file: Path) -> None:
    file.write_text("[drain]\ndeadline_s = 0\n[log]\nlevel = 'loud'\nfile = '/x'\n")
    lines = problems(file, {"LRS_LOG__FORMAT": "xml", "LRS_NONSENSE": "1"}, ["drain.report_s=0", "quickly"])
    assert sorted(line.split(" = ")[0] for line in lines) == sorted(
        [
            f"{file}: drain.deadline_s",
            f"{file}: log.level",
            f"{file}: log.file",
            "LRS_LOG__FORMAT: log.format",
            "LRS_NONSENSE: nonsense",
            "command line: drain.report_s",
            "command line: 'quickly': must be KEY=VALUE, such as drain.deadline_s=60",
        ]
    )


def test_a_file_that_cannot_be_used_is_told_together_with_the_rest(file: Path) -> None:
    lines = problems(file, {"LRS_LOG__FORMAT": "xml"})
    assert lines == [
        f"{file}: cannot be read: No such file or directory",
        "LRS_LOG__FORMAT: log.format = 'xml': must be console, json or phobos",
    ]
    file.write_text("[drain\n")
    (line,) = problems(file)
    assert line.startswith(f"{file}: is not TOML: ")
    assert "line 1" in line


def test_a_table_of_names_is_one(file: Path) -> None:
    file.write_text("libraries = 5\nfamilies.tape.drive_types = ['a']\n")
    types = "a table of lists of models of drives, by the name of a type of drives"
    assert sorted(problems(file)) == sorted(
        [
            f"{file}: libraries = 5: must be a table for each library, by its name",
            f"{file}: families.tape.drive_types = ['a']: must be {types}",
        ]
    )


@given(st.text(st.characters(exclude_characters="=")), st.text())
def test_any_text_is_either_a_setting_or_an_error_in_lines(key: str, value: str) -> None:
    names = f"libraries.{key}.port", "families.tape.tape_types.x", "families.tape.fair_share.x.min"
    for name in (key, "host", "server.socket", "dss.url", "families.dir.sync.bytes", "drain.deadline_s", *names):
        try:
            settings = load_settings(None, {}, [f"{name}={value}"])
        except SettingsError as error:
            (line,) = str(error).split("\n")
            assert line.startswith("command line: ")
        else:
            assert tomllib.loads(to_toml(settings)) != {}


# What is shown and what is shipped


def test_what_is_shown_loads_back(file: Path) -> None:
    for settings in (
        Settings(),
        Settings(host="other", server=ServerSettings(socket_group="archive", max_frame_bytes=12345)),
        Settings(server=ServerSettings(lock_file=Path("/run/lock/lrs")), dss=DssSettings(url="postgresql://u:p@h/d")),
        Settings(families=FamiliesSettings(dir=DirectorySettings(groupings=True, sync=SyncSettings(bytes=2**40)))),
        Settings(families=FamiliesSettings(tape=TapeSettings(enabled=True, sync=TapeSyncSettings(time_ms=10)))),
        Settings(libraries={"a b.c": LibrarySettings(drives="virtual", directory=Path("/v")), "": LibrarySettings()}),
        NAMED,
    ):
        for changes_only in (False, True):
            file.write_text(to_toml(settings, changes_only=changes_only))
            assert load_settings(file, {}) == settings


def test_only_changes_are_shown_where_that_is_asked_for() -> None:
    assert to_toml(Settings(), changes_only=True) == ""
    sync = SyncSettings(bytes=4096)
    settings = Settings(families=FamiliesSettings(dir=DirectorySettings(sync=sync)), log=LogSettings(syslog=True))
    assert tomllib.loads(to_toml(settings, changes_only=True)) == {
        "families": {"dir": {"sync": {"bytes": "4KiB"}}},
        "log": {"syslog": True},
    }


def test_sizes_are_shown_as_people_write_them() -> None:
    shown = tomllib.loads(to_toml(Settings()))
    assert shown["families"]["dir"]["sync"]["bytes"] == "1GiB"
    assert shown["server"]["max_frame_bytes"] == "2MiB"


def with_examples(text: str) -> str:
    """A settings file with what is commented out in it."""
    return re.sub(r"^#(?=[\w[])", "", text, flags=re.MULTILINE)


def test_the_default_file_says_every_key_and_changes_nothing(file: Path) -> None:
    default = FILES / "default.toml"
    assert load_settings(default, {}) == Settings()
    # Some have no value that fits everywhere: they stand in a comment, and must be right there too.
    file.write_text(with_examples(default.read_text()))
    said, examples = (leaves(tomllib.loads(path.read_text())) for path in (default, file))
    named = (
        "access.users.",
        "access.groups.",
        "libraries.",
        "families.tape.fair_share.",
        "families.tape.drive_types.",
        "families.tape.tape_types.",
    )
    without_default = {key for key in examples - said if not key.startswith(named)}
    assert without_default == {"host", "server.socket_group", "server.lock_file", "events.trace"}
    settings = load_settings(file, {})
    assert examples == leaves(settings.model_dump())
    assert {key.lower() for key in examples} == {key.lower() for key in leaves(NAMED.model_dump())}
    library = settings.libraries["legacy"]
    assert library.model_copy(update={"directory": None}) == LibrarySettings()


def test_every_key_of_the_default_file_has_a_comment() -> None:
    lines = (FILES / "default.toml").read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"#?\w+ =", line):
            assert above.startswith("# "), f"nothing is said about {line}"


def test_the_tape_file_is_a_whole_site() -> None:
    settings = load_settings(FILES / "tape.toml", {})
    tape = settings.families.tape
    assert settings.families.served == {Family.TAPE: tape}
    assert tape.sync.thresholds == SyncThresholds(age=10, requests=5, size=2**30)
    assert set(tape.fair_share) == set(tape.tape_types) == set(tape.models)
    assert {f"{model}_drive" for model in tape.models} == set(tape.drive_types)
    assert {name for names in tape.tape_types.values() for name in names} <= set(tape.drive_types)
    (library,) = settings.libraries.values()
    assert library.robot == "tlc"
    assert library.serials


def test_the_demo_file_loads() -> None:
    assert load_settings(FILES / "demo.toml", {}).drain.deadline_s < DrainSettings().deadline_s


def test_the_file_of_the_demo_on_tapes_loads() -> None:
    settings = load_settings(FILES / "demo-tape.toml", {})
    assert set(settings.families.served) == {Family.TAPE}
    assert set(settings.families.tape.tape_types["LTO8"]) == set(settings.families.tape.drive_types)


def test_the_unit_waits_longer_for_the_drain_than_the_drain_takes() -> None:
    unit = (FILES / "systemd" / "lrsd.service").read_text()
    (timeout,) = re.findall(r"^TimeoutStopSec=([0-9]+)$", unit, flags=re.MULTILINE)
    assert int(timeout) > Settings().drain.deadline_s
    (descriptors,) = re.findall(r"^LimitNOFILE=([0-9]+)$", unit, flags=re.MULTILINE)
    assert int(descriptors) > Settings().server.max_connections
