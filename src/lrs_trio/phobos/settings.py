"""A Phobos 3.3 configuration as our settings: what has a meaning here, what is wrong, what is to be told.

Where a client or an administrator could tell the difference the daemon then behaves as phobosd (decision 20).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lrs_trio.location import settings_in
from lrs_trio.model import Family
from lrs_trio.phobos.configuration import DEFAULT_FILE, DEFAULT_SOCKET, PhobosConfiguration, variable
from lrs_trio.phobos.connection_string import connection_url
from lrs_trio.phobos.keys import POOLS, TAPES, UNKNOWN, why_meaningless
from lrs_trio.phobos.values import HIGHEST_LONG, HIGHEST_UNSIGNED, by_family, names, switch, whole_number, within
from lrs_trio.settings import MAX_INT64, MAX_UINT32, Key, Settings, settings_from

_DIR: Final = Family.DIR.label
_TAPE: Final = Family.TAPE.label
_RADOS_POOL: Final = Family.RADOS_POOL.label
_KNOWN_FAMILIES: Final = frozenset({_DIR, _TAPE, _RADOS_POOL})

_FAMILY: Final = ("families", "dir")
_SYNC: Final = (*_FAMILY, "sync")

_AS_PHOBOSD: Final[Mapping[Key, object]] = {
    ("server", "socket_mode"): "0666",
    (*_FAMILY, "sync_while_io"): False,
    ("drain", "deadline_s"): math.inf,
    ("log", "format"): "phobos",
}
"""What phobosd does without being told."""

# The keys that are one setting, with Phobos's default.
_TEXTS: Final = (
    ("lrs", "server_socket", DEFAULT_SOCKET, ("server", "socket")),
    ("lrs", "lock_file", "/run/phobosd/phobosd.lock", ("server", "lock_file")),
    ("lrs", "policy", "best_fit", (*_FAMILY, "policy")),
)
_NUMBERS: Final = (
    ("lrs", "max_health", 1, (*_FAMILY, "max_health")),
    ("lrs", "locate_lock_expirancy", 0, (*_FAMILY, "locate_expiry_ms")),
    ("dir", "dir_full_threshold", 1, (*_FAMILY, "full_threshold_percent")),
)

_FAMILIES: Final = "tape,dir,rados_pool"
_CONNECT_STRING: Final = "dbname=phobos host=localhost"

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
    translation = _Translation(configuration)
    translation.translate()
    translation.tell_the_rest(environ)
    settings = settings_from(translation.values, translation.said, overrides, translation.problems)
    return PhobosSettings(settings, tuple(translation.warnings), configuration)


class _Translation:
    """Turns keys into settings, and collects what is wrong with them and what is to be told of them.

    A key that has been looked at is accounted for, by a setting, a problem or a warning; all others are named at
    the end.
    """

    def __init__(self, configuration: PhobosConfiguration) -> None:
        self._configuration = configuration
        self._accounted: set[str] = set()
        self.values: dict[Key, object] = dict(_AS_PHOBOSD)
        self.said: dict[Key, str] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def translate(self) -> None:
        for section, key, default, setting in _TEXTS:
            text = self._text(section, key)
            self._put(section, key, default if text is None else text, setting)
        for section, key, number, setting in _NUMBERS:
            self._put(section, key, self._number(section, key, number), setting)
        self._put("lrs", "grouping_on_dir", self._switch("lrs", "grouping_on_dir"), (*_FAMILY, "groupings"))
        families = self._families()
        age = self._by_family("sync_time_ms", families, 10, 0, HIGHEST_LONG)
        self._put("lrs", "sync_time_ms", min(age, MAX_UINT32), (*_SYNC, "time_ms"))
        count = self._by_family("sync_nb_req", families, 5, 1, HIGHEST_UNSIGNED)
        self._put("lrs", "sync_nb_req", count, (*_SYNC, "requests"))
        kib = self._by_family("sync_wsize_kb", families, 2**20, 1, _MOST_KIB)
        self._put("lrs", "sync_wsize_kb", min(kib * 1024, MAX_INT64), (*_SYNC, "bytes"))
        self._concurrent_io()
        self._connect_string()
        self._scheduling()

    def tell_the_rest(self, environ: Mapping[str, str]) -> None:
        """Name what is set and has no effect, each key once, in one line for each section and reason."""
        if self._configuration.file is None:
            self.warnings.append(f"{DEFAULT_FILE}: does not exist; the defaults of Phobos hold")
        groups: dict[tuple[str, str], list[str]] = {}
        for given in self._configuration.given():
            if given.variable not in self._accounted:
                section = "" if given.section is None else f"[{given.section}] "
                groups.setdefault((section, why_meaningless(given.variable)), []).append(given.key)
        # What may be a slip of the pen comes first.
        for (section, reason), keys in sorted(groups.items(), key=lambda group: group[0][1] != UNKNOWN):
            self.warnings.append(f"{section}{', '.join(keys)}: {reason}")
        if ours := [name for name, _, _ in settings_in(environ)]:
            self.warnings.append(f"{', '.join(ours)}: not read beside a Phobos configuration")

    # The values of single keys.

    def _text(self, section: str, key: str) -> str | None:
        self._accounted.add(variable(section, key))
        return self._configuration.get(section, key)

    def _number(self, section: str, key: str, default: int) -> int:
        text = self._text(section, key)
        if text is None:
            return default
        number = whole_number(text)
        if number is None:
            self._warn(section, key, f"{text!r} is not a whole number; {default} holds")
            return default
        return number

    def _switch(self, section: str, key: str) -> bool:
        text = self._text(section, key)
        value = switch("false" if text is None else text)
        if value is None:
            self._warn(section, key, f"{text!r} is neither true nor false; false holds")
        return bool(value)

    def _by_family(self, key: str, needed: Iterable[str], default: int, lowest: int, highest: int) -> int:
        """The number for directories; if the key is there, each family that is `needed` must have a number."""
        text = self._text("lrs", key)
        if text is None:
            return default
        given = by_family(text)
        for family in needed:
            if within(given.get(family, ""), lowest, highest) is None:
                allowed = f"a whole number from {lowest} to {highest} for {family}, as in {family}={default}"
                self._refuse("lrs", key, allowed)
        for item in text.split(","):
            if item.partition("=")[0] not in _KNOWN_FAMILIES:
                self._warn("lrs", key, f"{item!r} is for no family")
        number = within(given.get(_DIR, ""), lowest, highest)
        return default if number is None else number

    def _put(self, section: str, key: str, value: object, setting: Key) -> None:
        self.values[setting] = value
        self.said[setting] = self._configuration.told(section, key)

    def _refuse(self, section: str, key: str, allowed: str) -> None:
        self.problems.append(f"{self._configuration.told(section, key)}: must be {allowed}")

    def _warn(self, section: str, key: str, what: str) -> None:
        self.warnings.append(f"{self._configuration.label(section, key)}: {what}")

    # Those that are more than one setting, or less.

    def _families(self) -> list[str]:
        """The families that are asked for, as far as there are such."""
        text = self._text("lrs", "families")
        asked = names(_FAMILIES if text is None else text)
        families = list(dict.fromkeys(asked))
        if not families or not _KNOWN_FAMILIES.issuperset(families):
            self._refuse("lrs", "families", "one or more of tape, dir and rados_pool, with commas and without blanks")
        if len(families) < len(asked):
            self._warn("lrs", "families", f"{text!r} names a family twice")
        by_default = "" if text else " (by default)"
        if _TAPE in families:
            self._warn("lrs", "families", f"{_TAPE}{by_default}: {TAPES}")
        if _RADOS_POOL in families:
            answer = "requests for them are answered EINVAL"
            self._warn("lrs", "families", f"{_RADOS_POOL}{by_default}: {POOLS}; {answer}")
        if _DIR not in families:
            self._warn("lrs", "families", f"{_DIR} is not among them, so that nothing is served")
        self.values[*_FAMILY, "enabled"] = _DIR in families
        return [family for family in families if family in _KNOWN_FAMILIES]

    def _concurrent_io(self) -> None:
        """One client at a time, as with phobosd, unless the file has this key, which is ours and not Phobos's."""
        key = "max_concurrent_io"
        named = sorted(by_family(self._text("lrs", key) or "").keys() & _KNOWN_FAMILIES)
        self._put("lrs", key, self._by_family(key, named or [_DIR], 1, 1, _MOST_CONCURRENT_IO), (*_FAMILY, key))

    def _connect_string(self) -> None:
        section, key = "dss", "connect_string"
        text = self._text(section, key)
        try:
            database = connection_url(_CONNECT_STRING if text is None else text)
        except ValueError as error:  # it shows no password, unlike the text
            place = self._configuration.place(section, key)
            self.problems.append(f"{place}: {error}; must be a connection string of libpq, such as {_CONNECT_STRING}")
            return
        self.values["dss", "url"] = database.url
        if database.left_out:
            self._warn(section, key, f"{', '.join(database.left_out)}: left out, the driver here has nothing like it")

    def _scheduling(self) -> None:
        section = "io_sched_dir"
        for key in ("read_algo", "write_algo", "format_algo"):
            text = self._text(section, key)
            if text == "grouped_read":
                self._warn(section, key, "grouped_read: requests for directories are served in the order of arrival")
            elif text not in (None, "fifo"):
                self._refuse(section, key, "fifo, or grouped_read, which has no effect")
        if self._text(section, "dispatch_algo") not in (None, "none"):
            self._refuse(section, "dispatch_algo", "none; fair_share is for tapes")
        section, key = "lrs", "fifo_max_write_per_grouping"
        number = self._number(section, key, 0)
        if number < 0:
            self._refuse(section, key, "a whole number, 0 or more")
        if number > 0:
            self._warn(section, key, "any number of clients may write one grouping")
