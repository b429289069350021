"""The shipped configuration has every key of Phobos 3.3, and each is honoured or named."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path

import pytest

from lrs_trio.phobos.keys import UNKNOWN
from lrs_trio.phobos.settings import load_phobos_settings
from lrs_trio.settings import Settings

FILE = Path(__file__).parent.parent.parent / "settings" / "phobos.conf"

HONOURED = {
    ("dss", "connect_string"): ("host=/run/pg dbname=other", "dss.url", "postgresql:///other?host=/run/pg"),
    ("lrs", "families"): ("dir", "families.tape.enabled", False),
    ("lrs", "server_socket"): ("/run/other", "server.socket", Path("/run/other")),
    ("lrs", "lock_file"): ("/run/other.lock", "server.lock_file", Path("/run/other.lock")),
    ("lrs", "policy"): ("first_fit", "families.dir.policy", "first_fit"),
    ("lrs", "sync_time_ms"): ("tape=1,dir=321", "families.dir.sync.time_ms", 321),
    ("lrs", "sync_nb_req"): ("tape=1,dir=32", "families.dir.sync.requests", 32),
    ("lrs", "sync_wsize_kb"): ("tape=1,dir=3", "families.dir.sync.bytes", 3072),
    ("lrs", "max_health"): ("3", "families.dir.max_health", 3),
    ("lrs", "grouping_on_dir"): ("true", "families.dir.groupings", True),
    ("lrs", "locate_lock_expirancy"): ("60000", "families.dir.locate_expiry_ms", 60_000),
    ("lrs", "max_concurrent_io"): ("dir=8", "families.dir.max_concurrent_io", 8),
    ("dir", "dir_full_threshold"): ("7", "families.dir.full_threshold_percent", 7),
    ("lrs", "mount_prefix"): ("/mnt/x-", "families.tape.mount_prefix", "/mnt/x-"),
    ("lrs", "fifo_max_write_per_grouping"): ("3", "families.tape.max_writers_per_grouping", 3),
    ("io_sched_tape", "read_algo"): ("fifo", "families.tape.read_algorithm", "fifo"),
    ("io_sched_tape", "dispatch_algo"): ("none", "families.tape.dispatch", "none"),
    ("io_sched_tape", "ordered_grouped_read"): ("false", "families.tape.ordered_grouped_read", False),
    ("io_sched_tape", "fair_share_LTO8_min"): ("2,2,2", "families.tape.fair_share.LTO8.min", (2, 2, 2)),
    ("io_sched_tape", "fair_share_LTO8_max"): ("5,5,5", "families.tape.fair_share.LTO8.max", (5, 5, 5)),
    ("tape", "tape_full_threshold"): ("7", "families.tape.full_threshold_percent", 7),
    ("tape_model", "supported_list"): ("LTO8", "families.tape.models", ("LTO8",)),
    ('tape_type "LTO7"', "drive_rw"): ("LTO7_drive", "families.tape.tape_types.LTO7", ("LTO7_drive",)),
    ('tape_type "LTO8"', "drive_rw"): ("a,b", "families.tape.tape_types.LTO8", ("a", "b")),
    ('drive_type "LTO7_drive"', "models"): ("a", "families.tape.drive_types.LTO7_drive", ("a",)),
    ('drive_type "LTO8_drive"', "models"): ("b,c d", "families.tape.drive_types.LTO8_drive", ("b", "c d")),
    ("ltfs", "cmd_mount"): ("m %s %s", "families.tape.ltfs.mount", "m %s %s"),
    ("ltfs", "cmd_umount"): ("u %s %s", "families.tape.ltfs.unmount", "u %s %s"),
    ("ltfs", "cmd_format"): ("f %s %s", "families.tape.ltfs.format", "f %s %s"),
    ("ltfs", "cmd_release"): ("r %s", "families.tape.ltfs.release", "r %s"),
    ('tlc "legacy"', "hostname"): ("robot", "libraries.legacy.host", "robot"),
    ('tlc "legacy"', "port"): ("1234", "libraries.legacy.port", 1234),
}
"""Another value, the setting where it shows, and what it is there."""

WITHOUT_ALTERNATIVE = {
    ("io_sched_dir", "read_algo"),
    ("io_sched_dir", "write_algo"),
    ("io_sched_dir", "format_algo"),
    ("io_sched_dir", "dispatch_algo"),
    ("io_sched_tape", "write_algo"),
    ("io_sched_tape", "format_algo"),
}
"""Those that have one value which has a meaning here, and the file has that."""

HEEDED_FOR_DIRECTORIES = {"lrs", "dss", "dir", "io_sched_dir"}
UNHEEDED = {("lrs", "mount_prefix")}
"""Without tapes."""

DESCRIBED = {
    "lrs": "families server_socket lock_file mount_prefix policy sync_time_ms sync_nb_req sync_wsize_kb max_health"
    " fifo_max_write_per_grouping grouping_on_dir locate_lock_expirancy",
    "io_sched_dir": "read_algo write_algo format_algo dispatch_algo ordered_grouped_read",
    "io_sched_tape": "read_algo write_algo format_algo dispatch_algo ordered_grouped_read fair_share_LTO8_min"
    " fair_share_LTO8_max",
    "io_sched_rados_pool": "read_algo write_algo format_algo dispatch_algo ordered_grouped_read",
    "dss": "connect_string",
    "tape_model": "supported_list",
    'drive_type "LTO8_drive"': "models",
    'tape_type "LTO8"': "drive_rw",
    "dir": "dir_full_threshold",
    "tape": "tape_full_threshold",
    "rados_pool": "rados_pool_full_threshold",
    "ltfs": "cmd_mount cmd_umount cmd_format cmd_release",
    "rados": "user_id ceph_conf_file",
    "io": "io_block_size fs_block_size",
    "store": "default_tape_library default_dir_library default_rados_library",
    "scsi": "retry_count retry_short retry_long max_element_status query_timeout_ms move_timeout_ms inquiry_timeout_ms",
    "lib_scsi": "sep_sn_query",
    'tlc "legacy"': "hostname port listen_hostname listen_port listen_interface lib_device max_device_retry",
    "copy": "default_copy_name",
    'profile "simple"': "layout",
    "layout_raid1": "repl_count",
    "layout_raid4": "check_hash",
    'hsm "source" "backend"': "sync_delay_second",
}
"""Every section of Phobos 3.3, with the keys that are known to be there."""


class Parser(RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


def written() -> list[tuple[str, str]]:
    parser = Parser()
    parser.read(FILE)
    return [(section, key) for section in parser.sections() for key in parser.options(section)]


def in_variable(section: str, key: str) -> str:
    return f"PHOBOS_{section.upper().replace(' ', '_')}_{key.lower()}".replace('"', "")


def setting(settings: Settings, name: str) -> object:
    value: object = settings
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def test_the_file_has_every_key() -> None:
    described = {(section, key) for section, keys in DESCRIBED.items() for key in keys.split()}
    assert described <= set(written())


@pytest.mark.parametrize(("place", "other"), HONOURED.items(), ids=lambda value: str(value[1]))
def test_another_value_shows_in_the_settings(
    tmp_path: Path, place: tuple[str, str], other: tuple[str, str, object]
) -> None:
    (section, key), (text, name, value) = place, other
    assert setting(load_phobos_settings(FILE, {}).settings, name) != value
    pattern = rf"(?m)(^\[{re.escape(section)}\]$(?:\n[^[].*|\n)*?\n)(# )?{key} = .*$"
    changed, count = re.subn(pattern, rf"\g<1>{key} = {text}", FILE.read_text())
    assert count == 1
    file = tmp_path / "phobos.conf"
    file.write_text(changed)
    assert setting(load_phobos_settings(file, {}).settings, name) == value
    variable = in_variable(section, key)
    assert setting(load_phobos_settings(FILE, {variable: text}).settings, name) == value


def test_each_key_is_honoured_or_named_in_one_warning() -> None:
    warnings = load_phobos_settings(FILE, {}).warnings
    assert not any(UNKNOWN in warning for warning in warnings)
    named: list[tuple[str, str]] = []
    for warning in warnings:
        found = re.match(r"\[([^]]+)\] ([^:]+): ", warning)
        assert found is not None, warning
        named += [(found[1], key) for key in found[2].split(", ")]
    assert len(named) == len(set(named))
    assert sorted(named) == sorted(set(written()) - set(HONOURED) - WITHOUT_ALTERNATIVE)


@pytest.mark.parametrize(
    ("families", "honoured"),
    [
        ("tape,dir", set(HONOURED) | WITHOUT_ALTERNATIVE),
        (
            "dir",
            {place for place in [*HONOURED, *WITHOUT_ALTERNATIVE] if place[0] in HEEDED_FOR_DIRECTORIES} - UNHEEDED,
        ),
    ],
)
def test_each_key_is_honoured_or_named_when_the_environment_gives_it(
    tmp_path: Path, families: str, honoured: set[tuple[str, str]]
) -> None:
    parser = Parser()
    parser.read(FILE)
    environ = {"PHOBOS_LRS_families": families}
    for section, key in written():
        environ.setdefault(in_variable(section, key), parser.get(section, key))
    empty = tmp_path / "phobos.conf"
    empty.touch()
    warnings = load_phobos_settings(empty, environ).warnings
    named = [name for warning in warnings for name in warning.partition(":")[0].split(", ")]
    assert len(named) == len(set(named))
    assert set(named) == {in_variable(*place) for place in set(written()) - honoured}
