"""A Phobos 3.3 configuration as our settings: what has a meaning here, what is wrong, what is to be told.

Where a client or an administrator could tell the difference the daemon then behaves as phobosd (decision 20).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lrs_trio.location import settings_in
from lrs_trio.phobos.configuration import DEFAULT_FILE, DEFAULT_SOCKET, PhobosConfiguration
from lrs_trio.phobos.connection_string import connection_url
from lrs_trio.phobos.keys import POOLS, TAPES, UNKNOWN, why_meaningless
from lrs_trio.phobos.tapes import translate_tapes
from lrs_trio.phobos.translation import DIR, KNOWN_FAMILIES, RADOS_POOL, TAPE, Translation
from lrs_trio.phobos.values import HIGHEST_LONG, HIGHEST_UNSIGNED, by_family, names
from lrs_trio.settings import MAX_INT64, MAX_UINT32, Settings
from lrs_trio.settings_sources import Key, settings_from

_AS_PHOBOSD: Final[Mapping[Key, object]] = {
    ("server", "socket_mode"): "0666",
    ("access", "everyone"): ("read", "write", "format", "admin"),
    ("families", DIR, "sync_while_io"): False,
    ("families", TAPE, "sync_while_io"): False,
    ("families", DIR, "sync", "mode"): "thresholds",
    ("families", TAPE, "sync", "mode"): "thresholds",
    ("families", TAPE, "groupings"): True,
    ("drain", "deadline_s"): math.inf,
    ("log", "format"): "phobos",
}
"""What phobosd does without being told."""

# The keys that are one setting, with Phobos's default; where there is no table, that of each family.
_TEXTS: Final[tuple[tuple[str, str, str, Key], ...]] = (
    ("lrs", "server_socket", DEFAULT_SOCKET, ("server", "socket")),
    ("lrs", "lock_file", "/run/phobosd/phobosd.lock", ("server", "lock_file")),
    ("lrs", "policy", "best_fit", ("policy",)),
)
_NUMBERS: Final[tuple[tuple[str, str, int, Key], ...]] = (
    ("lrs", "max_health", 1, ("max_health",)),
    ("lrs", "locate_lock_expirancy", 0, ("locate_expiry_ms",)),
    ("dir", "dir_full_threshold", 1, ("families", DIR, "full_threshold_percent")),
)

_FAMILIES: Final = f"{TAPE},{DIR},{RADOS_POOL}"
_CONNECT_STRING: Final = "dbname=phobos host=localhost"

_AGES: Final = {TAPE: 10_000, DIR: 10, RADOS_POOL: 10}
_COUNTS: Final = dict.fromkeys(_AGES, 5)
_KIB: Final = dict.fromkeys(_AGES, 2**20)
_MOST_CONCURRENT_IO: Final = 10_000
_MOST_KIB: Final = HIGHEST_LONG // 1024


@dataclass(frozen=True, slots=True)
class PhobosSettings:
    """What a Phobos configuration means here."""

    settings: Settings
    warnings: tuple[str, ...]
    """One line for each thing, or for those of one section, that has no effect here, by name."""
    configuration: PhobosConfiguration


def load_phobos_settings(
    path: Path | None, environ: Mapping[str, str], overrides: Sequence[str] = ()
) -> PhobosSettings:
    """The settings that a Phobos configuration makes. Our own file and the LRS_* variables have no say beside it.

    Args:
        path: the file; without one, what PHOBOS_CFG_FILE names or the default one if it exists.
        environ: the environment; PHOBOS_LRS_families=dir sets families of section lrs and wins over the file.
        overrides: KEY=VALUE texts of the command line in our own keys, such as drain.deadline_s=60; they win.

    Raises:
        SettingsError: one line for each thing that is wrong: where, the key, the value and what is allowed.
    """
    configuration = PhobosConfiguration.load(path, environ)
    found = Translation(configuration)
    _translate(found)
    _tell_the_rest(found, environ)
    settings = settings_from(found.values, found.said, overrides, found.problems)
    return PhobosSettings(settings, tuple(found.warnings), configuration)


def _translate(found: Translation) -> None:
    found.values |= _AS_PHOBOSD
    asked = _families(found)
    # What is for all families is for directories in any case, so that it is looked at.
    served = (DIR, TAPE) if TAPE in asked else (DIR,)
    for section, key, default, setting in _TEXTS:
        text = found.text(section, key)
        found.put(section, key, default if text is None else text, *_each(setting, served))
    for section, key, number, setting in _NUMBERS:
        found.put(section, key, found.number(section, key, number), *_each(setting, served))
    _sync(found, asked, served)
    _concurrent_io(found, served)
    _groupings(found, asked)
    _connect_string(found)
    found.expect_arrival_order("io_sched_dir", "requests for directories", "read_algo", "write_algo", "format_algo")
    if found.text("io_sched_dir", "dispatch_algo") not in (None, "none"):
        found.refuse("io_sched_dir", "dispatch_algo", "none; fair_share is for tapes")
    if TAPE in asked:
        translate_tapes(found)


def _each(setting: Key, families: Sequence[str]) -> list[Key]:
    """`setting`, which is that of each of `families` if it is in no table."""
    return [setting] if len(setting) > 1 else [("families", family, *setting) for family in families]


def _tell_the_rest(found: Translation, environ: Mapping[str, str]) -> None:
    """Name what is set and has no effect, each key once, in one line for each section and reason."""
    if found.configuration.file is None:
        found.warnings.append(f"{DEFAULT_FILE}: does not exist; the defaults of Phobos hold")
    groups: dict[tuple[str, str], list[str]] = {}
    for given in found.unaccounted():
        section = "" if given.section is None else f"[{given.section}] "
        reason = why_meaningless(given.variable)
        if reason == TAPES and found.values["families", TAPE, "enabled"]:
            reason = UNKNOWN  # a section whose name lacks its quotes
        groups.setdefault((section, reason), []).append(given.key)
    # What may be a slip of the pen comes first.
    for (section, reason), keys in sorted(groups.items(), key=lambda group: group[0][1] != UNKNOWN):
        found.warnings.append(f"{section}{', '.join(keys)}: {reason}")
    if ours := [name for name, _, _ in settings_in(environ)]:
        found.warnings.append(f"{', '.join(ours)}: not read beside a Phobos configuration")


def _families(found: Translation) -> list[str]:
    """The families that are asked for, as far as there are such."""
    text = found.text("lrs", "families")
    asked = names(_FAMILIES if text is None else text)
    families = list(dict.fromkeys(asked))
    if not families or not KNOWN_FAMILIES.issuperset(families):
        found.refuse("lrs", "families", "one or more of tape, dir and rados_pool, with commas and without blanks")
    if len(families) < len(asked):
        found.warn("lrs", "families", f"{text!r} names a family twice")
    if RADOS_POOL in families:
        by_default = "" if text else " (by default)"
        answer = "requests for them are answered EINVAL"
        found.warn("lrs", "families", f"{RADOS_POOL}{by_default}: {POOLS}; {answer}")
    if families == [RADOS_POOL]:
        found.warn("lrs", "families", f"neither {DIR} nor {TAPE} is among them, so that nothing is served")
    for family in (DIR, TAPE):
        found.values["families", family, "enabled"] = family in families
    return [family for family in families if family in KNOWN_FAMILIES]


def _sync(found: Translation, asked: Sequence[str], served: Sequence[str]) -> None:
    ages = found.by_family("sync_time_ms", asked, _AGES, 0, HIGHEST_LONG)
    counts = found.by_family("sync_nb_req", asked, _COUNTS, 1, HIGHEST_UNSIGNED)
    sizes = found.by_family("sync_wsize_kb", asked, _KIB, 1, _MOST_KIB)
    for family in served:
        sync = ("families", family, "sync")
        found.put("lrs", "sync_time_ms", min(ages[family], MAX_UINT32), (*sync, "time_ms"))
        found.put("lrs", "sync_nb_req", counts[family], (*sync, "requests"))
        found.put("lrs", "sync_wsize_kb", min(sizes[family] * 1024, MAX_INT64), (*sync, "bytes"))


def _concurrent_io(found: Translation, served: Sequence[str]) -> None:
    """One client at a time, as with phobosd, unless the file has this key, which is ours and not Phobos's."""
    key = "max_concurrent_io"
    named = sorted(by_family(found.text("lrs", key) or "").keys() & KNOWN_FAMILIES)
    numbers = found.by_family(key, named or [DIR], dict.fromkeys(KNOWN_FAMILIES, 1), 1, _MOST_CONCURRENT_IO)
    for family in served:
        found.put("lrs", key, numbers[family], ("families", family, key))


def _groupings(found: Translation, asked: Sequence[str]) -> None:
    on_dir = found.switch("lrs", "grouping_on_dir", default=False)
    found.put("lrs", "grouping_on_dir", on_dir, ("families", DIR, "groupings"))
    section, key = "lrs", "fifo_max_write_per_grouping"
    most = found.number(section, key, 0)
    if most < 0:
        found.refuse(section, key, "a whole number, 0 or more")
    elif TAPE in asked:
        found.put(section, key, most, ("families", TAPE, "max_writers_per_grouping"))
    if most > 0 and on_dir and DIR in asked:
        found.warn(section, key, "any number of clients may write one grouping of directories")


def _connect_string(found: Translation) -> None:
    section, key = "dss", "connect_string"
    text = found.text(section, key)
    try:
        database = connection_url(_CONNECT_STRING if text is None else text)
    except ValueError as error:  # it shows no password, unlike the text
        place = found.configuration.place(section, key)
        found.problems.append(f"{place}: {error}; must be a connection string of libpq, such as {_CONNECT_STRING}")
        return
    found.values["dss", "url"] = database.url
    if database.left_out:
        found.warn(section, key, f"{', '.join(database.left_out)}: left out, the driver here has nothing like it")
