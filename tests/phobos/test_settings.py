from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import SettingsError
from lrs_trio.model import Family
from lrs_trio.phobos import configuration
from lrs_trio.phobos import settings as phobos_settings
from lrs_trio.phobos.keys import UNKNOWN
from lrs_trio.phobos.settings import PhobosSettings, load_phobos_settings
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
from lrs_trio.settings_sources import load_settings, to_toml

SHARES = "three whole numbers for reads, writes and formats, without blanks, as in 1,1,0"

QUIET = "[lrs]\nfamilies = dir\n"
"""A configuration that there is nothing to tell of."""


@pytest.fixture(autouse=True)
def no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (configuration, phobos_settings):
        monkeypatch.setattr(module, "DEFAULT_FILE", tmp_path / "absent.conf")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "phobos.conf"


def load(
    file: Path, text: str, environ: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> PhobosSettings:
    file.write_text(text)
    return load_phobos_settings(file, environ or {}, overrides)


def problems(
    file: Path, text: str, environ: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(file, text, environ, overrides)
    return str(caught.value).splitlines()


# As phobosd


def test_without_a_word_the_daemon_is_as_phobosd(file: Path) -> None:
    loaded = load(file, QUIET)
    assert loaded.warnings == ()
    assert loaded.configuration.get("lrs", "families") == "dir"
    assert loaded.settings == Settings(
        server=ServerSettings(
            socket=Path("/run/phobosd/lrs"), socket_mode="0666", lock_file=Path("/run/phobosd/phobosd.lock")
        ),
        access=AccessSettings(everyone=("read", "write", "format", "admin")),
        dss=DssSettings(url="postgresql://localhost/phobos"),
        families=FamiliesSettings(
            dir=DirectorySettings(
                max_concurrent_io=1,
                sync_while_io=False,
                sync=SyncSettings(mode="thresholds", time_ms=10, requests=5, bytes=2**30),
            )
        ),
        drain=DrainSettings(deadline_s=math.inf),
        log=LogSettings(format="phobos"),
    )


def test_what_everybody_may_do_can_be_narrowed(file: Path) -> None:
    file.write_text(QUIET)
    overrides = ["access.everyone=read,write", "access.groups.operators=admin"]
    access = load_phobos_settings(file, {}, overrides).settings.access
    assert access == AccessSettings(everyone=("read", "write"), groups={"operators": ("admin",)})


def test_without_a_file_the_environment_counts(tmp_path: Path) -> None:
    loaded = load_phobos_settings(None, {"PHOBOS_LRS_families": "dir", "PHOBOS_LRS_policy": "first_fit"})
    assert loaded.settings.families.dir.policy == "first_fit"
    assert loaded.warnings == (f"{tmp_path / 'absent.conf'}: does not exist; the defaults of Phobos hold",)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    text = QUIET + "policy = worst_fit\nmax_health = 2\nserver_socket = relative\n"
    environ = {"PHOBOS_LRS_max_health": "3", "PHOBOS_LRS_server_socket": "/from/environment"}
    overrides = ["families.dir.policy=first_fit", "drain.deadline_s=60", "server.socket_mode=0600"]
    settings = load(file, text, environ, overrides).settings
    assert settings.families.dir.policy == "first_fit"
    assert settings.families.dir.max_health == 3
    assert settings.server.socket == Path("/from/environment")
    assert settings.server.mode == 0o600
    assert settings.drain.deadline_s == 60


def test_our_own_file_and_variables_have_no_say(file: Path) -> None:
    environ = {"LRS_DRAIN__DEADLINE_S": "1", "LRS_NONSENSE": "1", "LRS_CONFIG": "/no/such", "LRS_ROOT": "/a"}
    loaded = load(file, QUIET, environ)
    assert loaded.settings == load(file, QUIET).settings
    assert loaded.warnings == ("LRS_DRAIN__DEADLINE_S, LRS_NONSENSE: not read beside a Phobos configuration",)


def test_the_equivalent_file_loads_to_the_same(file: Path, tmp_path: Path) -> None:
    text = QUIET + "policy = first_fit\nsync_wsize_kb = dir=3\n[dir]\ndir_full_threshold = 9\n"
    for settings in (load(file, text).settings, load(file, QUIET).settings):
        ours = tmp_path / "lrs.toml"
        for changes_only in (False, True):
            ours.write_text(to_toml(settings, changes_only=changes_only))
            assert load_settings(ours, {}) == settings


# Families

NO_LIBRARY = 'tape: no section [tlc "..."] has a hostname, so that no tape can be moved'
NO_POOLS = "rados pools are not supported; requests for them are answered EINVAL"


@pytest.mark.parametrize(
    ("families", "served", "warnings"),
    [
        ("dir", {Family.DIR}, []),
        ("dir,dir", {Family.DIR}, ["'dir,dir' names a family twice"]),
        (",dir,", {Family.DIR}, []),
        ("tape,dir", {Family.DIR, Family.TAPE}, [NO_LIBRARY]),
        ("tape", {Family.TAPE}, [NO_LIBRARY]),
        ("dir,rados_pool", {Family.DIR}, [f"rados_pool: {NO_POOLS}"]),
        (
            "rados_pool",
            set(),
            [f"rados_pool: {NO_POOLS}", "neither dir nor tape is among them, so that nothing is served"],
        ),
    ],
)
def test_families(file: Path, families: str, served: set[Family], warnings: list[str]) -> None:
    loaded = load(file, f"[lrs]\nfamilies = {families}\n")
    assert set(loaded.settings.families.served) == served
    assert list(loaded.warnings) == [f"[lrs] families: {warning}" for warning in warnings]


def test_the_families_of_the_default_are_told_too(file: Path) -> None:
    loaded = load(file, "")
    assert set(loaded.settings.families.served) == {Family.DIR, Family.TAPE}
    assert loaded.warnings == (
        f"[lrs] families: rados_pool (by default): {NO_POOLS}",
        f"[lrs] families: {NO_LIBRARY}",
    )


@pytest.mark.parametrize("families", ["", ",", "dirs", "dir, tape", "Dir", "dir tape"])
def test_unknown_families_and_none_at_all_are_refused(file: Path, families: str) -> None:
    allowed = "one or more of tape, dir and rados_pool, with commas and without blanks"
    (line,) = problems(file, f"[lrs]\nfamilies = {families}\n")
    assert line == f"{file}: [lrs] families = {families!r}: must be {allowed}"


# Values by family

THRESHOLDS = {
    "sync_time_ms": (0, 2**64 - 1, {"tape": 10_000, "dir": 10}),
    "sync_nb_req": (1, 2**32 - 1, {"tape": 5, "dir": 5}),
    "sync_wsize_kb": (1, (2**64 - 1) // 1024, {"tape": 2**20, "dir": 2**20}),
}


@pytest.mark.parametrize("key", THRESHOLDS)
@pytest.mark.parametrize("bad", ["-1", "-0", "", "5x", "5 ", "1.5", "0x5", "99999999999999999999", "too low"])
def test_a_wrong_threshold_of_an_asked_family_is_refused(file: Path, key: str, bad: str) -> None:
    lowest, highest, defaults = THRESHOLDS[key]
    if bad == "too low":
        bad = str(lowest - 1)
    for family, text in (("dir", f"tape=1,dir={bad},x=1"), ("tape", f"dir=1,tape={bad},x=1")):
        (line,) = problems(file, f"[lrs]\nfamilies = tape,dir\n{key} = {text}\n")
        allowed = f"a whole number from {lowest} to {highest} for {family}, as in {family}={defaults[family]}"
        assert line == f"{file}: [lrs] {key} = {text!r}: must be {allowed}"
    assert load(file, f"[lrs]\nfamilies = dir\n{key} = dir=1,tape={bad}\n").warnings == ()


@pytest.mark.parametrize("key", THRESHOLDS)
def test_an_asked_family_may_not_be_missing(file: Path, key: str) -> None:
    variable = f"PHOBOS_LRS_{key}"
    for families, text, missing in (
        ("dir", "tape=1", ["dir"]),
        ("dir", "", ["dir"]),
        ("dir", "dir", ["dir"]),
        ("dir", "tape=1, dir=1", ["dir"]),
        ("tape,dir", "dir=1", ["tape"]),
        ("tape,dir,rados_pool", "x=1", ["tape", "dir", "rados_pool"]),
    ):
        lines = problems(file, f"[lrs]\nfamilies = {families}\n", {variable: text})
        assert len(lines) == len(missing)
        for line, family in zip(lines, missing, strict=True):
            assert line.startswith(f"{variable}: [lrs] {key} = {text!r}: must be a whole number ")
            assert f" for {family}, as in {family}=" in line


def test_the_first_value_of_a_family_counts_and_items_for_no_family_are_told(file: Path) -> None:
    loaded = load(file, QUIET + "sync_nb_req = dir=7,dir=8,dirs=9,x\n")
    assert loaded.settings.families.dir.sync.requests == 7
    assert loaded.warnings == (
        "[lrs] sync_nb_req: 'dirs=9' is for no family",
        "[lrs] sync_nb_req: 'x' is for no family",
    )


@pytest.mark.parametrize(
    ("key", "text", "sync"),
    [
        ("sync_time_ms", "0", SyncSettings(mode="thresholds", time_ms=0)),
        ("sync_time_ms", "+250", SyncSettings(mode="thresholds", time_ms=250)),
        ("sync_time_ms", str(2**64 - 1), SyncSettings(mode="thresholds", time_ms=2**32 - 1)),
        ("sync_nb_req", "1", SyncSettings(mode="thresholds", requests=1)),
        ("sync_nb_req", str(2**32 - 1), SyncSettings(mode="thresholds", requests=2**32 - 1)),
        ("sync_wsize_kb", "1", SyncSettings(mode="thresholds", bytes=1024)),
        ("sync_wsize_kb", str((2**64 - 1) // 1024), SyncSettings(mode="thresholds", bytes=2**63 - 1)),
    ],
)
def test_thresholds_as_far_as_they_go(file: Path, key: str, text: str, sync: SyncSettings) -> None:
    assert load(file, QUIET + f"{key} = dir={text}\n").settings.families.dir.sync == sync


def test_more_than_one_client_where_the_file_says_so(file: Path) -> None:
    for text, number in (("dir=8", 8), ("tape=2,dir=10000", 10_000), ("tape=2", 1)):
        loaded = load(file, QUIET + f"max_concurrent_io = {text}\n")
        assert loaded.settings.families.dir.max_concurrent_io == number
        assert loaded.warnings == ()
    for text, family in (("8", "dir"), ("dir=0", "dir"), ("dir=1,tape=x", "tape"), ("dirs=8", "dir")):
        (line,) = problems(file, QUIET + f"max_concurrent_io = {text}\n")
        allowed = f"a whole number from 1 to 10000 for {family}, as in {family}=1"
        assert line == f"{file}: [lrs] max_concurrent_io = {text!r}: must be {allowed}"


# Tapes

TAPES = '[lrs]\nfamilies = tape\n[tlc "legacy"]\nhostname = robot\n'
"""A configuration with tapes that there is nothing to tell of."""


def test_without_a_word_tapes_are_as_with_phobosd(file: Path) -> None:
    loaded = load(file, TAPES)
    assert loaded.warnings == ()
    assert loaded.settings.families.dir.enabled is False
    assert loaded.settings.families.tape == TapeSettings(
        enabled=True, mount_prefix="/mnt/phobos-", read_algorithm="fifo", max_concurrent_io=1, sync_while_io=False
    )
    assert loaded.settings.libraries == {"legacy": LibrarySettings(host="robot", log_moves=False)}


def test_what_is_said_of_tapes_means_something(file: Path) -> None:
    loaded = load(
        file,
        """
        [lrs]
        families = dir,tape
        mount_prefix = /srv/tape-
        policy = first_fit
        sync_time_ms = tape=60000,dir=20
        sync_nb_req = dir=7,tape=1000
        sync_wsize_kb = tape=1,dir=2
        max_health = 3
        locate_lock_expirancy = 500
        max_concurrent_io = tape=2
        fifo_max_write_per_grouping = 4
        [io_sched_tape]
        read_algo = grouped_read
        write_algo = fifo
        ordered_grouped_read = false
        dispatch_algo = fair_share
        fair_share_LTO8_min = 1,2,0
        Fair_Share_lto8_MAX = 3,4,0
        fair_share_LTO7_max = 2147483647,0,1
        [tape]
        tape_full_threshold = 9
        [tape_model]
        supported_list = LTO7,LTO8
        [tape_type "LTO7"]
        drive_rw = LTO7_drive,LTO8_drive
        [Tape_Type "LTO8"]
        drive_rw = LTO8_drive
        [drive_type "LTO7_drive"]
        models = ULT3580-TD7
        [drive_type "LTO8_drive"]
        models = ULT3580-TD8,HH LTO Gen 8
        [ltfs]
        cmd_mount = m "%s" "%s"
        cmd_umount = u "%s" "%s"
        cmd_format = f "%s" "%s"
        cmd_release = r "%s"
        [tlc "legacy"]
        hostname = robot
        port = 1234
        [tlc "other one"]
        hostname = 10.0.0.1
        """.replace("        ", ""),
    )
    assert loaded.warnings == ()
    tape, directories = loaded.settings.families.tape, loaded.settings.families.dir
    assert tape == TapeSettings(
        enabled=True,
        mount_prefix="/srv/tape-",
        policy="first_fit",
        sync=TapeSyncSettings(time_ms=60_000, requests=1000, bytes=1024),
        max_health=3,
        locate_expiry_ms=500,
        max_concurrent_io=2,
        max_writers_per_grouping=4,
        read_algorithm="grouped_read",
        ordered_grouped_read=False,
        dispatch="fair_share",
        fair_share={
            "LTO8": FairShareSettings(min=(1, 2, 0), max=(3, 4, 0)),
            "LTO7": FairShareSettings(max=(2**31 - 1, 0, 1)),
        },
        full_threshold_percent=9,
        models=("LTO7", "LTO8"),
        tape_types={"LTO7": ("LTO7_drive", "LTO8_drive"), "LTO8": ("LTO8_drive",)},
        drive_types={"LTO7_drive": ("ULT3580-TD7",), "LTO8_drive": ("ULT3580-TD8", "HH LTO Gen 8")},
        ltfs=LtfsSettings(mount='m "%s" "%s"', unmount='u "%s" "%s"', format='f "%s" "%s"', release='r "%s"'),
    )
    assert (directories.policy, directories.max_health, directories.locate_expiry_ms) == ("first_fit", 3, 500)
    assert (directories.sync.time_ms, directories.max_concurrent_io) == (20, 1)
    assert loaded.settings.libraries == {
        "legacy": LibrarySettings(host="robot", port=1234, log_moves=False),
        "other one": LibrarySettings(host="10.0.0.1", log_moves=False),
    }
    ours = file.with_name("lrs.toml")
    for changes_only in (False, True):
        ours.write_text(to_toml(loaded.settings, changes_only=changes_only))
        assert load_settings(ours, {}) == loaded.settings


def test_names_in_variables_are_those_that_are_known(file: Path) -> None:
    """A variable has the name of a section in capitals, and a key in small letters."""
    text = TAPES + '[drive_type "LTO8_drive"]\nmodels = a\n[tape_type "LTO7"]\ndrive_rw = LTO8_drive,Old_drive\n'
    environ = {
        "PHOBOS_IO_SCHED_TAPE_fair_share_lto8_min": "1,1,1",
        "PHOBOS_DRIVE_TYPE_LTO8_DRIVE_models": "b",
        "PHOBOS_DRIVE_TYPE_LTO7_DRIVE_models": "c",
        "PHOBOS_DRIVE_TYPE_OLD_DRIVE_models": "d",
        "PHOBOS_DRIVE_TYPE_NEW_models": "e",
        "PHOBOS_TAPE_TYPE_LTO7_drive_rw": "LTO7_drive,Old_drive",
        "PHOBOS_TAPE_TYPE_LTO9_drive_rw": "LTO9_drive",
        "PHOBOS_TLC_LEGACY_port": "1",
        "PHOBOS_TLC_LEGACY_listen_port": "2",
    }
    loaded = load(file, text, environ)
    tape = loaded.settings.families.tape
    assert tape.fair_share == {"LTO8": FairShareSettings(min=(1, 1, 1))}
    assert tape.drive_types == {"LTO8_drive": ("b",), "LTO7_drive": ("c",), "Old_drive": ("d",), "NEW": ("e",)}
    assert tape.tape_types == {"LTO7": ("LTO7_drive", "Old_drive"), "LTO9": ("LTO9_drive",)}
    assert loaded.settings.libraries == {"legacy": LibrarySettings(host="robot", port=1, log_moves=False)}
    assert loaded.warnings == ("PHOBOS_TLC_LEGACY_listen_port: read by the tape library controller, not by the daemon",)


@pytest.mark.parametrize(("text", "name"), [("", "my_lib"), ("[store]\ndefault_tape_library = My Lib\n", "My Lib")])
def test_a_library_that_only_a_variable_names(file: Path, text: str, name: str) -> None:
    libraries = load(file, "[lrs]\nfamilies = tape\n" + text, {"PHOBOS_TLC_MY_LIB_hostname": "h"}).settings.libraries
    assert libraries == {name: LibrarySettings(host="h", log_moves=False)}


def test_a_library_without_a_hostname_is_told_and_keeps_nothing_from_starting(file: Path) -> None:
    loaded = load(file, TAPES + '[tlc "b"]\nport = 1\n[tlc "c"]\nlisten_hostname = h\n')
    assert set(loaded.settings.libraries) == {"legacy"}
    assert loaded.warnings == (
        '[tlc "b"]: has no hostname, so that its library cannot be used',
        '[tlc "c"]: has no hostname, so that its library cannot be used',
        '[tlc "c"] listen_hostname: read by the tape library controller, not by the daemon',
    )
    loaded = load(file, '[lrs]\nfamilies = tape\n[tlc "b"]\nport = 1\n')
    assert loaded.settings.libraries == {}
    assert loaded.warnings[1] == f"[lrs] families: {NO_LIBRARY}"


def test_a_section_without_quotes_is_not_one_of_those_with_a_name(file: Path) -> None:
    loaded = load(file, TAPES + "[tlc other]\nhostname = h\n")
    assert set(loaded.settings.libraries) == {"legacy"}
    assert loaded.warnings == (f"[tlc other] hostname: {UNKNOWN}",)


def test_shares_of_what_no_drive_is_are_told(file: Path) -> None:
    text = TAPES + "[io_sched_tape]\nfair_share_LTO4_min = x\nwrite_algo = grouped_read\n"
    unknown = "no drive is of that technology: [tape_model] supported_list has no such model"
    assert load(file, text).warnings == (
        "[io_sched_tape] write_algo: grouped_read: writes and formats are served in the order of arrival",
        f"[io_sched_tape] fair_share_lto4_min: {unknown}",
    )


def test_keys_for_the_controller_are_told(file: Path) -> None:
    text = TAPES + "lib_device = /dev/changer\n[scsi]\nretry_count = 1\n[lib_scsi]\nsep_sn_query = true\n"
    assert load(file, text).warnings == tuple(
        f"[{place}: read by the tape library controller, not by the daemon"
        for place in ('tlc "legacy"] lib_device', "scsi] retry_count", "lib_scsi] sep_sn_query")
    )


def test_tapes_that_are_not_served_keep_nothing_from_starting(file: Path) -> None:
    text = QUIET + "[io_sched_tape]\nread_algo = lifo\nfair_share_LTO8_min = x\n[tape]\ntape_full_threshold = 0\n"
    loaded = load(file, text)
    assert loaded.settings == load(file, QUIET).settings
    assert loaded.warnings == (
        "[io_sched_tape] read_algo, fair_share_LTO8_min: tape is not among the families served here",
        "[tape] tape_full_threshold: tape is not among the families served here",
    )


# What is wrong

REFUSED_FOR_TAPES = [
    ("lrs", "mount_prefix", "mnt/phobos-", "the beginning of an absolute path"),
    ("lrs", "policy", "worst_fit", "best_fit or first_fit"),
    ("lrs", "max_health", "0", "a whole number from 1 to 2147483647"),
    ("lrs", "fifo_max_write_per_grouping", "-1", "a whole number, 0 or more"),
    ("tape", "tape_full_threshold", "0", "a whole number from 1 to 99"),
    ("ltfs", "cmd_mount", "mount %s", "a command line with %s twice, and %% for a per cent sign"),
    ("ltfs", "cmd_umount", "", "a command line with %s twice, and %% for a per cent sign"),
    ("ltfs", "cmd_format", "mkltfs '%s %s", "a command line with %s twice, and %% for a per cent sign"),
    ("ltfs", "cmd_release", "%s %s", "a command line with %s once, and %% for a per cent sign"),
    ("io_sched_tape", "read_algo", "lifo", "fifo or grouped_read"),
    ("io_sched_tape", "write_algo", "lifo", "fifo, or grouped_read, which has no effect"),
    ("io_sched_tape", "dispatch_algo", "fair", "none or fair_share"),
    *[
        ("io_sched_tape", "fair_share_lto8_min", value, SHARES)
        for value in ("", "1", "1,1", "1,1,1,1", "1, 1,1", "-1,1,1", "1,1,x", "1,1,2147483648")
    ],
    ("io_sched_tape", "fair_share_lto8_max", "1;1;1", SHARES),
    ('tlc "legacy"', "port", "0", "a whole number from 1 to 65535"),
    ('tlc "legacy"', "port", "65536", "a whole number from 1 to 65535"),
    ('tlc "legacy"', "hostname", "", "a host name or an address"),
]


@pytest.mark.parametrize(("section", "key", "value", "allowed"), REFUSED_FOR_TAPES)
def test_what_is_wrong_with_tapes_is_told_once(file: Path, section: str, key: str, value: str, allowed: str) -> None:
    """Once for all families, where it is for all."""
    variable = f"PHOBOS_{section.upper().replace(' ', '_')}_{key}".replace('"', "")
    text = TAPES.replace("tape\n", "tape,dir\n")
    told = key.replace("lto8", "LTO8")
    assert problems(file, text, {variable: value}) == [f"{variable}: [{section}] {told} = {value!r}: must be {allowed}"]


REFUSED = [
    ("lrs", "server_socket", "run/lrs", "an absolute path of at most 107 bytes"),
    ("lrs", "lock_file", "phobosd.lock", "an absolute path, or empty for no such file"),
    ("lrs", "policy", "", "best_fit or first_fit"),
    ("lrs", "policy", "worst_fit", "best_fit or first_fit"),
    ("lrs", "max_health", "0", "a whole number from 1 to 2147483647"),
    ("lrs", "locate_lock_expirancy", "-1", "a whole number of milliseconds from 0 to 2147483647"),
    ("lrs", "fifo_max_write_per_grouping", "-1", "a whole number, 0 or more"),
    ("dir", "dir_full_threshold", "0", "a whole number from 1 to 99"),
    ("dir", "dir_full_threshold", "100", "a whole number from 1 to 99"),
    ("io_sched_dir", "read_algo", "lifo", "fifo, or grouped_read, which has no effect"),
    ("io_sched_dir", "write_algo", "", "fifo, or grouped_read, which has no effect"),
    ("io_sched_dir", "format_algo", "FIFO", "fifo, or grouped_read, which has no effect"),
    ("io_sched_dir", "dispatch_algo", "fair_share", "none; fair_share is for tapes"),
    ("io_sched_dir", "dispatch_algo", "nothing", "none; fair_share is for tapes"),
]


@pytest.mark.parametrize(("section", "key", "value", "allowed"), REFUSED)
def test_what_is_wrong_names_place_section_key_value_and_what_is_allowed(
    file: Path, section: str, key: str, value: str, allowed: str
) -> None:
    complaint = f"[{section}] {key} = {value!r}: must be {allowed}"
    text = f"{QUIET}{key} = {value}\n" if section == "lrs" else f"{QUIET}[{section}]\n{key} = {value}\n"
    assert problems(file, text) == [f"{file}: {complaint}"]
    variable = f"PHOBOS_{section.upper()}_{key}"
    assert problems(file, QUIET, {variable: value}) == [f"{variable}: {complaint}"]


def test_a_wrong_connection_string_is_refused_without_showing_it(file: Path) -> None:
    secret = "dbname=phobos password='s3cret host=db1"
    allowed = "must be a connection string of libpq, such as dbname=phobos host=localhost"
    what = f"[dss] connect_string: has no end for the quote at character 24; {allowed}"
    assert problems(file, f"{QUIET}[dss]\nconnect_string = {secret}\n") == [f"{file}: {what}"]
    assert problems(file, QUIET, {"PHOBOS_DSS_connect_string": secret}) == [f"PHOBOS_DSS_connect_string: {what}"]


def test_all_problems_are_told_at_once(file: Path) -> None:
    text = "[lrs]\nfamilies = disk\npolicy = x\nsync_nb_req = dir=1\n[dss]\nconnect_string = x\n"
    lines = problems(file, text, {"PHOBOS_LRS_max_health": "0"}, ["log.level=loud", "no.such=1", "x"])
    assert sorted(re.split(" = |; ", line)[0] for line in lines) == sorted(
        [
            f"{file}: [lrs] families",
            f"{file}: [lrs] policy",
            f"{file}: [dss] connect_string: has no KEYWORD=VALUE at character 1",
            "PHOBOS_LRS_max_health: [lrs] max_health",
            "command line: log.level",
            "command line: no.such",
            "command line: 'x': must be KEY=VALUE, such as drain.deadline_s=60",
        ]
    )


@pytest.mark.parametrize(
    ("section", "key", "default"),
    [("lrs", "max_health", 1), ("lrs", "locate_lock_expirancy", 0), ("dir", "dir_full_threshold", 1)],
)
@pytest.mark.parametrize("text", ["", "many", "1.5", "99999999999"])
def test_what_is_no_number_is_the_default_as_in_phobos(
    file: Path, section: str, key: str, default: int, text: str
) -> None:
    variable = f"PHOBOS_{section.upper()}_{key}"
    loaded = load(file, QUIET, {variable: text})
    assert loaded.settings == load(file, QUIET).settings
    assert loaded.warnings == (f"{variable}: {text!r} is not a whole number; {default} holds",)


@pytest.mark.parametrize("text", ["", "True", "yes", "1"])
def test_what_is_neither_true_nor_false_is_the_default_as_in_phobos(file: Path, text: str) -> None:
    loaded = load(file, QUIET + f"grouping_on_dir = {text}\n")
    assert loaded.settings.families.dir.groupings is False
    assert loaded.warnings == (f"[lrs] grouping_on_dir: {text!r} is neither true nor false; false holds",)


# What has no effect


def test_a_value_that_has_no_effect_is_told(file: Path) -> None:
    text = QUIET + "fifo_max_write_per_grouping = 2\ngrouping_on_dir = true\n"
    text += "[io_sched_dir]\nread_algo = grouped_read\nwrite_algo = fifo\n"
    assert load(file, text + "[dss]\nconnect_string = host=h keepalives=1 connect_timeout=5\n").warnings == (
        "[lrs] fifo_max_write_per_grouping: any number of clients may write one grouping of directories",
        "[dss] connect_string: connect_timeout, keepalives: left out, the driver here has nothing like it",
        "[io_sched_dir] read_algo: grouped_read: requests for directories are served in the order of arrival",
    )


def test_a_limit_on_writers_that_would_not_matter_is_not_told(file: Path) -> None:
    """Directories have no groupings unless that is said."""
    assert load(file, QUIET + "fifo_max_write_per_grouping = 2\n").warnings == ()


def test_keys_without_effect_are_named_once_by_section_and_reason(file: Path) -> None:
    text = (
        '[store]\ndefault_dir_library = a\ndefault_family = dir\n[tlc "legacy"]\nhostname = h\nport = 1\nprot = 2\n'
        "[lrs]\nfamilies = dir\nmount_prefix = /mnt/x\n[nonsense]\na = 1\nb = 2\n"
    )
    environ = {
        "PHOBOS_STORE_default_family": "tape",
        "PHOBOS_IO_fs_block_size": "dir=1",
        "PHOBOS_LRS_famlies": "dir",
        "PHOBOS_CFG_FILE": "/elsewhere",
        "PHOBOS": "",
    }
    assert load(file, text, environ).warnings == (
        f"PHOBOS_LRS_famlies: {UNKNOWN}",
        f'[tlc "legacy"] prot: {UNKNOWN}',
        f"[nonsense] a, b: {UNKNOWN}",
        "PHOBOS_IO_fs_block_size, PHOBOS_STORE_default_family: read by clients, not by the daemon",
        "[store] default_dir_library: read by clients, not by the daemon",
        '[tlc "legacy"] hostname, port: tape is not among the families served here',
        "[lrs] mount_prefix: directories are used where they are, nothing is mounted",
    )


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)


@given(
    st.sampled_from(
        [
            *(f"LRS_{key}" for key in ("families", "policy", "sync_time_ms", "max_health", "grouping_on_dir")),
            *(f"LRS_{key}" for key in ("server_socket", "max_concurrent_io", "mount_prefix")),
            "IO_SCHED_TAPE_fair_share_lto8_min",
            "TAPE_MODEL_supported_list",
            "TAPE_TYPE_LTO8_drive_rw",
            "DRIVE_TYPE_LTO8_DRIVE_models",
            "LTFS_cmd_mount",
            "TLC_LEGACY_hostname",
            "TLC_LEGACY_port",
        ]
    ),
    st.one_of(
        TEXTS,
        st.from_regex(r"(dir|tape)=-?[0-9]{1,25}(,dir=[0-9]+)?", fullmatch=True),
        st.from_regex(r"[0-9]{1,11}(,[0-9x]{1,11}){0,3}", fullmatch=True),
        st.from_regex(r"\"?[a-z]+( %s| '%s'){0,3}", fullmatch=True),
    ),
)
def test_any_text_makes_settings_or_an_error_in_lines(key: str, value: str) -> None:
    try:
        loaded = load_phobos_settings(None, {f"PHOBOS_{key}": value})
    except SettingsError as error:
        for line in str(error).split("\n"):
            assert line.startswith(f"PHOBOS_{key}: [")
            assert f" = {value!r}: must be " in line
    else:
        assert all(warning.isprintable() for warning in loaded.warnings)
