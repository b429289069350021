from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrs_trio
from lrs_trio.errors import SettingsError
from lrs_trio.phobos import configuration
from lrs_trio.phobos.configuration import GivenKey, PhobosConfiguration, variable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "phobos.conf"


def load(file: Path, text: str, **environ: str) -> PhobosConfiguration:
    file.write_text(text)
    return PhobosConfiguration.load(file, environ)


def problems(file: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(file, text)
    return str(caught.value).splitlines()


# Which file


def test_the_given_file_wins_over_the_named_one_and_that_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("given", "named", "default")]
    for path in files:
        path.write_text(f"[lrs]\nserver_socket = /{path.name}\n")
    given, named, default = files
    monkeypatch.setattr(configuration, "DEFAULT_FILE", default)
    environ = {"PHOBOS_CFG_FILE": str(named)}
    for loaded, expected in (
        (PhobosConfiguration.load(given, environ), given),
        (PhobosConfiguration.load(None, environ), named),
        (PhobosConfiguration.load(None, {"PHOBOS_CFG_FILE": ""}), default),
        (PhobosConfiguration.load(None, {}), default),
    ):
        assert loaded.file == expected
        assert loaded.get("lrs", "server_socket") == f"/{expected.name}"


def test_only_the_default_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = tmp_path / "absent"
    monkeypatch.setattr(configuration, "DEFAULT_FILE", absent)
    without = PhobosConfiguration.load(None, {"PHOBOS_LRS_families": "dir"})
    assert without.file is None
    assert without.get("lrs", "families") == "dir"
    assert without.get("lrs", "policy") is None
    for path, environ in ((absent, {}), (None, {"PHOBOS_CFG_FILE": str(absent)})):
        with pytest.raises(SettingsError) as caught:
            PhobosConfiguration.load(path, environ)
        assert str(caught.value) == f"{absent}: cannot be read: No such file or directory"


def test_a_default_file_that_is_there_must_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "DEFAULT_FILE", tmp_path)
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        PhobosConfiguration.load(None, {})


# What is in it


def test_the_file_is_read_as_phobos_does(file: Path) -> None:
    loaded = load(
        file,
        "# comment\n; comment\n// comment\n\n"
        "[ lrs ]\n"
        "server_socket=/run/lrs\n"
        "policy   =   first_fit   \n"
        "families = tape,\n   dir\n"
        "empty =\n"
        "hash = a # b ; c\n"
        "equals = dbname=phobos host=h\n"
        "colon: x = y\n"
        "  indented = after a value\n"
        "[DEFAULT]\n"
        "everywhere = no\n"
        '[drive_type "LTO5_drive"]\n'
        "models = A,HH LTO Gen 5\n"
        "[ltfs]\n"
        'cmd_mount = mount "%s" %(no)s ${no}\n',
    )
    assert loaded.get("lrs", "server_socket") == "/run/lrs"
    assert loaded.get("lrs", "policy") == "first_fit"
    assert loaded.get("lrs", "families") == "tape, dir"
    assert loaded.get("lrs", "empty") == ""
    assert loaded.get("lrs", "hash") == "a # b ; c"
    assert loaded.get("lrs", "equals") == "dbname=phobos host=h"
    assert loaded.get("lrs", "colon: x") == "y indented = after a value"
    assert loaded.get("lrs", "everywhere") is None
    assert loaded.get("DEFAULT", "everywhere") == "no"
    assert loaded.get('drive_type "LTO5_drive"', "models") == "A,HH LTO Gen 5"
    assert loaded.get("drive_type LTO5_drive", "models") is None
    assert loaded.get("ltfs", "cmd_mount") == 'mount "%s" %(no)s ${no}'


def test_case_does_not_matter(file: Path) -> None:
    loaded = load(file, "[IO_Sched_Tape]\nfair_share_LTO5_min = 1,1,0\n")
    assert loaded.get("io_sched_tape", "FAIR_share_lto5_MIN") == "1,1,0"


def test_bytes_that_are_not_utf_8_stay_what_they_are(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf# configur\xe9\n[lrs]\nserver_socket = /run/\xe9\xc3\xa9\n")
    assert bytes(PhobosConfiguration.load(file, {}).socket_path) == b"/run/\xe9\xc3\xa9"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[lrs]\nfamilies = dir\n\nfamilies = tape\n", ["line 4: [lrs] families is given twice"]),
        ("[lrs]\na = 1\n[dss]\n[lrs]\n", ["line 4: section [lrs] is given twice"]),
        ("\nfamilies = dir\n[lrs]\n", ["line 2: comes before the first [SECTION]"]),
        ("[lrs\nfamilies = dir\n", ["line 1: comes before the first [SECTION]"]),
        (
            "[dss]\nmy secret\n[lrs]\n= dir\n",
            ["line 2: is neither [SECTION] nor KEY = VALUE", "line 4: is neither [SECTION] nor KEY = VALUE"],
        ),
    ],
)
def test_what_is_no_ini_names_file_and_line(file: Path, text: str, wrong: list[str]) -> None:
    assert problems(file, text) == [f"{file}, {what}" for what in wrong]


@pytest.mark.parametrize("text", ["[lrs]\npolicy = a\nPolicy = b\n", "[lrs]\na = 1\n[ LRS ]\nA = 2\n"])
def test_what_differs_in_case_only_is_given_twice(file: Path, text: str) -> None:
    (line,) = problems(file, text)
    assert line.startswith(f"{file}: [")
    assert line.endswith(": is given twice; upper and lower case are the same")


# The environment


@pytest.mark.parametrize(
    ("section", "key", "name"),
    [
        ("lrs", "sync_time_ms", "PHOBOS_LRS_sync_time_ms"),
        ("io_sched_tape", "fair_share_LTO5_min", "PHOBOS_IO_SCHED_TAPE_fair_share_lto5_min"),
        ('tlc "legacy"', "hostname", "PHOBOS_TLC_LEGACY_hostname"),
        ('drive_type "LTO5_drive"', "models", "PHOBOS_DRIVE_TYPE_LTO5_DRIVE_models"),
        ('hsm "fast one" "slow"', "error_log_path", "PHOBOS_HSM_FAST_ONE_SLOW_error_log_path"),
    ],
)
def test_each_key_has_a_variable_which_wins_over_the_file(file: Path, section: str, key: str, name: str) -> None:
    assert variable(section, key) == name
    text = f"[{section}]\n{key} = from file\n"
    assert load(file, text).get(section, key) == "from file"
    assert load(file, text, **{name: "from environment"}).get(section, key) == "from environment"
    assert load(file, text, **{name: ""}).get(section, key) == ""
    assert load(file, text, **{name.lower(): "x", name.removeprefix("PHOBOS_"): "x"}).get(section, key) == "from file"


def test_what_is_set_wins_over_both(file: Path) -> None:
    environ = {"PHOBOS_IO_SCHED_TAPE_fair_share_lto5_min": "2,2,2"}
    loaded = load(file, "[lrs]\npolicy = best_fit\n", **environ)
    loaded.set("io_sched_tape", "fair_share_LTO5_min", "3,3,3")
    loaded.set('tlc "legacy"', "port", "1")
    loaded.set("lrs", "POLICY", "first_fit")
    assert loaded.get("io_sched_tape", "fair_share_LTO5_min") == "3,3,3"
    assert loaded.get("tlc legacy", "port") == "1"
    assert loaded.get("lrs", "policy") == "first_fit"
    assert environ == {"PHOBOS_IO_SCHED_TAPE_fair_share_lto5_min": "2,2,2"}


@given(st.text("lrsLRS_ \"'5é", min_size=1), st.text("abAB_-5é", min_size=1), st.text())
def test_anything_can_be_set_and_got(section: str, key: str, value: str) -> None:
    loaded = PhobosConfiguration(None, {}, {})
    assert loaded.get(section, key) is None
    loaded.set(section, key, value)
    assert loaded.get(section, key) == value
    assert loaded.get(section.upper(), key.lower()) == value


def test_every_given_key_is_listed_once(file: Path) -> None:
    loaded = load(
        file,
        '[lrs]\npolicy = best_fit\nfamilies = dir\n[tlc "legacy"]\nport = 1\n',
        PHOBOS_LRS_policy="first_fit",
        PHOBOS_CFG_FILE="/elsewhere",
        LRS_HOST="x",
    )
    assert list(loaded.given()) == [
        GivenKey("PHOBOS_LRS_policy", None, "PHOBOS_LRS_policy"),
        GivenKey("PHOBOS_LRS_families", "lrs", "families"),
        GivenKey("PHOBOS_TLC_LEGACY_port", 'tlc "legacy"', "port"),
    ]


def test_messages_say_where_a_value_is_from(file: Path) -> None:
    loaded = load(file, "[lrs]\npolicy = x\nfamilies = y\n", PHOBOS_LRS_policy="z")
    assert loaded.told("lrs", "policy") == "PHOBOS_LRS_policy: [lrs] policy = 'z'"
    assert loaded.told("lrs", "families") == f"{file}: [lrs] families = 'y'"
    assert [loaded.label("lrs", key) for key in ("policy", "families")] == ["PHOBOS_LRS_policy", "[lrs] families"]


# The socket


def test_where_the_daemon_listens(file: Path) -> None:
    assert load(file, "").socket_path == Path("/run/phobosd/lrs")
    assert load(file, "[lrs]\nserver_socket = /from/file\n").socket_path == Path("/from/file")
    environ = {"PHOBOS_LRS_server_socket": "/from/environment"}
    assert load(file, "[lrs]\nserver_socket = /from/file\n", **environ).socket_path == Path("/from/environment")


@pytest.mark.parametrize("value", ["relative", "", "/" + 107 * "x"])
def test_a_path_that_no_socket_can_have_is_refused(file: Path, value: str) -> None:
    loaded = load(file, f"[lrs]\nserver_socket = {value}\n")
    with pytest.raises(SettingsError) as caught:
        _ = loaded.socket_path
    told = f"{file}: [lrs] server_socket = {value!r}"
    assert str(caught.value) == f"{told}: must be an absolute path of at most 107 bytes"


def test_reading_a_configuration_costs_no_heavy_import() -> None:
    heavy = {"trio", "pydantic", "apsw", "asyncpg", "structlog", "google.protobuf"}
    code = "import sys, lrs_trio.phobos.configuration; print(*sys.modules, sep='\\n')"
    source = Path(lrs_trio.__file__).parent.parent
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "lrs_trio.phobos.configuration" in loaded
    assert heavy.isdisjoint(loaded)
