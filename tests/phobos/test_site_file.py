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
    ("lrs", "families"): ("tape", "families.dir.enabled", False),
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
}
"""Another value, the setting where it shows, and what it is there."""

WITHOUT_ALTERNATIVE = {
    ("io_sched_dir", "read_algo"),
    ("io_sched_dir", "write_algo"),
    ("io_sched_dir", "format_algo"),
    ("io_sched_dir", "dispatch_algo"),
    ("lrs", "fifo_max_write_per_grouping"),
}
"""Those that have one value which has a meaning here, and the file has that."""

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


def setting(settings: Settings, name: str) -> object:
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
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
    changed, count = re.subn(rf"(?m)^(# )?{key} = .*$", f"{key} = {text}", FILE.read_text())
    assert count == 1
    file = tmp_path / "phobos.conf"
    file.write_text(changed)
    assert setting(load_phobos_settings(file, {}).settings, name) == value
    variable = f"PHOBOS_{section.upper()}_{key}"
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
    assert ("lrs", "families") in named  # the tapes in it
    honoured = set(HONOURED) - {("lrs", "max_concurrent_io"), ("lrs", "families")}
    assert sorted(named) == sorted(set(written()) - honoured - WITHOUT_ALTERNATIVE)


def test_each_key_is_honoured_or_named_when_the_environment_gives_it(tmp_path: Path) -> None:
    parser = Parser()
    parser.read(FILE)
    environ = {"PHOBOS_LRS_families": "dir"}
    for section, key in written():
        name = re.sub('"', "", section).upper().replace(" ", "_")
        environ.setdefault(f"PHOBOS_{name}_{key.lower()}", parser.get(section, key))
    empty = tmp_path / "phobos.conf"
    empty.touch()
    warnings = load_phobos_settings(empty, environ).warnings
    named = [name for warning in warnings for name in warning.partition(":")[0].split(", ")]
    assert len(named) == len(set(named))
    expected = set(written()) - set(HONOURED) - WITHOUT_ALTERNATIVE
    assert len(named) == len(expected)
    assert set(named) <= set(environ)
