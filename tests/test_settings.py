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
from pydantic import ValidationError

from lrs_trio import location
from lrs_trio.errors import SettingsError
from lrs_trio.model import Family, SyncThresholds
from lrs_trio.settings import (
    DrainSettings,
    DssSettings,
    FamiliesSettings,
    FamilySettings,
    LogSettings,
    ServerSettings,
    Settings,
    SyncSettings,
    load_settings,
    to_toml,
)

FILES = Path(__file__).parent.parent / "settings"


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
    assert settings.families.dir == FamilySettings(sync_while_io=False, sync=SyncSettings(bytes=12345))


def test_an_empty_group_or_lock_file_takes_back_what_the_file_says(file: Path) -> None:
    file.write_text("[server]\nsocket_group = 'archive'\nlock_file = '/run/lock/lrs'\n")
    assert load_settings(file, {}).server.lock_file == Path("/run/lock/lrs")
    server = load_settings(file, {}, ["server.socket_group=", "server.lock_file="]).server
    assert server.socket_group is None
    assert server.lock_file is None


# What the values mean


def test_the_sync_thresholds_are_seconds_and_bytes() -> None:
    sync = SyncSettings(time_ms=1500, requests=3, bytes=4096)
    assert sync.thresholds == SyncThresholds(age=1.5, requests=3, size=4096)


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("666", 0o666), ("0000", 0)])
def test_the_socket_mode_is_octal(text: str, mode: int) -> None:
    assert ServerSettings(socket_mode=text).mode == mode


@pytest.mark.parametrize("url", ["sqlite:///var/dss", "sqlite:////var/dss"])
def test_the_dss_url_names_a_file(url: str) -> None:
    dss = DssSettings(url=url)
    assert dss.path == Path("/var/dss")
    assert not dss.is_postgres
    assert dss.shown == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://phobos:secret@db1/phobos", "postgresql://phobos@db1/phobos"),
        ("postgres://phobos@db1:5433,db2/phobos", "postgres://phobos@db1:5433,db2/phobos"),
        ("postgresql://:secret@db1", "postgresql://@db1"),
        ("postgresql://phobos:se/cr@t@db1/phobos", "postgresql://phobos@db1/phobos"),
        ("postgresql:///phobos?host=/run/postgresql", "postgresql:///phobos?host=/run/postgresql"),
        ("postgresql://db1/phobos?password=secret", "postgresql://db1/phobos"),
        ("postgresql://db1?sslkey=k&sslpassword=secret&user=u", "postgresql://db1?sslkey=k&user=u"),
        ("postgresql://", "postgresql://"),
    ],
)
def test_the_dss_url_names_a_database_and_is_shown_without_a_password(url: str, shown: str) -> None:
    dss = DssSettings(url=url)
    assert dss.is_postgres
    assert dss.shown == shown


def test_directories_are_the_family_that_is_served() -> None:
    families = FamiliesSettings(dir=FamilySettings(max_concurrent_io=2))
    assert families.served == {Family.DIR: families.dir}
    assert FamiliesSettings(dir=FamilySettings(enabled=False)).served == {}


@pytest.mark.parametrize("source", ["variable", "file"])
def test_a_drain_may_last_for_ever(file: Path, source: str) -> None:
    file.write_text("[drain]\ndeadline_s = inf\n")
    path, environ = (file, {}) if source == "file" else (None, {"LRS_DRAIN__DEADLINE_S": "inf"})
    settings = load_settings(path, environ)
    assert settings.drain.deadline_s == math.inf
    file.write_text(to_toml(settings))
    assert load_settings(file, {}) == settings


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().drain.deadline_s = 1.0


# What is refused, and how it is said

NUMBER = "a whole number from 1 to 1000000"
COUNT = "a whole number from 1 to 4294967295"
DATABASE = "sqlite:///absolute/path/of/the/file or postgresql://user@host/database"
SIZE = "a number of bytes, plain or with KiB, MiB, GiB, TiB, KB, MB, GB or TB"

REFUSED = [
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
    ("dss.url", "'mysql://host/db'", DATABASE),
    ("dss.url", "'postgresql:/host/db'", DATABASE),
    ("dss.url", "'sqlite:///'", DATABASE),
    ("dss.url", "'sqlite:///var/lib/'", DATABASE),
    ("dss.recheck_s", "'-1'", "a number of seconds, 0 or more"),
    ("dss.recheck_s", "'inf'", "a number of seconds, 0 or more"),
    ("families.dir.enabled", "'on'", "true or false"),
    ("families.dir.policy", "'worst_fit'", "best_fit or first_fit"),
    ("families.dir.locate_expiry_ms", "'-1'", "a whole number of milliseconds from 0 to 2147483647"),
    ("families.dir.max_concurrent_io", "'0'", "a whole number from 1 to 10000"),
    ("families.dir.sync_while_io", "'yes'", "true or false"),
    ("families.dir.mix_reads_and_writes", "'1'", "true or false"),
    ("families.dir.groupings", "''", "true or false"),
    ("families.dir.full_threshold_percent", "'0'", "a whole number from 1 to 99"),
    ("families.dir.full_threshold_percent", "'100'", "a whole number from 1 to 99"),
    ("families.dir.max_health", "'0'", "a whole number from 1 to 2147483647"),
    ("families.dir.operation_timeout_s", "'soon'", "a number of seconds above 0"),
    ("families.dir.sync.time_ms", "'-1'", "a whole number of milliseconds from 0 to 4294967295"),
    ("families.dir.sync.time_ms", "'4294967296'", "a whole number of milliseconds from 0 to 4294967295"),
    ("families.dir.sync.requests", "'0'", COUNT),
    ("families.dir.sync.requests", "'4294967296'", COUNT),
    ("families.dir.sync.bytes", "'0'", f"{SIZE}, at least 1"),
    ("families.dir.sync.bytes", "'1 parsec'", f"{SIZE}, at least 1"),
    ("families.dir.sync.bytes", "'9223372036854775808'", f"{SIZE}, at least 1"),
    ("drain.deadline_s", "'0'", "a number of seconds above 0, or inf for no deadline"),
    ("drain.deadline_s", "'-inf'", "a number of seconds above 0, or inf for no deadline"),
    ("drain.deadline_s", "'nan'", "a number of seconds above 0, or inf for no deadline"),
    ("drain.report_s", "'-5'", "a number of seconds above 0"),
    ("drain.report_s", "'inf'", "a number of seconds above 0"),
    ("log.level", "'loud'", "debug, verbose, info, warning, error or off"),
    ("log.format", "'xml'", "console, json or phobos"),
    ("log.syslog", "'yes'", "true or false"),
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


def test_every_key_has_a_value_that_is_refused() -> None:
    # The errors' text comes from each field: one that lacks it would show here.
    known = leaves(Settings().model_dump())
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
        ("nonsense", "the settings", "host, server, dss, families, drain, log"),
        ("drain.deadline", "drain", "deadline_s, report_s"),
        ("families.tape", "families", "dir"),
        ("families.dir.sync.size", "families.dir.sync", "time_ms, requests, bytes"),
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
    file.write_text("server = 5\nfamilies = 'dir'\n")
    environ = {"LRS_SERVER__SOCKET": "/tmp/lrs", "LRS_DRAIN": "fast", "LRS_HOST__NAME": "x"}
    tables = "max_connections, max_requests_per_connection, response_channel, slow_client_s, lock_file"
    assert sorted(problems(file, environ)) == sorted(
        [
            f"{file}: server = 5: must be a table of socket, socket_mode, socket_group, max_frame_bytes, {tables}",
            f"{file}: families = 'dir': must be a table of dir",
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


@given(st.text(st.characters(exclude_characters="=")), st.text())
def test_any_text_is_either_a_setting_or_an_error_in_lines(key: str, value: str) -> None:
    for name in (key, "host", "server.socket", "dss.url", "families.dir.sync.bytes", "drain.deadline_s"):
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
        Settings(families=FamiliesSettings(dir=FamilySettings(groupings=True, sync=SyncSettings(bytes=2**40)))),
    ):
        for changes_only in (False, True):
            file.write_text(to_toml(settings, changes_only=changes_only))
            assert load_settings(file, {}) == settings


def test_only_changes_are_shown_where_that_is_asked_for() -> None:
    assert to_toml(Settings(), changes_only=True) == ""
    sync = SyncSettings(bytes=4096)
    settings = Settings(families=FamiliesSettings(dir=FamilySettings(sync=sync)), log=LogSettings(syslog=True))
    assert tomllib.loads(to_toml(settings, changes_only=True)) == {
        "families": {"dir": {"sync": {"bytes": "4KiB"}}},
        "log": {"syslog": True},
    }


def test_sizes_are_shown_as_people_write_them() -> None:
    shown = tomllib.loads(to_toml(Settings()))
    assert shown["families"]["dir"]["sync"]["bytes"] == "1GiB"
    assert shown["server"]["max_frame_bytes"] == "2MiB"


def test_the_default_file_says_every_key_and_changes_nothing() -> None:
    file = FILES / "default.toml"
    assert load_settings(file, {}) == Settings()
    text = file.read_text()
    said = leaves(tomllib.loads(text))
    # Some have no value that fits everywhere: they stand in a comment, and must be right there too.
    uncommented = re.sub(r"^# (host|socket_group|lock_file) =", r"\1 =", text, flags=re.MULTILINE)
    said_in_comments = leaves(tomllib.loads(uncommented))
    assert said_in_comments - said == {"host", "server.socket_group", "server.lock_file"}
    assert said_in_comments == leaves(Settings().model_dump())
    assert Settings.model_validate(tomllib.loads(uncommented)).server.lock_file is not None


def test_every_key_of_the_default_file_has_a_comment() -> None:
    lines = (FILES / "default.toml").read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"[a-z_]+ =", line):
            assert above.startswith("# "), f"nothing is said about {line}"


def test_the_demo_file_loads() -> None:
    assert load_settings(FILES / "demo.toml", {}).drain.deadline_s < DrainSettings().deadline_s


def test_the_unit_waits_longer_for_the_drain_than_the_drain_takes() -> None:
    unit = (FILES / "systemd" / "lrsd.service").read_text()
    (timeout,) = re.findall(r"^TimeoutStopSec=([0-9]+)$", unit, flags=re.MULTILINE)
    assert int(timeout) > Settings().drain.deadline_s
    (descriptors,) = re.findall(r"^LimitNOFILE=([0-9]+)$", unit, flags=re.MULTILINE)
    assert int(descriptors) > Settings().server.max_connections
