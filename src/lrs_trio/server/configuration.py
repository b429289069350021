"""The configure request: keys of a Phobos configuration that an administrator sets while the daemon runs."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Protocol

import structlog

from lrs_trio.errors import LrsError
from lrs_trio.model import ConfigureOperation, Family
from lrs_trio.phobos.values import as_written, in_variable, names, shares
from lrs_trio.settings import FamilySettings, TapeSettings
from lrs_trio.settings_sources import Key, changed
from lrs_trio.wire.messages import Configure, Configured

log = structlog.get_logger()

MOST_VALUES = 1000
LONGEST_TEXT = 4096
"""What one request may name, and what clients may have the daemon remember."""

SHOWN = 5


class Configuration(Protocol):
    """Where values come from and where they are kept, by section and key."""

    def get(self, section: str, key: str) -> str | None: ...

    def set(self, section: str, key: str, value: str) -> None: ...


class Configurable(Protocol):
    """A family that goes on with other settings when it is told."""

    settings: FamilySettings

    @property
    def family(self) -> Family: ...

    def change_settings(self, settings: FamilySettings) -> None: ...


@dataclass(frozen=True, slots=True)
class Effect:
    """What a key changes while the daemon runs: a setting of `family`, or of each if there is none.

    `read` makes of the text what the setting takes.
    """

    setting: Key
    family: Family | None = None
    read: Callable[[str], object] = str


EFFECTS: Final[Mapping[tuple[str, str], Effect]] = {
    ("LRS", "policy"): Effect(("policy",)),
    ("LRS", "locate_lock_expirancy"): Effect(("locate_expiry_ms",)),
    ("LRS", "grouping_on_dir"): Effect(("groupings",), Family.DIR),
    ("LRS", "mount_prefix"): Effect(("mount_prefix",), Family.TAPE),
    ("DIR", "dir_full_threshold"): Effect(("full_threshold_percent",), Family.DIR),
    ("TAPE", "tape_full_threshold"): Effect(("full_threshold_percent",), Family.TAPE),
    ("LTFS", "cmd_mount"): Effect(("ltfs", "mount"), Family.TAPE),
    ("LTFS", "cmd_umount"): Effect(("ltfs", "unmount"), Family.TAPE),
    ("LTFS", "cmd_format"): Effect(("ltfs", "format"), Family.TAPE),
}

_FAIR_SHARE: Final = re.compile("fair_share_(.+)_(min|max)", re.IGNORECASE)
_TYPE: Final = re.compile(r'(tape|drive)_type "?([^"]+)"?', re.IGNORECASE)


class LiveConfiguration:
    """Sets and gets values; some of them change how `families` work.

    Values that nobody has set come from `given`; what is set lasts as long as the daemon.
    """

    def __init__(self, families: Mapping[Family, Configurable], given: Configuration | None) -> None:
        self._families = families
        self._values: Configuration = _Values() if given is None else given
        self._set: set[tuple[str, str]] = set()
        self._warned: set[tuple[str, str]] = set()

    def answer(self, body: Configure) -> Configured:
        """Set the values one by one, or get them in the order asked, "" where there is none.

        Raises:
            LrsError: EPROTO if nothing is asked, EINVAL if it is not an array of objects of strings, if a value is
                wrong or too much is named, ENOSPC if it is more than is kept. What was set before the fault stays.
        """
        items = _parse(body.configuration)
        if body.operation is ConfigureOperation.GET:
            values = [self._values.get(*_strings(item, "section", "key")) for item in items]
            texts = [(value or "").encode(errors="surrogateescape").decode(errors="replace") for value in values]
            return Configured(json.dumps(texts, separators=(",", ":"), ensure_ascii=False))
        unheeded: dict[tuple[str, str], str] = {}
        try:
            for item in items:
                section, key, value = _strings(item, "section", "key", "value")
                if not self._set_one(section, key, value):
                    unheeded[_name(section, key)] = f"[{section}] {key}"
        finally:
            self._warn(unheeded)
        return Configured()

    def _set_one(self, section: str, key: str, value: str) -> bool:
        """Set a value; ``False`` if that changes nothing that this daemon does."""
        name = _name(section, key)
        too_many = name not in self._set and len(self._set) >= MOST_VALUES
        if too_many or max(len(section), len(key), len(value)) > LONGEST_TEXT:
            text = f"at most {MOST_VALUES} settings of {LONGEST_TEXT} characters are kept"
            raise LrsError(errno.ENOSPC, text)
        effect = self._effect(section, key)
        changes = [] if effect is None else self._changes(effect, f"[{section}] {key}", value)
        for family, settings in changes:
            family.change_settings(settings)
        self._set.add(name)
        self._values.set(section, key, value)
        return bool(changes)

    def _warn(self, unheeded: Mapping[tuple[str, str], str]) -> None:
        """Say once of each key that it has no effect."""
        new = [label for name, label in unheeded.items() if name not in self._warned]
        self._warned |= unheeded.keys()
        if new:
            log.warning(
                "these settings have no effect on the families served here",
                settings=", ".join(new[:SHOWN]),
                count=len(new),
            )

    def _effect(self, section: str, key: str) -> Effect | None:
        tapes = self._families[Family.TAPE].settings if Family.TAPE in self._families else None
        effect = EFFECTS.get(_name(section, key))
        if effect is None and isinstance(tapes, TapeSettings):
            effect = _share(section, key, tapes) or _list_of_types(section, key, tapes)
        return effect

    def _changes(self, effect: Effect, label: str, value: str) -> list[tuple[Configurable, FamilySettings]]:
        """The families that heed it, and what they are to go on with."""
        heeding = [family for family in self._families.values() if effect.family in (None, family.family)]
        try:
            return [(family, changed(family.settings, effect.setting, effect.read(value))) for family in heeding]
        except ValueError as error:
            raise LrsError(errno.EINVAL, f"{label} = {value!r}: {error}") from None


# Keys in the name of something. It may come in any case; ours is that in which it is known already.


def _share(section: str, key: str, tapes: TapeSettings) -> Effect | None:
    """How many drives of a technology there are for what; ``None`` for others than those that drives may have."""
    found = _FAIR_SHARE.fullmatch(key)
    technology = as_written(found[1], tapes.models) if found is not None else None
    if found is None or technology is None or in_variable(section) != "IO_SCHED_TAPE":
        return None
    return Effect(("fair_share", technology, found[2].lower()), Family.TAPE, shares)


def _list_of_types(section: str, key: str, tapes: TapeSettings) -> Effect | None:
    """What goes together, of drives and of tapes."""
    found = _TYPE.fullmatch(section)
    if found is None:
        return None
    match found[1].lower(), key.lower():
        case "tape", "drive_rw":
            setting, known = "tape_types", [*tapes.tape_types, *tapes.models]
        case "drive", "models":
            setting, known = "drive_types", [*tapes.drive_types, *chain(*tapes.tape_types.values())]
        case _:
            return None
    return Effect((setting, as_written(found[2], known) or found[2]), Family.TAPE, names)


class _Values:
    """Values that are set, and no others."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], str] = {}

    def get(self, section: str, key: str) -> str | None:
        return self._values.get(_name(section, key))

    def set(self, section: str, key: str, value: str) -> None:
        self._values[_name(section, key)] = value


def _name(section: str, key: str) -> tuple[str, str]:
    """What Phobos takes for one and the same key: it names an environment variable by it."""
    return in_variable(section), key.lower()


def _parse(text: str) -> list[Any]:
    if not text:
        raise LrsError(errno.EPROTO, "an empty configuration")
    try:
        items = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:
        raise LrsError(errno.EINVAL, f"the configuration is not JSON: {error}") from None
    except RecursionError:
        raise LrsError(errno.EINVAL, "the configuration is nested too deeply") from None
    if not isinstance(items, list):
        raise LrsError(errno.EINVAL, "the configuration is not an array")
    if len(items) > MOST_VALUES:
        raise LrsError(errno.EINVAL, f"the configuration names {len(items)} values; {MOST_VALUES} are allowed")
    return items


def _strings(item: object, *names: str) -> list[str]:
    """The members `names` of a JSON object.

    Raises:
        LrsError: EINVAL, one of them is no string, or none that an environment variable could hold.
    """
    members = item if isinstance(item, dict) else {}
    found = [text for name in names if isinstance(text := members.get(name), str)]
    if len(found) != len(names):
        raise LrsError(errno.EINVAL, f"each object of the configuration needs the strings {', '.join(names)}")
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        raise LrsError(errno.EINVAL, "half a character is no text") from None
    if any("\0" in text for text in found):
        raise LrsError(errno.EINVAL, "a null character is no text")
    return found


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is given twice")
    return members
